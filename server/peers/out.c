#include "server/peers/out.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/peers/limits.h"

#include <sys/uio.h>

/* A chunk of bytes, or a reference of a payload. */
struct out_piece {
    struct list_node link;
    struct raft_payload *payload; /* NULL: the bytes are in data */
    size_t start, end, capacity;
    uint8_t data[];
};

void out_init(struct out *out)
{
    list_init(&out->pieces);
    out->bytes = 0;
}

static struct out_piece *piece_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct out_piece, link);
}

static void piece_free(struct out_piece *piece)
{
    list_remove(&piece->link);
    raft_payload_unref(piece->payload);
    free(piece);
}

void out_reset(struct out *out)
{
    while (!list_is_empty(&out->pieces))
        piece_free(piece_of(out->pieces.next));
    out->bytes = 0;
}

static struct out_piece *piece_add(struct out *out, size_t capacity)
{
    struct out_piece *piece = malloc(sizeof(*piece) + capacity);
    if (piece == NULL)
        return NULL;
    piece->payload = NULL;
    piece->start = piece->end = 0;
    piece->capacity = capacity;
    list_push_back(&out->pieces, &piece->link);
    return piece;
}

uint8_t *out_reserve(struct out *out, size_t size)
{
    if (!list_is_empty(&out->pieces)) {
        struct out_piece *last = piece_of(out->pieces.prev);
        if (last->payload == NULL && last->capacity - last->end >= size)
            return last->data + last->end;
    }
    struct out_piece *piece = piece_add(out, max_size(size, OUT_CHUNK_BYTES));
    return piece == NULL ? NULL : piece->data;
}

void out_commit(struct out *out, size_t size)
{
    struct out_piece *last = piece_of(out->pieces.prev);
    ASSERT(last->payload == NULL && last->capacity - last->end >= size);
    last->end += size;
    out->bytes += size;
}

enum status out_append(struct out *out, struct slice bytes)
{
    if (bytes.len == 0)
        return ST_OK;
    uint8_t *room = out_reserve(out, bytes.len);
    if (room == NULL)
        return ST_NO_MEMORY;
    memcpy(room, bytes.data, bytes.len);
    out_commit(out, bytes.len);
    return ST_OK;
}

enum status out_payload(struct out *out, struct raft_payload *payload)
{
    struct slice bytes = raft_payload_slice(payload);
    if (bytes.len < OUT_REFERENCE_BYTES_MIN)
        return out_append(out, bytes);
    struct out_piece *piece = piece_add(out, 0);
    if (piece == NULL)
        return ST_NO_MEMORY;
    piece->payload = raft_payload_ref(payload);
    piece->end = bytes.len;
    out->bytes += bytes.len;
    return ST_OK;
}

size_t out_gather(const struct out *out, struct iovec *pieces, size_t count_max)
{
    size_t count = 0;
    LIST_FOREACH(node, &out->pieces)
    {
        struct out_piece *piece = piece_of(node);
        uint8_t *data = piece->payload == NULL ? piece->data : piece->payload->data;
        if (count == count_max)
            break;
        if (piece->start < piece->end)
            pieces[count++] = (struct iovec){data + piece->start, piece->end - piece->start};
    }
    return count;
}

void out_consume(struct out *out, size_t size)
{
    ASSERT(size <= out->bytes);
    out->bytes -= size;
    while (!list_is_empty(&out->pieces)) {
        struct out_piece *piece = piece_of(out->pieces.next);
        size_t part = min_size(size, piece->end - piece->start);
        piece->start += part;
        size -= part;
        if (piece->start < piece->end)
            return;
        piece_free(piece);
    }
}

enum status out_write(struct out *out, struct byte_stream *stream, size_t *size_out)
{
    *size_out = 0;
    while (out->bytes > 0) {
        struct iovec pieces[OUT_PIECES_MAX];
        size_t count = out_gather(out, pieces, OUT_PIECES_MAX);
        size_t written = 0;
        enum status st = byte_stream_writev(stream, pieces, (int)count, &written);
        if (st != ST_OK)
            return st;
        out_consume(out, written);
        *size_out += written;
    }
    return ST_OK;
}
