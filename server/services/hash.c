/* server/services/hash.c - Maintenance.Hash: of everything that this member holds, as etcd computes
 * it, from a pin. Local; members that have applied the same have the same. */
#include "server/loops/export.h"
#include "server/metrics/metrics.h"
#include "server/services/services_private.h"

enum { FIELD_HASH = 2 }; /* HashResponse */

static void give(struct export_request *export, enum api_error error, struct slice bytes)
{
    (void)bytes;
    struct rpc_call *call = export->call;
    const struct services *services = call->service;
    if (error != API_OK) {
        finish_later(call, error, SLICE_EMPTY);
        return;
    }
    metrics_observe(METRIC_MVCC_HASH,
                    clock_monotonic_ns(services->options.clock) - call->started_ns);
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_varint(&out, FIELD_HASH, export->hash);
    finish_message_later(call, &out);
}

void on_hash_cancel(struct rpc_call *call)
{
    struct export_request *export = call->state;
    if (export != NULL)
        loops_export_cancel(export);
}

void on_hash(struct rpc_call *call)
{
    struct services *services = call->service;
    enum api_error refused = auth_raw(auth_is_root(call));
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    struct export_request *export = ARENA_NEW(call->arena, struct export_request);
    if (export == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    *export = (struct export_request){.call = call, .hashes = true, .give = give};
    call->state = export;
    loops_export(services->options.loops, export);
}
