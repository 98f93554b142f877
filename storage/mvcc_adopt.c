#include "base/assert.h"
#include "storage/mvcc_private.h"

struct adoption {
    struct mvcc *mvcc, *incoming;
};

/* Under the lock: readers find the new index and the new store together. */
static void take_index(void *context)
{
    struct adoption *a = context;
    struct mvcc *mvcc = a->mvcc, *incoming = a->incoming;
    struct index *old = mvcc->index;
    mvcc->index = incoming->index;
    incoming->index = old; /* nobody looks into it without the lock */
    mvcc->unpublished = false;
    mvcc->published_history_end = incoming->published_history_end;
    mvcc->trim_started = incoming->trim_started;
    mvcc->trimmed = incoming->trimmed;
    mvcc->finished_revision = incoming->finished_revision;
    mvcc->adoptions_count++;
    atomic_store(&mvcc->current_revision, atomic_load(&incoming->current_revision));
    atomic_store(&mvcc->compact_revision, atomic_load(&incoming->compact_revision));
}

void mvcc_adopt(struct mvcc *mvcc, struct mvcc *incoming)
{
    ASSERT(!mvcc->writing && incoming->lock == mvcc->lock);
    struct adoption adoption = {mvcc, incoming};
    store_adopt(mvcc->store, incoming->store, take_index, &adoption);
    mvcc_close(incoming);
    const struct mvcc_changes unknown = {.revision = atomic_load(&mvcc->current_revision)};
    if (mvcc->changes_fn != NULL)
        mvcc->changes_fn(mvcc->changes_context, &unknown);
}
