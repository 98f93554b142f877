/* Exports: the state as a db file, from members in every state, at the reader's pace. */
#include "base/hash.h"
#include "base/list.h"
#include "server/loops/export.h"
#include "server/loops/loops_private.h"
#include "server/rpc/rpc.h"
#include "storage/dbfile/format.h"
#include "storage/dbfile/reader.h"
#include "tests/sim/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define PART_BYTES 1000U
#define LONG_NS (400 * NS_PER_S) /* beyond every deadline */

/* One export, and the call it belongs to. */
struct reading {
    struct export_request export;
    struct rpc_call call;
    struct buf bytes;
    bool asks, done; /* asks: for the next part at once */
    uint32_t parts;
    int references;
    enum api_error error;
};

static struct reading *reading_of(struct rpc_call *call)
{
    return CONTAINER_OF(call, struct reading, call);
}

static void ref(struct rpc_call *call)
{
    reading_of(call)->references++;
}

static void unref(struct rpc_call *call)
{
    reading_of(call)->references--;
}

static const struct rpc_transport transport = {.ref = ref, .unref = unref};

static void give(struct export_request *export, enum api_error error, struct slice bytes)
{
    struct reading *reading = CONTAINER_OF(export, struct reading, export);
    assert_false(reading->done);
    if (error != API_OK || bytes.len == 0) {
        reading->done = true;
        reading->error = error;
        return;
    }
    assert_true(bytes.len <= PART_BYTES);
    assert_int_equal(buf_append(&reading->bytes, bytes), ST_OK);
    reading->parts++;
    if (reading->asks)
        loops_export_next(export);
}

static void prepare(struct reading *reading, bool asks)
{
    *reading = (struct reading){.call.transport = &transport, .asks = asks};
    buf_init(&reading->bytes, SIZE_MAX / 2);
    reading->export.call = &reading->call;
    reading->export.part_bytes_max = PART_BYTES;
    reading->export.give = give;
}

static void begin(struct reading *reading, struct cluster *cluster, uint32_t member, bool asks)
{
    prepare(reading, asks);
    loops_export(cluster->members[member].loops, &reading->export);
}

static void begin_hash(struct reading *reading, struct cluster *cluster, uint32_t member)
{
    prepare(reading, /* asks= */ false);
    reading->export.hashes = true;
    loops_export(cluster->members[member].loops, &reading->export);
}

static bool is_over(struct cluster *cluster, void *context)
{
    (void)cluster;
    return ((struct reading *)context)->done;
}

static bool has_begun(struct cluster *cluster, void *context)
{
    (void)cluster;
    return ((struct reading *)context)->parts > 0;
}

/* Every end leaves the call to its caller and the store without a pin. */
static void expect_end(struct reading *reading, struct cluster *cluster, uint32_t member,
                       enum api_error error)
{
    cluster_until(cluster, is_over, reading, LONG_NS, "the end of an export");
    cluster_run(cluster, 100 * NS_PER_MS);
    assert_int_equal(reading->error, error);
    assert_int_equal(reading->references, 0);
    struct loops *loops = cluster->members[member].loops;
    assert_int_equal(atomic_load(&loops->exports_count), 0);
    buf_deinit(&reading->bytes);
}

static void expect_file(const struct reading *reading)
{
    struct slice file = buf_slice(&reading->bytes);
    struct dbfile_meta meta;
    assert_int_equal(file.len, reading->export.size);
    assert_int_equal(dbfile_meta_decode(file.data, &meta), ST_OK);
    assert_int_equal(meta.pages_count * meta.page_bytes, file.len);
}

static struct cluster *three(uint64_t seed)
{
    const struct cluster_options options = {
        .seed = seed, .members_count = 3, .sync_ns_min = NS_PER_MS, .sync_ns_max = 3 * NS_PER_MS};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    for (uint32_t i = 0; i < 200; i++)
        cluster_put(cluster, i % 3);
    cluster_settle(cluster);
    return cluster;
}

static void test_export_is_the_same_from_every_member(void **state)
{
    (void)state;
    struct cluster *cluster = three(1);
    struct reading readings[3];
    for (uint32_t i = 0; i < 3; i++)
        begin(&readings[i], cluster, i, /* asks= */ true);
    for (uint32_t i = 0; i < 3; i++)
        cluster_until(cluster, is_over, &readings[i], LONG_NS, "an export");
    for (uint32_t i = 0; i < 3; i++) {
        expect_file(&readings[i]);
        assert_true(slice_eq(buf_slice(&readings[i].bytes), buf_slice(&readings[0].bytes)));
        assert_true(readings[i].parts >= readings[i].export.size / PART_BYTES);
    }
    for (uint32_t i = 3; i > 0; i--)
        expect_end(&readings[i - 1], cluster, i - 1, API_OK);
    cluster_free(cluster);
}

/* The moment is that of the pin, whatever is written while it is read. */
/* CRC-32C over the file of the same moment, by way of the reader. */
static uint32_t hash_of_file(struct slice bytes)
{
    struct fake_disk *disk = fake_disk_new(/* seed= */ 1);
    struct disk_file *file;
    struct dbfile_reader *reader;
    struct dbfile_item item;
    uint32_t crc = 0;
    bool in_meta = false;
    fake_disk_put(disk, "db", bytes);
    assert_int_equal(disk_open(fake_disk_base(disk), "db", DISK_READ_ONLY, &file), ST_OK);
    assert_int_equal(dbfile_reader_open(file, NULL, &reader), ST_OK);
    while (dbfile_reader_next(reader, &item) == ST_OK) {
        if (item.kind == DBFILE_ITEM_BUCKET)
            in_meta = slice_eq(item.key, SLICE("meta"));
        bool is_mark = in_meta && (slice_eq(item.key, SLICE("consistent_index")) ||
                                   slice_eq(item.key, SLICE("term")));
        if (!is_mark)
            crc = crc32c(crc, item.key);
        if (!is_mark && item.kind == DBFILE_ITEM_RECORD)
            crc = crc32c(crc, item.value);
    }
    dbfile_reader_close(reader);
    disk_close(file);
    fake_disk_free(disk);
    return crc;
}

static void test_hash_is_that_of_the_file(void **state)
{
    (void)state;
    struct cluster *cluster = three(9);
    struct reading file, hashes[3];
    begin(&file, cluster, 0, /* asks= */ true);
    cluster_until(cluster, is_over, &file, LONG_NS, "an export");
    uint32_t hash = hash_of_file(buf_slice(&file.bytes));
    expect_end(&file, cluster, 0, API_OK);
    for (uint32_t i = 0; i < 3; i++) {
        begin_hash(&hashes[i], cluster, i);
        expect_end(&hashes[i], cluster, i, API_OK);
        assert_int_equal(hashes[i].parts, 0);
        assert_int_equal(hashes[i].export.hash, hash);
    }
    begin_hash(&hashes[0], cluster, 0);
    loops_export_cancel(&hashes[0].export);
    expect_end(&hashes[0], cluster, 0, API_CANCELED);
    cluster_free(cluster);
}

static void test_export_holds_its_moment_while_others_write(void **state)
{
    (void)state;
    struct cluster *cluster = three(2);
    struct reading quiet, busy;
    begin(&quiet, cluster, 0, /* asks= */ true);
    cluster_until(cluster, is_over, &quiet, LONG_NS, "an export");
    begin(&busy, cluster, 0, /* asks= */ false);
    cluster_until(cluster, has_begun, &busy, LONG_NS, "the first part");
    while (!busy.done) {
        cluster_put(cluster, 1);
        cluster_run(cluster, 10 * NS_PER_MS);
        loops_export_next(&busy.export);
        cluster_run(cluster, 100 * NS_PER_MS);
    }
    assert_true(slice_eq(buf_slice(&busy.bytes), buf_slice(&quiet.bytes)));
    expect_end(&quiet, cluster, 0, API_OK);
    expect_end(&busy, cluster, 0, API_OK);
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_export_needs_no_quorum(void **state)
{
    (void)state;
    struct cluster *cluster = three(3);
    struct reading reading;
    cluster_crash(cluster, 1);
    cluster_crash(cluster, 2);
    cluster_run(cluster, 5 * NS_PER_S);
    begin(&reading, cluster, 0, /* asks= */ true);
    cluster_until(cluster, is_over, &reading, 10 * NS_PER_S, "an export without a quorum");
    expect_file(&reading);
    expect_end(&reading, cluster, 0, API_OK);
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_export_is_given_by_a_quarantined_member(void **state)
{
    (void)state;
    struct cluster *cluster = three(4);
    struct reading reading;
    struct loops *loops = cluster->members[0].loops;
    atomic_store(&loops->quarantined, true);
    begin(&reading, cluster, 0, /* asks= */ true);
    cluster_until(cluster, is_over, &reading, 10 * NS_PER_S, "an export from quarantine");
    expect_file(&reading);
    expect_end(&reading, cluster, 0, API_OK);
    atomic_store(&loops->quarantined, false);
    cluster_free(cluster);
}

static void test_export_ends_when_it_is_canceled(void **state)
{
    (void)state;
    struct cluster *cluster = three(5);
    struct reading reading;
    begin(&reading, cluster, 0, /* asks= */ false);
    loops_export_cancel(&reading.export); /* before it is pinned */
    expect_end(&reading, cluster, 0, API_CANCELED);
    begin(&reading, cluster, 0, /* asks= */ false);
    cluster_until(cluster, has_begun, &reading, LONG_NS, "the first part");
    loops_export_next(&reading.export);
    loops_export_cancel(&reading.export);
    expect_end(&reading, cluster, 0, API_CANCELED);
    cluster_free(cluster);
}

static void test_export_gives_up_on_a_reader_that_stands_still(void **state)
{
    (void)state;
    struct cluster *cluster = three(6);
    struct reading reading;
    begin(&reading, cluster, 0, /* asks= */ false);
    cluster_until(cluster, has_begun, &reading, LONG_NS, "the first part");
    cluster_run(cluster, EXPORT_NS - 10 * NS_PER_S);
    assert_false(reading.done);
    expect_end(&reading, cluster, 0, API_SNAPSHOT_TOO_SLOW);
    cluster_free(cluster);
}

static void test_export_is_refused_beyond_the_limit(void **state)
{
    (void)state;
    struct cluster *cluster = three(7);
    struct reading readings[LOOPS_EXPORTS_MAX], refused;
    for (uint32_t i = 0; i < LOOPS_EXPORTS_MAX; i++)
        begin(&readings[i], cluster, 0, /* asks= */ true);
    begin(&refused, cluster, 0, /* asks= */ true);
    assert_int_equal(refused.error, API_TOO_MANY_REQUESTS);
    for (uint32_t i = 0; i < LOOPS_EXPORTS_MAX; i++)
        cluster_until(cluster, is_over, &readings[i], LONG_NS, "an export");
    for (uint32_t i = 0; i < LOOPS_EXPORTS_MAX; i++)
        expect_end(&readings[i], cluster, 0, API_OK);
    cluster_free(cluster);
}

static void test_export_ends_with_its_member(void **state)
{
    (void)state;
    struct cluster *cluster = three(8);
    struct reading reading, unpinned;
    begin(&reading, cluster, 0, /* asks= */ false);
    cluster_until(cluster, has_begun, &reading, LONG_NS, "the first part");
    begin(&unpinned, cluster, 0, /* asks= */ false);
    loops_stop_requests(cluster->members[0].loops);
    cluster_until(cluster, is_over, &reading, NS_PER_S, "the end of an export at a stop");
    assert_int_equal(reading.error, API_STOPPED);
    cluster_crash(cluster, 0);
    assert_true(unpinned.done);
    assert_int_equal(unpinned.error, API_STOPPED);
    buf_deinit(&reading.bytes);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_is_the_same_from_every_member),
        cmocka_unit_test(test_hash_is_that_of_the_file),
        cmocka_unit_test(test_export_holds_its_moment_while_others_write),
        cmocka_unit_test(test_export_needs_no_quorum),
        cmocka_unit_test(test_export_is_given_by_a_quarantined_member),
        cmocka_unit_test(test_export_ends_when_it_is_canceled),
        cmocka_unit_test(test_export_gives_up_on_a_reader_that_stands_still),
        cmocka_unit_test(test_export_is_refused_beyond_the_limit),
        cmocka_unit_test(test_export_ends_with_its_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
