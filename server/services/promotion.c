/* server/services/promotion.c - a learner becomes a voter when it follows the leader closely. Only
 * the leader knows: another member passes the call on to it over the peer port. */
#include "base/buf.h"
#include "base/list.h"
#include "server/metrics/metrics.h"
#include "server/services/services_private.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "server/state/reconfig.h"

enum { FIELD_MEMBERS = 2 };

/* ---- on the leader ---- */

/* The leader counts, also those that were passed on to it; the reasons are those of its peer port,
 * as in etcd. */
static void end(struct promotion *promotion, enum api_error error)
{
    const char *reason;
    promotion_http_status(error, &reason);
    const char *pairs[] = {"Reason", reason, NULL};
    if (error == API_OK)
        metrics_add(METRIC_LEARNER_PROMOTIONS, 1);
    else if (error != API_NOT_LEADER)
        metrics_child_add(metrics_child(METRIC_LEARNER_PROMOTIONS_FAILED, pairs), 1);
    promotion->done(promotion, error);
}

static void proposal_done(struct conf_proposal *proposal, enum api_error error)
{
    end(CONTAINER_OF(proposal, struct promotion, proposal), error);
}

/* {"id":N,"peerURLs":null,"isPromote":true} */
static struct raft_payload *promote_payload(raft_id id, uint64_t change_id)
{
    struct raft_payload *payload = NULL;
    struct buf json;
    buf_init(&json, UINT32_MAX);
    if (buf_printf(&json, "{\"id\":%llu,\"peerURLs\":null,\"isPromote\":true}",
                   (unsigned long long)id) == ST_OK) {
        const struct member_change change = {.id = change_id,
                                             .type = MEMBER_CHANGE_ADD_NODE,
                                             .node_id = id,
                                             .context = buf_slice(&json)};
        payload = member_change_payload(&change);
    }
    buf_deinit(&json);
    return payload;
}

static void propose_promotion(struct promotion *promotion)
{
    struct services *services = promotion->services;
    uint64_t id = loops_next_id(services->options.loops);
    struct raft_payload *payload = promote_payload(promotion->id, id);
    if (payload == NULL) {
        end(promotion, API_NO_MEMORY);
        return;
    }
    promotion->proposal = (struct conf_proposal){
        .request = {.kind = REQUEST_CONF_CHANGE, .deadline_ns = promotion->deadline_ns},
        .payload = payload,
        .id = id,
        .done = proposal_done};
    loops_propose_conf_change(services->options.loops, &promotion->proposal);
}

static enum api_error check_promotion(const struct services *services)
{
    if (!services->options.strict_reconfig)
        return API_OK;
    struct members *members = machine_members(services->options.machine);
    enum api_error error = reconfig_check_promote(members);
    members_unref(members);
    return error;
}

static void progress_done(struct progress_request *progress, enum api_error error, raft_index match,
                          raft_index leader_match)
{
    struct promotion *promotion = CONTAINER_OF(progress, struct promotion, progress);
    if (error == API_OK && !reconfig_learner_is_ready(match, leader_match))
        error = API_LEARNER_NOT_READY;
    if (error == API_OK)
        error = check_promotion(promotion->services);
    if (error != API_OK)
        end(promotion, error);
    else
        propose_promotion(promotion);
}

void services_promote(struct services *services, struct promotion *promotion)
{
    promotion->services = services;
    if (services->options.peers.active_since_ns == NULL) {
        promotion->done(promotion, API_NOT_CAPABLE);
        return;
    }
    promotion->progress = (struct progress_request){
        .request = {.kind = REQUEST_PROGRESS, .deadline_ns = promotion->deadline_ns},
        .id = promotion->id,
        .done = progress_done};
    loops_get_progress(services->options.loops, &promotion->progress);
}

/* ---- over the peer port ---- */

#define NOT_FOUND_TEXT "membership: ID not found"
#define NOT_LEARNER_TEXT "membership: can only promote a learner member"

uint32_t promotion_http_status(enum api_error error, const char **text_out)
{
    *text_out = error == API_OK ? "" : api_error_text(error);
    switch (error) {
    case API_OK:
        return 200;
    case API_MEMBER_NOT_FOUND:
        *text_out = NOT_FOUND_TEXT;
        return 404;
    case API_MEMBER_NOT_LEARNER:
        *text_out = NOT_LEARNER_TEXT;
        return 412;
    case API_LEARNER_NOT_READY:
        return 412;
    default:
        return 500;
    }
}

enum api_error promotion_error_of(uint32_t http_status, struct slice body)
{
    if (http_status == 200)
        return API_OK;
    if (http_status == 404)
        return API_MEMBER_NOT_FOUND;
    if (http_status != 412)
        return API_LEADER_CHANGED;
    if (slice_has_prefix(body, slice_from_str(api_error_text(API_LEARNER_NOT_READY))))
        return API_LEARNER_NOT_READY;
    return slice_has_prefix(body, SLICE(NOT_LEARNER_TEXT)) ? API_MEMBER_NOT_LEARNER
                                                           : API_LEADER_CHANGED;
}

/* ---- a client's call ---- */

struct promote_call {
    struct rpc_call *call;
    struct promotion promotion;
    struct promotion_forward forward;
};

static void answer(struct rpc_call *call, const struct members *members)
{
    struct response_header header = header_now(call->service, /* revision= */ 0);
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    put_members(&out, FIELD_MEMBERS, members);
    finish_message_later(call, &out);
}

/* The members as the leader lists them: here the change may not be applied yet. */
static void forward_done(struct promotion_forward *forward, enum api_error error, struct slice json)
{
    struct promote_call *promote = CONTAINER_OF(forward, struct promote_call, forward);
    struct members *members = NULL;
    if (error == API_OK && members_json_decode(json, promote->call->arena, &members) != ST_OK)
        error = API_LEADER_CHANGED; /* it is a leader that answers like none */
    if (error != API_OK)
        finish_later(promote->call, error, SLICE_EMPTY);
    else
        answer(promote->call, members);
    members_unref(members);
}

static void forward(struct promote_call *promote)
{
    const struct services *services = promote->call->service;
    const struct services_peers *peers = &services->options.peers;
    if (peers->forward_promotion == NULL) {
        finish_later(promote->call, API_NO_LEADER, SLICE_EMPTY);
        return;
    }
    promote->forward = (struct promotion_forward){.id = promote->promotion.id,
                                                  .deadline_ns = promote->promotion.deadline_ns,
                                                  .done = forward_done};
    peers->forward_promotion(peers->context, &promote->forward);
}

static void promotion_done(struct promotion *promotion, enum api_error error)
{
    struct promote_call *promote = CONTAINER_OF(promotion, struct promote_call, promotion);
    if (error == API_NOT_LEADER) {
        forward(promote);
        return;
    }
    if (error != API_OK) {
        finish_later(promote->call, error, SLICE_EMPTY);
        return;
    }
    struct members *members = machine_members(promotion->services->options.machine);
    answer(promote->call, members);
    members_unref(members);
}

void on_member_promote(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, offsetof(struct promotion, id)}};
    struct services *services = call->service;
    struct promote_call *promote = ARENA_NEW(call->arena, struct promote_call);
    enum api_error error = promote == NULL ? API_NO_MEMORY : admit_write(services, /* cost= */ 0);
    if (error == API_OK &&
        wire_decode(call->message, slots, METHODS_OF(slots), &promote->promotion) != ST_OK)
        error = API_UNDECODABLE;
    if (error == API_OK)
        error = auth_is_root(call);
    if (error != API_OK) {
        refuse_caller(call, error);
        return;
    }
    promote->call = call;
    promote->promotion.deadline_ns = request_deadline_ns(services);
    promote->promotion.done = promotion_done;
    services_promote(services, &promote->promotion);
}
