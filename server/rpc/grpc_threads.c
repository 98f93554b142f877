#include "server/rpc/grpc_private.h"

#include "base/assert.h"
#include "base/list.h"

#include <errno.h>
#include <grpc/support/time.h>

static _Thread_local const struct poller *current_poller;

bool poller_is_current(const struct poller *poller)
{
    return current_poller == poller;
}

/* False: the server is freed without having been started. */
static bool wait_for_start(struct rpc_server *server)
{
    pthread_mutex_lock(&server->mutex);
    while (!server->started && !server->abandoned)
        pthread_cond_wait(&server->changed, &server->mutex);
    bool started = server->started;
    pthread_mutex_unlock(&server->mutex);
    return started;
}

static void post_requests(struct poller *poller)
{
    struct rpc_server *server = poller->server;
    for (uint32_t m = 0; m < server->methods_count; m++) {
        for (uint32_t i = 0; i < RPC_POSTED_PER_METHOD; i++)
            grpc_rpc_post(poller, &server->methods[m]);
    }
    grpc_stranger_post(poller);
}

/* Between the parts of a burst others get their turn. The queue hands out what is done already
 * before it looks at the sockets, and then reads from one of them: that it was empty once does not
 * show that nobody waits. */
static void *poller_run(void *context)
{
    struct poller *poller = context;
    current_poller = poller;
    uint32_t events = 0, looks = 0; /* since the last part */
    if (wait_for_start(poller->server))
        post_requests(poller);
    for (;;) {
        bool sends = poller->to_send_count > 0;
        gpr_timespec until =
            sends ? gpr_inf_past(GPR_CLOCK_MONOTONIC) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
        grpc_event event = grpc_completion_queue_next(poller->queue, until, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            break;
        looks += event.type == GRPC_QUEUE_TIMEOUT;
        events = sends ? events + 1 : 0;
        if (event.type == GRPC_OP_COMPLETE) {
            struct tag *tag = event.tag;
            tag->fire(tag, event.success != 0);
        }
        if (sends && (looks == RPC_BURST_LOOKS || events == RPC_BURST_EVENTS_MAX)) {
            grpc_burst_send_part(poller);
            events = looks = 0;
        }
    }
    ASSERT(poller->to_send_count == 0);
    return NULL;
}

enum status poller_start(struct poller *poller)
{
    if (pthread_create(&poller->thread, NULL, poller_run, poller) != 0)
        return ST_NO_MEMORY;
    char name[16];
    snprintf(name, sizeof(name), "rpc-poll-%u", poller->number % 100);
    pthread_setname_np(poller->thread, name);
    poller->running = true;
    return ST_OK;
}

void poller_join(struct poller *poller)
{
    if (poller->running)
        pthread_join(poller->thread, NULL);
    else
        poller_run(poller); /* no thread: drain the queue here */
    current_poller = NULL;
    while (poller->pool != NULL) {
        struct grpc_rpc *rpc = poller->pool;
        poller->pool = rpc->next_free;
        grpc_rpc_free(rpc);
    }
}

static void responder_wake(void *context)
{
    struct responder *responder = context;
    sem_post(&responder->wake);
}

static void *responder_run(void *context)
{
    struct responder *responder = context;
    while (!atomic_load(&responder->stopping)) {
        while (sem_wait(&responder->wake) != 0)
            ASSERT(errno == EINTR);
        struct inbox_node *node = inbox_take(&responder->inbox);
        while (node != NULL) {
            struct inbox_node *next = node->next;
            struct rpc_call *call = CONTAINER_OF(node, struct rpc_call, node);
            grpc_rpc_finish_now(CONTAINER_OF(call, struct grpc_rpc, call));
            node = next;
        }
    }
    return NULL;
}

enum status responder_start(struct responder *responder)
{
    inbox_init(&responder->inbox, responder_wake, responder);
    sem_init(&responder->wake, /* pshared= */ 0, 0);
    if (pthread_create(&responder->thread, NULL, responder_run, responder) != 0)
        return ST_NO_MEMORY;
    pthread_setname_np(responder->thread, "rpc-respond");
    responder->running = true;
    return ST_OK;
}

static void reaper_wake(void *context)
{
    struct reaper *reaper = context;
    sem_post(&reaper->wake);
}

static void reap(struct reaper *reaper)
{
    for (struct inbox_node *node = inbox_take(&reaper->inbox), *next; node != NULL; node = next) {
        next = node->next;
        struct rpc_call *call = CONTAINER_OF(node, struct rpc_call, node);
        grpc_rpc_free(CONTAINER_OF(call, struct grpc_rpc, call));
    }
}

static void *reaper_run(void *context)
{
    struct reaper *reaper = context;
    while (!atomic_load(&reaper->stopping)) {
        while (sem_wait(&reaper->wake) != 0)
            ASSERT(errno == EINTR);
        reap(reaper);
    }
    return NULL;
}

enum status reaper_start(struct reaper *reaper)
{
    inbox_init(&reaper->inbox, reaper_wake, reaper);
    sem_init(&reaper->wake, /* pshared= */ 0, 0);
    if (pthread_create(&reaper->thread, NULL, reaper_run, reaper) != 0)
        return ST_NO_MEMORY;
    pthread_setname_np(reaper->thread, "rpc-free");
    reaper->running = true;
    return ST_OK;
}

void reaper_stop(struct reaper *reaper)
{
    if (!reaper->running)
        return;
    atomic_store(&reaper->stopping, true);
    sem_post(&reaper->wake);
    pthread_join(reaper->thread, NULL);
    reaper->running = false;
    reap(reaper);
    sem_destroy(&reaper->wake);
}

void responder_stop(struct responder *responder)
{
    if (!responder->running)
        return;
    atomic_store(&responder->stopping, true);
    sem_post(&responder->wake);
    pthread_join(responder->thread, NULL);
    responder->running = false;
    sem_destroy(&responder->wake);
}
