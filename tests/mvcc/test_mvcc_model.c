/* The key space against a naive model: random transactions, reads, compactions, seals, commits,
 * checkpoints, crashes and reopenings. After a crash the operations above the store's mark are
 * applied again, as the log would.
 *
 * test_mvcc_model [SEED [BACKEND [OPERATIONS]]]; without arguments one seed on every backend, of a
 * size that fits a test run; CLEAT_TEST_FULL=1: a million operations on each. */
#include "storage/mvcc.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/minmax.h"
#include "base/rng.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS 400
#define CHANGES_MAX 4
#define LOST_MAX 65536 /* operations kept for replay */
#define VALUE_BYTES_MAX 3000

/* ---- the model ---- */

struct version {
    struct revision revision;
    int64_t create_revision, version, lease;
    uint64_t value_seed;
    bool tombstone;
};

struct model_key {
    char name[48];
    struct version *versions; /* oldest first */
    size_t count, capacity;
};

struct change {
    bool put;
    uint32_t key, end; /* delete: keys [key, end) */
    uint64_t value_seed;
    int64_t lease;
};

struct operation {
    struct change changes[CHANGES_MAX];
    uint32_t changes_count;
    int64_t compact; /* > 0: a compaction instead */
};

struct world {
    struct key_space ks;
    struct rng rng;
    struct model_key keys[KEYS]; /* sorted by name */
    int64_t current, compact;
    struct operation *log; /* of entry i at [i % LOST_MAX] */
    bool pinned;           /* reader 0 is open */
    int64_t pinned_current, pinned_compact;
    uint64_t reads, crashes, checkpoints_used, compactions;
};

static size_t value_of(uint64_t seed, uint8_t *out)
{
    struct rng rng;
    rng_seed(&rng, seed);
    size_t len = rng_below(&rng, 20) == 0 ? rng_below(&rng, VALUE_BYTES_MAX) : rng_below(&rng, 40);
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(seed >> (i % 8 * 8));
    return len;
}

static const struct version *newest_at(const struct model_key *k, int64_t at)
{
    for (size_t i = k->count; i > 0; i--)
        if (k->versions[i - 1].revision.main <= at)
            return &k->versions[i - 1];
    return NULL;
}

static const struct version *live_at(const struct model_key *k, int64_t at)
{
    const struct version *v = newest_at(k, at);
    return v == NULL || v->tombstone ? NULL : v;
}

static void model_add(struct model_key *k, const struct version *v)
{
    if (k->count == k->capacity) {
        k->capacity = k->capacity == 0 ? 8 : k->capacity * 2;
        k->versions = realloc(k->versions, k->capacity * sizeof(*k->versions));
        assert_non_null(k->versions);
    }
    k->versions[k->count++] = *v;
}

/* Forgets what no revision from compact on shows. */
static void model_trim(struct world *w)
{
    for (size_t i = 0; i < KEYS; i++) {
        struct model_key *k = &w->keys[i];
        size_t first = 0;
        while (first + 1 < k->count && k->versions[first + 1].revision.main <= w->compact)
            first++;
        if (first == 0)
            continue;
        memmove(k->versions, k->versions + first, (k->count - first) * sizeof(*k->versions));
        k->count -= first;
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct model_key *)a)->name, ((const struct model_key *)b)->name);
}

/* ---- reading and comparing ---- */

struct reading {
    struct world *w;
    uint32_t next, end; /* model keys */
    int64_t at, limit, given;
};

static void expect_record(const struct model_key *k, const struct version *v, struct slice record)
{
    uint8_t value[VALUE_BYTES_MAX];
    struct mvcc_kv kv;
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    assert_true(slice_eq(kv.key, slice_from_str(k->name)));
    assert_int_equal(kv.mod_revision, v->revision.main);
    assert_int_equal(kv.create_revision, v->create_revision);
    assert_int_equal(kv.version, v->version);
    assert_int_equal(kv.lease, v->lease);
    assert_true(slice_eq(kv.value, slice_make(value, value_of(v->value_seed, value))));
}

static enum status compare_record(void *context, struct slice record)
{
    struct reading *r = context;
    const struct version *v = NULL;
    while (r->next < r->end && (v = live_at(&r->w->keys[r->next], r->at)) == NULL)
        r->next++;
    assert_non_null(v);
    expect_record(&r->w->keys[r->next++], v, record);
    r->given++;
    return ST_OK;
}

static struct mvcc_range range_of(const struct world *w, uint32_t key, uint32_t end)
{
    struct mvcc_range range = {.key = slice_from_str(w->keys[key].name)};
    range.end = end < KEYS ? slice_from_str(w->keys[end].name) : SLICE("\0");
    return range;
}

static void read_range(struct world *w, uint32_t key, uint32_t end, int64_t revision, int64_t limit,
                       bool count_only)
{
    int64_t current = w->pinned ? w->pinned_current : w->current;
    int64_t compact = w->pinned ? w->pinned_compact : w->compact;
    struct reading reading = {
        .w = w, .next = key, .end = end, .at = revision > 0 ? revision : current};
    struct mvcc_query query = {.range = range_of(w, key, end),
                               .revision = revision,
                               .limit = limit,
                               .count_only = count_only};
    struct mvcc_result result;
    enum status st = mvcc_read(w->ks.mvcc, 0, &query, compare_record, &reading, &result);
    assert_int_equal(result.current_revision, current);
    assert_int_equal(result.compact_revision, compact);
    w->reads++;
    if (reading.at > current || reading.at < compact) {
        assert_int_equal(st, reading.at > current ? ST_FUTURE : ST_COMPACTED);
        return;
    }
    assert_int_equal(st, ST_OK);
    int64_t count = 0;
    for (uint32_t i = key; i < end; i++)
        count += live_at(&w->keys[i], reading.at) != NULL;
    assert_int_equal(result.count, count);
    int64_t given = count_only ? 0 : limit > 0 ? min_i64(limit, count) : count;
    assert_int_equal(reading.given, given);
}

static void random_read(struct world *w)
{
    uint32_t key = (uint32_t)rng_below(&w->rng, KEYS);
    uint32_t span = rng_below(&w->rng, 50) == 0 ? KEYS : 1 + (uint32_t)rng_below(&w->rng, 20);
    int64_t revision = 0;
    if (rng_below(&w->rng, 2) == 0) {
        int64_t low = w->compact - 3;
        revision = low + (int64_t)rng_below(&w->rng, (uint64_t)(w->current - low + 3));
    }
    int64_t limit = rng_below(&w->rng, 3) == 0 ? (int64_t)rng_below(&w->rng, 10) : 0;
    read_range(w, key, min_u32(key + span, KEYS), revision, limit, rng_below(&w->rng, 5) == 0);
}

static int compare_revisions(const void *a, const void *b)
{
    const struct version *const *x = a, *const *y = b;
    return revision_cmp((*x)->revision, (*y)->revision);
}

/* HashKV by its definition. */
static uint32_t model_hash(const struct world *w, int64_t at)
{
    size_t count = 0;
    int64_t kept_at = w->compact;
    for (size_t i = 0; i < KEYS; i++) {
        count += w->keys[i].count;
        if (live_at(&w->keys[i], at) != NULL)
            kept_at = at;
    }
    const struct version **all = calloc(count + 1, sizeof(struct version *));
    assert_non_null(all);
    count = 0;
    for (size_t i = 0; i < KEYS; i++)
        for (size_t j = 0; j < w->keys[i].count; j++) {
            const struct version *v = &w->keys[i].versions[j];
            bool kept = v->revision.main > w->compact ||
                        (live_at(&w->keys[i], kept_at) == v && v->revision.main <= w->compact);
            if (v->revision.main <= at && kept)
                all[count++] = v;
        }
    qsort(all, count, sizeof(struct version *), compare_revisions);
    uint32_t crc = crc32c(0, SLICE("key"));
    for (size_t n = 0; n < count; n++) {
        const struct version *v = all[n];
        size_t i = 0; /* whose version it is */
        while (v < w->keys[i].versions || v >= w->keys[i].versions + w->keys[i].count)
            i++;
        uint8_t key[TOMBSTONE_KEY_BYTES], value[VALUE_BYTES_MAX], record[VALUE_BYTES_MAX + 128];
        struct mvcc_kv kv = {.key = slice_from_str(w->keys[i].name)};
        if (!v->tombstone)
            kv = (struct mvcc_kv){.key = kv.key,
                                  .value = slice_make(value, value_of(v->value_seed, value)),
                                  .create_revision = v->create_revision,
                                  .mod_revision = v->revision.main,
                                  .version = v->version,
                                  .lease = v->lease};
        mvcc_kv_encode(&kv, record);
        crc = crc32c(crc, slice_make(key, revision_key_encode(v->revision, v->tombstone, key)));
        crc = crc32c(crc, slice_make(record, mvcc_kv_encoded_size(&kv)));
    }
    free(all);
    return crc;
}

static void compare_all(struct world *w)
{
    read_range(w, 0, KEYS, 0, 0, false);
    int64_t low = max_i64(w->compact, 1);
    int64_t at = low + (int64_t)rng_below(&w->rng, (uint64_t)(w->current - low + 1));
    read_range(w, 0, KEYS, at, 0, false);
    if (!w->pinned)
        assert_int_equal(key_space_hash(&w->ks, at), model_hash(w, at));
    key_space_check(&w->ks);
}

/* ---- operations ---- */

static void make_operation(struct world *w, struct operation *op)
{
    *op = (struct operation){.changes_count = 1};
    if (rng_below(&w->rng, 2000) == 0) {
        int64_t low = max_i64(w->compact + 1, 1);
        if (low <= w->current) {
            op->compact = low + (int64_t)rng_below(&w->rng, (uint64_t)(w->current - low + 1));
            return;
        }
    }
    if (rng_below(&w->rng, 5) == 0)
        op->changes_count = 1 + (uint32_t)rng_below(&w->rng, CHANGES_MAX);
    for (uint32_t i = 0; i < op->changes_count; i++) {
        struct change *c = &op->changes[i];
        c->put = rng_below(&w->rng, 5) > 0;
        c->key = (uint32_t)rng_below(&w->rng, KEYS);
        uint32_t span = rng_below(&w->rng, 100) == 0 ? 200 : 1 + (uint32_t)rng_below(&w->rng, 3);
        c->end = min_u32(c->key + span, KEYS);
        c->value_seed = rng_next(&w->rng);
        c->lease = rng_below(&w->rng, 4) == 0 ? (int64_t)rng_next(&w->rng) : 0;
    }
}

static void model_put(struct world *w, const struct change *c, struct revision revision)
{
    struct model_key *k = &w->keys[c->key];
    const struct version *before = live_at(k, INT64_MAX);
    struct version v = {.revision = revision,
                        .create_revision = before != NULL ? before->create_revision : revision.main,
                        .version = before != NULL ? before->version + 1 : 1,
                        .lease = c->lease,
                        .value_seed = c->value_seed};
    model_add(k, &v);
}

static int64_t model_delete(struct world *w, const struct change *c, int64_t main, int64_t *sub)
{
    int64_t deleted = 0;
    for (uint32_t i = c->key; i < c->end; i++) {
        if (live_at(&w->keys[i], INT64_MAX) == NULL)
            continue;
        struct version v = {.revision = {main, (*sub)++}, .tombstone = true};
        model_add(&w->keys[i], &v);
        deleted++;
    }
    return deleted;
}

/* Applies to the model too, and compares what the operation tells, unless it is a replay. */
static void apply_changes(struct world *w, const struct operation *op, bool replay)
{
    struct mvcc *m = w->ks.mvcc;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    int64_t sub = 0;
    assert_int_equal(mvcc_write_begin(m), ST_OK);
    for (uint32_t i = 0; i < op->changes_count; i++) {
        const struct change *c = &op->changes[i];
        const struct model_key *k = &w->keys[c->key];
        if (c->put) {
            uint8_t value[VALUE_BYTES_MAX];
            struct slice previous;
            struct slice v = slice_make(value, value_of(c->value_seed, value));
            assert_int_equal(
                mvcc_write_put(m, slice_from_str(k->name), v, c->lease, &arena, &previous), ST_OK);
            if (replay)
                continue;
            const struct version *before = live_at(k, INT64_MAX);
            assert_int_equal(previous.len > 0, before != NULL);
            if (before != NULL)
                expect_record(k, before, previous);
            model_put(w, c, (struct revision){w->current + 1, sub++});
            continue;
        }
        struct mvcc_range range = range_of(w, c->key, c->end);
        struct reading reading = {.w = w, .next = c->key, .end = c->end, .at = INT64_MAX};
        int64_t deleted;
        assert_int_equal(
            mvcc_write_delete(m, &range, replay ? NULL : compare_record, &reading, &deleted),
            ST_OK);
        if (!replay)
            assert_int_equal(deleted, model_delete(w, c, w->current + 1, &sub));
    }
    int64_t revision = mvcc_write_end(m);
    if (!replay) {
        w->current += sub > 0;
        assert_int_equal(revision, w->current);
    }
    arena_deinit(&arena);
}

static void apply_operation(struct world *w, const struct operation *op, bool replay)
{
    if (op->compact > 0) {
        assert_int_equal(mvcc_compact(w->ks.mvcc, op->compact), ST_OK);
        if (!replay) {
            w->compact = op->compact;
            w->compactions++;
        }
    } else {
        apply_changes(w, op, replay);
    }
    key_space_end_entry(&w->ks);
}

/* ---- what happens to a member ---- */

static void reopen(struct world *w, bool power_cut)
{
    uint64_t last = w->ks.index;
    if (w->pinned)
        mvcc_read_end(w->ks.mvcc, 0);
    w->pinned = false;
    key_space_close(&w->ks);
    if (power_cut)
        backend_mem_power_cut(w->ks.path, rng_next(&w->rng));
    key_space_open(&w->ks);
    struct mvcc_stat stat;
    mvcc_get_stat(w->ks.mvcc, &stat);
    w->checkpoints_used += stat.loaded_revision > 0;
    assert_true(w->ks.index <= last);
    assert_true(last - w->ks.index < LOST_MAX);
    while (w->ks.index < last)
        apply_operation(w, &w->log[(w->ks.index + 1) % LOST_MAX], /* replay= */ true);
    int64_t current, compact;
    mvcc_revisions(w->ks.mvcc, &current, &compact);
    assert_int_equal(current, w->current);
    assert_int_equal(compact, w->compact);
    w->crashes++;
    compare_all(w);
}

static void pin_or_unpin(struct world *w)
{
    if (w->pinned) {
        read_range(w, 0, KEYS, 0, 0, false); /* all that was current at its begin */
        mvcc_read_end(w->ks.mvcc, 0);
        w->pinned = false;
        return;
    }
    w->pinned = true;
    assert_int_equal(mvcc_read_begin(w->ks.mvcc, 0, &w->pinned_current, &w->pinned_compact), ST_OK);
    assert_int_equal(w->pinned_current, w->current);
}

/* Half of them fit what the next start finds, half are ahead of it. */
static void checkpoint(struct world *w)
{
    if (rng_below(&w->rng, 2) == 0 && !w->pinned) {
        uint64_t last = w->ks.index;
        key_space_trim(&w->ks);
        while (last < w->ks.index) /* entries that changed no key */
            w->log[++last % LOST_MAX] = (struct operation){0};
    }
    assert_int_equal(mvcc_checkpoint(w->ks.mvcc), ST_OK);
    if (rng_below(&w->rng, 4) == 0)
        reopen(w, /* power_cut= */ false);
}

static void upkeep(struct world *w)
{
    bool more, worked;
    assert_int_equal(mvcc_compact_step(w->ks.mvcc, &more), ST_OK);
    if (rng_below(&w->rng, 20) == 0)
        assert_int_equal(store_writer_step(w->ks.store, &worked), ST_OK);
    if (rng_below(&w->rng, 2000) == 0)
        key_space_commit(&w->ks);
    if (rng_below(&w->rng, 3000) == 0)
        pin_or_unpin(w);
    if (rng_below(&w->rng, 5000) == 0)
        checkpoint(w);
    if (rng_below(&w->rng, 10000) == 0)
        reopen(w, w->ks.ops == backend_mem() && rng_below(&w->rng, 2) == 0);
    if (rng_below(&w->rng, 20000) == 0)
        compare_all(w);
    if (!w->pinned && rng_below(&w->rng, 500) == 0)
        model_trim(w);
}

static struct world *world_new(uint64_t seed, const struct backend_ops *ops)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    rng_seed(&w->rng, seed);
    w->log = calloc(LOST_MAX, sizeof(*w->log));
    assert_non_null(w->log);
    for (uint32_t i = 0; i < KEYS; i++)
        (void)snprintf(w->keys[i].name, sizeof(w->keys[i].name), "/registry/%s/n%u",
                       i % 3 == 0 ? "pods" : "leases",
                       (uint32_t)rng_below(&w->rng, 1000) * KEYS + i);
    qsort(w->keys, KEYS, sizeof(w->keys[0]), compare_names);
    w->current = 1;
    w->compact = -1;
    char path[128];
    (void)snprintf(path, sizeof(path), "/tmp/cleat-model-%d.%s", (int)getpid(), ops->name);
    key_space_init(&w->ks, ops, path);
    (void)snprintf(w->ks.checkpoint_path, sizeof(w->ks.checkpoint_path), "%s.ckpt", path);
    key_space_open(&w->ks);
    return w;
}

static void world_free(struct world *w)
{
    if (w->pinned)
        mvcc_read_end(w->ks.mvcc, 0);
    key_space_deinit(&w->ks);
    backend_mem_clear();
    for (size_t i = 0; i < KEYS; i++)
        free(w->keys[i].versions);
    free(w->log);
    free(w);
}

static void run_model(uint64_t seed, const struct backend_ops *ops, uint64_t operations)
{
    print_message("seed %llu, %s, %llu operations\n", (unsigned long long)seed, ops->name,
                  (unsigned long long)operations);
    struct world *w = world_new(seed, ops);
    for (uint64_t i = 0; i < operations; i++) {
        w->ks.now_ns += NS_PER_MS;
        if (rng_below(&w->rng, 4) == 0) {
            random_read(w);
        } else {
            struct operation *op = &w->log[(w->ks.index + 1) % LOST_MAX];
            make_operation(w, op);
            apply_operation(w, op, /* replay= */ false);
        }
        upkeep(w);
    }
    compare_all(w);
    reopen(w, /* power_cut= */ false);
    print_message("revision %lld, %llu reads, %llu compactions, %llu reopenings, %llu of them by a "
                  "checkpoint\n",
                  (long long)w->current, (unsigned long long)w->reads,
                  (unsigned long long)w->compactions, (unsigned long long)w->crashes,
                  (unsigned long long)w->checkpoints_used);
    world_free(w);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIZE_SHARE 10
#else
#define SIZE_SHARE 1
#endif

static uint64_t given_seed = 1;

static uint64_t operations_of(uint64_t small)
{
    return getenv("CLEAT_TEST_FULL") != NULL ? 1000000 : small / SIZE_SHARE;
}

static void test_mvcc_agrees_with_a_naive_model_on_the_fake(void **state)
{
    (void)state;
    run_model(given_seed, backend_mem(), operations_of(1000000));
}

static void test_mvcc_agrees_with_a_naive_model_on_lmdb(void **state)
{
    (void)state;
    run_model(given_seed, backend_lmdb(), operations_of(300000));
}

static void test_mvcc_agrees_with_a_naive_model_on_sqlite(void **state)
{
    (void)state;
    run_model(given_seed, backend_sqlite(), operations_of(100000));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        given_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2) {
        const struct backend_ops *ops = strcmp(argv[2], "lmdb") == 0     ? backend_lmdb()
                                        : strcmp(argv[2], "sqlite") == 0 ? backend_sqlite()
                                                                         : backend_mem();
        run_model(given_seed, ops, argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mvcc_agrees_with_a_naive_model_on_the_fake),
        cmocka_unit_test(test_mvcc_agrees_with_a_naive_model_on_lmdb),
        cmocka_unit_test(test_mvcc_agrees_with_a_naive_model_on_sqlite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
