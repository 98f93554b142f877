/* server/http/http.h - what the client port answers to HTTP/1.1: /health, /livez, /readyz, /version
 * and /metrics, as etcd does. It listens on nothing: the acceptor hands it connections. One thread
 * of its own. */
#ifndef SERVER_HTTP_HTTP_H
#define SERVER_HTTP_HTTP_H
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct http_server; /* opaque, owned by whoever started it */
struct http_check;  /* a check under way, the handler's until http_check_done() */

/* Active alarms of any member. */
#define HTTP_ALARM_NOSPACE 1U
#define HTTP_ALARM_CORRUPT 2U
#define HTTP_ALARM_OTHER 4U

/* How the member is asked. All run on the HTTP thread and must not block; error texts are constant,
 * NULL is success. */
struct http_handlers {
    void *context;
    uint32_t (*alarms)(void *context); /* HTTP_ALARM_* */
    /* Whether the member was taken out of service, since what it promised is gone. */
    bool (*is_quarantined)(void *context);
    bool (*has_leader)(void *context);
    /* Reads one key at the current revision, as root. */
    const char *(*serializable_read)(void *context);
    /* Begins a read that waits for its moment; it ends with http_check_done(), at the latest when
     * the server's own time limit for requests has passed. */
    void (*linearizable_read)(void *context, struct http_check *check);
    /* Writes "3.5.0"; false: not decided yet. */
    bool (*cluster_version)(void *context, char *out, size_t size);
};

struct http_options {
    struct http_handlers handlers;
    const char *api_version; /* "3.5.15", borrowed */
};

/* Errors: ST_NO_MEMORY; *out is then NULL. */
CHECKED enum status http_server_start(const struct http_options *options, struct http_server **out);
/* Takes a connected, non-blocking socket. Any thread, between start and stop. */
void http_server_add_connection(struct http_server *server, int fd, const struct sockaddr *address,
                                socklen_t address_size);
/* Any thread, once per check; error is NULL or constant. Also after http_server_stop(). */
void http_check_done(struct http_check *check, const char *error);
/* Closes every connection and ends. NULL is fine. */
void http_server_stop(struct http_server *server);
#endif
