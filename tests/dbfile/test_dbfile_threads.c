/* Exports on a thread of their own while apply writes and compacts and the backend writer commits
 * and deletes: both passes see the same, and the file is the moment of its pin. The thread
 * sanitizer checks the rest. */
#include "base/assert.h"
#include "base/bytes.h"
#include "storage/dbfile/pin_source.h"
#include "tests/dbfile/db_fixture.h"
#include "tests/fakes/backend_mem.h"
#include "tests/mvcc/key_space.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#define KEYS 50
#define FILE_BYTES_MAX (1ULL << 30)
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define REVISIONS 8000
#else
#define REVISIONS 40000
#endif

static struct key_space ks;
static atomic_bool stopped;
static atomic_uint exports_done;

/* Asked for by the exporter, answered by apply between two entries. */
static atomic_bool pin_wanted, pin_taken;
static struct store_pin *pin;
static int64_t pin_revision, pin_compact;

static void export(struct buf *out)
{
    struct dbfile_pin_options options = {
        .store = ks.store, .lock = ks.lock, .reader = 0, .pin = pin, .revision = pin_revision};
    struct dbfile_pin_source source;
    ASSERT(dbfile_pin_source_init(&source, &options) == ST_OK);
    struct dbfile_source records = dbfile_pin_source(&source);
    struct dbfile_writer *writer;
    ASSERT(dbfile_writer_new(&records, /* page_bytes= */ 1024, &writer) == ST_OK);
    for (bool done = false; !done;) {
        enum status st = dbfile_writer_measure(writer, &done);
        ASSERT(st == ST_OK || st == ST_BUSY);
    }
    for (enum status st = ST_OK; st != ST_NOT_FOUND;) {
        struct slice bytes;
        st = dbfile_writer_next(writer, &bytes);
        ASSERT(st == ST_OK || st == ST_NOT_FOUND); /* the source gave the same again */
        if (st == ST_OK)
            ASSERT(buf_append(out, bytes) == ST_OK);
        sched_yield();
    }
    dbfile_writer_free(writer);
    dbfile_pin_source_deinit(&source);
}

/* Revision r was made by entry r - 1, which also put r into bucket cluster. */
static void check_record(enum bucket bucket, const struct dbfile_item *item, int64_t *next)
{
    if (bucket == BUCKET_KEY) {
        struct revision revision;
        bool tombstone;
        ASSERT(revision_key_decode(item->key, &revision, &tombstone) == ST_OK);
        ASSERT(revision.main >= *next); /* and none is missing above the compact revision */
        ASSERT(revision.main == *next || *next <= pin_compact);
        *next = revision.main + 1;
    } else if (bucket == BUCKET_CLUSTER) {
        ASSERT(get_be64(item->value.data) == (uint64_t)pin_revision);
    } else if (slice_eq(item->key, SLICE("consistent_index"))) {
        ASSERT(get_be64(item->value.data) == (uint64_t)pin_revision - 1);
    }
}

static void check_file(struct slice file)
{
    struct db_open open;
    struct dbfile_reader *reader;
    struct dbfile_item item;
    enum bucket bucket = BUCKETS_COUNT;
    int64_t next = 2;
    db_open(&open, file);
    ASSERT(dbfile_reader_open(open.file, NULL, &reader) == ST_OK);
    enum status st;
    while ((st = dbfile_reader_next(reader, &item)) == ST_OK) {
        if (item.kind == DBFILE_ITEM_BUCKET)
            bucket = bucket == BUCKETS_COUNT ? 0 : bucket + 1;
        else
            check_record(bucket, &item, &next);
    }
    ASSERT(st == ST_NOT_FOUND);
    ASSERT(bucket == BUCKET_META);
    ASSERT(next == pin_revision + 1);
    dbfile_reader_close(reader);
    db_open_deinit(&open);
}

static void *exporter_main(void *argument)
{
    (void)argument;
    struct buf file;
    buf_init(&file, FILE_BYTES_MAX);
    while (!atomic_load(&stopped)) {
        atomic_store(&pin_wanted, true);
        while (!atomic_load(&pin_taken) && !atomic_load(&stopped))
            sched_yield();
        if (!atomic_load(&pin_taken))
            break;
        atomic_store(&pin_taken, false);
        buf_reset(&file);
        export(&file);
        check_file(buf_slice(&file));
        store_unpin(ks.store, pin);
        pin = NULL;
        atomic_fetch_add(&exports_done, 1);
    }
    buf_deinit(&file);
    return NULL;
}

static void *writer_main(void *argument)
{
    (void)argument;
    while (!atomic_load(&stopped)) {
        bool worked;
        ks.now_ns += NS_PER_S; /* whatever is scheduled is due */
        ASSERT(store_writer_step(ks.store, &worked) == ST_OK);
    }
    return NULL;
}

static void write_revision(int64_t revision)
{
    char name[16];
    uint8_t number[8];
    (void)snprintf(name, sizeof(name), "k%02u", (unsigned)(revision % KEYS));
    put_be64(number, (uint64_t)revision);
    assert_int_equal(store_put(ks.store, BUCKET_CLUSTER, SLICE("at"), slice_make(number, 8)),
                     ST_OK);
    assert_int_equal(key_space_put(&ks, name, "value"), revision);
    assert_int_equal(ks.index, revision - 1);
}

static void take_pin(void)
{
    if (!atomic_load(&pin_wanted))
        return;
    atomic_store(&pin_wanted, false);
    assert_int_equal(store_pin(ks.store, &pin), ST_OK);
    mvcc_revisions(ks.mvcc, &pin_revision, &pin_compact);
    atomic_store(&pin_taken, true);
}

static void test_exports_are_whole_while_everything_goes_on(void **state)
{
    (void)state;
    key_space_init(&ks, backend_mem(), "threads");
    ks.threaded = true;
    key_space_open(&ks);
    pthread_t exporter, writer;
    write_revision(2);
    assert_int_equal(pthread_create(&exporter, NULL, exporter_main, NULL), 0);
    assert_int_equal(pthread_create(&writer, NULL, writer_main, NULL), 0);
    for (int64_t revision = 3; revision <= REVISIONS || atomic_load(&exports_done) < 3;
         revision++) {
        write_revision(revision);
        take_pin();
        bool more; /* what follows belongs to the next entry */
        if (revision % 200 == 0)
            assert_int_equal(mvcc_compact(ks.mvcc, revision - 100), ST_OK);
        if (revision % 50 == 0)
            assert_int_equal(store_seal(ks.store, /* force= */ true), ST_OK);
        assert_int_equal(mvcc_compact_step(ks.mvcc, &more), ST_OK);
    }
    atomic_store(&stopped, true);
    assert_int_equal(pthread_join(exporter, NULL), 0);
    assert_int_equal(pthread_join(writer, NULL), 0);
    print_message("%u exports\n", atomic_load(&exports_done));
    store_unpin(ks.store, pin);
    key_space_deinit(&ks);
    backend_mem_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exports_are_whole_while_everything_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
