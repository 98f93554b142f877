#include "storage/mvcc_private.h"

struct walk {
    store_revision_fn fn;
    void *context;
    uint32_t left;
    struct revision next;
    bool paused;
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
    return walk->fn(walk->context, revision, tombstone, record);
}

/* Fails once another state has taken the place of the one that the walk began in. */
static struct store_view *acquire_same(struct mvcc *mvcc, uint32_t reader, bool is_first,
                                       uint64_t *adoptions_count)
{
    struct store_view *view = NULL;
    lock_acquire(mvcc->lock);
    if (is_first)
        *adoptions_count = mvcc->adoptions_count;
    if (*adoptions_count == mvcc->adoptions_count)
        view = store_view_acquire(mvcc->store, reader);
    lock_release(mvcc->lock);
    return view;
}

enum status mvcc_walk(struct mvcc *mvcc, uint32_t reader, struct revision from,
                      store_revision_fn fn, void *context)
{
    struct walk walk = {.fn = fn, .context = context, .next = from};
    uint64_t adoptions_count = 0;
    enum status st = ST_OK;
    bool is_first = true;
    do {
        walk.left = MVCC_WALK_RECORDS;
        walk.paused = false;
        struct store_view *view = acquire_same(mvcc, reader, is_first, &adoptions_count);
        if (view == NULL)
            return ST_COMPACTED;
        is_first = false;
        st = store_view_each(view, walk.next, walk_step, &walk);
        store_view_release(view);
    } while (walk.paused);
    return st;
}
