/* server/state/txn.h - transactions by etcd's rules: every compare, those of nested txns too, is
 * evaluated against the state before; then the operations of the branches so chosen are checked;
 * then they are executed in order, each seeing the writes before it, as one revision. Txns must
 * have been decoded within their limits (not over_limit). */
#ifndef SERVER_STATE_TXN_H
#define SERVER_STATE_TXN_H
#include "base/arena.h"
#include "base/wire.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"
#include "server/state/response_header.h"
#include "server/state/source.h"

/* Sets succeeded in the txn and in the nested ones of the chosen branches. Errors: ST_IO,
 * ST_CORRUPT. */
CHECKED enum status txn_evaluate(const struct source *source, struct kv_txn *txn);
/* Whether the chosen operations can be executed, before anything is written. *error_out is etcd's
 * error. Errors: ST_IO, ST_CORRUPT. */
CHECKED enum status txn_precheck(const struct source *source, const struct kv_txn *txn,
                                 enum api_error *error_out);
/* The same for a put of its own. */
CHECKED enum status put_precheck(const struct source *source, const struct kv_put *put,
                                 enum api_error *error_out);

/* Carries out operations; their answers are appended to out. An answer that does not fit leaves out
 * failed and changes nothing else. */
struct executor {
    struct source source;
    struct wire_out *out;
    struct arena *scratch; /* for what is replaced; without a cap that matters */
};

/* Both without the header of the answer. Errors: ST_IO, ST_CORRUPT, ST_NO_MEMORY, ST_NOT_FOUND (a
 * put keeps what is not there, which the prechecks exclude): the write transaction is then half
 * done and the member must stop. */
CHECKED enum status execute_put(struct executor *executor, const struct kv_put *put);
CHECKED enum status execute_delete(struct executor *executor, const struct kv_delete *del);
/* An evaluated and prechecked txn; answers of its operations carry headers with their revision, as
 * in etcd. */
CHECKED enum status execute_txn(struct executor *executor, const struct kv_txn *txn);

/* A whole TxnResponse of a read-only txn, at one instant, from at most bytes_max bytes of records
 * (0: no matter how many). header->revision is set. Errors, beside *error_out: ST_TOO_BIG,
 * ST_CANCELED (bytes_max), ST_IO, ST_CORRUPT. */
CHECKED enum status txn_answer(struct mvcc *mvcc, uint32_t reader, struct kv_txn *txn,
                               size_t bytes_max, struct response_header *header,
                               struct arena *arena, struct slice *response_out,
                               enum api_error *error_out);
#endif
