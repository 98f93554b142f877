#include "server/rpc/grpc_private.h"

#include "base/assert.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdio.h>

/* Refused with grpc-go's texts, which users find in their search engines. */
static enum rpc_code refuse_too_large(struct grpc_rpc *rpc, size_t size, const char **text_out)
{
    char *text = arena_alloc_raw(&rpc->arena, RPC_TEXT_BYTES_MAX);
    *text_out = "grpc: received message larger than max";
    if (text == NULL)
        return RPC_RESOURCE_EXHAUSTED;
    snprintf(text, RPC_TEXT_BYTES_MAX, "grpc: received message larger than max (%zu vs. %u)", size,
             rpc->server->options.request_bytes_max);
    *text_out = text;
    return RPC_RESOURCE_EXHAUSTED;
}

static enum rpc_code gather(struct grpc_rpc *rpc, const grpc_slice_buffer *pieces,
                            struct slice *out, const char **text_out)
{
    uint8_t *whole = arena_alloc_raw(&rpc->arena, pieces->length);
    if (whole == NULL) {
        *text_out = "not enough memory for the request";
        return RPC_RESOURCE_EXHAUSTED;
    }
    size_t at = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        size_t len = GRPC_SLICE_LENGTH(pieces->slices[i]);
        if (len > 0)
            memcpy(whole + at, GRPC_SLICE_START_PTR(pieces->slices[i]), len);
        at += len;
    }
    ASSERT(at == pieces->length);
    *out = slice_make(whole, at);
    return RPC_OK;
}

enum rpc_code grpc_message_read(struct grpc_rpc *rpc, const grpc_byte_buffer *buffer,
                                struct slice *out, const char **text_out)
{
    static const uint8_t nothing;
    const grpc_slice_buffer *pieces = &buffer->data.raw.slice_buffer;
    if (buffer->data.raw.compression != GRPC_COMPRESS_NONE) {
        *text_out = "grpc: Decompressor is not installed for grpc-encoding";
        return RPC_UNIMPLEMENTED;
    }
    if (pieces->length > rpc->server->options.request_bytes_max)
        return refuse_too_large(rpc, pieces->length, text_out);
    rpc_stats_received(&rpc->method->stats, pieces->length);
    *out = slice_make(&nothing, 0);
    if (pieces->count == 1)
        *out = slice_make(GRPC_SLICE_START_PTR(pieces->slices[0]), pieces->length);
    else if (pieces->count > 1)
        return gather(rpc, pieces, out, text_out);
    return RPC_OK;
}

static void answer_sent(void *context)
{
    grpc_rpc_unref(context);
}

static grpc_byte_buffer *buffer_of(grpc_slice slice)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

grpc_byte_buffer *grpc_message_from_copy(struct slice message)
{
    if (message.len == 0)
        return buffer_of(grpc_empty_slice());
    return buffer_of(grpc_slice_from_copied_buffer((const char *)message.data, message.len));
}

grpc_byte_buffer *grpc_message_from_answer(struct grpc_rpc *rpc, struct slice answer)
{
    if (answer.len <= RPC_COPY_BYTES_MAX)
        return grpc_message_from_copy(answer);
    grpc_rpc_ref(rpc);
    /* gRPC never writes into a slice; its interface merely lacks the const. */
    union {
        const uint8_t *from;
        void *to;
    } bytes = {.from = answer.data};
    return buffer_of(grpc_slice_new_with_user_data(bytes.to, answer.len, answer_sent, rpc));
}

/* ---- pieces ---- */

static void piece_sent(void *context)
{
    rpc_shared_unref(context);
}

static grpc_slice slice_from_shared(const struct rpc_piece *piece)
{
    union { /* as above */
        const uint8_t *from;
        void *to;
    } bytes = {.from = piece->bytes.data};
    rpc_shared_ref(piece->shared);
    return grpc_slice_new_with_user_data(bytes.to, piece->bytes.len, piece_sent, piece->shared);
}

/* One slice of all that are not worth a reference, up to the next that is. */
static grpc_slice slice_from_small(const struct rpc_piece *pieces, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += pieces[i].bytes.len;
    grpc_slice slice = grpc_slice_malloc(size);
    uint8_t *at = GRPC_SLICE_START_PTR(slice);
    for (uint32_t i = 0; i < count; i++) {
        if (pieces[i].bytes.len > 0)
            memcpy(at, pieces[i].bytes.data, pieces[i].bytes.len);
        at += pieces[i].bytes.len;
    }
    return slice;
}

static bool is_small(const struct rpc_piece *piece)
{
    return piece->shared == NULL || piece->bytes.len <= RPC_COPY_BYTES_MAX;
}

grpc_byte_buffer *grpc_message_from_pieces(const struct rpc_piece *pieces, uint32_t count)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(NULL, 0);
    for (uint32_t i = 0; i < count;) {
        uint32_t end = i;
        while (end < count && is_small(&pieces[end]))
            end++;
        grpc_slice slice =
            end > i ? slice_from_small(&pieces[i], end - i) : slice_from_shared(&pieces[i]);
        grpc_slice_buffer_add(&buffer->data.raw.slice_buffer, slice);
        i = end > i ? end : i + 1;
    }
    return buffer;
}
