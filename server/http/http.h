/* server/http/http.h - what the client port answers to HTTP/1.1, as etcd does: /health, /livez,
 * /readyz, /version, /metrics, /debug/vars, and under /v3/ the JSON gateway. It listens on nothing:
 * the acceptor hands it connections. One thread of its own, on which it also runs the services that
 * the gateway calls, and one that looks after calls under way: who has gone, whose time is up. */
#ifndef SERVER_HTTP_HTTP_H
#define SERVER_HTTP_HTTP_H
#include "base/buf.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct gateway;
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
    /* Writes the JSON of /debug/vars. NULL: there is no such page. Errors: buf_append()'s. */
    enum status (*vars)(void *context, struct buf *out);
};

struct http_options {
    struct http_handlers handlers;
    const char *api_version; /* "3.5.15", borrowed */
    /* The JSON gateway, borrowed; its poller is this server's thread. NULL: none. */
    struct gateway *gateway;
    uint32_t keeper_poller; /* number of the other thread, for calls whose client has gone */
    /* --listen-metrics-urls: no /version, no /debug, no gateway, for any host and web page. */
    bool only_metrics;
    /* Comma-separated, as the flags; NULL, "" or with a "*" among them: all. */
    const char *origins; /* web pages that may ask: --cors */
    const char *hosts;   /* names that clients may call this server: --host-whitelist */
    /* Tells of a client that used another name. Optional. */
    void (*on_foreign_host)(void *context, const char *host);
    void *context;
};

/* Errors: ST_NO_MEMORY, ST_IO; *out is then NULL. */
CHECKED enum status http_server_start(const struct http_options *options, struct http_server **out);
/* Takes a connected, non-blocking socket. Any thread, between start and stop. */
void http_server_add_connection(struct http_server *server, int fd, const struct sockaddr *address,
                                socklen_t address_size);
/* Any thread, once per check; error is NULL or constant. Also after http_server_stop(). */
void http_check_done(struct http_check *check, const char *error);
/* Lets unary calls of the gateway end for grace_ms, then cancels what is open, closes every
 * connection, and waits for cancelled calls for cancel_ms. Errors: ST_BUSY: some call is still with
 * its service; then nothing that it was given may end, and http_server_free() not be called.
 * NULL is fine. */
CHECKED enum status http_server_stop(struct http_server *server, uint32_t grace_ms,
                                     uint32_t cancel_ms);
void http_server_free(struct http_server *server); /* after a stop; NULL is fine */
#endif
