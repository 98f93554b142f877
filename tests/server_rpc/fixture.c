#include "tests/server_rpc/fixture.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "server/metrics/metrics.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/listener.h"

#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct fixture fixture;

static struct {
    struct inbox inbox;
    sem_t wake;
    pthread_t thread;
    atomic_bool stopping;
} actor;

static pthread_mutex_t seen_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fixture_seen seen; /* under the mutex */

struct fixture_seen fixture_seen(void)
{
    pthread_mutex_lock(&seen_mutex);
    struct fixture_seen copy = seen;
    pthread_mutex_unlock(&seen_mutex);
    return copy;
}

static void on_call(struct rpc_call *call)
{
    struct slice copy;
    struct slice version;
    pthread_mutex_lock(&seen_mutex);
    snprintf(seen.peer, sizeof(seen.peer), "%s", rpc_peer(call));
    if (rpc_metadata_get(call, "client-api-version", &version) == ST_OK)
        snprintf(seen.api_version, sizeof(seen.api_version), "%.*s", (int)version.len,
                 (const char *)version.data);
    seen.time_left_ns =
        call->deadline_ns == UINT64_MAX ? UINT64_MAX : call->deadline_ns - call->started_ns;
    pthread_mutex_unlock(&seen_mutex);
    ASSERT(arena_copy(call->arena, call->message, &copy) == ST_OK);
    rpc_finish(call, RPC_OK, "ignored by clients", copy);
}

static bool hold(struct rpc_call *call, struct slice message)
{
    if (call->repeated || !slice_eq(message, SLICE("hold")))
        return false;
    rpc_hold(call);
    inbox_push(&actor.inbox, &call->node);
    return true;
}

static void on_later(struct rpc_call *call)
{
    if (hold(call, call->message))
        return;
    inbox_push(&actor.inbox, &call->node);
}

static void *actor_run(void *context)
{
    (void)context;
    while (!atomic_load(&actor.stopping)) {
        sem_wait(&actor.wake);
        struct inbox_node *next;
        for (struct inbox_node *node = inbox_take(&actor.inbox); node != NULL; node = next) {
            next = node->next;
            struct rpc_call *call = CONTAINER_OF(node, struct rpc_call, node);
            if (call->held) {
                rpc_again(call);
                continue;
            }
            struct slice copy;
            ASSERT(arena_copy(call->arena, call->message, &copy) == ST_OK);
            rpc_finish_later(call, RPC_OK, NULL, copy);
        }
    }
    return NULL;
}

static void actor_wake(void *context)
{
    (void)context;
    sem_post(&actor.wake);
}

static void on_size(struct rpc_call *call)
{
    char text[32];
    snprintf(text, sizeof(text), "%.*s", (int)call->message.len, (const char *)call->message.data);
    size_t size = strtoul(text, NULL, 10);
    uint8_t *bytes = arena_alloc_raw(call->arena, size);
    ASSERT(bytes != NULL);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i % 251);
    rpc_finish(call, RPC_OK, NULL, slice_make(bytes, size));
}

static void on_fail(struct rpc_call *call)
{
    char text[256];
    snprintf(text, sizeof(text), "%.*s", (int)call->message.len - 1,
             (const char *)call->message.data + 1);
    rpc_finish(call, (enum rpc_code)call->message.data[0], text, SLICE_EMPTY);
}

static void on_wait(struct rpc_call *call)
{
    inbox_push(&fixture.held, &call->node);
}

static void count_cancel(struct rpc_call *call)
{
    ASSERT(atomic_load(&call->canceled));
    atomic_fetch_add(&fixture.cancels, 1);
}

/* Echo over a stream: one message at a time is enough, as the next is read only after on_message;
 * a client that does not read makes it wait in a queue. */
struct echo_stream {
    struct slice queued[64];
    uint32_t first, count;
    bool closing;
};

static void pump(struct rpc_call *call)
{
    struct echo_stream *echo = call->state;
    if (echo->count == 0) {
        if (echo->closing)
            rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
        return;
    }
    enum status st = rpc_send(call, echo->queued[echo->first % 64]);
    if (st != ST_OK)
        return; /* on_sent or on_cancel comes */
    echo->first++;
    echo->count--;
}

static void on_stream_open(struct rpc_call *call)
{
    call->state = ARENA_NEW(call->arena, struct echo_stream);
    if (atomic_load(&fixture.refuses))
        rpc_finish(call, RPC_UNAVAILABLE, "etcdserver: no leader", SLICE_EMPTY);
}

static void on_stream_message(struct rpc_call *call, struct slice message)
{
    ASSERT(!atomic_load(&fixture.refuses));
    if (hold(call, message))
        return;
    struct echo_stream *echo = call->state;
    if (message.data == NULL) {
        atomic_fetch_add(&fixture.half_closes, 1);
        echo->closing = true;
        /* With a message in flight the finish waits for it. */
        if (echo->count == 0)
            rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
        return;
    }
    struct slice copy;
    ASSERT(arena_copy(call->arena, message, &copy) == ST_OK);
    ASSERT(echo->count < 64);
    echo->queued[(echo->first + echo->count++) % 64] = copy;
    pump(call);
}

static void on_stream_sent(struct rpc_call *call)
{
    pump(call);
}

static void on_stream_cancel(struct rpc_call *call)
{
    count_cancel(call);
    rpc_finish(call, RPC_CANCELLED, "context canceled", SLICE_EMPTY);
}

static void on_feed_sent(struct rpc_call *call)
{
    uintptr_t *left = call->state;
    if ((*left)-- == 0) {
        rpc_finish(call, RPC_OUT_OF_RANGE, "no more", SLICE_EMPTY);
        return;
    }
    ASSERT(rpc_send(call, SLICE("food")) == ST_OK);
    ASSERT(rpc_send(call, SLICE("too early")) == ST_BUSY);
}

static void on_feed(struct rpc_call *call)
{
    uintptr_t *left = ARENA_NEW(call->arena, uintptr_t);
    *left = 10;
    call->state = left;
    on_feed_sent(call);
}

static void on_hold_message(struct rpc_call *call, struct slice message)
{
    if (message.data == NULL)
        atomic_fetch_add(&fixture.half_closes, 1);
    atomic_fetch_add(&fixture.holding, 1);
    inbox_push(&fixture.held, &call->node);
}

static void on_empty(struct rpc_call *call)
{
    rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
}

static void take_http2(void *context, int fd, const char *peer)
{
    struct fixture *f = context;
    rpc_server_add_connection(f->server, fd, peer);
}

static void take_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                       socklen_t size)
{
    struct fixture *f = context;
    (void)peer, (void)address, (void)size;
    atomic_fetch_add(&f->http1_connections, 1);
    close(fd);
}

static const struct rpc_method echo_methods[] = {
    {.path = "/test.Echo/Call", .on_call = on_call},
    {.path = "/test.Echo/Later", .on_call = on_later},
    {.path = "/test.Echo/Size", .on_call = on_size},
    {.path = "/test.Echo/Fail", .on_call = on_fail},
    {.path = "/test.Echo/Wait", .on_call = on_wait, .on_cancel = count_cancel},
    {.path = "/test.Echo/Stream",
     .client_streams = true,
     .server_streams = true,
     .on_open = on_stream_open,
     .on_message = on_stream_message,
     .on_sent = on_stream_sent,
     .on_cancel = on_stream_cancel},
    {.path = "/test.Echo/Feed",
     .server_streams = true,
     .on_call = on_feed,
     .on_sent = on_feed_sent,
     .on_cancel = on_stream_cancel},
    {.path = "/test.Echo/Hold",
     .client_streams = true,
     .server_streams = true,
     .on_message = on_hold_message,
     .on_cancel = on_stream_cancel},
};
static const struct rpc_method kv_methods[] = {
    {.path = "/etcdserverpb.KV/Range", .on_call = on_empty},
    {.path = "/etcdserverpb.KV/Put", .on_call = on_empty},
};

static void start_server(void)
{
    const struct rpc_service services[] = {
        {.methods = echo_methods, .methods_count = 8},
        {.methods = kv_methods, .methods_count = 2},
    };
    struct rpc_server_options options = {
        .services = services,
        .services_count = 2,
        .pollers_count = 2,
        .responders_count = 1,
        .request_bytes_max = REQUEST_BYTES_MAX,
        .memory_bytes_max = 64U << 20,
        .streams_max = UINT32_MAX,
        .arena_bytes_max = 64U << 20,
        .keepalive_min_ms = 5000,
        .keepalive_interval_ms = 7200000,
        .keepalive_timeout_ms = 20000,
        .shows_times = true,
    };
    ASSERT(rpc_server_new(&options, &fixture.server) == ST_OK);
    ASSERT(rpc_server_start(fixture.server) == ST_OK);
}

int fixture_setup(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof(fixture));
    memset(&seen, 0, sizeof(seen));
    inbox_init(&fixture.held, NULL, NULL);
    metrics_reset();
    inbox_init(&actor.inbox, actor_wake, NULL);
    sem_init(&actor.wake, 0, 0);
    atomic_store(&actor.stopping, false);
    ASSERT(pthread_create(&actor.thread, NULL, actor_run, NULL) == 0);
    start_server();
    struct acceptor_options accepting = {
        .context = &fixture, .on_http1 = take_http1, .on_http2 = take_http2};
    ASSERT(acceptor_start(&accepting, &fixture.acceptor) == ST_OK);
    char text[128];
    int fd;
    ASSERT(listener_open("127.0.0.1", 0, &fd, text, sizeof(text)) == ST_OK);
    fixture.port = listener_port(fd);
    ASSERT(acceptor_add(fixture.acceptor, fd, ACCEPT_BOTH) == ST_OK);
    return 0;
}

int fixture_teardown(void **state)
{
    (void)state;
    acceptor_stop(fixture.acceptor);
    /* A call whose client gave up may have come in only now. */
    for (uint32_t i = 0; rpc_server_stop(fixture.server, 100, 100) != ST_OK; i++) {
        ASSERT(i < 100);
        struct rpc_call *held;
        while ((held = fixture_take_held()) != NULL)
            rpc_finish(held, RPC_OK, NULL, SLICE_EMPTY);
    }
    rpc_server_free(fixture.server);
    atomic_store(&actor.stopping, true);
    sem_post(&actor.wake);
    pthread_join(actor.thread, NULL);
    sem_destroy(&actor.wake);
    return 0;
}

uint64_t fixture_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct rpc_call *fixture_take_held(void)
{
    if (fixture.held_taken == NULL)
        fixture.held_taken = inbox_take(&fixture.held);
    struct inbox_node *node = fixture.held_taken;
    if (node == NULL)
        return NULL;
    fixture.held_taken = node->next;
    return CONTAINER_OF(node, struct rpc_call, node);
}

struct rpc_call *fixture_wait_held(void)
{
    struct rpc_call *call;
    while ((call = fixture_take_held()) == NULL)
        sched_yield();
    return call;
}

void fixture_wait_cancels(unsigned count)
{
    while (atomic_load(&fixture.cancels) < count)
        sched_yield();
}

unsigned fixture_count_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    ASSERT(dir != NULL);
    unsigned count = 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

int fixture_dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fixture.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ASSERT(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}
