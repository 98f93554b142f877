/* server/services/propose.c - how a request becomes an entry, and the entry's end an answer. */
#include "server/services/services_private.h"
#include "server/state/machine.h"

static void write_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    struct rpc_call *call = proposal->request.call;
    if (!proposal->answer_now)
        finish_later(call, error, response);
    else
        rpc_finish(call, (enum rpc_code)api_error_code(error), api_error_text(error), response);
}

/* What leads out of trouble, and what keeps leases, is not held up by what leads into it. */
static bool is_urgent(enum internal_field field)
{
    return field == INTERNAL_ALARM || field == INTERNAL_COMPACTION ||
           field == INTERNAL_LEASE_REVOKE || field == INTERNAL_LEASE_CHECKPOINT;
}

enum api_error propose_as(struct rpc_call *call, enum internal_field field, struct slice body,
                          const struct auth_caller *caller, uint64_t cost,
                          void (*done)(struct proposal *, enum api_error, struct slice))
{
    struct services *services = call->service;
    struct loops *loops = services->options.loops;
    uint64_t id = loops_next_id(loops);
    if (internal_request_size_as(field, body.len, id, caller) > services->options.request_bytes_max)
        return API_REQUEST_TOO_LARGE;
    enum api_error error = charge_write(services, cost);
    if (error != API_OK)
        return error;
    struct proposal *proposal = ARENA_NEW(call->arena, struct proposal);
    struct raft_payload *payload =
        proposal == NULL ? NULL : internal_request_payload_as(field, body, id, caller);
    if (payload == NULL)
        return API_NO_MEMORY;
    *proposal = (struct proposal){.request = {.kind = REQUEST_PROPOSAL,
                                              .deadline_ns = request_deadline_ns(services),
                                              .call = call},
                                  .payload = payload,
                                  .id = id,
                                  .urgent = is_urgent(field),
                                  .done = done};
    call->trace = &proposal->request;
    loops_propose(loops, proposal);
    return API_OK;
}

static void propose(struct rpc_call *call, enum internal_field field, struct slice body,
                    uint64_t cost)
{
    const struct services *services = call->service;
    struct auth_caller caller = {0};
    enum api_error error = API_OK;
    if (machine_auth_enabled(services->options.machine))
        error = auth_caller_of(call, &caller);
    if (error == API_OK)
        error = propose_as(call, field, body, &caller, cost, write_done);
    if (error != API_OK)
        finish_error(call, error);
}

void propose_body(struct rpc_call *call, enum internal_field field, struct slice body)
{
    propose(call, field, body, /* cost= */ 0);
}

/* The request goes into the entry as it came: whatever the decoder lets pass, etcd's decoder reads
 * the same way. */
void propose_message(struct rpc_call *call, enum internal_field field)
{
    propose(call, field, call->message, /* cost= */ 0);
}

void propose_write(struct rpc_call *call, enum internal_field field, uint64_t cost)
{
    propose(call, field, call->message, cost);
}
