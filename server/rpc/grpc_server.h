/* server/rpc/grpc_server.h - carries calls over gRPC C core. It listens on nothing: the acceptor
 * hands it connections that speak HTTP/2.
 * Threads: pollers_count pollers, each with a completion queue of its own, run the handlers;
 * responders_count responders send the answers given by rpc_finish_later(). */
#ifndef SERVER_RPC_GRPC_SERVER_H
#define SERVER_RPC_GRPC_SERVER_H
#include "base/status.h"
#include "server/rpc/rpc.h"

#include <stdint.h>

struct rpc_server; /* opaque, owned by whoever made it */

struct rpc_server_options {
    const struct rpc_service
        *services; /* the array is borrowed for the call, the methods for good */
    uint32_t services_count;
    uint32_t pollers_count;     /* 1 to RPC_POLLERS_MAX */
    uint32_t responders_count;  /* 0: rpc_finish_later() sends on the calling thread */
    uint32_t request_bytes_max; /* one message as it arrives: --max-request-bytes and 512 KiB */
    uint32_t memory_bytes_max;  /* of requests still coming in; 0: RPC_MEMORY_BYTES_MAX */
    uint32_t streams_max;       /* concurrent calls on one connection */
    uint64_t arena_bytes_max;   /* memory of one call */
    uint32_t keepalive_min_ms;  /* a client that pings more often is sent away */
    uint32_t keepalive_interval_ms, keepalive_timeout_ms; /* our pings; interval 0: none */
    bool shows_times; /* how long calls take, as grpc_server_handling_seconds */
    /* A unary call is over, its answer of so many bytes has left, or never will; on its poller,
     * which it must not block. call->message is still there. NULL: nobody asks. */
    void (*ended)(void *context, struct rpc_call *call, enum rpc_code code, size_t answer_bytes);
    void *ended_context;
    /* gRPC core's own error messages; any thread. NULL: they are dropped. One for the process. */
    void (*log)(void *context, const char *text);
    void *log_context;
};

/* Errors: ST_INVALID (two methods of one path), ST_NO_MEMORY; *out is then NULL. */
CHECKED enum status rpc_server_new(const struct rpc_server_options *options,
                                   struct rpc_server **out);
/* Starts the threads; they inherit the caller's signal mask. Errors: ST_NO_MEMORY (a thread could
 * not be made; only _free is left). */
CHECKED enum status rpc_server_start(struct rpc_server *server);
/* Takes a connected, non-blocking socket. peer is copied. Any thread, between start and stop. */
void rpc_server_add_connection(struct rpc_server *server, int fd, const char *peer);
/* Tells clients to go elsewhere (GOAWAY): before their streams are ended, so that none is opened
 * anew over the same connection, where gRPC would cancel it. Once is enough; any thread. */
void rpc_server_send_away(struct rpc_server *server);
/* Sends clients away (GOAWAY), waits up to grace_ms for the calls to end, then cancels what is left
 * and waits up to cancel_ms for the services to finish it. No connection may be added any more.
 * Errors: ST_BUSY (calls are still unfinished: try again, or end the process without _free). */
CHECKED enum status rpc_server_stop(struct rpc_server *server, uint32_t grace_ms,
                                    uint32_t cancel_ms);
void rpc_server_free(struct rpc_server *server); /* NULL is fine; stopped or never started */
#endif
