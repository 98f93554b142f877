/* The RPC methods of keys and values, and what all methods share. */
#include "server/state/conf_state.h"
#include "tests/server_services/fixture.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RANGE "/etcdserverpb.KV/Range"
#define PUT "/etcdserverpb.KV/Put"
#define DELETE_RANGE "/etcdserverpb.KV/DeleteRange"
#define TXN "/etcdserverpb.KV/Txn"
#define COMPACT "/etcdserverpb.KV/Compact"

static struct fake_call *put(struct fixture *f, const struct kv_put *request)
{
    return call(f, PUT, encode_put(&f->harness.arena, request));
}

/* ---- writes ---- */

static void test_put_is_proposed_and_answered_later(void **state)
{
    struct fixture *f = *state;
    struct fake_call *got =
        put(f, &(struct kv_put){.key = SLICE("k"), .value = SLICE("v"), .prev_kv = true});
    assert_true(got->later); /* apply does not pay for sockets */
    const Etcdserverpb__PutResponse *response = decode(f, &etcdserverpb__put_response__descriptor);
    assert_int_equal(response->header->revision, 2);
    assert_int_equal(f->loops.proposals, 1);
    assert_int_equal(f->loops.deadline_ns, 1007 * NS_PER_S);
    assert_string_equal(harness_get(&f->harness, "k"), "v");
}

static void test_put_is_refused_before_it_is_proposed(void **state)
{
    struct fixture *f = *state;
    assert_error(put(f, &(struct kv_put){0}), API_KEY_EMPTY);
    assert_error(
        put(f, &(struct kv_put){.key = SLICE("k"), .value = SLICE("v"), .ignore_value = true}),
        API_VALUE_PROVIDED);
    struct fake_call *got = call(f, PUT, SLICE("\x0a\x05k"));
    assert_int_equal(got->code, RPC_INTERNAL);
    assert_int_equal(f->loops.proposals, 0);
    assert_error(put(f, &(struct kv_put){.key = SLICE("k"), .lease = 5}), API_LEASE_NOT_FOUND);
    assert_int_equal(f->loops.proposals, 1); /* only apply knows the leases */
}

static void test_write_is_limited_by_its_entry(void **state)
{
    struct fixture *f = *state;
    size_t size = (1536U << 10) - 20; /* tags, lengths, key and header take 20 bytes */
    uint8_t *value = arena_alloc(&f->harness.arena, size);
    struct kv_put request = {.key = SLICE("key"), .value = slice_make(value, size)};
    struct slice message = encode_put(&f->harness.arena, &request);
    assert_in_range(internal_request_size(INTERNAL_PUT, message.len, 1), (1536U << 10) - 2,
                    (1536U << 10));
    assert_int_equal(call(f, PUT, message)->code, RPC_OK);
    request.value.len += 3;
    value = arena_alloc(&f->harness.arena, request.value.len);
    request.value.data = value;
    assert_error(put(f, &request), API_REQUEST_TOO_LARGE);
    assert_int_equal(f->loops.proposals, 1);
}

static void test_delete_and_compact_are_proposed(void **state)
{
    struct fixture *f = *state;
    harness_set(&f->harness, "a", "1");
    struct arena *arena = &f->harness.arena;
    call(f, DELETE_RANGE, encode_delete(arena, &(struct kv_delete){.key = SLICE("a")}));
    const Etcdserverpb__DeleteRangeResponse *deleted =
        decode(f, &etcdserverpb__delete_range_response__descriptor);
    assert_int_equal(deleted->deleted, 1);
    assert_error(call(f, DELETE_RANGE, SLICE_EMPTY), API_KEY_EMPTY);
    call(f, COMPACT, encode_compact(arena, &(struct kv_compact){.revision = 3}));
    const Etcdserverpb__CompactionResponse *compacted =
        decode(f, &etcdserverpb__compaction_response__descriptor);
    assert_int_equal(compacted->header->revision, 3);
    assert_error(call(f, COMPACT, encode_compact(arena, &(struct kv_compact){.revision = 3})),
                 API_COMPACTED);
}

static void test_write_passes_on_what_the_actors_say(void **state)
{
    struct fixture *f = *state;
    f->loops.refuse = API_TOO_MANY_REQUESTS;
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_TOO_MANY_REQUESTS);
    f->loops.refuse = API_TIMEOUT;
    struct fake_call *got =
        call(f, RANGE, encode_range(&f->harness.arena, &(struct kv_range){.key = SLICE("k")}));
    assert_error(got, API_TIMEOUT);
    assert_true(got->later);
}

/* ---- limits of the store ---- */

static void test_quota_refuses_what_costs(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    open_services(f, /* quota_bytes= */ 1, 0);
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_error(put(f, &(struct kv_put){0}), API_NO_SPACE); /* before the request is looked at */
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "k", ""))};
    assert_error(call(f, TXN, encode_txn(arena, &txn)), API_NO_SPACE);
    txn.success = OPS(arena, op_delete(arena, "k", ""));
    assert_int_equal(call(f, TXN, encode_txn(arena, &txn))->code, RPC_OK);
    call(f, DELETE_RANGE, encode_delete(arena, &(struct kv_delete){.key = SLICE("a")}));
    assert_int_equal(f->call.code, RPC_OK);
}

static uint32_t nospace_alarms(struct fixture *f)
{
    const struct alarm *alarms;
    uint32_t count;
    assert_int_equal(machine_alarms(f->harness.machine, &f->harness.arena, &alarms, &count), ST_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(alarms[i].member, HARNESS_MEMBER_ID);
        assert_int_equal(alarms[i].type, ALARM_NOSPACE);
    }
    return count;
}

/* As much as the quota has left, and refused for its size: it takes no room from what comes next.
 */
static void test_quota_is_not_charged_for_what_is_refused(void **state)
{
    struct fixture *f = *state;
    open_services(f, /* quota_bytes= */ 4U << 20, 0);
    struct slice big = {arena_alloc(&f->harness.arena, 1536U << 10), 1536U << 10};
    assert_non_null(big.data);
    for (uint32_t i = 0; i < 3; i++)
        assert_error(put(f, &(struct kv_put){.key = SLICE("k"), .value = big}),
                     API_REQUEST_TOO_LARGE);
    big.len -= 1024;
    assert_int_equal(put(f, &(struct kv_put){.key = SLICE("k"), .value = big})->code, RPC_OK);
    assert_int_equal(nospace_alarms(f), 0);
}

/* Once, and before the client is told; what is refused goes nowhere else. */
static void test_quota_raises_the_alarm(void **state)
{
    struct fixture *f = *state;
    open_services(f, /* quota_bytes= */ 1, 0);
    assert_int_equal(nospace_alarms(f), 0);
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(nospace_alarms(f), 1);
    assert_int_equal(f->loops.proposals, 1);
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(f->loops.proposals, 1);
    open_services(f, /* quota_bytes= */ 0, 0); /* room again: the alarm stays */
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(f->loops.proposals, 2);
}

/* The request is refused all the same, and the next one tries again. */
static void test_quota_refuses_without_a_leader(void **state)
{
    struct fixture *f = *state;
    open_services(f, /* quota_bytes= */ 1, 0);
    f->loops.refuse = API_TIMEOUT;
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(nospace_alarms(f), 0);
    f->loops.refuse = API_OK;
    f->arena_bytes = 1;
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(nospace_alarms(f), 0);
    f->arena_bytes = 0;
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_NO_SPACE);
    assert_int_equal(nospace_alarms(f), 1);
}

static void test_quota_counts_what_was_admitted_since_it_looked(void **state)
{
    struct fixture *f = *state;
    open_services(f, /* quota_bytes= */ 100000, 0);
    uint32_t admitted = 0;
    while (put(f, &(struct kv_put){.key = SLICE("k")})->code == RPC_OK && admitted < 1000)
        admitted++;
    assert_error(&f->call, API_NO_SPACE);
    assert_in_range(admitted, 100, 100000 / 257); /* the clock of this test stands still */
}

static void test_full_disk_refuses_what_costs(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    f->health = ST_NO_SPACE;
    assert_error(put(f, &(struct kv_put){.key = SLICE("k")}), API_DISK_FULL);
    call(f, DELETE_RANGE, encode_delete(arena, &(struct kv_delete){.key = SLICE("a")}));
    assert_int_equal(f->call.code, RPC_OK);
    f->health = ST_IO;
    call(f, DELETE_RANGE, encode_delete(arena, &(struct kv_delete){.key = SLICE("a")}));
    assert_error(&f->call, API_STOPPED);
    f->health = ST_OK;
    assert_int_equal(put(f, &(struct kv_put){.key = SLICE("k")})->code, RPC_OK);
}

/* ---- reads ---- */

static void test_range_waits_for_its_round_unless_serializable(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    harness_set(&f->harness, "k", "v");
    struct kv_range range = {.key = SLICE("k")};
    call(f, RANGE, encode_range(arena, &range));
    const Etcdserverpb__RangeResponse *response =
        decode(f, &etcdserverpb__range_response__descriptor);
    assert_int_equal(response->n_kvs, 1);
    assert_int_equal(response->header->raft_term, 2);
    assert_int_equal(f->loops.reads, 1);
    range.serializable = true;
    assert_int_equal(call(f, RANGE, encode_range(arena, &range))->code, RPC_OK);
    assert_false(f->call.later);
    assert_int_equal(f->loops.reads + f->loops.local_reads, 1);
}

static void test_range_of_many_keys_leaves_the_poller(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    for (int i = 0; i < 64; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        harness_set(&f->harness, key, "v");
    }
    struct kv_range range = {.key = SLICE("k"), .range_end = SLICE("l"), .serializable = true};
    call(f, RANGE, encode_range(arena, &range));
    assert_int_equal(f->loops.local_reads, 0);
    harness_set(&f->harness, "kx", "v");
    call(f, RANGE, encode_range(arena, &range));
    assert_int_equal(f->loops.local_reads, 1);
    const Etcdserverpb__RangeResponse *response =
        decode(f, &etcdserverpb__range_response__descriptor);
    assert_int_equal(response->count, 65);
}

static void test_reads_of_many_bytes_are_left_to_one_reader(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    char *value = arena_alloc_raw(arena, 600001);
    memset(value, 'v', 600000);
    value[600000] = '\0';
    harness_set(&f->harness, "a", value);
    harness_set(&f->harness, "b", value);
    for (int serializable = 0; serializable < 2; serializable++) {
        struct kv_range range = {.key = SLICE("a"), .serializable = serializable != 0};
        call(f, RANGE, encode_range(arena, &range));
        assert_int_equal(f->loops.long_reads, 3 * serializable);
        range.range_end = SLICE("c");
        range.keys_only = true; /* they are read all the same */
        call(f, RANGE, encode_range(arena, &range));
        assert_int_equal(f->loops.long_reads, 3 * serializable + 1);
        range.sort_order = 2;
        range.keys_only = false;
        call(f, RANGE, encode_range(arena, &range));
        assert_int_equal(f->loops.long_reads, 3 * serializable + 2);
        const Etcdserverpb__RangeResponse *response =
            decode(f, &etcdserverpb__range_response__descriptor);
        assert_int_equal(response->n_kvs, 2);
        assert_int_equal(response->kvs[0]->value.len, 600000);
        struct kv_op op = {.kind = KV_OP_RANGE, .range = &range};
        struct kv_txn txn = {.success = {.items = &op, .count = 1}};
        call(f, TXN, encode_txn(arena, &txn));
        assert_int_equal(f->call.code, RPC_OK);
        assert_int_equal(f->loops.long_reads, 3 * serializable + 3);
    }
}

static void test_reads_leave_the_poller_when_the_store_outgrows_memory(void **state)
{
    struct fixture *f = *state;
    harness_set(&f->harness, "k", "v");
    harness_reopen(&f->harness); /* the store has a size now */
    open_services(f, 0, /* memory_bytes= */ 2);
    struct kv_range range = {.key = SLICE("k"), .serializable = true};
    call(f, RANGE, encode_range(&f->harness.arena, &range));
    assert_int_equal(f->loops.local_reads, 1);
}

static void test_range_errors(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    assert_error(call(f, RANGE, SLICE_EMPTY), API_KEY_EMPTY);
    struct kv_range range = {.key = SLICE("k"), .revision = 9};
    assert_error(call(f, RANGE, encode_range(arena, &range)), API_FUTURE_REVISION);
    assert_false(f->call.later); /* a reader may pay for the socket */
    range.sort_target = 9;
    assert_error(call(f, RANGE, encode_range(arena, &range)), API_INVALID_SORT_OPTION);
}

/* ---- txn ---- */

static void test_txn_takes_the_way_of_its_operations(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    harness_set(&f->harness, "k", "v");
    struct kv_txn txn = {.success = OPS(arena, op_get(arena, "k"))};
    assert_int_equal(call(f, TXN, encode_txn(arena, &txn))->code, RPC_OK);
    assert_int_equal(f->loops.reads, 1);
    txn.success.items[0].range->serializable = true;
    call(f, TXN, encode_txn(arena, &txn));
    const Etcdserverpb__TxnResponse *response = decode(f, &etcdserverpb__txn_response__descriptor);
    assert_int_equal(response->responses[0]->response_range->n_kvs, 1);
    assert_int_equal(f->loops.reads + f->loops.local_reads, 1);
    txn.success = OPS(arena, op_txn(arena, txn));
    assert_int_equal(call(f, TXN, encode_txn(arena, &txn))->code, RPC_OK);
    assert_int_equal(f->loops.proposals, 1);
    struct kv_txn empty = {0}; /* read-only, and serializable */
    assert_int_equal(call(f, TXN, encode_txn(arena, &empty))->code, RPC_OK);
    assert_int_equal(f->loops.reads + f->loops.local_reads + f->loops.proposals, 2);
}

static void test_txn_errors(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    assert_error(call(f, TXN, encode_nested(arena, 10000)), API_TOO_MANY_OPS);
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "k", ""), op_put(arena, "k", ""))};
    assert_error(call(f, TXN, encode_txn(arena, &txn)), API_DUPLICATE_KEY);
    assert_error(call(f, TXN, SLICE("\x12\x00")), API_KEY_NOT_FOUND);
    txn.success = OPS(arena, op_get(arena, "k"));
    txn.success.items[0].range->revision = 99;
    assert_error(call(f, TXN, encode_txn(arena, &txn)), API_FUTURE_REVISION);
    assert_int_equal(call(f, TXN, SLICE("\x12\x05"))->code, RPC_INTERNAL);
    assert_int_equal(f->loops.proposals, 0);
}

/* ---- the rest ---- */

static void test_status_tells_how_the_member_is(void **state)
{
    struct fixture *f = *state;
    harness_set(&f->harness, "k", "v");
    call(f, "/etcdserverpb.Maintenance/Status", SLICE_EMPTY);
    const Etcdserverpb__StatusResponse *status =
        decode(f, &etcdserverpb__status_response__descriptor);
    assert_int_equal(status->header->revision, 2);
    assert_string_equal(status->version, "3.5.15");
    assert_int_equal(status->leader, HARNESS_MEMBER_ID);
    assert_int_equal(status->raftindex, 9);
    assert_int_equal(status->raftappliedindex, 8);
    assert_int_equal(status->raftterm, 2);
    assert_int_equal(status->n_errors, 0);
    f->loops.refuse = API_NO_LEADER;
    call(f, "/etcdserverpb.Maintenance/Status", SLICE_EMPTY);
    status = decode(f, &etcdserverpb__status_response__descriptor);
    assert_string_equal(status->errors[0], "etcdserver: no leader");
}

static void test_member_list_leaves_the_revision_out(void **state)
{
    struct fixture *f = *state;
    struct raft_entry entry = {.term = 1, .index = 1, .type = RAFT_ENTRY_CONF_CHANGE};
    const struct member_change change = {
        .node_id = 7,
        .context = SLICE("{\"id\":7,\"peerURLs\":[\"http://a:2380\"],\"name\":\"a\","
                         "\"clientURLs\":[\"u\"]}")};
    entry.payload = member_change_payload(&change);
    const struct raft_conf_state conf_state = {.voters = {7}, .voters_count = 1};
    assert_int_equal(machine_end_conf_change(f->harness.machine, &entry, &conf_state), ST_OK);
    raft_payload_unref(entry.payload);
    call(f, "/etcdserverpb.Cluster/MemberList", SLICE_EMPTY);
    const Etcdserverpb__MemberListResponse *list =
        decode(f, &etcdserverpb__member_list_response__descriptor);
    assert_int_equal(list->header->revision, 0);
    assert_int_equal(list->header->cluster_id, HARNESS_CLUSTER_ID);
    assert_int_equal(list->n_members, 1);
    assert_int_equal(list->members[0]->id, 7);
    assert_string_equal(list->members[0]->name, "a");
    assert_string_equal(list->members[0]->peerurls[0], "http://a:2380");
    assert_string_equal(list->members[0]->clienturls[0], "u");
    assert_int_equal(f->loops.reads, 0);
    assert_int_equal(call(f, "/etcdserverpb.Cluster/MemberList", SLICE("\x08\x01"))->code, RPC_OK);
    assert_int_equal(f->loops.reads, 1);
}

static void test_auth_is_off(void **state)
{
    struct fixture *f = *state;
    call(f, "/etcdserverpb.Auth/AuthStatus", SLICE_EMPTY);
    const Etcdserverpb__AuthStatusResponse *status =
        decode(f, &etcdserverpb__auth_status_response__descriptor);
    assert_false(status->enabled);
    assert_int_equal(status->authrevision, 1);
    assert_int_equal(status->header->revision, 1);
}

static void test_health_of_the_server_is_serving(void **state)
{
    struct fixture *f = *state;
    call(f, "/grpc.health.v1.Health/Check", SLICE_EMPTY);
    assert_int_equal(f->call.message.len, 2);
    assert_memory_equal(f->call.message.data, "\x08\x01", 2);
    assert_int_equal(call(f, "/grpc.health.v1.Health/Check", SLICE("\x0a\x01x"))->code,
                     RPC_NOT_FOUND);
}

static void test_health_watch_tells_and_stays(void **state)
{
    struct fixture *f = *state;
    struct fake_call *got = call(f, "/grpc.health.v1.Health/Watch", SLICE(""));
    assert_int_equal(got->code, RPC_CANCELLED);
    assert_true(got->sent_count == 1 && slice_eq(got->sent[0], SLICE("\x08\x01")));
    got = call(f, "/grpc.health.v1.Health/Watch", SLICE("\x0a\x01x"));
    assert_true(got->sent_count == 1 && slice_eq(got->sent[0], SLICE("\x08\x03")));
}

static void test_no_method_is_registered_twice(void **state)
{
    struct fixture *f = *state;
    uint32_t count, methods = 0;
    const struct rpc_service *table = services_table(f->services, &count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < table[i].methods_count; j++, methods++) {
            void *service;
            assert_ptr_equal(find_method(f, table[i].methods[j].path, &service),
                             &table[i].methods[j]);
        }
    }
    /* KV 5, Watch 1, Lease 5, Cluster 5, Maintenance 8, Auth 17, Lock 2, Election 5, Health 2 */
    assert_int_equal(methods, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_put_is_proposed_and_answered_later),
        FIXTURE_TEST(test_put_is_refused_before_it_is_proposed),
        FIXTURE_TEST(test_write_is_limited_by_its_entry),
        FIXTURE_TEST(test_delete_and_compact_are_proposed),
        FIXTURE_TEST(test_write_passes_on_what_the_actors_say),
        FIXTURE_TEST(test_quota_refuses_what_costs),
        FIXTURE_TEST(test_quota_is_not_charged_for_what_is_refused),
        FIXTURE_TEST(test_quota_raises_the_alarm),
        FIXTURE_TEST(test_quota_refuses_without_a_leader),
        FIXTURE_TEST(test_quota_counts_what_was_admitted_since_it_looked),
        FIXTURE_TEST(test_full_disk_refuses_what_costs),
        FIXTURE_TEST(test_range_waits_for_its_round_unless_serializable),
        FIXTURE_TEST(test_range_of_many_keys_leaves_the_poller),
        FIXTURE_TEST(test_reads_of_many_bytes_are_left_to_one_reader),
        FIXTURE_TEST(test_reads_leave_the_poller_when_the_store_outgrows_memory),
        FIXTURE_TEST(test_range_errors),
        FIXTURE_TEST(test_txn_takes_the_way_of_its_operations),
        FIXTURE_TEST(test_txn_errors),
        FIXTURE_TEST(test_status_tells_how_the_member_is),
        FIXTURE_TEST(test_member_list_leaves_the_revision_out),
        FIXTURE_TEST(test_auth_is_off),
        FIXTURE_TEST(test_health_of_the_server_is_serving),
        FIXTURE_TEST(test_health_watch_tells_and_stays),
        FIXTURE_TEST(test_no_method_is_registered_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
