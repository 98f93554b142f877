/* The rules a request must meet before it is proposed. */
#include "server/state/check.h"

#include "base/rng.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct arena arena;
    arena_init(&arena, 64U << 20);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(*state);
    return 0;
}

static void test_range_needs_a_key_and_a_known_target(void **state)
{
    (void)state;
    struct kv_range range = {0};
    assert_int_equal(check_range(&range), API_KEY_EMPTY);
    range.key = SLICE("a");
    range.sort_order = 77; /* harmless in etcd */
    assert_int_equal(check_range(&range), API_OK);
    range.sort_target = 5;
    assert_int_equal(check_range(&range), API_INVALID_SORT_OPTION);
    range.sort_target = -1;
    assert_int_equal(check_range(&range), API_INVALID_SORT_OPTION);
}

static void test_put_is_checked_in_etcds_order(void **state)
{
    (void)state;
    struct kv_put put = {
        .value = SLICE("v"), .lease = 5, .ignore_value = true, .ignore_lease = true};
    assert_int_equal(check_put(&put), API_KEY_EMPTY);
    put.key = SLICE("k");
    assert_int_equal(check_put(&put), API_VALUE_PROVIDED);
    put.value = SLICE_EMPTY;
    assert_int_equal(check_put(&put), API_LEASE_PROVIDED);
    put.lease = 0;
    assert_int_equal(check_put(&put), API_OK);
}

static void test_delete_needs_a_key(void **state)
{
    (void)state;
    struct kv_delete del = {.range_end = SLICE("z")};
    assert_int_equal(check_delete(&del), API_KEY_EMPTY);
}

/* ---- txn: shape ---- */

static enum api_error check_encoded(struct arena *arena, const struct kv_txn *sent, uint32_t max)
{
    struct kv_txn txn;
    assert_int_equal(kv_txn_decode(encode_txn(arena, sent), max, arena, &txn), ST_OK);
    return check_txn(&txn, arena);
}

static void test_txn_counts_the_longest_of_its_lists(void **state)
{
    struct arena *arena = *state;
    struct kv_txn txn = {.success = OPS(arena, op_get(arena, "a"), op_get(arena, "b")),
                         .failure = OPS(arena, op_get(arena, "a"))};
    assert_int_equal(check_encoded(arena, &txn, 2), API_OK);
    assert_int_equal(check_encoded(arena, &txn, 1), API_TOO_MANY_OPS);
    struct kv_compare compares[3] = {{.key = SLICE("a")}, {.key = SLICE("a")}, {.key = SLICE("a")}};
    txn.compares = compares;
    txn.compares_count = 3;
    assert_int_equal(check_encoded(arena, &txn, 2), API_TOO_MANY_OPS);
}

static void test_txn_within_a_txn_has_the_rest_of_the_budget(void **state)
{
    struct arena *arena = *state;
    struct kv_txn inner = {.success = OPS(arena, op_get(arena, "a"), op_get(arena, "b"))};
    struct kv_txn outer = {.success = OPS(arena, op_txn(arena, inner))};
    assert_int_equal(check_encoded(arena, &outer, 3), API_OK);
    assert_int_equal(check_encoded(arena, &outer, 2), API_TOO_MANY_OPS);
    struct kv_txn nothing = {0};
    outer.success = OPS(arena, op_txn(arena, nothing));
    assert_int_equal(check_encoded(arena, &outer, 1), API_OK);
}

static void test_txn_is_checked_in_etcds_order(void **state)
{
    struct arena *arena = *state;
    struct kv_compare compare = {0};
    struct kv_txn inner = {.success = OPS(arena, op_get(arena, ""))};
    struct kv_op none = {0};
    struct kv_txn txn = {.compares = &compare,
                         .compares_count = 1,
                         .success =
                             OPS(arena, none, op_put(arena, "a", ""), op_put(arena, "a", "")),
                         .failure = OPS(arena, op_txn(arena, inner))};
    assert_int_equal(check_encoded(arena, &txn, 2), API_TOO_MANY_OPS);
    assert_int_equal(check_encoded(arena, &txn, 128), API_KEY_EMPTY); /* the compare's */
    compare.key = SLICE("k");
    assert_int_equal(check_encoded(arena, &txn, 128), API_KEY_NOT_FOUND); /* the empty operation */
    assert_int_equal(check_encoded(arena, &txn, 3), API_KEY_NOT_FOUND);   /* before it is counted */
    txn.success.items[0] = op_get(arena, "x");
    assert_int_equal(check_encoded(arena, &txn, 3), API_TOO_MANY_OPS);
    assert_int_equal(check_encoded(arena, &txn, 128), API_KEY_EMPTY); /* the nested range's */
    txn.failure.count = 0;
    assert_int_equal(check_encoded(arena, &txn, 128), API_DUPLICATE_KEY);
    txn.success.items[2] = op_put(arena, "b", "");
    assert_int_equal(check_encoded(arena, &txn, 128), API_OK);
}

static void test_txn_nested_ten_thousand_deep_is_too_many_operations(void **state)
{
    struct kv_txn txn;
    struct slice bytes = encode_nested(*state, 10000);
    assert_int_equal(kv_txn_decode(bytes, 128, *state, &txn), ST_OK);
    assert_int_equal(check_txn(&txn, *state), API_TOO_MANY_OPS);
}

/* ---- txn: duplicates ---- */

static enum api_error check_branch(struct arena *arena, struct kv_ops ops)
{
    struct kv_txn txn = {.success = ops};
    enum api_error error = check_txn(&txn, arena);
    struct kv_txn turned = {.failure = ops};
    assert_int_equal(check_txn(&turned, arena), error);
    return error;
}

#define ASSERT_DUPLICATE(arena, ...) \
    assert_int_equal(check_branch(arena, OPS(arena, __VA_ARGS__)), API_DUPLICATE_KEY)
#define ASSERT_DISJOINT(arena, ...) \
    assert_int_equal(check_branch(arena, OPS(arena, __VA_ARGS__)), API_OK)

static void test_overlap_of_one_list(void **state)
{
    struct arena *a = *state;
    ASSERT_DUPLICATE(a, op_put(a, "k", ""), op_put(a, "k", ""));
    ASSERT_DISJOINT(a, op_put(a, "k", ""), op_put(a, "l", ""));
    ASSERT_DUPLICATE(a, op_put(a, "k", ""), op_delete(a, "k", ""));
    ASSERT_DISJOINT(a, op_put(a, "k", ""), op_delete(a, "j", ""));
    ASSERT_DUPLICATE(a, op_put(a, "k", ""), op_delete(a, "a", "z"));
    ASSERT_DUPLICATE(a, op_put(a, "a", ""), op_delete(a, "a", "z"));
    ASSERT_DISJOINT(a, op_put(a, "z", ""), op_delete(a, "a", "z"));
    ASSERT_DISJOINT(a, op_put(a, "k", ""), op_delete(a, "z", "a")); /* reversed */
    ASSERT_DISJOINT(a, op_delete(a, "a", "z"), op_delete(a, "b", "y"));
    ASSERT_DISJOINT(a, op_put(a, "k", ""), op_get(a, "k"), op_get(a, "k"));
    /* An open end is taken literally and so is empty. */
    ASSERT_DISJOINT(a, op_delete_from(a, "k"), op_put(a, "k", ""), op_put(a, "z", ""));
}

static void test_overlap_of_nested_txns(void **state)
{
    struct arena *a = *state;
    struct kv_txn put_k = {.success = OPS(a, op_put(a, "k", ""))};
    struct kv_txn put_k_else = {.failure = OPS(a, op_put(a, "k", ""))};
    struct kv_txn both = {.success = OPS(a, op_put(a, "k", "")),
                          .failure = OPS(a, op_put(a, "k", ""))};
    struct kv_txn delete_k = {.success = OPS(a, op_delete(a, "a", "z"))};
    struct kv_txn mixed = {.success = OPS(a, op_delete(a, "a", "z")),
                           .failure = OPS(a, op_put(a, "k", ""))};
    ASSERT_DISJOINT(a, op_txn(a, both));  /* one of the two happens */
    ASSERT_DISJOINT(a, op_txn(a, mixed)); /* likewise */
    ASSERT_DUPLICATE(a, op_txn(a, put_k), op_txn(a, put_k_else));
    ASSERT_DUPLICATE(a, op_txn(a, both), op_put(a, "k", ""));
    ASSERT_DUPLICATE(a, op_txn(a, put_k), op_delete(a, "k", ""));
    ASSERT_DUPLICATE(a, op_txn(a, delete_k), op_put(a, "k", ""));
    /* etcd looks at a nested put only against the deletes of the txns before it. */
    ASSERT_DUPLICATE(a, op_txn(a, delete_k), op_txn(a, put_k));
    ASSERT_DISJOINT(a, op_txn(a, put_k), op_txn(a, delete_k));
    /* The then-branch counts again once its else-branch is done with. */
    ASSERT_DUPLICATE(a, op_txn(a, mixed), op_txn(a, put_k));
    struct kv_txn outer = {.success = OPS(a, op_txn(a, put_k)), .failure = OPS(a, op_get(a, "x"))};
    ASSERT_DUPLICATE(a, op_txn(a, outer), op_put(a, "k", ""));
}

/* ---- txn: duplicates, against etcd's algorithm written down plainly ---- */

#define MODEL_MAX 256

struct model {
    struct slice puts[MODEL_MAX];
    struct kv_delete deletes[MODEL_MAX];
    uint32_t puts_count, deletes_count;
};

static bool model_covers(const struct kv_delete *del, struct slice key)
{
    if (del->range_end.len == 0)
        return slice_eq(del->key, key);
    return slice_cmp(del->key, key) <= 0 && slice_cmp(key, del->range_end) < 0;
}

static bool model_has_put(const struct model *model, struct slice key)
{
    for (uint32_t i = 0; i < model->puts_count; i++) {
        if (slice_eq(model->puts[i], key))
            return true;
    }
    return false;
}

static bool model_add_put(struct model *model, struct slice key)
{
    if (model_has_put(model, key))
        return false;
    for (uint32_t i = 0; i < model->deletes_count; i++) {
        if (model_covers(&model->deletes[i], key))
            return false;
    }
    model->puts[model->puts_count++] = key;
    return true;
}

static bool model_check(const struct kv_ops *ops, struct model *out);

static bool model_check_txn(const struct kv_txn *txn, struct model *out)
{
    static _Thread_local struct model pool[64];
    static _Thread_local uint32_t used;
    struct model *then = &pool[used++], *otherwise = &pool[used++];
    bool ok = model_check(&txn->success, then) && model_check(&txn->failure, otherwise);
    for (uint32_t i = 0; ok && i < then->puts_count; i++)
        ok = model_add_put(out, then->puts[i]);
    for (uint32_t i = 0; ok && i < otherwise->puts_count; i++) {
        if (!model_has_put(then, otherwise->puts[i]))
            ok = model_add_put(out, otherwise->puts[i]);
    }
    for (uint32_t i = 0; ok && i < then->deletes_count; i++)
        out->deletes[out->deletes_count++] = then->deletes[i];
    for (uint32_t i = 0; ok && i < otherwise->deletes_count; i++)
        out->deletes[out->deletes_count++] = otherwise->deletes[i];
    used -= 2;
    return ok;
}

static bool model_check(const struct kv_ops *ops, struct model *out)
{
    *out = (struct model){0};
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_DELETE)
            out->deletes[out->deletes_count++] = *ops->items[i].del;
    }
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_TXN && !model_check_txn(ops->items[i].txn, out))
            return false;
    }
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_PUT && !model_add_put(out, ops->items[i].put->key))
            return false;
    }
    return true;
}

static const char *random_key(struct rng *rng)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"};
    return keys[rng_below(rng, 12)];
}

static struct kv_ops random_ops(struct arena *arena, struct rng *rng, uint32_t depth);

static struct kv_op random_op(struct arena *arena, struct rng *rng, uint32_t depth)
{
    uint64_t dice = rng_below(rng, 10);
    if (dice < 4)
        return op_put(arena, random_key(rng), "");
    if (dice < 6)
        return op_delete(arena, random_key(rng), rng_below(rng, 2) == 0 ? "" : random_key(rng));
    if (dice < 7)
        return op_delete_from(arena, random_key(rng));
    struct kv_txn txn = {0};
    if (depth < 3) {
        txn.success = random_ops(arena, rng, depth + 1);
        txn.failure = random_ops(arena, rng, depth + 1);
    }
    return op_txn(arena, txn);
}

static struct kv_ops random_ops(struct arena *arena, struct rng *rng, uint32_t depth)
{
    struct kv_op items[4];
    uint32_t count = (uint32_t)rng_below(rng, depth == 0 ? 5 : 3);
    for (uint32_t i = 0; i < count; i++)
        items[i] = random_op(arena, rng, depth);
    return ops_of(arena, items, count);
}

static void test_overlap_agrees_with_etcds_algorithm(void **state)
{
    struct arena *arena = *state;
    struct rng rng;
    rng_seed(&rng, 1);
    uint32_t duplicates = 0, rounds = 100000;
    for (uint32_t i = 0; i < rounds; i++) {
        struct kv_txn txn = {.success = random_ops(arena, &rng, 0)};
        struct model model;
        bool ok = model_check(&txn.success, &model);
        duplicates += !ok;
        if (check_txn(&txn, arena) != (ok ? API_OK : API_DUPLICATE_KEY))
            fail_msg("round %u of seed 1: the model says %s", i, ok ? "disjoint" : "duplicate");
        arena_reset(arena);
    }
    assert_in_range(duplicates, rounds / 10, rounds * 9 / 10);
}

/* ---- cost ---- */

static void test_cost_is_etcds_estimate(void **state)
{
    struct arena *arena = *state;
    struct kv_put put = {.key = SLICE("abc"), .value = SLICE("12345")};
    assert_int_equal(put_cost(&put), 256 + 8);
    struct kv_txn inner = {.success = OPS(arena, op_put(arena, "x", "y"))};
    struct kv_txn txn = {.success = OPS(arena, op_put(arena, "a", "b"), op_delete(arena, "q", ""),
                                        op_txn(arena, inner)),
                         .failure = OPS(arena, op_put(arena, "a", ""), op_put(arena, "b", ""))};
    assert_int_equal(txn_cost(&txn), 2 * 257);
    txn.failure.count = 0;
    assert_int_equal(txn_cost(&txn), 258);
    txn.success.count = 0;
    assert_int_equal(txn_cost(&txn), 0);
}

/* ---- errors ---- */

static void test_errors_have_a_code_and_a_text(void **state)
{
    (void)state;
    for (int i = API_OK + 1; i < API_ERRORS_COUNT; i++) {
        assert_in_range(api_error_code((enum api_error)i), 1, 16);
        assert_true(strlen(api_error_text((enum api_error)i)) > 5);
    }
    assert_int_equal(api_error_code(API_OK), 0);
    assert_int_equal(api_error_of(ST_OK), API_OK);
    assert_int_equal(api_error_of(ST_COMPACTED), API_COMPACTED);
    assert_string_equal(api_error_text(API_COMPACTED),
                        "etcdserver: mvcc: required revision has been compacted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_needs_a_key_and_a_known_target),
        cmocka_unit_test(test_put_is_checked_in_etcds_order),
        cmocka_unit_test(test_delete_needs_a_key),
        cmocka_unit_test_setup_teardown(test_txn_counts_the_longest_of_its_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_txn_within_a_txn_has_the_rest_of_the_budget, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_txn_is_checked_in_etcds_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_txn_nested_ten_thousand_deep_is_too_many_operations,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap_of_one_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap_of_nested_txns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap_agrees_with_etcds_algorithm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cost_is_etcds_estimate, setup, teardown),
        cmocka_unit_test(test_errors_have_a_code_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
