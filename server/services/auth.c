/* server/services/auth.c - AuthStatus: there are no users yet. */
#include "server/services/services_private.h"

#define FIELD_AUTH_REVISION 3
#define AUTH_REVISION_FIRST 1 /* of a store in which nothing about users ever changed */

static void on_auth_status(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_varint(&out, FIELD_AUTH_REVISION, AUTH_REVISION_FIRST);
    finish_message(call, &out);
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Auth/AuthStatus", .on_call = on_auth_status},
};
const struct rpc_service auth_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
