/* server/state/check_overlap.c - may one branch of a txn run as a unit? etcd walks it so: the
 * deletes of a list of operations; then its nested txns in order, then-branch before else-branch;
 * then its puts. A put collides with every put of its key and every delete over its key that came
 * before it in this walk, unless the two stand in opposite branches of one nested txn. Hence etcd's
 * quirks: a put in one nested txn does not collide with a delete in a later one.
 *
 * etcd keeps sets and interval trees and unites them upwards. Here the keys that are put are sorted
 * once and numbered; a delete is then a run of these numbers, and a Fenwick tree (Fenwick 1994)
 * counts the deletes in force over each. Leaving a then-branch takes back what it added, and the
 * end of the else-branch puts it in force again. */
#include "server/state/check_private.h"

#include "base/assert.h"

#include <stdlib.h>

/* What one operation added: a put of key number first (last == first), or a delete over the numbers
 * first <= n < last. */
struct added {
    uint32_t first, last;
};

struct overlap {
    struct slice *keys; /* put by this branch, sorted, each once */
    uint32_t keys_count;
    uint32_t *puts;    /* per key: puts in force */
    int32_t *deletes;  /* Fenwick tree of differences, from 1: deletes in force over each key */
    struct added *log; /* in order of the walk */
    uint32_t log_count;
};

/* ---- counting ---- */

struct ops_counts {
    uint32_t puts, deletes;
};

static void count_ops(const struct kv_ops *ops, struct ops_counts *counts)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        counts->puts += op->kind == KV_OP_PUT;
        counts->deletes += op->kind == KV_OP_DELETE;
        if (op->kind == KV_OP_TXN) {
            count_ops(&op->txn->success, counts);
            count_ops(&op->txn->failure, counts);
        }
    }
}

static void collect_keys(const struct kv_ops *ops, struct overlap *o)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind == KV_OP_PUT)
            o->keys[o->keys_count++] = op->put->key;
        if (op->kind == KV_OP_TXN) {
            collect_keys(&op->txn->success, o);
            collect_keys(&op->txn->failure, o);
        }
    }
}

static int compare_keys(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static void sort_keys(struct overlap *o)
{
    qsort(o->keys, o->keys_count, sizeof(o->keys[0]), compare_keys);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o->keys_count; i++) {
        if (kept == 0 || !slice_eq(o->keys[kept - 1], o->keys[i]))
            o->keys[kept++] = o->keys[i];
    }
    o->keys_count = kept;
}

/* Number of keys below key. */
static uint32_t keys_below(const struct overlap *o, struct slice key)
{
    uint32_t low = 0, high = o->keys_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_cmp(o->keys[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- deletes in force ---- */

static void add_from(struct overlap *o, uint32_t first, int32_t difference)
{
    for (uint32_t i = first + 1; i <= o->keys_count; i += i & -i)
        o->deletes[i] += difference;
}

static bool is_deleted(const struct overlap *o, uint32_t number)
{
    int32_t sum = 0;
    for (uint32_t i = number + 1; i > 0; i -= i & -i)
        sum += o->deletes[i];
    ASSERT(sum >= 0);
    return sum > 0;
}

/* Brings one addition into force (by 1) or takes it back (by -1). */
static void enforce(struct overlap *o, struct added added, int32_t by)
{
    if (added.first == added.last) {
        o->puts[added.first] += (uint32_t)by;
        return;
    }
    add_from(o, added.first, by);
    add_from(o, added.last, -by);
}

static void enforce_log(struct overlap *o, uint32_t from, uint32_t to, int32_t by)
{
    for (uint32_t i = from; i < to; i++)
        enforce(o, o->log[i], by);
}

static void add(struct overlap *o, struct added added)
{
    o->log[o->log_count++] = added;
    enforce(o, added, 1);
}

/* The end is taken literally: "\0" for "everything from here" lies before every start, so such a
 * delete is empty here, as in etcd, and collides with nothing. */
static void add_delete(struct overlap *o, const struct kv_delete *del)
{
    uint32_t first = keys_below(o, del->key);
    uint32_t last;
    if (del->range_end.len > 0)
        last = keys_below(o, del->range_end);
    else
        last = first + (first < o->keys_count && slice_eq(o->keys[first], del->key));
    if (first < last)
        add(o, (struct added){.first = first, .last = last});
}

static bool add_put(struct overlap *o, const struct kv_put *put)
{
    uint32_t number = keys_below(o, put->key);
    ASSERT(number < o->keys_count);
    if (o->puts[number] > 0 || is_deleted(o, number))
        return false;
    add(o, (struct added){.first = number, .last = number});
    return true;
}

/* ---- the walk ---- */

static bool walk(struct overlap *o, const struct kv_ops *ops);

static bool walk_txn(struct overlap *o, const struct kv_txn *txn)
{
    uint32_t then_from = o->log_count;
    if (!walk(o, &txn->success))
        return false;
    uint32_t then_to = o->log_count;
    if (txn->failure.count == 0)
        return true;
    enforce_log(o, then_from, then_to, -1);
    if (!walk(o, &txn->failure))
        return false;
    enforce_log(o, then_from, then_to, 1);
    return true;
}

static bool walk(struct overlap *o, const struct kv_ops *ops)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_DELETE)
            add_delete(o, ops->items[i].del);
    }
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_TXN && !walk_txn(o, ops->items[i].txn))
            return false;
    }
    for (uint32_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == KV_OP_PUT && !add_put(o, ops->items[i].put))
            return false;
    }
    return true;
}

enum api_error check_overlap(const struct kv_ops *branch, struct arena *scratch)
{
    struct ops_counts counts = {0};
    count_ops(branch, &counts);
    if (counts.puts == 0 || counts.puts + counts.deletes == 1)
        return API_OK;
    struct overlap o = {
        .keys = ARENA_ARRAY(scratch, struct slice, counts.puts),
        .puts = ARENA_ARRAY(scratch, uint32_t, counts.puts),
        .deletes = ARENA_ARRAY(scratch, int32_t, counts.puts + 1),
        .log = ARENA_ARRAY(scratch, struct added, counts.puts + counts.deletes),
    };
    if (o.keys == NULL || o.puts == NULL || o.deletes == NULL || o.log == NULL)
        return API_REQUEST_TOO_LARGE;
    collect_keys(branch, &o);
    sort_keys(&o);
    return walk(&o, branch) ? API_OK : API_DUPLICATE_KEY;
}
