/* server/services/member_changes.c - MemberAdd, MemberRemove, MemberUpdate: what can be judged here
 * is judged here (the URLs, the strict reconfiguration check), the rest when the change is applied;
 * the answer shows the members as they are then. */
#include "base/buf.h"
#include "base/list.h"
#include "server/services/services_private.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "server/state/peer_url.h"
#include "server/state/reconfig.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

enum { FIELD_MEMBER = 2 };  /* MemberAddResponse; it has the members next */
enum { FIELD_MEMBERS = 2 }; /* of the others */

struct member_call {
    struct conf_proposal proposal;
    struct member_row row; /* id, and what the request says; in the call's arena */
    enum member_change_type type;
};

/* ---- requests ---- */

/* MemberAddRequest: peerURLs = 1, isLearner = 2; MemberUpdateRequest: ID = 1, peerURLs = 2. */
struct member_request {
    raft_id id;
    bool is_learner;
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t urls_count;
};

static enum api_error take_url(const struct wire_field *field, struct member_request *out)
{
    if (field->type != WIRE_BYTES)
        return API_UNDECODABLE;
    if (out->urls_count == MEMBER_URLS_MAX)
        return API_BAD_MEMBER_URLS;
    out->urls[out->urls_count++] = field->bytes;
    return API_OK;
}

static enum api_error decode_request(struct slice message, uint32_t urls_field, bool other_is_id,
                                     struct member_request *out)
{
    *out = (struct member_request){0};
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            return API_UNDECODABLE;
        if (field.number > 2)
            continue;
        enum api_error error = API_OK;
        if (field.number == urls_field)
            error = take_url(&field, out);
        else if (field.type != WIRE_VARINT)
            error = API_UNDECODABLE;
        else if (other_is_id)
            out->id = field.value;
        else
            out->is_learner = field.value != 0;
        if (error != API_OK)
            return error;
    }
    return API_OK;
}

/* A URL that cannot be parsed would stop every member when it comes to be dialled. */
static enum api_error read_urls(struct rpc_call *call, const struct member_request *request,
                                struct member_row *row)
{
    const char *why;
    enum status st =
        peer_urls_read(request->urls, request->urls_count, call->arena, &row->peer_urls, &why);
    row->peer_urls_count = request->urls_count;
    return st == ST_OK ? API_OK : API_BAD_MEMBER_URLS;
}

/* ---- the strict reconfiguration check ---- */

static struct reconfig_peers peers_now(const struct services *services)
{
    const struct services_peers *peers = &services->options.peers;
    return (struct reconfig_peers){.self = machine_member_id(services->options.machine),
                                   .now_ns = clock_monotonic_ns(services->options.clock),
                                   .active_since_ns = peers->active_since_ns,
                                   .context = peers->context};
}

static enum api_error check_reconfig(const struct services *services,
                                     const struct member_call *member_call)
{
    if (!services->options.strict_reconfig)
        return API_OK;
    struct reconfig_peers peers = peers_now(services);
    struct members *members = machine_members(services->options.machine);
    enum api_error error = API_OK;
    if (member_call->type == MEMBER_CHANGE_REMOVE_NODE)
        error = reconfig_check_remove(members, member_call->row.id, &peers);
    else if (member_call->type != MEMBER_CHANGE_UPDATE_NODE)
        error = reconfig_check_add(members, member_call->row.is_learner, &peers);
    members_unref(members);
    return error;
}

/* ---- the change ---- */

static void change_done(struct conf_proposal *proposal, enum api_error error)
{
    struct member_call *member_call = CONTAINER_OF(proposal, struct member_call, proposal);
    struct rpc_call *call = proposal->request.call;
    const struct services *services = call->service;
    if (error != API_OK) {
        finish_later(call, error, SLICE_EMPTY);
        return;
    }
    bool is_add = member_call->type == MEMBER_CHANGE_ADD_NODE ||
                  member_call->type == MEMBER_CHANGE_ADD_LEARNER;
    struct members *members = machine_members(services->options.machine);
    struct response_header header = header_now(services, /* revision= */ 0);
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    if (is_add)
        put_member(&out, FIELD_MEMBER, &member_call->row);
    put_members(&out, is_add ? FIELD_MEMBER + 1 : FIELD_MEMBERS, members);
    members_unref(members);
    finish_message_later(call, &out);
}

static struct raft_payload *change_payload(const struct member_call *member_call, uint64_t id)
{
    struct raft_payload *payload = NULL;
    struct buf json;
    buf_init(&json, UINT32_MAX);
    bool has_context = member_call->type != MEMBER_CHANGE_REMOVE_NODE;
    if (!has_context || member_json_encode(&member_call->row, &json) == ST_OK) {
        const struct member_change change = {.id = id,
                                             .type = member_call->type,
                                             .node_id = member_call->row.id,
                                             .context = buf_slice(&json)};
        payload = member_change_payload(&change);
    }
    buf_deinit(&json);
    return payload;
}

static void propose_change(struct rpc_call *call, struct member_call *member_call)
{
    struct services *services = call->service;
    enum api_error error = API_OK;
    if (services->options.peers.active_since_ns == NULL)
        error = API_NOT_CAPABLE;
    if (error == API_OK)
        error = auth_is_root(call);
    if (error == API_OK)
        error = check_reconfig(services, member_call);
    if (error == API_OK)
        error = admit_write(services, /* cost= */ 0);
    uint64_t id = loops_next_id(services->options.loops);
    struct raft_payload *payload = NULL;
    if (error == API_OK) {
        payload = change_payload(member_call, id);
        error = payload == NULL ? API_NO_MEMORY : API_OK;
    }
    if (error == API_OK && payload->len > services->options.request_bytes_max) {
        raft_payload_unref(payload);
        error = API_REQUEST_TOO_LARGE;
    }
    if (error != API_OK) {
        refuse_caller(call, error);
        return;
    }
    member_call->proposal =
        (struct conf_proposal){.request = {.kind = REQUEST_CONF_CHANGE,
                                           .deadline_ns = request_deadline_ns(services),
                                           .call = call},
                               .payload = payload,
                               .id = id,
                               .done = change_done};
    loops_propose_conf_change(services->options.loops, &member_call->proposal);
}

/* ---- methods ---- */

/* etcd's id of a member that is added to a running cluster: the time takes the token's place. */
static enum status added_id(const struct services *services, struct member_row *row)
{
    char seconds[24];
    int len = snprintf(seconds, sizeof(seconds), "%" PRIu64,
                       (uint64_t)(clock_wall_ns(services->options.clock) / NS_PER_S));
    return member_id_compute(row->peer_urls, row->peer_urls_count, slice_make(seconds, (size_t)len),
                             &row->id);
}

void on_member_add(struct rpc_call *call)
{
    struct member_request request;
    struct member_call *member_call = ARENA_NEW(call->arena, struct member_call);
    enum api_error error = member_call == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK)
        error =
            decode_request(call->message, /* urls_field= */ 1, /* other_is_id= */ false, &request);
    if (error == API_OK)
        error = read_urls(call, &request, &member_call->row);
    if (error == API_OK)
        error = api_error_of(added_id(call->service, &member_call->row));
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    member_call->row.is_learner = request.is_learner;
    member_call->type = request.is_learner ? MEMBER_CHANGE_ADD_LEARNER : MEMBER_CHANGE_ADD_NODE;
    propose_change(call, member_call);
}

void on_member_remove(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, offsetof(struct member_call, row.id)}};
    struct member_call *member_call = ARENA_NEW(call->arena, struct member_call);
    enum api_error error = member_call == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK &&
        wire_decode(call->message, slots, METHODS_OF(slots), member_call) != ST_OK)
        error = API_UNDECODABLE;
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    member_call->type = MEMBER_CHANGE_REMOVE_NODE;
    propose_change(call, member_call);
}

/* The request does not say whether the member is a learner; the change does, or every member would
 * take the learner for a voter. */
static bool is_learner_now(const struct services *services, raft_id id)
{
    struct members *members = machine_members(services->options.machine);
    const struct member_row *row = members_find(members, id);
    bool learner = row != NULL && row->is_learner;
    members_unref(members);
    return learner;
}

void on_member_update(struct rpc_call *call)
{
    struct member_request request;
    struct member_call *member_call = ARENA_NEW(call->arena, struct member_call);
    enum api_error error = member_call == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK)
        error =
            decode_request(call->message, /* urls_field= */ 2, /* other_is_id= */ true, &request);
    if (error == API_OK)
        error = read_urls(call, &request, &member_call->row);
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    member_call->row.id = request.id;
    member_call->row.is_learner = is_learner_now(call->service, request.id);
    member_call->type = MEMBER_CHANGE_UPDATE_NODE;
    propose_change(call, member_call);
}
