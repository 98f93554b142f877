/* server/services/watch.c - Watch: requests are decoded on the poller and told to the hub; what the
 * hub has to say is encoded on its thread and sent when its burst ends. Only the hub ends a call.
 */
#include "base/assert.h"
#include "base/list.h"
#include "server/services/services_private.h"
#include "server/watch/watch.h"

#define REASON_BYTES_MAX 512U
/* The header, two numbers, three flags and a reason. */
#define HEAD_BYTES_MAX (RESPONSE_HEADER_BYTES_MAX + 2U * 11U + 3U * 2U + 3U + REASON_BYTES_MAX)

enum { FIELD_CREATE = 1, FIELD_CANCEL, FIELD_PROGRESS }; /* WatchRequest */
enum { FIELD_FILTERS = 5 };                              /* WatchCreateRequest */
enum {                                                   /* WatchResponse */
       FIELD_WATCH_ID = 2,
       FIELD_CREATED,
       FIELD_CANCELED,
       FIELD_COMPACT_REVISION,
       FIELD_CANCEL_REASON,
       FIELD_FRAGMENT,
};

struct watch_call {
    struct watch_stream stream;
    struct rpc_call *call;
    _Atomic enum api_error error; /* why the service closed the stream */
};

static struct watch_call *call_of(struct watch_stream *stream)
{
    return CONTAINER_OF(stream, struct watch_call, stream);
}

/* ---- what the hub says ---- */

static uint8_t *put_number(uint8_t *at, uint32_t field, uint64_t value)
{
    if (value == 0)
        return at;
    *at++ = (uint8_t)(field << 3 | WIRE_VARINT);
    return at + put_varint(at, value);
}

static uint8_t *put_text(uint8_t *at, uint32_t field, const char *text)
{
    size_t len = text == NULL ? 0 : strlen(text);
    if (len == 0)
        return at;
    ASSERT(len <= REASON_BYTES_MAX);
    *at++ = (uint8_t)(field << 3 | WIRE_BYTES);
    at += put_varint(at, len);
    memcpy(at, text, len);
    return at + len;
}

/* What goes before the events. */
static struct slice encode_head(const struct services *services,
                                const struct watch_message *message, uint8_t head[HEAD_BYTES_MAX])
{
    const struct response_header header = header_now(services, message->revision);
    uint8_t *at = head + response_header_encode(&header, head);
    at = put_number(at, FIELD_WATCH_ID, (uint64_t)message->watch_id);
    at = put_number(at, FIELD_CREATED, message->created);
    at = put_number(at, FIELD_CANCELED, message->canceled);
    at = put_number(at, FIELD_COMPACT_REVISION, (uint64_t)message->compact_revision);
    at = put_text(at, FIELD_CANCEL_REASON, message->cancel_reason);
    at = put_number(at, FIELD_FRAGMENT, message->fragment);
    return slice_make(head, (size_t)(at - head));
}

static enum status send_message(struct watch_stream *stream, const struct watch_message *message)
{
    struct rpc_call *call = call_of(stream)->call;
    uint8_t head[HEAD_BYTES_MAX];
    struct rpc_piece alone, *pieces = message->pieces == NULL ? &alone : message->pieces - 1;
    *pieces = (struct rpc_piece){.bytes = encode_head(call->service, message, head)};
    enum status st = rpc_send_pieces(call, pieces, message->pieces_count + 1, message->burst);
    return st == ST_OK || st == ST_CANCELED ? st : ST_NO_MEMORY;
}

static enum api_error error_of(enum watch_end why, enum api_error closed_for)
{
    switch (why) {
    case WATCH_END_CLOSED:
        return closed_for;
    case WATCH_END_NO_LEADER:
        return API_NO_LEADER;
    case WATCH_END_STOPPED:
        return API_STOPPED;
    case WATCH_END_NO_MEMORY:
        return API_NO_MEMORY;
    case WATCH_END_BROKEN:
        break;
    }
    return API_STORE_CORRUPT;
}

static void end_stream(struct watch_stream *stream, enum watch_end why)
{
    struct watch_call *watch = call_of(stream);
    finish_error(watch->call, error_of(why, atomic_load(&watch->error)));
}

static void read_on(struct watch_stream *stream)
{
    rpc_again(call_of(stream)->call);
}

static void ref_stream(struct watch_stream *stream)
{
    rpc_ref(call_of(stream)->call);
}

static void unref_stream(struct watch_stream *stream)
{
    rpc_unref(call_of(stream)->call);
}

static const struct watch_sink sink = {.send = send_message,
                                       .end = end_stream,
                                       .room = read_on,
                                       .ref = ref_stream,
                                       .unref = unref_stream};

/* ---- what the client says ---- */

static enum status add_filter(struct watch_create *create, uint64_t value)
{
    if (value == 0)
        create->kinds |= WATCH_NO_PUT;
    else if (value == 1)
        create->kinds |= WATCH_NO_DELETE;
    return ST_OK;
}

/* Packed, as proto3 has it, or one by one. */
static enum status decode_filters(const struct wire_field *field, struct watch_create *create)
{
    if (field->type == WIRE_VARINT)
        return add_filter(create, field->value);
    struct slice rest = field->bytes;
    if (field->type != WIRE_BYTES)
        return ST_INVALID;
    while (rest.len > 0) {
        uint64_t value;
        if (take_varint(&rest, &value) != ST_OK || add_filter(create, value) != ST_OK)
            return ST_INVALID;
    }
    return ST_OK;
}

struct create_flags {
    struct watch_create create;
    bool previous;
};

static enum status decode_create(struct slice in, struct watch_create *out)
{
#define AT(field) offsetof(struct create_flags, field)
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, AT(create.key)},
        {WIRE_SLOT_BYTES, AT(create.range_end)},
        {WIRE_SLOT_INT64, AT(create.start_revision)},
        {WIRE_SLOT_BOOL, AT(create.progress_notify)},
        {WIRE_SLOT_SKIP, 0},
        {WIRE_SLOT_BOOL, AT(previous)},
        {WIRE_SLOT_INT64, AT(create.watch_id)},
        {WIRE_SLOT_BOOL, AT(create.fragment)},
    };
#undef AT
    struct create_flags flags = {0};
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK)
            st = field.number == FIELD_FILTERS
                     ? decode_filters(&field, &flags.create)
                     : wire_store(&field, slots, sizeof(slots) / sizeof(slots[0]), &flags);
        if (st != ST_OK)
            return st;
    }
    *out = flags.create;
    if (flags.previous)
        out->kinds |= WATCH_PREVIOUS;
    if (out->key.len == 0)
        out->key = SLICE("\0"); /* of no length the first key that there can be */
    return ST_OK;
}

static enum status decode_cancel(struct slice in, int64_t *id_out)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, 0}};
    *id_out = 0;
    return wire_decode(in, slots, 1, id_out);
}

/* Of several in one message the last counts. */
struct watch_ask {
    uint32_t which; /* 0: nothing */
    struct watch_create create;
    int64_t cancel_id;
};

static enum status decode(struct slice in, struct watch_ask *out)
{
    *out = (struct watch_ask){0};
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st != ST_OK)
            return st;
        if (field.number > FIELD_PROGRESS)
            continue;
        if (field.type != WIRE_BYTES)
            return ST_INVALID;
        out->which = field.number;
        if (field.number == FIELD_CREATE)
            st = decode_create(field.bytes, &out->create);
        else if (field.number == FIELD_CANCEL)
            st = decode_cancel(field.bytes, &out->cancel_id);
        else
            st = wire_decode(field.bytes, NULL, 0, NULL);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* What Go's client shows of a status, which etcd puts into the answer. */
#define CODE_NAME_0 "OK"
#define CODE_NAME_1 "Canceled"
#define CODE_NAME_2 "Unknown"
#define CODE_NAME_3 "InvalidArgument"
#define CODE_NAME_4 "DeadlineExceeded"
#define CODE_NAME_5 "NotFound"
#define CODE_NAME_7 "PermissionDenied"
#define CODE_NAME_8 "ResourceExhausted"
#define CODE_NAME_9 "FailedPrecondition"
#define CODE_NAME_10 "Aborted"
#define CODE_NAME_11 "OutOfRange"
#define CODE_NAME_13 "Internal"
#define CODE_NAME_14 "Unavailable"
#define CODE_NAME_15 "DataLoss"
#define CODE_NAME_16 "Unauthenticated"
#define REFUSAL(code, number, text) "rpc error: code = " CODE_NAME_##number " desc = " text,
static const char *const refusals[] = {API_ERROR_MAP(REFUSAL)};

static enum status ask_hub(struct watch_call *watch, struct watch_ask *ask)
{
    struct watch_create *create = &ask->create;
    enum api_error refused;
    switch (ask->which) {
    case FIELD_CREATE:
        refused = auth_may_watch(watch->call, create->key, create->range_end);
        if (refused != API_OK)
            create->refusal = refusals[refused];
        return watch_stream_create(&watch->stream, create);
    case FIELD_CANCEL:
        return watch_stream_cancel(&watch->stream, ask->cancel_id);
    case FIELD_PROGRESS:
        return watch_stream_ask_progress(&watch->stream);
    default:
        return ST_OK;
    }
}

static void on_open(struct rpc_call *call)
{
    struct services *services = call->service;
    struct watch_call *watch = ARENA_NEW(call->arena, struct watch_call);
    if (watch == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    watch->call = call;
    call->state = watch;
    watch_stream_open(services->options.watch, &watch->stream, &sink, wants_leader(call));
}

static void close_stream(struct watch_call *watch, enum api_error error)
{
    if (atomic_load(&watch->error) != API_OK)
        return;
    atomic_store(&watch->error, error);
    watch_stream_close(&watch->stream);
}

/* A client that closes its side goes on watching. */
static void on_message(struct rpc_call *call, struct slice message)
{
    struct watch_call *watch = call->state;
    if (atomic_load(&watch->error) != API_OK)
        return;
    if (watch_stream_is_full(&watch->stream)) {
        rpc_hold(call);
        watch_stream_wait(&watch->stream);
        return;
    }
    struct watch_ask ask;
    if (decode(message, &ask) != ST_OK)
        close_stream(watch, API_UNDECODABLE);
    else if (ask_hub(watch, &ask) != ST_OK)
        close_stream(watch, API_NO_MEMORY);
}

static void on_sent(struct rpc_call *call)
{
    struct watch_call *watch = call->state;
    watch_stream_sent(&watch->stream);
}

static void on_cancel(struct rpc_call *call)
{
    close_stream(call->state, API_WATCH_CANCELED);
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Watch/Watch",
     .client_streams = true,
     .server_streams = true,
     .on_open = on_open,
     .on_message = on_message,
     .on_sent = on_sent,
     .on_cancel = on_cancel},
};
const struct rpc_service watch_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
