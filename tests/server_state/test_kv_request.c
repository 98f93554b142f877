/* Decoding of requests and of the entry they travel in, against protobuf-c where it has a say. */
#include "server/state/kv_request.h"

#include "base/bytes.h"
#include "proto/internal.pb-c.h"
#include "server/state/check.h"
#include "server/state/limits.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ARENA_BYTES (64U << 20)

static int setup(void **state)
{
    static struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(*state);
    return 0;
}

static void assert_slice(struct slice got, struct slice wanted)
{
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.data, wanted.data, wanted.len);
}

static struct slice pack(struct arena *arena, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(arena, size);
    protobuf_c_message_pack(message, bytes);
    return slice_make(bytes, size);
}

static ProtobufCBinaryData binary(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static void test_range_decodes_every_field(void **state)
{
    Etcdserverpb__RangeRequest message = ETCDSERVERPB__RANGE_REQUEST__INIT;
    message.key = binary("a");
    message.range_end = binary("b");
    message.limit = 7;
    message.revision = -3;
    message.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    message.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE;
    message.serializable = message.keys_only = message.count_only = 1;
    message.min_mod_revision = 1;
    message.max_mod_revision = 2;
    message.min_create_revision = 3;
    message.max_create_revision = INT64_MAX;
    struct kv_range range;
    assert_int_equal(kv_range_decode(pack(*state, &message.base), &range), ST_OK);
    assert_slice(range.key, SLICE("a"));
    assert_slice(range.range_end, SLICE("b"));
    assert_int_equal(range.limit, 7);
    assert_int_equal(range.revision, -3);
    assert_int_equal(range.sort_order, SORT_DESCEND);
    assert_int_equal(range.sort_target, SORT_BY_VALUE);
    assert_true(range.serializable && range.keys_only && range.count_only);
    assert_int_equal(range.min_mod_revision, 1);
    assert_int_equal(range.max_mod_revision, 2);
    assert_int_equal(range.min_create_revision, 3);
    assert_int_equal(range.max_create_revision, INT64_MAX);
}

static void test_put_decodes_every_field(void **state)
{
    Etcdserverpb__PutRequest message = ETCDSERVERPB__PUT_REQUEST__INIT;
    message.key = binary("key");
    message.value = binary("value");
    message.lease = -1;
    message.prev_kv = message.ignore_value = message.ignore_lease = 1;
    struct slice bytes = pack(*state, &message.base);
    struct kv_put put;
    assert_int_equal(kv_put_decode(bytes, &put), ST_OK);
    assert_slice(put.key, SLICE("key"));
    assert_slice(put.value, SLICE("value"));
    assert_int_equal(put.lease, -1);
    assert_true(put.prev_kv && put.ignore_value && put.ignore_lease);
    /* The test's own encoder agrees, so that the other tests may use it. */
    assert_slice(encode_put(*state, &put), bytes);
}

static void test_put_decode_refuses_every_truncation_but_whole_fields(void **state)
{
    struct kv_put sent = {.key = SLICE("k"), .value = SLICE("a longer value"), .lease = 300};
    struct slice bytes = encode_put(*state, &sent);
    size_t accepted = 0;
    for (size_t cut = 0; cut < bytes.len; cut++) {
        struct kv_put put;
        accepted += kv_put_decode(slice_make(bytes.data, cut), &put) == ST_OK;
    }
    assert_int_equal(accepted, 3); /* nothing, the key, key and value */
}

static void assert_put_invalid(const char *bytes, size_t size)
{
    struct kv_put put;
    assert_int_equal(kv_put_decode(slice_make(bytes, size), &put), ST_INVALID);
}
#define ASSERT_PUT_INVALID(literal) assert_put_invalid(literal, sizeof(literal) - 1)

static void test_put_decode_refuses_what_etcd_refuses(void **state)
{
    (void)state;
    ASSERT_PUT_INVALID("\x08\x01");   /* key as a number */
    ASSERT_PUT_INVALID("\x1a\x00");   /* lease as bytes */
    ASSERT_PUT_INVALID("\x00\x01");   /* field 0 */
    ASSERT_PUT_INVALID("\x0c");       /* end of a group */
    ASSERT_PUT_INVALID("\x7b\x7c");   /* a group, which nobody sends */
    ASSERT_PUT_INVALID("\x0e\x01");   /* wire type 6 */
    ASSERT_PUT_INVALID("\x0a\x05xy"); /* past the end */
    ASSERT_PUT_INVALID("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");     /* a negative length */
    ASSERT_PUT_INVALID("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"); /* 11 bytes */
}

static void test_put_decode_passes_over_unknown_fields(void **state)
{
    (void)state;
    struct kv_put put;
    static const char bytes[] = "\x0a\x01k\x78\x05\x7a\x02xx\x7d"
                                "abcd\x79"
                                "abcdefgh\x12\x01v";
    assert_int_equal(kv_put_decode(slice_make(bytes, sizeof(bytes) - 1), &put), ST_OK);
    assert_slice(put.key, SLICE("k"));
    assert_slice(put.value, SLICE("v"));
}

/* ---- txn ---- */

static void test_txn_decodes_what_was_encoded(void **state)
{
    struct arena *arena = *state;
    struct kv_compare compares[] = {
        {.result = COMPARE_LESS,
         .target = COMPARE_MOD,
         .key = SLICE("a"),
         .given = COMPARE_MOD,
         .number = 9},
        {.target = COMPARE_VALUE,
         .key = SLICE("b"),
         .range_end = SLICE("c"),
         .given = COMPARE_VALUE,
         .value = SLICE("")},
        {.target = COMPARE_LEASE, .key = SLICE("d"), .given = -1},
    };
    struct kv_txn inner = {.failure = OPS(arena, op_delete(arena, "x", "y"))};
    struct kv_txn sent = {.compares = compares,
                          .compares_count = 3,
                          .success = OPS(arena, op_put(arena, "k", "v"), op_get(arena, "k")),
                          .failure = OPS(arena, op_txn(arena, inner))};
    struct kv_txn txn;
    assert_int_equal(kv_txn_decode(encode_txn(arena, &sent), 128, arena, &txn), ST_OK);
    assert_false(txn.over_limit);
    assert_int_equal(txn.compares_count, 3);
    assert_int_equal(txn.compares[0].result, COMPARE_LESS);
    assert_int_equal(txn.compares[0].given, COMPARE_MOD);
    assert_int_equal(txn.compares[0].number, 9);
    assert_int_equal(txn.compares[1].given, COMPARE_VALUE);
    assert_slice(txn.compares[1].range_end, SLICE("c"));
    assert_int_equal(txn.compares[2].given, -1);
    assert_int_equal(txn.success.count, 2);
    assert_slice(txn.success.items[0].put->value, SLICE("v"));
    assert_int_equal(txn.success.items[1].kind, KV_OP_RANGE);
    assert_int_equal(txn.failure.items[0].txn->failure.items[0].kind, KV_OP_DELETE);
    assert_false(kv_txn_is_read_only(&txn));
}

static void test_txn_encoding_is_what_protobuf_c_reads(void **state)
{
    struct arena *arena = *state;
    struct kv_compare compare = {.result = COMPARE_GREATER,
                                 .target = COMPARE_CREATE,
                                 .key = SLICE("a"),
                                 .range_end = SLICE("b"),
                                 .given = COMPARE_CREATE,
                                 .number = 0};
    struct kv_txn sent = {
        .compares = &compare, .compares_count = 1, .success = OPS(arena, op_put(arena, "k", "v"))};
    struct slice bytes = encode_txn(arena, &sent);
    Etcdserverpb__TxnRequest *message =
        etcdserverpb__txn_request__unpack(NULL, bytes.len, bytes.data);
    assert_non_null(message);
    assert_int_equal(message->compare[0]->target_union_case,
                     ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION);
    assert_int_equal(message->compare[0]->range_end.len, 1);
    assert_int_equal(message->success[0]->request_case,
                     ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT);
    etcdserverpb__txn_request__free_unpacked(message, NULL);
}

static void test_request_op_takes_the_last_of_its_oneof(void **state)
{
    /* A RequestOp with a put of "a" and then a range of "b". */
    static const char bytes[] = "\x12\x0a\x12\x03\x0a\x01"
                                "a"
                                "\x0a\x03\x0a\x01"
                                "b";
    struct kv_txn txn;
    assert_int_equal(kv_txn_decode(slice_make(bytes, sizeof(bytes) - 1), 128, *state, &txn), ST_OK);
    assert_int_equal(txn.success.count, 1);
    assert_int_equal(txn.success.items[0].kind, KV_OP_RANGE);
    assert_slice(txn.success.items[0].range->key, SLICE("b"));
}

static bool innermost_is_over_limit(const struct kv_txn *txn)
{
    while (txn->success.count > 0 && txn->success.items[0].kind == KV_OP_TXN)
        txn = txn->success.items[0].txn;
    return txn->over_limit;
}

static void test_txn_decode_survives_any_nesting(void **state)
{
    static const uint32_t depths[] = {1, 127, 128, 129, TXN_DEPTH_MAX, 10000, 100000};
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        struct kv_txn txn;
        struct slice bytes = encode_nested(*state, depths[i]);
        assert_int_equal(kv_txn_decode(bytes, 128, *state, &txn), ST_OK);
        assert_int_equal(txn.passed_over, depths[i] > 128);
        assert_int_equal(innermost_is_over_limit(&txn), depths[i] > 128);
        assert_int_equal(kv_txn_decode(bytes, UINT32_MAX, *state, &txn), ST_OK);
        assert_int_equal(txn.passed_over, depths[i] >= TXN_DEPTH_MAX);
        assert_int_equal(innermost_is_over_limit(&txn), depths[i] >= TXN_DEPTH_MAX);
        arena_reset(*state);
    }
}

static void test_txn_decode_takes_no_memory_for_what_it_refuses(void **state)
{
    struct arena *arena = *state;
    size_t count = 700000; /* empty compares in 1.4 MB */
    uint8_t *bytes = arena_alloc(arena, 2 * count);
    for (size_t i = 0; i < count; i++)
        bytes[2 * i] = 0x0a;
    struct arena small;
    arena_init(&small, 8192);
    struct kv_txn txn;
    assert_int_equal(kv_txn_decode(slice_make(bytes, 2 * count), 128, &small, &txn), ST_OK);
    assert_true(txn.over_limit);
    assert_int_equal(kv_txn_decode(slice_make(bytes, 2 * count), UINT32_MAX, &small, &txn),
                     ST_TOO_BIG);
    arena_deinit(&small);
}

/* Of an operation given twice the last one counts, but every member decodes both: what the budget
 * leaves undecoded must not get through behind one that is fine. */
static void test_txn_keeps_in_mind_what_it_passed_over(void **state)
{
    const struct slice bytes = SLICE("\x12\x08"         /* success: an operation that is */
                                     "\x22\x04"         /* a txn */
                                     "\x12\x02\xff\xff" /* with what is no operation, and */
                                     "\x22\x00");       /* an empty txn */
    struct kv_txn txn;
    assert_int_equal(kv_txn_decode(bytes, 2, *state, &txn), ST_INVALID);
    assert_int_equal(kv_txn_decode(bytes, 1, *state, &txn), ST_OK);
    assert_true(txn.passed_over);
    assert_false(innermost_is_over_limit(&txn)); /* the one that counts is fine */
    assert_int_equal(check_txn(&txn, *state), API_TOO_MANY_OPS);
}

static void test_txn_is_read_only_and_serializable_by_its_ranges(void **state)
{
    struct arena *arena = *state;
    struct kv_txn txn = {0};
    assert_true(kv_txn_is_read_only(&txn) && kv_txn_is_serializable(&txn));
    txn.failure = OPS(arena, op_get(arena, "a"));
    assert_true(kv_txn_is_read_only(&txn));
    assert_false(kv_txn_is_serializable(&txn));
    txn.failure.items[0].range->serializable = true;
    assert_true(kv_txn_is_serializable(&txn));
    struct kv_txn inner = {.success = OPS(arena, op_get(arena, "a"))};
    txn.success = OPS(arena, op_txn(arena, inner));
    assert_false(kv_txn_is_read_only(&txn)); /* for etcd a nested txn is a write */
}

/* ---- the entry ---- */

static void test_internal_request_is_etcds_bytes(void **state)
{
    struct arena *arena = *state;
    struct kv_put put = {.key = SLICE("k"), .value = SLICE("v")};
    struct slice body = encode_put(arena, &put);
    static const uint64_t ids[] = {1, 300, UINT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct raft_payload *payload = internal_request_payload(INTERNAL_PUT, body, ids[i]);
        assert_non_null(payload);
        Etcdserverpb__InternalRaftRequest message = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
        Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
        Etcdserverpb__PutRequest put_message = ETCDSERVERPB__PUT_REQUEST__INIT;
        header.id = ids[i];
        put_message.key = binary("k");
        put_message.value = binary("v");
        message.header = &header;
        message.put = &put_message;
        assert_slice(raft_payload_slice(payload), pack(arena, &message.base));
        struct internal_request request;
        assert_int_equal(internal_request_decode(raft_payload_slice(payload), &request), ST_OK);
        assert_int_equal(request.id, ids[i]);
        assert_int_equal(request.field, INTERNAL_PUT);
        assert_slice(request.body, body);
        assert_false(request.is_legacy);
        raft_payload_unref(payload);
    }
}

static void test_internal_request_knows_a_legacy_request(void **state)
{
    Etcdserverpb__Request message = ETCDSERVERPB__REQUEST__INIT;
    char method[] = "PUT", path[] = "/0/version", value[] = "3.5.0";
    message.has_id = 1;
    message.id = 77;
    message.method = method;
    message.path = path;
    message.val = value;
    message.has_stream = 1; /* field 16: a number where InternalRaftRequest would have a message */
    struct internal_request request;
    assert_int_equal(internal_request_decode(pack(*state, &message.base), &request), ST_OK);
    assert_true(request.is_legacy);
    assert_int_equal(request.id, 77);
    assert_slice(request.path, SLICE("/0/version"));
    assert_slice(request.value, SLICE("3.5.0"));
}

static void test_internal_request_refuses_two_requests_in_one(void **state)
{
    (void)state;
    static const char bytes[] = "\x22\x00\x2a\x00";
    struct internal_request request;
    assert_int_equal(internal_request_decode(slice_make(bytes, 4), &request), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_range_decodes_every_field, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_decodes_every_field, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_decode_refuses_every_truncation_but_whole_fields,
                                        setup, teardown),
        cmocka_unit_test(test_put_decode_refuses_what_etcd_refuses),
        cmocka_unit_test(test_put_decode_passes_over_unknown_fields),
        cmocka_unit_test_setup_teardown(test_txn_decodes_what_was_encoded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_txn_keeps_in_mind_what_it_passed_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_txn_encoding_is_what_protobuf_c_reads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_request_op_takes_the_last_of_its_oneof, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_txn_decode_survives_any_nesting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_txn_decode_takes_no_memory_for_what_it_refuses, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_txn_is_read_only_and_serializable_by_its_ranges, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_internal_request_is_etcds_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_internal_request_knows_a_legacy_request, setup,
                                        teardown),
        cmocka_unit_test(test_internal_request_refuses_two_requests_in_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
