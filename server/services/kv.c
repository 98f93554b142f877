/* server/services/kv.c - Range, Put, DeleteRange, Txn, Compact. What a method checks, and in which
 * order, is etcd's: quota, then the request, then its size as an entry. */
#include "server/services/services_private.h"
#include "server/state/check.h"
#include "server/state/range.h"
#include "server/state/txn.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/minmax.h"

/* ---- writes ---- */

static enum api_error decoded(enum status st)
{
    if (st == ST_OK)
        return API_OK;
    return st == ST_TOO_BIG ? API_REQUEST_TOO_LARGE : API_UNDECODABLE;
}

static void on_put(struct rpc_call *call)
{
    struct kv_put put;
    enum api_error error = decoded(kv_put_decode(call->message, &put));
    if (error == API_OK)
        error = admit_write(call->service, put_cost(&put));
    if (error == API_OK)
        error = check_put(&put);
    if (error != API_OK)
        refuse_write(call, error);
    else
        propose_write(call, INTERNAL_PUT, put_cost(&put));
}

static void on_delete_range(struct rpc_call *call)
{
    struct kv_delete del;
    enum api_error error = decoded(kv_delete_decode(call->message, &del));
    if (error == API_OK)
        error = check_delete(&del);
    if (error == API_OK)
        error = admit_write(call->service, /* cost= */ 0);
    if (error != API_OK)
        finish_error(call, error);
    else
        propose_message(call, INTERNAL_DELETE_RANGE);
}

static void on_compact(struct rpc_call *call)
{
    struct kv_compact compact;
    enum api_error error = decoded(kv_compact_decode(call->message, &compact));
    if (error == API_OK)
        error = admit_write(call->service, /* cost= */ 0);
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    error = auth_is_root(call); /* it takes history from everybody */
    if (error != API_OK)
        refuse_caller(call, error);
    else
        propose_message(call, INTERNAL_COMPACTION);
}

/* ---- reads ---- */

struct range_call {
    struct read_request read;
    struct kv_range range;
};

struct txn_call {
    struct read_request read;
    struct kv_txn txn;
};

/* To be called before the finish, after which the call is not ours. */
static void note_read(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct request *request = call->trace;
    if (request != NULL)
        request->times.ended_ns = clock_monotonic_ns(services->options.clock);
}

static size_t bytes_max(const struct services *services, uint32_t reader)
{
    return loops_is_for_long_reads(services->options.loops, reader) ? 0 : SHORT_READ_BYTES_MAX;
}

static void begin_read(struct rpc_call *call, struct read_request *read, read_ready_fn ready)
{
    *read = (struct read_request){.request = {.kind = REQUEST_READ,
                                              .deadline_ns = request_deadline_ns(call->service),
                                              .call = call},
                                  .ready = ready};
    call->trace = &read->request;
}

/* It was begun by a reader for short ones, or by a poller. */
static void read_long(struct rpc_call *call, struct read_request *read, read_ready_fn ready)
{
    struct services *services = call->service;
    if (call->trace == NULL)
        begin_read(call, read, ready);
    loops_read_long(services->options.loops, read);
}

static void range_ready(struct read_request *read, enum api_error error, uint32_t reader);

static void answer_range(struct rpc_call *call, struct range_call *range_call, uint32_t reader)
{
    const struct services *services = call->service;
    const struct kv_range *range = &range_call->range;
    struct response_header header = header_now(services, 0);
    struct slice response;
    uint64_t users = auth_revision_before(call);
    enum api_error error = auth_may_read(call, range->key, range->range_end);
    if (error == API_OK) {
        enum status st = range_answer(services->options.mvcc, reader, range,
                                      bytes_max(services, reader), &header, call->arena, &response);
        if (st == ST_CANCELED) {
            read_long(call, &range_call->read, range_ready);
            return;
        }
        error = api_error_of(st);
    }
    note_read(call);
    if (error == API_OK)
        error = auth_is_unchanged(call, users);
    if (error != API_OK)
        finish_error(call, error);
    else
        rpc_finish(call, RPC_OK, NULL, response);
}

static void range_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct range_call *range_call = CONTAINER_OF(read, struct range_call, read);
    if (error != API_OK)
        finish_later(read->request.call, error, SLICE_EMPTY);
    else
        answer_range(read->request.call, range_call, reader);
}

static void txn_ready(struct read_request *read, enum api_error error, uint32_t reader);

static void answer_txn(struct rpc_call *call, struct txn_call *txn_call, uint32_t reader)
{
    const struct services *services = call->service;
    struct kv_txn *txn = &txn_call->txn;
    struct response_header header = header_now(services, 0);
    struct slice response;
    uint64_t users = auth_revision_before(call);
    enum api_error error = auth_may_txn(call, txn);
    if (error == API_OK) {
        enum status st =
            txn_answer(services->options.mvcc, reader, txn, bytes_max(services, reader), &header,
                       call->arena, &response, &error);
        if (st == ST_CANCELED) {
            read_long(call, &txn_call->read, txn_ready);
            return;
        }
        if (st != ST_OK)
            error = api_error_of(st);
    }
    note_read(call);
    if (error == API_OK)
        error = auth_is_unchanged(call, users);
    if (error != API_OK)
        finish_error(call, error);
    else
        rpc_finish(call, RPC_OK, NULL, response);
}

static void txn_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct txn_call *txn_call = CONTAINER_OF(read, struct txn_call, read);
    if (error != API_OK)
        finish_later(read->request.call, error, SLICE_EMPTY);
    else
        answer_txn(read->request.call, txn_call, reader);
}

/* Takes the keys of one range off *room; false when there are more. */
static bool fits(struct services *services, struct slice key, struct slice end, uint32_t *room)
{
    struct mvcc_range range = {.key = key, .end = end};
    uint32_t keys = 1;
    if (end.len > 0 && mvcc_estimate(services->options.mvcc, &range, *room + 1, &keys) != ST_OK)
        return false;
    if (keys > *room)
        return false;
    *room -= keys;
    return true;
}

static bool range_is_small(struct services *services, const struct kv_range *range)
{
    uint32_t room = SMALL_READ_KEYS_MAX;
    return reads_stay_in_memory(services) && fits(services, range->key, range->range_end, &room);
}

static bool ops_are_small(struct services *services, const struct kv_ops *ops, uint32_t *room)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_range *range = ops->items[i].range;
        if (!fits(services, range->key, range->range_end, room))
            return false;
    }
    return true;
}

static bool txn_is_small(struct services *services, const struct kv_txn *txn)
{
    uint32_t room = SMALL_READ_KEYS_MAX;
    for (uint32_t i = 0; i < txn->compares_count; i++) {
        if (!fits(services, txn->compares[i].key, txn->compares[i].range_end, &room))
            return false;
    }
    return reads_stay_in_memory(services) && ops_are_small(services, &txn->success, &room) &&
           ops_are_small(services, &txn->failure, &room);
}

static void start_read(struct rpc_call *call, struct read_request *read, bool serializable,
                       read_ready_fn ready)
{
    struct services *services = call->service;
    begin_read(call, read, ready);
    if (serializable)
        loops_read_local(services->options.loops, read);
    else
        loops_read(services->options.loops, read);
}

static void on_range(struct rpc_call *call)
{
    struct range_call *range_call = ARENA_NEW(call->arena, struct range_call);
    if (range_call == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    struct kv_range *range = &range_call->range;
    enum api_error error = decoded(kv_range_decode(call->message, range));
    if (error == API_OK && !range->serializable && is_learner(call->service))
        error = API_LEARNER_NOT_SUPPORTED;
    if (error == API_OK)
        error = check_range(range);
    if (error != API_OK)
        finish_error(call, error);
    else if (range->serializable && range_is_small(call->service, range))
        answer_range(call, range_call, call->poller);
    else
        start_read(call, &range_call->read, range->serializable, range_ready);
}

/* ---- both ---- */

static void read_txn(struct rpc_call *call, struct txn_call *txn_call)
{
    bool serializable = kv_txn_is_serializable(&txn_call->txn);
    if (serializable && txn_is_small(call->service, &txn_call->txn))
        answer_txn(call, txn_call, call->poller);
    else
        start_read(call, &txn_call->read, serializable, txn_ready);
}

static void on_txn(struct rpc_call *call)
{
    struct services *services = call->service;
    struct txn_call *txn_call = ARENA_NEW(call->arena, struct txn_call);
    if (txn_call == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    struct kv_txn *txn = &txn_call->txn;
    enum api_error error =
        decoded(kv_txn_decode(call->message, services->options.txn_ops_max, call->arena, txn));
    bool read_only = error == API_OK && kv_txn_is_read_only(txn);
    if (error == API_OK && !read_only)
        error = admit_write(services, txn_cost(txn));
    if (error == API_OK)
        error = check_txn(txn, call->arena);
    if (error != API_OK) {
        refuse_write(call, error);
        return;
    }
    if (read_only) {
        read_txn(call, txn_call);
        return;
    }
    error = auth_may_txn(call, txn); /* etcd does not look at what lies deeper */
    if (error != API_OK)
        refuse_caller(call, error);
    else
        propose_write(call, INTERNAL_TXN, txn_cost(txn));
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.KV/Range", .on_call = on_range},
    {.path = "/etcdserverpb.KV/Put", .on_call = on_put},
    {.path = "/etcdserverpb.KV/DeleteRange", .on_call = on_delete_range},
    {.path = "/etcdserverpb.KV/Txn", .on_call = on_txn},
    {.path = "/etcdserverpb.KV/Compact", .on_call = on_compact},
};
const struct rpc_service kv_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
