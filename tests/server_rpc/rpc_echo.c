/* tests/server_rpc/rpc_echo.c - a server whose methods do nothing, to measure what a call costs:
 * /etcdserverpb.KV/Range is answered on the poller, /etcdserverpb.KV/Put by one actor thread with
 * rpc_finish_later(). Ends when its standard input does.
 * usage: rpc_echo POLLERS RESPONDERS; prints its port. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/listener.h"

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

static struct {
    struct inbox inbox;
    sem_t wake;
    atomic_bool stopping;
    struct rpc_server *server;
} echo;

static void wake(void *context)
{
    (void)context;
    sem_post(&echo.wake);
}

static struct slice answer(struct rpc_call *call)
{
    static const size_t answer_bytes = 77; /* a Range of one key */
    return slice_make(arena_alloc(call->arena, answer_bytes), answer_bytes);
}

static void on_range(struct rpc_call *call)
{
    rpc_finish(call, RPC_OK, NULL, answer(call));
}

static void on_put(struct rpc_call *call)
{
    inbox_push(&echo.inbox, &call->node);
}

static void *apply(void *context)
{
    (void)context;
    while (!atomic_load(&echo.stopping)) {
        sem_wait(&echo.wake);
        struct inbox_node *next;
        for (struct inbox_node *node = inbox_take(&echo.inbox); node != NULL; node = next) {
            next = node->next;
            struct rpc_call *call = CONTAINER_OF(node, struct rpc_call, node);
            rpc_finish_later(call, RPC_OK, NULL, answer(call));
        }
    }
    return NULL;
}

static void take_http2(void *context, int fd, const char *peer)
{
    (void)context;
    rpc_server_add_connection(echo.server, fd, peer);
}

static void take_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                       socklen_t size)
{
    (void)context, (void)peer, (void)address, (void)size;
    close(fd);
}

int main(int argc, char **argv)
{
    static const struct rpc_method methods[] = {
        {.path = "/etcdserverpb.KV/Range", .on_call = on_range},
        {.path = "/etcdserverpb.KV/Put", .on_call = on_put},
    };
    if (argc != 3) {
        fprintf(stderr, "usage: rpc_echo POLLERS RESPONDERS\n");
        return 2;
    }
    struct rpc_service service = {.methods = methods, .methods_count = 2};
    struct rpc_server_options options = {
        .services = &service,
        .services_count = 1,
        .pollers_count = (uint32_t)strtoul(argv[1], NULL, 10),
        .responders_count = (uint32_t)strtoul(argv[2], NULL, 10),
        .request_bytes_max = 2U << 20,
        .streams_max = UINT32_MAX,
        .arena_bytes_max = 64U << 20,
        .keepalive_min_ms = 5000,
        .keepalive_timeout_ms = 20000,
    };
    inbox_init(&echo.inbox, wake, NULL);
    sem_init(&echo.wake, 0, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, apply, NULL);
    enum status st = rpc_server_new(&options, &echo.server);
    ASSERT(st == ST_OK);
    st = rpc_server_start(echo.server);
    ASSERT(st == ST_OK);
    struct acceptor *acceptor;
    st = acceptor_start(&(struct acceptor_options){.on_http2 = take_http2, .on_http1 = take_http1},
                        &acceptor);
    ASSERT(st == ST_OK);
    int fd;
    char text[128];
    st = listener_open("127.0.0.1", 0, &fd, text, sizeof(text));
    ASSERT(st == ST_OK);
    printf("%u\n", listener_port(fd));
    fflush(stdout);
    st = acceptor_add(acceptor, fd, ACCEPT_BOTH);
    ASSERT(st == ST_OK);
    while (getchar() != EOF)
        ;
    acceptor_stop(acceptor);
    st = rpc_server_stop(echo.server, 500, 500);
    ASSERT(st == ST_OK);
    rpc_server_free(echo.server);
    atomic_store(&echo.stopping, true);
    sem_post(&echo.wake);
    pthread_join(thread, NULL);
    return 0;
}
