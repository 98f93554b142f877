/* Random transactions against an evaluator that is as naive as can be: a row per key, a copy of all
 * rows for every revision. Answers are compared as text. */
#include "base/buf.h"
#include "base/rng.h"
#include "server/state/check.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define KEYS 8U
#define ROUNDS 20000U
#define HISTORY (ROUNDS + 2)

struct model_row {
    bool alive;
    char value;
    int64_t create, mod, version;
};

struct model {
    struct model_row rows[KEYS];             /* as they are within the transaction */
    struct model_row history[HISTORY][KEYS]; /* by revision */
    int64_t revision, compacted;
    bool wrote;
    struct buf text;
};

static struct model model;

static char key_char(uint32_t key)
{
    return (char)('a' + key);
}

/* Whether [key, end) of the request covers row number i. */
static bool covers(struct slice key, struct slice end, uint32_t i)
{
    uint8_t c = (uint8_t)key_char(i);
    if (end.len == 0)
        return key.data[0] == c;
    return key.data[0] <= c && (end.data[0] == 0 || c < end.data[0]);
}

static void say_row(const struct model_row *row, uint32_t key, bool keys_only)
{
    assert_int_equal(buf_printf(&model.text, " %c=%c/%lld/%lld/%lld", key_char(key),
                                keys_only ? '-' : row->value, (long long)row->create,
                                (long long)row->mod, (long long)row->version),
                     ST_OK);
}

static int64_t revision_now(void)
{
    return model.revision + (model.wrote ? 1 : 0);
}

/* ---- the naive evaluator ---- */

static bool model_compare_row(const struct kv_compare *compare, const struct model_row *row)
{
    int64_t stored = compare->target == COMPARE_VERSION  ? row->version
                     : compare->target == COMPARE_CREATE ? row->create
                                                         : row->mod;
    int64_t order = compare->target == COMPARE_VALUE
                        ? row->value - (compare->value.len > 0 ? compare->value.data[0] : 0)
                        : stored - compare->number;
    switch (compare->result) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    default:
        return order != 0;
    }
}

static bool model_compare(const struct kv_compare *compare)
{
    bool found = false;
    for (uint32_t i = 0; i < KEYS; i++) {
        if (!model.rows[i].alive || !covers(compare->key, compare->range_end, i))
            continue;
        found = true;
        if (!model_compare_row(compare, &model.rows[i]))
            return false;
    }
    static const struct model_row nothing;
    return found || (compare->target != COMPARE_VALUE && model_compare_row(compare, &nothing));
}

static void model_evaluate(struct kv_txn *txn)
{
    txn->succeeded = true;
    for (uint32_t i = 0; i < txn->compares_count; i++)
        txn->succeeded = txn->succeeded && model_compare(&txn->compares[i]);
    const struct kv_ops *ops = txn->succeeded ? &txn->success : &txn->failure;
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_TXN)
            model_evaluate(ops->items[i].txn);
    }
}

/* All puts of the chosen path first, then all ranges: pass 0, pass 1. deleted_from carries the
 * lowest open-ended delete so far. */
static enum api_error model_precheck(const struct kv_txn *txn, int pass, uint8_t *deleted_from)
{
    const struct kv_ops *ops = txn->succeeded ? &txn->success : &txn->failure;
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_TXN) {
            enum api_error error = model_precheck(op->txn, pass, deleted_from);
            if (error != API_OK)
                return error;
        }
        if (op->kind == KV_OP_DELETE && op->del->range_end.len > 0 &&
            op->del->range_end.data[0] == 0 && op->del->key.data[0] < *deleted_from)
            *deleted_from = op->del->key.data[0];
        if (pass == 0 && op->kind == KV_OP_PUT && op->put->ignore_value) {
            uint8_t key = op->put->key.data[0];
            if (!model.rows[key - 'a'].alive || key >= *deleted_from)
                return API_KEY_NOT_FOUND;
        }
        if (pass == 1 && op->kind == KV_OP_RANGE && op->range->revision != 0) {
            if (op->range->revision > model.revision)
                return API_FUTURE_REVISION;
            if (op->range->revision < model.compacted)
                return API_COMPACTED;
        }
    }
    return API_OK;
}

static void model_range(const struct kv_range *range)
{
    const struct model_row *rows =
        range->revision > 0 ? model.history[range->revision] : model.rows;
    uint32_t count = 0;
    (void)!buf_printf(&model.text, "[R%lld", (long long)revision_now());
    for (uint32_t i = 0; i < KEYS; i++) {
        if (!rows[i].alive || !covers(range->key, range->range_end, i))
            continue;
        if (range->limit <= 0 || count < range->limit)
            say_row(&rows[i], i, range->keys_only);
        count++;
    }
    (void)!buf_printf(&model.text, " %u%s]", count,
                      range->limit > 0 && count > range->limit ? "+" : "");
}

static void model_put(const struct kv_put *put)
{
    uint32_t key = (uint32_t)(put->key.data[0] - 'a');
    struct model_row *row = &model.rows[key];
    (void)!buf_printf(&model.text, "[P%lld", (long long)model.revision + 1);
    if (put->prev_kv && row->alive)
        say_row(row, key, false);
    (void)!buf_printf(&model.text, "]");
    model.wrote = true;
    *row = (struct model_row){.alive = true,
                              .value = put->ignore_value ? row->value : (char)put->value.data[0],
                              .create = row->alive ? row->create : model.revision + 1,
                              .mod = model.revision + 1,
                              .version = row->alive ? row->version + 1 : 1};
}

static void model_delete(const struct kv_delete *del)
{
    struct model_row before[KEYS];
    memcpy(before, model.rows, sizeof(before));
    uint32_t deleted = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        if (before[i].alive && covers(del->key, del->range_end, i)) {
            model.rows[i] = (struct model_row){0};
            model.wrote = true;
            deleted++;
        }
    }
    (void)!buf_printf(&model.text, "[D%lld %u", (long long)revision_now(), deleted);
    for (uint32_t i = 0; i < KEYS && del->prev_kv; i++) {
        if (before[i].alive && !model.rows[i].alive)
            say_row(&before[i], i, false);
    }
    (void)!buf_printf(&model.text, "]");
}

static void model_execute(const struct kv_txn *txn)
{
    (void)!buf_printf(&model.text, "(%d", txn->succeeded);
    const struct kv_ops *ops = txn->succeeded ? &txn->success : &txn->failure;
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_RANGE)
            model_range(op->range);
        else if (op->kind == KV_OP_PUT)
            model_put(op->put);
        else if (op->kind == KV_OP_DELETE)
            model_delete(op->del);
        else
            model_execute(op->txn);
    }
    (void)!buf_printf(&model.text, ")");
}

static enum api_error model_apply(struct kv_txn *txn)
{
    uint8_t deleted_from = UINT8_MAX;
    buf_reset(&model.text);
    model_evaluate(txn);
    enum api_error error = model_precheck(txn, 0, &deleted_from);
    if (error == API_OK)
        error = model_precheck(txn, 1, &deleted_from);
    if (error != API_OK)
        return error;
    model.wrote = false;
    model_execute(txn);
    model.revision = revision_now();
    memcpy(model.history[model.revision], model.rows, sizeof(model.rows));
    return API_OK;
}

/* ---- the real answer as text ---- */

static struct buf answer;

static void tell_kv(const Mvccpb__KeyValue *kv)
{
    (void)!buf_printf(&answer, " %c=%c/%lld/%lld/%lld", kv->key.data[0],
                      kv->value.len > 0 ? kv->value.data[0] : '-', (long long)kv->create_revision,
                      (long long)kv->mod_revision, (long long)kv->version);
}

static void tell_txn(const Etcdserverpb__TxnResponse *txn)
{
    (void)!buf_printf(&answer, "(%d", txn->succeeded);
    for (size_t i = 0; i < txn->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = txn->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            (void)!buf_printf(&answer, "[R%lld", (long long)op->response_range->header->revision);
            for (size_t j = 0; j < op->response_range->n_kvs; j++)
                tell_kv(op->response_range->kvs[j]);
            (void)!buf_printf(&answer, " %lld%s]", (long long)op->response_range->count,
                              op->response_range->more ? "+" : "");
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT) {
            (void)!buf_printf(&answer, "[P%lld", (long long)op->response_put->header->revision);
            if (op->response_put->prev_kv != NULL)
                tell_kv(op->response_put->prev_kv);
            (void)!buf_printf(&answer, "]");
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE) {
            const Etcdserverpb__DeleteRangeResponse *del = op->response_delete_range;
            (void)!buf_printf(&answer, "[D%lld %lld", (long long)del->header->revision,
                              (long long)del->deleted);
            for (size_t j = 0; j < del->n_prev_kvs; j++)
                tell_kv(del->prev_kvs[j]);
            (void)!buf_printf(&answer, "]");
        } else {
            tell_txn(op->response_txn);
        }
    }
    (void)!buf_printf(&answer, ")");
}

/* ---- random transactions ---- */

static const char *random_key(struct rng *rng)
{
    static const char *const keys[KEYS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    return keys[rng_below(rng, KEYS)];
}

static struct slice random_end(struct rng *rng)
{
    uint64_t dice = rng_below(rng, 4);
    if (dice < 2)
        return SLICE_EMPTY;
    return dice == 2 ? SLICE("\0") : slice_from_str(random_key(rng));
}

static struct kv_compare random_compare(struct rng *rng)
{
    static const char *const values[] = {"", "x", "y", "z"};
    struct kv_compare compare = {.result = (int32_t)rng_below(rng, 4),
                                 .target = (int32_t)rng_below(rng, 4),
                                 .key = slice_from_str(random_key(rng)),
                                 .range_end = random_end(rng)};
    compare.given = compare.target;
    if (compare.target == COMPARE_VALUE)
        compare.value = slice_from_str(values[rng_below(rng, 4)]);
    else
        compare.number = compare.target == COMPARE_VERSION
                             ? (int64_t)rng_below(rng, 3)
                             : model.revision - (int64_t)rng_below(rng, 20);
    return compare;
}

static struct kv_txn random_txn(struct arena *arena, struct rng *rng, uint32_t depth);

static struct kv_op random_range(struct arena *arena, struct rng *rng)
{
    struct kv_op op = op_get(arena, random_key(rng));
    op.range->range_end = random_end(rng);
    op.range->limit = (int64_t)rng_below(rng, 4) - 1;
    op.range->keys_only = rng_below(rng, 4) == 0;
    if (rng_below(rng, 4) == 0)
        op.range->revision = model.revision + 2 - (int64_t)rng_below(rng, 20);
    return op;
}

static struct kv_op random_op(struct arena *arena, struct rng *rng, uint32_t depth)
{
    static const char *const values[] = {"x", "y", "z"};
    struct kv_op op;
    switch (rng_below(rng, depth < 2 ? 8 : 6)) {
    case 0:
    case 1:
        return random_range(arena, rng);
    case 2:
        op = op_delete(arena, random_key(rng), "");
        op.del->range_end = random_end(rng);
        op.del->prev_kv = rng_below(rng, 2) == 0;
        return op;
    case 6:
    case 7:
        return op_txn(arena, random_txn(arena, rng, depth + 1));
    default:
        op = op_put(arena, random_key(rng), values[rng_below(rng, 3)]);
        op.put->prev_kv = rng_below(rng, 2) == 0;
        op.put->ignore_value = rng_below(rng, 6) == 0;
        if (op.put->ignore_value)
            op.put->value = SLICE_EMPTY;
        return op;
    }
}

static struct kv_ops random_ops(struct arena *arena, struct rng *rng, uint32_t depth)
{
    struct kv_op items[4];
    uint32_t count = (uint32_t)rng_below(rng, 5);
    for (uint32_t i = 0; i < count; i++)
        items[i] = random_op(arena, rng, depth);
    return ops_of(arena, items, count);
}

static struct kv_txn random_txn(struct arena *arena, struct rng *rng, uint32_t depth)
{
    struct kv_txn txn = {.compares = ARENA_ARRAY(arena, struct kv_compare, 2)};
    txn.compares_count = (uint32_t)rng_below(rng, 3);
    for (uint32_t i = 0; i < txn.compares_count; i++)
        txn.compares[i] = random_compare(rng);
    txn.success = random_ops(arena, rng, depth);
    txn.failure = random_ops(arena, rng, depth);
    return txn;
}

static void compact_both(struct harness *h, struct rng *rng)
{
    int64_t revision = model.revision - (int64_t)rng_below(rng, 15);
    enum api_error error;
    harness_compact(h, revision, &error);
    assert_int_equal(error, revision <= model.compacted ? API_COMPACTED : API_OK);
    if (error == API_OK)
        model.compacted = revision;
    bool more = true;
    while (more)
        assert_int_equal(mvcc_compact_step(h->mvcc, &more), ST_OK);
}

static void one_round(struct harness *h, struct rng *rng, uint32_t round, uint32_t *applied)
{
    struct kv_txn txn = random_txn(&h->arena, rng, 0);
    if (check_txn(&txn, &h->arena) != API_OK)
        return;
    bool read_only = kv_txn_is_read_only(&txn);
    enum api_error wanted = model_apply(&txn), error;
    const Etcdserverpb__TxnResponse *response =
        read_only ? harness_read_txn(h, &txn, &error) : harness_txn(h, &txn, &error);
    assert_int_equal(error, wanted);
    assert_int_equal(harness_revision(h), model.revision);
    if (response == NULL)
        return;
    ++*applied;
    assert_int_equal(response->header->revision, model.revision);
    buf_reset(&answer);
    tell_txn(response);
    if (!slice_eq(buf_slice(&answer), buf_slice(&model.text)))
        fail_msg("round %u of seed 1:\nmodel %.*s\ngot   %.*s", round, (int)model.text.len,
                 (const char *)model.text.data, (int)answer.len, (const char *)answer.data);
}

static void test_txn_agrees_with_a_naive_evaluator(void **state)
{
    (void)state;
    static struct harness h;
    struct rng rng;
    uint32_t applied = 0;
    harness_init(&h);
    rng_seed(&rng, 1);
    buf_init(&model.text, 1 << 20);
    buf_init(&answer, 1 << 20);
    model.revision = 1;
    model.compacted = -1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        one_round(&h, &rng, round, &applied);
        if (rng_below(&rng, 200) == 0)
            compact_both(&h, &rng);
        if (rng_below(&rng, 2000) == 0)
            harness_reopen(&h);
        arena_reset(&h.arena);
    }
    assert_in_range(applied, ROUNDS / 10, ROUNDS);
    buf_deinit(&model.text);
    buf_deinit(&answer);
    harness_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_txn_agrees_with_a_naive_evaluator)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
