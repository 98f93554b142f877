/* server/rpc/rpc.h - the seam between the services and whatever carries calls: gRPC C core today,
 * the JSON gateway and the simulator later. A service knows nothing of sockets or gRPC.
 *
 * A call is born on a poller thread, which runs its handler; the handler must not block. It is
 * answered from any thread, exactly once, by rpc_finish() (unary: with a message). After that the
 * service must not touch it. */
#ifndef SERVER_RPC_RPC_H
#define SERVER_RPC_RPC_H
#include "base/arena.h"
#include "base/inbox.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

struct rpc_call;

/* Stream shapes; unary is both false. */
struct rpc_method {
    const char *path; /* "/etcdserverpb.KV/Put" */
    bool client_streams, server_streams;
    /* Unary and server-streaming: called once with the whole request in call->message. */
    void (*on_call)(struct rpc_call *call);
    /* Client-streaming and bidi: one message; NULL data: the client half-closed. */
    void (*on_message)(struct rpc_call *call, struct slice message);
    /* The peer went away, its deadline passed, or the server stops. At most once, on any thread,
     * never after rpc_finish() returned. The call must still be finished. May be NULL. */
    void (*on_cancel)(struct rpc_call *call);
    /* The last rpc_send() left; the next may be made. May be NULL. */
    void (*on_sent)(struct rpc_call *call);
};

struct rpc_metadata {
    struct slice key, value;
};

struct rpc_call {
    struct inbox_node node; /* for whoever holds the call at the moment */
    const struct rpc_method *method;
    void *service;        /* as registered */
    struct arena *arena;  /* ends with the call */
    struct slice message; /* unary and server-streaming: the request; valid until the finish */
    const struct rpc_metadata *metadata;
    uint32_t metadata_count;
    const char *peer;     /* for logs, "127.0.0.1:40312" */
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: none */
    uint64_t started_ns;
    uint32_t poller;      /* number of the poller thread, a reader slot for small reads */
    void *state;          /* the service's */
    atomic_bool canceled; /* set before on_cancel */
};

/* Answers and ends the call. message (unary only; ignored unless code is RPC_OK) and text are
 * copied, or for message taken as they lie when they are in call->arena. Any thread. */
void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *text, struct slice message);
/* The same from an actor that must not pay for sockets (apply): handed to a responder thread, one
 * wake-up a batch. message must lie in call->arena. */
void rpc_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                      struct slice message);
/* Streams: sends one message; at most one in flight (see on_sent). */
CHECKED enum status rpc_send(struct rpc_call *call, struct slice message);

/* Reads one metadata value (first of its key, keys in lower case); ST_NOT_FOUND. */
CHECKED enum status rpc_metadata_get(const struct rpc_call *call, const char *key,
                                     struct slice *value_out);
#endif
