/* Readers on threads of their own while apply writes and compacts and the backend writer commits
 * and saves the index. What every revision holds follows from its number alone, so each read is
 * checked in full; the thread sanitizer checks the rest. */
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include "base/assert.h"
#include "base/rng.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS 500 /* several chunks */
#define STEP 7   /* coprime to KEYS */
#define READERS 3
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define REVISIONS 6000
#else
#define REVISIONS 30000
#endif

static struct key_space ks;
static atomic_bool stopped;
static atomic_uint reads_done;

/* Revision r changes key r * STEP % KEYS: every third round of all keys deletes, the others put. */
static uint32_t key_of(int64_t revision)
{
    return (uint32_t)(revision * STEP % KEYS);
}

static bool deletes(int64_t revision)
{
    return revision / KEYS % 3 == 2;
}

/* The revision that last changed key at or before `at`; 0: none. */
static int64_t last_change(uint32_t key, int64_t at)
{
    for (int64_t revision = at; revision >= 2 && revision > at - KEYS; revision--)
        if (key_of(revision) == key)
            return revision;
    return 0;
}

struct expected {
    int64_t at;
    uint32_t next;
    int64_t given;
    uint16_t live[KEYS];
    int64_t revision[KEYS];
};

static enum status expect_record(void *context, struct slice record)
{
    struct expected *e = context;
    char name[16], value[24];
    struct mvcc_kv kv;
    ASSERT(mvcc_kv_decode(record, &kv) == ST_OK);
    while (e->next < KEYS && !e->live[e->next])
        e->next++;
    ASSERT(e->next < KEYS);
    (void)snprintf(name, sizeof(name), "k%04u", e->next);
    (void)snprintf(value, sizeof(value), "%lld", (long long)e->revision[e->next]);
    ASSERT(slice_eq(kv.key, slice_from_str(name)));
    ASSERT(slice_eq(kv.value, slice_from_str(value)));
    ASSERT(kv.mod_revision == e->revision[e->next]);
    e->next++;
    e->given++;
    return ST_OK;
}

static void read_all(uint32_t reader, int64_t at)
{
    struct expected e = {.at = at};
    int64_t live = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        e.revision[i] = last_change(i, at);
        e.live[i] = e.revision[i] != 0 && !deletes(e.revision[i]);
        live += e.live[i];
    }
    struct mvcc_query query = {.range = {SLICE("k"), SLICE("\0")}, .revision = at};
    struct mvcc_result result;
    ASSERT(mvcc_read(ks.mvcc, reader, &query, expect_record, &e, &result) == ST_OK);
    ASSERT(e.given == live);
    ASSERT(result.count == live);
}

static void *reader_main(void *argument)
{
    uint32_t reader = *(const uint32_t *)argument;
    struct rng rng;
    rng_seed(&rng, reader);
    while (!atomic_load(&stopped)) {
        int64_t current, compact;
        ASSERT(mvcc_read_begin(ks.mvcc, reader, &current, &compact) == ST_OK);
        int64_t low = compact > 1 ? compact : 1;
        ASSERT(low <= current);
        read_all(reader, current);
        read_all(reader, low); /* the first to go, were it not pinned */
        read_all(reader, low + (int64_t)rng_below(&rng, (uint64_t)(current - low + 1)));
        if (rng_below(&rng, 4) == 0) {
            mvcc_read_end(ks.mvcc, reader);
            uint32_t hash;
            ASSERT(mvcc_hash_kv(ks.mvcc, reader, 0, &hash, &current, &compact) == ST_OK);
        } else {
            mvcc_read_end(ks.mvcc, reader);
        }
        atomic_fetch_add(&reads_done, 1);
    }
    return NULL;
}

static void *writer_main(void *argument)
{
    (void)argument;
    for (uint32_t i = 0; !atomic_load(&stopped); i++) {
        bool worked;
        ks.now_ns += NS_PER_MS;
        ASSERT(store_writer_step(ks.store, &worked) == ST_OK);
        if (i % 64 == 0)
            ASSERT(mvcc_checkpoint(ks.mvcc) == ST_OK);
    }
    return NULL;
}

static void write_revision(int64_t revision)
{
    char name[16], value[24];
    (void)snprintf(name, sizeof(name), "k%04u", key_of(revision));
    (void)snprintf(value, sizeof(value), "%lld", (long long)revision);
    int64_t got =
        deletes(revision) ? key_space_delete(&ks, name, "") : key_space_put(&ks, name, value);
    assert_int_equal(got, revision);
}

static void test_mvcc_readers_see_their_revision_whole(void **state)
{
    (void)state;
    key_space_init(&ks, backend_mem(), "threads");
    ks.threaded = true;
    ks.readers_count = READERS;
    (void)snprintf(ks.checkpoint_path, sizeof(ks.checkpoint_path), "/tmp/cleat-threads-%d.ckpt",
                   (int)getpid());
    key_space_open(&ks);
    pthread_t readers[READERS], writer;
    uint32_t numbers[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &numbers[i]), 0);
    }
    assert_int_equal(pthread_create(&writer, NULL, writer_main, NULL), 0);
    bool more = false;
    for (int64_t revision = 2; revision <= REVISIONS; revision++) {
        write_revision(revision);
        if (revision % 700 == 0)
            assert_int_equal(mvcc_compact(ks.mvcc, revision - 300), ST_OK);
        if (revision % 500 == 0)
            assert_int_equal(store_seal(ks.store, /* force= */ true), ST_OK);
        assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    }
    atomic_store(&stopped, true);
    for (uint32_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(pthread_join(writer, NULL), 0);
    print_message("%u rounds of reads\n", atomic_load(&reads_done));
    assert_true(atomic_load(&reads_done) > 0);
    key_space_trim(&ks);
    key_space_check(&ks);
    key_space_deinit(&ks);
    backend_mem_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mvcc_readers_see_their_revision_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
