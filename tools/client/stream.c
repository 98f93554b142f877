#include "tools/client/client_private.h"

#include "base/assert.h"
#include "base/list.h"

/* A message that waits for the one before it: gRPC takes one at a time. */
struct unsent {
    struct unsent *next;
    grpc_byte_buffer *message;
    size_t len;
};

/* Operations of one call end each by itself; the stream ends with the last of them. */
struct client_stream {
    struct client *client;
    struct client_stream *next, *previous;
    struct client_stream_events events;
    grpc_call *call;
    struct completion begun, received, sent, finished, status;
    uint32_t pending;
    bool is_sending, is_finishing, is_over;
    struct unsent *unsent, **unsent_end;
    size_t unsent_bytes;
    grpc_byte_buffer *message;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice text;
};

static void start(struct client_stream *stream, const grpc_op *ops, size_t count,
                  struct completion *completion)
{
    client_start_ops(stream->client, stream->call, ops, count, completion);
    stream->pending++;
}

/* ---- its end ---- */

static void drop_unsent(struct client_stream *stream)
{
    while (stream->unsent != NULL) {
        struct unsent *unsent = stream->unsent;
        stream->unsent = unsent->next;
        grpc_byte_buffer_destroy(unsent->message);
        free(unsent);
    }
    stream->unsent_end = &stream->unsent;
    stream->unsent_bytes = 0;
}

static void unlink_stream(struct client_stream *stream)
{
    if (stream->next != NULL)
        stream->next->previous = stream->previous;
    if (stream->previous != NULL)
        stream->previous->next = stream->next;
    else
        stream->client->streams = stream->next;
}

static void completed(struct client_stream *stream)
{
    ASSERT(stream->pending > 0);
    if (--stream->pending > 0 || !stream->is_over)
        return;
    struct client_reply reply = {
        .code = (uint32_t)stream->code,
        .text = slice_make(GRPC_SLICE_START_PTR(stream->text), GRPC_SLICE_LENGTH(stream->text))};
    stream->events.ended(stream->events.context, &reply);
    unlink_stream(stream);
    drop_unsent(stream);
    grpc_call_unref(stream->call);
    grpc_metadata_array_destroy(&stream->initial);
    grpc_metadata_array_destroy(&stream->trailing);
    grpc_slice_unref(stream->text);
    free(stream);
}

static void on_begun(struct completion *completion, bool ok)
{
    (void)ok; /* the status tells */
    completed(CONTAINER_OF(completion, struct client_stream, begun));
}

static void on_finished(struct completion *completion, bool ok)
{
    (void)ok;
    completed(CONTAINER_OF(completion, struct client_stream, finished));
}

static void on_status(struct completion *completion, bool ok)
{
    (void)ok;
    struct client_stream *stream = CONTAINER_OF(completion, struct client_stream, status);
    stream->is_over = true;
    completed(stream);
}

/* ---- messages ---- */

static void receive_next(struct client_stream *stream)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->message};
    start(stream, &op, 1, &stream->received);
}

/* No message means that none will come: the status follows. */
static void on_received(struct completion *completion, bool ok)
{
    struct client_stream *stream = CONTAINER_OF(completion, struct client_stream, received);
    grpc_byte_buffer *message = stream->message;
    stream->message = NULL;
    if (message != NULL) {
        grpc_slice bytes = client_message_bytes(message);
        if (ok)
            stream->events.message(stream->events.context, slice_make(GRPC_SLICE_START_PTR(bytes),
                                                                      GRPC_SLICE_LENGTH(bytes)));
        grpc_slice_unref(bytes);
        grpc_byte_buffer_destroy(message);
        receive_next(stream);
    }
    completed(stream);
}

static void send_next(struct client_stream *stream)
{
    if (stream->is_sending || stream->is_over)
        return;
    struct unsent *unsent = stream->unsent;
    if (unsent != NULL) {
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE,
                      .data.send_message.send_message = unsent->message};
        stream->is_sending = true;
        start(stream, &op, 1, &stream->sent);
    } else if (stream->is_finishing) {
        grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        stream->is_sending = true; /* for good: nothing follows */
        start(stream, &op, 1, &stream->finished);
    }
}

static void on_sent(struct completion *completion, bool ok)
{
    (void)ok; /* the call has failed, then; the status tells */
    struct client_stream *stream = CONTAINER_OF(completion, struct client_stream, sent);
    struct unsent *unsent = stream->unsent;
    stream->unsent = unsent->next;
    if (stream->unsent == NULL)
        stream->unsent_end = &stream->unsent;
    stream->unsent_bytes -= unsent->len;
    grpc_byte_buffer_destroy(unsent->message);
    free(unsent);
    stream->is_sending = false;
    send_next(stream);
    completed(stream);
}

enum status client_stream_send(struct client_stream *stream, struct slice body)
{
    if (stream->is_finishing)
        return ST_INVALID;
    if (body.len > CLIENT_STREAM_UNSENT_MAX - stream->unsent_bytes)
        return ST_TOO_BIG;
    struct unsent *unsent = malloc(sizeof(*unsent));
    if (unsent == NULL)
        return ST_NO_MEMORY;
    *unsent = (struct unsent){.message = client_message_new(body), .len = body.len};
    *stream->unsent_end = unsent;
    stream->unsent_end = &unsent->next;
    stream->unsent_bytes += body.len;
    send_next(stream);
    return ST_OK;
}

void client_stream_finish(struct client_stream *stream)
{
    stream->is_finishing = true;
    send_next(stream);
}

void client_stream_cancel(struct client_stream *stream)
{
    grpc_call_cancel(stream->call, NULL);
}

void client_streams_cancel(struct client *client)
{
    for (struct client_stream *stream = client->streams; stream != NULL; stream = stream->next)
        client_stream_cancel(stream);
}

/* ---- its beginning ---- */

static void start_all(struct client_stream *stream, const struct client_request *request)
{
    grpc_metadata metadata[CLIENT_METADATA_MAX];
    grpc_op begin = client_begin_op(stream->client, request, metadata);
    start(stream, &begin, 1, &stream->begun);
    client_metadata_unref(request, metadata);
    grpc_op receive[2] = {
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &stream->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->message},
    };
    start(stream, receive, 2, &stream->received);
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                      .data.recv_status_on_client = {.trailing_metadata = &stream->trailing,
                                                     .status = &stream->code,
                                                     .status_details = &stream->text}};
    start(stream, &status, 1, &stream->status);
}

enum status client_stream_open(struct client *client, const struct client_request *request,
                               const struct client_stream_events *events,
                               struct client_stream **out)
{
    *out = NULL;
    if (client->closing)
        return ST_CANCELED;
    struct client_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL)
        return ST_NO_MEMORY;
    stream->client = client;
    stream->events = *events;
    stream->begun.run = on_begun;
    stream->received.run = on_received;
    stream->sent.run = on_sent;
    stream->finished.run = on_finished;
    stream->status.run = on_status;
    stream->unsent_end = &stream->unsent;
    grpc_metadata_array_init(&stream->initial);
    grpc_metadata_array_init(&stream->trailing);
    stream->next = client->streams;
    if (client->streams != NULL)
        client->streams->previous = stream;
    client->streams = stream;
    stream->call = client_call_create(client, request);
    start_all(stream, request);
    *out = stream;
    return ST_OK;
}
