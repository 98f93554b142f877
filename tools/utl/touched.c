#include "tools/utl/touched.h"

#include "base/arena.h"
#include "base/assert.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/kv_request.h"

#include <stdlib.h>

#define KEYS_BYTES_MAX ((size_t)4 << 30)
#define TXN_ARENA_BYTES_MAX (256U << 20) /* of one entry */

/* Keys from begin on: up to end, which is not in it, or all. */
struct span {
    struct slice begin, end; /* in the arena */
    bool is_open;
};

struct utl_touched {
    struct arena arena, scratch;
    struct span *spans; /* owned; sealed: ascending, apart from each other */
    size_t count, capacity;
    int64_t *leases; /* owned; revoked */
    size_t leases_count, leases_capacity;
    bool leases_sorted, sealed;
};

enum status utl_touched_new(struct utl_touched **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return ST_NO_MEMORY;
    arena_init(&(*out)->arena, KEYS_BYTES_MAX);
    arena_init(&(*out)->scratch, TXN_ARENA_BYTES_MAX);
    return ST_OK;
}

void utl_touched_free(struct utl_touched *touched)
{
    if (touched == NULL)
        return;
    arena_deinit(&touched->arena);
    arena_deinit(&touched->scratch);
    free(touched->spans);
    free(touched->leases);
    free(touched);
}

/* ---- adding ---- */

/* Ranges as requests name them: no end is the key alone, an end of one zero byte is all from it on.
 */
static enum status add_span(struct utl_touched *t, struct slice key, struct slice end)
{
    static const uint8_t zero = 0;
    struct span span = {.is_open = slice_eq(end, slice_make(&zero, 1))};
    if (t->count == t->capacity) {
        size_t capacity = max_size(64, t->capacity * 2);
        struct span *grown = reallocarray(t->spans, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        t->spans = grown;
        t->capacity = capacity;
    }
    void *room;
    enum status st = arena_take(&t->arena, key.len + 1, &room);
    if (st != ST_OK)
        return st;
    uint8_t *bytes = room;
    if (key.len > 0)
        memcpy(bytes, key.data, key.len);
    bytes[key.len] = 0; /* the key with it is the least one above the key */
    span.begin = slice_make(bytes, key.len);
    span.end = slice_make(bytes, key.len + 1);
    if (end.len > 0 && !span.is_open)
        st = arena_copy(&t->arena, end, &span.end);
    if (st == ST_OK && (span.is_open || slice_cmp(span.begin, span.end) < 0))
        t->spans[t->count++] = span;
    return st;
}

static enum status add_txn(struct utl_touched *t, const struct kv_txn *txn);

static enum status add_ops(struct utl_touched *t, const struct kv_ops *ops)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < ops->count && st == ST_OK; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_PUT)
            st = add_span(t, op->put->key, SLICE_EMPTY);
        else if (op->kind == KV_OP_DELETE)
            st = add_span(t, op->del->key, op->del->range_end);
        else if (op->kind == KV_OP_TXN)
            st = add_txn(t, op->txn);
    }
    return st;
}

/* No deeper than TXN_DEPTH_MAX: what lies below was not decoded. */
static enum status add_txn(struct utl_touched *t, const struct kv_txn *txn)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < txn->compares_count && st == ST_OK; i++)
        st = add_span(t, txn->compares[i].key, txn->compares[i].range_end);
    if (st == ST_OK)
        st = add_ops(t, &txn->success);
    return st == ST_OK ? add_ops(t, &txn->failure) : st;
}

static enum status add_revoked(struct utl_touched *t, struct slice body)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, 0}};
    int64_t id = 0;
    if (wire_decode(body, slots, 1, &id) != ST_OK)
        return ST_INVALID;
    if (t->leases_count == t->leases_capacity) {
        size_t capacity = max_size(16, t->leases_capacity * 2);
        int64_t *grown = reallocarray(t->leases, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        t->leases = grown;
        t->leases_capacity = capacity;
    }
    t->leases[t->leases_count++] = id;
    t->leases_sorted = false;
    return ST_OK;
}

static enum status add_request(struct utl_touched *t, const struct internal_request *request)
{
    struct kv_put put;
    struct kv_delete del;
    struct kv_txn txn;
    enum status st = ST_OK;
    switch (request->field) {
    case INTERNAL_PUT:
        st = kv_put_decode(request->body, &put);
        return st == ST_OK ? add_span(t, put.key, SLICE_EMPTY) : st;
    case INTERNAL_DELETE_RANGE:
        st = kv_delete_decode(request->body, &del);
        return st == ST_OK ? add_span(t, del.key, del.range_end) : st;
    case INTERNAL_TXN:
        st = kv_txn_decode(request->body, UINT32_MAX, &t->scratch, &txn);
        return st == ST_OK ? add_txn(t, &txn) : st;
    case INTERNAL_LEASE_REVOKE:
        return add_revoked(t, request->body);
    default:
        return ST_OK;
    }
}

enum status utl_touched_add(struct utl_touched *t, const struct raft_entry *entry)
{
    ASSERT(!t->sealed);
    struct internal_request request;
    struct slice data = raft_payload_slice(entry->payload);
    if (entry->type != RAFT_ENTRY_NORMAL || data.len == 0 ||
        internal_request_decode(data, &request) != ST_OK || request.is_legacy)
        return ST_OK;
    enum status st = add_request(t, &request);
    arena_reset(&t->scratch);
    return st == ST_INVALID ? ST_OK : st;
}

/* ---- leases ---- */

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

bool utl_touched_revokes(const struct utl_touched *t)
{
    return t->leases_count > 0;
}

enum status utl_touched_add_record(struct utl_touched *t, const struct mvcc_kv *kv)
{
    if (kv->lease == 0)
        return ST_OK;
    if (!t->leases_sorted)
        qsort(t->leases, t->leases_count, sizeof(*t->leases), compare_ids);
    t->leases_sorted = true;
    return bsearch(&kv->lease, t->leases, t->leases_count, sizeof(*t->leases), compare_ids) == NULL
               ? ST_OK
               : add_span(t, kv->key, SLICE_EMPTY);
}

/* ---- looking up ---- */

static int compare_spans(const void *a, const void *b)
{
    return slice_cmp(((const struct span *)a)->begin, ((const struct span *)b)->begin);
}

static void join(struct span *into, const struct span *next)
{
    into->is_open = into->is_open || next->is_open;
    if (slice_cmp(next->end, into->end) > 0)
        into->end = next->end;
}

void utl_touched_seal(struct utl_touched *t)
{
    size_t kept = 0;
    if (t->count > 0)
        qsort(t->spans, t->count, sizeof(*t->spans), compare_spans);
    for (size_t i = 0; i < t->count; i++) {
        struct span *last = kept == 0 ? NULL : &t->spans[kept - 1];
        if (last != NULL && (last->is_open || slice_cmp(t->spans[i].begin, last->end) <= 0))
            join(last, &t->spans[i]);
        else
            t->spans[kept++] = t->spans[i];
    }
    t->count = kept;
    t->sealed = true;
}

bool utl_touched_has(void *context, struct slice key)
{
    const struct utl_touched *t = context;
    ASSERT(t->sealed);
    size_t low = 0, high = t->count; /* the last span that begins at the key or before it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (slice_cmp(t->spans[middle].begin, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    const struct span *span = &t->spans[low - 1];
    return span->is_open || slice_cmp(key, span->end) < 0;
}
