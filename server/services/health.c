/* server/services/health.c - grpc.health.v1: the server as a whole ("") serves. */
#include "server/services/services_private.h"

#define FIELD_STATUS 1
#define STATUS_SERVING 1

static void on_check(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    struct slice name = SLICE_EMPTY;
    if (wire_decode(call->message, slots, METHODS_OF(slots), &name) != ST_OK) {
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

static const struct rpc_method methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .on_call = on_check},
};
const struct rpc_service health_service = {.methods = methods,
                                           .methods_count = METHODS_OF(methods)};
