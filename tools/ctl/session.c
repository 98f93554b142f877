#include "tools/ctl/session.h"

#include "base/minmax.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

#define OUT_OF_MEMORY "out of memory"
#define STOPPED "context canceled"
#define FIRST_RENEWAL_S 1U

/* ---- the lease ---- */

const char *session_open(struct ctl *ctl, const char *name, int64_t ttl_s, struct session *out)
{
    static const struct ctl_method grant = {"/etcdserverpb.Lease/LeaseGrant",
                                            &etcdserverpb__lease_grant_response__descriptor,
                                            .unlimited = true};
    *out = (struct session){.ctl = ctl};
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = ttl_s;
    struct ctl_answer answer = ctl_call(ctl, &grant, &request.base);
    if (answer.error != NULL)
        return answer.error;
    const Etcdserverpb__LeaseGrantResponse *response = answer.message;
    out->lease = response->id;
    out->prefix = (char *)(uintptr_t)cli_format(ctl->cli, "%s/", name);
    out->key =
        (char *)(uintptr_t)cli_format(ctl->cli, "%s%" PRIx64, out->prefix, (uint64_t)out->lease);
    out->keepalive = keepalive_new(
        ctl->caller, out->lease, ctl->options.dial_timeout_ms + FIRST_RENEWAL_S * 1000, NULL, NULL);
    out->watches = watches_new(ctl->caller, /* require_leader= */ false);
    return out->keepalive == NULL || out->watches == NULL ? OUT_OF_MEMORY : NULL;
}

void session_close(struct session *session)
{
    watches_free(session->watches);
    keepalive_free(session->keepalive);
}

static void on_signal(int number)
{
    (void)number;
    ctl_stop = 1;
}

void session_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

const char *session_turn(struct session *session, uint64_t timeout_ms)
{
    client_wait(caller_client(session->ctl->caller), min_u64(timeout_ms, KEEPALIVE_STEP_MS));
    enum status st = keepalive_step(session->keepalive);
    if (st == ST_OK)
        st = watches_step(session->watches);
    return st == ST_OK ? NULL : status_str(st);
}

bool session_is_over(const struct session *session)
{
    return keepalive_is_over(session->keepalive);
}

/* ---- reading ---- */

static const struct ctl_method range_method = {
    "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor, .unlimited = true};

static const char *range(struct session *session, const Etcdserverpb__RangeRequest *request,
                         const Etcdserverpb__RangeResponse **out)
{
    struct ctl_answer answer = ctl_call(session->ctl, &range_method, &request->base);
    *out = answer.message;
    return answer.error;
}

/* The key below the name that was created first, or last. */
static const char *below(struct session *session, bool first, Etcdserverpb__RangeRequest *out)
{
    *out = (Etcdserverpb__RangeRequest)ETCDSERVERPB__RANGE_REQUEST__INIT;
    out->key = ctl_bytes(session->prefix);
    if (ctl_prefix_end(session->ctl->cli, out->key, &out->range_end) != ST_OK)
        return OUT_OF_MEMORY;
    out->sort_order = first ? ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND
                            : ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    out->sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
    out->limit = 1;
    return NULL;
}

const char *session_get(struct session *session, const Etcdserverpb__RangeResponse **out)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = ctl_bytes(session->key);
    return range(session, &request, out);
}

const char *session_get_oldest(struct session *session, const Etcdserverpb__RangeResponse **out)
{
    Etcdserverpb__RangeRequest request;
    const char *error = below(session, /* first= */ true, &request);
    return error != NULL ? error : range(session, &request, out);
}

/* ---- our key ---- */

static const struct ctl_method txn_method = {
    "/etcdserverpb.KV/Txn", &etcdserverpb__txn_response__descriptor, .unlimited = true};

static Etcdserverpb__Compare created_at(const struct session *session, int64_t revision)
{
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    compare.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL;
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
    compare.key = ctl_bytes(session->key);
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    compare.create_revision = revision;
    return compare;
}

static Etcdserverpb__RequestOp range_op(Etcdserverpb__RangeRequest *request)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op.request_range = request;
    return op;
}

const Etcdserverpb__RangeResponse *session_range_answer(const Etcdserverpb__TxnResponse *answer,
                                                        size_t number)
{
    if (number >= answer->n_responses)
        return NULL;
    const Etcdserverpb__ResponseOp *op = answer->responses[number];
    bool is_range = op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
    return is_range ? op->response_range : NULL;
}

/* When the key was there already: since when. */
static const char *found_revision(struct session *session, const Etcdserverpb__TxnResponse *answer)
{
    const Etcdserverpb__RangeResponse *found = session_range_answer(answer, 0);
    if (found == NULL || found->n_kvs == 0)
        return "the server's answer has not what was asked for";
    session->revision = found->kvs[0]->create_revision;
    return NULL;
}

const char *session_put_key(struct session *session, const char *value, bool with_owner,
                            const Etcdserverpb__TxnResponse **out)
{
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT, oldest;
    const char *error = below(session, /* first= */ true, &oldest);
    if (error != NULL)
        return error;
    get.key = ctl_bytes(session->key);
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = ctl_bytes(session->key);
    put.value = ctl_bytes(value);
    put.lease = session->lease;
    Etcdserverpb__RequestOp put_op = ETCDSERVERPB__REQUEST_OP__INIT, get_op = range_op(&get),
                            oldest_op = range_op(&oldest);
    put_op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    put_op.request_put = &put;
    Etcdserverpb__Compare compare = created_at(session, 0), *compares[] = {&compare};
    Etcdserverpb__RequestOp *success[] = {&put_op, &oldest_op}, *failure[] = {&get_op, &oldest_op};
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    request.compare = compares;
    request.n_compare = 1;
    request.success = success;
    request.failure = failure;
    request.n_success = request.n_failure = with_owner ? 2 : 1;
    struct ctl_answer answer = ctl_call(session->ctl, &txn_method, &request.base);
    if (answer.error != NULL)
        return answer.error;
    *out = answer.message;
    session->revision = (*out)->header != NULL ? (*out)->header->revision : 0;
    return (*out)->succeeded ? NULL : found_revision(session, *out);
}

const char *session_delete_key(struct session *session, bool exactly)
{
    ctl_stop = 0;
    Etcdserverpb__DeleteRangeRequest delete = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    delete.key = ctl_bytes(session->key);
    if (!exactly) {
        static const struct ctl_method method = {"/etcdserverpb.KV/DeleteRange",
                                                 &etcdserverpb__delete_range_response__descriptor,
                                                 .unlimited = true};
        return ctl_call(session->ctl, &method, &delete.base).error;
    }
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT, *success[] = {&op};
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op.request_delete_range = &delete;
    Etcdserverpb__Compare compare = created_at(session, session->revision),
                          *compares[] = {&compare};
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    request.compare = compares;
    request.n_compare = 1;
    request.success = success;
    request.n_success = 1;
    return ctl_call(session->ctl, &txn_method, &request.base).error;
}

/* ---- waiting ---- */

/* One key watched until it is deleted. */
struct awaited {
    struct watcher *watcher;
    bool is_deleted, has_ended;
    const char *error;
    struct ctl *ctl;
};

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct awaited *awaited = context;
    for (size_t i = 0; i < response->n_events; i++)
        awaited->is_deleted |= response->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE;
    if (response->canceled)
        awaited->error = "etcdserver: mvcc: required revision has been compacted";
}

static void on_ended(void *context, const char *error)
{
    struct awaited *awaited = context;
    awaited->has_ended = true;
    if (error != NULL)
        awaited->error = cli_format(awaited->ctl->cli, "%s", error);
    else if (awaited->error == NULL)
        awaited->error = "lost watcher waiting for delete";
}

static const char *wait_for_deletion(struct session *session, ProtobufCBinaryData key,
                                     int64_t revision)
{
    struct awaited awaited = {.ctl = session->ctl};
    struct watcher_options options = {.key = ctl_slice(key), .start_revision = revision};
    struct watcher_events events = {on_response, on_ended, &awaited};
    enum status st = watches_add(session->watches, &options, &events, &awaited.watcher);
    const char *error = st == ST_OK ? NULL : status_str(st);
    while (error == NULL && !awaited.is_deleted && !awaited.has_ended && ctl_stop == 0)
        error = session_turn(session, KEEPALIVE_STEP_MS);
    if (st == ST_OK && !awaited.has_ended)
        watches_remove(session->watches, awaited.watcher);
    if (error != NULL || awaited.is_deleted)
        return error;
    return awaited.has_ended ? awaited.error : STOPPED;
}

const char *session_wait_turn(struct session *session)
{
    Etcdserverpb__RangeRequest request;
    const char *error = below(session, /* first= */ false, &request);
    request.max_create_revision = session->revision - 1;
    while (error == NULL) {
        const Etcdserverpb__RangeResponse *before;
        error = range(session, &request, &before);
        if (error != NULL)
            return error;
        if (before->n_kvs == 0)
            return NULL;
        int64_t revision = before->header != NULL ? before->header->revision : 0;
        error = wait_for_deletion(session, before->kvs[0]->key, revision);
        arena_reset(&session->ctl->arena);
    }
    return error;
}
