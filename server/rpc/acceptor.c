#include "server/rpc/acceptor.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/minmax.h"
#include "server/rpc/limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 64
/* File descriptors that connections leave to files and to ourselves, as in etcd. */
#define RESERVED_FILES 150U

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* What an epoll event points at. */
struct watched {
    enum { WATCHED_STOP, WATCHED_LISTENER, WATCHED_CONNECTION } kind;
    int fd;
};

struct listener {
    struct watched watched; /* must be first, here and below */
    enum acceptor_protocol protocol;
};

/* A connection that has not shown its protocol yet. */
struct connection {
    struct watched watched;
    struct list_node node; /* in acceptor.peeking, oldest first */
    uint64_t deadline_ns;
    union address address;
    socklen_t address_size;
    char peer[RPC_PEER_BYTES];
};

struct acceptor {
    struct acceptor_options options;
    int epoll;
    struct watched stop; /* an eventfd */
    struct listener listeners[RPC_LISTENERS_MAX];
    uint32_t listeners_count; /* the adding thread's until acceptor_stop() */
    struct list_node peeking;
    uint32_t peeking_count;
    int fd_max; /* connections stay below this number */
    pthread_t thread;
    bool running;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void format_peer(const union address *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
        snprintf(out, size, "%s:%u", host, ntohs(address->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        snprintf(out, size, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    }
}

static void forget(struct acceptor *acceptor, struct connection *connection)
{
    list_remove(&connection->node);
    acceptor->peeking_count--;
    free(connection);
}

static void drop(struct acceptor *acceptor, struct connection *connection)
{
    close(connection->watched.fd); /* leaves the epoll set by that */
    forget(acceptor, connection);
}

static void hand_over(struct acceptor *acceptor, struct connection *connection, bool is_http2)
{
    const struct acceptor_options *options = &acceptor->options;
    int fd = connection->watched.fd;
    epoll_ctl(acceptor->epoll, EPOLL_CTL_DEL, fd, NULL);
    if (is_http2)
        options->on_http2(options->context, fd, connection->peer);
    else
        options->on_http1(options->context, fd, connection->peer, &connection->address.any,
                          connection->address_size);
    forget(acceptor, connection);
}

/* No HTTP/1 method begins with "PRI ", and no byte is taken off the socket. */
static void peek(struct acceptor *acceptor, struct connection *connection, uint32_t events)
{
    static const char preface[] = {'P', 'R', 'I', ' '};
    char head[sizeof(preface)];
    ssize_t n = recv(connection->watched.fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    bool may_be_http2 = n > 0 && memcmp(head, preface, (size_t)n) == 0;
    if (n == sizeof(preface) || (n > 0 && !may_be_http2))
        hand_over(acceptor, connection, may_be_http2);
    else if (n <= 0 || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        drop(acceptor, connection); /* the rest never comes */
    /* Otherwise a beginning of the preface: the next bytes bring the next event (EPOLLET). */
}

static void set_socket_options(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void begin(struct acceptor *acceptor, const struct listener *listener, int fd,
                  const union address *address, socklen_t address_size)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->watched = (struct watched){.kind = WATCHED_CONNECTION, .fd = fd};
    connection->deadline_ns = now_ns() + acceptor->options.peek_timeout_ms * NS_PER_MS;
    connection->address = *address;
    connection->address_size = address_size;
    format_peer(address, connection->peer, sizeof(connection->peer));
    set_socket_options(fd);
    if (acceptor->peeking_count == ACCEPT_PEEKING_MAX)
        drop(acceptor, CONTAINER_OF(acceptor->peeking.next, struct connection, node));
    list_push_back(&acceptor->peeking, &connection->node);
    acceptor->peeking_count++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                .data.ptr = &connection->watched};
    if (listener->protocol != ACCEPT_BOTH)
        hand_over(acceptor, connection, listener->protocol == ACCEPT_HTTP2);
    else if (epoll_ctl(acceptor->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        drop(acceptor, connection);
}

/* Returns false when the process is out of file descriptors. */
static bool accept_some(struct acceptor *acceptor, const struct listener *listener)
{
    for (uint32_t i = 0; i < ACCEPT_BATCH_MAX; i++) {
        union address address = {0};
        socklen_t size = sizeof(address);
        int fd = accept4(listener->watched.fd, &address.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
        /* The kernel gives the lowest free number: one at the limit means so many in use. */
        if (fd >= acceptor->fd_max)
            close(fd);
        else
            begin(acceptor, listener, fd, &address, size);
    }
    return true; /* the event is level-triggered and comes again */
}

static int until_oldest_expires_ms(const struct acceptor *acceptor)
{
    if (list_is_empty(&acceptor->peeking))
        return -1;
    uint64_t deadline = CONTAINER_OF(acceptor->peeking.next, struct connection, node)->deadline_ns;
    uint64_t now = now_ns();
    return deadline <= now ? 0 : (int)((deadline - now) / NS_PER_MS) + 1;
}

static void expire(struct acceptor *acceptor)
{
    uint64_t now = now_ns();
    while (!list_is_empty(&acceptor->peeking)) {
        struct connection *oldest = CONTAINER_OF(acceptor->peeking.next, struct connection, node);
        if (oldest->deadline_ns > now)
            return;
        drop(acceptor, oldest);
    }
}

/* By address, since the thing pointed at may be a connection that is gone. */
static const struct listener *listener_at(const struct acceptor *acceptor, const void *watched)
{
    uintptr_t first = (uintptr_t)&acceptor->listeners[0];
    uintptr_t end = (uintptr_t)&acceptor->listeners[RPC_LISTENERS_MAX];
    uintptr_t at = (uintptr_t)watched;
    return at >= first && at < end ? watched : NULL;
}

/* Connections before listeners: to accept one may drop the oldest, to which an event of the same
 * round could point. */
static bool serve(struct acceptor *acceptor, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct watched *watched = events[i].data.ptr;
        if (watched->kind == WATCHED_STOP)
            return false;
        if (watched->kind == WATCHED_CONNECTION)
            peek(acceptor, (struct connection *)watched, events[i].events);
    }
    bool have_files = true;
    for (int i = 0; i < count; i++) {
        const struct listener *listener = listener_at(acceptor, events[i].data.ptr);
        if (listener != NULL)
            have_files = accept_some(acceptor, listener) && have_files;
    }
    struct pollfd stop = {.fd = acceptor->stop.fd, .events = POLLIN};
    if (!have_files)
        poll(&stop, 1, ACCEPT_RETRY_MS);
    return true;
}

static void *run(void *context)
{
    struct acceptor *acceptor = context;
    struct epoll_event events[EVENTS_MAX];
    bool go_on = true;
    while (go_on) {
        int count =
            epoll_wait(acceptor->epoll, events, EVENTS_MAX, until_oldest_expires_ms(acceptor));
        ASSERT(count >= 0 || errno == EINTR);
        go_on = serve(acceptor, events, count);
        expire(acceptor);
    }
    return NULL;
}

static int files_max(const struct acceptor_options *options)
{
    if (options->files_max != 0)
        return (int)min_u32(options->files_max, INT_MAX);
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= RESERVED_FILES)
        return 0;
    return (int)min_u64(limit.rlim_cur - RESERVED_FILES, INT_MAX);
}

static enum status open_epoll(struct acceptor *acceptor)
{
    acceptor->epoll = epoll_create1(EPOLL_CLOEXEC);
    acceptor->stop =
        (struct watched){.kind = WATCHED_STOP, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &acceptor->stop};
    if (acceptor->epoll < 0 || acceptor->stop.fd < 0 ||
        epoll_ctl(acceptor->epoll, EPOLL_CTL_ADD, acceptor->stop.fd, &event) != 0)
        return ST_IO;
    return ST_OK;
}

enum status acceptor_start(const struct acceptor_options *options, struct acceptor **out)
{
    *out = NULL;
    struct acceptor *acceptor = calloc(1, sizeof(*acceptor));
    if (acceptor == NULL)
        return ST_NO_MEMORY;
    acceptor->options = *options;
    acceptor->fd_max = files_max(options);
    if (options->peek_timeout_ms == 0)
        acceptor->options.peek_timeout_ms = ACCEPT_PEEK_TIMEOUT_MS;
    list_init(&acceptor->peeking);
    enum status st = open_epoll(acceptor);
    if (st == ST_OK && pthread_create(&acceptor->thread, NULL, run, acceptor) != 0)
        st = ST_NO_MEMORY;
    if (st != ST_OK) {
        acceptor_stop(acceptor);
        return st;
    }
    acceptor->running = true;
    pthread_setname_np(acceptor->thread, "acceptor");
    *out = acceptor;
    return ST_OK;
}

enum status acceptor_add(struct acceptor *acceptor, int fd, enum acceptor_protocol protocol)
{
    enum status st = ST_TOO_BIG;
    if (acceptor->listeners_count < RPC_LISTENERS_MAX) {
        struct listener *listener = &acceptor->listeners[acceptor->listeners_count];
        listener->watched = (struct watched){.kind = WATCHED_LISTENER, .fd = fd};
        listener->protocol = protocol;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener->watched};
        st = epoll_ctl(acceptor->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? ST_OK : ST_IO;
    }
    if (st == ST_OK)
        acceptor->listeners_count++;
    else
        close(fd);
    return st;
}

void acceptor_stop(struct acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    if (acceptor->running) {
        eventfd_write(acceptor->stop.fd, 1);
        pthread_join(acceptor->thread, NULL);
    }
    while (!list_is_empty(&acceptor->peeking))
        drop(acceptor, CONTAINER_OF(acceptor->peeking.next, struct connection, node));
    for (uint32_t i = 0; i < acceptor->listeners_count; i++)
        close(acceptor->listeners[i].watched.fd);
    if (acceptor->stop.fd >= 0)
        close(acceptor->stop.fd);
    if (acceptor->epoll >= 0)
        close(acceptor->epoll);
    free(acceptor);
}
