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

enum status mvcc_walk(struct mvcc *mvcc, uint32_t reader, struct revision from,
                      store_revision_fn fn, void *context)
{
    struct walk walk = {.fn = fn, .context = context, .next = from};
    enum status st = ST_OK;
    do {
        walk.left = MVCC_WALK_RECORDS;
        walk.paused = false;
        lock_acquire(mvcc->lock);
        struct store_view *view = store_view_acquire(mvcc->store, reader);
        lock_release(mvcc->lock);
        st = store_view_each(view, walk.next, walk_step, &walk);
        store_view_release(view);
    } while (walk.paused);
    return st;
}
