/* server/state/check_private.h - shared by check.c and check_overlap.c. */
#ifndef SERVER_STATE_CHECK_PRIVATE_H
#define SERVER_STATE_CHECK_PRIVATE_H
#include "base/arena.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"

/* API_DUPLICATE_KEY when one branch of a txn puts a key twice, or puts and deletes it. */
enum api_error check_overlap(const struct kv_ops *branch, struct arena *scratch);
#endif
