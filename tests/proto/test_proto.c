/* The bytes etcd puts on the wire and on disk, from the messages as we declare them. */
#include "proto/internal.pb-c.h"
#include "proto/raft.pb-c.h"
#include "proto/rpc.pb-c.h"
#include "proto/wal.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BYTES_MAX 256

static void assert_packs_to(const ProtobufCMessage *message, const uint8_t *want, size_t want_size)
{
    uint8_t got[BYTES_MAX];
    assert_in_range(protobuf_c_message_get_packed_size(message), 0, BYTES_MAX);
    assert_int_equal(protobuf_c_message_pack(message, got), want_size);
    assert_memory_equal(got, want, want_size);
}

static void test_raft_message_with_every_scalar_set_has_etcds_bytes(void **state)
{
    (void)state;
    Raftpb__ConfState conf_state = RAFTPB__CONF_STATE__INIT;
    conf_state.has_auto_leave = 1;
    Raftpb__SnapshotMetadata metadata = RAFTPB__SNAPSHOT_METADATA__INIT;
    metadata.conf_state = &conf_state;
    metadata.has_index = metadata.has_term = 1;
    Raftpb__Snapshot snapshot = RAFTPB__SNAPSHOT__INIT;
    snapshot.metadata = &metadata;
    Raftpb__Message message = RAFTPB__MESSAGE__INIT;
    message.has_type = 1;
    message.type = RAFTPB__MESSAGE_TYPE__MsgHeartbeat;
    message.has_to = message.has_from = message.has_term = message.has_logterm = 1;
    message.has_index = message.has_commit = message.has_reject = message.has_rejecthint = 1;
    message.snapshot = &snapshot;

    /* The link heartbeat a live etcd 3.5 sends. */
    static const uint8_t want[30] = {0x08, 0x08, 0x10, 0x00, 0x18, 0x00, 0x20, 0x00, 0x28, 0x00,
                                     0x30, 0x00, 0x40, 0x00, 0x4a, 0x0a, 0x12, 0x08, 0x0a, 0x02,
                                     0x28, 0x00, 0x10, 0x00, 0x18, 0x00, 0x50, 0x00, 0x58, 0x00};
    assert_packs_to(&message.base, want, sizeof(want));
}

static void test_raft_message_without_scalars_is_accepted(void **state)
{
    (void)state;
    static const uint8_t bytes[2] = {0x08, 0x08};
    Raftpb__Message *message = raftpb__message__unpack(NULL, sizeof(bytes), bytes);
    assert_non_null(message);
    assert_int_equal(message->type, RAFTPB__MESSAGE_TYPE__MsgHeartbeat);
    assert_false(message->has_term);
    assert_int_equal(message->term, 0);
    raftpb__message__free_unpacked(message, NULL);
}

static void test_conf_state_lists_are_unpacked(void **state)
{
    (void)state;
    uint64_t voters[2] = {1, 2};
    Raftpb__ConfState conf_state = RAFTPB__CONF_STATE__INIT;
    conf_state.n_voters = 2;
    conf_state.voters = voters;
    conf_state.has_auto_leave = 1;
    static const uint8_t want[6] = {0x08, 0x01, 0x08, 0x02, 0x28, 0x00};
    assert_packs_to(&conf_state.base, want, sizeof(want));
}

static void test_wal_record_writes_zero_crc(void **state)
{
    (void)state;
    Walpb__Record record = WALPB__RECORD__INIT;
    record.has_type = record.has_crc = 1;
    record.type = 4;
    static const uint8_t want[4] = {0x08, 0x04, 0x10, 0x00}; /* heads every etcd log */
    assert_packs_to(&record.base, want, sizeof(want));
}

static void test_internal_request_uses_etcds_field_numbers(void **state)
{
    (void)state;
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    header.id = 7;
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)"k"};
    put.value = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)"v"};
    Etcdserverpb__InternalRaftRequest request = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    request.header = &header;
    request.put = &put;
    static const uint8_t want[13] = {0x22, 0x06, 0x0a, 0x01, 'k',  0x12, 0x01,
                                     'v',  0xa2, 0x06, 0x02, 0x08, 0x07};
    assert_packs_to(&request.base, want, sizeof(want));
}

static void test_watch_filters_are_packed_and_read_either_way(void **state)
{
    (void)state;
    static const uint8_t unpacked[4] = {0x28, 0x01, 0x28, 0x00};
    Etcdserverpb__WatchCreateRequest *request =
        etcdserverpb__watch_create_request__unpack(NULL, sizeof(unpacked), unpacked);
    assert_non_null(request);
    assert_int_equal(request->n_filters, 2);
    static const uint8_t packed[4] = {0x2a, 0x02, 0x01, 0x00};
    assert_packs_to(&request->base, packed, sizeof(packed));
    etcdserverpb__watch_create_request__free_unpacked(request, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_message_with_every_scalar_set_has_etcds_bytes),
        cmocka_unit_test(test_raft_message_without_scalars_is_accepted),
        cmocka_unit_test(test_conf_state_lists_are_unpacked),
        cmocka_unit_test(test_wal_record_writes_zero_crc),
        cmocka_unit_test(test_internal_request_uses_etcds_field_numbers),
        cmocka_unit_test(test_watch_filters_are_packed_and_read_either_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
