/* server/services/contend.h - what Lock and Election share: keys under a name, the one that was
 * made first wins, the others wait for those before them to go. etcd's server does this as a client
 * of itself; here too every step is a call of the KV or the Lease service, made for the caller,
 * with all that they check. */
#ifndef SERVER_SERVICES_CONTEND_H
#define SERVER_SERVICES_CONTEND_H
#include "server/services/services_private.h"
#include "server/state/lessor.h"
#include "server/watch/watch.h"
#include "storage/mvcc.h"

#include <stdatomic.h>

/* ---- a call within a call ---- */

struct inner_call {
    struct rpc_call call;
    struct rpc_call *outer;
    struct arena *arena; /* of what it needs; NULL: the outer call's */
    /* Once, any thread, also before inner_start() returns. message is in the arena, text
     * as rpc_finish_later() has it. */
    void (*done)(struct inner_call *inner, enum rpc_code code, const char *text,
                 struct slice message);
};
/* Calls a method of the KV or the Lease service with the caller's metadata. */
void inner_start(struct inner_call *inner, struct rpc_call *outer, const char *path,
                 struct slice message);
/* How an error of one is told: its text, nearly always under the code Unknown, as etcd does. */
void finish_inner_error(struct rpc_call *outer, enum rpc_code code, const char *text);

/* ---- requests and answers, in the call's arena ---- */

enum inner_sort { INNER_OLDEST, INNER_NEWEST }; /* by create revision */

/* The requests are empty when there is no memory; the services then answer with an error. */
struct slice inner_range_key(struct arena *arena, struct slice key);
/* One key of those under prefix, of those made at or before max_create (0: all). */
struct slice inner_range_first(struct arena *arena, struct slice prefix, enum inner_sort sort,
                               int64_t max_create);
struct slice inner_delete(struct arena *arena, struct slice key);
/* If the key was made at create_revision (0: is not there), then put it, or delete it (value NULL);
 * else read it; and in any case, with prefix, the oldest one under that. */
struct slice inner_txn(struct arena *arena, struct slice key, int64_t create_revision,
                       const struct slice *value, lease_id lease, const struct slice *prefix);

struct inner_answer {
    struct slice header;  /* its bytes */
    int64_t revision;     /* of the header */
    bool succeeded;       /* of a txn */
    bool found;           /* kv is the first of a range, or of the first response of a txn */
    struct mvcc_kv kv;    /* borrowed from the answer */
    struct mvcc_kv owner; /* of the second response; no key: none */
};
/* Of a RangeResponse, or of a TxnResponse. Errors: ST_INVALID, ST_CORRUPT. */
CHECKED enum status inner_read(struct slice message, bool is_txn, struct inner_answer *out);

/* ---- to wait for the ones before ---- */

struct contender {
    struct rpc_call *call;
    struct inner_call inner;
    struct slice name;   /* as the client gave it */
    struct slice prefix; /* name/ */
    struct slice key;    /* name/lease */
    lease_id lease;
    int64_t revision; /* at which the key was made; 0: not yet */
    /* Nobody is before it any more. */
    void (*won)(struct contender *contender);
    atomic_bool canceled;
    /* The watch for the one before: its phase, and a count of them. */
    atomic_uint watch_state;
    atomic_bool is_awaited_gone;
    struct watch_local watch;
    struct slice awaited;
    enum rpc_code end_code; /* told when the key is gone that it leaves behind */
    const char *end_text;
};

/* Fills contender, granting a lease of 60 s where the caller gave none, then calls ready. Any error
 * ends the call. */
void contender_begin(struct contender *contender, struct rpc_call *call, struct slice name,
                     lease_id lease, void (*ready)(struct contender *contender));
/* Waits until no older key is left, then calls won; if that fails the key is deleted and the call
 * ended. */
void contender_wait(struct contender *contender);
/* The caller has gone: whatever is under way comes to its end, and the key goes. */
void contender_cancel(struct contender *contender);
/* After each step: true when the caller has gone, or the step failed; the call is being ended. */
bool contender_gives_up(struct contender *contender, enum rpc_code code, const char *text);
#endif
