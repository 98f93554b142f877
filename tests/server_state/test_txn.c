/* Transactions: etcd's rules, one by one. */
#include "server/state/check.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct harness harness;
    harness_init(&harness);
    harness_set(&harness, "a", "1"); /* 2 */
    harness_set(&harness, "b", "2"); /* 3 */
    harness_set(&harness, "b", "3"); /* 4 */
    *state = &harness;
    return 0;
}

static int teardown(void **state)
{
    harness_deinit(*state);
    return 0;
}

/* ---- compares ---- */

static bool holds(struct harness *h, const struct kv_compare *compare)
{
    struct kv_compare copy = *compare;
    struct kv_txn txn = {.compares = &copy, .compares_count = 1};
    bool applied = harness_txn(h, &txn, NULL)->succeeded;
    assert_int_equal(harness_read_txn(h, &txn, NULL)->succeeded, applied);
    return applied;
}

static void test_compare_measures_what_is_stored_against_what_is_given(void **state)
{
    static const struct {
        int32_t target;
        int64_t stored; /* of key b */
    } targets[] = {{COMPARE_VERSION, 2}, {COMPARE_CREATE, 3}, {COMPARE_MOD, 4}, {COMPARE_LEASE, 0}};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        for (int64_t given = targets[i].stored - 1; given <= targets[i].stored + 1; given++) {
            struct kv_compare compare = {.target = targets[i].target,
                                         .key = SLICE("b"),
                                         .given = targets[i].target,
                                         .number = given};
            int64_t stored = targets[i].stored;
            compare.result = COMPARE_EQUAL;
            assert_int_equal(holds(*state, &compare), stored == given);
            compare.result = COMPARE_GREATER;
            assert_int_equal(holds(*state, &compare), stored > given);
            compare.result = COMPARE_LESS;
            assert_int_equal(holds(*state, &compare), stored < given);
            compare.result = COMPARE_NOT_EQUAL;
            assert_int_equal(holds(*state, &compare), stored != given);
        }
    }
}

static void test_compare_of_values_is_bytewise(void **state)
{
    struct kv_compare compare = {
        .target = COMPARE_VALUE, .key = SLICE("b"), .given = COMPARE_VALUE, .value = SLICE("3")};
    assert_true(holds(*state, &compare));
    compare.value = SLICE("30");
    compare.result = COMPARE_LESS;
    assert_true(holds(*state, &compare));
    compare.value = SLICE_EMPTY;
    compare.result = COMPARE_GREATER;
    assert_true(holds(*state, &compare));
}

static void test_compare_of_an_absent_key(void **state)
{
    struct kv_compare compare = {.target = COMPARE_CREATE, .key = SLICE("zz"), .given = -1};
    assert_true(holds(*state, &compare)); /* zero, and so is what was not given */
    compare.given = COMPARE_CREATE;
    compare.number = 5;
    compare.result = COMPARE_LESS;
    assert_true(holds(*state, &compare));
    compare.target = compare.given = COMPARE_VALUE;
    for (int32_t result = COMPARE_EQUAL; result <= COMPARE_NOT_EQUAL + 1; result++) {
        compare.result = result;
        assert_false(holds(*state, &compare)); /* not even "not equal", nor an unknown one */
    }
}

static void test_compare_of_what_is_unknown(void **state)
{
    struct kv_compare compare = {.key = SLICE("b"),
                                 .target = COMPARE_VERSION,
                                 .result = 99,
                                 .given = COMPARE_VERSION,
                                 .number = 77};
    assert_true(holds(*state, &compare));
    compare.target = 99; /* counts as equal */
    compare.result = COMPARE_EQUAL;
    assert_true(holds(*state, &compare));
    compare.result = COMPARE_NOT_EQUAL;
    assert_false(holds(*state, &compare));
    compare.result = COMPARE_GREATER;
    assert_false(holds(*state, &compare));
    /* An operand of another target is as good as none: 2 > 0. */
    compare.target = COMPARE_VERSION;
    compare.given = COMPARE_MOD;
    assert_true(holds(*state, &compare));
}

static void test_compare_over_a_range_holds_for_every_key(void **state)
{
    struct kv_compare compare = {.target = COMPARE_VERSION,
                                 .result = COMPARE_GREATER,
                                 .key = SLICE("a"),
                                 .range_end = SLICE("c"),
                                 .given = COMPARE_VERSION,
                                 .number = 0};
    assert_true(holds(*state, &compare));
    compare.number = 1;
    assert_false(holds(*state, &compare)); /* a has version 1 */
    compare.key = SLICE("b");
    compare.range_end = SLICE("\0");
    assert_true(holds(*state, &compare));
    compare.key = SLICE("c"); /* reversed: no key, so zero */
    compare.range_end = SLICE("a");
    assert_false(holds(*state, &compare));
    compare.result = COMPARE_EQUAL;
    compare.number = 0;
    assert_true(holds(*state, &compare));
}

/* ---- execution ---- */

static void test_txn_sees_its_own_writes_as_one_revision(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_get(arena, "n"), op_put(arena, "n", "new"),
                                        op_get(arena, "n"), op_delete(arena, "a", "c"),
                                        op_get(arena, "a"))};
    const Etcdserverpb__TxnResponse *response = harness_txn(h, &txn, NULL);
    assert_true(response->succeeded);
    assert_int_equal(response->header->cluster_id, HARNESS_CLUSTER_ID);
    assert_int_equal(response->header->raft_term, 2);
    assert_int_equal(response->header->revision, 5);
    assert_int_equal(response->n_responses, 5);
    const Etcdserverpb__RangeResponse *before = response->responses[0]->response_range;
    assert_int_equal(before->header->revision, 4); /* nothing was written yet */
    assert_int_equal(before->header->cluster_id, 0);
    assert_int_equal(before->header->raft_term, 0);
    assert_int_equal(before->n_kvs, 0);
    assert_int_equal(response->responses[1]->response_put->header->revision, 5);
    const Etcdserverpb__RangeResponse *after = response->responses[2]->response_range;
    assert_int_equal(after->header->revision, 5);
    assert_int_equal(after->kvs[0]->mod_revision, 5);
    assert_int_equal(response->responses[3]->response_delete_range->deleted, 2);
    assert_int_equal(response->responses[3]->response_delete_range->header->revision, 5);
    assert_int_equal(response->responses[4]->response_range->n_kvs, 0);
    assert_int_equal(harness_revision(h), 5);
}

static void test_txn_that_changes_nothing_takes_no_revision(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_delete(arena, "x", ""), op_get(arena, "a"))};
    const Etcdserverpb__TxnResponse *response = harness_txn(h, &txn, NULL);
    assert_int_equal(response->header->revision, 4);
    assert_int_equal(response->responses[0]->response_delete_range->header->revision, 4);
    assert_int_equal(response->responses[1]->response_range->header->revision, 4);
    struct kv_txn empty = {0};
    response = harness_txn(h, &empty, NULL);
    assert_true(response->succeeded);
    assert_int_equal(response->n_responses, 0);
    assert_int_equal(response->header->revision, 4);
}

static void test_txn_nested_compares_look_at_the_state_before(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_compare absent = {.target = COMPARE_VERSION, .key = SLICE("n"), .given = -1};
    struct kv_txn inner = {.compares = &absent,
                           .compares_count = 1,
                           .success = OPS(arena, op_put(arena, "then", "")),
                           .failure = OPS(arena, op_put(arena, "else", ""))};
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "n", ""), op_txn(arena, inner))};
    const Etcdserverpb__TxnResponse *response = harness_txn(h, &txn, NULL);
    const Etcdserverpb__TxnResponse *nested = response->responses[1]->response_txn;
    assert_true(nested->succeeded); /* although n had been put by then */
    assert_non_null(nested->header);
    assert_int_equal(protobuf_c_message_get_packed_size(&nested->header->base), 0);
    assert_int_equal(nested->responses[0]->response_put->header->revision, 5);
    assert_non_null(harness_get(h, "then"));
    assert_null(harness_get(h, "else"));
}

static void test_txn_takes_the_failure_branch(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_compare absent = {.target = COMPARE_VERSION, .key = SLICE("a"), .given = -1};
    struct kv_txn txn = {.compares = &absent,
                         .compares_count = 1,
                         .success = OPS(arena, op_put(arena, "a", "x")),
                         .failure = OPS(arena, op_put(arena, "b", "y"))};
    assert_false(harness_txn(h, &txn, NULL)->succeeded);
    assert_string_equal(harness_get(h, "a"), "1");
    assert_string_equal(harness_get(h, "b"), "y");
}

/* ---- prechecks ---- */

static enum api_error refused(struct harness *h, const struct kv_txn *txn)
{
    int64_t before = harness_revision(h);
    enum api_error error;
    harness_txn(h, txn, &error);
    assert_int_equal(harness_revision(h) > before, error == API_OK);
    return error;
}

static void test_txn_checks_puts_before_it_writes(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "n", "x"), op_put(arena, "m", ""))};
    struct kv_put *put = txn.success.items[1].put;
    put->ignore_value = true;
    assert_int_equal(refused(h, &txn), API_KEY_NOT_FOUND);
    put->ignore_value = false;
    put->lease = 9;
    assert_int_equal(refused(h, &txn), API_LEASE_NOT_FOUND);
    put->ignore_value = true; /* in a txn the missing key comes first */
    assert_int_equal(refused(h, &txn), API_KEY_NOT_FOUND);
    /* What an operation before creates does not count. */
    struct kv_txn inner = {.success = OPS(arena, op_put(arena, "m", ""))};
    put->lease = 0;
    txn.success = OPS(arena, op_txn(arena, inner), txn.success.items[1]);
    assert_int_equal(refused(h, &txn), API_KEY_NOT_FOUND);
}

static void test_txn_does_not_keep_what_an_open_delete_took(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_delete_from(arena, "b"), op_put(arena, "b", ""))};
    txn.success.items[1].put->ignore_value = true;
    assert_int_equal(check_txn(&txn, arena), API_OK); /* etcd lets it pass, and dies of it */
    assert_int_equal(refused(h, &txn), API_KEY_NOT_FOUND);
    txn.success.items[0].del->key = SLICE("c");
    assert_int_equal(check_txn(&txn, arena), API_OK);
    harness_set(h, "d", "");
    assert_int_equal(refused(h, &txn), API_OK);
    assert_string_equal(harness_get(h, "b"), "3");
    struct kv_op put_first[] = {txn.success.items[1], op_delete_from(arena, "a")};
    txn.success = ops_of(arena, put_first, 2);
    assert_int_equal(refused(h, &txn), API_OK);
    assert_null(harness_get(h, "b"));
}

static enum api_error range_error(struct harness *h, int64_t revision)
{
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_get(arena, "a"))};
    txn.success.items[0].range->revision = revision;
    enum api_error read_error, write_error;
    harness_read_txn(h, &txn, &read_error);
    txn.success = OPS(arena, op_delete(arena, "nothing", ""), txn.success.items[0]);
    harness_txn(h, &txn, &write_error);
    assert_int_equal(read_error, write_error);
    return read_error;
}

static void test_txn_checks_revisions_of_ranges(void **state)
{
    struct harness *h = *state;
    assert_int_equal(range_error(h, 0), API_OK);
    assert_int_equal(range_error(h, 4), API_OK);
    assert_int_equal(range_error(h, 5), API_FUTURE_REVISION);
    assert_int_equal(range_error(h, -1), API_OK); /* nothing was ever compacted */
    assert_int_equal(range_error(h, -2), API_COMPACTED);
    harness_compact(h, 3, NULL);
    assert_int_equal(range_error(h, -1), API_COMPACTED);
    assert_int_equal(range_error(h, 2), API_COMPACTED);
    assert_int_equal(range_error(h, 3), API_OK);
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "n", ""), op_get(arena, "n"))};
    txn.success.items[1].range->revision = 5; /* what the put will have, but not yet */
    assert_int_equal(refused(h, &txn), API_FUTURE_REVISION);
}

static void test_txn_checks_only_the_chosen_branch(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "n", "")),
                         .failure = OPS(arena, op_put(arena, "m", ""), op_get(arena, "a"))};
    txn.failure.items[0].put->ignore_value = true;
    txn.failure.items[1].range->revision = 999;
    assert_int_equal(refused(h, &txn), API_OK);
}

static void test_txn_whose_answer_does_not_fit_is_applied_all_the_same(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    char value[4096];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    harness_set(h, "big", value);
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "n", "x"), op_get(arena, "big"),
                                        op_delete(arena, "a", "c"))};
    txn.success.items[2].del->prev_kv = true;
    struct raft_payload *payload =
        internal_request_payload(INTERNAL_TXN, encode_txn(arena, &txn), 1);
    struct arena tiny;
    arena_init(&tiny, 4096);
    struct machine_result result = harness_apply_data(h, raft_payload_slice(payload), &tiny);
    assert_int_equal(result.error, API_RESPONSE_TOO_LARGE);
    arena_deinit(&tiny);
    raft_payload_unref(payload);
    assert_string_equal(harness_get(h, "n"), "x");
    assert_null(harness_get(h, "a"));
}

static void test_txn_read_only_answers_at_one_instant(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    struct kv_txn txn = {.success = OPS(arena, op_get(arena, "a"), op_get(arena, "b"))};
    txn.success.items[0].range->revision = 2;
    const Etcdserverpb__TxnResponse *response = harness_read_txn(h, &txn, NULL);
    assert_int_equal(response->header->revision, 4);
    assert_int_equal(response->header->member_id, HARNESS_MEMBER_ID);
    assert_int_equal(response->responses[0]->response_range->header->revision, 4);
    assert_int_equal(response->responses[0]->response_range->header->member_id, 0);
    assert_int_equal(response->responses[1]->response_range->kvs[0]->version, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_compare_measures_what_is_stored_against_what_is_given),
        TEST(test_compare_of_values_is_bytewise),
        TEST(test_compare_of_an_absent_key),
        TEST(test_compare_of_what_is_unknown),
        TEST(test_compare_over_a_range_holds_for_every_key),
        TEST(test_txn_sees_its_own_writes_as_one_revision),
        TEST(test_txn_that_changes_nothing_takes_no_revision),
        TEST(test_txn_nested_compares_look_at_the_state_before),
        TEST(test_txn_takes_the_failure_branch),
        TEST(test_txn_checks_puts_before_it_writes),
        TEST(test_txn_does_not_keep_what_an_open_delete_took),
        TEST(test_txn_checks_revisions_of_ranges),
        TEST(test_txn_checks_only_the_chosen_branch),
        TEST(test_txn_whose_answer_does_not_fit_is_applied_all_the_same),
        TEST(test_txn_read_only_answers_at_one_instant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
