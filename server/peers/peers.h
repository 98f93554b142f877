/* server/peers/peers.h - the peer port: etcd 3.5's peer protocol over HTTP/1.1, both sides of it.
 * It implements server/loops/transport.h, answers what other members ask, and measures the way to
 * them. One thread with epoll owns every connection but those that carry a snapshot: each of these
 * has a thread of its own while it lasts, since a disk stands at either end of it.
 *
 * The protocol. Every member dials two streams to every other one and reads messages from them:
 * `msgapp` for MsgApp, `message` for the rest. It writes its own messages into the streams that the
 * others dialled. Until they have, or for what a stream does not take, messages go by POST /raft.
 */
#ifndef SERVER_PEERS_PEERS_H
#define SERVER_PEERS_PEERS_H
#include "base/clock.h"
#include "base/inbox.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"
#include "server/loops/transport.h"
#include "server/peers/byte_stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peers;

/* ---- what other members ask for ---- */

enum peer_request_kind {
    PEER_REQUEST_MEMBERS,           /* GET /members */
    PEER_REQUEST_PROMOTE,           /* POST /members/promote/<member_id> */
    PEER_REQUEST_HASHKV,            /* GET /members/hashkv with a JSON body */
    PEER_REQUEST_LEASES,            /* POST /leases: LeaseKeepAliveRequest */
    PEER_REQUEST_LEASES_INTERNAL,   /* POST /leases/internal: LeaseInternalRequest */
    PEER_REQUEST_DOWNGRADE_ENABLED, /* GET /downgrade/enabled */
    PEER_REQUEST_VERSION,           /* GET /version */
};

/* Taken by the handler, ended by peers_answer(), once, on any thread. */
struct peer_request {
    enum peer_request_kind kind;
    raft_id member_id;      /* of PROMOTE */
    struct slice body;      /* borrowed until answered */
    struct inbox_node node; /* free for the handler's use until answered */
};

struct peer_answer {
    uint32_t status;          /* 200, 400, 404, 408, 412, 500 */
    const char *content_type; /* static; NULL: text/plain; charset=utf-8 */
    struct slice body;        /* borrowed for the call; an error's text ends in a newline */
};

/* Sends the answer and ends the request; which headers go with it is decided here. Any thread. The
 * peers must still be there: peers_free() comes after every request was answered. */
void peers_answer(struct peer_request *request, const struct peer_answer *answer);

/* ---- what the owner hears ---- */

/* Calls come from the peer I/O thread or from the thread of a transfer and must not block. They are
 * those of server/loops/transport.h, with a context. */
struct peers_owner {
    /* A chain of messages, oldest first; owned by the receiver, each until its release(). */
    void (*receive)(void *context, struct peer_message *chain);
    void (*unreachable)(void *context, raft_id id);
    void (*gone)(void *context, raft_id id);
    void (*snapshot_sent)(void *context, raft_id id, bool succeeded);
    /* `by` said for certain that this member was removed from the cluster for good. */
    void (*removed)(void *context, raft_id by);
    /* Takes a request; may answer at once. */
    void (*handle)(void *context, struct peer_request *request);
    void *context;
};

/* ---- the object ---- */

struct peers_options {
    raft_id id;
    uint64_t cluster_id;
    const char *version;     /* "3.5.15" */
    const char *min_version; /* oldest peer that is spoken to: "3.0.0" */
    const char *const *urls; /* own advertised peer URLs */
    uint32_t urls_count;
    const int *listen_fds; /* bound and listening, non-blocking; taken on ST_OK */
    uint32_t listen_fds_count;
    uint64_t election_timeout_ns;  /* a dial may last 1 s longer than that */
    uint64_t snapshot_bytes_per_s; /* limit of one transfer that leaves; 0: none */
    const struct clock *clock;
    const struct byte_stream_factory *streams; /* NULL: plain TCP; borrowed */
    /* Where snapshots are received, as <index in hex>-<number>.part; the owner removes them. */
    const char *snap_dir;
    struct peers_owner owner;
};

/* Errors: ST_NO_MEMORY, ST_IO. Nothing runs yet: members may be added (those removed earlier are
 * said with remove_peer). Everything in options is borrowed for the call, unless it says more.
 */
CHECKED enum status peers_new(const struct peers_options *options, struct peers **out);
/* Starts the thread. */
CHECKED enum status peers_start(struct peers *peers);
/* Closes every connection and ends the threads; what comes in after that is dropped. Requests
 * that are not answered yet may still be. NULL is fine. */
void peers_stop(struct peers *peers);
void peers_free(struct peers *peers); /* NULL is fine; every message and request must have ended */

/* The transport of these peers; its calls are the consensus actor's. Borrowed. */
struct transport *peers_transport(struct peers *peers);

/* Monotonic time since when a member is reachable; 0: it is not, or is not known. Any thread. */
uint64_t peers_active_since_ns(struct peers *peers, raft_id id);

/* Messages hold memory: above PEERS_RECEIVED_BYTES_MAX in those not released yet nothing more is
 * read from the sockets. For tests and for metrics: how much that is now. */
uint64_t peers_received_bytes(const struct peers *peers);
#endif
