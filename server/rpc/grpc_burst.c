/* Messages of many streams at once. They are sent by their pollers: there the completions are
 * collected without waking anybody. gRPC writes to the socket once for every message, and the
 * system sends a segment for every write, which costs more than the write; so a connection that
 * gets several messages is corked meanwhile. */
#include "server/rpc/grpc_private.h"

#include "base/assert.h"

#include <grpc/support/alloc.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define GROUPS 64U /* lists of calls, by their connections */

static struct grpc_rpc *pop(struct list_node *list)
{
    return CONTAINER_OF(list_pop_front(list), struct grpc_rpc, in_burst);
}

/* ---- whoever sends ---- */

/* The file descriptor, by which gRPC names connections that were handed over to it. */
static uint32_t connection_of(struct grpc_rpc *rpc)
{
    char *name = grpc_call_get_peer(rpc->handle);
    uint32_t number = INT_MAX;
    if (strncmp(name, "fd:", 3) == 0)
        number = (uint32_t)strtoul(name + 3, NULL, 10);
    gpr_free(name);
    return number;
}

void grpc_burst_hold(struct rpc_burst *burst, struct grpc_rpc *rpc)
{
    if (rpc->connection == UINT32_MAX)
        rpc->connection = connection_of(rpc);
    if (burst->transport == NULL)
        list_init(&burst->held);
    burst->transport = &grpc_transport;
    list_push_back(&burst->held, &rpc->in_burst);
    burst->count++;
}

void grpc_burst_end(struct rpc_burst *burst)
{
    while (!list_is_empty(&burst->held)) {
        struct grpc_rpc *rpc = pop(&burst->held);
        inbox_push(&rpc->poller->bursts, &rpc->to_poller);
    }
}

/* ---- the poller ---- */

/* gRPC may close the connection at any time, and another get its number. Then that one is corked
 * for a moment, or none: so a refusal means nothing. */
static void set_cork(uint32_t connection, int on)
{
    (void)setsockopt((int)connection, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

static void send_together(struct list_node *list, uint32_t connection)
{
    bool several = list->next != list->prev;
    if (several)
        set_cork(connection, 1);
    while (!list_is_empty(list))
        grpc_stream_start_send(pop(list));
    if (several)
        set_cork(connection, 0);
}

/* Moves those of the first call's connection, which is returned. */
static uint32_t take_connection(struct list_node *from, struct list_node *out)
{
    uint32_t connection = CONTAINER_OF(from->next, struct grpc_rpc, in_burst)->connection;
    list_init(out);
    for (struct list_node *node = from->next, *next; node != from; node = next) {
        next = node->next;
        if (CONTAINER_OF(node, struct grpc_rpc, in_burst)->connection != connection)
            continue;
        list_remove(node);
        list_push_back(out, node);
    }
    return connection;
}

static void send_bursts(struct tag *tag, bool ok)
{
    (void)ok;
    struct poller *poller = CONTAINER_OF(tag, struct poller, bursts_came);
    struct list_node groups[GROUPS], together;
    for (uint32_t i = 0; i < GROUPS; i++)
        list_init(&groups[i]);
    for (struct inbox_node *node = inbox_take(&poller->bursts), *next; node != NULL; node = next) {
        next = node->next;
        struct grpc_rpc *rpc = CONTAINER_OF(node, struct grpc_rpc, to_poller);
        list_push_back(&groups[rpc->connection % GROUPS], &rpc->in_burst);
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        while (!list_is_empty(&groups[i])) {
            uint32_t connection = take_connection(&groups[i], &together);
            send_together(&together, connection);
        }
    }
}

/* By a batch of nothing. What is in the inbox stays there until the poller was woken, and its calls
 * live until it has sent their messages. */
static void wake_poller(void *context)
{
    struct poller *poller = context;
    struct inbox_node *any = atomic_load(&poller->bursts.top);
    struct grpc_rpc *rpc = CONTAINER_OF(any, struct grpc_rpc, to_poller);
    grpc_call_error error = grpc_call_start_batch(rpc->handle, NULL, 0, &poller->bursts_came, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

void grpc_bursts_init(struct poller *poller)
{
    poller->bursts_came.fire = send_bursts;
    inbox_init(&poller->bursts, wake_poller, poller);
}
