/* server/services/cluster.c - the Cluster service, and MemberList; what changes members is in
 * member_changes.c. */
#include "server/services/services_private.h"
#include "server/state/machine.h"

#include "base/list.h"

#include <stddef.h>

/* MemberListResponse and Member */
enum { FIELD_MEMBERS = 2 };
enum { FIELD_ID = 1, FIELD_NAME, FIELD_PEER_URLS, FIELD_CLIENT_URLS, FIELD_IS_LEARNER };

struct member_list_request {
    bool linearizable;
};
static const struct wire_slot request_slots[] = {
    {WIRE_SLOT_BOOL, offsetof(struct member_list_request, linearizable)},
};

void put_member(struct wire_out *out, uint32_t field, const struct member_row *row)
{
    size_t body = wire_open(out, field);
    wire_put_varint(out, FIELD_ID, row->id);
    if (row->name.len > 0)
        wire_put_bytes(out, FIELD_NAME, row->name);
    for (uint32_t i = 0; i < row->peer_urls_count; i++)
        wire_put_bytes(out, FIELD_PEER_URLS, row->peer_urls[i]);
    for (uint32_t i = 0; i < row->client_urls_count; i++)
        wire_put_bytes(out, FIELD_CLIENT_URLS, row->client_urls[i]);
    wire_put_varint(out, FIELD_IS_LEARNER, row->is_learner);
    wire_close(out, body);
}

void put_members(struct wire_out *out, uint32_t field, const struct members *members)
{
    for (uint32_t i = 0; i < members_count(members); i++)
        put_member(out, field, members_at(members, i));
}

static void answer_member_list(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct response_header header = header_now(services, /* revision= */ 0);
    struct members *members = machine_members(services->options.machine);
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    put_members(&out, FIELD_MEMBERS, members);
    members_unref(members);
    finish_message(call, &out);
}

static void member_list_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    if (error != API_OK)
        finish_later(read->request.call, error, SLICE_EMPTY);
    else
        answer_member_list(read->request.call);
}

static void on_member_list(struct rpc_call *call)
{
    struct services *services = call->service;
    struct member_list_request request = {0};
    if (wire_decode(call->message, request_slots, METHODS_OF(request_slots), &request) != ST_OK) {
        finish_error(call, API_UNDECODABLE);
        return;
    }
    enum api_error refused = auth_is_user(call);
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    if (!request.linearizable) {
        answer_member_list(call);
        return;
    }
    struct read_request *read = ARENA_NEW(call->arena, struct read_request);
    if (read == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    *read = (struct read_request){.request = {.kind = REQUEST_READ,
                                              .deadline_ns = request_deadline_ns(services),
                                              .call = call},
                                  .ready = member_list_ready};
    loops_read(services->options.loops, read);
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Cluster/MemberAdd", .on_call = on_member_add},
    {.path = "/etcdserverpb.Cluster/MemberRemove", .on_call = on_member_remove},
    {.path = "/etcdserverpb.Cluster/MemberUpdate", .on_call = on_member_update},
    {.path = "/etcdserverpb.Cluster/MemberPromote", .on_call = on_member_promote},
    {.path = "/etcdserverpb.Cluster/MemberList", .on_call = on_member_list},
};
const struct rpc_service cluster_service = {.methods = methods,
                                            .methods_count = METHODS_OF(methods)};
