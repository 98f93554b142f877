/* What every backend promises, asked of each of them in turn. */
#include "storage/backend.h"
#include "storage/revision.h"

#include "base/rng.h"
#include "tests/fakes/backend_mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LIFE 0x1234567890abcdefULL

static const struct backend_ops *ops; /* under test */
static char folder[] = "/tmp/cleat-backend-XXXXXX";
static char path[64];

struct world {
    struct backend *backend;
    struct backend_snapshot *snapshot;
};

static enum status open_with(bool create, bool read_only, uint64_t life_id, struct backend **out)
{
    struct backend_options options = {.path = path,
                                      .life_id = life_id,
                                      .map_bytes_max = 64 << 20,
                                      .create = create,
                                      .read_only = read_only};
    return ops->open(&options, out);
}

static int setup(void **state)
{
    snprintf(path, sizeof(path), "%s/store%s", folder, ops->suffix);
    struct world *world = calloc(1, sizeof(*world));
    if (world == NULL)
        return -1;
    *state = world;
    return open_with(true, false, LIFE, &world->backend) == ST_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct world *world = *state;
    ops->snapshot_close(world->snapshot);
    ops->close(world->backend);
    free(world);
    return ops->remove(path) == ST_OK ? 0 : -1;
}

static void reopen(struct world *world)
{
    ops->snapshot_close(world->snapshot);
    world->snapshot = NULL;
    ops->close(world->backend);
    assert_int_equal(open_with(false, false, LIFE, &world->backend), ST_OK);
}

static void write_one(struct world *world, enum backend_op_kind kind, enum bucket bucket,
                      struct slice key, struct slice value)
{
    struct backend_op op = {.kind = kind, .bucket = bucket, .key = key, .value = value};
    assert_int_equal(ops->apply(world->backend, &op, 1), ST_OK);
}

static uint64_t commit_at(struct world *world, uint64_t index, bool full)
{
    struct store_mark mark = {.index = index, .term = 3, .conf_state = SLICE("conf")};
    uint64_t durable = 0;
    assert_int_equal(ops->commit(world->backend, &mark, full, &durable), ST_OK);
    return durable;
}

/* A snapshot of now; the one before is closed. */
static struct backend_snapshot *look(struct world *world)
{
    ops->snapshot_close(world->snapshot);
    assert_int_equal(ops->snapshot_open(world->backend, &world->snapshot), ST_OK);
    return world->snapshot;
}

static void expect_found(struct world *world, enum bucket bucket, struct slice key,
                         struct slice expected)
{
    struct slice value;
    assert_int_equal(ops->get(world->snapshot, bucket, key, &value), ST_OK);
    assert_true(slice_eq(value, expected));
}

static void expect_none(struct world *world, enum bucket bucket, struct slice key)
{
    struct slice value;
    assert_int_equal(ops->get(world->snapshot, bucket, key, &value), ST_NOT_FOUND);
}

/* ---- transactions ---- */

static void test_backend_gives_back_what_was_committed(void **state)
{
    struct world *world = *state;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        if (bucket == BUCKET_KEY)
            continue;
        const char *name = backend_bucket_name(bucket);
        write_one(world, BACKEND_PUT, bucket, SLICE("key"), slice_from_str(name));
        write_one(world, BACKEND_PUT, bucket, SLICE("empty"), SLICE_EMPTY);
    }
    commit_at(world, 1, false);
    for (int pass = 0; pass < 2; pass++) {
        look(world);
        for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
            if (bucket == BUCKET_KEY)
                continue;
            expect_found(world, bucket, SLICE("key"), slice_from_str(backend_bucket_name(bucket)));
            expect_found(world, bucket, SLICE("empty"), SLICE_EMPTY);
            expect_none(world, bucket, SLICE("kez"));
            expect_none(world, bucket, SLICE_EMPTY);
        }
        reopen(world);
    }
}

static void test_backend_shows_nothing_before_the_commit(void **state)
{
    struct world *world = *state;
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("1"));
    look(world);
    expect_none(world, BUCKET_META, SLICE("a"));
    commit_at(world, 1, false);
    expect_none(world, BUCKET_META, SLICE("a")); /* the snapshot is of before */
    look(world);
    expect_found(world, BUCKET_META, SLICE("a"), SLICE("1"));
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("2"));
    write_one(world, BACKEND_DELETE, BUCKET_META, SLICE("a"), SLICE_EMPTY);
    write_one(world, BACKEND_DELETE, BUCKET_META, SLICE("never there"), SLICE_EMPTY);
    commit_at(world, 2, false);
    expect_found(world, BUCKET_META, SLICE("a"), SLICE("1"));
    look(world);
    expect_none(world, BUCKET_META, SLICE("a"));
}

static void test_backend_abort_leaves_nothing(void **state)
{
    struct world *world = *state;
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("1"));
    commit_at(world, 1, false);
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("2"));
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("b"), SLICE("2"));
    ops->abort(world->backend);
    ops->abort(world->backend); /* nothing is open: fine */
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("c"), SLICE("3"));
    commit_at(world, 2, false);
    look(world);
    expect_found(world, BUCKET_META, SLICE("a"), SLICE("1"));
    expect_none(world, BUCKET_META, SLICE("b"));
    expect_found(world, BUCKET_META, SLICE("c"), SLICE("3"));
}

static void test_backend_close_drops_an_open_transaction(void **state)
{
    struct world *world = *state;
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("1"));
    reopen(world);
    look(world);
    expect_none(world, BUCKET_META, SLICE("a"));
}

static void test_backend_refuses_keys_no_store_may_hold(void **state)
{
    struct world *world = *state;
    static uint8_t key[BACKEND_KEY_BYTES_MAX + 1];
    struct backend_op bad[] = {
        {.kind = BACKEND_PUT, .bucket = BUCKET_META, .key = SLICE_EMPTY},
        {.kind = BACKEND_PUT, .bucket = BUCKET_META, .key = slice_make(key, sizeof(key))},
        {.kind = BACKEND_APPEND, .bucket = BUCKET_KEY, .key = SLICE("no revision")},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ops->apply(world->backend, &bad[i], 1), ST_INVALID);
}

/* ---- the mark ---- */

static void expect_mark(struct world *world, uint64_t index, uint64_t term, const char *conf)
{
    struct buf conf_state;
    buf_init(&conf_state, 1024);
    struct store_mark mark;
    assert_int_equal(ops->mark(world->backend, &mark, &conf_state), ST_OK);
    assert_int_equal(mark.index, index);
    assert_int_equal(mark.term, term);
    assert_true(slice_eq(mark.conf_state, slice_from_str(conf)));
    buf_deinit(&conf_state);
}

static void test_backend_mark_goes_with_its_transaction(void **state)
{
    struct world *world = *state;
    expect_mark(world, 0, 0, "");
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("1"));
    expect_mark(world, 0, 0, "");
    commit_at(world, 7, false);
    expect_mark(world, 7, 3, "conf");
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("a"), SLICE("2"));
    uint64_t durable;
    assert_int_equal(ops->commit(world->backend, NULL, false, &durable), ST_OK);
    expect_mark(world, 7, 3, "conf");
    commit_at(world, 8, false); /* a mark alone */
    expect_mark(world, 8, 3, "conf");
    reopen(world);
    expect_mark(world, 8, 3, "conf");
}

static void test_backend_says_what_is_durable(void **state)
{
    struct world *world = *state;
    uint64_t durable = commit_at(world, 1, true);
    assert_int_equal(durable, 1);
    durable = commit_at(world, 2, false);
    assert_in_range(durable, 1, 2);
    durable = commit_at(world, 3, false);
    assert_in_range(durable, 2, 3);
    assert_int_equal(ops->commit(world->backend, NULL, true, &durable), ST_OK);
    assert_int_equal(durable, 3);
    struct backend_stat stat;
    assert_int_equal(ops->stat(world->backend, &stat), ST_OK);
    assert_true(stat.commits_count >= 3);
    assert_true(stat.syncs_count >= 3);
    assert_true(stat.size_bytes >= stat.in_use_bytes);
}

/* ---- revisions ---- */

static struct slice revision_key(struct revision revision, bool tombstone,
                                 uint8_t out[TOMBSTONE_KEY_BYTES])
{
    return slice_make(out, revision_key_encode(revision, tombstone, out));
}

static void append(struct world *world, struct revision revision, bool tombstone, const char *value)
{
    uint8_t key[TOMBSTONE_KEY_BYTES];
    write_one(world, BACKEND_APPEND, BUCKET_KEY, revision_key(revision, tombstone, key),
              slice_from_str(value));
}

/* Every legal revision: no number is too large, no pair is mistaken for another. */
static const struct revision odd_revisions[] = {
    {0, 0},
    {0, INT64_MAX},
    {1, 0},
    {1, 1},
    {1, (1 << 20) - 1},
    {1, 1 << 20},
    {1, INT64_MAX},
    {2, 0},
    {(1LL << 40), 0},
    {(1LL << 43) - 1, 5},
    {(1LL << 43), 0},
    {(1LL << 43), 1 << 20},
    {INT64_MAX - 1, 0},
    {INT64_MAX, 0},
    {INT64_MAX, INT64_MAX},
};
#define ODD_COUNT (sizeof(odd_revisions) / sizeof(odd_revisions[0]))

static void expect_odd_at(struct backend_cursor *cursor, enum status st, struct slice key,
                          struct slice value, size_t index)
{
    (void)cursor;
    if (index == ODD_COUNT) {
        assert_int_equal(st, ST_NOT_FOUND);
        return;
    }
    assert_int_equal(st, ST_OK);
    struct revision got;
    bool tombstone;
    assert_int_equal(revision_key_decode(key, &got, &tombstone), ST_OK);
    assert_int_equal(revision_cmp(got, odd_revisions[index]), 0);
    assert_int_equal(tombstone, index % 3 == 0);
    char expected[16];
    snprintf(expected, sizeof(expected), "%zu", index);
    assert_true(slice_eq(value, slice_from_str(expected)));
}

static void test_backend_keeps_every_legal_revision_in_order(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < ODD_COUNT; i++) {
        char value[16];
        snprintf(value, sizeof(value), "%zu", i);
        append(world, odd_revisions[i], i % 3 == 0, value);
    }
    commit_at(world, 1, false);
    struct backend_cursor *cursor;
    assert_int_equal(ops->cursor_open(look(world), BUCKET_KEY, &cursor), ST_OK);
    struct slice key, value;
    for (size_t from = 0; from < ODD_COUNT; from++) {
        uint8_t bytes[TOMBSTONE_KEY_BYTES];
        struct slice seek = revision_key(odd_revisions[from], false, bytes);
        enum status st = ops->cursor_seek(cursor, seek, &key, &value);
        for (size_t i = from; i < ODD_COUNT; i++) {
            expect_odd_at(cursor, st, key, value, i);
            st = ops->cursor_next(cursor, &key, &value);
        }
        expect_odd_at(cursor, st, key, value, ODD_COUNT);
        /* A get finds it under its own key and no other. */
        seek = revision_key(odd_revisions[from], from % 3 == 0, bytes);
        assert_int_equal(ops->get(world->snapshot, BUCKET_KEY, seek, &value), ST_OK);
        seek = revision_key(odd_revisions[from], from % 3 != 0, bytes);
        assert_int_equal(ops->get(world->snapshot, BUCKET_KEY, seek, &value), ST_NOT_FOUND);
        /* Just after it comes the next. */
        struct revision after = odd_revisions[from];
        if (after.sub < INT64_MAX) {
            after.sub++;
            st = ops->cursor_seek(cursor, revision_key(after, false, bytes), &key, &value);
            expect_odd_at(cursor, st, key, value, from + 1);
        }
    }
    assert_int_equal(ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value), ST_OK);
    expect_odd_at(cursor, ST_OK, key, value, 0);
    assert_int_equal(ops->cursor_last(cursor, &key, &value), ST_OK);
    expect_odd_at(cursor, ST_OK, key, value, ODD_COUNT - 1);
    ops->cursor_close(cursor);
    for (size_t i = 0; i < ODD_COUNT; i++) {
        uint8_t bytes[TOMBSTONE_KEY_BYTES];
        write_one(world, BACKEND_DELETE, BUCKET_KEY,
                  revision_key(odd_revisions[i], i % 3 == 0, bytes), SLICE_EMPTY);
    }
    commit_at(world, 2, false);
    assert_int_equal(ops->cursor_open(look(world), BUCKET_KEY, &cursor), ST_OK);
    assert_int_equal(ops->cursor_last(cursor, &key, &value), ST_NOT_FOUND);
    assert_int_equal(ops->cursor_next(cursor, &key, &value), ST_NOT_FOUND);
    ops->cursor_close(cursor);
}

/* ---- long keys ---- */

#define LONG_COUNT 24U

/* Keys around the lengths where a library may change its ways, many with one long prefix. In order.
 */
static size_t make_long_keys(uint8_t (*bytes)[1024], struct slice keys[LONG_COUNT])
{
    static const size_t lengths[] = {1,   483, 484, 485, 499, 500, 501,
                                     510, 511, 512, 513, 700, 1024};
    size_t count = 0;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        memset(bytes[count], 'k', lengths[i]);
        keys[count] = slice_make(bytes[count], lengths[i]);
        count++;
        if (lengths[i] < 500)
            continue;
        /* A neighbour that differs in its last byte alone, and one before the common prefix ends.
         */
        memset(bytes[count], 'k', lengths[i]);
        bytes[count][lengths[i] - 1] = i % 2 == 0 ? 'a' : 'z';
        keys[count] = slice_make(bytes[count], lengths[i]);
        count++;
    }
    memset(bytes[count], 'k', 600);
    bytes[count][300] = 'b';
    keys[count] = slice_make(bytes[count], 600);
    count++;
    memset(bytes[count], 'k', 600);
    bytes[count][300] = 'x';
    keys[count] = slice_make(bytes[count], 600);
    return count + 1;
}

static int compare_slices(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static void expect_walk(struct backend_cursor *cursor, struct slice from, const struct slice *keys,
                        size_t count)
{
    struct slice key, value;
    enum status st = ops->cursor_seek(cursor, from, &key, &value);
    for (size_t i = 0; i < count; i++) {
        if (slice_cmp(keys[i], from) < 0)
            continue;
        assert_int_equal(st, ST_OK);
        assert_true(slice_eq(key, keys[i]));
        assert_int_equal(value.len, keys[i].len % 7);
        st = ops->cursor_next(cursor, &key, &value);
    }
    assert_int_equal(st, ST_NOT_FOUND);
    assert_int_equal(ops->cursor_next(cursor, &key, &value), ST_NOT_FOUND);
}

static void test_backend_keeps_long_keys_in_order(void **state)
{
    struct world *world = *state;
    static uint8_t bytes[LONG_COUNT][1024];
    struct slice keys[LONG_COUNT];
    size_t count = make_long_keys(bytes, keys);
    assert_true(count <= LONG_COUNT);
    for (size_t i = 0; i < count; i++)
        write_one(world, BACKEND_PUT, BUCKET_AUTH_USERS, keys[i],
                  slice_make("1234567", keys[i].len % 7));
    commit_at(world, 1, false);
    qsort(keys, count, sizeof(keys[0]), compare_slices);
    look(world);
    struct backend_cursor *cursor;
    assert_int_equal(ops->cursor_open(world->snapshot, BUCKET_AUTH_USERS, &cursor), ST_OK);
    expect_walk(cursor, SLICE_EMPTY, keys, count);
    for (size_t i = 0; i < count; i++) {
        expect_found(world, BUCKET_AUTH_USERS, keys[i], slice_make("1234567", keys[i].len % 7));
        expect_walk(cursor, keys[i], keys, count);
        uint8_t above[1025];
        memcpy(above, keys[i].data, keys[i].len);
        above[keys[i].len] = 0; /* the very next key */
        expect_walk(cursor, slice_make(above, keys[i].len + 1), keys, count);
        expect_walk(cursor, slice_make(keys[i].data, keys[i].len - 1), keys, count);
    }
    struct slice key, value;
    assert_int_equal(ops->cursor_last(cursor, &key, &value), ST_OK);
    assert_true(slice_eq(key, keys[count - 1]));
    assert_int_equal(ops->cursor_next(cursor, &key, &value), ST_NOT_FOUND);
    ops->cursor_close(cursor);
    /* Half of them go; the other half stays. */
    for (size_t i = 0; i < count; i += 2)
        write_one(world, BACKEND_DELETE, BUCKET_AUTH_USERS, keys[i], SLICE_EMPTY);
    commit_at(world, 2, false);
    look(world);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(ops->get(world->snapshot, BUCKET_AUTH_USERS, keys[i], &value),
                         i % 2 == 0 ? ST_NOT_FOUND : ST_OK);
    }
}

static void test_backend_keeps_the_longest_key_and_a_large_value(void **state)
{
    struct world *world = *state;
    static uint8_t key[BACKEND_KEY_BYTES_MAX];
    memset(key, 7, sizeof(key));
    uint8_t *value = malloc(2 << 20);
    assert_non_null(value);
    memset(value, 9, 2 << 20);
    write_one(world, BACKEND_PUT, BUCKET_AUTH_ROLES, slice_make(key, sizeof(key)),
              slice_make(value, 2 << 20));
    commit_at(world, 1, false);
    reopen(world);
    look(world);
    expect_found(world, BUCKET_AUTH_ROLES, slice_make(key, sizeof(key)),
                 slice_make(value, 2 << 20));
    free(value);
}

/* ---- model ---- */

#define MODEL_KEYS 60U

/* Random operations, commits, aborts and reopenings against a table of what must be there. */
static void test_backend_agrees_with_a_model(void **state)
{
    struct world *world = *state;
    struct rng rng;
    rng_seed(&rng, 11);
    uint32_t committed[MODEL_KEYS] = {0}, pending[MODEL_KEYS] = {0}; /* 0: absent */
    uint64_t index = 0;
    for (uint32_t step = 1; step < 3000; step++) {
        uint32_t key = (uint32_t)rng_below(&rng, MODEL_KEYS);
        uint8_t key_bytes[600];
        size_t key_size = 1 + key * 9; /* 1 to 532: short ones and long ones */
        memset(key_bytes, 'm', key_size);
        struct slice name = slice_make(key_bytes, key_size);
        uint64_t dice = rng_below(&rng, 20);
        if (dice < 12) {
            write_one(world, BACKEND_PUT, BUCKET_LEASE, name, slice_make(&step, sizeof(step)));
            pending[key] = step;
        } else if (dice < 16) {
            write_one(world, BACKEND_DELETE, BUCKET_LEASE, name, SLICE_EMPTY);
            pending[key] = 0;
        } else if (dice < 18) {
            commit_at(world, ++index, dice == 17);
            memcpy(committed, pending, sizeof(committed));
        } else if (dice == 18) {
            ops->abort(world->backend);
            memcpy(pending, committed, sizeof(committed));
        } else if (rng_below(&rng, 10) == 0) {
            reopen(world);
            memcpy(pending, committed, sizeof(committed));
        }
        look(world);
        struct slice value;
        bool present = ops->get(world->snapshot, BUCKET_LEASE, name, &value) == ST_OK;
        assert_int_equal(present, committed[key] != 0);
        if (present)
            assert_memory_equal(value.data, &committed[key], sizeof(uint32_t));
    }
    expect_mark(world, index, index == 0 ? 0 : 3, "conf");
}

/* ---- space ---- */

static void test_backend_refuses_what_is_over_its_limit_and_goes_on(void **state)
{
    struct world *world = *state;
    uint8_t *value = calloc(1, 1 << 20);
    assert_non_null(value);
    struct backend_op op = {
        .kind = BACKEND_PUT, .bucket = BUCKET_META, .value = slice_make(value, 1 << 20)};
    write_one(world, BACKEND_PUT, BUCKET_META, SLICE("first"), SLICE("1"));
    commit_at(world, 1, false);
    enum status st = ST_OK;
    uint32_t count = 0;
    for (; st == ST_OK && count < 200; count++) {
        op.key = slice_make(&count, sizeof(count));
        st = ops->apply(world->backend, &op, 1);
    }
    assert_true(count > 16);
    struct store_mark mark = {.index = 2, .term = 3};
    uint64_t durable;
    if (st == ST_OK)
        st = ops->commit(world->backend, &mark, false, &durable);
    assert_int_equal(st, ST_NO_SPACE);
    ops->abort(world->backend);
    look(world);
    expect_found(world, BUCKET_META, SLICE("first"), SLICE("1"));
    count = 0;
    op.key = slice_make(&count, sizeof(count));
    struct slice found;
    assert_int_equal(ops->get(world->snapshot, BUCKET_META, op.key, &found), ST_NOT_FOUND);
    expect_mark(world, 1, 3, "conf");
    assert_int_equal(ops->apply(world->backend, &op, 1), ST_OK);
    commit_at(world, 2, false);
    look(world);
    assert_int_equal(ops->get(world->snapshot, BUCKET_META, op.key, &found), ST_OK);
    free(value);
}

/* ---- opening ---- */

static void test_backend_open_refuses_an_absent_store_and_another_life(void **state)
{
    struct world *world = *state;
    commit_at(world, 1, true);
    ops->close(world->backend);
    world->backend = NULL;
    struct backend *other = world->backend;
    assert_int_equal(open_with(true, false, LIFE + 1, &other), ST_INVALID);
    assert_null(other);
    uint64_t life_id = 0;
    const struct backend_options options = {.path = path,
                                            .life_id = LIFE + 1,
                                            .map_bytes_max = 64 << 20,
                                            .read_only = true,
                                            .life_id_out = &life_id};
    assert_int_equal(ops->open(&options, &world->backend), ST_OK);
    assert_int_equal(life_id, LIFE);
    expect_mark(world, 1, 3, "conf");
    ops->close(world->backend);
    assert_int_equal(open_with(false, false, LIFE, &world->backend), ST_OK);
    expect_mark(world, 1, 3, "conf");
    ops->close(world->backend);
    world->backend = NULL;
    assert_int_equal(ops->remove(path), ST_OK);
    assert_int_equal(ops->remove(path), ST_OK);
    assert_int_equal(open_with(false, false, LIFE, &other), ST_NOT_FOUND);
}

int main(void)
{
#define WITH_BACKEND(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_BACKEND(test_backend_gives_back_what_was_committed),
        WITH_BACKEND(test_backend_shows_nothing_before_the_commit),
        WITH_BACKEND(test_backend_abort_leaves_nothing),
        WITH_BACKEND(test_backend_close_drops_an_open_transaction),
        WITH_BACKEND(test_backend_refuses_keys_no_store_may_hold),
        WITH_BACKEND(test_backend_mark_goes_with_its_transaction),
        WITH_BACKEND(test_backend_says_what_is_durable),
        WITH_BACKEND(test_backend_keeps_every_legal_revision_in_order),
        WITH_BACKEND(test_backend_keeps_long_keys_in_order),
        WITH_BACKEND(test_backend_keeps_the_longest_key_and_a_large_value),
        WITH_BACKEND(test_backend_agrees_with_a_model),
        WITH_BACKEND(test_backend_refuses_what_is_over_its_limit_and_goes_on),
        WITH_BACKEND(test_backend_open_refuses_an_absent_store_and_another_life),
    };
    if (mkdtemp(folder) == NULL)
        return 1;
    const struct backend_ops *const all[] = {backend_mem(), backend_lmdb(), backend_sqlite()};
    int failed = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        ops = all[i];
        failed += cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
    }
    backend_mem_clear();
    rmdir(folder);
    return failed;
}
