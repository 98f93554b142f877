#include "tests/sim/network.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"

#include <stdlib.h>
#include <string.h>

#define PEERS_MAX 64U
#define SNAPSHOT_READ_BYTES 4096U

struct packet {
    struct peer_message message; /* what the receiver gets */
    struct heap_node node;
    struct network *network;
    uint32_t from, to;
    uint64_t connection; /* of the link when it was sent */
    struct raft_snapshot_meta snapshot;
    uint8_t *bytes; /* of the db file */
    size_t bytes_len;
    struct raft_entry entries[];
};

struct endpoint {
    struct transport base;
    struct network *network;
    uint32_t member;
    raft_id peers[PEERS_MAX];
    uint32_t peers_count;
};

struct network {
    struct rng *rng;
    const uint64_t *now_ns;
    network_deliver_fn deliver;
    network_sent_fn sent;
    network_tap_fn tap;
    network_lost_fn lost;
    void *context;
    uint64_t connections[NETWORK_MEMBERS_MAX][NETWORK_MEMBERS_MAX]; /* resets so far */
    raft_id ids[NETWORK_MEMBERS_MAX];
    struct network_link links[NETWORK_MEMBERS_MAX][NETWORK_MEMBERS_MAX];
    struct endpoint endpoints[NETWORK_MEMBERS_MAX];
    struct heap heap;
};

/* ---- packets ---- */

static void packet_free(struct packet *packet)
{
    for (uint32_t i = 0; i < packet->message.message.entries_count; i++)
        raft_payload_unref(packet->entries[i].payload);
    free((void *)(uintptr_t)packet->message.message.context.data);
    free((void *)(uintptr_t)packet->message.snapshot_path);
    free(packet->bytes);
    free(packet);
}

static void release_message(struct peer_message *message)
{
    packet_free(CONTAINER_OF(message, struct packet, message));
}

static void *must_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    memcpy(copy, data, len);
    copy[len] = 0;
    return copy;
}

static struct packet *packet_new(const struct raft_message *message)
{
    struct packet *packet =
        calloc(1, sizeof(*packet) + message->entries_count * sizeof(struct raft_entry));
    ASSERT(packet != NULL);
    struct raft_message *copy = &packet->message.message;
    *copy = *message;
    for (uint32_t i = 0; i < message->entries_count; i++) {
        packet->entries[i] = message->entries[i];
        if (message->entries[i].payload != NULL) {
            packet->entries[i].payload =
                raft_payload_copy(raft_payload_slice(message->entries[i].payload));
            ASSERT(packet->entries[i].payload != NULL);
        }
    }
    copy->entries = packet->entries;
    copy->context.data =
        message->context.len == 0 ? NULL : must_copy(message->context.data, message->context.len);
    if (message->snapshot != NULL) {
        packet->snapshot = *message->snapshot;
        copy->snapshot = &packet->snapshot;
    }
    packet->message.release = release_message;
    heap_node_init(&packet->node);
    return packet;
}

static void launch(struct network *network, uint32_t from, uint32_t to, struct packet *packet)
{
    const struct network_link *link = &network->links[from][to];
    uint64_t spread = link->delay_ns_max - link->delay_ns_min;
    packet->network = network;
    packet->from = from;
    packet->to = to;
    packet->connection = network->connections[from][to];
    uint64_t at_ns = *network->now_ns + link->delay_ns_min + rng_below(network->rng, spread + 1);
    enum status st = heap_push(&network->heap, &packet->node, at_ns);
    ASSERT(st == ST_OK);
}

static bool find(const struct network *network, raft_id id, uint32_t *out)
{
    for (uint32_t i = 0; i < NETWORK_MEMBERS_MAX; i++) {
        if (network->ids[i] == id && id != 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool is_lost(struct network *network, const struct network_link *link)
{
    return link->cut || rng_below(network->rng, 1000) < link->loss_permille;
}

/* A sender whose connection is dead may notice at once or only later. */
static void report_lost(struct network *network, uint32_t from, raft_id to)
{
    if (network->lost != NULL && rng_below(network->rng, 4) == 0)
        network->lost(network->context, from, to);
}

/* ---- the transport ---- */

static bool knows(const struct endpoint *endpoint, raft_id id)
{
    for (uint32_t i = 0; i < endpoint->peers_count; i++) {
        if (endpoint->peers[i] == id)
            return true;
    }
    return false;
}

static void endpoint_send(struct transport *transport, const struct raft_message *messages,
                          uint32_t count)
{
    struct endpoint *endpoint = CONTAINER_OF(transport, struct endpoint, base);
    struct network *network = endpoint->network;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to;
        ASSERT(messages[i].type != RAFT_MSG_SNAP);
        if (!knows(endpoint, messages[i].to) || !find(network, messages[i].to, &to))
            continue;
        const struct network_link *link = &network->links[endpoint->member][to];
        if (network->tap != NULL)
            network->tap(network->context, endpoint->member, &messages[i]);
        if (is_lost(network, link)) {
            report_lost(network, endpoint->member, messages[i].to);
            continue;
        }
        launch(network, endpoint->member, to, packet_new(&messages[i]));
        /* A proposal that came twice would happen twice: transports do not send it again. */
        if (messages[i].type != RAFT_MSG_PROP &&
            rng_below(network->rng, 1000) < link->twice_permille)
            launch(network, endpoint->member, to, packet_new(&messages[i]));
    }
}

static bool read_source(struct snapshot_source *source, struct packet *packet)
{
    packet->bytes = malloc(source->size + SNAPSHOT_READ_BYTES);
    ASSERT(packet->bytes != NULL);
    for (;;) {
        size_t got = 0;
        if (source->read(source, packet->bytes + packet->bytes_len, SNAPSHOT_READ_BYTES, &got) !=
            ST_OK)
            return false;
        if (got == 0)
            return packet->bytes_len == source->size;
        packet->bytes_len += got;
        ASSERT(packet->bytes_len <= source->size);
    }
}

static void endpoint_send_snapshot(struct transport *transport, const struct raft_message *message,
                                   struct snapshot_source *source)
{
    struct endpoint *endpoint = CONTAINER_OF(transport, struct endpoint, base);
    struct network *network = endpoint->network;
    struct packet *packet = packet_new(message);
    uint32_t to;
    bool sent = read_source(source, packet) && find(network, message->to, &to) &&
                !is_lost(network, &network->links[endpoint->member][to]);
    source->close(source);
    if (sent) {
        launch(network, endpoint->member, to, packet);
        return;
    }
    network->sent(network->context, endpoint->member, message->to, false);
    packet_free(packet);
}

static void endpoint_add(struct transport *transport, raft_id id, const struct slice *urls,
                         uint32_t urls_count)
{
    (void)urls;
    (void)urls_count;
    struct endpoint *endpoint = CONTAINER_OF(transport, struct endpoint, base);
    if (knows(endpoint, id))
        return;
    ASSERT(endpoint->peers_count < PEERS_MAX);
    endpoint->peers[endpoint->peers_count++] = id;
}

static void endpoint_remove(struct transport *transport, raft_id id)
{
    struct endpoint *endpoint = CONTAINER_OF(transport, struct endpoint, base);
    for (uint32_t i = 0; i < endpoint->peers_count; i++) {
        if (endpoint->peers[i] == id)
            endpoint->peers[i--] = endpoint->peers[--endpoint->peers_count];
    }
}

/* ---- the network ---- */

struct network *network_new(struct rng *rng, const uint64_t *now_ns, network_deliver_fn deliver,
                            network_sent_fn sent, void *context)
{
    struct network *network = calloc(1, sizeof(*network));
    ASSERT(network != NULL);
    network->rng = rng;
    network->now_ns = now_ns;
    network->deliver = deliver;
    network->sent = sent;
    network->context = context;
    heap_init(&network->heap);
    for (uint32_t i = 0; i < NETWORK_MEMBERS_MAX; i++) {
        network->endpoints[i] = (struct endpoint){.base = {.send = endpoint_send,
                                                           .send_snapshot = endpoint_send_snapshot,
                                                           .add_peer = endpoint_add,
                                                           .update_peer = endpoint_add,
                                                           .remove_peer = endpoint_remove},
                                                  .network = network,
                                                  .member = i};
        for (uint32_t j = 0; j < NETWORK_MEMBERS_MAX; j++)
            network->links[i][j] = (struct network_link){.delay_ns_min = NS_PER_MS / 10,
                                                         .delay_ns_max = NS_PER_MS / 10};
    }
    return network;
}

void network_free(struct network *network)
{
    if (network == NULL)
        return;
    for (struct heap_node *node = heap_pop(&network->heap); node != NULL;
         node = heap_pop(&network->heap))
        packet_free(CONTAINER_OF(node, struct packet, node));
    heap_deinit(&network->heap);
    free(network);
}

struct network_link *network_link(struct network *network, uint32_t from, uint32_t to)
{
    ASSERT(from < NETWORK_MEMBERS_MAX && to < NETWORK_MEMBERS_MAX);
    return &network->links[from][to];
}

void network_watch(struct network *network, network_tap_fn tap, network_lost_fn lost)
{
    network->tap = tap;
    network->lost = lost;
}

void network_reset(struct network *network, uint32_t a, uint32_t b)
{
    network->connections[a][b]++;
    network->connections[b][a]++;
    if (network->lost == NULL)
        return;
    network->lost(network->context, a, network->ids[b]);
    network->lost(network->context, b, network->ids[a]);
}

void network_isolate(struct network *network, uint32_t member, bool cut)
{
    for (uint32_t i = 0; i < NETWORK_MEMBERS_MAX; i++) {
        network_link(network, member, i)->cut = cut;
        network_link(network, i, member)->cut = cut;
    }
}

void network_name(struct network *network, uint32_t member, raft_id id)
{
    network->ids[member] = id;
}

struct transport *network_transport(struct network *network, uint32_t member)
{
    return &network->endpoints[member].base;
}

uint32_t network_peers_count(const struct network *network, uint32_t member)
{
    return network->endpoints[member].peers_count;
}

void network_forget_peers(struct network *network, uint32_t member)
{
    network->endpoints[member].peers_count = 0;
}

uint64_t network_next_ns(const struct network *network)
{
    const struct heap_node *first = heap_peek(&network->heap);
    return first == NULL ? UINT64_MAX : first->key;
}

bool network_step(struct network *network)
{
    if (network_next_ns(network) > *network->now_ns)
        return false;
    struct packet *packet = CONTAINER_OF(heap_pop(&network->heap), struct packet, node);
    struct peer_message *message = &packet->message;
    bool is_snapshot = message->message.type == RAFT_MSG_SNAP;
    /* Cut, or reset, while it was under way. */
    if (network->links[packet->from][packet->to].cut ||
        packet->connection != network->connections[packet->from][packet->to]) {
        if (is_snapshot)
            network->sent(network->context, packet->from, message->message.to, false);
        packet_free(packet);
        return true;
    }
    uint32_t from = packet->from;
    raft_id to = message->message.to;
    /* A peer port learns from the request where to answer one it does not know yet (X-PeerURLs). */
    endpoint_add(&network->endpoints[packet->to].base, message->message.from, NULL, 0);
    network->deliver(network->context, packet->to, message,
                     slice_make(packet->bytes, packet->bytes_len));
    if (is_snapshot)
        network->sent(network->context, from, to, true);
    return true;
}
