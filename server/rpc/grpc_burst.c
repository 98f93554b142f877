/* Messages of many streams at once. They are sent by their pollers: there the completions are
 * collected without waking anybody. gRPC writes to the socket once for every message, and the
 * system sends a segment for every write, which costs more than the write; so a connection that
 * gets several messages is corked meanwhile. A large burst goes in parts, so that other calls on
 * the same poller need not wait for the whole of it. */
#include "server/rpc/grpc_private.h"

#include "base/assert.h"

#include <grpc/support/alloc.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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

/* At most a part's worth of those of the first call's connection, which is returned. */
static uint32_t take_part(struct list_node *from, struct list_node *out, uint32_t *count_out)
{
    uint32_t connection = CONTAINER_OF(from->next, struct grpc_rpc, in_burst)->connection;
    list_init(out);
    *count_out = 0;
    for (struct list_node *node = from->next, *next;
         node != from && *count_out < RPC_BURST_PART_MAX; node = next) {
        next = node->next;
        if (CONTAINER_OF(node, struct grpc_rpc, in_burst)->connection != connection)
            continue;
        list_remove(node);
        list_push_back(out, node);
        ++*count_out;
    }
    return connection;
}

static void send_together(struct list_node *list, uint32_t connection, uint32_t count)
{
    if (count > 1)
        set_cork(connection, 1);
    while (!list_is_empty(list))
        grpc_stream_start_send(pop(list));
    if (count > 1)
        set_cork(connection, 0);
}

void grpc_burst_send_part(struct poller *poller)
{
    uint32_t sent = 0;
    while (sent < RPC_BURST_PART_MAX && poller->to_send_count > 0) {
        struct list_node *group = &poller->to_send[poller->next_group], together;
        if (list_is_empty(group)) {
            poller->next_group = (poller->next_group + 1) % RPC_BURST_GROUPS;
            continue;
        }
        uint32_t count;
        uint32_t connection = take_part(group, &together, &count);
        poller->to_send_count -= count;
        send_together(&together, connection, count);
        sent += count;
    }
}

static void take_bursts(struct tag *tag, bool ok)
{
    (void)ok;
    struct poller *poller = CONTAINER_OF(tag, struct poller, bursts_came);
    bool is_first = poller->to_send_count == 0;
    for (struct inbox_node *node = inbox_take(&poller->bursts), *next; node != NULL; node = next) {
        next = node->next;
        struct grpc_rpc *rpc = CONTAINER_OF(node, struct grpc_rpc, to_poller);
        list_push_back(&poller->to_send[rpc->connection % RPC_BURST_GROUPS], &rpc->in_burst);
        poller->to_send_count++;
    }
    if (is_first)
        grpc_burst_send_part(poller);
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
    poller->bursts_came.fire = take_bursts;
    for (uint32_t i = 0; i < RPC_BURST_GROUPS; i++)
        list_init(&poller->to_send[i]);
    inbox_init(&poller->bursts, wake_poller, poller);
}
