#include "storage/mvcc_private.h"

#define TELL_BYTES (1U << 20) /* walked between two words to whoever watches */

struct walk {
    store_revision_fn fn;
    void *context;
    uint32_t left;
    struct revision next;
    bool paused;
    const struct backend_watch *watch;
    uint64_t done_bytes, told_bytes;
};

/* Ends the walk under this view with ST_BUSY when it has taken its share. */
static enum status walk_step(void *context, struct revision revision, bool tombstone,
                             struct slice record)
{
    struct walk *walk = context;
    if (walk->left == 0) {
        walk->next = revision;
        walk->paused = true;
        return ST_BUSY;
    }
    walk->left--;
    walk->done_bytes += record.len + TOMBSTONE_KEY_BYTES;
    if (walk->done_bytes >= walk->told_bytes + TELL_BYTES) {
        backend_watch_tell(walk->watch, walk->done_bytes, /* total_bytes= */ 0);
        walk->told_bytes = walk->done_bytes;
    }
    return walk->fn(walk->context, revision, tombstone, record);
}

/* NULL once another state has taken the place of the one that the open read began in. */
static struct store_view *acquire_same(struct mvcc *mvcc, uint32_t reader)
{
    const struct mvcc_reader *slot = &mvcc->readers[reader];
    struct store_view *view = NULL;
    lock_acquire(mvcc->lock);
    if (!slot->open || slot->adoptions_count == mvcc->adoptions_count)
        view = store_view_acquire(mvcc->store, reader);
    lock_release(mvcc->lock);
    return view;
}

enum status mvcc_walk(struct mvcc *mvcc, uint32_t reader, struct revision from,
                      store_revision_fn fn, void *context)
{
    struct walk walk = {.fn = fn, .context = context, .next = from, .watch = mvcc->watch};
    enum status st = ST_OK;
    do {
        walk.left = MVCC_WALK_RECORDS;
        walk.paused = false;
        struct store_view *view = acquire_same(mvcc, reader);
        if (view == NULL)
            return ST_COMPACTED;
        st = store_view_each(view, walk.next, walk_step, &walk);
        store_view_release(view);
    } while (walk.paused);
    return st;
}

/* ---- history ---- */

struct history_walk {
    store_revision_fn fn;
    void *context;
    int64_t through;
    bool passed;
};

static enum status history_step(void *context, struct revision revision, bool tombstone,
                                struct slice record)
{
    struct history_walk *history = context;
    if (revision.main > history->through) {
        history->passed = true;
        return ST_NOT_FOUND;
    }
    return history->fn(history->context, revision, tombstone, record);
}

enum status mvcc_history(struct mvcc *mvcc, uint32_t reader, int64_t from, store_revision_fn fn,
                         void *context, int64_t *current_out, int64_t *compact_out)
{
    enum status st = mvcc_read_begin(mvcc, reader, current_out, compact_out);
    if (st != ST_OK)
        return st;
    struct history_walk history = {.fn = fn, .context = context, .through = *current_out};
    struct revision first = {from > 0 ? from : 0, 0};
    if (from < *compact_out)
        st = ST_COMPACTED;
    else if (from <= *current_out)
        st = mvcc_walk(mvcc, reader, first, history_step, &history);
    mvcc_read_end(mvcc, reader);
    return history.passed ? ST_OK : st;
}
