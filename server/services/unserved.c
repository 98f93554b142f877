/* server/services/unserved.c - the methods of etcd 3.5 that are not there yet. They are registered
 * so that a user reads which of them is missing, and not that the server is something else. */
#include "server/services/services_private.h"

#include <stdio.h>

#define TEXT_BYTES 160U

static void refuse(struct rpc_call *call)
{
    char *text = arena_alloc(call->arena, TEXT_BYTES);
    if (text != NULL)
        snprintf(text, TEXT_BYTES, "etcdserver: %s is not served by this version of cleat",
                 call->method->path);
    rpc_finish(call, RPC_UNIMPLEMENTED, text, SLICE_EMPTY);
}

#define UNARY(name)                         \
    {                                       \
        .path = "/" name, .on_call = refuse \
    }
#define SERVER_STREAM(name)                                         \
    {                                                               \
        .path = "/" name, .server_streams = true, .on_call = refuse \
    }
static const struct rpc_method methods[] = {
    UNARY("v3lockpb.Lock/Lock"),
    UNARY("v3lockpb.Lock/Unlock"),
    UNARY("v3electionpb.Election/Campaign"),
    UNARY("v3electionpb.Election/Proclaim"),
    UNARY("v3electionpb.Election/Leader"),
    UNARY("v3electionpb.Election/Resign"),
    SERVER_STREAM("v3electionpb.Election/Observe"),
    SERVER_STREAM("grpc.health.v1.Health/Watch"),
};
const struct rpc_service unserved_service = {.methods = methods,
                                             .methods_count = METHODS_OF(methods)};
