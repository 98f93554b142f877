#include "tests/server_state/kv_model.h"

#include "base/assert.h"

#include <inttypes.h>

void kv_model_init(struct kv_model *model, int64_t revisions_max)
{
    *model = (struct kv_model){.revision = 1, .compacted = -1, .history_count = revisions_max};
    buf_init(&model->text, 1 << 20);
    model->history = calloc((size_t)revisions_max, sizeof(model->history[0]));
    ASSERT(model->history != NULL);
}

void kv_model_deinit(struct kv_model *model)
{
    buf_deinit(&model->text);
    free(model->history);
}

/* Whether [key, end) of the request covers row number i. */
static bool covers(struct slice key, struct slice end, uint32_t i)
{
    uint8_t c = (uint8_t)('a' + i);
    if (end.len == 0)
        return key.data[0] == c;
    return key.data[0] <= c && (end.data[0] == 0 || c < end.data[0]);
}

static struct kv_model_row *row_of(struct kv_model *model, struct slice key)
{
    ASSERT(key.len == 1 && key.data[0] >= 'a' && key.data[0] < 'a' + KV_MODEL_KEYS);
    return &model->rows[key.data[0] - 'a'];
}

static void __attribute__((format(printf, 2, 3))) say(struct buf *out, const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ASSERT(length >= 0 && (size_t)length < sizeof(text));
    ASSERT(buf_append(out, slice_make(text, (size_t)length)) == ST_OK);
}

static void say_kv(struct buf *out, char key, char value, const struct kv_model_row *row)
{
    say(out, " %c=%c/%" PRId64 "/%" PRId64 "/%" PRId64 "/%" PRId64, key,
        value == '\0' ? '-' : value, row->create, row->mod, row->version, row->lease);
}

static int64_t revision_now(const struct kv_model *model)
{
    return model->revision + (model->wrote ? 1 : 0);
}

/* ---- compares ---- */

static int64_t order_of(const struct kv_compare *compare, const struct kv_model_row *row)
{
    switch (compare->target) {
    case COMPARE_VERSION:
        return row->version - compare->number;
    case COMPARE_CREATE:
        return row->create - compare->number;
    case COMPARE_MOD:
        return row->mod - compare->number;
    case COMPARE_LEASE:
        return row->lease - compare->number;
    default:
        return row->value - (compare->value.len > 0 ? compare->value.data[0] : 0);
    }
}

static bool compare_row(const struct kv_compare *compare, const struct kv_model_row *row)
{
    int64_t order = order_of(compare, row);
    switch (compare->result) {
    case COMPARE_EQUAL:
        return order == 0;
    case COMPARE_GREATER:
        return order > 0;
    case COMPARE_LESS:
        return order < 0;
    default:
        return order != 0;
    }
}

static bool holds(const struct kv_model *model, const struct kv_compare *compare)
{
    static const struct kv_model_row nothing;
    bool found = false;
    for (uint32_t i = 0; i < KV_MODEL_KEYS; i++) {
        if (!model->rows[i].alive || !covers(compare->key, compare->range_end, i))
            continue;
        found = true;
        if (!compare_row(compare, &model->rows[i]))
            return false;
    }
    return found || (compare->target != COMPARE_VALUE && compare_row(compare, &nothing));
}

static const struct kv_ops *chosen(const struct kv_txn *txn)
{
    return txn->succeeded ? &txn->success : &txn->failure;
}

static void evaluate(const struct kv_model *model, struct kv_txn *txn)
{
    txn->succeeded = true;
    for (uint32_t i = 0; i < txn->compares_count; i++)
        txn->succeeded = txn->succeeded && holds(model, &txn->compares[i]);
    const struct kv_ops *ops = chosen(txn);
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_TXN)
            evaluate(model, ops->items[i].txn);
    }
}

/* ---- what is looked at before anything is done ---- */

static enum api_error check_lease(const struct kv_model *model, const struct kv_put *put)
{
    bool found = put->lease == 0 ||
                 (model->has_lease != NULL && model->has_lease(model->context, put->lease));
    return found ? API_OK : API_LEASE_NOT_FOUND;
}

static enum api_error check_kept(struct kv_model *model, const struct kv_put *put,
                                 uint8_t deleted_from)
{
    bool keeps = put->ignore_value || put->ignore_lease;
    bool there = row_of(model, put->key)->alive && put->key.data[0] < deleted_from;
    return keeps && !there ? API_KEY_NOT_FOUND : API_OK;
}

static enum api_error check_revision(const struct kv_model *model, int64_t revision)
{
    if (revision > model->revision)
        return API_FUTURE_REVISION;
    return revision != 0 && revision < model->compacted ? API_COMPACTED : API_OK;
}

/* All puts of the chosen path first, then all ranges: pass 0, pass 1. deleted_from carries the
 * lowest open-ended delete so far. */
static enum api_error precheck(struct kv_model *model, const struct kv_txn *txn, int pass,
                               uint8_t *deleted_from)
{
    const struct kv_ops *ops = chosen(txn);
    enum api_error error = API_OK;
    for (uint32_t i = 0; i < ops->count && error == API_OK; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_TXN)
            error = precheck(model, op->txn, pass, deleted_from);
        if (op->kind == KV_OP_DELETE && op->del->range_end.len > 0 &&
            op->del->range_end.data[0] == 0 && op->del->key.data[0] < *deleted_from)
            *deleted_from = op->del->key.data[0];
        if (pass == 0 && op->kind == KV_OP_PUT) {
            error = check_kept(model, op->put, *deleted_from);
            if (error == API_OK)
                error = check_lease(model, op->put);
        }
        if (pass == 1 && op->kind == KV_OP_RANGE)
            error = check_revision(model, op->range->revision);
    }
    return error;
}

/* ---- operations ---- */

static void do_range(struct kv_model *model, const struct kv_range *range)
{
    const struct kv_model_row *rows =
        range->revision > 0 ? model->history[range->revision] : model->rows;
    uint32_t count = 0;
    say(&model->text, "[R%" PRId64, revision_now(model));
    for (uint32_t i = 0; i < KV_MODEL_KEYS; i++) {
        if (!rows[i].alive || !covers(range->key, range->range_end, i))
            continue;
        if (!range->count_only && (range->limit <= 0 || count < range->limit))
            say_kv(&model->text, (char)('a' + i), range->keys_only ? '\0' : rows[i].value,
                   &rows[i]);
        count++;
    }
    bool more = !range->count_only && range->limit > 0 && count > range->limit;
    say(&model->text, " %u%s]", count, more ? "+" : "");
}

static void do_put(struct kv_model *model, const struct kv_put *put)
{
    struct kv_model_row *row = row_of(model, put->key), before = *row;
    say(&model->text, "[P%" PRId64, model->revision + 1);
    if (put->prev_kv && row->alive)
        say_kv(&model->text, (char)put->key.data[0], row->value, row);
    say(&model->text, "]");
    model->wrote = true;
    char value = put->value.len > 0 ? (char)put->value.data[0] : '\0';
    *row = (struct kv_model_row){.alive = true,
                                 .value = put->ignore_value ? before.value : value,
                                 .lease = put->ignore_lease ? before.lease : put->lease,
                                 .create = before.alive ? before.create : model->revision + 1,
                                 .mod = model->revision + 1,
                                 .version = before.alive ? before.version + 1 : 1};
}

static void do_delete(struct kv_model *model, const struct kv_delete *del)
{
    struct kv_model_row before[KV_MODEL_KEYS];
    memcpy(before, model->rows, sizeof(before));
    uint32_t deleted = 0;
    for (uint32_t i = 0; i < KV_MODEL_KEYS; i++) {
        if (before[i].alive && covers(del->key, del->range_end, i)) {
            model->rows[i] = (struct kv_model_row){0};
            model->wrote = true;
            deleted++;
        }
    }
    say(&model->text, "[D%" PRId64 " %u", revision_now(model), deleted);
    for (uint32_t i = 0; i < KV_MODEL_KEYS && del->prev_kv; i++) {
        if (before[i].alive && !model->rows[i].alive)
            say_kv(&model->text, (char)('a' + i), before[i].value, &before[i]);
    }
    say(&model->text, "]");
}

static void execute(struct kv_model *model, const struct kv_txn *txn);

static void do_op(struct kv_model *model, const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_RANGE:
        do_range(model, op->range);
        break;
    case KV_OP_PUT:
        do_put(model, op->put);
        break;
    case KV_OP_DELETE:
        do_delete(model, op->del);
        break;
    default:
        execute(model, op->txn);
    }
}

static void execute(struct kv_model *model, const struct kv_txn *txn)
{
    const struct kv_ops *ops = chosen(txn);
    say(&model->text, "(%d", txn->succeeded);
    for (uint32_t i = 0; i < ops->count; i++)
        do_op(model, &ops->items[i]);
    say(&model->text, ")");
}

static void begin(struct kv_model *model)
{
    buf_reset(&model->text);
    model->wrote = false;
}

static void commit(struct kv_model *model)
{
    model->revision = revision_now(model);
    model->wrote = false;
    ASSERT(model->revision < model->history_count);
    memcpy(model->history[model->revision], model->rows, sizeof(model->rows));
}

enum api_error kv_model_txn(struct kv_model *model, struct kv_txn *txn)
{
    uint8_t deleted_from = UINT8_MAX;
    begin(model);
    evaluate(model, txn);
    enum api_error error = precheck(model, txn, 0, &deleted_from);
    if (error == API_OK)
        error = precheck(model, txn, 1, &deleted_from);
    if (error != API_OK)
        return error;
    execute(model, txn);
    commit(model);
    return API_OK;
}

enum api_error kv_model_op(struct kv_model *model, const struct kv_op *op)
{
    enum api_error error = API_OK;
    begin(model);
    if (op->kind == KV_OP_PUT) {
        error = check_lease(model, op->put);
        if (error == API_OK)
            error = check_kept(model, op->put, UINT8_MAX);
    } else if (op->kind == KV_OP_RANGE && op->range->revision > 0) {
        error = check_revision(model, op->range->revision);
    }
    if (error != API_OK)
        return error;
    do_op(model, op);
    commit(model);
    return API_OK;
}

void kv_model_revoke(struct kv_model *model, int64_t lease)
{
    begin(model);
    for (uint32_t i = 0; i < KV_MODEL_KEYS; i++) {
        if (model->rows[i].alive && model->rows[i].lease == lease) {
            model->rows[i] = (struct kv_model_row){0};
            model->wrote = true;
        }
    }
    commit(model);
}

/* ---- the real answer as text ---- */

static void tell_kv(struct buf *out, const Mvccpb__KeyValue *kv)
{
    const struct kv_model_row row = {.create = kv->create_revision,
                                     .mod = kv->mod_revision,
                                     .version = kv->version,
                                     .lease = kv->lease};
    ASSERT(kv->key.len == 1);
    say_kv(out, (char)kv->key.data[0], kv->value.len > 0 ? (char)kv->value.data[0] : '\0', &row);
}

void kv_model_tell_range(struct buf *out, const Etcdserverpb__RangeResponse *range)
{
    say(out, "[R%" PRId64, range->header->revision);
    for (size_t i = 0; i < range->n_kvs; i++)
        tell_kv(out, range->kvs[i]);
    say(out, " %" PRId64 "%s]", range->count, range->more ? "+" : "");
}

void kv_model_tell_put(struct buf *out, const Etcdserverpb__PutResponse *put)
{
    say(out, "[P%" PRId64, put->header->revision);
    if (put->prev_kv != NULL)
        tell_kv(out, put->prev_kv);
    say(out, "]");
}

void kv_model_tell_delete(struct buf *out, const Etcdserverpb__DeleteRangeResponse *del)
{
    say(out, "[D%" PRId64 " %" PRId64, del->header->revision, del->deleted);
    for (size_t i = 0; i < del->n_prev_kvs; i++)
        tell_kv(out, del->prev_kvs[i]);
    say(out, "]");
}

void kv_model_tell(struct buf *out, const Etcdserverpb__TxnResponse *txn)
{
    say(out, "(%d", txn->succeeded);
    for (size_t i = 0; i < txn->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = txn->responses[i];
        switch (op->response_case) {
        case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
            kv_model_tell_range(out, op->response_range);
            break;
        case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
            kv_model_tell_put(out, op->response_put);
            break;
        case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
            kv_model_tell_delete(out, op->response_delete_range);
            break;
        default:
            kv_model_tell(out, op->response_txn);
        }
    }
    say(out, ")");
}
