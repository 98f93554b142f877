/* storage/index*.c: the packed record, the history's chains, and the tree against a naive model. */
#include "storage/index.h"

#include "base/assert.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define KEYS 600
#define VERSIONS_MAX 400

/* ---- the model: every revision of every key, kept for ever ---- */

struct model_key {
    char name[64];
    struct revision revisions[VERSIONS_MAX];
    bool tombstones[VERSIONS_MAX];
    uint32_t count;
    int64_t create_revision, version;
};

struct model {
    struct model_key keys[KEYS]; /* in key order */
    int64_t current, compact;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct model_key *)a)->name, ((const struct model_key *)b)->name);
}

static struct model *model_new(struct rng *rng)
{
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct model_key *k = &m->keys[i];
        if (i % 7 == 0)
            (void)snprintf(k->name, sizeof(k->name), "%c%u", (int)('!' + rng_below(rng, 90)), i);
        else
            (void)snprintf(k->name, sizeof(k->name), "/registry/pods/namespace-%03u/pod-%u", i % 5,
                           (uint32_t)rng_below(rng, 100000) * KEYS + i);
    }
    qsort(m->keys, KEYS, sizeof(m->keys[0]), compare_names);
    m->current = 1;
    m->compact = -1;
    return m;
}

static bool model_find(const struct model_key *k, int64_t at, struct revision *out)
{
    for (uint32_t i = k->count; i > 0; i--) {
        if (k->revisions[i - 1].main > at)
            continue;
        *out = k->revisions[i - 1];
        return !k->tombstones[i - 1];
    }
    return false;
}

static bool model_is_live(const struct model_key *k)
{
    return k->count > 0 && !k->tombstones[k->count - 1];
}

/* A transaction that touches a few keys. */
static void change_some(struct model *m, struct index *index, struct rng *rng)
{
    int64_t main = ++m->current, sub = 0;
    uint64_t changes = 1 + rng_below(rng, 3);
    for (uint64_t i = 0; i < changes; i++) {
        struct model_key *k = &m->keys[rng_below(rng, KEYS)];
        if (k->count == VERSIONS_MAX)
            continue;
        bool remove = model_is_live(k) && rng_below(rng, 3) == 0;
        if (remove) {
            k->create_revision = k->version = 0;
        } else {
            k->create_revision = model_is_live(k) ? k->create_revision : main;
            k->version++;
        }
        struct index_change change;
        struct revision revision = {main, sub++};
        assert_int_equal(index_prepare(index, slice_from_str(k->name), revision, k->create_revision,
                                       k->version, &change),
                         ST_OK);
        if (rng_below(rng, 10) == 0) { /* the store refused: as if it had never been prepared */
            index_abandon(&change);
            assert_int_equal(index_prepare(index, slice_from_str(k->name), revision,
                                           k->create_revision, k->version, &change),
                             ST_OK);
        }
        index_commit(index, &change);
        k->revisions[k->count] = revision;
        k->tombstones[k->count++] = remove;
    }
}

/* What compaction must delete: superseded at or before it, or a tombstone before it. */
static bool model_is_dead(const struct model_key *k, uint32_t i, int64_t at)
{
    bool superseded = i + 1 < k->count && k->revisions[i + 1].main <= at;
    bool gone = k->tombstones[i] && k->revisions[i].main < at;
    return superseded || gone;
}

static uint64_t model_dead_between(const struct model *m, int64_t before, int64_t at)
{
    uint64_t dead = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        for (uint32_t v = 0; v < m->keys[i].count; v++)
            dead += model_is_dead(&m->keys[i], v, at) && !model_is_dead(&m->keys[i], v, before);
    return dead;
}

static void compact_at(struct model *m, struct index *index, int64_t at)
{
    struct index_dead dead[64];
    struct index_trim step;
    uint64_t count = 0;
    for (;;) {
        index_trim_peek(index, at, 64, dead, &step);
        if (index_trim_is_empty(index, &step))
            break;
        index_trim_take(index, &step);
        count += step.dead_count;
    }
    assert_int_equal(count, model_dead_between(m, m->compact, at));
    m->compact = at;
}

static void check_lookups(const struct model *m, const struct index *index, struct rng *rng)
{
    int64_t low = m->compact > 0 ? m->compact : 1;
    int64_t at = low + (int64_t)rng_below(rng, (uint64_t)(m->current - low + 1));
    for (uint32_t i = 0; i < KEYS; i++) {
        struct revision want, got;
        bool live = model_find(&m->keys[i], at, &want);
        assert_int_equal(index_find(index, slice_from_str(m->keys[i].name), at, &got), live);
        if (live)
            assert_int_equal(revision_cmp(want, got), 0);
    }
}

static void check_order_and_counts(const struct model *m, const struct index *index,
                                   struct rng *rng)
{
    uint32_t from = (uint32_t)rng_below(rng, KEYS), to = (uint32_t)rng_below(rng, KEYS);
    struct slice low = slice_from_str(m->keys[from].name), high = slice_from_str(m->keys[to].name);
    struct index_path path;
    struct index_record record;
    uint64_t live = 0, walked = 0;
    for (uint32_t i = from; i < to; i++)
        live += model_is_live(&m->keys[i]);
    assert_int_equal(index_count(index, low, /* has_to= */ true, high), live);
    uint32_t next = from;
    for (bool more = index_seek(index, low, &path); more; more = index_next(&path)) {
        index_at(&path, &record);
        if (slice_cmp(record.key, high) >= 0)
            break;
        while (!slice_eq(slice_from_str(m->keys[next].name), record.key))
            assert_true(++next < KEYS);
        walked += !record.tombstone;
        const struct model_key *k = &m->keys[next];
        assert_int_equal(revision_cmp(record.newest, k->revisions[k->count - 1]), 0);
        assert_int_equal(record.version, k->version);
        assert_int_equal(record.create_revision, k->create_revision);
    }
    assert_int_equal(walked, live);
}

static void check_structure(const struct index *index)
{
    struct buf report;
    buf_init(&report, 1 << 16);
    enum status st = index_check(index, &report);
    if (st != ST_OK)
        print_error("%.*s", (int)report.len, (const char *)report.data);
    assert_int_equal(st, ST_OK);
    buf_deinit(&report);
}

static void run_model(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    struct model *m = model_new(&rng);
    struct index *index;
    assert_int_equal(index_new(&index), ST_OK);
    for (uint32_t step = 0; step < 6000; step++) {
        change_some(m, index, &rng);
        if (rng_below(&rng, 150) == 0) {
            int64_t low = m->compact + 1;
            compact_at(m, index, low + (int64_t)rng_below(&rng, (uint64_t)(m->current - low + 1)));
        }
        if (rng_below(&rng, 50) == 0) {
            check_lookups(m, index, &rng);
            check_order_and_counts(m, index, &rng);
        }
        if (rng_below(&rng, 200) == 0)
            check_structure(index);
    }
    check_structure(index);
    index_free(index);
    free(m);
}

static void test_index_agrees_with_a_naive_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_model(seed);
    }
}

static void put(struct index *index, struct slice key, int64_t main, int64_t create,
                int64_t version)
{
    struct index_change change;
    assert_int_equal(
        index_prepare(index, key, (struct revision){main, 0}, create, version, &change), ST_OK);
    index_commit(index, &change);
}

static struct slice numbered(char *room, size_t size, uint32_t number)
{
    int length = snprintf(room, size, "/registry/pods/namespace-%03u/pod-%010u", number % 1000,
                          number / 1000);
    return slice_make(room, (size_t)length);
}

/* Grows to many levels and shrinks to nothing, in orders that leave nodes thin. */
static void test_index_gives_memory_back_when_keys_go(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    struct index *index;
    struct index_stat empty, full, after;
    char room[64];
    assert_int_equal(index_new(&index), ST_OK);
    index_get_stat(index, &empty);
    int64_t main = 1;
    for (uint32_t i = 0; i < COUNT; i++) {
        main++;
        put(index, numbered(room, sizeof(room), (i * 7919U) % COUNT), main, main, 1);
    }
    index_get_stat(index, &full);
    assert_int_equal(full.live_count, COUNT);
    assert_true(full.bytes / COUNT <= 100);
    check_structure(index);
    for (uint32_t i = 0; i < COUNT; i++)
        put(index, numbered(room, sizeof(room), (uint32_t)(i * UINT64_C(104729) % COUNT)), ++main,
            0, 0);
    struct index_dead dead[128];
    struct index_trim step;
    for (uint32_t steps = 0;; steps++) {
        index_trim_peek(index, main + 1, 128, dead, &step);
        if (index_trim_is_empty(index, &step))
            break;
        index_trim_take(index, &step);
        if (steps % 100 == 0)
            check_structure(index);
    }
    index_get_stat(index, &after);
    assert_int_equal(after.keys_count, 0);
    assert_true(after.bytes < empty.bytes + (64U << 10));
    index_free(index);
}

/* The millionth revision of a key costs what the second did, and any of them is found at once. */
static void test_index_holds_a_key_with_a_million_revisions(void **state)
{
    (void)state;
    enum { COUNT = 1000000 };
    struct index *index;
    assert_int_equal(index_new(&index), ST_OK);
    struct slice key = SLICE("hot");
    for (int64_t i = 1; i <= COUNT; i++)
        put(index, key, i * 2, 2, i);
    struct rng rng;
    rng_seed(&rng, 1);
    for (uint32_t i = 0; i < 100000; i++) {
        int64_t at = (int64_t)rng_below(&rng, 2 * COUNT + 1);
        struct revision got;
        assert_int_equal(index_find(index, key, at, &got), at >= 2);
        if (at >= 2)
            assert_int_equal(got.main, at / 2 * 2);
    }
    struct index_stat stat;
    index_get_stat(index, &stat);
    assert_true(stat.bytes < 25ULL * COUNT);
    index_free(index);
}

static void test_index_keeps_wide_numbers(void **state)
{
    (void)state;
    struct index *index;
    assert_int_equal(index_new(&index), ST_OK);
    struct slice key = SLICE("k");
    int64_t far = INT64_C(1) << 50;
    put(index, key, 5, 5, 1);
    put(index, key, far, 5, (int64_t)UINT32_MAX + 7);
    put(index, key, INDEX_MAIN_MAX, 5, (int64_t)UINT32_MAX + 8);
    struct index_record record;
    struct revision got;
    assert_true(index_get(index, key, &record));
    assert_int_equal(record.version, (int64_t)UINT32_MAX + 8);
    assert_true(index_find(index, key, far - 1, &got));
    assert_int_equal(got.main, 5);
    assert_true(index_find(index, key, INDEX_MAIN_MAX - 1, &got));
    assert_int_equal(got.main, far);
    check_structure(index);
    /* Both distances take the long form; they go exactly when they should. */
    struct index_dead dead[8];
    struct index_trim step;
    index_trim_peek(index, far - 1, 8, dead, &step);
    assert_true(index_trim_is_empty(index, &step));
    index_trim_peek(index, far, 8, dead, &step);
    assert_int_equal(step.dead_count, 1);
    index_trim_take(index, &step);
    assert_false(index_find(index, key, far - 1, &got));
    assert_true(index_find(index, key, far, &got));
    index_free(index);
}

static void test_index_refuses_impossible_revisions(void **state)
{
    (void)state;
    struct index *index;
    struct index_change change;
    assert_int_equal(index_new(&index), ST_OK);
    put(index, SLICE("k"), 5, 5, 1);
    const struct revision bad[] = {
        {5, 0}, {4, 9}, {-1, 0}, {6, -1}, {INDEX_MAIN_MAX + 1, 0}, {6, INDEX_SUB_MAX + 1}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(index_prepare(index, SLICE("k"), bad[i], 5, 2, &change), ST_CORRUPT);
    put(index, SLICE_EMPTY, 6, 6, 1); /* no request names it, but a restored store may hold it */
    check_structure(index);
    index_free(index);
}

/* Keys that differ in length, in zero bytes and in what a node's prefix hides. */
static void test_index_orders_keys_bytewise(void **state)
{
    (void)state;
    struct index *index;
    assert_int_equal(index_new(&index), ST_OK);
    struct rng rng;
    rng_seed(&rng, 3);
    for (int64_t main = 2; main < 20000; main++) {
        uint8_t bytes[40];
        size_t length = 1 + rng_below(&rng, sizeof(bytes));
        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)(rng_below(&rng, 3) * 127);
        struct index_record record;
        struct slice key = slice_make(bytes, length);
        bool known = index_get(index, key, &record);
        put(index, key, main, known ? record.create_revision : main,
            known ? record.version + 1 : 1);
    }
    check_structure(index);
    index_free(index);
}

/* A checkpoint says which key, a record in the store says how it lived: both come from the disk. */
static void test_index_refuses_a_life_that_cannot_be(void **state)
{
    (void)state;
    struct index *index;
    struct index_change change;
    assert_int_equal(index_new(&index), ST_OK);
    assert_int_equal(index_prepare(index, SLICE("a"), (struct revision){5, 0}, 5, 1, &change),
                     ST_OK);
    index_commit(index, &change);
    assert_int_equal(index_set_life(index, SLICE("a"), 3, 2), ST_OK);
    assert_int_equal(index_set_life(index, SLICE("a"), 6, 2), ST_CORRUPT);
    assert_int_equal(index_set_life(index, SLICE("a"), 0, 2), ST_CORRUPT);
    assert_int_equal(index_set_life(index, SLICE("a"), 3, -1), ST_CORRUPT);
    assert_int_equal(index_set_life(index, SLICE("b"), 3, 2), ST_NOT_FOUND);
    assert_int_equal(index_prepare(index, SLICE("a"), (struct revision){6, 0}, 0, 0, &change),
                     ST_OK);
    index_commit(index, &change);
    assert_int_equal(index_set_life(index, SLICE("a"), 3, 2), ST_CORRUPT);
    index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_agrees_with_a_naive_model),
        cmocka_unit_test(test_index_gives_memory_back_when_keys_go),
        cmocka_unit_test(test_index_holds_a_key_with_a_million_revisions),
        cmocka_unit_test(test_index_keeps_wide_numbers),
        cmocka_unit_test(test_index_refuses_impossible_revisions),
        cmocka_unit_test(test_index_orders_keys_bytewise),
        cmocka_unit_test(test_index_refuses_a_life_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
