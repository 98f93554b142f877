/* server/rpc/listener.h - the listening sockets of a server. */
#ifndef SERVER_RPC_LISTENER_H
#define SERVER_RPC_LISTENER_H
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Binds host:port ("" is every address; port 0 picks one) and listens; nothing is accepted yet, so
 * that clients that come before the member is ready wait in the queue. On ST_OK *fd_out is owned.
 * Errors: ST_BUSY (another process listens there), ST_INVALID (no such host or address), ST_IO;
 * then text (at most text_size bytes with the NUL) says so in words that help. */
CHECKED enum status listener_open(const char *host, uint16_t port, int *fd_out, char *text,
                                  size_t text_size);
/* Binds only: who comes before listen() is called is refused. Otherwise as listener_open(). */
CHECKED enum status listener_bind(const char *host, uint16_t port, int *fd_out, char *text,
                                  size_t text_size);
/* The port it is bound to. */
uint16_t listener_port(int fd);
#endif
