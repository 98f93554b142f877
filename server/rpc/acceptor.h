/* server/rpc/acceptor.h - accepts the connections of the client port and hands each to the server
 * that speaks its protocol, told by its first bytes: HTTP/2's preface goes one way, everything else
 * the other. One thread. */
#ifndef SERVER_RPC_ACCEPTOR_H
#define SERVER_RPC_ACCEPTOR_H
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct acceptor; /* opaque, owned by whoever made it */

struct acceptor_options {
    uint32_t
        files_max; /* connections get numbers below it; 0: RLIMIT_NOFILE less 150, as in etcd */
    uint32_t peek_timeout_ms; /* 0: ACCEPT_PEEK_TIMEOUT_MS */
    void *context;
    /* Takes a connected, non-blocking socket from which nothing was read. On the acceptor's thread;
     * must not block. peer is borrowed, "127.0.0.1:40312". */
    void (*on_http2)(void *context, int fd, const char *peer);
    void (*on_http1)(void *context, int fd, const char *peer, const struct sockaddr *address,
                     socklen_t address_size);
};

/* Starts the thread; it accepts nothing before a listener is added. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status acceptor_start(const struct acceptor_options *options, struct acceptor **out);
/* What the connections of a listener speak: either, to be told by a look, or one protocol. */
enum acceptor_protocol { ACCEPT_BOTH, ACCEPT_HTTP1, ACCEPT_HTTP2 };
/* Takes a listening socket. Any one thread. Errors: ST_TOO_BIG (RPC_LISTENERS_MAX), ST_IO; the
 * socket is then closed. */
CHECKED enum status acceptor_add(struct acceptor *acceptor, int listener,
                                 enum acceptor_protocol protocol);
/* Closes the listeners and the connections not handed over yet, and ends. NULL is fine. */
void acceptor_stop(struct acceptor *acceptor);
#endif
