/* server/services/defragment.c - Maintenance.Defragment: free pages go back to the disk. Local,
 * also without a leader; clients notice nothing but the disk's time. */
#include "base/list.h"
#include "server/run/log.h"
#include "server/services/services_private.h"
#include "storage/store.h"

struct defragment_call {
    struct defragment_request request;
    struct rpc_call *call;
    uint64_t size_bytes; /* before */
};

static uint64_t size_of_store(const struct services *services)
{
    struct store_stat stat;
    return store_get_stat(services->options.store, &stat) == ST_OK ? stat.backend.size_bytes : 0;
}

static void defragmented(struct defragment_request *request, enum api_error error)
{
    struct defragment_call *defragment = CONTAINER_OF(request, struct defragment_call, request);
    struct rpc_call *call = defragment->call;
    const struct services *services = call->service;
    uint64_t took_ns = clock_monotonic_ns(services->options.clock) - call->started_ns;
    if (error == API_OK)
        log_info("finished defragment", LOG_U64("size-before-bytes", defragment->size_bytes),
                 LOG_U64("size-bytes", size_of_store(services)), LOG_DURATION("took", took_ns));
    else
        log_warn("failed to defragment", LOG_DURATION("took", took_ns),
                 LOG_STR("error", api_error_text(error)));
    finish_later(call, error, SLICE_EMPTY); /* etcd's answer has no header */
}

void on_defragment(struct rpc_call *call)
{
    struct services *services = call->service;
    enum api_error refused = auth_raw(auth_is_root(call));
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    struct defragment_call *defragment = ARENA_NEW(call->arena, struct defragment_call);
    if (defragment == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    *defragment = (struct defragment_call){
        .request = {.done = defragmented}, .call = call, .size_bytes = size_of_store(services)};
    log_info("starting defragment", LOG_U64("size-bytes", defragment->size_bytes));
    loops_defragment(services->options.loops, &defragment->request);
}
