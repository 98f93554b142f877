/* server/services/services.h - the RPC methods: decode, validate, hand on, encode. A handler runs
 * on a poller and never blocks; a write goes to the consensus actor, a linearizable read waits for
 * its round, a small serializable read is answered on the spot. */
#ifndef SERVER_SERVICES_SERVICES_H
#define SERVER_SERVICES_SERVICES_H
#include "base/clock.h"
#include "base/status.h"
#include "server/loops/request.h"
#include "server/rpc/rpc.h"
#include "server/state/error.h"

#include <stdint.h>

struct machine;
struct mvcc;
struct store;
struct services;
struct watch_hub;

/* A learner is to become a voter: asked for by a client, or by a member that forwards a client's
 * call. Owned by the caller until done, which runs on any thread and must not block. Only the
 * leader can say yes: elsewhere the error is API_NOT_LEADER. */
struct promotion {
    raft_id id;
    uint64_t deadline_ns; /* monotonic */
    void (*done)(struct promotion *promotion, enum api_error error);
    /* The services'. */
    struct services *services;
    struct progress_request progress;
    struct conf_proposal proposal;
};

/* A promotion on its way to the leader: POST /members/promote/<id in decimal> to its peer URLs, one
 * after another and again, until it says yes or no or the deadline has passed. */
struct promotion_forward {
    raft_id id;
    uint64_t deadline_ns;
    /* Once, any thread. API_OK: members is the JSON of the answer, borrowed for the call. */
    void (*done)(struct promotion_forward *forward, enum api_error error, struct slice members);
    struct inbox_node node; /* for whoever forwards */
};

/* A question that only the leader can answer, on its way to it: POST to its peer URLs, one after
 * another and again, until there is an answer or the deadline has passed. Owned by the caller until
 * done. */
struct leader_post {
    const char *path;
    struct slice body; /* borrowed until done */
    uint64_t deadline_ns;
    /* Looks at what came back: whether it is an answer, and then sets error; false: ask again. body
     * is borrowed for the call. */
    bool (*judge)(struct leader_post *post, uint32_t http_status, struct slice body);
    /* Once, any thread; error is judge's, or API_NO_LEADER or API_TIMEOUT at the deadline. */
    void (*done)(struct leader_post *post);
    enum api_error error;
    struct inbox_node node; /* for whoever posts */
};

/* What the services ask of the way to the other members. Any thread, never blocks. */
struct services_peers {
    /* Since when (monotonic) messages flow to and from a member; 0: they do not. NULL: there is no
     * way to other members at all, and the cluster stays as it is: changes are refused. */
    uint64_t (*active_since_ns)(void *context, raft_id id);
    /* Takes forward until its done. NULL: API_NO_LEADER. */
    void (*forward_promotion)(void *context, struct promotion_forward *forward);
    /* Takes post until its done. NULL: API_NO_LEADER. */
    void (*post_to_leader)(void *context, struct leader_post *post);
    void *context;
};

struct jwt;

/* Work that takes long: hashing a password, signing a token. */
struct slow_work {
    struct inbox_node node;
    /* Once, where nothing waits for it. stopping: the member stops, and only an answer is wanted.
     */
    void (*run)(struct slow_work *work, bool stopping);
};

/* How users prove who they are. All zero is etcd's default, with the work done where it comes up.
 */
struct services_auth {
    const struct jwt *jwt; /* --auth-token=jwt,...: tokens are signed; NULL: they are simple */
    bool no_tokens;        /* --auth-token='': nobody gets one */
    uint32_t token_ttl_s;  /* --auth-token-ttl, of simple ones */
    uint32_t bcrypt_cost;  /* --bcrypt-cost */
    /* Takes work until it is run; any thread, never blocks. NULL: it is run at once. */
    void (*give)(void *context, struct slow_work *work);
    /* Bytes that nobody can guess. Errors: ST_IO. NULL: the system's. */
    enum status (*draw)(void *context, void *out, size_t bytes);
    void *context;
};

struct services_options {
    struct loops *loops; /* everything here is borrowed and outlives the services */
    struct machine *machine;
    struct mvcc *mvcc;
    struct store *store;
    struct watch_hub *watch;
    const struct clock *clock;
    const char *api_version;     /* told to clients: "3.5.15" */
    uint64_t request_timeout_ns; /* 5 s + 2 election timeouts */
    uint64_t request_bytes_max;  /* --max-request-bytes, of an encoded entry */
    uint32_t txn_ops_max;        /* --max-txn-ops */
    uint64_t quota_bytes;        /* --quota-backend-bytes; 0: QUOTA_BYTES_DEFAULT */
    /* Of this machine; while the store outgrows half of it, no read runs on a poller. 0: not known.
     */
    uint64_t memory_bytes;
    uint64_t warning_apply_ns; /* --experimental-warning-apply-duration */
    bool strict_reconfig;      /* --strict-reconfig-check */
    struct services_peers peers;
    struct services_auth auth;
    /* Whether this member's disks take writes: ST_OK, ST_NO_SPACE, or a fatal status. Any thread,
     * never blocks. NULL: the store's health alone. */
    enum status (*health)(void *context);
    void *health_context;
};

/* Errors: ST_NO_MEMORY. */
CHECKED enum status services_new(const struct services_options *options, struct services **out);
void services_free(struct services *services); /* no call may be open; NULL is fine */

/* What is to be registered with a transport: every method of etcd 3.5, those not served yet too
 * (they say so). Borrowed from services. */
const struct rpc_service *services_table(const struct services *services, uint32_t *count_out);

/* For the peer port's POST /leases and /leases/internal (is_ttl). Owned by the caller until done,
 * which is called once, on any thread, and must not block; body is borrowed for the call. */
struct lease_question {
    bool is_ttl;
    struct slice body; /* borrowed for the call of services_ask_lease() */
    void (*done)(struct lease_question *question, uint32_t http_status, struct slice body);
};
void services_ask_lease(struct services *services, struct lease_question *question);

/* For the transport: a unary call is over. Counts where its time went, and says so in the log when
 * that was long. context: the services. On the call's poller. */
void services_call_ended(void *context, struct rpc_call *call, enum rpc_code code,
                         size_t answer_bytes);

/* For the peer port's POST /members/promote/<id>. Any thread. */
void services_promote(struct services *services, struct promotion *promotion);
/* How a promotion's end is told over the peer port: HTTP's status, and the text of an error. */
uint32_t promotion_http_status(enum api_error error, const char **text_out);
/* And read there; API_LEADER_CHANGED stands for everything that is neither yes nor no: ask again.
 */
enum api_error promotion_error_of(uint32_t http_status, struct slice body);
#endif
