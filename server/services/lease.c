/* server/services/lease.c - LeaseGrant, LeaseRevoke, LeaseTimeToLive, LeaseLeases. Grants and
 * revocations are entries; what a lease has left is known to the leader alone, so other members ask
 * it over its peer port (lease_forward.c). */
#include "base/list.h"
#include "server/loops/leases.h"
#include "server/services/lease_private.h"

#include <stdlib.h>

#define GRANT_COST 64U /* what a lease takes of the quota; etcd's figure */

enum { FIELD_GRANT_TTL = 1, FIELD_GRANT_ID };                    /* the request */
enum { FIELD_ID = 2, FIELD_TTL, FIELD_GRANTED_TTL, FIELD_KEYS }; /* TimeToLive's answer */
enum { FIELD_LEASES = 2, FIELD_STATUS_ID = 1 };                  /* Leases' */

/* ---- entries ---- */

static enum api_error name_lease(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, offsetof(struct lease, ttl_s)},
                                             {WIRE_SLOT_INT64, offsetof(struct lease, id)}};
    const struct services *services = call->service;
    struct lease lease = {0};
    if (wire_decode(call->message, slots, METHODS_OF(slots), &lease) != ST_OK)
        return API_UNDECODABLE;
    while (lease.id == 0)
        lease.id = (int64_t)(loops_next_id(services->options.loops) & INT64_MAX);
    struct wire_out named;
    wire_out_init(&named, call->arena, /* gap= */ 0);
    wire_put_varint(&named, FIELD_GRANT_TTL, (uint64_t)lease.ttl_s);
    wire_put_varint(&named, FIELD_GRANT_ID, (uint64_t)lease.id);
    return api_error_of(wire_out_finish(&named, &call->message));
}

/* The id is chosen here: all members must make the same of the entry. */
static void on_lease_grant(struct rpc_call *call)
{
    enum api_error error = admit_write(call->service, GRANT_COST);
    if (error == API_OK)
        error = name_lease(call);
    if (error != API_OK)
        refuse_write(call, error);
    else
        propose_write(call, INTERNAL_LEASE_GRANT, GRANT_COST);
}

static void on_lease_revoke(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, 0}};
    lease_id id = 0;
    enum api_error error = admit_write(call->service, /* cost= */ 0);
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), &id) != ST_OK)
        error = API_UNDECODABLE;
    if (error != API_OK)
        finish_error(call, error);
    else
        propose_message(call, INTERNAL_LEASE_REVOKE);
}

/* ---- TimeToLive ---- */

struct ttl_call {
    struct read_request read;
    struct leader_post post;
    lease_id id;
    bool keys;
    struct lease_view view;
};

static enum api_error may_see_keys(struct rpc_call *call, const struct lease_view *view)
{
    enum api_error error = API_OK;
    for (uint64_t i = 0; i < view->keys_count && error == API_OK; i++)
        error = auth_may_read(call, view->keys[i], SLICE_EMPTY);
    return error;
}

/* A lease that is not there is no error here. */
static void answer_ttl(struct rpc_call *call, struct ttl_call *ttl, enum api_error error)
{
    const struct services *services = call->service;
    bool found = error == API_OK;
    if (found && ttl->keys)
        error = may_see_keys(call, &ttl->view);
    if (error != API_OK && error != API_LEASE_NOT_FOUND) {
        finish_error(call, error);
        return;
    }
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_varint(&out, FIELD_ID, (uint64_t)ttl->id);
    wire_put_varint(&out, FIELD_TTL, (uint64_t)(found ? ttl->view.remaining_s : -1));
    wire_put_varint(&out, FIELD_GRANTED_TTL, (uint64_t)(found ? ttl->view.ttl_s : 0));
    for (uint64_t i = 0; found && i < ttl->view.keys_count; i++)
        wire_put_bytes(&out, FIELD_KEYS, ttl->view.keys[i]);
    finish_message(call, &out);
}

static bool judge_ttl(struct leader_post *post, uint32_t status, struct slice body)
{
    struct ttl_call *ttl = CONTAINER_OF(post, struct ttl_call, post);
    ttl->view = (struct lease_view){0};
    return lease_ttl_answered(status, body, ttl->id, ttl->read.request.call->arena, &ttl->view,
                              &post->error);
}

static void ttl_posted(struct leader_post *post)
{
    struct ttl_call *ttl = CONTAINER_OF(post, struct ttl_call, post);
    answer_ttl(ttl->read.request.call, ttl, post->error);
}

static void forward_ttl(struct ttl_call *ttl)
{
    struct rpc_call *call = ttl->read.request.call;
    const struct services *services = call->service;
    ttl->post = (struct leader_post){.path = LEASE_TTL_PATH,
                                     .deadline_ns = ttl->read.request.deadline_ns,
                                     .judge = judge_ttl,
                                     .done = ttl_posted};
    if (lease_ttl_question(ttl->id, ttl->keys, call->arena, &ttl->post.body) != ST_OK)
        finish_error(call, API_NO_MEMORY);
    else
        post_to_leader(services, &ttl->post);
}

static void ttl_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct ttl_call *ttl = CONTAINER_OF(read, struct ttl_call, read);
    struct rpc_call *call = read->request.call;
    const struct services *services = call->service;
    if (error == API_OK)
        error = loops_look_at_lease(services->options.loops, ttl->id, ttl->keys, call->arena,
                                    &ttl->view);
    if (lease_asks_again(error))
        forward_ttl(ttl);
    else
        answer_ttl(call, ttl, error);
}

static void on_lease_time_to_live(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, offsetof(struct ttl_call, id)},
                                             {WIRE_SLOT_BOOL, offsetof(struct ttl_call, keys)}};
    struct services *services = call->service;
    struct ttl_call *ttl = ARENA_NEW(call->arena, struct ttl_call);
    enum api_error error = ttl == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), ttl) != ST_OK)
        error = API_UNDECODABLE;
    if (error == API_OK && ttl->keys)
        error = auth_is_user(call);
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    ttl->read = (struct read_request){
        .request = {.deadline_ns = request_deadline_ns(services), .call = call},
        .ready = ttl_ready};
    if (leads(services))
        loops_read(services->options.loops, &ttl->read);
    else
        forward_ttl(ttl);
}

/* ---- Leases ---- */

static void put_leases(struct wire_out *out, const lease_id *ids, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        size_t mark = wire_open(out, FIELD_LEASES);
        wire_put_varint(out, FIELD_STATUS_ID, (uint64_t)ids[i]);
        wire_close(out, mark);
    }
}

/* As this member knows them, whatever state the cluster is in. */
static void on_lease_leases(struct rpc_call *call)
{
    const struct services *services = call->service;
    lease_id *ids;
    uint64_t count;
    enum status st = loops_list_leases(services->options.loops, &ids, &count);
    if (st != ST_OK) {
        finish_error(call, api_error_of(st));
        return;
    }
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    put_leases(&out, ids, count);
    free(ids);
    finish_message(call, &out);
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Lease/LeaseGrant", .on_call = on_lease_grant},
    {.path = "/etcdserverpb.Lease/LeaseRevoke", .on_call = on_lease_revoke},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
     .client_streams = true,
     .server_streams = true,
     .on_open = on_keep_alive_open,
     .on_message = on_keep_alive_message,
     .on_cancel = on_keep_alive_cancel,
     .on_sent = on_keep_alive_sent},
    {.path = "/etcdserverpb.Lease/LeaseTimeToLive", .on_call = on_lease_time_to_live},
    {.path = "/etcdserverpb.Lease/LeaseLeases", .on_call = on_lease_leases},
};
const struct rpc_service lease_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
