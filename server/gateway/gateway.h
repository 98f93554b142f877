/* server/gateway/gateway.h - etcd's JSON gateway: a transport behind server/rpc/rpc.h that speaks
 * JSON. It knows no sockets: an HTTP server gives it the pieces of a request, and takes from it the
 * head and the pieces of the answer.
 *
 *     gateway_call_new(gateway, route, peer, &events, &call);
 *     gateway_call_header(call, ...);  gateway_call_body(call, ...);   as they come
 *     gateway_call_start(call);
 *     gateway_call_head(call, &head)           false: wait for events.wake
 *     gateway_call_read(call, ...)             a stream's body, until its end
 *     gateway_call_close(call);                any time
 *
 * All functions that take a call run on one thread, the poller of its services; what the services
 * do from other threads ends in events.wake. */
#ifndef SERVER_GATEWAY_GATEWAY_H
#define SERVER_GATEWAY_GATEWAY_H
#include "base/clock.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/rpc/rpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gateway;       /* opaque, owned by whoever made it */
struct gateway_call;  /* opaque */
struct gateway_route; /* a path with its method; borrowed from the gateway */

struct gateway_options {
    const struct rpc_service *services; /* borrowed, as the rest */
    uint32_t services_count;
    const struct clock *clock;
    uint32_t poller;            /* number of the thread, as rpc_call.poller */
    uint32_t request_bytes_max; /* of one message in protobuf's encoding */
    bool shows_times;           /* as rpc_server_options' own */
    /* A unary call is over and its client has the answer; as rpc_server_options' own. NULL: nobody
     * asks. */
    void (*ended)(void *context, struct rpc_call *call, enum rpc_code code, size_t answer_bytes);
    void *ended_context;
};

/* Errors: ST_NO_MEMORY. */
CHECKED enum status gateway_new(const struct gateway_options *options, struct gateway **out);
void gateway_free(struct gateway *gateway); /* no call may be there; NULL is fine */

/* The route of a path, "/v3beta" before it rewritten already; NULL: there is none. */
const struct gateway_route *gateway_find(const struct gateway *gateway, const char *path);

bool gateway_route_is_unary(const struct gateway_route *route);

struct gateway_events {
    /* Something came for the one who waits. Any thread, also before the wait and for nothing. */
    void (*wake)(void *context);
    /* A closed call that its service had held is to go on: gateway_call_adopt(), soon, on one
     * thread for all such calls. Any thread. */
    void (*orphan)(void *context);
    /* The call's memory has ended; nothing is called after it. Any thread. */
    void (*released)(void *context);
    void *context;
};

/* Errors: ST_BUSY (GATEWAY_CALLS_MAX), ST_NO_MEMORY; released is then not called. */
CHECKED enum status gateway_call_new(struct gateway *gateway, const struct gateway_route *route,
                                     const char *peer, const struct gateway_events *events,
                                     struct gateway_call **out);
/* One header of the request: some become metadata. */
void gateway_call_header(struct gateway_call *call, const char *name, const char *value);
/* One piece of its body. Too much of it is dropped, and the answer says so. */
void gateway_call_body(struct gateway_call *call, struct slice piece);
/* The body is complete: decodes it and runs the method. */
void gateway_call_start(struct gateway_call *call);
/* When the call is to be told gateway_call_expire(), monotonic; UINT64_MAX: never. */
uint64_t gateway_call_deadline_ns(const struct gateway_call *call);
void gateway_call_expire(struct gateway_call *call);

struct gateway_head {
    uint32_t http_status;
    bool is_stream;    /* the body follows in pieces, else it is here: */
    struct slice body; /* borrowed from the call */
    bool has_metadata; /* the method itself has answered */
};
/* False: not yet. */
bool gateway_call_head(struct gateway_call *call, struct gateway_head *out);

enum gateway_read { GATEWAY_BYTES, GATEWAY_WAIT, GATEWAY_END, GATEWAY_BROKEN };
/* The next bytes of a stream, at most size; *size_out is set with GATEWAY_BYTES. */
enum gateway_read gateway_call_read(struct gateway_call *call, uint8_t *to, size_t size,
                                    size_t *size_out);

/* The HTTP server has done with it; a call still under way is cancelled. NULL is fine. */
void gateway_call_close(struct gateway_call *call);
/* After events.orphan: gives the call to its method again, on a thread with that poller's number.
 */
void gateway_call_adopt(struct gateway_call *call, uint32_t poller);
#endif
