/* storage/mvcc*.c: etcd's rules of reading, writing and compacting, one by one. */
#include "storage/mvcc.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "storage/index_history.h"
#include "storage/mvcc_checkpoint.h"
#include "storage/mvcc_private.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL SLICE("\0")

static struct key_space ks;

static int set_up(void **state)
{
    (void)state;
    key_space_init(&ks, backend_mem(), "mvcc-test");
    key_space_open(&ks);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    key_space_deinit(&ks);
    backend_mem_clear();
    return 0;
}

static void reopen(void)
{
    key_space_commit(&ks);
    key_space_close(&ks);
    key_space_open(&ks);
}

static void expect_read(const char *key, struct slice end, int64_t revision, int64_t limit,
                        const char *want, int64_t count)
{
    char got[4096];
    struct mvcc_result result;
    assert_int_equal(key_space_read(&ks, key, end, revision, limit, got, sizeof(got), &result),
                     ST_OK);
    assert_string_equal(got, want);
    assert_int_equal(result.count, count);
}

static void expect_error(int64_t revision, enum status want)
{
    char got[4096];
    struct mvcc_result result;
    assert_int_equal(key_space_read(&ks, "a", ALL, revision, 0, got, sizeof(got), &result), want);
    assert_string_equal(got, "");
}

static void test_kv_encodes_as_etcd_does(void **state)
{
    (void)state;
    struct mvcc_kv kv = {.key = SLICE("k"),
                         .value = SLICE("v"),
                         .create_revision = 2,
                         .mod_revision = 300,
                         .version = 2,
                         .lease = -1};
    static const uint8_t want[] = {0x0a, 1,    'k',  0x10, 2,    0x18, 0xac, 0x02,
                                   0x20, 2,    0x2a, 1,    'v',  0x30, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    uint8_t got[sizeof(want)];
    assert_int_equal(mvcc_kv_encoded_size(&kv), sizeof(want));
    mvcc_kv_encode(&kv, got);
    assert_memory_equal(got, want, sizeof(want));
    struct mvcc_kv back;
    assert_int_equal(mvcc_kv_decode(slice_make(got, sizeof(got)), &back), ST_OK);
    assert_int_equal(back.lease, -1);
    assert_int_equal(back.mod_revision, 300);
    assert_true(slice_eq(back.value, kv.value));
    for (size_t cut = 1; cut < sizeof(want); cut++)
        if (mvcc_kv_decode(slice_make(got, cut), &back) == ST_OK)
            assert_true(cut == 3 || cut == 5 || cut == 8 || cut == 10 || cut == 13);
    struct mvcc_kv tombstone = {.key = SLICE("k")};
    assert_int_equal(mvcc_kv_encoded_size(&tombstone), 3);
    assert_int_equal(mvcc_kv_decode(SLICE("\x12\x01k"), &back), ST_CORRUPT);
    assert_int_equal(mvcc_kv_decode(SLICE_EMPTY, &back), ST_CORRUPT);
}

static void test_mvcc_numbers_revisions_from_two(void **state)
{
    (void)state;
    int64_t current, compact;
    mvcc_revisions(ks.mvcc, &current, &compact);
    assert_int_equal(current, 1);
    assert_int_equal(compact, -1);
    assert_int_equal(key_space_put(&ks, "a", "1"), 2);
    assert_int_equal(key_space_put(&ks, "a", "1"), 3);    /* the same value is a revision too */
    assert_int_equal(key_space_delete(&ks, "x", "y"), 3); /* nothing changed */
    assert_int_equal(key_space_delete(&ks, "a", ""), 4);
    assert_int_equal(key_space_put(&ks, "a", "2"), 5);
    expect_read("a", SLICE_EMPTY, 0, 0, "a=2(5,5,1) ", 1);
    expect_read("a", SLICE_EMPTY, 3, 0, "a=1(2,3,2) ", 1);
    expect_read("a", SLICE_EMPTY, 4, 0, "", 0);
    expect_read("a", SLICE_EMPTY, 1, 0, "", 0);
    expect_read("a", SLICE_EMPTY, -5, 0, "a=2(5,5,1) ", 1);
    expect_error(6, ST_FUTURE);
}

static void test_mvcc_reads_ranges(void **state)
{
    (void)state;
    key_space_put(&ks, "a", "1");
    key_space_put(&ks, "b", "2");
    key_space_put(&ks, "c", "3");
    expect_read("a", SLICE("c"), 0, 0, "a=1(2,2,1) b=2(3,3,1) ", 2);
    expect_read("b", ALL, 0, 0, "b=2(3,3,1) c=3(4,4,1) ", 2);
    expect_read("a", ALL, 0, 1, "a=1(2,2,1) ", 3);
    expect_read("a", ALL, 3, 1, "a=1(2,2,1) ", 2);
    expect_read("a", ALL, 0, -1, "a=1(2,2,1) b=2(3,3,1) c=3(4,4,1) ", 3);
    expect_read("c", SLICE("a"), 0, 0, "", 0);
    expect_read("b", SLICE("b"), 0, 0, "", 0);
    struct mvcc_query query = {.range = {SLICE("a"), ALL}, .count_only = true};
    struct mvcc_result result;
    assert_int_equal(mvcc_read(ks.mvcc, 0, &query, NULL, NULL, &result), ST_OK);
    assert_int_equal(result.count, 3);
    uint32_t keys;
    assert_int_equal(mvcc_estimate(ks.mvcc, &query.range, 2, &keys), ST_OK);
    assert_int_equal(keys, 2);
}

struct seen {
    char text[4096];
    size_t len;
};

static enum status see(void *context, struct slice record)
{
    struct seen *s = context;
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    s->len +=
        (size_t)snprintf(s->text + s->len, sizeof(s->text) - s->len, "%.*s@%lld ", (int)kv.key.len,
                         (const char *)kv.key.data, (long long)kv.mod_revision);
    return ST_OK;
}

static void see_event(void *context, struct revision revision, bool tombstone, struct slice record)
{
    struct seen *s = context;
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    s->len +=
        (size_t)snprintf(s->text + s->len, sizeof(s->text) - s->len, "%s %.*s %lld.%lld;",
                         tombstone ? "del" : "put", (int)kv.key.len, (const char *)kv.key.data,
                         (long long)revision.main, (long long)revision.sub);
}

static void test_mvcc_transaction_is_one_revision(void **state)
{
    (void)state;
    struct seen events = {.len = 0}, read = {.len = 0}, replaced = {.len = 0};
    mvcc_add_event_sink(ks.mvcc, see_event, &events);
    key_space_put(&ks, "a", "1");
    assert_string_equal(events.text, "put a 2.0;");
    events.len = 0;

    struct arena arena;
    arena_init(&arena, 1 << 16);
    struct slice previous;
    struct mvcc_result result;
    struct mvcc_query query = {.range = {SLICE("a"), ALL}};
    int64_t deleted;
    bool wrote;
    struct mvcc *m = ks.mvcc;
    assert_int_equal(mvcc_write_begin(m), ST_OK);
    assert_int_equal(mvcc_write_put(m, SLICE("b"), SLICE("2"), 0, &arena, &previous), ST_OK);
    assert_int_equal(previous.len, 0);
    assert_int_equal(mvcc_write_put(m, SLICE("a"), SLICE("3"), 7, &arena, &previous), ST_OK);
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(previous, &kv), ST_OK);
    assert_int_equal(kv.mod_revision, 2);
    assert_int_equal(mvcc_write_revision(m, &wrote), 3);
    assert_true(wrote);
    assert_int_equal(mvcc_write_read(m, &query, see, &read, &result), ST_OK);
    assert_string_equal(read.text, "a@3 b@3 ");
    assert_int_equal(result.count, 2);
    assert_int_equal(result.current_revision, 3);
    query.revision = 3; /* not there before the transaction */
    assert_int_equal(mvcc_write_read(m, &query, see, &read, &result), ST_FUTURE);
    /* Nobody else sees any of it yet. */
    expect_read("a", ALL, 0, 0, "a=1(2,2,1) ", 1);
    expect_error(3, ST_FUTURE);
    struct mvcc_range range = {SLICE("a"), ALL};
    assert_int_equal(mvcc_write_delete(m, &range, see, &replaced, &deleted), ST_OK);
    assert_int_equal(deleted, 2);
    assert_string_equal(replaced.text, "a@3 b@3 ");
    assert_int_equal(mvcc_write_put(m, SLICE("c"), SLICE_EMPTY, 0, NULL, NULL), ST_OK);
    assert_int_equal(mvcc_write_end(m), 3);
    key_space_end_entry(&ks);
    arena_deinit(&arena);
    assert_string_equal(events.text, "put b 3.0;put a 3.1;del a 3.2;del b 3.3;put c 3.4;");
    expect_read("a", ALL, 0, 0, "c=(3,3,1) ", 1);
    expect_read("a", ALL, 2, 0, "a=1(2,2,1) ", 1);
    key_space_check(&ks);
    reopen();
    expect_read("a", ALL, 0, 0, "c=(3,3,1) ", 1);
    key_space_check(&ks);
}

static void test_mvcc_compact_checks_its_revision(void **state)
{
    (void)state;
    assert_int_equal(mvcc_compact(ks.mvcc, -1), ST_COMPACTED);
    assert_int_equal(mvcc_compact(ks.mvcc, 2), ST_FUTURE);
    assert_int_equal(mvcc_compact(ks.mvcc, 0), ST_OK); /* as in etcd, while never compacted */
    assert_int_equal(mvcc_compact(ks.mvcc, 0), ST_COMPACTED);
    assert_int_equal(mvcc_compact(ks.mvcc, 1), ST_OK);
    assert_int_equal(mvcc_compact(ks.mvcc, 1), ST_COMPACTED);
    key_space_trim(&ks);
}

static void test_mvcc_compact_keeps_what_its_revision_shows(void **state)
{
    (void)state;
    key_space_put(&ks, "a", "1");   /* 2 */
    key_space_put(&ks, "a", "2");   /* 3 */
    key_space_put(&ks, "b", "1");   /* 4 */
    key_space_delete(&ks, "b", ""); /* 5 */
    key_space_put(&ks, "a", "3");   /* 6 */
    assert_int_equal(mvcc_compact(ks.mvcc, 4), ST_OK);
    expect_error(3, ST_COMPACTED); /* at once, before anything is trimmed */
    key_space_trim(&ks);
    expect_error(3, ST_COMPACTED);
    expect_read("a", ALL, 4, 0, "a=2(2,3,2) b=1(4,4,1) ", 2);
    expect_read("a", ALL, 5, 0, "a=2(2,3,2) ", 1);
    expect_read("a", ALL, 0, 0, "a=3(2,6,3) ", 1);
    key_space_check(&ks);
}

struct raw {
    char text[4096];
    size_t len;
};

static enum status add_raw(void *context, struct revision revision, bool tombstone,
                           struct slice record)
{
    (void)record;
    struct raw *r = context;
    r->len +=
        (size_t)snprintf(r->text + r->len, sizeof(r->text) - r->len, "%lld.%lld%s ",
                         (long long)revision.main, (long long)revision.sub, tombstone ? "t" : "");
    return ST_OK;
}

static void expect_stored(const char *want)
{
    struct raw raw = {.len = 0};
    lock_acquire(ks.lock);
    struct store_view *view = store_view_acquire(ks.store, 0);
    lock_release(ks.lock);
    assert_int_equal(store_view_each(view, (struct revision){0, 0}, add_raw, &raw), ST_OK);
    store_view_release(view);
    assert_string_equal(raw.text, want);
}

static void test_mvcc_keeps_a_tombstone_at_the_compact_revision(void **state)
{
    (void)state;
    key_space_put(&ks, "a", "1");   /* 2 */
    key_space_delete(&ks, "a", ""); /* 3 */
    key_space_put(&ks, "b", "1");   /* 4 */
    key_space_delete(&ks, "b", ""); /* 5 */
    key_space_put(&ks, "a", "2");   /* 6 */
    assert_int_equal(mvcc_compact(ks.mvcc, 3), ST_OK);
    key_space_trim(&ks);
    expect_stored("3.0t 4.0 5.0t 6.0 ");
    expect_read("a", ALL, 3, 0, "", 0);
    reopen();
    key_space_check(&ks);
    assert_int_equal(mvcc_compact(ks.mvcc, 4), ST_OK); /* gone, though its successor is newer */
    key_space_trim(&ks);
    expect_stored("4.0 5.0t 6.0 ");
    assert_int_equal(mvcc_compact(ks.mvcc, 6), ST_OK);
    key_space_trim(&ks);
    expect_stored("6.0 ");
    struct mvcc_stat stat;
    mvcc_get_stat(ks.mvcc, &stat);
    assert_int_equal(stat.keys_count, 1);
    assert_int_equal(stat.superseded_count, 0);
    key_space_check(&ks);
}

static void test_mvcc_compaction_waits_for_readers(void **state)
{
    (void)state;
    int64_t current, compact;
    bool more;
    key_space_put(&ks, "a", "1"); /* 2 */
    key_space_put(&ks, "a", "2"); /* 3 */
    assert_int_equal(mvcc_read_begin(ks.mvcc, 0, &current, &compact), ST_OK);
    key_space_put(&ks, "a", "3"); /* 4 */
    assert_int_equal(mvcc_compact(ks.mvcc, 4), ST_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    assert_false(more);
    assert_false(mvcc_compact_is_done(ks.mvcc));
    expect_read("a", SLICE_EMPTY, 2, 0, "a=1(2,2,1) ", 1);
    expect_read("a", SLICE_EMPTY, 0, 0, "a=2(2,3,2) ", 1); /* what was current at its begin */
    mvcc_read_end(ks.mvcc, 0);
    expect_error(3, ST_COMPACTED);
    key_space_trim(&ks);
    expect_stored("4.0 ");
}

/* The end of a compaction is noted between two entries; if none follows, a stopping member still
 * seals what it has, and a snapshot can be pinned. */
/* etcd believes finishedCompactRev and looks for nothing below it. */
static void test_mvcc_calls_no_compaction_finished_before_its_deletions(void **state)
{
    (void)state;
    bool more = true;
    key_space_put(&ks, "a", "1"); /* 2 */
    key_space_put(&ks, "a", "2"); /* 3 */
    assert_int_equal(mvcc_compact(ks.mvcc, 3), ST_OK);
    key_space_end_entry(&ks);
    while (more)
        assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    assert_true(mvcc_compact_is_done(ks.mvcc));
    assert_int_equal(store_forget_pending_count(ks.store), 1);
    assert_true(ks.mvcc->finished_revision < 3);
    key_space_trim(&ks);
    assert_int_equal(store_forget_pending_count(ks.store), 0);
    assert_int_equal(ks.mvcc->finished_revision, 3);
}

static void test_mvcc_the_end_of_a_compaction_delays_no_seal(void **state)
{
    (void)state;
    bool more = true;
    key_space_put(&ks, "a", "1"); /* 2 */
    key_space_put(&ks, "a", "2"); /* 3 */
    assert_int_equal(mvcc_compact(ks.mvcc, 3), ST_OK);
    key_space_end_entry(&ks);
    while (more || store_forget_pending_count(ks.store) > 0) {
        assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
        if (!more)
            key_space_commit(&ks);
    }
    key_space_put(&ks, "b", "1"); /* the last one there is */
    assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    key_space_commit(&ks);
    struct store_stat stat;
    assert_int_equal(store_get_stat(ks.store, &stat), ST_OK);
    assert_int_equal(stat.committed_index, ks.index);
}

/* Read from the disk: numbers above it would overflow. */
static void test_mvcc_does_not_open_with_a_compact_revision_out_of_bounds(void **state)
{
    (void)state;
    static const int64_t revisions[] = {INT64_MAX, INDEX_MAIN_MAX + 1};
    for (size_t i = 0; i < sizeof(revisions) / sizeof(revisions[0]); i++) {
        uint8_t value[TOMBSTONE_KEY_BYTES];
        size_t size =
            revision_key_encode((struct revision){revisions[i], 0}, /* tombstone= */ false, value);
        assert_int_equal(
            store_put(ks.store, BUCKET_META, SLICE("scheduledCompactRev"), slice_make(value, size)),
            ST_OK);
        key_space_end_entry(&ks);
        key_space_commit(&ks);
        key_space_close(&ks);
        assert_int_equal(key_space_try_open(&ks), ST_CORRUPT);
    }
}

static void test_mvcc_resumes_a_compaction_after_a_restart(void **state)
{
    (void)state;
    key_space_put(&ks, "a", "1"); /* 2 */
    key_space_put(&ks, "a", "2"); /* 3 */
    key_space_put(&ks, "a", "3"); /* 4 */
    assert_int_equal(mvcc_compact(ks.mvcc, 3), ST_OK);
    key_space_end_entry(&ks);
    reopen();
    expect_error(2, ST_COMPACTED);
    expect_stored("2.0 3.0 4.0 ");
    key_space_trim(&ks);
    expect_stored("3.0 4.0 ");
    reopen();
    expect_error(2, ST_COMPACTED);
    assert_true(mvcc_compact(ks.mvcc, 3) == ST_COMPACTED);
    key_space_check(&ks);
}

static void test_mvcc_revision_survives_when_all_is_compacted(void **state)
{
    (void)state;
    key_space_put(&ks, "a", "1");   /* 2 */
    key_space_delete(&ks, "a", ""); /* 3 */
    key_space_put(&ks, "b", "1");   /* 4 */
    key_space_delete(&ks, "b", ""); /* 5 */
    key_space_delete(&ks, "b", ""); /* nothing */
    assert_int_equal(mvcc_compact(ks.mvcc, 5), ST_OK);
    key_space_trim(&ks);
    expect_stored("5.0t ");
    reopen();
    int64_t current, compact;
    mvcc_revisions(ks.mvcc, &current, &compact);
    assert_int_equal(current, 5);
    assert_int_equal(compact, 5);
    assert_int_equal(key_space_put(&ks, "c", "1"), 6);
}

static void test_mvcc_reads_in_chunks(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    char key[32];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(key, sizeof(key), "k%04d", i);
        key_space_put(&ks, key, "v");
    }
    int64_t old = key_space_put(&ks, "z", "v");
    key_space_delete(&ks, "k0100", "k0900");
    struct mvcc_result result;
    struct mvcc_query query = {.range = {SLICE("k"), SLICE("l")}, .count_only = true};
    assert_int_equal(mvcc_read(ks.mvcc, 0, &query, NULL, NULL, &result), ST_OK);
    assert_int_equal(result.count, 200);
    query.revision = old;
    assert_int_equal(mvcc_read(ks.mvcc, 0, &query, NULL, NULL, &result), ST_OK);
    assert_int_equal(result.count, COUNT);
    char text[65536];
    assert_int_equal(key_space_read(&ks, "k", SLICE("l"), old, 700, text, sizeof(text), &result),
                     ST_OK);
    assert_int_equal(result.count, COUNT);
    assert_non_null(strstr(text, "k0699="));
    assert_null(strstr(text, "k0700="));
    int64_t deleted;
    struct mvcc_range all = {SLICE("k"), ALL};
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    assert_int_equal(mvcc_write_delete(ks.mvcc, &all, NULL, NULL, &deleted), ST_OK);
    assert_int_equal(deleted, 201);
    mvcc_write_end(ks.mvcc);
    key_space_end_entry(&ks);
    key_space_check(&ks);
}

static void test_mvcc_hash_checks_its_revision(void **state)
{
    (void)state;
    uint32_t hash;
    int64_t current, compact;
    key_space_put(&ks, "a", "1");
    key_space_put(&ks, "a", "2");
    assert_int_equal(mvcc_hash_kv(ks.mvcc, 0, 4, &hash, &current, &compact), ST_FUTURE);
    assert_int_equal(mvcc_hash_kv(ks.mvcc, 0, -1, &hash, &current, &compact), ST_OK);
    assert_int_equal(current, 3);
    assert_int_equal(compact, -1);
    uint32_t before = key_space_hash(&ks, 3);
    assert_int_equal(hash, before);
    assert_int_equal(mvcc_compact(ks.mvcc, 3), ST_OK);
    uint32_t scheduled = key_space_hash(&ks, 3);
    key_space_trim(&ks); /* what is physically deleted by now makes no difference */
    assert_int_equal(key_space_hash(&ks, 3), scheduled);
    assert_int_not_equal(scheduled, before);
    assert_int_equal(mvcc_hash_kv(ks.mvcc, 0, 2, &hash, &current, &compact), ST_COMPACTED);
}

static void expect_hash(int64_t revision, uint32_t want, int64_t want_compact)
{
    uint32_t hash;
    int64_t current, compact;
    assert_int_equal(mvcc_hash_kv(ks.mvcc, 0, revision, &hash, &current, &compact), ST_OK);
    assert_int_equal(hash, want);
    assert_int_equal(compact, want_compact);
}

static void put_with_lease(const char *key, const char *value, int64_t lease)
{
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    assert_int_equal(
        mvcc_write_put(ks.mvcc, slice_from_str(key), slice_from_str(value), lease, NULL, NULL),
        ST_OK);
    (void)mvcc_write_end(ks.mvcc);
    key_space_end_entry(&ks);
}

static void put_delete_put(const char *first, const char *gone, const char *last)
{
    struct mvcc_range range = {slice_from_str(gone), SLICE_EMPTY};
    int64_t deleted;
    assert_int_equal(mvcc_write_begin(ks.mvcc), ST_OK);
    assert_int_equal(mvcc_write_put(ks.mvcc, slice_from_str(first), SLICE("1"), 0, NULL, NULL),
                     ST_OK);
    assert_int_equal(mvcc_write_delete(ks.mvcc, &range, NULL, NULL, &deleted), ST_OK);
    assert_int_equal(mvcc_write_put(ks.mvcc, slice_from_str(last), SLICE("2"), 0, NULL, NULL),
                     ST_OK);
    (void)mvcc_write_end(ks.mvcc);
    key_space_end_entry(&ks);
}

/* The same operations were given to etcd 3.5.15 by etcdctl; the figures are what its
 * `endpoint hashkv --rev N` answered. */
static void test_mvcc_hash_is_etcds(void **state)
{
    (void)state;
    expect_hash(0, 1084519789, -1);
    key_space_put(&ks, "a", "1");
    key_space_put(&ks, "a", "2");
    key_space_put(&ks, "b", "");
    expect_hash(0, 3785861384, -1);
    expect_hash(2, 2587454935, -1);
    expect_hash(3, 535221974, -1);
    key_space_delete(&ks, "a", "");
    expect_hash(0, 1491583868, -1);
    put_with_lease("c", "leased", 0x3161a20a4dc4920c);
    key_space_put(&ks, "a", "3");
    expect_hash(0, 3398131251, -1);
    put_delete_put("d", "b", "e");
    expect_hash(0, 1386383875, -1);
    key_space_delete(&ks, "a", "z");
    expect_hash(0, 3325084344, -1);
    key_space_put(&ks, "a", "4");
    key_space_put(&ks, "a", "5");
    key_space_put(&ks, "f", "6");
    expect_hash(0, 2963375756, -1);
    assert_int_equal(mvcc_compact(ks.mvcc, 8), ST_OK);
    expect_hash(9, 74934708, 8); /* the same before and after what is dead is deleted */
    key_space_trim(&ks);
    expect_hash(0, 845782485, 8);
    expect_hash(9, 74934708, 8);
    expect_hash(10, 3936577830, 8);
    key_space_put(&ks, "a", "6");
    expect_hash(0, 3621714734, 8);
    assert_int_equal(mvcc_compact(ks.mvcc, 11), ST_OK);
    key_space_trim(&ks);
    expect_hash(0, 2642125649, 11);
    expect_hash(12, 693486978, 11);
    key_space_delete(&ks, "a", "z");
    expect_hash(0, 2052352907, 11);
    assert_int_equal(mvcc_compact(ks.mvcc, 14), ST_OK);
    key_space_trim(&ks);
    reopen();
    expect_hash(0, 1084519789, 14);
    expect_hash(14, 1084519789, 14);
}

/* ---- the checkpoint ---- */

static void open_with_checkpoint(int64_t want_loaded)
{
    struct mvcc_stat stat;
    key_space_close(&ks);
    key_space_open(&ks);
    mvcc_get_stat(ks.mvcc, &stat);
    assert_int_equal(stat.loaded_revision, want_loaded);
    key_space_check(&ks);
}

static void use_checkpoint(void)
{
    key_space_close(&ks);
    (void)snprintf(ks.checkpoint_path, sizeof(ks.checkpoint_path), "/tmp/cleat-test-%d.ckpt",
                   (int)getpid());
    key_space_open(&ks);
}

static void test_mvcc_starts_from_a_checkpoint(void **state)
{
    (void)state;
    use_checkpoint();
    open_with_checkpoint(0);
    key_space_put(&ks, "a", "1");   /* 2 */
    key_space_put(&ks, "a", "2");   /* 3 */
    key_space_put(&ks, "b", "1");   /* 4 */
    key_space_delete(&ks, "b", ""); /* 5 */
    key_space_commit(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    open_with_checkpoint(5);
    key_space_put(&ks, "a", "3"); /* 6 */
    key_space_put(&ks, "b", "2"); /* 7 */
    key_space_commit(&ks);
    open_with_checkpoint(5);
    expect_read("a", ALL, 0, 0, "a=3(2,6,3) b=2(7,7,1) ", 2);
    expect_read("a", ALL, 4, 0, "a=2(2,3,2) b=1(4,4,1) ", 2);
    assert_int_equal(mvcc_compact(ks.mvcc, 5), ST_OK);
    key_space_trim(&ks);
    expect_stored("3.0 5.0t 6.0 7.0 ");
    open_with_checkpoint(5); /* no compaction above it */
    expect_read("a", ALL, 0, 0, "a=3(2,6,3) b=2(7,7,1) ", 2);
    key_space_trim(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    open_with_checkpoint(7);
    key_space_check(&ks);
}

/* A compaction above the checkpoint may have deleted the tombstone that ended a key it holds. */
static void test_mvcc_does_not_use_a_checkpoint_from_before_a_compaction(void **state)
{
    (void)state;
    use_checkpoint();
    key_space_put(&ks, "a", "1"); /* 2 */
    key_space_put(&ks, "b", "1"); /* 3 */
    key_space_commit(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    key_space_delete(&ks, "a", ""); /* 4 */
    key_space_put(&ks, "b", "2");   /* 5 */
    assert_int_equal(mvcc_compact(ks.mvcc, 5), ST_OK);
    key_space_trim(&ks);
    open_with_checkpoint(0);
    expect_read("a", ALL, 0, 0, "b=2(3,5,2) ", 1);
}

/* Written from memory, it can be ahead of the store that a crash leaves. */
static void test_mvcc_does_not_use_a_checkpoint_ahead_of_the_store(void **state)
{
    (void)state;
    use_checkpoint();
    key_space_put(&ks, "a", "1");
    key_space_commit(&ks);
    key_space_put(&ks, "a", "2"); /* not committed */
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    open_with_checkpoint(0);
    expect_read("a", ALL, 0, 0, "a=1(2,2,1) ", 1);
}

static void test_mvcc_scans_when_the_checkpoint_is_damaged(void **state)
{
    (void)state;
    use_checkpoint();
    key_space_put(&ks, "a", "1");
    key_space_put(&ks, "a", "2");
    key_space_put(&ks, "b", "1");
    key_space_delete(&ks, "b", "");
    key_space_commit(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    uint8_t bytes[4096];
    FILE *file = fopen(ks.checkpoint_path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    (void)fclose(file);
    for (size_t bit = 0; bit < size * 8; bit += 3) { /* a flip, or a cut at its byte */
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        file = fopen(ks.checkpoint_path, "wb");
        assert_non_null(file);
        size_t kept = bit % 2 == 0 ? size : bit / 8;
        assert_int_equal(fwrite(bytes, 1, kept, file), kept);
        (void)fclose(file);
        open_with_checkpoint(0);
        expect_read("a", ALL, 0, 0, "a=2(2,3,2) ", 1);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Long keys fill a block before a chunk of them is through; one that takes them all could pass what
 * a reader accepts, and would hold the lock for as long. */
static void test_mvcc_checkpoint_closes_a_block_when_it_is_full(void **state)
{
    (void)state;
    enum { KEY_BYTES = 4000, COUNT = 100 };
    char key[KEY_BYTES + 1] = "";
    use_checkpoint();
    for (int i = 0; i < COUNT; i++) {
        memset(key, 'a' + i % 26, KEY_BYTES); /* neighbours share little */
        (void)snprintf(key, sizeof(key), "%02d", i);
        key[2] = '-';
        key_space_put(&ks, key, "v");
    }
    key_space_commit(&ks);
    assert_int_equal(mvcc_checkpoint(ks.mvcc), ST_OK);
    FILE *file = fopen(ks.checkpoint_path, "rb");
    assert_non_null(file);
    uint8_t length[4];
    while (fread(length, 1, sizeof(length), file) == sizeof(length)) {
        assert_in_range(get_le32(length), 1, CHECKPOINT_BLOCK_BYTES + KEY_BYTES + 100);
        assert_int_equal(fseek(file, (long)get_le32(length) + 8, SEEK_CUR), 0);
    }
    (void)fclose(file);
    open_with_checkpoint(COUNT + 1);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_kv_encodes_as_etcd_does),
        CASE(test_mvcc_numbers_revisions_from_two),
        CASE(test_mvcc_reads_ranges),
        CASE(test_mvcc_transaction_is_one_revision),
        CASE(test_mvcc_compact_checks_its_revision),
        CASE(test_mvcc_compact_keeps_what_its_revision_shows),
        CASE(test_mvcc_keeps_a_tombstone_at_the_compact_revision),
        CASE(test_mvcc_compaction_waits_for_readers),
        CASE(test_mvcc_calls_no_compaction_finished_before_its_deletions),
        CASE(test_mvcc_the_end_of_a_compaction_delays_no_seal),
        CASE(test_mvcc_does_not_open_with_a_compact_revision_out_of_bounds),
        CASE(test_mvcc_resumes_a_compaction_after_a_restart),
        CASE(test_mvcc_revision_survives_when_all_is_compacted),
        CASE(test_mvcc_reads_in_chunks),
        CASE(test_mvcc_hash_checks_its_revision),
        CASE(test_mvcc_hash_is_etcds),
        CASE(test_mvcc_starts_from_a_checkpoint),
        CASE(test_mvcc_does_not_use_a_checkpoint_from_before_a_compaction),
        CASE(test_mvcc_does_not_use_a_checkpoint_ahead_of_the_store),
        CASE(test_mvcc_scans_when_the_checkpoint_is_damaged),
        CASE(test_mvcc_checkpoint_closes_a_block_when_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
