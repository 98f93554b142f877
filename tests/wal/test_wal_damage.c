/* Torn tails against damage: every truncation, every flipped bit. */
#include "tests/wal/fixture.h"

#include "base/minmax.h"
#include "base/hash.h"
#include "wal/format.h"

#define SEGMENT_ONE DIR "/0000000000000001.wal"

/* Flips and cuts are many; sanitizers are slow. A prime stride meets every bit position of a byte
 * in turn.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLIP_STRIDE 67
#define CUT_STRIDE 13
#else
#define FLIP_STRIDE 1
#define CUT_STRIDE 1
#endif

#define READER_STRIDE 61 /* of these, looked at by a reader too */

/* Five batches of one entry in one segment. closed: and a closing batch behind them. */
static void make_log(struct fixture *f, bool closed)
{
    fixture_init(f, 1, 32 << 10);
    fixture_open(f, /* create= */ true);
    for (raft_index i = 1; i <= 5; i++)
        fixture_append(f, 1, i, i);
    if (closed)
        assert_int_equal(wal_finish(f->wal), ST_OK);
    fixture_close(f);
}

static uint64_t hash_of_segment(const struct fixture *f)
{
    size_t len = 0;
    const uint8_t *bytes = fake_disk_bytes(f->disk, SEGMENT_ONE, &len);
    return bytes == NULL ? 0 : hash64(slice_make(bytes, len));
}

/* A reader comes to the verdict of an owner, changes nothing, and gives what comes before damage.
 */
static void check_reader(struct fixture *f, enum status verdict,
                         const struct wal_recovered *recovered, const struct wal_report *report)
{
    uint64_t before = hash_of_segment(f);
    f->options.read_only = true;
    enum status st = fixture_try_open(f, /* create= */ false);
    f->options.read_only = false;
    assert_int_equal(f->report.verdict, verdict);
    assert_int_equal(st, verdict == ST_CORRUPT ? ST_OK : verdict);
    assert_string_equal(f->report.text, report->text);
    assert_memory_equal(&f->recovered, recovered, sizeof(*recovered));
    if (st == ST_OK && f->recovered.last_index >= f->recovered.first_index)
        fixture_check(f, f->recovered.first_index, f->recovered.last_index, term_is_one);
    fixture_close(f);
    assert_int_equal(hash_of_segment(f), before);
}

/* The owner's start, on a copy, with the reader's before and after it. */
static enum status try_open_both(struct fixture *f)
{
    struct fake_disk *original = f->disk;
    f->disk = fake_disk_clone(original, /* seed= */ 1);
    enum status st = fixture_try_open(f, /* create= */ false);
    fixture_close(f);
    fake_disk_free(f->disk);
    f->disk = original;
    struct wal_recovered recovered = f->recovered;
    struct wal_report report = f->report;
    check_reader(f, st, &recovered, &report);
    return fixture_try_open(f, /* create= */ false);
}

/* Opens a copy of f's disk after change; closes and throws it away. */
static enum status open_changed(struct fixture *f, void (*change)(struct fake_disk *, uint64_t),
                                uint64_t argument)
{
    struct fake_disk *original = f->disk;
    f->disk = fake_disk_clone(original, argument);
    change(f->disk, argument);
    enum status st =
        argument % READER_STRIDE == 0 ? try_open_both(f) : fixture_try_open(f, /* create= */ false);
    if (st == ST_OK && f->recovered.last_index > 0)
        fixture_check(f, 1, f->recovered.last_index, term_is_one);
    fixture_close(f);
    fake_disk_free(f->disk);
    f->disk = original;
    return st;
}

static void cut_file(struct fake_disk *disk, uint64_t size)
{
    struct disk_file *file;
    assert_int_equal(disk_open(fake_disk_base(disk), SEGMENT_ONE, 0, &file), ST_OK);
    assert_int_equal(disk_truncate(file, size), ST_OK);
    disk_close(file);
}

static void flip_bit(struct fake_disk *disk, uint64_t bit)
{
    size_t len;
    uint8_t *bytes = fake_disk_bytes(disk, SEGMENT_ONE, &len);
    assert_non_null(bytes);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void test_wal_every_truncation_yields_a_prefix(void **state)
{
    (void)state;
    struct fixture f;
    make_log(&f, /* closed= */ true);
    raft_index longest = 0;
    for (uint64_t size = WAL_BLOCK_BYTES; size <= 8 * WAL_BLOCK_BYTES; size += CUT_STRIDE) {
        assert_int_equal(open_changed(&f, cut_file, size), ST_OK);
        uint64_t whole = size / WAL_BLOCK_BYTES - 1;
        assert_int_equal(f.recovered.last_index, min_u64(whole, 5));
        longest = max_u64(longest, f.recovered.last_index);
    }
    assert_int_equal(longest, 5);
    /* Block 0 was durable before the file had its number. */
    assert_int_equal(open_changed(&f, cut_file, WAL_BLOCK_BYTES - 1), ST_CORRUPT);
    assert_non_null(strstr(f.report.text, "0000000000000001.wal"));
    fixture_deinit(&f);
}

static void test_wal_names_every_flipped_bit_that_a_later_batch_covers(void **state)
{
    (void)state;
    struct fixture f;
    make_log(&f, /* closed= */ true);
    for (uint64_t bit = 0; bit < 6 * WAL_BLOCK_BYTES * 8; bit += FLIP_STRIDE) {
        enum status st = open_changed(&f, flip_bit, bit);
        raft_index entry = bit / 8 / WAL_BLOCK_BYTES;
        bool is_magic = bit < 64;
        if (st != ST_CORRUPT || strstr(f.report.text, "0000000000000001.wal") == NULL)
            fail_msg("bit %llu: %s %s", (unsigned long long)bit, status_str(st), f.report.text);
        if (entry > 0 && !is_magic)
            assert_int_equal(f.report.damage_first, entry);
    }
    fixture_deinit(&f);
}

static void test_wal_a_flip_after_the_last_durable_no_yields_a_prefix(void **state)
{
    (void)state;
    struct fixture f;
    make_log(&f, /* closed= */ false);
    uint64_t from = 5ULL * WAL_BLOCK_BYTES * 8;
    for (uint64_t bit = from; bit < from + WAL_BLOCK_BYTES * 8; bit += FLIP_STRIDE) {
        assert_int_equal(open_changed(&f, flip_bit, bit), ST_OK);
        assert_int_equal(f.recovered.last_index, 4);
    }
    /* And in what was never written. */
    for (uint64_t bit = from + WAL_BLOCK_BYTES * 8; bit < from + 2 * WAL_BLOCK_BYTES * 8;
         bit += 61) {
        assert_int_equal(open_changed(&f, flip_bit, bit), ST_OK);
        assert_int_equal(f.recovered.last_index, 5);
    }
    fixture_deinit(&f);
}

static void test_wal_names_every_flipped_bit_that_the_store_covers(void **state)
{
    (void)state;
    struct fixture f;
    make_log(&f, /* closed= */ false);
    f.options.store_mark = (struct raft_log_id){.index = 5, .term = 1};
    uint64_t from = 5ULL * WAL_BLOCK_BYTES * 8;
    for (uint64_t bit = from; bit < from + WAL_BLOCK_BYTES * 8; bit += FLIP_STRIDE) {
        assert_int_equal(open_changed(&f, flip_bit, bit), ST_CORRUPT);
        assert_int_equal(f.report.damage_first, 5);
        assert_int_equal(f.report.damage_last, 5);
        assert_non_null(strstr(f.report.text, "Ways out"));
    }
    fixture_deinit(&f);
}

/* Entries 1..60, one a batch, over several segments. */
static void make_long_log(struct fixture *f)
{
    fixture_init(f, 1, 32 << 10);
    fixture_open(f, /* create= */ true);
    for (raft_index i = 1; i <= 60; i++) {
        fixture_step_preparer(f);
        fixture_append(f, 1, i, i);
    }
    fixture_close(f);
}

static void lose_file(struct fake_disk *disk, uint64_t seq)
{
    char path[64];
    snprintf(path, sizeof(path), DIR "/%016llx.wal", (unsigned long long)seq);
    assert_int_equal(disk_remove(fake_disk_base(disk), path), ST_OK);
}

static void zero_first_batch(struct fake_disk *disk, uint64_t seq)
{
    char path[64];
    size_t len;
    snprintf(path, sizeof(path), DIR "/%016llx.wal", (unsigned long long)seq);
    uint8_t *bytes = fake_disk_bytes(disk, path, &len);
    assert_non_null(bytes);
    memset(bytes + WAL_BLOCK_BYTES, 0, WAL_BLOCK_BYTES);
}

static void test_wal_misses_a_lost_segment(void **state)
{
    (void)state;
    struct fixture f;
    make_long_log(&f);
    struct raft_log_id marks[] = {{0}, {.index = 60, .term = 1}, {.index = 30, .term = 1}};
    for (size_t i = 0; i < 3; i++) {
        f.options.store_mark = marks[i];
        for (uint64_t seq = 2; seq <= 8; seq++) {
            assert_int_equal(open_changed(&f, lose_file, seq), ST_CORRUPT);
            assert_int_equal(open_changed(&f, zero_first_batch, seq), ST_CORRUPT);
        }
    }
    f.options.store_mark = marks[0];
    assert_int_equal(open_changed(&f, lose_file, 1), ST_CORRUPT); /* begins after entry 1 */
    assert_non_null(strstr(f.report.text, "it begins at entry 8"));
    fixture_deinit(&f);
}

/* Tears the last batch by cutting power while it is in flight; true when it was torn or lost. */
static bool tear(struct fixture *f, raft_index next)
{
    fake_disk_set_auto(f->disk, false);
    assert_int_equal(fixture_stage(f, 1, next, next + 20, 0), ST_OK);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(wal_poll(f->wal, &f->durable_ticket), ST_OK);
    fake_disk_power_cut(f->disk);
    fixture_close(f);
    fake_disk_set_auto(f->disk, true);
    fixture_open(f, /* create= */ false);
    return f->recovered.last_index < next;
}

static void test_wal_tear_restart_write_tear_restart_restart(void **state)
{
    (void)state;
    uint32_t torn = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct fixture f;
        fixture_init(&f, seed, 128 << 10);
        fixture_open(&f, /* create= */ true);
        fixture_append(&f, 1, 1, 5);
        torn += tear(&f, 6);
        raft_index last = f.recovered.last_index;
        fixture_check(&f, 1, last, term_is_one);
        fixture_append(&f, 1, last + 1, last + 3);
        torn += tear(&f, last + 4);
        last = max_u64(last + 3, f.recovered.last_index);
        assert_int_equal(f.recovered.last_index, last);
        fixture_close(&f);
        for (uint32_t i = 0; i < 2; i++) {
            fixture_open(&f, /* create= */ false);
            assert_int_equal(f.recovered.last_index, last);
            fixture_check(&f, 1, last, term_is_one);
            fixture_close(&f);
        }
        fixture_deinit(&f);
    }
    assert_in_range(torn, 100, 399); /* both kinds of end were met */
}

/* A torn batch stays where it was when the log goes on elsewhere: it is neither damage nor comes
 * back, even if what was lost of it appears later. */
static void test_wal_ignores_what_follows_the_end_of_a_segment(void **state)
{
    (void)state;
    struct fixture f;
    make_log(&f, /* closed= */ false);
    size_t len;
    uint8_t *bytes = fake_disk_bytes(f.disk, SEGMENT_ONE, &len);
    uint8_t lost[WAL_BLOCK_BYTES];
    memcpy(lost, bytes + 5 * (size_t)WAL_BLOCK_BYTES, sizeof(lost));
    memset(bytes + 5 * (size_t)WAL_BLOCK_BYTES, 0, sizeof(lost));
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, 4);
    fixture_append(&f, 1, 5, 6);
    fixture_close(&f);
    bytes = fake_disk_bytes(f.disk, SEGMENT_ONE, &len);
    memcpy(bytes + 5 * (size_t)WAL_BLOCK_BYTES, lost, sizeof(lost));
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, 6);
    fixture_check(&f, 1, 6, term_is_one);
    fixture_deinit(&f);
}

/* After recycling, the blocks behind the last batch hold sound batches of the file's former life.
 */
static void test_wal_never_takes_stale_bytes_of_a_recycled_segment(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    for (raft_index i = 1; i <= 150; i++) {
        fixture_step_preparer(&f);
        fixture_append(&f, 1, i, i);
        wal_release(f.wal, i);
        if (i < 120)
            continue;
        struct fake_disk *running = f.disk;
        struct fixture copy = {0};
        fixture_init(&copy, i, 32 << 10);
        fake_disk_free(copy.disk);
        copy.disk = fake_disk_clone(running, i);
        copy.options.store_mark = (struct raft_log_id){.index = i, .term = 1};
        fixture_open(&copy, /* create= */ false);
        assert_int_equal(copy.recovered.last_index, i);
        assert_string_equal(copy.report.text, "");
        fixture_deinit(&copy);
    }
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wal_every_truncation_yields_a_prefix),
        cmocka_unit_test(test_wal_names_every_flipped_bit_that_a_later_batch_covers),
        cmocka_unit_test(test_wal_a_flip_after_the_last_durable_no_yields_a_prefix),
        cmocka_unit_test(test_wal_names_every_flipped_bit_that_the_store_covers),
        cmocka_unit_test(test_wal_misses_a_lost_segment),
        cmocka_unit_test(test_wal_tear_restart_write_tear_restart_restart),
        cmocka_unit_test(test_wal_ignores_what_follows_the_end_of_a_segment),
        cmocka_unit_test(test_wal_never_takes_stale_bytes_of_a_recycled_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
