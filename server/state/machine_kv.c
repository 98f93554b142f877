/* server/state/machine_kv.c - puts, deletes, txns and compactions as they are applied. */
#include "base/assert.h"
#include "server/state/check.h"
#include "server/state/machine_private.h"
#include "server/state/response_header.h"
#include "server/state/txn.h"

static struct source writing_source(const struct machine *machine)
{
    struct source source = {
        .mvcc = machine->mvcc, .reader = SOURCE_WRITING, .lessor = machine->lessor};
    mvcc_revisions(machine->mvcc, &source.current_revision, &source.compact_revision);
    return source;
}

static struct executor executor_of(const struct application *a)
{
    return (struct executor){
        .source = writing_source(a->machine), .out = a->out, .scratch = &a->machine->scratch};
}

void application_finish(struct application *a, int64_t revision)
{
    const struct response_header header = {.cluster_id = a->machine->cluster_id,
                                           .member_id = a->machine->member_id,
                                           .revision = revision,
                                           .raft_term = a->entry->term};
    wire_prepend_header(a->out, &header);
}

enum status apply_put(struct application *a, struct slice body)
{
    struct kv_put put;
    enum status st = kv_put_decode(body, &put);
    if (st == ST_OK)
        a->result->error = machine_auth_refuses_put(a, &put);
    if (st != ST_OK || a->result->error != API_OK)
        return st;
    st = mvcc_write_begin(a->machine->mvcc);
    if (st != ST_OK)
        return st;
    struct executor executor = executor_of(a);
    st = put_precheck(&executor.source, &put, &a->result->error);
    if (st == ST_OK && a->result->error == API_OK)
        st = execute_put(&executor, &put);
    if (st != ST_OK)
        return st;
    application_finish(a, mvcc_write_end(a->machine->mvcc));
    return ST_OK;
}

enum status apply_delete(struct application *a, struct slice body)
{
    struct kv_delete del;
    enum status st = kv_delete_decode(body, &del);
    if (st == ST_OK)
        a->result->error = machine_auth_refuses_delete(a, &del);
    if (st != ST_OK || a->result->error != API_OK)
        return st;
    st = mvcc_write_begin(a->machine->mvcc);
    if (st != ST_OK)
        return st;
    struct executor executor = executor_of(a);
    st = execute_delete(&executor, &del);
    if (st != ST_OK)
        return st;
    application_finish(a, mvcc_write_end(a->machine->mvcc));
    return ST_OK;
}

static enum status run_txn(struct application *a, struct executor *executor, struct kv_txn *txn)
{
    enum status st = txn_evaluate(&executor->source, txn);
    if (st == ST_OK)
        st = txn_precheck(&executor->source, txn, &a->result->error);
    if (st == ST_OK && a->result->error == API_OK)
        st = execute_txn(executor, txn);
    return st;
}

/* The limit on operations is the proposer's; members may be set differently. */
enum status apply_txn(struct application *a, struct slice body)
{
    struct kv_txn txn;
    enum status st = kv_txn_decode(body, UINT32_MAX, &a->machine->scratch, &txn);
    if (st == ST_TOO_BIG)
        return ST_NO_MEMORY;
    if (st == ST_OK && txn.passed_over)
        st = ST_UNSUPPORTED;
    /* By what it might put, in either branch; a put in a txn within it gets through, as in etcd. */
    if (st == ST_OK && machine_has_alarm(a->machine, ALARM_NOSPACE) && txn_cost(&txn) > 0) {
        a->result->error = API_NO_SPACE;
        return ST_OK;
    }
    if (st == ST_OK)
        a->result->error = machine_auth_refuses_txn(a, &txn);
    if (st != ST_OK || a->result->error != API_OK)
        return st;
    st = mvcc_write_begin(a->machine->mvcc);
    if (st != ST_OK)
        return st;
    struct executor executor = executor_of(a);
    st = run_txn(a, &executor, &txn);
    if (st != ST_OK)
        return st;
    application_finish(a, mvcc_write_end(a->machine->mvcc));
    return ST_OK;
}

enum status apply_compaction(struct application *a, struct slice body)
{
    struct kv_compact compact;
    enum status st = kv_compact_decode(body, &compact);
    if (st != ST_OK)
        return st;
    a->result->wait_for_compaction = compact.physical;
    st = mvcc_compact(a->machine->mvcc, compact.revision);
    if (st != ST_OK && st != ST_COMPACTED && st != ST_FUTURE)
        return st;
    a->result->error = api_error_of(st);
    int64_t current, compacted;
    mvcc_revisions(a->machine->mvcc, &current, &compacted);
    application_finish(a, current);
    return ST_OK;
}
