#include "server/peers/peers_private.h"

struct received {
    struct peer_message message;
    struct peers *peers;
    struct raftpb_message own;
    size_t bytes;
    uint8_t tail[]; /* path with its NUL, context, data */
};

static void wake(struct peers *peers)
{
    peers->inbox.wake(peers->inbox.wake_context);
}

static void received_release(struct peer_message *message)
{
    struct received *r = CONTAINER_OF(message, struct received, message);
    struct peers *peers = r->peers;
    size_t bytes = r->bytes;
    raftpb_message_deinit(&r->own);
    free(r);
    uint64_t before = atomic_fetch_sub(&peers->received_bytes, bytes);
    if (before > PEERS_RECEIVED_BYTES_MAX && before - bytes <= PEERS_RECEIVED_BYTES_MAX)
        wake(peers);
}

static struct slice copy_tail(uint8_t **at, struct slice bytes)
{
    if (bytes.len == 0)
        return SLICE_EMPTY;
    memcpy(*at, bytes.data, bytes.len);
    struct slice copy = slice_make(*at, bytes.len);
    *at += bytes.len;
    return copy;
}

struct peer_message *received_new(struct peers *peers, struct raftpb_message *message,
                                  const char *path)
{
    size_t path_size = path == NULL ? 0 : strlen(path) + 1;
    size_t size =
        sizeof(struct received) + path_size + message->message.context.len + message->data.len;
    struct received *r = malloc(size);
    if (r == NULL) {
        raftpb_message_deinit(message);
        return NULL;
    }
    r->peers = peers;
    r->own = *message;
    r->bytes = size + message->bytes;
    uint8_t *at = r->tail;
    r->message = (struct peer_message){.message = message->message, .release = received_release};
    if (path != NULL)
        r->message.snapshot_path = (const char *)copy_tail(&at, slice_make(path, path_size)).data;
    r->message.message.context = copy_tail(&at, message->message.context);
    r->message.snapshot_data = copy_tail(&at, message->data);
    atomic_fetch_add(&peers->received_bytes, r->bytes);
    return &r->message;
}

bool received_add(struct peers *peers, struct raftpb_message *message)
{
    struct peer_message *received = received_new(peers, message, NULL);
    if (received == NULL)
        return false;
    received->node.next = NULL;
    if (peers->incoming == NULL)
        peers->incoming = &received->node;
    else
        peers->incoming_last->next = &received->node;
    peers->incoming_last = &received->node;
    return true;
}

void received_deliver(struct peers *peers)
{
    struct inbox_node *chain = peers->incoming;
    peers->incoming = peers->incoming_last = NULL;
    if (chain != NULL)
        peers->owner.receive(peers->owner.context, CONTAINER_OF(chain, struct peer_message, node));
}
