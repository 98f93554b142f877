/* server/rpc/rpc.h - the seam between the services and whatever carries calls: gRPC C core today,
 * the JSON gateway and the simulator later. A service knows nothing of sockets or gRPC.
 *
 * A call is born on a poller thread, which runs its handler; the handler must not block. It is
 * answered from any thread, exactly once, by rpc_finish() or rpc_finish_later(). After that the
 * service must not touch it, unless it holds a reference. */
#ifndef SERVER_RPC_RPC_H
#define SERVER_RPC_RPC_H
#include "base/arena.h"
#include "base/inbox.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* gRPC's codes, by their numbers on the wire. */
enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED,
    RPC_UNKNOWN,
    RPC_INVALID_ARGUMENT,
    RPC_DEADLINE_EXCEEDED,
    RPC_NOT_FOUND,
    RPC_ALREADY_EXISTS,
    RPC_PERMISSION_DENIED,
    RPC_RESOURCE_EXHAUSTED,
    RPC_FAILED_PRECONDITION,
    RPC_ABORTED,
    RPC_OUT_OF_RANGE,
    RPC_UNIMPLEMENTED,
    RPC_INTERNAL,
    RPC_UNAVAILABLE,
    RPC_DATA_LOSS,
    RPC_UNAUTHENTICATED,
};
#define RPC_CODES_COUNT 17U

struct rpc_call;

/* The callbacks of one call come one after another on its poller thread, on_open or on_call before
 * all others. Once the call is finished none begins; one that is running on the poller while
 * another thread finishes runs to its end, and the call's memory outlives it. */
struct rpc_method {
    const char *path; /* "/etcdserverpb.KV/Put" */
    /* Stream shapes; unary is both false. */
    bool client_streams, server_streams;
    /* Unary and server-streaming: called once with the whole request in call->message. */
    void (*on_call)(struct rpc_call *call);
    /* Client-streaming and bidi: the stream has come, though its client may have nothing to say
     * yet. May be NULL. */
    void (*on_open)(struct rpc_call *call);
    /* Client-streaming and bidi: one message, borrowed for the callback; the next is not read from
     * the connection before it returns. NULL data: the client half-closed (an empty message has
     * data); the service may go on sending, and should finish when it has said what it wants. */
    void (*on_message)(struct rpc_call *call, struct slice message);
    /* The peer went away, its deadline passed, or the server stops; at most once. The call must
     * still be finished. May be NULL: then call->canceled is not kept up to date for a unary call,
     * which saves an event on each. */
    void (*on_cancel)(struct rpc_call *call);
    /* The last rpc_send() left; the next may be made. May be NULL. */
    void (*on_sent)(struct rpc_call *call);
};

/* A group of methods with one service pointer: the table that a service exports. */
struct rpc_service {
    const struct rpc_method *methods; /* borrowed */
    uint32_t methods_count;
    void *service; /* becomes call->service */
};

struct rpc_metadata {
    struct slice key, value;
};

/* Memory that several messages share. Counted; any thread. */
struct rpc_shared {
    atomic_uint refs;
    void (*free)(struct rpc_shared *shared); /* with the last reference */
};
static inline void rpc_shared_ref(struct rpc_shared *shared)
{
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
}
static inline void rpc_shared_unref(struct rpc_shared *shared)
{
    if (atomic_fetch_sub_explicit(&shared->refs, 1, memory_order_acq_rel) == 1)
        shared->free(shared);
}

/* A part of a message. */
struct rpc_piece {
    struct slice bytes;
    struct rpc_shared *shared; /* whose the bytes are; NULL: they are copied */
};

/* Messages of several calls that leave together; zeroed at first. One thread's. */
struct rpc_burst {
    const struct rpc_transport *transport; /* of those held; NULL: none */
    struct list_node held;                 /* the transport's */
    uint32_t count;
};

/* What carries a call; services use the functions below. */
struct rpc_transport {
    void (*finish)(struct rpc_call *call, enum rpc_code code, const char *text,
                   struct slice message);
    void (*finish_later)(struct rpc_call *call, enum rpc_code code, const char *text,
                         struct slice message);
    enum status (*send)(struct rpc_call *call, struct slice message);
    /* NULL: the pieces are joined and sent as one. */
    enum status (*send_pieces)(struct rpc_call *call, const struct rpc_piece *pieces,
                               uint32_t count, struct rpc_burst *burst);
    void (*end_burst)(struct rpc_burst *burst); /* of one that holds something */
    const char *(*peer)(struct rpc_call *call);
    void (*hold)(struct rpc_call *call);
    void (*again)(struct rpc_call *call);
    void (*ref)(struct rpc_call *call);
    void (*unref)(struct rpc_call *call);
};

struct rpc_call {
    struct inbox_node node; /* for whoever holds the call at the moment */
    const struct rpc_transport *transport;
    const struct rpc_method *method;
    void *service;        /* as registered */
    struct arena *arena;  /* ends with the call */
    struct slice message; /* unary and server-streaming: the request; valid until the finish */
    const struct rpc_metadata *metadata;
    uint32_t metadata_count;
    uint32_t poller;      /* number of the poller thread, a reader slot for small reads */
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: none */
    uint64_t started_ns;
    void *state;          /* the service's */
    void *trace;          /* the service's, for whoever asks where the time of a call went */
    atomic_bool canceled; /* set before on_cancel */
    bool held;            /* between rpc_hold() and the callback's return; on_cancel may come */
    bool repeated;        /* it was held before */
};

/* Answers and ends the call. message (unary only; ignored unless code is RPC_OK) is sent from where
 * it lies and must be in call->arena or constant; text is copied, NULL is empty. A stream is ended
 * after the message in flight has left. Any thread. */
void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *text, struct slice message);
/* The same from an actor that must not pay for sockets (apply): handed to a responder thread, one
 * wake-up a batch. text too must be in call->arena or constant. */
void rpc_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                      struct slice message);
/* Streams: sends one message (copied); at most one in flight (see on_sent). Any thread, one at a
 * time, not after the finish. Errors: ST_BUSY (one is in flight), ST_CANCELED (the call is gone,
 * on_cancel comes or came), ST_NO_MEMORY. */
CHECKED enum status rpc_send(struct rpc_call *call, struct slice message);
/* The same of a message in pieces: shared ones may be sent from where they lie, and are referred to
 * until they have left. With a burst it may be held back until that ends; NULL: it is sent now. */
CHECKED enum status rpc_send_pieces(struct rpc_call *call, const struct rpc_piece *pieces,
                                    uint32_t count, struct rpc_burst *burst);
/* Sends what the burst holds: of each connection in as few writes as its transport can. The burst
 * is empty after it. */
void rpc_burst_end(struct rpc_burst *burst);

/* From on_call or on_message, which does nothing more then: it is called again with the same
 * message once rpc_again() was called; until then no message of the call is delivered, which leaves
 * a client that goes on sending to the connection's flow control. Whoever finishes the call
 * meanwhile sees to it that rpc_again() comes all the same. */
void rpc_hold(struct rpc_call *call);
void rpc_again(struct rpc_call *call); /* any thread; once for each rpc_hold() */

/* The peer's address for logs, "127.0.0.1:40312"; borrowed from the call. */
const char *rpc_peer(struct rpc_call *call);
/* Keeps the call's memory (arena, metadata, state) beyond its finish, for a message to an actor
 * that may be overtaken by it. Any thread. */
void rpc_ref(struct rpc_call *call);
void rpc_unref(struct rpc_call *call);

/* Reads one metadata value (first of its key, keys in lower case); ST_NOT_FOUND. */
CHECKED enum status rpc_metadata_get(const struct rpc_call *call, const char *key,
                                     struct slice *value_out);
#endif
