#include "tests/mvcc/key_space.h"

#include "base/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define STEPS_MAX 1000000

static uint64_t clock_now(void *context)
{
    struct key_space *ks = context;
    return ks->now_ns;
}

void key_space_init(struct key_space *ks, const struct backend_ops *ops, const char *path)
{
    *ks = (struct key_space){.ops = ops, .readers_count = 1, .now_ns = NS_PER_S};
    (void)snprintf(ks->path, sizeof(ks->path), "%s", path);
    ks->clock = (struct clock){clock_now, clock_now, ks};
}

enum status key_space_try_open(struct key_space *ks)
{
    enum status st = lock_new(ks->threaded, &ks->lock);
    if (st != ST_OK)
        return st;
    struct store_options options = {.backend = ks->ops,
                                    .backend_options = {.path = ks->path,
                                                        .life_id = KEY_SPACE_LIFE_ID,
                                                        .map_bytes_max = 4ULL << 30,
                                                        .create = true},
                                    .lock = ks->lock,
                                    .clock = &ks->clock,
                                    .readers_count = ks->readers_count};
    st = store_open(&options, &ks->store);
    if (st != ST_OK)
        return st;
    ks->index = store_opened_at(ks->store).index;
    struct mvcc_options mvcc_options = {.store = ks->store,
                                        .lock = ks->lock,
                                        .life_id = KEY_SPACE_LIFE_ID,
                                        .readers_count = ks->readers_count};
    if (ks->checkpoint_path[0] != '\0')
        mvcc_options.checkpoint_path = ks->checkpoint_path;
    return mvcc_open(&mvcc_options, &ks->mvcc);
}

void key_space_open(struct key_space *ks)
{
    assert_int_equal(key_space_try_open(ks), ST_OK);
}

void key_space_close(struct key_space *ks)
{
    mvcc_close(ks->mvcc);
    store_close(ks->store);
    lock_free(ks->lock);
    ks->mvcc = NULL;
    ks->store = NULL;
    ks->lock = NULL;
}

void key_space_deinit(struct key_space *ks)
{
    key_space_close(ks);
    static const char *const suffixes[] = {"", "-lock", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char name[300];
        (void)snprintf(name, sizeof(name), "%s%s", ks->path, suffixes[i]);
        (void)unlink(name);
    }
    if (ks->checkpoint_path[0] != '\0')
        (void)unlink(ks->checkpoint_path);
}

void key_space_end_entry(struct key_space *ks)
{
    struct store_mark mark = {.index = ++ks->index, .term = 1, .conf_state = KEY_SPACE_CONF_STATE};
    assert_int_equal(store_end_entry(ks->store, &mark), ST_OK);
    store_set_durable(ks->store, ks->index, 1);
    assert_int_equal(store_seal(ks->store, /* force= */ false), ST_OK);
}

void key_space_commit(struct key_space *ks)
{
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        bool worked;
        assert_int_equal(store_seal(ks->store, /* force= */ i == 0), ST_OK);
        ks->now_ns += NS_PER_S;
        assert_int_equal(store_writer_step(ks->store, &worked), ST_OK);
        if (!worked)
            return;
    }
    fail_msg("the writer never comes to rest");
}

void key_space_trim(struct key_space *ks)
{
    bool more = true;
    while (more || store_forget_pending_count(ks->store) > 0) {
        assert_int_equal(mvcc_compact_step(ks->mvcc, &more), ST_OK);
        if (!more) {
            key_space_end_entry(ks);
            key_space_commit(ks);
        }
    }
    assert_int_equal(mvcc_compact_step(ks->mvcc, &more), ST_OK);
    key_space_end_entry(ks);
    key_space_commit(ks);
    assert_true(mvcc_compact_is_done(ks->mvcc));
}

int64_t key_space_put(struct key_space *ks, const char *key, const char *value)
{
    assert_int_equal(mvcc_write_begin(ks->mvcc), ST_OK);
    assert_int_equal(mvcc_write_put(ks->mvcc, slice_from_str(key), slice_from_str(value),
                                    /* lease= */ 0, NULL, NULL),
                     ST_OK);
    int64_t revision = mvcc_write_end(ks->mvcc);
    key_space_end_entry(ks);
    return revision;
}

int64_t key_space_delete(struct key_space *ks, const char *key, const char *end)
{
    struct mvcc_range range = {slice_from_str(key), slice_from_str(end)};
    int64_t deleted;
    assert_int_equal(mvcc_write_begin(ks->mvcc), ST_OK);
    assert_int_equal(mvcc_write_delete(ks->mvcc, &range, NULL, NULL, &deleted), ST_OK);
    int64_t revision = mvcc_write_end(ks->mvcc);
    key_space_end_entry(ks);
    return revision;
}

struct text {
    char *room;
    size_t size, len;
};

static enum status add_text(void *context, struct slice record)
{
    struct text *t = context;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK)
        return st;
    int length =
        snprintf(t->room + t->len, t->size - t->len, "%.*s=%.*s(%lld,%lld,%lld) ", (int)kv.key.len,
                 (const char *)kv.key.data, (int)kv.value.len,
                 kv.value.len > 0 ? (const char *)kv.value.data : "", (long long)kv.create_revision,
                 (long long)kv.mod_revision, (long long)kv.version);
    t->len += (size_t)length;
    assert_true(t->len < t->size);
    return ST_OK;
}

enum status key_space_read(struct key_space *ks, const char *key, struct slice end,
                           int64_t revision, int64_t limit, char *room, size_t size,
                           struct mvcc_result *result)
{
    struct text text = {.room = room, .size = size};
    room[0] = '\0';
    struct mvcc_query query = {
        .range = {slice_from_str(key), end}, .revision = revision, .limit = limit};
    return mvcc_read(ks->mvcc, /* reader= */ 0, &query, add_text, &text, result);
}

uint32_t key_space_hash(struct key_space *ks, int64_t revision)
{
    uint32_t hash;
    int64_t current, compact;
    assert_int_equal(mvcc_hash_kv(ks->mvcc, 0, revision, &hash, &current, &compact), ST_OK);
    return hash;
}

void key_space_check(struct key_space *ks)
{
    struct buf report;
    buf_init(&report, 1 << 16);
    enum status st = mvcc_check(ks->mvcc, &report);
    if (st != ST_OK)
        print_error("%.*s", (int)report.len, (const char *)report.data);
    assert_int_equal(st, ST_OK);
    buf_deinit(&report);
}
