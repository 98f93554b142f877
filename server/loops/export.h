/* server/loops/export.h - the state machine at one moment as etcd's db file, given to somebody who
 * takes his time: a client that saves a snapshot; or the hash of it all. Apply takes a pin between
 * two entries, the snapshots actor reads from it in short steps, each part when it is asked for; in
 * between nothing is held but the pin and the writer's chunk. Needs no leader and no quorum.
 *
 * While it is under way no deletion reaches the store. So it ends at a deadline that grows with the
 * file: EXPORT_NS and a second for each EXPORT_BYTES_PER_S_MIN. */
#ifndef SERVER_LOOPS_EXPORT_H
#define SERVER_LOOPS_EXPORT_H
#include "base/inbox.h"
#include "base/slice.h"
#include "server/state/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loops;
struct rpc_call;
struct export_request;
struct export_work;

/* What is said to an export on its way; holds a reference of the call. */
struct export_event {
    struct inbox_node node;
    struct export_request *export;
};

/* Lives in the arena of call. */
struct export_request {
    struct rpc_call *call; /* the caller's, like the next two */
    size_t part_bytes_max;
    /* On the snapshots actor; must not block. API_OK with bytes: the next part, borrowed for the
     * call; more comes when loops_export_next() asks for it. API_OK without: that was all. The last
     * call is that, or one with an error; after it the export is the caller's again. */
    void (*give)(struct export_request *export, enum api_error error, struct slice bytes);
    uint64_t size; /* of the whole file in bytes; from the first give on */
    bool hashes;   /* the caller's: no file is wanted, but its hash as etcd's Hash computes it, */
    uint32_t hash; /* which is here with the give that ends it */
    /* The actors' from here on. */
    struct loops *loops;
    struct export_event next, cancel;
    struct export_work *work; /* NULL once it has ended */
};

/* Begins. All three from any thread; API_TOO_MANY_REQUESTS (LOOPS_EXPORTS_MAX are under way),
 * API_NO_MEMORY and API_STOPPED come by give, on the calling thread. */
void loops_export(struct loops *loops, struct export_request *export);
/* After a give with bytes, once for each. */
void loops_export_next(struct export_request *export);
/* Ends with give(API_CANCELED); at most once, also while the end is on its way. */
void loops_export_cancel(struct export_request *export);
#endif
