/* server/state/check.h - what a KV request must look like before it is proposed, in etcd's order
 * and with etcd's errors. Nothing here looks at the store. */
#ifndef SERVER_STATE_CHECK_H
#define SERVER_STATE_CHECK_H
#include "base/arena.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"

enum api_error check_range(const struct kv_range *range);
enum api_error check_put(const struct kv_put *put);
enum api_error check_delete(const struct kv_delete *del);
/* Everything about a txn decoded with its limit on operations: their number, compare keys, each
 * operation, at last that no key is put twice and none is both put and deleted. scratch is used
 * during the call. Also API_REQUEST_TOO_LARGE (scratch is too small). */
enum api_error check_txn(const struct kv_txn *txn, struct arena *scratch);

/* What a request adds to the store at most, by etcd's estimate: it is refused when this goes past
 * the quota. A txn's is its larger branch; txns within it cost nothing. */
uint64_t put_cost(const struct kv_put *put);
uint64_t txn_cost(const struct kv_txn *txn);
#endif
