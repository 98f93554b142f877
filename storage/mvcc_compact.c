#include "base/assert.h"
#include "base/minmax.h"
#include "storage/mvcc_private.h"

#define META_REVISION_BYTES_MAX TOMBSTONE_KEY_BYTES

/* A revision as etcd keeps it in `meta`: a revision key. */
static struct slice meta_revision(int64_t revision, uint8_t *bytes)
{
    return slice_make(bytes, revision_key_encode((struct revision){revision, 0},
                                                 /* tombstone= */ false, bytes));
}

enum status mvcc_compact(struct mvcc *mvcc, int64_t revision)
{
    ASSERT(!mvcc->writing);
    int64_t current, compact;
    mvcc_revisions(mvcc, &current, &compact);
    if (revision <= compact)
        return ST_COMPACTED;
    if (revision > current)
        return ST_FUTURE;
    uint8_t bytes[META_REVISION_BYTES_MAX];
    enum status st = store_put(mvcc->store, BUCKET_META, SLICE(MVCC_META_SCHEDULED),
                               meta_revision(revision, bytes));
    if (st != ST_OK)
        return st;
    lock_acquire(mvcc->lock);
    atomic_store(&mvcc->compact_revision, revision);
    lock_release(mvcc->lock);
    return ST_OK;
}

/* Up to where revisions may go: nobody who reads now may need them. With the lock held, so that no
 * reader chooses its revision meanwhile. */
static int64_t trim_limit(struct mvcc *mvcc)
{
    int64_t limit = atomic_load_explicit(&mvcc->compact_revision, memory_order_relaxed);
    for (uint32_t i = 0; i <= mvcc_checkpoint_slot(mvcc); i++)
        limit =
            min_i64(limit, atomic_load_explicit(&mvcc->readers[i].pinned, memory_order_acquire));
    return limit;
}

static int compare_dead(const void *a, const void *b)
{
    const struct store_dead *x = a, *y = b;
    return revision_cmp(x->revision, y->revision);
}

/* Hands the revisions to the store before the index forgets them: when the store cannot take them
 * now, or a checkpoint has begun since the limit was chosen, they stay where the next step finds
 * them (to delete a revision twice does no harm). */
static enum status trim(struct mvcc *mvcc, int64_t at, bool *worked_out)
{
    struct index_dead dead[MVCC_TRIM_ITEMS];
    struct store_dead forget[MVCC_TRIM_ITEMS];
    struct index_trim step;
    index_trim_peek(mvcc->index, at, MVCC_TRIM_ITEMS, dead, &step);
    *worked_out = !index_trim_is_empty(mvcc->index, &step);
    if (!*worked_out)
        return ST_OK;
    for (size_t i = 0; i < step.dead_count; i++)
        forget[i] = (struct store_dead){dead[i].revision, dead[i].tombstone};
    qsort(forget, step.dead_count, sizeof(*forget), compare_dead);
    enum status st = store_forget(mvcc->store, forget, step.dead_count);
    if (st != ST_OK)
        return st;
    lock_acquire(mvcc->lock);
    bool allowed = trim_limit(mvcc) >= at;
    if (allowed)
        index_trim_take(mvcc->index, &step);
    lock_release(mvcc->lock);
    if (allowed)
        mvcc_count(&mvcc->trimmed_count, step.dead_count);
    return allowed ? ST_OK : ST_BUSY;
}

/* finishedCompactRev promises that the deletions are in the store, so that after a restart nothing
 * below it is looked for. */
static enum status finish(struct mvcc *mvcc, int64_t compact)
{
    if (mvcc->finished_revision >= compact || store_forget_pending_count(mvcc->store) > 0)
        return ST_OK;
    uint8_t bytes[META_REVISION_BYTES_MAX];
    enum status st = store_note(mvcc->store, BUCKET_META, SLICE(MVCC_META_FINISHED),
                                meta_revision(compact, bytes));
    if (st == ST_OK)
        mvcc->finished_revision = compact;
    return st;
}

enum status mvcc_compact_step(struct mvcc *mvcc, bool *more_out)
{
    ASSERT(!mvcc->writing);
    *more_out = false;
    int64_t compact = atomic_load_explicit(&mvcc->compact_revision, memory_order_relaxed);
    if (mvcc->trimmed >= compact)
        return finish(mvcc, compact);
    lock_acquire(mvcc->lock);
    int64_t limit = trim_limit(mvcc);
    /* Told before the first deletion, so that no checkpoint taken from here on hides it. */
    mvcc->trim_started = max_i64(mvcc->trim_started, limit);
    lock_release(mvcc->lock);
    if (limit <= mvcc->trimmed)
        return ST_OK;
    bool worked;
    enum status st = trim(mvcc, limit, &worked);
    if (st == ST_BUSY)
        return ST_OK;
    if (st != ST_OK)
        return st;
    *more_out = worked;
    if (worked)
        return ST_OK;
    lock_acquire(mvcc->lock);
    mvcc->trimmed = limit;
    lock_release(mvcc->lock);
    return limit >= compact ? finish(mvcc, compact) : ST_OK;
}

bool mvcc_compact_is_done(const struct mvcc *mvcc)
{
    return mvcc->trimmed >= atomic_load_explicit(&mvcc->compact_revision, memory_order_relaxed);
}
