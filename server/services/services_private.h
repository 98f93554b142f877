/* server/services/services_private.h - what the services share. */
#ifndef SERVER_SERVICES_SERVICES_PRIVATE_H
#define SERVER_SERVICES_SERVICES_PRIVATE_H
#include "base/wire.h"
#include "server/loops/request.h"
#include "server/metrics/metrics.h"
#include "server/services/services.h"
#include "server/state/error.h"
#include "server/state/kv_request.h"
#include "server/state/members.h"
#include "server/state/response_header.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A serializable read of up to this many keys is answered on the poller; more would make the calls
 * behind it wait. */
#define SMALL_READ_KEYS_MAX 64U
/* A read that goes through more is begun anew by the reader that has the long ones, and then was in
 * nobody's way for more than a millisecond. */
#define SHORT_READ_BYTES_MAX (1U << 20)
/* How old the figures of the store may be that quota and health are judged by. */
#define STORE_FIGURES_AGE_NS (100 * NS_PER_MS)
#define SERVICES_COUNT 9U

/* Figures of the store, fetched by one poller at a time. All relaxed: each is judged alone, and a
 * little late is as good. */
struct store_figures {
    _Atomic uint64_t fetched_ns;
    _Atomic uint64_t used_bytes; /* in use, and admitted since it was fetched */
    _Atomic uint64_t size_bytes; /* of the file */
    _Atomic uint64_t room_bytes; /* still to be given away to writes */
};

/* slow.c's: what it counts, and how many lines it wrote. */
#define SLOW_PHASES_COUNT 7U
struct slow {
    struct metric_child writes[SLOW_PHASES_COUNT], reads[SLOW_PHASES_COUNT];
    _Atomic uint64_t second, lines, left_out;
};

struct services {
    struct services_options options;
    struct slow slow;
    struct simple_tokens *tokens;  /* NULL: they are signed, or there are none */
    atomic_uint passwords_pending; /* to be hashed or compared */
    struct store_figures figures;
    atomic_bool alarm_pending; /* this member's NOSPACE is being proposed for a call */
    struct rpc_service table[SERVICES_COUNT]; /* of the methods as they are registered: */
    struct rpc_method *gates;                 /* each is first looked at by gate.c, */
    const struct rpc_method **inner;          /* and then does what the one here does */
};

#define METHODS_OF(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))
/* One per file; service is filled in by services.c. */
extern const struct rpc_service kv_service, maintenance_service, cluster_service, auth_service,
    election_service, health_service, lease_service, lock_service, watch_service;

static inline void finish_error(struct rpc_call *call, enum api_error error)
{
    rpc_finish(call, (enum rpc_code)api_error_code(error), api_error_text(error), SLICE_EMPTY);
}

/* From a callback of an actor. */
static inline void finish_later(struct rpc_call *call, enum api_error error, struct slice response)
{
    rpc_finish_later(call, (enum rpc_code)api_error_code(error), api_error_text(error), response);
}

/* Answers with what was written to out; later: from a callback of an actor. */
void finish_message(struct rpc_call *call, const struct wire_out *out);
void finish_message_later(struct rpc_call *call, const struct wire_out *out);

/* Header as of now; revision is the caller's (0 where etcd leaves it out). */
struct response_header header_now(const struct services *services, int64_t revision);
int64_t current_revision(const struct services *services);
uint64_t request_deadline_ns(const struct services *services);

/* ---- propose.c; on any thread but an actor's ---- */
/* Wraps the call's message as it is into an entry, proposes it on the caller's behalf, and answers
 * with what apply says. */
void propose_message(struct rpc_call *call, enum internal_field field);
/* The same for what was admitted at that cost. */
void propose_write(struct rpc_call *call, enum internal_field field, uint64_t cost);
/* The same for a body in the call's arena. */
void propose_body(struct rpc_call *call, enum internal_field field, struct slice body);
/* The same on behalf of caller (borrowed for the call), with a done of one's own (struct proposal).
 * On an error nothing is proposed and done is not called. */
CHECKED enum api_error propose_as(struct rpc_call *call, enum internal_field field,
                                  struct slice body, const struct auth_caller *caller,
                                  uint64_t cost,
                                  void (*done)(struct proposal *, enum api_error, struct slice));

/* ---- gate.c: what is refused whatever the method says ---- */
CHECKED enum status gates_init(struct services *services);
void gates_deinit(struct services *services);
/* The caller would rather be refused than served without a leader. */
bool wants_leader(const struct rpc_call *call);
/* A learner serves Status, Snapshot and serializable ranges only. */
bool is_learner(const struct services *services);

/* ---- auth_caller.c: who calls, and what they may; everything is API_OK while auth is off ----
 * Any thread; nothing blocks. Who calls is taken from the call's metadata anew each time, as etcd
 * does: a stream's caller may lose a right while it lasts. Ranges are as requests have them: an
 * empty range_end is one key, "\0" everything from key on. */
CHECKED enum status auth_open(struct services *services);
void auth_close(struct services *services);
/* Whoever it is, in the call's arena; nobody has revision 0. API_INVALID_AUTH_TOKEN. */
enum api_error auth_caller_of(struct rpc_call *call, struct auth_caller *out);
enum api_error auth_may_read(struct rpc_call *call, struct slice key, struct slice range_end);
/* Of a watch to be created; the key is already "\0" where the request left it out. What it gives
 * goes into the answer that cancels the watch. */
enum api_error auth_may_watch(struct rpc_call *call, struct slice key, struct slice range_end);
/* Before it is read or proposed, with the txns within it. */
enum api_error auth_may_txn(struct rpc_call *call, const struct kv_txn *txn);
enum api_error auth_is_user(struct rpc_call *call); /* any user, but somebody */
enum api_error auth_is_root(struct rpc_call *call); /* has the role root */
/* As Defragment, Snapshot and the hashes of etcd say it: not mapped to what clients recognise. */
enum api_error auth_raw(enum api_error error);

/* A read is permitted by users and roles as they are before it, and told only if they still are
 * after it. */
uint64_t auth_revision_before(const struct rpc_call *call); /* 0: auth is off */
enum api_error auth_is_unchanged(const struct rpc_call *call, uint64_t revision);

/* From on_call: ends a call that may not. If only because this member does not know yet what others
 * know, it first catches up with them, once, and the method is called again. */
void refuse_caller(struct rpc_call *call, enum api_error error);
/* gate.c: the token may be one that this member has not heard of yet: it catches up, and the method
 * is called again; true: do nothing more now. */
bool auth_waits(struct rpc_call *call);

/* ---- auth.c and auth_login.c ---- */
void on_authenticate(struct rpc_call *call);
void on_user_add(struct rpc_call *call);
void on_user_change_password(struct rpc_call *call);

/* ---- slow.c ---- */
void slow_init(struct slow *slow);

/* ---- defragment.c ---- */
void on_defragment(struct rpc_call *call);

/* ---- hash.c ---- */
void on_hash(struct rpc_call *call);
void on_hash_cancel(struct rpc_call *call);

/* ---- snapshot.c ---- */
void on_snapshot(struct rpc_call *call);
void on_snapshot_sent(struct rpc_call *call);
void on_snapshot_cancel(struct rpc_call *call);

/* ---- cluster.c and member_changes.c ---- */
void put_members(struct wire_out *out, uint32_t field, const struct members *members);
void put_member(struct wire_out *out, uint32_t field, const struct member_row *row);
void on_member_add(struct rpc_call *call);
void on_member_remove(struct rpc_call *call);
void on_member_update(struct rpc_call *call);
void on_member_promote(struct rpc_call *call);

/* admit.c: may a write that adds cost bytes be taken? API_OK, API_NO_SPACE (quota), API_DISK_FULL,
 * API_STOPPED (the member is broken and about to stop). */
enum api_error admit_write(struct services *services, uint64_t cost);
/* Counts what an admitted write costs, when nothing but the cluster can refuse it any more. Also
 * API_DISK_FULL: others took the room meanwhile. */
enum api_error charge_write(struct services *services, uint64_t cost);
/* Ends a write that was not admitted; API_NO_SPACE raises the alarm first. */
void refuse_write(struct rpc_call *call, enum api_error error);
/* Whether a read may touch the store on a poller: while it fits in memory. */
bool reads_stay_in_memory(struct services *services);
#endif
