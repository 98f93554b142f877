/* server/peers/peers_private.h - what the files of the peer port share.
 *
 *   peers.c     the object, its thread, the way from consensus to it
 *   peer.c      one member: its streams, its queue, whether it is reachable
 *   conn.c      one connection: reading, writing, deadlines
 *   dialer.c    connections that we open: streams to read, POSTs, probes
 *   port.c      connections that others open: routes and checks
 *   answer.c    what is answered there
 *   transfer.c  snapshots, each on a thread of its own
 *   received.c  messages on their way to consensus */
#ifndef SERVER_PEERS_PEERS_PRIVATE_H
#define SERVER_PEERS_PEERS_PRIVATE_H
#include "base/list.h"
#include "server/metrics/metrics.h"
#include "server/peers/frames.h"
#include "server/peers/http1.h"
#include "server/peers/limits.h"
#include "server/peers/out.h"
#include "server/peers/peers.h"
#include "server/peers/resolver.h"
#include "server/peers/window.h"

#include <pthread.h>
#include <stdatomic.h>

#define MEMBERS_KNOWN_MAX (RAFT_MEMBERS_MAX + REMOTES_MAX)

/* ---- one member ---- */

/* What we dial to each; the first two are the streams, by their stream_kind. */
enum dial_kind { DIAL_MSGAPP, DIAL_MESSAGE, DIAL_PIPELINE, DIAL_PROBE, DIAL_KINDS };

struct dialer {
    struct conn *conn; /* NULL: none */
    bool is_resolving;
    bool is_refused;     /* it answered, but not as we want it: said once */
    uint32_t attempts;   /* failed in a row; chooses the URL and the address */
    uint32_t urls_count; /* that the attempts take turns with */
    uint32_t places;     /* those, times the addresses of the last one */
    uint32_t refusals;   /* dials in a row that met nobody listening */
    uint64_t next_ns;    /* not before */
    uint64_t backoff_ns; /* after the next failure */
};

struct peer {
    raft_id id;
    atomic_uint references;
    struct peers *peers;
    char hex[17];

    /* Under peers->lock. */
    char urls[PEER_URLS_MAX][URL_BYTES_MAX];
    uint32_t urls_count;

    /* Any thread; each value stands for itself. */
    atomic_uint_fast64_t queued_messages, queued_bytes; /* given to the I/O thread, not encoded */
    atomic_uint_fast64_t active_since_ns;               /* 0: not reachable */
    atomic_bool is_remote;  /* a sender that the configuration lacks: it is only answered */
    atomic_bool is_removed; /* from the configuration */
    atomic_bool lost;       /* messages were dropped, to be reported */

    /* The I/O thread's. */
    struct list_node link; /* in peers->members */
    bool is_listed;
    struct dialer dialers[DIAL_KINDS];
    struct conn *writers[STREAM_KINDS];
    struct list_node pipeline; /* struct outgoing */
    uint32_t pipeline_count;
    uint64_t removed_ns;
    struct metric_child sent_bytes, received_bytes, sent_failures, received_failures, active,
        disconnected, round_trip;
};

/* ---- one connection ---- */

enum conn_role { CONN_ACCEPTED, CONN_WRITER, CONN_DIALLED };
enum conn_state {
    CONN_CONNECTING,
    CONN_HEAD,     /* a head is to come */
    CONN_BODY,     /* its body */
    CONN_WAITING,  /* accepted: for the owner's answer; dialled: for something to send */
    CONN_STREAM,   /* raw from here on */
    CONN_CLOSING,  /* what is in `out` is to leave */
    CONN_DRAINING, /* the other side is to close */
    CONN_DEAD,
};

struct conn {
    struct list_node link; /* in peers->conns, or in peers->dead */
    struct peers *peers;
    struct peer *peer; /* borrowed; NULL while accepted */
    enum conn_role role;
    enum conn_state state;
    enum dial_kind dial;
    struct byte_stream *stream;
    uint32_t events; /* that epoll looks for */
    bool again;      /* has had its turn, and may have more */
    struct window in, body;
    struct http1_body framing;
    struct out out;
    struct frames frames;
    uint64_t deadline_ns;  /* UINT64_MAX: none */
    uint64_t heartbeat_ns; /* of a writer: the next one */

    /* Of an accepted one: the request it is at. */
    uint8_t route;
    bool keeps_alive, is_head;
    uint64_t argument; /* id in the path */
    struct request *request;
    /* Of a dialled one. */
    struct outgoing *sending; /* of the pipeline */
    uint64_t asked_ns;        /* of a probe */
    uint32_t status;          /* of the answer */
};

/* ---- from other threads to the I/O thread ---- */

enum command_kind { COMMAND_SEND, COMMAND_PEER, COMMAND_ANSWER, COMMAND_RESOLVED, COMMAND_UNSENT };

struct command {
    struct inbox_node node;
    enum command_kind kind;
};

struct outgoing {
    struct command command;
    struct list_node link; /* in a pipeline */
    struct peer *peer;     /* counted */
    size_t bytes;
    struct raft_message message; /* entries and context are in the same memory */
    struct raft_entry entries[];
};

struct peer_command { /* COMMAND_PEER: look at it again; COMMAND_UNSENT: a snapshot did not go */
    struct command command;
    struct peer *peer; /* counted; NULL of a COMMAND_UNSENT */
    raft_id id;
};

struct lookup {
    struct command command;
    struct resolving resolving;
    struct peer *peer; /* counted */
    enum dial_kind dial;
};

struct request {
    struct peer_request request;
    struct command command;
    struct peers *peers;
    struct conn *conn; /* the I/O thread's; NULL: it is gone */
    struct window body;
    uint32_t status;
    const char *content_type;
    struct buf answer;
};

/* ---- the object ---- */

struct peers {
    struct transport transport; /* first */
    raft_id id;
    uint64_t cluster_id;
    char id_hex[17], cluster_hex[17], version[32], min_version[32], snap_dir[4096];
    char urls[PEER_URLS_MAX * URL_BYTES_MAX]; /* joined by commas */
    uint64_t dial_timeout_ns, snapshot_bytes_per_s;
    const struct clock *clock;
    const struct byte_stream_factory *streams;
    struct peers_owner owner;

    pthread_mutex_t lock;                  /* held for moments only */
    struct peer *known[MEMBERS_KNOWN_MAX]; /* counted; under lock, as is what follows */
    uint32_t known_count, remotes_count;
    raft_id *removed;
    uint32_t removed_count, removed_capacity;
    struct list_node transfers;
    uint32_t transfers_in, transfers_out;
    atomic_uint transfers_begun;

    struct inbox inbox; /* struct command */
    atomic_uint_fast64_t received_bytes;
    atomic_bool is_stopping;
    bool is_running;
    pthread_t thread;
    struct resolver resolver;

    /* The I/O thread's. */
    int epoll_fd, wake_fd;
    int listen_fds[PEER_URLS_MAX];
    uint32_t listen_fds_count, accepted_count;
    bool is_accepting;
    uint64_t accept_again_ns; /* no descriptors left: pause */
    uint64_t now_ns, timer_ns;
    struct list_node members; /* struct peer; counted */
    struct list_node conns, dead;
    bool any_again, is_full;
    struct inbox_node *incoming, *incoming_last; /* to be delivered at the end of the turn */
    struct metric_child received_from_nobody;
};

/* ---- peers.c ---- */
void peers_timer_at(struct peers *peers, uint64_t at_ns); /* I/O thread: look at deadlines then */
void peers_push(struct peers *peers, struct command *command); /* any thread */

/* ---- peer.c ---- */
struct peer *peer_new(struct peers *peers, raft_id id, bool is_remote);
struct peer *peer_ref(struct peer *peer);
void peer_unref(struct peer *peer); /* NULL is fine */
/* Finds under lock; the reference is the caller's. */
struct peer *peers_find(struct peers *peers, raft_id id);
bool peers_is_removed(struct peers *peers, raft_id id);
/* A sender that is not in the configuration: where it says it can be answered. */
void peers_add_remote(struct peers *peers, raft_id id, struct slice urls);
/* Takes outgoing: into a stream or the pipeline, or nowhere. */
void peer_send(struct peer *peer, struct outgoing *outgoing);
void outgoing_free(struct outgoing *outgoing); /* NULL is fine */
void peer_active(struct peer *peer);
void peer_inactive(struct peer *peer, const char *why);
void peer_unreachable(struct peer *peer); /* tells the owner */
/* The URL that an attempt takes; returns how many there are, 0: none. */
uint32_t peer_url(struct peer *peer, uint32_t attempt, char out[URL_BYTES_MAX]);
uint64_t peer_timers(struct peer *peer, uint64_t now_ns); /* what is due; returns when next */
bool peer_is_finished(const struct peer *peer, uint64_t now_ns); /* removed, and all said */
void peer_shut(struct peer *peer);                               /* closes what it has */

/* ---- conn.c ---- */
/* Takes stream, also on an error. NULL: no memory. */
struct conn *conn_new(struct peers *peers, struct byte_stream *stream, enum conn_role role,
                      enum conn_state state);
void conn_close(struct conn *conn);   /* freed at the end of the turn */
void conn_release(struct conn *conn); /* the same, but keeps stream and in for their new owner */
void conn_free(struct conn *conn);
void conn_flush(struct conn *conn); /* writes what the socket takes; may close */
void conn_events(struct conn *conn, uint32_t events);
void conn_deadline(struct conn *conn, uint64_t after_ns);
void conn_watch(struct conn *conn); /* tells epoll what the state is interested in */
/* It did not go as it should: says so where it matters and closes. */
void conn_fail(struct conn *conn, const char *why);

/* ---- dialer.c ---- */
void dialer_dial(struct peer *peer, enum dial_kind dial);
void dialer_resolved(struct lookup *lookup);
void dialer_connected(struct conn *conn);
CHECKED enum status dialer_input(struct conn *conn); /* bytes came; an error: conn_fail() */
void dialer_closed(struct conn *conn); /* is being closed: the dialer waits for its next turn */
void pipeline_pump(struct peer *peer);
void probe_send(struct conn *conn);

/* ---- port.c ---- */
void port_accept(struct peers *peers, int listen_fd);
CHECKED enum status port_input(struct conn *conn);

/* ---- answer.c ---- */
struct answer {
    uint32_t status;
    const char *content_type; /* NULL: text/plain */
    const char *allow;        /* NULL: no such header */
    bool has_cluster, has_version;
    struct slice body;
};
/* Answers and makes the connection ready for the next request, or for its end. */
void answer_send(struct conn *conn, const struct answer *answer);
void answer_cut(struct conn *conn, struct slice text); /* 500, its body left without an end */
void answer_stream(struct conn *conn);                 /* 200, and the stream begins */
void answer_probe(struct conn *conn);
/* Headers of every answer on a link, for transfers. */
CHECKED enum status answer_put(struct out *out, const struct peers *peers,
                               const struct answer *answer, bool keeps_alive, bool is_head);
void request_begin(struct conn *conn, enum peer_request_kind kind);
void request_answered(struct request *request); /* I/O thread */
void request_free(struct request *request);
/* Headers that we send with every raft request, Host first; the caller adds the empty line. */
CHECKED enum status head_put(struct out *out, const struct peers *peers, const char *method,
                             const char *path, const char *host);

/* ---- transfer.c ---- */
/* Takes the connection's stream: its request is POST /raft/snapshot. */
void transfer_receive(struct conn *conn);
void transfer_send(struct peers *peers, const struct raft_message *message,
                   struct snapshot_source *source);
void transfers_join(struct peers *peers, bool all); /* all: those that still run, too */

/* ---- received.c ---- */
/* Takes the message; path (copied) of a snapshot. NULL: no memory, and it is gone. */
struct peer_message *received_new(struct peers *peers, struct raftpb_message *message,
                                  const char *path);
/* I/O thread: to be delivered with the others of this turn. False: no memory. */
bool received_add(struct peers *peers, struct raftpb_message *message);
void received_deliver(struct peers *peers);

static inline uint64_t peers_now(const struct peers *peers)
{
    return clock_monotonic_ns(peers->clock);
}
#endif
