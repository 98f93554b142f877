#include "server/services/services.h"

#include "server/services/services_private.h"
#include "server/state/limits.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"

#include <stdlib.h>

enum status services_new(const struct services_options *options, struct services **out)
{
    *out = NULL;
    struct services *services = calloc(1, sizeof(*services));
    if (services == NULL)
        return ST_NO_MEMORY;
    services->options = *options;
    slow_init(&services->slow);
    atomic_store(&services->figures.room_bytes, UINT64_MAX); /* until it is fetched */
    if (services->options.quota_bytes == 0)
        services->options.quota_bytes = QUOTA_BYTES_DEFAULT;
    const struct rpc_service *const all[SERVICES_COUNT] = {
        &kv_service,    &maintenance_service, &cluster_service,  &auth_service, &health_service,
        &lease_service, &lock_service,        &election_service, &watch_service};
    for (uint32_t i = 0; i < SERVICES_COUNT; i++) {
        services->table[i] = *all[i];
        services->table[i].service = services;
    }
    enum status st = gates_init(services);
    if (st == ST_OK)
        st = auth_open(services);
    if (st != ST_OK) {
        services_free(services);
        return st;
    }
    *out = services;
    return ST_OK;
}

void services_free(struct services *services)
{
    if (services == NULL)
        return;
    auth_close(services);
    gates_deinit(services);
    free(services);
}

const struct rpc_service *services_table(const struct services *services, uint32_t *count_out)
{
    *count_out = SERVICES_COUNT;
    return services->table;
}

void finish_message(struct rpc_call *call, const struct wire_out *out)
{
    struct slice message;
    enum status st = wire_out_finish(out, &message);
    if (st != ST_OK)
        finish_error(call, api_error_of(st));
    else
        rpc_finish(call, RPC_OK, NULL, message);
}

void finish_message_later(struct rpc_call *call, const struct wire_out *out)
{
    struct slice message = SLICE_EMPTY;
    finish_later(call, api_error_of(wire_out_finish(out, &message)), message);
}

struct response_header header_now(const struct services *services, int64_t revision)
{
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    return (struct response_header){.cluster_id = machine_cluster_id(services->options.machine),
                                    .member_id = machine_member_id(services->options.machine),
                                    .revision = revision,
                                    .raft_term = status.term};
}

int64_t current_revision(const struct services *services)
{
    int64_t current, compacted;
    mvcc_revisions(services->options.mvcc, &current, &compacted);
    return current;
}

uint64_t request_deadline_ns(const struct services *services)
{
    return clock_monotonic_ns(services->options.clock) + services->options.request_timeout_ns;
}
