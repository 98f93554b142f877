/* server/peers/dial.h - from a member's URL to a connecting socket. */
#ifndef SERVER_PEERS_DIAL_H
#define SERVER_PEERS_DIAL_H
#include "base/status.h"
#include "server/peers/limits.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct peer_url {
    char host[256]; /* without the brackets of an IPv6 address */
    char port[6];
    bool is_ipv6, is_secure; /* secure: https */
};

struct peer_addresses {
    struct sockaddr_storage items[ADDRESSES_MAX];
    socklen_t sizes[ADDRESSES_MAX];
    uint32_t count;
};

/* Errors: ST_INVALID (not http://host[:port] or https). */
CHECKED enum status peer_url_parse(const char *text, struct peer_url *out);
/* numeric: only if the host is an address, which never waits. Errors: ST_NOT_FOUND. */
CHECKED enum status peer_url_resolve(const struct peer_url *url, bool numeric,
                                     struct peer_addresses *out);
/* Begins to connect; *fd_out is owned and non-blocking, writable when dial_finish() may be asked.
 * Errors: ST_IO. */
CHECKED enum status dial_start(const struct peer_addresses *addresses, uint32_t which, int *fd_out);
/* Errors: ST_IO (refused or the like). */
CHECKED enum status dial_finish(int fd);
void dial_tune(int fd); /* what every connection of this port has: no delay, keepalive */
#endif
