/* server/services/maintenance.c - Status. */
#include "server/services/services_private.h"
#include "storage/store.h"

/* StatusResponse */
enum {
    FIELD_VERSION = 2,
    FIELD_DB_SIZE,
    FIELD_LEADER,
    FIELD_RAFT_INDEX,
    FIELD_RAFT_TERM,
    FIELD_RAFT_APPLIED_INDEX,
    FIELD_ERRORS,
    FIELD_DB_SIZE_IN_USE,
    FIELD_IS_LEARNER,
};

/* Answers whatever state the cluster is in. */
static void on_status(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct store_stat stat;
    enum status st = store_get_stat(services->options.store, &stat);
    if (st != ST_OK) {
        finish_error(call, api_error_of(st));
        return;
    }
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_bytes(&out, FIELD_VERSION, slice_from_str(services->options.api_version));
    wire_put_varint(&out, FIELD_DB_SIZE, stat.backend.size_bytes);
    wire_put_varint(&out, FIELD_LEADER, status.leader);
    wire_put_varint(&out, FIELD_RAFT_INDEX, status.commit);
    wire_put_varint(&out, FIELD_RAFT_TERM, status.term);
    wire_put_varint(&out, FIELD_RAFT_APPLIED_INDEX, status.applied);
    if (status.leader == 0)
        wire_put_bytes(&out, FIELD_ERRORS, slice_from_str(api_error_text(API_NO_LEADER)));
    wire_put_varint(&out, FIELD_DB_SIZE_IN_USE, stat.backend.in_use_bytes);
    wire_put_varint(&out, FIELD_IS_LEARNER, status.is_learner);
    finish_message(call, &out);
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Maintenance/Status", .on_call = on_status},
};
const struct rpc_service maintenance_service = {.methods = methods,
                                                .methods_count = METHODS_OF(methods)};
