#include "server/http/http_private.h"

#include "base/minmax.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64

static void tell(struct exchange *exchange, bool is_gone)
{
    pthread_mutex_lock(&exchange->mutex);
    if (is_gone)
        exchange->is_gone = true;
    else
        exchange->has_expired = true;
    pthread_mutex_unlock(&exchange->mutex);
    exchange_wake(exchange);
}

/* A descriptor may have been closed and given to another connection since the event. */
static bool is_hung_up(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void tell_gone(struct http_server *server, int fd)
{
    pthread_mutex_lock(&server->mutex);
    LIST_FOREACH(node, &server->exchanges)
    {
        struct exchange *exchange = CONTAINER_OF(node, struct exchange, node);
        if (exchange->fd == fd && is_hung_up(fd))
            tell(exchange, /* is_gone= */ true);
    }
    pthread_mutex_unlock(&server->mutex);
}

/* Gives how long there is nothing to do, in ms; -1 is for ever. */
static int tell_expired(struct http_server *server)
{
    uint64_t now_ns = http_now_ns(), next_ns = UINT64_MAX;
    pthread_mutex_lock(&server->mutex);
    if (server->next_alarm_ns > now_ns)
        next_ns = server->next_alarm_ns;
    else
        LIST_FOREACH(node, &server->exchanges)
        {
            struct exchange *exchange = CONTAINER_OF(node, struct exchange, node);
            if (exchange->deadline_ns <= now_ns) {
                exchange->deadline_ns = UINT64_MAX;
                tell(exchange, /* is_gone= */ false);
            }
            next_ns = min_u64(next_ns, exchange->deadline_ns);
        }
    server->next_alarm_ns = next_ns;
    pthread_mutex_unlock(&server->mutex);
    if (next_ns == UINT64_MAX)
        return -1;
    return (int)min_u64((next_ns - now_ns) / NS_PER_MS + 1, INT32_MAX);
}

static void adopt_orphans(struct http_server *server)
{
    struct list_node *node;
    do {
        pthread_mutex_lock(&server->mutex);
        node = list_pop_front(&server->orphans);
        pthread_mutex_unlock(&server->mutex);
        if (node != NULL) /* the call holds the exchange until it ends */
            gateway_call_adopt(CONTAINER_OF(node, struct exchange, node)->call,
                               server->options.keeper_poller);
    } while (node != NULL);
}

static void *run(void *context)
{
    struct http_server *server = context;
    bool stop = false;
    while (!stop) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, tell_expired(server));
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd != server->wake_fd) {
                tell_gone(server, events[i].data.fd);
                continue;
            }
            uint64_t ignored;
            (void)!read(server->wake_fd, &ignored, sizeof(ignored));
            adopt_orphans(server);
            pthread_mutex_lock(&server->mutex);
            stop = server->keeper_stopping;
            pthread_mutex_unlock(&server->mutex);
        }
    }
    return NULL;
}

static void poke(struct http_server *server)
{
    uint64_t one = 1;
    (void)!write(server->wake_fd, &one, sizeof(one));
}

enum status keeper_start(struct http_server *server)
{
    server->next_alarm_ns = UINT64_MAX;
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN, .data.fd = server->wake_fd};
    if (server->epoll_fd < 0 || server->wake_fd < 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &wake) != 0)
        return ST_IO;
    server->keeper_runs = pthread_create(&server->keeper, NULL, run, server) == 0;
    return server->keeper_runs ? ST_OK : ST_NO_MEMORY;
}

void keeper_adopt(struct exchange *exchange)
{
    struct http_server *server = exchange->server;
    pthread_mutex_lock(&server->mutex);
    list_push_back(&server->orphans, &exchange->node);
    pthread_mutex_unlock(&server->mutex);
    poke(server);
}

void keeper_stop(struct http_server *server)
{
    pthread_mutex_lock(&server->mutex);
    server->keeper_stopping = true;
    pthread_mutex_unlock(&server->mutex);
    if (server->keeper_runs) {
        poke(server);
        pthread_join(server->keeper, NULL);
    }
    server->keeper_runs = false;
    if (server->epoll_fd >= 0)
        close(server->epoll_fd);
    if (server->wake_fd >= 0)
        close(server->wake_fd);
    server->epoll_fd = server->wake_fd = -1;
}

/* A client whose going away cannot be watched keeps its call until it ends. */
void keeper_add(struct exchange *exchange, int fd, uint64_t deadline_ns)
{
    struct http_server *server = exchange->server;
    struct epoll_event hang_up = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.fd = fd};
    pthread_mutex_lock(&server->mutex);
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &hang_up) == 0)
        exchange->fd = fd;
    exchange->deadline_ns = deadline_ns;
    bool is_sooner = deadline_ns < server->next_alarm_ns;
    if (is_sooner)
        server->next_alarm_ns = deadline_ns;
    pthread_mutex_unlock(&server->mutex);
    if (is_sooner)
        poke(server);
}

void keeper_remove(struct exchange *exchange)
{
    if (exchange->fd >= 0)
        (void)epoll_ctl(exchange->server->epoll_fd, EPOLL_CTL_DEL, exchange->fd, NULL);
    exchange->fd = -1;
    exchange->deadline_ns = UINT64_MAX;
}
