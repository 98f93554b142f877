/* server/services/gate.c - what is looked at before any method: a learner serves almost nothing, a
 * client may ask to be refused at once where there is no leader, and its token may be younger than
 * what this member knows. A leader that was lost just now is not missed yet: this member may know
 * of it long before etcd's would, and API servers whose watches were on the lost one come at once.
 */
#include "server/services/services_private.h"
#include "server/state/machine.h"

#include <stdlib.h>

bool is_learner(const struct services *services)
{
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    return status.is_learner;
}

static bool is_among(const struct rpc_method *method, const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(method->path, paths[i]) == 0)
            return true;
    }
    return false;
}

/* KV/Range looks for itself whether it is serializable. */
static bool learner_serves(const struct rpc_method *method)
{
    static const char *const paths[] = {"/etcdserverpb.KV/Range",
                                        "/etcdserverpb.Maintenance/Status",
                                        "/etcdserverpb.Maintenance/Snapshot"};
    return is_among(method, paths, METHODS_OF(paths));
}

/* Nobody asks these who calls them. */
static bool ignores_tokens(const struct rpc_method *method)
{
    static const char *const paths[] = {
        "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Auth/Authenticate", "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch"};
    return is_among(method, paths, METHODS_OF(paths));
}

bool wants_leader(const struct rpc_call *call)
{
    struct slice value;
    return rpc_metadata_get(call, "hasleader", &value) == ST_OK && slice_eq(value, SLICE("true"));
}

static enum api_error judge(const struct rpc_call *call)
{
    const struct services *services = call->service;
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    if (status.is_learner && !learner_serves(call->method))
        return API_LEARNER_NOT_SUPPORTED;
    if (call->repeated && atomic_load(&call->canceled))
        return API_CANCELED;
    return status.is_leaderless && wants_leader(call) ? API_NO_LEADER : API_OK;
}

static const struct rpc_method *inner_of(const struct rpc_call *call)
{
    const struct services *services = call->service;
    return services->inner[call->method - services->gates];
}

static bool waits(struct rpc_call *call)
{
    const struct services *services = call->service;
    return machine_auth_enabled(services->options.machine) && !ignores_tokens(call->method) &&
           auth_waits(call);
}

static void gate_call(struct rpc_call *call)
{
    enum api_error error = judge(call);
    if (error != API_OK)
        finish_error(call, error);
    else if (!waits(call))
        inner_of(call)->on_call(call);
}

/* A stream is judged when it opens, as etcd does; from then on it may be somebody else who finishes
 * it. */
static void gate_open(struct rpc_call *call)
{
    enum api_error error = judge(call);
    if (error != API_OK)
        finish_error(call, error);
    else
        inner_of(call)->on_open(call);
}

static void gate_message(struct rpc_call *call, struct slice message)
{
    if (message.data == NULL || !waits(call))
        inner_of(call)->on_message(call, message);
}

/* One that is held is ended when it is handed over once more: its method may not have seen it. That
 * of a stream has, when it opened. */
static void gate_cancel(struct rpc_call *call)
{
    if (!call->held || call->method->client_streams)
        inner_of(call)->on_cancel(call);
}

enum status gates_init(struct services *services)
{
    uint32_t count = 0, next = 0;
    for (uint32_t i = 0; i < SERVICES_COUNT; i++)
        count += services->table[i].methods_count;
    services->gates = calloc(count, sizeof(services->gates[0]));
    services->inner = calloc(count, sizeof(services->inner[0]));
    if (services->gates == NULL || services->inner == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < SERVICES_COUNT; i++) {
        struct rpc_service *service = &services->table[i];
        const struct rpc_method *methods = service->methods;
        service->methods = &services->gates[next];
        for (uint32_t j = 0; j < service->methods_count; j++, next++) {
            struct rpc_method *gate = &services->gates[next];
            services->inner[next] = &methods[j];
            *gate = methods[j];
            gate->on_call = methods[j].on_call == NULL ? NULL : gate_call;
            gate->on_open = methods[j].on_open == NULL ? NULL : gate_open;
            gate->on_message = methods[j].on_message == NULL ? NULL : gate_message;
            gate->on_cancel = methods[j].on_cancel == NULL ? NULL : gate_cancel;
        }
    }
    return ST_OK;
}

void gates_deinit(struct services *services)
{
    free(services->gates);
    free(services->inner);
}
