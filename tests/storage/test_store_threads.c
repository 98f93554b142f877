/* One apply, one writer, readers, all at once over each backend: whatever was appended and said to
 * be there is found, with its bytes, at every moment. For the thread sanitizer above all. */
#include "storage/store.h"

#include "tests/fakes/backend_mem.h"
#include "tests/storage/store_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define ENTRIES 15000U
#define READERS 3U

struct shared {
    struct fixture fixture;
    _Atomic int64_t visible; /* newest revision that apply has told of, as an index would */
    _Atomic int64_t floor;   /* below it deletions may have been asked for */
    atomic_bool done;
    atomic_uint failures;
    _Atomic uint64_t reads;
};

struct reader {
    struct shared *shared;
    uint32_t slot;
    pthread_t thread;
};

static void *run_writer(void *context)
{
    struct shared *shared = context;
    bool worked = true, last = false;
    while (worked || !last) {
        last = shared->done; /* a step follows, which sees all that apply did */
        if (store_writer_step(shared->fixture.store, &worked) != ST_OK)
            shared->failures++;
        atomic_fetch_add(&shared->fixture.now_ns, 50 * NS_PER_MS);
    }
    return NULL;
}

/* Reads one revision of those that must be there. */
static void read_one(struct shared *shared, struct store_view *view, int64_t main)
{
    char expected[32];
    int size = snprintf(expected, sizeof(expected), "v%lld", (long long)main);
    struct slice record;
    bool stable;
    enum status st = store_view_get(view, (struct revision){main, 0}, &record, &stable);
    /* One below the floor of now may be gone, as for a reader that lost its race. */
    if (st == ST_NOT_FOUND && main < shared->floor)
        return;
    if (st != ST_OK || !slice_eq(record, slice_make(expected, (size_t)size)))
        shared->failures++;
    shared->reads++;
}

static void *run_reader(void *context)
{
    struct reader *reader = context;
    struct shared *shared = reader->shared;
    uint64_t turn = reader->slot;
    while (!shared->done) {
        lock_acquire(shared->fixture.lock);
        int64_t floor = shared->floor, newest = shared->visible;
        struct store_view *view = store_view_acquire(shared->fixture.store, reader->slot);
        lock_release(shared->fixture.lock);
        for (int64_t i = 0; i < 20 && newest > floor; i++) {
            turn = turn * 6364136223846793005ULL + 1;
            read_one(shared, view,
                     floor + (int64_t)((turn >> 33) % (uint64_t)(newest - floor)) + 1);
        }
        store_view_release(view);
    }
    return NULL;
}

/* Deletes all but the newest 500 revisions, in steps. */
static void compact(struct shared *shared)
{
    int64_t from = shared->floor, to = shared->visible - 500;
    if (to <= from)
        return;
    lock_acquire(shared->fixture.lock); /* as an index does: nobody is sent there from now on */
    shared->floor = to;
    lock_release(shared->fixture.lock);
    for (int64_t main = from < 2 ? 2 : from; main < to; main++) {
        struct store_dead dead = {.revision = {main, 0}};
        if (store_forget(shared->fixture.store, &dead, 1) != ST_OK)
            shared->failures++;
    }
}

static void run_apply(struct shared *shared)
{
    for (uint32_t entry = 0; entry < ENTRIES; entry++) {
        fixture_entry(&shared->fixture, 2);
        shared->visible = shared->fixture.main;
        if (store_put(shared->fixture.store, BUCKET_LEASE, slice_make(&entry, sizeof(entry)),
                      SLICE("lease")) != ST_OK)
            shared->failures++;
        fixture_entry(&shared->fixture, 0);
        if (store_seal(shared->fixture.store, entry % 100 == 0) != ST_OK)
            shared->failures++;
        if (entry % 500 == 499)
            compact(shared);
        if (entry % 700 == 0) {
            struct store_pin *pin = NULL;
            struct store_stat stat;
            if (store_pin(shared->fixture.store, &pin) != ST_OK ||
                store_get_stat(shared->fixture.store, &stat) != ST_OK)
                shared->failures++;
            store_unpin(shared->fixture.store, pin);
        }
    }
}

static void race(const struct backend_ops *ops, const char *path)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    assert_non_null(shared);
    fixture_init(&shared->fixture, ops, path);
    shared->fixture.readers_count = READERS;
    shared->visible = shared->floor = 1;
    assert_int_equal(fixture_open(&shared->fixture, 0), ST_OK);
    pthread_t writer;
    struct reader readers[READERS];
    assert_int_equal(pthread_create(&writer, NULL, run_writer, shared), 0);
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.shared = shared, .slot = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, run_reader, &readers[i]), 0);
    }
    run_apply(shared);
    shared->done = true;
    for (uint32_t i = 0; i < READERS; i++)
        pthread_join(readers[i].thread, NULL);
    pthread_join(writer, NULL);
    assert_int_equal(shared->failures, 0);
    assert_true(shared->reads > 100);
    struct store_stat stat;
    assert_int_equal(store_get_stat(shared->fixture.store, &stat), ST_OK);
    assert_true(stat.committed_index > 0);
    fixture_deinit(&shared->fixture);
    free(shared);
}

static void test_store_threads_on_each_backend(void **state)
{
    (void)state;
    char folder[] = "/tmp/cleat-threads-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/store", folder);
    race(backend_mem(), path);
    race(backend_lmdb(), path);
    race(backend_sqlite(), path);
    backend_mem_clear();
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_store_threads_on_each_backend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
