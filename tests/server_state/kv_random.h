/* tests/server_state/kv_random.h - requests that kv_model.h knows how to answer, made from whatever
 * chooses: a seed or a fuzzer's bytes. */
#ifndef TESTS_SERVER_STATE_KV_RANDOM_H
#define TESTS_SERVER_STATE_KV_RANDOM_H
#include "base/arena.h"
#include "server/state/kv_request.h"

struct kv_chooser {
    uint64_t (*below)(void *context, uint64_t limit); /* below limit, which is not 0 */
    void *context;
    int64_t revision; /* now: what is chosen lies around it */
    int64_t leases;   /* ids 1 to this one may be chosen; 0: no lease is */
};

struct kv_range kv_random_range(struct kv_chooser *chooser);
struct kv_put kv_random_put(struct kv_chooser *chooser);
struct kv_delete kv_random_delete(struct kv_chooser *chooser);
/* Not necessarily one that check_txn() lets pass. */
struct kv_txn kv_random_txn(struct kv_chooser *chooser, struct arena *arena);
#endif
