/* server/gateway/gateway_private.h - what the gateway's files share. */
#ifndef SERVER_GATEWAY_GATEWAY_PRIVATE_H
#define SERVER_GATEWAY_GATEWAY_PRIVATE_H
#include "server/gateway/gateway.h"

#include "base/buf.h"
#include "server/gateway/json_scan.h"
#include "server/gateway/limits.h"
#include "server/gateway/routes.h"
#include "server/rpc/rpc_stats.h"

#define PEER_BYTES 72U

struct gateway_route {
    struct route route;
    const struct rpc_method *method;
    void *service;
    struct rpc_method_stats stats;
};

struct gateway {
    struct gateway_options options;
    struct gateway_route *routes;
    uint32_t routes_count;
    struct rpc_versions versions;
    atomic_uint calls;           /* that have not ended */
    _Atomic size_t bodies_bytes; /* of all of them */
};

enum {
    CALL_SENDING = 1U,   /* a message is in flight: from rpc_send() until it was read */
    CALL_READY = 2U,     /* and lies in call->message_out */
    CALL_FINISHING = 4U, /* the service has finished */
    CALL_AGAIN = 8U,     /* a held call is to be given to its method once more */
    CALL_CLOSED = 16U,   /* the HTTP server has done with it */
};

/* refs: the HTTP server's, the service's from the start to the finish, and those of rpc_ref().
 * What the service writes (message_out; code, text, answer, json) it gives away with a flag. */
struct gateway_call {
    struct rpc_call call; /* must be first */
    struct gateway *gateway;
    const struct gateway_route *route;
    struct gateway_events events;
    atomic_uint refs, flags;
    struct arena arena;
    char peer[PEER_BYTES];

    /* The HTTP thread's alone. */
    struct rpc_metadata metadata[GATEWAY_METADATA_MAX];
    struct buf body;   /* of the request, JSON */
    struct buf wire;   /* the message decoded from it */
    size_t body_bytes; /* counted in gateway->bodies_bytes */
    size_t body_at;    /* where the next message in body begins */
    bool has_message;  /* one was taken from body, and its method has not returned from it */
    bool is_last;      /* nothing comes after it */
    bool is_started, is_refused, is_cancelled, has_begun, has_ended;
    uint64_t began_ns; /* when the whole request was there and its method was run */
    struct buf error_json;
    enum rpc_code refused_code; /* by the gateway itself, before the method or over its head */
    char refused_text[GATEWAY_TEXT_BYTES];
    size_t read_at; /* of json */

    struct buf message_out; /* a stream's message in flight */
    struct buf json;        /* the answer, or the stream's piece being read */
    enum rpc_code code;
    char *text; /* owned; NULL is empty */
    struct slice answer;
    bool is_encoded; /* json holds the answer already */
};

static inline bool is_stream(const struct gateway_call *call)
{
    return call->route->method->server_streams;
}

/* gateway_transport.c */
extern const struct rpc_transport gateway_transport;
void gateway_call_unref(struct gateway_call *call);
/* Makes json of the answer; the code turns into an error where that fails. */
void gateway_encode_answer(struct gateway_call *call);
#endif
