#include "tests/server_rpc/grpc_client.h"

#include "base/assert.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/compression.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

struct grpc_client {
    grpc_channel *channel;
};

struct grpc_stream {
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_metadata_array trailers, headers;
    bool has_headers;
    grpc_status_code status;
    grpc_slice details;
};

static grpc_arg int_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

struct grpc_client *grpc_client_new(uint16_t port, bool compress)
{
    struct grpc_client *client = calloc(1, sizeof(*client));
    ASSERT(client != NULL);
    char target[32];
    snprintf(target, sizeof(target), "127.0.0.1:%u", port);
    grpc_init();
    grpc_arg args[] = {
        int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1),
        int_arg(GRPC_ARG_ENABLE_RETRIES, 0),
        int_arg(GRPC_COMPRESSION_CHANNEL_DEFAULT_ALGORITHM,
                compress ? GRPC_COMPRESS_GZIP : GRPC_COMPRESS_NONE),
    };
    grpc_channel_args list = {.num_args = sizeof(args) / sizeof(args[0]), .args = args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    client->channel = grpc_channel_create(target, credentials, &list);
    grpc_channel_credentials_release(credentials);
    return client;
}

void grpc_client_free(struct grpc_client *client)
{
    grpc_channel_destroy(client->channel);
    free(client);
    grpc_shutdown_blocking();
}

static gpr_timespec deadline_of(uint32_t timeout_ms)
{
    if (timeout_ms == 0)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
}

static struct grpc_stream *begin(struct grpc_client *client, const char *path, uint32_t timeout_ms)
{
    struct grpc_stream *stream = calloc(1, sizeof(*stream));
    ASSERT(stream != NULL);
    stream->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_slice method = grpc_slice_from_copied_string(path);
    stream->call =
        grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, stream->queue,
                                 method, NULL, deadline_of(timeout_ms), NULL);
    grpc_slice_unref(method);
    grpc_metadata_array_init(&stream->trailers);
    grpc_metadata_array_init(&stream->headers);
    return stream;
}

/* True: the operations succeeded. Tests hang no longer than half a minute. */
static bool run(struct grpc_stream *stream, const grpc_op *ops, size_t count)
{
    grpc_call_error error = grpc_call_start_batch(stream->call, ops, count, stream, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_event event = grpc_completion_queue_pluck(stream->queue, stream, deadline_of(30000), NULL);
    ASSERT(event.type == GRPC_OP_COMPLETE);
    return event.success != 0;
}

static grpc_byte_buffer *buffer_of(struct slice message)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)message.data, message.len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

static void take_message(grpc_byte_buffer *buffer, struct grpc_reply *out)
{
    grpc_reply_free(out);
    if (buffer == NULL)
        return;
    grpc_byte_buffer_reader reader;
    ASSERT(grpc_byte_buffer_reader_init(&reader, buffer) != 0);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    out->len = GRPC_SLICE_LENGTH(all);
    out->data = malloc(out->len + 1);
    ASSERT(out->data != NULL);
    memcpy(out->data, GRPC_SLICE_START_PTR(all), out->len);
    out->data[out->len] = 0;
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(buffer);
}

static void end(struct grpc_stream *stream, struct grpc_reply *out)
{
    out->code = (enum rpc_code)stream->status;
    snprintf(out->text, sizeof(out->text), "%.*s", (int)GRPC_SLICE_LENGTH(stream->details),
             (const char *)GRPC_SLICE_START_PTR(stream->details));
    grpc_slice_unref(stream->details);
    grpc_metadata_array_destroy(&stream->trailers);
    grpc_metadata_array_destroy(&stream->headers);
    grpc_call_unref(stream->call);
    grpc_completion_queue_shutdown(stream->queue);
    grpc_completion_queue_destroy(stream->queue);
    free(stream);
}

static grpc_op headers_op(struct grpc_stream *stream)
{
    return (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA,
                     .data.recv_initial_metadata.recv_initial_metadata = &stream->headers};
}

static grpc_op status_op(struct grpc_stream *stream)
{
    return (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                     .data.recv_status_on_client = {.trailing_metadata = &stream->trailers,
                                                    .status = &stream->status,
                                                    .status_details = &stream->details}};
}

void grpc_client_call(struct grpc_client *client, const char *path, struct slice message,
                      uint32_t timeout_ms, const char *const metadata[2], struct grpc_reply *out)
{
    struct grpc_stream *stream = begin(client, path, timeout_ms);
    grpc_byte_buffer *sent = buffer_of(message);
    grpc_byte_buffer *received = NULL;
    grpc_metadata pair;
    if (metadata != NULL)
        pair = (grpc_metadata){.key = grpc_slice_from_static_string(metadata[0]),
                               .value = grpc_slice_from_static_string(metadata[1])};
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = metadata == NULL ? 0 : 1, .metadata = &pair}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = sent},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        headers_op(stream),
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &received},
        status_op(stream),
    };
    run(stream, ops, sizeof(ops) / sizeof(ops[0]));
    grpc_byte_buffer_destroy(sent);
    take_message(received, out);
    end(stream, out);
}

void grpc_reply_free(struct grpc_reply *reply)
{
    free(reply->data);
    reply->data = NULL;
    reply->len = 0;
}

struct grpc_stream *grpc_stream_open(struct grpc_client *client, const char *path)
{
    struct grpc_stream *stream = begin(client, path, 0);
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    run(stream, &op, 1);
    return stream;
}

bool grpc_stream_write(struct grpc_stream *stream, struct slice message)
{
    grpc_byte_buffer *sent = buffer_of(message);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = sent};
    bool ok = run(stream, &op, 1);
    grpc_byte_buffer_destroy(sent);
    return ok;
}

void grpc_stream_half_close(struct grpc_stream *stream)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    run(stream, &op, 1);
}

bool grpc_stream_read(struct grpc_stream *stream, struct grpc_reply *out)
{
    grpc_byte_buffer *received = NULL;
    /* Messages wait for the headers to be asked for, once. */
    grpc_op ops[] = {{.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &received},
                     headers_op(stream)};
    run(stream, ops, stream->has_headers ? 1 : 2);
    stream->has_headers = true;
    take_message(received, out);
    return out->data != NULL;
}

void grpc_stream_cancel(struct grpc_stream *stream)
{
    grpc_call_cancel(stream->call, NULL);
}

void grpc_stream_end(struct grpc_stream *stream, struct grpc_reply *out)
{
    grpc_op ops[] = {status_op(stream), headers_op(stream)};
    run(stream, ops, stream->has_headers ? 1 : 2);
    grpc_reply_free(out);
    end(stream, out);
}
