#include "tests/storage/store_fixture.h"

#include "base/assert.h"

static uint64_t fixture_now(void *context)
{
    struct fixture *fixture = context;
    return atomic_load(&fixture->now_ns);
}

static void count_writer_wake(void *context)
{
    struct fixture *fixture = context;
    atomic_fetch_add(&fixture->writer_wakes, 1);
}

static void count_apply_wake(void *context)
{
    struct fixture *fixture = context;
    atomic_fetch_add(&fixture->apply_wakes, 1);
}

void fixture_init(struct fixture *fixture, const struct backend_ops *ops, const char *path)
{
    *fixture = (struct fixture){.ops = ops, .readers_count = 2, .main = 1};
    snprintf(fixture->path, sizeof(fixture->path), "%s%s", path, ops->suffix);
    fixture->now_ns = 1000 * NS_PER_S;
    fixture->clock =
        (struct clock){.monotonic_ns = fixture_now, .wall_ns = fixture_now, .context = fixture};
    enum status st = lock_new(/* threaded= */ true, &fixture->lock);
    ASSERT(st == ST_OK);
    st = ops->remove(fixture->path);
    ASSERT(st == ST_OK);
}

enum status fixture_open(struct fixture *fixture, uint64_t map_bytes_max)
{
    struct store_options options = {
        .backend = fixture->ops,
        .backend_options = {.path = fixture->path,
                            .life_id = 42,
                            .map_bytes_max = map_bytes_max,
                            .create = true},
        .lock = fixture->lock,
        .clock = &fixture->clock,
        .readers_count = fixture->readers_count,
        .wake_writer = count_writer_wake,
        .wake_apply = count_apply_wake,
        .wake_context = fixture,
    };
    enum status st = store_open(&options, &fixture->store);
    if (st == ST_OK) {
        fixture->index = store_opened_at(fixture->store).index;
        fixture->main = 1;
    }
    return st;
}

void fixture_close(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

void fixture_deinit(struct fixture *fixture)
{
    fixture_close(fixture);
    lock_free(fixture->lock);
    enum status st = fixture->ops->remove(fixture->path);
    ASSERT(st == ST_OK);
}

void fixture_entry(struct fixture *fixture, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char value[32];
        int size = snprintf(value, sizeof(value), "v%lld", (long long)++fixture->main);
        enum status st = store_append(fixture->store, (struct revision){fixture->main, 0}, false,
                                      slice_make(value, (size_t)size));
        ASSERT(st == ST_OK);
    }
    struct store_mark mark = {.index = ++fixture->index, .term = 1};
    enum status st = store_end_entry(fixture->store, &mark);
    ASSERT(st == ST_OK);
    store_set_durable(fixture->store, fixture->index, 1);
}

enum status fixture_commit(struct fixture *fixture)
{
    enum status st = store_seal(fixture->store, /* force= */ true);
    bool worked = true;
    while (st == ST_OK && worked)
        st = store_writer_step(fixture->store, &worked);
    return st;
}

enum status fixture_read(struct fixture *fixture, int64_t main)
{
    lock_acquire(fixture->lock);
    struct store_view *view = store_view_acquire(fixture->store, 0);
    lock_release(fixture->lock);
    struct slice record;
    bool stable;
    enum status st = store_view_get(view, (struct revision){main, 0}, &record, &stable);
    if (st == ST_OK) {
        char value[32];
        int size = snprintf(value, sizeof(value), "v%lld", (long long)main);
        if (!slice_eq(record, slice_make(value, (size_t)size)))
            st = ST_CORRUPT;
    }
    store_view_release(view);
    return st;
}

enum status fixture_defragment(struct fixture *fixture, const char *path)
{
    struct store_copy *copy;
    bool done = false, worked;
    enum status st = store_defragment_begin(fixture->store, path, &copy);
    while (st == ST_OK && !done) {
        st = store_defragment_step(copy, &done);
        if (st == ST_OK && !done)
            st = store_writer_step(fixture->store, &worked);
    }
    if (done)
        store_defragment_end(copy);
    else
        store_defragment_cancel(copy);
    return st;
}
