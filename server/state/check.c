#include "server/state/check.h"

#include "base/minmax.h"
#include "server/state/check_private.h"

enum api_error check_range(const struct kv_range *range)
{
    if (range->key.len == 0)
        return API_KEY_EMPTY;
    /* etcd 3.5 dies of an unknown target, whatever the order; 3.6 has this error for it. An unknown
     * order means key order. */
    if (range->sort_target < SORT_BY_KEY || range->sort_target > SORT_BY_VALUE)
        return API_INVALID_SORT_OPTION;
    return API_OK;
}

enum api_error check_put(const struct kv_put *put)
{
    if (put->key.len == 0)
        return API_KEY_EMPTY;
    if (put->ignore_value && put->value.len > 0)
        return API_VALUE_PROVIDED;
    if (put->ignore_lease && put->lease != 0)
        return API_LEASE_PROVIDED;
    return API_OK;
}

enum api_error check_delete(const struct kv_delete *del)
{
    return del->key.len == 0 ? API_KEY_EMPTY : API_OK;
}

static enum api_error check_txn_shape(const struct kv_txn *txn);

static enum api_error check_op(const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_NONE:
        return API_KEY_NOT_FOUND; /* yes, this error */
    case KV_OP_RANGE:
        return check_range(op->range);
    case KV_OP_PUT:
        return check_put(op->put);
    case KV_OP_DELETE:
        return check_delete(op->del);
    case KV_OP_TXN:
        return check_txn_shape(op->txn);
    }
    return API_KEY_NOT_FOUND;
}

static enum api_error check_ops(const struct kv_ops *ops)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        enum api_error error = check_op(&ops->items[i]);
        if (error != API_OK)
            return error;
    }
    return API_OK;
}

/* Recurses no deeper than the decoder did (TXN_DEPTH_MAX). */
static enum api_error check_txn_shape(const struct kv_txn *txn)
{
    if (txn->over_limit)
        return API_TOO_MANY_OPS;
    for (uint32_t i = 0; i < txn->compares_count; i++) {
        if (txn->compares[i].key.len == 0)
            return API_KEY_EMPTY;
    }
    enum api_error error = check_ops(&txn->success);
    return error != API_OK ? error : check_ops(&txn->failure);
}

enum api_error check_txn(const struct kv_txn *txn, struct arena *scratch)
{
    enum api_error error = check_txn_shape(txn);
    if (error == API_OK && txn->passed_over)
        error = API_TOO_MANY_OPS;
    if (error == API_OK)
        error = check_overlap(&txn->success, scratch);
    if (error == API_OK)
        error = check_overlap(&txn->failure, scratch);
    return error;
}

/* etcd's estimate of what a key costs beside its bytes. */
#define KEY_OVERHEAD_BYTES 256U

uint64_t put_cost(const struct kv_put *put)
{
    return KEY_OVERHEAD_BYTES + put->key.len + put->value.len;
}

static uint64_t ops_cost(const struct kv_ops *ops)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_PUT)
            cost += put_cost(ops->items[i].put);
    }
    return cost;
}

uint64_t txn_cost(const struct kv_txn *txn)
{
    return max_u64(ops_cost(&txn->success), ops_cost(&txn->failure));
}
