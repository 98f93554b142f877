#include "server/rpc/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Without SO_REUSEPORT: a second server on the port must learn of the first. */
static int bind_socket(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6) {
        int off = 0; /* "::" takes IPv4 too, as Go's listeners do */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static enum status explain(int error, const char *host, uint16_t port, char *text, size_t text_size)
{
    const char *hint = "";
    if (error == EADDRINUSE)
        hint = "; another process listens there (is a server running already?)";
    else if (error == EACCES)
        hint = "; ports below 1024 need a privilege";
    else if (error == EADDRNOTAVAIL)
        hint = "; this machine has no such address";
    snprintf(text, text_size, "cannot listen on %s:%u: %s%s", host, port, strerror(error), hint);
    if (error == EADDRINUSE)
        return ST_BUSY;
    return error == EADDRNOTAVAIL ? ST_INVALID : ST_IO;
}

enum status listener_bind(const char *host, uint16_t port, int *fd_out, char *text,
                          size_t text_size)
{
    *fd_out = -1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(host[0] == '\0' ? NULL : host, service, &hints, &found);
    if (failure != 0) {
        snprintf(text, text_size, "cannot listen on %s:%u: %s", host, port, gai_strerror(failure));
        return ST_INVALID;
    }
    int fd = -1;
    int error = EADDRNOTAVAIL;
    for (struct addrinfo *a = found; a != NULL && fd < 0 && error != EADDRINUSE; a = a->ai_next) {
        fd = bind_socket(a);
        error = errno;
    }
    freeaddrinfo(found);
    if (fd < 0)
        return explain(error, host, port, text, text_size);
    *fd_out = fd;
    return ST_OK;
}

enum status listener_open(const char *host, uint16_t port, int *fd_out, char *text,
                          size_t text_size)
{
    enum status st = listener_bind(host, port, fd_out, text, text_size);
    if (st != ST_OK || listen(*fd_out, SOMAXCONN) == 0)
        return st;
    int error = errno;
    close(*fd_out);
    *fd_out = -1;
    return explain(error, host, port, text, text_size);
}

uint16_t listener_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {0};
    socklen_t size = sizeof(address);
    if (getsockname(fd, &address.any, &size) != 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}
