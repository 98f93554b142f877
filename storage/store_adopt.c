/* A store that takes the place of another while readers go on: what a member received because its
 * log alone could not bring it up to date. */
#include "base/assert.h"
#include "storage/store_private.h"

static void drop_deletions(struct store *store)
{
    lock_acquire(store->lock);
    for (struct list_node *node = list_pop_front(&store->forget); node != NULL;
         node = list_pop_front(&store->forget))
        free(CONTAINER_OF(node, struct forget_batch, node));
    lock_release(store->lock);
    atomic_store_explicit(&store->forget_pending, 0, memory_order_relaxed);
}

/* Apply's fields too: it waits. Each mark points into the buffer beside it. */
static void take_marks(struct store *store, struct store *incoming)
{
    struct buf opened = store->opened_conf_state, applied = store->applied_conf_state;
    store->opened_at = incoming->opened_at;
    store->opened_conf_state = incoming->opened_conf_state;
    store->applied = incoming->applied;
    store->applied_conf_state = incoming->applied_conf_state;
    incoming->opened_conf_state = opened;
    incoming->applied_conf_state = applied;
    store->in_entry = store->seal_wanted = false;
}

/* The published set and the generations in one hold of the lock, so that no reader sees half. */
static void exchange(struct store *store, struct store *incoming, void (*also)(void *context),
                     void *context)
{
    struct store_set *old = store->set;
    incoming->set->store = store;
    incoming->active->number = store->active->number + 1;
    lock_acquire(store->lock);
    old->dropped = store->sealed;
    old->dropped_active = store->active;
    store->set = incoming->set;
    store->sealed = NULL;
    store->active = incoming->active;
    store->adoptions_count++;
    also(context);
    lock_release(store->lock);
    incoming->set = NULL;
    incoming->active = NULL;
    list_push_back(&store->retired, &old->node);
    atomic_fetch_sub_explicit(&old->references, 1, memory_order_release);
}

void store_adopt(struct store *store, struct store *incoming, void (*also)(void *context),
                 void *context)
{
    ASSERT(incoming->lock == store->lock);
    ASSERT(incoming->options.readers_count == store->options.readers_count);
    ASSERT(list_is_empty(&incoming->retired));
    ASSERT(incoming->opened_at.index > store->applied.index);
    drop_deletions(store);
    exchange(store, incoming, also, context);
    take_marks(store, incoming);
    store->instance->replaced = true;
    store->instance = incoming->instance;
    incoming->instance = NULL;
    store->unpublished = store->retry = false;
    atomic_store(&store->deleting, false);
    uint64_t index = store->opened_at.index;
    atomic_store_explicit(&store->generation_bytes, store->active->bytes, memory_order_relaxed);
    atomic_store_explicit(&store->committed_index, index, memory_order_relaxed);
    /* The new file was synced as a whole before it came here. */
    atomic_store_explicit(&store->durable_index, index, memory_order_release);
    store_reap(store);
    store_close(incoming);
}
