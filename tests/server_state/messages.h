/* tests/server_state/messages.h - builds encoded requests for tests. Everything is in the arena. */
#ifndef TESTS_SERVER_STATE_MESSAGES_H
#define TESTS_SERVER_STATE_MESSAGES_H
#include "base/arena.h"
#include "base/slice.h"
#include "server/state/kv_request.h"

struct slice encode_range(struct arena *arena, const struct kv_range *range);
struct slice encode_put(struct arena *arena, const struct kv_put *put);
struct slice encode_delete(struct arena *arena, const struct kv_delete *del);
struct slice encode_compact(struct arena *arena, const struct kv_compact *compact);
struct slice encode_txn(struct arena *arena, const struct kv_txn *txn);

/* Depth txns, each the only operation of the one around it; the innermost has no operation. */
struct slice encode_nested(struct arena *arena, uint32_t depth);

/* ---- trees of operations ---- */

struct kv_op op_put(struct arena *arena, const char *key, const char *value);
struct kv_op op_get(struct arena *arena, const char *key);
/* end "" is a point, "\0" cannot be written so: op_delete_from() is the open end. */
struct kv_op op_delete(struct arena *arena, const char *key, const char *end);
struct kv_op op_delete_from(struct arena *arena, const char *key);
struct kv_op op_txn(struct arena *arena, struct kv_txn txn);
struct kv_ops ops_of(struct arena *arena, const struct kv_op *items, uint32_t count);
#define OPS(arena, ...)                                  \
    ops_of((arena), (const struct kv_op[]){__VA_ARGS__}, \
           (uint32_t)(sizeof((const struct kv_op[]){__VA_ARGS__}) / sizeof(struct kv_op)))
#endif
