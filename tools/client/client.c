#include "tools/client/client.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

struct client {
    grpc_channel **channels;
    uint32_t channels_count, in_flight;
    bool wait_for_ready, closing;
    grpc_completion_queue *queue;
    struct call *calls; /* all in flight, for client_close() */
    struct call *free;  /* kept for the next start */
};

/* A unary call: one batch, one completion. */
struct call {
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

/* A connection of its own for each channel: by default channels with one target share one. Retries
 * and the environment's proxy would make what is measured or tested something else. */
static grpc_channel *channel_new(const char *target)
{
    static char retries[] = GRPC_ARG_ENABLE_RETRIES, proxy[] = GRPC_ARG_ENABLE_HTTP_PROXY;
    static char resolution[] = GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION;
    static char pool[] = GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL;
    static char receive[] = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
    static char backoff_first[] = GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS;
    static char backoff_min[] = GRPC_ARG_MIN_RECONNECT_BACKOFF_MS;
    static char backoff_max[] = GRPC_ARG_MAX_RECONNECT_BACKOFF_MS;
    grpc_arg list[] = {
        {.type = GRPC_ARG_INTEGER, .key = retries, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = proxy, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = resolution, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = pool, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = receive, .value.integer = -1 /* no limit */},
        {.type = GRPC_ARG_INTEGER, .key = backoff_first, .value.integer = 50},
        {.type = GRPC_ARG_INTEGER, .key = backoff_min, .value.integer = 1000},
        {.type = GRPC_ARG_INTEGER, .key = backoff_max, .value.integer = 1000},
    };
    grpc_channel_args args = {.num_args = sizeof(list) / sizeof(list[0]), .args = list};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, credentials, &args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

/* Takes the next endpoint off the front of *list as a gRPC target. */
static enum status next_target(const char **list, char target[static 256])
{
    const char *start = *list;
    size_t len = strcspn(start, ",");
    *list = start[len] == ',' ? start + len + 1 : start + len;
    if (len >= 8 && memcmp(start, "https://", 8) == 0)
        return ST_UNSUPPORTED;
    if (len >= 7 && memcmp(start, "http://", 7) == 0) {
        start += 7;
        len -= 7;
    }
    while (len > 0 && start[len - 1] == '/')
        len--;
    if (len == 0 || len > 255 || memchr(start, ':', len) == NULL)
        return ST_INVALID;
    memcpy(target, start, len);
    target[len] = '\0';
    return ST_OK;
}

static enum status open_channels(struct client *client, const char *endpoints,
                                 uint32_t per_endpoint)
{
    uint32_t endpoints_count = 1;
    for (const char *p = endpoints; *p != '\0'; p++)
        endpoints_count += *p == ',';
    if (per_endpoint > CLIENT_CONNECTIONS_MAX ||
        endpoints_count > CLIENT_CONNECTIONS_MAX / per_endpoint)
        return ST_TOO_BIG;
    client->channels = calloc((size_t)endpoints_count * per_endpoint, sizeof(*client->channels));
    if (client->channels == NULL)
        return ST_NO_MEMORY;
    for (uint32_t round = 0; round < per_endpoint; round++) {
        const char *rest = endpoints;
        for (uint32_t i = 0; i < endpoints_count; i++) {
            char target[256];
            enum status st = next_target(&rest, target);
            if (st != ST_OK)
                return st;
            client->channels[client->channels_count++] = channel_new(target);
        }
    }
    return ST_OK;
}

enum status client_open(const struct client_options *options, struct client **out)
{
    *out = NULL;
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return ST_NO_MEMORY;
    grpc_init();
    client->wait_for_ready = options->wait_for_ready;
    client->queue = grpc_completion_queue_create_for_next(NULL);
    enum status st =
        open_channels(client, options->endpoints, max_u32(options->connections_per_endpoint, 1));
    if (st != ST_OK) {
        client_close(client);
        return st;
    }
    *out = client;
    return ST_OK;
}

void client_close(struct client *client)
{
    if (client == NULL)
        return;
    client->closing = true;
    for (struct call *call = client->calls; call != NULL; call = call->next)
        grpc_call_cancel(call->call, NULL);
    while (client->in_flight > 0)
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

static struct call *call_new(struct client *client)
{
    struct call *call = client->free;
    if (call != NULL)
        client->free = call->next;
    else
        call = malloc(sizeof(*call));
    if (call == NULL)
        return NULL;
    *call = (struct call){.client = client, .next = client->calls};
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

static void start_batch(struct call *call, grpc_byte_buffer *message)
{
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
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
    if (call->client->wait_for_ready)
        ops[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                       GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    grpc_call_error error =
        grpc_call_start_batch(call->call, ops, sizeof(ops) / sizeof(ops[0]), call, NULL);
    ASSERT(error == GRPC_CALL_OK); /* anything else is a batch that we built wrongly */
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
    grpc_slice method = grpc_slice_from_copied_string(request->method);
    call->call =
        grpc_channel_create_call(client->channels[request->connection % client->channels_count],
                                 NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, method, NULL,
                                 deadline_after(request->timeout_ms), NULL);
    grpc_slice_unref(method);
    grpc_slice bytes =
        grpc_slice_from_copied_buffer((const char *)request->body.data, request->body.len);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&bytes, 1);
    start_batch(call, message);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(bytes);
    return ST_OK;
}

/* Ends the call and tells its owner. */
static void finish(struct call *call)
{
    /* Short slices hold their bytes in themselves, and the call is reused by the owner's next
     * start: so both are this frame's. */
    grpc_slice text = call->text;
    struct client_reply reply = {
        .code = (uint32_t)call->code,
        .text = slice_make(GRPC_SLICE_START_PTR(text), GRPC_SLICE_LENGTH(text))};
    grpc_slice body = grpc_empty_slice();
    if (call->received != NULL && call->code == GRPC_STATUS_OK) {
        grpc_byte_buffer_reader reader;
        if (grpc_byte_buffer_reader_init(&reader, call->received)) {
            body = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
        }
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

uint32_t client_poll(struct client *client, uint64_t timeout_ms)
{
    uint32_t count = 0;
    gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                      gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
    while (client->in_flight > 0) {
        grpc_event event = grpc_completion_queue_next(client->queue, until, NULL);
        if (event.type != GRPC_OP_COMPLETE)
            break;
        finish(event.tag);
        count++;
        until = gpr_inf_past(GPR_CLOCK_MONOTONIC); /* the rest only as far as it waits already */
    }
    return count;
}

/* ---- one call, waited for ---- */

struct waiter {
    struct arena *arena;
    struct client_reply *out;
    enum status status;
    bool done;
};

static void take_reply(void *context, const struct client_reply *reply)
{
    struct waiter *waiter = context;
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
    struct waiter waiter = {.arena = arena, .out = out};
    enum status st = client_start(client, request, take_reply, &waiter);
    if (st != ST_OK)
        return st;
    while (!waiter.done)
        client_poll(client, 1000);
    return waiter.status;
}
