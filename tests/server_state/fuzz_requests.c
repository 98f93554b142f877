/* Every decoder of foreign bytes in the state machine: the first byte chooses which. What ours lets
 * pass goes into the log as it came, so protobuf-c has to read it too, and read the same. */
#include "base/arena.h"
#include "base/assert.h"
#include "proto/rpc.pb-c.h"
#include "base/buf.h"
#include "server/state/bootstrap.h"
#include "server/state/check.h"
#include "server/state/cluster_version.h"
#include "server/state/conf_state.h"
#include "server/state/corruption.h"
#include "server/state/members.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (16U << 20)

static void assert_same(struct slice ours, ProtobufCBinaryData theirs)
{
    ASSERT(slice_eq(ours, slice_make(theirs.data, theirs.len)));
}

static void fuzz_put(struct slice message)
{
    struct kv_put put;
    if (kv_put_decode(message, &put) != ST_OK)
        return;
    Etcdserverpb__PutRequest *other =
        etcdserverpb__put_request__unpack(NULL, message.len, message.data);
    ASSERT(other != NULL);
    assert_same(put.key, other->key);
    assert_same(put.value, other->value);
    ASSERT(put.lease == other->lease && put.prev_kv == other->prev_kv);
    ASSERT(put.ignore_value == other->ignore_value && put.ignore_lease == other->ignore_lease);
    etcdserverpb__put_request__free_unpacked(other, NULL);
    (void)check_put(&put);
}

static void fuzz_range(struct slice message)
{
    struct kv_range range;
    if (kv_range_decode(message, &range) != ST_OK)
        return;
    Etcdserverpb__RangeRequest *other =
        etcdserverpb__range_request__unpack(NULL, message.len, message.data);
    ASSERT(other != NULL);
    assert_same(range.key, other->key);
    assert_same(range.range_end, other->range_end);
    ASSERT(range.limit == other->limit && range.revision == other->revision);
    ASSERT(range.sort_target == (int32_t)other->sort_target);
    ASSERT(range.max_create_revision == other->max_create_revision);
    etcdserverpb__range_request__free_unpacked(other, NULL);
    (void)check_range(&range);
}

static void fuzz_delete(struct slice message)
{
    struct kv_delete del;
    if (kv_delete_decode(message, &del) == ST_OK)
        (void)check_delete(&del);
}

static void fuzz_txn(struct slice message, struct arena *arena, uint32_t ops_max)
{
    struct kv_txn txn;
    if (kv_txn_decode(message, ops_max, arena, &txn) != ST_OK)
        return;
    (void)kv_txn_is_read_only(&txn);
    (void)kv_txn_is_serializable(&txn);
    (void)txn_cost(&txn);
    enum api_error error = check_txn(&txn, arena);
    ASSERT(!txn.passed_over || error != API_OK);
    if (error != API_OK)
        return;
    Etcdserverpb__TxnRequest *other =
        etcdserverpb__txn_request__unpack(NULL, message.len, message.data);
    ASSERT(other != NULL);
    ASSERT(other->n_compare == txn.compares_count && other->n_success == txn.success.count);
    ASSERT(other->n_failure == txn.failure.count);
    etcdserverpb__txn_request__free_unpacked(other, NULL);
}

static void fuzz_internal(struct slice message, struct arena *arena)
{
    struct internal_request request;
    if (internal_request_decode(message, &request) != ST_OK)
        return;
    struct kv_compact compact;
    struct member_row row;
    if (request.is_legacy)
        (void)!member_json_decode(request.value, arena, &row);
    else if (request.field == INTERNAL_TXN)
        fuzz_txn(request.body, arena, UINT32_MAX);
    else if (request.field == INTERNAL_PUT)
        fuzz_put(request.body);
    else
        (void)!kv_compact_decode(request.body, &compact);
}

static void fuzz_membership(struct slice message, struct arena *arena)
{
    struct raft_conf_state conf_state;
    struct member_change change;
    struct member_row row;
    (void)!conf_state_decode(message, &conf_state);
    (void)!member_json_decode(message, arena, &row);
    if (member_change_decode(message, &change) == ST_OK)
        (void)!member_json_decode(change.context, arena, &row);
}

/* What other members say over HTTP, and what the operator wrote. */
static void fuzz_texts(struct slice text, struct arena *arena)
{
    struct members *members = NULL;
    if (members_json_decode(text, arena, &members) == ST_OK) {
        struct buf json;
        buf_init(&json, 1U << 20);
        struct members *again = NULL;
        enum status st = members_json_encode(members, &json);
        if (st == ST_OK)
            st = members_json_decode(buf_slice(&json), arena, &again);
        ASSERT(st != ST_INVALID && (st != ST_OK || members_count(again) == members_count(members)));
        members_unref(again);
        buf_deinit(&json);
    }
    members_unref(members);
    struct hash_answer answer = {0};
    int64_t revision;
    hash_answer_decode(200, text, arena, &answer);
    (void)!hash_request_decode(text, arena, &revision);
    struct version version;
    (void)!version_parse(text, &version);
    struct initial_cluster cluster;
    const char *why = NULL;
    enum status st = initial_cluster_parse(text, SLICE("token"), arena, &cluster, &why);
    ASSERT(st == ST_OK ? cluster.count > 0 : why != NULL);
    if (st == ST_OK)
        (void)initial_cluster_check(&cluster, SLICE("a"), NULL, 0, true, NULL, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice message = slice_make(data + 1, size - 1);
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    switch (data[0] % 7) {
    case 0:
        fuzz_put(message);
        break;
    case 1:
        fuzz_range(message);
        break;
    case 2:
        fuzz_delete(message);
        break;
    case 3:
        fuzz_txn(message, &arena, 128);
        break;
    case 4:
        fuzz_internal(message, &arena);
        break;
    case 5:
        fuzz_membership(message, &arena);
        break;
    default:
        fuzz_texts(message, &arena);
        break;
    }
    arena_deinit(&arena);
    return 0;
}
