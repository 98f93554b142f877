/* The reader of etcd's .snap files: the newest sound one counts, and no damage goes unnoticed. */
#include "tools/utl/etcd_snap.h"

#include "tests/fakes/fake_disk.h"
#include "tests/utl/etcd_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DIR "/snap"
#define NODE(name, rest) "\"" name "\":{\"Path\":\"/x\",\"CreatedIndex\":3," rest "}"
#define VALUE(name, text) NODE(name, "\"Value\":\"" text "\",\"Children\":null")
#define FOLDER(name, children) NODE(name, "\"Value\":\"\",\"Children\":{" children "}")
#define MEMBER(id, name, port, more)                                                         \
    FOLDER(id, VALUE("attributes",                                                           \
                     "{\\\"name\\\":\\\"" name "\\\",\\\"clientURLs\\\":[\\\"http://h:" port \
                     "\\\"]}") "," VALUE("raftAttributes", "{\\\"peerURLs\\\":[\\\"http://p" \
                                                           "\\\"]" more "}"))
#define STORE(members, removed)                                                                   \
    "{" FOLDER(                                                                                   \
        "Root",                                                                                   \
        FOLDER("0", FOLDER("members", members) "," FOLDER("removed_members", removed) "," VALUE(  \
                        "version", "3.5.0")) "," FOLDER("1",                                      \
                                                        "")) ",\"WatcherHub\":{\"EventHistory\":" \
                                                             "null},\"CurrentIndex\":9}"

struct fixture {
    struct fake_disk *disk;
    struct etcd_snap snap;
    struct buf why;
};

static void setup(struct fixture *f)
{
    f->disk = fake_disk_new(/* seed= */ 1);
    assert_int_equal(disk_make_dir(fake_disk_base(f->disk), DIR), ST_OK);
    buf_init(&f->why, 4096);
    etcd_snap_init(&f->snap);
}

static void teardown(struct fixture *f)
{
    etcd_snap_deinit(&f->snap);
    buf_deinit(&f->why);
    fake_disk_free(f->disk);
}

static void put(struct fixture *f, uint64_t term, uint64_t index, const char *json)
{
    char path[64];
    struct buf file;
    buf_init(&file, 1 << 20);
    etcd_snap_file(slice_from_str(json), index, term, &file);
    snprintf(path, sizeof(path), DIR "/%016x-%016x.snap", (unsigned)term, (unsigned)index);
    fake_disk_put(f->disk, path, buf_slice(&file));
    buf_deinit(&file);
}

static void read_up_to(struct fixture *f, raft_index index_max)
{
    etcd_snap_deinit(&f->snap);
    assert_int_equal(etcd_snap_read(fake_disk_base(f->disk), DIR, index_max, &f->snap, &f->why),
                     ST_OK);
}

static const char two[] = STORE(
    MEMBER("8e9e05c52164694d", "a", "1", "") "," MEMBER("f1", "b", "2", ",\\\"isLearner\\\":true"),
    VALUE("7", "") "," VALUE("9", ""));

static void test_etcd_snap_reads_members(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    put(&f, 2, 30, two);
    read_up_to(&f, 100);
    assert_int_equal(f.snap.last.index, 30);
    assert_int_equal(f.snap.last.term, 2);
    assert_int_equal(f.snap.rows_count, 2);
    const struct member_row *row = &f.snap.rows[0];
    assert_true(row->id == 0x8e9e05c52164694dU && slice_eq(row->name, SLICE("a")));
    assert_false(row->is_learner);
    row = &f.snap.rows[1];
    assert_true(row->id == 0xf1 && row->is_learner);
    assert_int_equal(row->client_urls_count, 1);
    assert_true(slice_eq(row->client_urls[0], SLICE("http://h:2")));
    assert_true(slice_eq(row->peer_urls[0], SLICE("http://p")));
    assert_int_equal(f.snap.removed_count, 2);
    assert_int_equal(f.snap.removed[1], 9);
    assert_int_equal(f.snap.text.len, 0);
    teardown(&f);
}

/* One who was added and has not started yet has no attributes. */
static void test_etcd_snap_reads_an_unstarted_member(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    put(&f, 1, 5, STORE(FOLDER("f1", VALUE("raftAttributes", "{\\\"peerURLs\\\":[]}")), ""));
    read_up_to(&f, 5);
    assert_int_equal(f.snap.rows_count, 1);
    assert_int_equal(f.snap.rows[0].name.len, 0);
    assert_int_equal(f.snap.removed_count, 0);
    teardown(&f);
}

static void test_etcd_snap_takes_the_newest_that_is_not_too_new(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    read_up_to(&f, 100);
    assert_int_equal(f.snap.last.index, 0);
    put(&f, 1, 10, STORE("", ""));
    put(&f, 3, 30, STORE("", ""));
    put(&f, 2, 20, two);
    fake_disk_put(f.disk, DIR "/0000000000000004-0000000000000028.snap.broken", SLICE("x"));
    read_up_to(&f, 29);
    assert_int_equal(f.snap.last.index, 20);
    assert_int_equal(f.snap.rows_count, 2);
    read_up_to(&f, 30);
    assert_int_equal(f.snap.last.index, 30);
    assert_int_equal(f.snap.rows_count, 0);
    teardown(&f);
}

/* Whatever byte is damaged, the file is passed over, and named; the one before it counts. */
static void test_etcd_snap_passes_over_damage(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    put(&f, 1, 10, two);
    put(&f, 2, 20, two);
    const char *path = DIR "/0000000000000002-0000000000000014.snap";
    size_t len;
    uint8_t *bytes = fake_disk_bytes(f.disk, path, &len);
    for (size_t at = 0; at < len; at++) {
        bytes[at] ^= 0x10;
        read_up_to(&f, 100);
        assert_int_equal(f.snap.last.index, 10);
        assert_int_equal(f.snap.rows_count, 2);
        assert_non_null(memmem(f.snap.text.data, f.snap.text.len, path, strlen(path)));
        bytes[at] ^= 0x10;
    }
    struct buf copy;
    buf_init(&copy, 1 << 20);
    assert_int_equal(buf_append(&copy, slice_make(bytes, len)), ST_OK);
    for (size_t size = 0; size < len; size += 7) {
        fake_disk_put(f.disk, path, slice_make(copy.data, size));
        read_up_to(&f, 100);
        assert_int_equal(f.snap.last.index, 10);
        assert_true(f.snap.text.len > 0);
    }
    buf_deinit(&copy);
    teardown(&f);
}

static void test_etcd_snap_refuses_what_is_not_a_v2_store(void **state)
{
    (void)state;
    static const char *const others[] = {"",
                                         "{",
                                         "[]",
                                         "{}",
                                         "{\"Root\":{}}",
                                         STORE(MEMBER("xyz", "a", "1", ""), ""),
                                         STORE("", VALUE("", "")),
                                         "{\"Root\":{\"Children\":{\"1\":{}}}}"};
    struct fixture f;
    setup(&f);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        put(&f, 2, 20, others[i]);
        read_up_to(&f, 100);
        assert_int_equal(f.snap.last.index, 0);
        assert_int_equal(f.snap.rows_count, 0);
        assert_true(f.snap.text.len > 0);
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_etcd_snap_reads_members),
        cmocka_unit_test(test_etcd_snap_reads_an_unstarted_member),
        cmocka_unit_test(test_etcd_snap_takes_the_newest_that_is_not_too_new),
        cmocka_unit_test(test_etcd_snap_passes_over_damage),
        cmocka_unit_test(test_etcd_snap_refuses_what_is_not_a_v2_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
