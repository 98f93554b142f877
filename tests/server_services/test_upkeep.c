/* Snapshot, Defragment, Hash: what the operator calls now and then. */
#include "base/digest.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tests/server_services/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SNAPSHOT "/etcdserverpb.Maintenance/Snapshot"
#define DEFRAGMENT "/etcdserverpb.Maintenance/Defragment"
#define HASH "/etcdserverpb.Maintenance/Hash"
#define BLOB_BYTES (32U << 10)

/* ---- snapshots ---- */

static struct slice some_bytes(struct fixture *f, size_t size)
{
    uint8_t *bytes = arena_alloc(&f->harness.arena, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    return slice_make(bytes, size);
}

static const Etcdserverpb__SnapshotResponse *sent(struct fixture *f, uint32_t number)
{
    ProtobufCAllocator allocator = harness_allocator(&f->harness.arena);
    const void *message =
        protobuf_c_message_unpack(&etcdserverpb__snapshot_response__descriptor, &allocator,
                                  f->call.sent[number].len, f->call.sent[number].data);
    assert_non_null(message);
    return message;
}

/* Blobs of 32 KiB, a shorter last one, then the digest; what remains counts down without it. */
static void test_snapshot_is_sent_as_etcd_does(void **state)
{
    struct fixture *f = *state;
    for (size_t size = 1; size < 5 * BLOB_BYTES; size = size * 5 + 4096) {
        struct slice bytes = f->loops.export_bytes = some_bytes(f, size);
        assert_int_equal(call(f, SNAPSHOT, SLICE_EMPTY)->code, RPC_OK);
        uint32_t blobs_count = (uint32_t)((size + BLOB_BYTES - 1) / BLOB_BYTES);
        assert_int_equal(f->call.sent_count, blobs_count + 1);
        for (uint32_t i = 0; i < blobs_count; i++) {
            const Etcdserverpb__SnapshotResponse *part = sent(f, i);
            size_t before = (size_t)i * BLOB_BYTES, len = part->blob.len;
            assert_int_equal(len, i + 1 < blobs_count ? BLOB_BYTES : size - before);
            assert_memory_equal(part->blob.data, bytes.data + before, len);
            assert_int_equal(part->remaining_bytes, size - before - len);
            assert_null(part->header);
        }
        uint8_t digest[SHA256_BYTES];
        assert_int_equal(sha256(bytes, digest), ST_OK);
        const Etcdserverpb__SnapshotResponse *end = sent(f, blobs_count);
        assert_int_equal(end->remaining_bytes, 0);
        assert_int_equal(end->blob.len, SHA256_BYTES);
        assert_memory_equal(end->blob.data, digest, SHA256_BYTES);
    }
}

/* Whoever gets no digest and an error has no snapshot. */
static void test_snapshot_that_fails_says_so(void **state)
{
    struct fixture *f = *state;
    f->loops.export_bytes = some_bytes(f, 100000);
    f->loops.refuse = API_SNAPSHOT_TOO_SLOW;
    for (uint32_t parts = 0; parts < 10; parts++) {
        f->loops.export_parts = parts;
        assert_error(call(f, SNAPSHOT, SLICE_EMPTY), API_SNAPSHOT_TOO_SLOW);
        for (uint32_t i = 0; i < f->call.sent_count; i++)
            assert_int_equal(sent(f, i)->blob.len, BLOB_BYTES);
    }
    f->loops.refuse = API_TOO_MANY_REQUESTS;
    f->loops.export_parts = 0;
    assert_error(call(f, SNAPSHOT, SLICE_EMPTY), API_TOO_MANY_REQUESTS);
    assert_int_equal(f->call.sent_count, 0);
}

static void test_snapshot_is_given_in_any_arena(void **state)
{
    struct fixture *f = *state;
    f->loops.export_bytes = some_bytes(f, 5000);
    for (f->arena_bytes = 1; f->arena_bytes < 100000; f->arena_bytes += 999) {
        call(f, SNAPSHOT, SLICE_EMPTY);
        if (f->call.code != RPC_OK)
            assert_error(&f->call, API_NO_MEMORY);
    }
    assert_int_equal(f->call.code, RPC_OK);
}

/* ---- defragmentation ---- */

static void test_defragment_answers_when_the_store_has_done_it(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(call(f, DEFRAGMENT, SLICE_EMPTY)->code, RPC_OK);
    assert_int_equal(f->call.message.len, 0); /* etcd's answer has no header */
    assert_true(f->call.later);               /* the writer does not pay for sockets */
    f->loops.refuse = API_NO_ROOM_FOR_COPY;
    assert_error(call(f, DEFRAGMENT, SLICE_EMPTY), API_NO_ROOM_FOR_COPY);
    assert_int_equal(f->loops.defragments, 2);
    f->loops.is_learner = true;
    assert_error(call(f, DEFRAGMENT, SLICE_EMPTY), API_LEARNER_NOT_SUPPORTED);
    f->loops.is_learner = false;
    f->arena_bytes = 1;
    assert_error(call(f, DEFRAGMENT, SLICE_EMPTY), API_NO_MEMORY);
    assert_int_equal(f->loops.defragments, 2);
}

/* ---- hashes ---- */

static void test_hash_is_of_everything(void **state)
{
    struct fixture *f = *state;
    harness_set(&f->harness, "a", "1");
    call(f, HASH, SLICE_EMPTY);
    const Etcdserverpb__HashResponse *hash = decode(f, &etcdserverpb__hash_response__descriptor);
    assert_true(hash->hash == 0x89abcdef);
    assert_int_equal(hash->header->revision, harness_revision(&f->harness));
    assert_true(f->call.later);
    f->loops.refuse = API_TOO_MANY_REQUESTS;
    assert_error(call(f, HASH, SLICE_EMPTY), API_TOO_MANY_REQUESTS);
    f->arena_bytes = 1;
    assert_error(call(f, HASH, SLICE_EMPTY), API_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_snapshot_is_sent_as_etcd_does),
        FIXTURE_TEST(test_snapshot_that_fails_says_so),
        FIXTURE_TEST(test_snapshot_is_given_in_any_arena),
        FIXTURE_TEST(test_defragment_answers_when_the_store_has_done_it),
        FIXTURE_TEST(test_hash_is_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
