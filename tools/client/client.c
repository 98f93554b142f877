#include "tools/client/client_private.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <stdlib.h>

/* A unary call: one batch, one completion. */
struct call {
    struct completion completion; /* first: the tag is the call */
    struct client *client;
    struct call *next, *previous;
    client_done_fn done;
    void *context;
    grpc_call *call;
    grpc_byte_buffer *received;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice text;
};

/* ---- endpoints ---- */

static enum status open_channels(struct client *client, const struct client_options *options)
{
    uint32_t per_endpoint = max_u32(options->connections_per_endpoint, 1);
    uint32_t endpoints_count = 1;
    for (const char *p = options->endpoints; *p != '\0'; p++)
        endpoints_count += *p == ',';
    if (per_endpoint > CLIENT_CONNECTIONS_MAX ||
        endpoints_count > CLIENT_CONNECTIONS_MAX / per_endpoint)
        return ST_TOO_BIG;
    client->channels = calloc((size_t)endpoints_count * per_endpoint, sizeof(*client->channels));
    if (client->channels == NULL)
        return ST_NO_MEMORY;
    for (uint32_t round = 0; round < per_endpoint; round++) {
        const char *rest = options->endpoints;
        for (uint32_t i = 0; i < endpoints_count; i++) {
            struct client_endpoint endpoint;
            enum status st = client_next_endpoint(&rest, &endpoint);
            if (st != ST_OK)
                return st;
            grpc_channel *channel = client_channel_new(options, &endpoint);
            if (channel == NULL)
                return ST_INVALID;
            client->channels[client->channels_count++] = channel;
        }
    }
    return ST_OK;
}

/* gRPC tells on stderr, in its own words, what the caller is told by a status. Only what it says
 * before it aborts may pass; GRPC_VERBOSITY brings the rest back. */
static void log_nothing(gpr_log_func_args *args)
{
    if (strncmp(args->message, "assertion failed", 16) == 0)
        fprintf(stderr, "%s:%d: %s\n", args->file, args->line, args->message);
}

enum status client_open(const struct client_options *options, struct client **out)
{
    *out = NULL;
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return ST_NO_MEMORY;
    grpc_init();
    if (getenv("GRPC_VERBOSITY") == NULL)
        gpr_set_log_function(log_nothing);
    client->wait_for_ready = options->wait_for_ready;
    client->queue = grpc_completion_queue_create_for_next(NULL);
    enum status st = open_channels(client, options);
    if (st != ST_OK) {
        client_close(client);
        return st;
    }
    *out = client;
    return ST_OK;
}

void client_cancel_calls(struct client *client)
{
    for (struct call *call = client->calls; call != NULL; call = call->next)
        grpc_call_cancel(call->call, NULL);
}

void client_close(struct client *client)
{
    if (client == NULL)
        return;
    client->closing = true;
    client_cancel_calls(client);
    client_streams_cancel(client);
    while (client->pending > 0)
        client_poll(client, 1000);
    for (uint32_t i = 0; i < client->channels_count; i++)
        grpc_channel_destroy(client->channels[i]);
    free(client->channels);
    grpc_completion_queue_shutdown(client->queue);
    while (
        grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
        GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(client->queue);
    while (client->free != NULL) {
        struct call *call = client->free;
        client->free = call->next;
        free(call);
    }
    free(client);
    grpc_shutdown_blocking();
}

uint32_t client_connections_count(const struct client *client)
{
    return client->channels_count;
}

bool client_is_connected(struct client *client, uint32_t connection)
{
    grpc_channel *channel = client->channels[connection % client->channels_count];
    return grpc_channel_check_connectivity_state(channel, /* try_to_connect= */ 1) ==
           GRPC_CHANNEL_READY;
}

uint32_t client_in_flight(const struct client *client)
{
    return client->in_flight;
}

const char *client_code_name(uint32_t code)
{
    static const char *const names[] = {
        "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
        "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
        "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
        "DataLoss", "Unauthenticated"};
    return code < sizeof(names) / sizeof(names[0]) ? names[code] : "not a gRPC code";
}

/* ---- calls ---- */

static void finish(struct completion *completion, bool ok);

static struct call *call_new(struct client *client)
{
    struct call *call = client->free;
    if (call != NULL)
        client->free = call->next;
    else
        call = malloc(sizeof(*call));
    if (call == NULL)
        return NULL;
    *call = (struct call){.completion = {.run = finish}, .client = client, .next = client->calls};
    if (client->calls != NULL)
        client->calls->previous = call;
    client->calls = call;
    client->in_flight++;
    return call;
}

static void call_free(struct call *call)
{
    struct client *client = call->client;
    ASSERT(client->in_flight > 0);
    client->in_flight--;
    if (call->next != NULL)
        call->next->previous = call->previous;
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        client->calls = call->next;
    call->next = client->free;
    client->free = call;
}

static gpr_timespec deadline_after(uint64_t timeout_ms)
{
    if (timeout_ms == 0)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
}

grpc_call *client_call_create(struct client *client, const struct client_request *request)
{
    grpc_slice method = grpc_slice_from_copied_string(request->method);
    grpc_call *call =
        grpc_channel_create_call(client->channels[request->connection % client->channels_count],
                                 NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, method, NULL,
                                 deadline_after(request->timeout_ms), NULL);
    grpc_slice_unref(method);
    return call;
}

grpc_op client_begin_op(const struct client *client, const struct client_request *request,
                        grpc_metadata metadata[static CLIENT_METADATA_MAX])
{
    ASSERT(request->metadata_count <= CLIENT_METADATA_MAX);
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    for (uint32_t i = 0; i < request->metadata_count; i++) {
        const struct client_metadata *pair = &request->metadata[i];
        metadata[i] = (grpc_metadata){
            .key = grpc_slice_from_copied_buffer((const char *)pair->key.data, pair->key.len),
            .value =
                grpc_slice_from_copied_buffer((const char *)pair->value.data, pair->value.len)};
    }
    op.data.send_initial_metadata.count = request->metadata_count;
    op.data.send_initial_metadata.metadata = metadata;
    if (client->wait_for_ready)
        op.flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                   GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    return op;
}

void client_metadata_unref(const struct client_request *request, grpc_metadata *metadata)
{
    for (uint32_t i = 0; i < request->metadata_count; i++) {
        grpc_slice_unref(metadata[i].key);
        grpc_slice_unref(metadata[i].value);
    }
}

void client_start_ops(struct client *client, grpc_call *call, const grpc_op *ops, size_t count,
                      struct completion *completion)
{
    grpc_call_error error = grpc_call_start_batch(call, ops, count, completion, NULL);
    ASSERT(error == GRPC_CALL_OK); /* anything else is a batch that we built wrongly */
    client->pending++;
}

static void start_batch(struct call *call, const struct client_request *request,
                        grpc_byte_buffer *message)
{
    grpc_metadata metadata[CLIENT_METADATA_MAX];
    grpc_op ops[6] = {
        client_begin_op(call->client, request, metadata),
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &call->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->received},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &call->trailing,
                                        .status = &call->code,
                                        .status_details = &call->text}},
    };
    client_start_ops(call->client, call->call, ops, sizeof(ops) / sizeof(ops[0]),
                     &call->completion);
    client_metadata_unref(request, metadata);
}

grpc_byte_buffer *client_message_new(struct slice body)
{
    grpc_slice bytes = grpc_slice_from_copied_buffer((const char *)body.data, body.len);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&bytes, 1);
    grpc_slice_unref(bytes);
    return message;
}

grpc_slice client_message_bytes(grpc_byte_buffer *message)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, message))
        return grpc_empty_slice();
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    return bytes;
}

enum status client_start(struct client *client, const struct client_request *request,
                         client_done_fn done, void *context)
{
    if (client->closing)
        return ST_CANCELED;
    struct call *call = call_new(client);
    if (call == NULL)
        return ST_NO_MEMORY;
    call->done = done;
    call->context = context;
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->call = client_call_create(client, request);
    grpc_byte_buffer *message = client_message_new(request->body);
    start_batch(call, request, message);
    grpc_byte_buffer_destroy(message);
    return ST_OK;
}

/* Ends the call and tells its owner. */
static void finish(struct completion *completion, bool ok)
{
    (void)ok; /* a batch that receives the status does not fail, the status tells */
    struct call *call = (struct call *)completion;
    /* Short slices hold their bytes in themselves, and the call is reused by the owner's next
     * start: so both are this frame's. */
    grpc_slice text = call->text;
    struct client_reply reply = {
        .code = (uint32_t)call->code,
        .text = slice_make(GRPC_SLICE_START_PTR(text), GRPC_SLICE_LENGTH(text))};
    grpc_slice body = grpc_empty_slice();
    if (call->received != NULL && call->code == GRPC_STATUS_OK) {
        body = client_message_bytes(call->received);
        reply.body = slice_make(GRPC_SLICE_START_PTR(body), GRPC_SLICE_LENGTH(body));
    }
    grpc_call_unref(call->call);
    client_done_fn done = call->done;
    void *context = call->context;
    grpc_byte_buffer *received = call->received;
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    call_free(call);
    done(context, &reply);
    if (received != NULL)
        grpc_byte_buffer_destroy(received);
    grpc_slice_unref(body);
    grpc_slice_unref(text);
}

uint32_t client_wait(struct client *client, uint64_t timeout_ms)
{
    uint32_t count = 0;
    gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                      gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
    do {
        grpc_event event = grpc_completion_queue_next(client->queue, until, NULL);
        if (event.type != GRPC_OP_COMPLETE)
            break;
        client->pending--;
        struct completion *completion = event.tag;
        completion->run(completion, event.success != 0);
        count++;
        until = gpr_inf_past(GPR_CLOCK_MONOTONIC); /* the rest only as far as it waits already */
    } while (client->pending > 0);
    return count;
}

uint32_t client_poll(struct client *client, uint64_t timeout_ms)
{
    return client->pending > 0 ? client_wait(client, timeout_ms) : 0;
}

/* ---- one call, waited for ---- */

void client_take_reply(void *context, const struct client_reply *reply)
{
    struct client_waiter *waiter = context;
    waiter->done = true;
    waiter->out->code = reply->code;
    waiter->status = arena_copy(waiter->arena, reply->text, &waiter->out->text);
    if (waiter->status == ST_OK)
        waiter->status = arena_copy(waiter->arena, reply->body, &waiter->out->body);
}

enum status client_call(struct client *client, const struct client_request *request,
                        struct arena *arena, struct client_reply *out)
{
    *out = (struct client_reply){.code = CLIENT_UNKNOWN};
    struct client_waiter waiter = {.arena = arena, .out = out};
    enum status st = client_start(client, request, client_take_reply, &waiter);
    if (st != ST_OK)
        return st;
    while (!waiter.done)
        client_poll(client, 1000);
    return waiter.status;
}
