/* server/run/front.h - the client port of a running member: accepted connections go to gRPC or to
 * the HTTP endpoints, calls to the services, the services to the member's actors. */
#ifndef SERVER_RUN_FRONT_H
#define SERVER_RUN_FRONT_H
#include "base/status.h"
#include "server/run/member.h"

#include <stdint.h>

struct front;

/* Bound sockets, taken. */
struct front_listeners {
    const int *sockets;
    uint32_t count;
};

struct front_options {
    struct member *member; /* borrowed; outlives the front */
    /* For gRPC, and for HTTP/1.1 unless there are some for it alone. */
    struct front_listeners clients, http;
    bool gateway;                /* --enable-grpc-gateway */
    const char *origins, *hosts; /* --cors, --host-whitelist; borrowed */
    uint32_t pollers_count;      /* as the member's */
    uint32_t request_bytes_max, streams_max;
    uint64_t request_timeout_ns;
    uint32_t keepalive_min_ms, keepalive_interval_ms, keepalive_timeout_ms;
    bool shows_times; /* --metrics=extensive */
};

/* Starts to serve. Errors: ST_NO_MEMORY, ST_IO, and the parts'. */
CHECKED enum status front_open(const struct front_options *options, struct front **out);
/* Tells clients to go elsewhere; before the member ends their watches. NULL is fine. */
void front_send_away(struct front *front);
/* No new connections; open calls may end for grace_ms, then they are cancelled. Services and
 * sockets are gone after it. NULL is fine. */
void front_close(struct front *front, uint32_t grace_ms);
#endif
