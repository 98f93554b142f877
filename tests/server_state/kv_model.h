/* tests/server_state/kv_model.h - an evaluator of transactions that is as naive as can be: a row
 * for each of a few keys, a copy of all rows for every revision. Answers are compared as text. */
#ifndef TESTS_SERVER_STATE_KV_MODEL_H
#define TESTS_SERVER_STATE_KV_MODEL_H
#include "base/buf.h"
#include "proto/rpc.pb-c.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"

#define KV_MODEL_KEYS 8U /* "a" to "h" */

struct kv_model_row {
    bool alive;
    char value; /* '\0': empty */
    int64_t create, mod, version, lease;
};

struct kv_model {
    struct kv_model_row rows[KV_MODEL_KEYS];       /* as they are within the transaction */
    struct kv_model_row (*history)[KV_MODEL_KEYS]; /* by revision */
    int64_t history_count;
    int64_t revision, compacted;
    bool wrote;
    /* Whether a lease is there, other than 0; NULL: none is. */
    bool (*has_lease)(void *context, int64_t lease);
    void *context;
    struct buf text; /* of the last answer */
};

/* Of a fresh store; revisions stay below revisions_max. */
void kv_model_init(struct kv_model *model, int64_t revisions_max);
void kv_model_deinit(struct kv_model *model);

/* The answer is in model->text; an error changes nothing. The txn has passed check_txn(). */
enum api_error kv_model_txn(struct kv_model *model, struct kv_txn *txn);
/* What one operation alone answers. */
enum api_error kv_model_op(struct kv_model *model, const struct kv_op *op);
/* Deletes all keys of a lease, in one revision if there are any. */
void kv_model_revoke(struct kv_model *model, int64_t lease);

/* A real answer as the same text, added to out. */
void kv_model_tell(struct buf *out, const Etcdserverpb__TxnResponse *txn);
void kv_model_tell_range(struct buf *out, const Etcdserverpb__RangeResponse *range);
void kv_model_tell_put(struct buf *out, const Etcdserverpb__PutResponse *put);
void kv_model_tell_delete(struct buf *out, const Etcdserverpb__DeleteRangeResponse *del);
#endif
