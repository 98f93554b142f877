#include "tests/server_state/kv_random.h"

#include "base/assert.h"
#include "tests/server_state/kv_model.h"
#include "tests/server_state/messages.h"

#define DEPTH_MAX 2U
#define OPS_MAX 4U
#define COMPARES_MAX 2U
#define REVISIONS_BACK 20U

static uint64_t below(struct kv_chooser *chooser, uint64_t limit)
{
    return chooser->below(chooser->context, limit);
}

static bool one_of(struct kv_chooser *chooser, uint64_t many)
{
    return below(chooser, many) == 0;
}

static struct slice random_key(struct kv_chooser *chooser)
{
    static const char keys[KV_MODEL_KEYS + 1] = "abcdefgh";
    return slice_make(&keys[below(chooser, KV_MODEL_KEYS)], 1);
}

static struct slice random_end(struct kv_chooser *chooser)
{
    uint64_t dice = below(chooser, 4);
    if (dice < 2)
        return SLICE_EMPTY;
    return dice == 2 ? SLICE("\0") : random_key(chooser);
}

static struct slice random_value(struct kv_chooser *chooser)
{
    static const char values[] = "xyz";
    return slice_make(&values[below(chooser, 3)], 1);
}

static int64_t random_revision(struct kv_chooser *chooser)
{
    return chooser->revision + 2 - (int64_t)below(chooser, REVISIONS_BACK);
}

static int64_t random_lease(struct kv_chooser *chooser)
{
    return chooser->leases == 0 ? 0 : (int64_t)below(chooser, (uint64_t)chooser->leases + 1);
}

struct kv_range kv_random_range(struct kv_chooser *chooser)
{
    struct kv_range range = {.key = random_key(chooser),
                             .range_end = random_end(chooser),
                             .limit = (int64_t)below(chooser, 4) - 1,
                             .keys_only = one_of(chooser, 4),
                             .count_only = one_of(chooser, 8)};
    if (one_of(chooser, 4))
        range.revision = random_revision(chooser);
    return range;
}

struct kv_put kv_random_put(struct kv_chooser *chooser)
{
    struct kv_put put = {.key = random_key(chooser),
                         .value = random_value(chooser),
                         .lease = random_lease(chooser),
                         .prev_kv = one_of(chooser, 2),
                         .ignore_value = one_of(chooser, 6),
                         .ignore_lease = one_of(chooser, 6)};
    if (put.ignore_value)
        put.value = SLICE_EMPTY;
    if (put.ignore_lease)
        put.lease = 0;
    return put;
}

struct kv_delete kv_random_delete(struct kv_chooser *chooser)
{
    return (struct kv_delete){.key = random_key(chooser),
                              .range_end = random_end(chooser),
                              .prev_kv = one_of(chooser, 2)};
}

static struct kv_compare random_compare(struct kv_chooser *chooser)
{
    struct kv_compare compare = {.result = (int32_t)below(chooser, 4),
                                 .target = (int32_t)below(chooser, 5),
                                 .key = random_key(chooser),
                                 .range_end = random_end(chooser)};
    compare.given = compare.target;
    switch (compare.target) {
    case COMPARE_VALUE:
        compare.value = one_of(chooser, 4) ? SLICE_EMPTY : random_value(chooser);
        break;
    case COMPARE_VERSION:
        compare.number = (int64_t)below(chooser, 3);
        break;
    case COMPARE_LEASE:
        compare.number = random_lease(chooser);
        break;
    default:
        compare.number = random_revision(chooser);
    }
    return compare;
}

static struct kv_txn random_txn(struct kv_chooser *chooser, struct arena *arena, uint32_t depth);

static struct kv_op random_op(struct kv_chooser *chooser, struct arena *arena, uint32_t depth)
{
    struct kv_op op;
    switch (below(chooser, depth < DEPTH_MAX ? 8 : 6)) {
    case 0:
    case 1:
        op = op_get(arena, "a");
        *op.range = kv_random_range(chooser);
        return op;
    case 2:
        op = op_delete(arena, "a", "");
        *op.del = kv_random_delete(chooser);
        return op;
    case 6:
    case 7:
        return op_txn(arena, random_txn(chooser, arena, depth + 1));
    default:
        op = op_put(arena, "a", "x");
        *op.put = kv_random_put(chooser);
        return op;
    }
}

static struct kv_ops random_ops(struct kv_chooser *chooser, struct arena *arena, uint32_t depth)
{
    struct kv_op items[OPS_MAX];
    uint32_t count = (uint32_t)below(chooser, OPS_MAX + 1);
    for (uint32_t i = 0; i < count; i++)
        items[i] = random_op(chooser, arena, depth);
    return ops_of(arena, items, count);
}

static struct kv_txn random_txn(struct kv_chooser *chooser, struct arena *arena, uint32_t depth)
{
    struct kv_txn txn = {.compares = ARENA_ARRAY(arena, struct kv_compare, COMPARES_MAX)};
    ASSERT(txn.compares != NULL);
    txn.compares_count = (uint32_t)below(chooser, COMPARES_MAX + 1);
    for (uint32_t i = 0; i < txn.compares_count; i++)
        txn.compares[i] = random_compare(chooser);
    txn.success = random_ops(chooser, arena, depth);
    txn.failure = random_ops(chooser, arena, depth);
    return txn;
}

struct kv_txn kv_random_txn(struct kv_chooser *chooser, struct arena *arena)
{
    return random_txn(chooser, arena, 0);
}
