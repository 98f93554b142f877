/* The reader of etcd's log, by etcd's rules: rolled files, overwritten entries, torn tails, damage.
 */
#include "tools/utl/etcd_wal.h"

#include "tests/fakes/fake_disk.h"
#include "tests/utl/etcd_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DIR "/wal"
#define FIRST DIR "/0000000000000000-0000000000000000.wal"
#define SECOND DIR "/0000000000000001-0000000000000006.wal"

struct fixture {
    struct fake_disk *disk;
    struct etcd_log log;
    struct etcd_wal wal;
    struct buf why;
};

static void setup(struct fixture *f)
{
    f->disk = fake_disk_new(/* seed= */ 1);
    assert_int_equal(disk_make_dir(fake_disk_base(f->disk), DIR), ST_OK);
    etcd_log_init(&f->log);
    buf_init(&f->why, 4096);
    memset(&f->wal, 0, sizeof(f->wal));
}

static void teardown(struct fixture *f)
{
    etcd_wal_deinit(&f->wal);
    etcd_log_deinit(&f->log);
    buf_deinit(&f->why);
    fake_disk_free(f->disk);
}

static enum status read_log(struct fixture *f, raft_index after)
{
    etcd_wal_deinit(&f->wal);
    buf_reset(&f->why);
    return etcd_wal_read(fake_disk_base(f->disk), DIR, after, &f->wal, &f->why);
}

static void add_entries(struct fixture *f, uint64_t term, uint64_t first, uint64_t last)
{
    for (uint64_t index = first; index <= last; index++) {
        char text[32];
        snprintf(text, sizeof(text), "entry %d of term %d", (int)index, (int)term);
        etcd_log_entry(&f->log, term, index, slice_from_str(text));
    }
    etcd_log_state(&f->log, term, 1, last);
}

/* Entries 1 to 5 in the first file, 6 to 8 in the second. */
static void make_two_files(struct fixture *f)
{
    etcd_log_begin(&f->log);
    etcd_log_metadata(&f->log, 7, 9);
    etcd_log_snapshot(&f->log, 0, 0);
    add_entries(f, 1, 1, 5);
    fake_disk_put(f->disk, FIRST, buf_slice(&f->log.file));
    etcd_log_begin(&f->log);
    etcd_log_metadata(&f->log, 7, 9);
    add_entries(f, 2, 6, 8);
    fake_disk_put(f->disk, SECOND, buf_slice(&f->log.file));
}

static void expect_entries(const struct fixture *f, raft_index first, raft_index last)
{
    assert_int_equal(f->wal.first_index, first);
    assert_int_equal(f->wal.last_index, last);
    for (raft_index index = first; index <= last; index++) {
        const struct raft_entry *entry = &f->wal.entries[index - first];
        char text[32];
        snprintf(text, sizeof(text), "entry %d of term %d", (int)index, (int)entry->term);
        assert_int_equal(entry->index, index);
        assert_true(slice_eq(raft_payload_slice(entry->payload), slice_from_str(text)));
    }
}

static void test_etcd_wal_reads_rolled_files(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    make_two_files(&f);
    assert_int_equal(read_log(&f, 0), ST_OK);
    assert_int_equal(f.wal.verdict, ST_OK);
    expect_entries(&f, 1, 8);
    assert_int_equal(f.wal.node_id, 7);
    assert_int_equal(f.wal.cluster_id, 9);
    assert_int_equal(f.wal.hard_state.term, 2);
    assert_int_equal(f.wal.hard_state.commit, 8);
    assert_false(f.wal.torn_tail);
    assert_int_equal(read_log(&f, 6), ST_OK);
    expect_entries(&f, 7, 8);
    teardown(&f);
}

static void test_etcd_wal_lets_a_later_term_take_the_place_of_entries(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    etcd_log_begin(&f.log);
    etcd_log_metadata(&f.log, 7, 9);
    add_entries(&f, 1, 1, 5);
    add_entries(&f, 3, 3, 4);
    etcd_log_snapshot(&f.log, 3, 3);
    etcd_log_snapshot(&f.log, 4000, 3); /* never committed: does not count */
    fake_disk_put(f.disk, FIRST, buf_slice(&f.log.file));
    assert_int_equal(read_log(&f, 0), ST_OK);
    expect_entries(&f, 1, 4);
    assert_int_equal(f.wal.entries[1].term, 1);
    assert_int_equal(f.wal.entries[2].term, 3);
    assert_int_equal(etcd_wal_snapshot(&f.wal).index, 3);
    teardown(&f);
}

/* Cut anywhere, the last file ends in a torn tail or between two records; a file before it is
 * damaged, since the next one does not go on from it. */
static void test_etcd_wal_tells_a_torn_tail_from_damage(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    make_two_files(&f);
    struct slice whole = buf_slice(&f.log.file);
    for (size_t size = 1; size < whole.len; size++) {
        fake_disk_put(f.disk, SECOND, slice_make(whole.data, size));
        assert_int_equal(read_log(&f, 0), ST_OK);
        assert_int_equal(f.wal.verdict, ST_OK);
        assert_true(f.wal.last_index >= 5 && f.wal.last_index <= 8);
        assert_true(f.wal.torn_tail == (f.wal.text.len > 0));
    }
    fake_disk_put(f.disk, SECOND, whole);
    size_t len;
    uint8_t *first = fake_disk_bytes(f.disk, FIRST, &len);
    struct buf copy;
    buf_init(&copy, 1 << 20);
    assert_int_equal(buf_append(&copy, slice_make(first, len)), ST_OK);
    fake_disk_put(f.disk, FIRST, slice_make(copy.data, copy.len - 3));
    assert_int_equal(read_log(&f, 0), ST_OK);
    assert_int_equal(f.wal.verdict, ST_CORRUPT);
    assert_true(f.wal.text.len > 0);
    buf_deinit(&copy);
    teardown(&f);
}

/* Every byte that is part of a record: the flip is damage, and is named; nothing before it is
 * lost. A flip in a length may also look as if the file ended there. */
static void test_etcd_wal_notices_every_flipped_byte(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    make_two_files(&f);
    size_t len;
    uint8_t *bytes = fake_disk_bytes(f.disk, SECOND, &len);
    for (size_t at = 0; at < len; at++) {
        bytes[at] ^= 0x10;
        assert_int_equal(read_log(&f, 0), ST_OK);
        bool whole = f.wal.last_index == 8 && f.wal.hard_state.commit == 8;
        bool noticed = f.wal.verdict == ST_CORRUPT || f.wal.torn_tail;
        assert_true(noticed || whole); /* whole: in the padding */
        assert_true(!noticed || f.wal.text.len > 0);
        assert_true(f.wal.last_index >= 5);
        bytes[at] ^= 0x10;
    }
    teardown(&f);
}

static void test_etcd_wal_takes_a_zeroed_sector_for_a_torn_write(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t large[4000];
    memset(large, 'x', sizeof(large));
    setup(&f);
    etcd_log_begin(&f.log);
    etcd_log_metadata(&f.log, 7, 9);
    add_entries(&f, 1, 1, 2);
    size_t at = f.log.file.len;
    etcd_log_entry(&f.log, 1, 3, slice_make(large, sizeof(large)));
    fake_disk_put(f.disk, FIRST, buf_slice(&f.log.file));
    size_t len;
    uint8_t *bytes = fake_disk_bytes(f.disk, FIRST, &len);
    memset(bytes + (at / 512 + 2) * 512, 0, 512);
    assert_int_equal(read_log(&f, 0), ST_OK);
    assert_int_equal(f.wal.verdict, ST_OK);
    assert_true(f.wal.torn_tail);
    expect_entries(&f, 1, 2);
    bytes[(at / 512 + 2) * 512] = 1; /* no whole sector any more */
    assert_int_equal(read_log(&f, 0), ST_OK);
    assert_int_equal(f.wal.verdict, ST_CORRUPT);
    expect_entries(&f, 1, 2);
    teardown(&f);
}

static void test_etcd_wal_misses_a_file(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    make_two_files(&f);
    fake_disk_put(f.disk, DIR "/0000000000000003-0000000000000009.wal", buf_slice(&f.log.file));
    assert_int_equal(read_log(&f, 0), ST_OK);
    assert_int_equal(f.wal.verdict, ST_CORRUPT);
    expect_entries(&f, 1, 8);
    teardown(&f);
    setup(&f);
    assert_int_equal(read_log(&f, 0), ST_NOT_FOUND);
    assert_true(f.why.len > 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_etcd_wal_reads_rolled_files),
        cmocka_unit_test(test_etcd_wal_lets_a_later_term_take_the_place_of_entries),
        cmocka_unit_test(test_etcd_wal_tells_a_torn_tail_from_damage),
        cmocka_unit_test(test_etcd_wal_notices_every_flipped_byte),
        cmocka_unit_test(test_etcd_wal_takes_a_zeroed_sector_for_a_torn_write),
        cmocka_unit_test(test_etcd_wal_misses_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
