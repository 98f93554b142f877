#include "server/state/txn.h"

#include "base/assert.h"
#include "server/state/lessor.h"
#include "server/state/range.h"

static const struct kv_ops *chosen_ops(const struct kv_txn *txn)
{
    return txn->succeeded ? &txn->success : &txn->failure;
}

/* ---- compares ---- */

static int compare_numbers(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* Stored against given. An operand of another target's kind counts as zero or empty; an unknown
 * target compares equal. */
static int order_of(const struct kv_compare *compare, const struct mvcc_kv *kv)
{
    bool fits = compare->given == compare->target;
    int64_t number = fits ? compare->number : 0;
    switch (compare->target) {
    case COMPARE_VERSION:
        return compare_numbers(kv->version, number);
    case COMPARE_CREATE:
        return compare_numbers(kv->create_revision, number);
    case COMPARE_MOD:
        return compare_numbers(kv->mod_revision, number);
    case COMPARE_VALUE:
        return slice_cmp(kv->value, fits ? compare->value : SLICE_EMPTY);
    case COMPARE_LEASE:
        return compare_numbers(kv->lease, number);
    default:
        return 0;
    }
}

static bool compare_holds(const struct kv_compare *compare, const struct mvcc_kv *kv)
{
    int order = order_of(compare, kv);
    switch (compare->result) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    case COMPARE_NOT_EQUAL:
        return order != 0;
    default: /* unknown to etcd too, which lets it hold */
        return true;
    }
}

struct comparison {
    const struct kv_compare *compare;
    bool found, holds;
};

/* Stops the read with ST_CANCELED at the first key for which it does not hold. */
static enum status compare_record(void *context, struct slice record)
{
    struct comparison *comparison = context;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK)
        return st;
    comparison->found = true;
    comparison->holds = compare_holds(comparison->compare, &kv);
    return comparison->holds ? ST_OK : ST_CANCELED;
}

static enum status evaluate_compare(const struct source *source, const struct kv_compare *compare,
                                    bool *holds_out)
{
    struct mvcc_query query = {.range = {.key = compare->key, .end = compare->range_end}};
    struct comparison comparison = {.compare = compare};
    struct mvcc_result result;
    enum status st = source_read(source, &query, compare_record, &comparison, &result);
    if (st != ST_OK && st != ST_CANCELED)
        return st;
    *holds_out = comparison.holds;
    if (!comparison.found) {
        /* Zeros stand for what is not there, but no value does. */
        const struct mvcc_kv nothing = {0};
        *holds_out = compare->target != COMPARE_VALUE && compare_holds(compare, &nothing);
    }
    return ST_OK;
}

enum status txn_evaluate(const struct source *source, struct kv_txn *txn)
{
    ASSERT(!txn->over_limit);
    txn->succeeded = true;
    for (uint32_t i = 0; i < txn->compares_count && txn->succeeded; i++) {
        enum status st = evaluate_compare(source, &txn->compares[i], &txn->succeeded);
        if (st != ST_OK)
            return st;
    }
    const struct kv_ops *ops = chosen_ops(txn);
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind != KV_OP_TXN)
            continue;
        enum status st = txn_evaluate(source, ops->items[i].txn);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- prechecks ---- */

static enum status key_exists(const struct source *source, struct slice key, bool *out)
{
    struct mvcc_query query = {.range = {.key = key}, .count_only = true};
    struct mvcc_result result;
    enum status st = source_read(source, &query, NULL, NULL, &result);
    *out = st == ST_OK && result.count > 0;
    return st;
}

/* What a put keeps must be there. */
static enum status check_kept(const struct source *source, const struct kv_put *put,
                              enum api_error *error_out)
{
    bool exists = true;
    if (put->ignore_value || put->ignore_lease) {
        enum status st = key_exists(source, put->key, &exists);
        if (st != ST_OK)
            return st;
    }
    *error_out = exists ? API_OK : API_KEY_NOT_FOUND;
    return ST_OK;
}

static bool lease_exists(const struct source *source, const struct kv_put *put)
{
    return put->lease == 0 || lessor_find(source->lessor, put->lease) != NULL;
}

enum status put_precheck(const struct source *source, const struct kv_put *put,
                         enum api_error *error_out)
{
    *error_out = API_LEASE_NOT_FOUND;
    return lease_exists(source, put) ? check_kept(source, put, error_out) : ST_OK;
}

struct precheck {
    const struct source *source;
    enum api_error error;
    /* The lowest key from which on everything was deleted by an operation before. */
    bool deletes_open_end;
    struct slice deleted_from;
};

/* An open-ended delete collides with no put in etcd's check of duplicates, so it may take away what
 * a later put of the txn wants to keep: etcd dies of that while it executes, here it is an error
 * beforehand. */
static void note_delete(struct precheck *precheck, const struct kv_delete *del)
{
    if (!slice_eq(del->range_end, SLICE("\0")))
        return;
    if (!precheck->deletes_open_end || slice_cmp(del->key, precheck->deleted_from) < 0)
        precheck->deleted_from = del->key;
    precheck->deletes_open_end = true;
}

static enum status precheck_put(struct precheck *precheck, const struct kv_put *put)
{
    enum status st = check_kept(precheck->source, put, &precheck->error);
    if (st != ST_OK || precheck->error != API_OK)
        return st;
    bool keeps = put->ignore_value || put->ignore_lease;
    if (keeps && precheck->deletes_open_end && slice_cmp(put->key, precheck->deleted_from) >= 0)
        precheck->error = API_KEY_NOT_FOUND;
    else if (!lease_exists(precheck->source, put))
        precheck->error = API_LEASE_NOT_FOUND;
    return ST_OK;
}

static enum status precheck_puts(struct precheck *precheck, const struct kv_txn *txn)
{
    const struct kv_ops *ops = chosen_ops(txn);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < ops->count && st == ST_OK && precheck->error == API_OK; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_PUT)
            st = precheck_put(precheck, op->put);
        else if (op->kind == KV_OP_DELETE)
            note_delete(precheck, op->del);
        else if (op->kind == KV_OP_TXN)
            st = precheck_puts(precheck, op->txn);
    }
    return st;
}

/* Negative revisions are below the compact revision here, other than in a Range of its own; -1 is
 * not while nothing was ever compacted. */
static enum api_error precheck_range(const struct source *source, const struct kv_range *range)
{
    if (range->revision == 0)
        return API_OK;
    if (range->revision > source->current_revision)
        return API_FUTURE_REVISION;
    return range->revision < source->compact_revision ? API_COMPACTED : API_OK;
}

static enum api_error precheck_ranges(const struct source *source, const struct kv_txn *txn)
{
    const struct kv_ops *ops = chosen_ops(txn);
    enum api_error error = API_OK;
    for (uint32_t i = 0; i < ops->count && error == API_OK; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_RANGE)
            error = precheck_range(source, op->range);
        else if (op->kind == KV_OP_TXN)
            error = precheck_ranges(source, op->txn);
    }
    return error;
}

enum status txn_precheck(const struct source *source, const struct kv_txn *txn,
                         enum api_error *error_out)
{
    struct precheck precheck = {.source = source};
    enum status st = precheck_puts(&precheck, txn);
    if (st != ST_OK)
        return st;
    *error_out = precheck.error != API_OK ? precheck.error : precheck_ranges(source, txn);
    return ST_OK;
}

/* ---- execution ---- */

#define FIELD_PREV_KV 2   /* PutResponse */
#define FIELD_DELETED 2   /* DeleteRangeResponse */
#define FIELD_PREV_KVS 3  /* DeleteRangeResponse */
#define FIELD_SUCCEEDED 2 /* TxnResponse */
#define FIELD_RESPONSES 3 /* TxnResponse */

/* Where the transaction's own reads and writes stand: current, or one above once it has written. */
static int64_t revision_now(const struct executor *executor, bool *wrote_out)
{
    if (executor->source.reader == SOURCE_WRITING)
        return mvcc_write_revision(executor->source.mvcc, wrote_out);
    *wrote_out = false;
    return executor->source.current_revision + 1;
}

struct kept {
    struct arena *arena;
    struct slice record;
};

static enum status keep_record(void *context, struct slice record)
{
    struct kept *kept = context;
    return arena_copy(kept->arena, record, &kept->record);
}

/* The record that a put with ignore_value or ignore_lease takes its half from. */
static enum status read_kept(struct executor *executor, const struct kv_put *put,
                             struct slice *record_out, struct mvcc_kv *kv_out)
{
    struct mvcc_query query = {.range = {.key = put->key}};
    struct kept kept = {.arena = executor->scratch};
    struct mvcc_result result;
    enum status st = source_read(&executor->source, &query, keep_record, &kept, &result);
    if (st != ST_OK)
        return st;
    if (kept.record.len == 0)
        return ST_NOT_FOUND;
    *record_out = kept.record;
    return mvcc_kv_decode(kept.record, kv_out);
}

enum status execute_put(struct executor *executor, const struct kv_put *put)
{
    struct slice value = put->value, previous = SLICE_EMPTY;
    int64_t lease = put->lease;
    if (put->ignore_value || put->ignore_lease) {
        struct mvcc_kv kv;
        enum status st = read_kept(executor, put, &previous, &kv);
        if (st != ST_OK)
            return st;
        value = put->ignore_value ? kv.value : value;
        lease = put->ignore_lease ? kv.lease : lease;
    }
    bool fetch = put->prev_kv && previous.len == 0;
    enum status st = mvcc_write_put(executor->source.mvcc, put->key, value, lease,
                                    executor->scratch, fetch ? &previous : NULL);
    if (st == ST_OK && put->prev_kv && previous.len > 0)
        wire_put_bytes(executor->out, FIELD_PREV_KV, previous);
    return st;
}

/* Never stops the delete: an answer that does not fit is noticed in out. */
static enum status append_previous(void *context, struct slice record)
{
    wire_put_bytes(context, FIELD_PREV_KVS, record);
    return ST_OK;
}

enum status execute_delete(struct executor *executor, const struct kv_delete *del)
{
    struct mvcc_range range = {.key = del->key, .end = del->range_end};
    size_t mark = executor->out->len;
    int64_t deleted = 0;
    enum status st =
        mvcc_write_delete(executor->source.mvcc, &range, del->prev_kv ? append_previous : NULL,
                          executor->out, &deleted);
    if (st != ST_OK || deleted == 0)
        return st;
    uint8_t field[1 + VARINT_BYTES_MAX] = {FIELD_DELETED << 3 | WIRE_VARINT};
    size_t size = 1 + put_varint(field + 1, (uint64_t)deleted);
    wire_insert(executor->out, mark, slice_make(field, size));
    return ST_OK;
}

/* Headers of a txn's operations hold their revision alone. */
static void insert_op_header(struct executor *executor, size_t mark, int64_t revision)
{
    uint8_t bytes[RESPONSE_HEADER_BYTES_MAX];
    const struct response_header header = {.revision = revision};
    wire_insert(executor->out, mark, slice_make(bytes, response_header_encode(&header, bytes)));
}

/* A range is only read for its answer: without room for that the other operations go on. */
static enum status execute_range(struct executor *executor, const struct kv_range *range)
{
    if (executor->out->failed)
        return ST_OK;
    enum status st = range_encode(&executor->source, range, executor->out);
    if (st != ST_TOO_BIG && st != ST_NO_MEMORY)
        return st;
    executor->out->failed = true;
    return ST_OK;
}

static enum status execute_op_body(struct executor *executor, const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_NONE:
        break;
    case KV_OP_RANGE:
        return execute_range(executor, op->range);
    case KV_OP_PUT:
        return execute_put(executor, op->put);
    case KV_OP_DELETE:
        return execute_delete(executor, op->del);
    case KV_OP_TXN:
        return execute_txn(executor, op->txn);
    }
    return ST_UNSUPPORTED;
}

/* One ResponseOp. The header of a nested txn's answer is there, but empty. */
static enum status execute_op(struct executor *executor, const struct kv_op *op)
{
    if (op->kind == KV_OP_NONE)
        return ST_UNSUPPORTED; /* never gets past check_txn() */
    size_t response = wire_open(executor->out, FIELD_RESPONSES);
    size_t body = wire_open(executor->out, (uint32_t)op->kind);
    enum status st = execute_op_body(executor, op);
    if (st != ST_OK)
        return st;
    bool wrote;
    int64_t next = revision_now(executor, &wrote);
    bool is_txn = op->kind == KV_OP_TXN;
    insert_op_header(executor, body, is_txn ? 0 : wrote ? next : next - 1);
    wire_close(executor->out, body);
    wire_close(executor->out, response);
    return ST_OK;
}

enum status execute_txn(struct executor *executor, const struct kv_txn *txn)
{
    wire_put_varint(executor->out, FIELD_SUCCEEDED, txn->succeeded);
    const struct kv_ops *ops = chosen_ops(txn);
    for (uint32_t i = 0; i < ops->count; i++) {
        enum status st = execute_op(executor, &ops->items[i]);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- read-only ---- */

static enum status answer_at(const struct source *source, struct kv_txn *txn, struct wire_out *out,
                             enum api_error *error_out)
{
    enum status st = txn_evaluate(source, txn);
    if (st == ST_OK)
        st = txn_precheck(source, txn, error_out);
    if (st != ST_OK || *error_out != API_OK)
        return st;
    struct executor executor = {.source = *source, .out = out};
    return execute_txn(&executor, txn);
}

enum status txn_answer(struct mvcc *mvcc, uint32_t reader, struct kv_txn *txn, size_t bytes_max,
                       struct response_header *header, struct arena *arena,
                       struct slice *response_out, enum api_error *error_out)
{
    ASSERT(kv_txn_is_read_only(txn));
    *error_out = API_OK;
    struct source source = {.mvcc = mvcc, .reader = reader, .bytes_max = bytes_max};
    enum status st =
        mvcc_read_begin(mvcc, reader, &source.current_revision, &source.compact_revision);
    if (st != ST_OK)
        return st;
    header->revision = source.current_revision;
    struct wire_out out;
    wire_out_init(&out, arena, /* gap= */ 0);
    wire_put_header(&out, header);
    st = answer_at(&source, txn, &out, error_out);
    mvcc_read_end(mvcc, reader);
    return st != ST_OK || *error_out != API_OK ? st : wire_out_finish(&out, response_out);
}
