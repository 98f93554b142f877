/* server/services/health.c - grpc.health.v1: the server as a whole ("") serves. */
#include "server/services/outbox.h"
#include "server/services/services_private.h"

#define FIELD_STATUS 1
enum { STATUS_SERVING = 1, STATUS_SERVICE_UNKNOWN = 3 };

static enum status decode(const struct rpc_call *call, struct slice *name_out)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    *name_out = SLICE_EMPTY;
    return wire_decode(call->message, slots, METHODS_OF(slots), name_out);
}

static void on_check(struct rpc_call *call)
{
    struct slice name;
    if (decode(call, &name) != ST_OK) {
        finish_error(call, API_UNDECODABLE);
        return;
    }
    if (name.len > 0) {
        rpc_finish(call, RPC_NOT_FOUND, "unknown service", SLICE_EMPTY);
        return;
    }
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_varint(&out, FIELD_STATUS, STATUS_SERVING);
    finish_message(call, &out);
}

/* A server that runs serves: nothing here stops that for a while, as a defragmentation may in etcd.
 * So the first message is the last, and the stream stays open. */
static void on_watch(struct rpc_call *call)
{
    struct slice name;
    struct outbox *outbox = ARENA_NEW(call->arena, struct outbox);
    if (outbox == NULL || decode(call, &name) != ST_OK) {
        finish_error(call, outbox == NULL ? API_NO_MEMORY : API_UNDECODABLE);
        return;
    }
    const uint8_t message[] = {FIELD_STATUS << 3 | WIRE_VARINT,
                               name.len > 0 ? STATUS_SERVICE_UNKNOWN : STATUS_SERVING};
    outbox_init(outbox, call);
    call->state = outbox;
    if (outbox_send(outbox, slice_make(message, sizeof(message))) != ST_OK) {
        call->state = NULL;
        outbox_end(outbox, RPC_RESOURCE_EXHAUSTED, api_error_text(API_NO_MEMORY));
    }
}

static void on_watch_sent(struct rpc_call *call)
{
    outbox_sent(call->state);
}

static void on_watch_cancel(struct rpc_call *call)
{
    if (call->state == NULL)
        return;
    outbox_cancel(call->state);
    outbox_end(call->state, RPC_CANCELLED, "Stream has ended.");
}

static const struct rpc_method methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .on_call = on_check},
    {.path = "/grpc.health.v1.Health/Watch",
     .server_streams = true,
     .on_call = on_watch,
     .on_cancel = on_watch_cancel,
     .on_sent = on_watch_sent},
};
const struct rpc_service health_service = {.methods = methods,
                                           .methods_count = METHODS_OF(methods)};
