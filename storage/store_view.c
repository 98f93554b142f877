/* Readers' side of the store: counted sets of snapshots, and reads through generations and them. */
#include "base/assert.h"
#include "storage/store_private.h"

/* ---- sets ---- */

static void close_snapshots(struct store_set *set)
{
    for (uint32_t i = 0; i < set->views_count; i++) {
        set->instance->backend->ops->snapshot_close(set->views[i].snapshot);
        set->views[i].snapshot = NULL;
    }
}

void store_set_free(struct store_set *set)
{
    close_snapshots(set);
    generation_free(set->dropped);
    generation_free(set->dropped_active);
    set->instance->sets_count--;
    free(set);
}

enum status store_set_new(struct store *store, struct store_instance *instance,
                          struct store_set **out)
{
    *out = NULL;
    uint32_t views_count = store->options.readers_count + 1; /* the last one is apply's */
    struct store_set *set = calloc(1, sizeof(*set) + views_count * sizeof(struct store_view));
    if (set == NULL)
        return ST_NO_MEMORY;
    atomic_init(&set->references, 1);
    list_init(&set->node);
    set->store = store;
    set->instance = instance;
    set->views_count = views_count;
    instance->sets_count++;
    for (uint32_t i = 0; i < views_count; i++) {
        struct backend *backend = instance->backend;
        set->views[i].set = set;
        enum status st = backend->ops->snapshot_open(backend, &set->views[i].snapshot);
        if (st != ST_OK) {
            store_set_free(set);
            return st;
        }
    }
    *out = set;
    return ST_OK;
}

void store_publish(struct store *store, struct store_set *set, bool drop_sealed)
{
    lock_acquire(store->lock);
    struct store_set *old = store->set;
    struct generation *dropped = drop_sealed ? store->sealed : NULL;
    store->set = set;
    if (drop_sealed)
        store->sealed = NULL;
    lock_release(store->lock);
    if (dropped != NULL)
        atomic_fetch_sub_explicit(&store->generation_bytes, dropped->bytes, memory_order_relaxed);
    if (old == NULL)
        return;
    old->dropped = dropped;
    list_push_back(&store->retired, &old->node);
    atomic_fetch_sub_explicit(&old->references, 1, memory_order_release);
}

/* Snapshots of a returned set close at once, since an open one keeps the backend from reusing its
 * pages. Generations go in order: an older set still on loan may read what a younger one dropped.
 */
void store_reap(struct store *store)
{
    bool some_on_loan = false;
    struct list_node *node = store->retired.next;
    while (node != &store->retired) {
        struct store_set *set = CONTAINER_OF(node, struct store_set, node);
        node = node->next;
        bool on_loan = atomic_load_explicit(&set->references, memory_order_acquire) > 0;
        some_on_loan = some_on_loan || on_loan;
        if (!on_loan)
            close_snapshots(set);
        if (some_on_loan)
            continue;
        list_remove(&set->node);
        struct store_instance *instance = set->instance;
        store_set_free(set);
        if (instance->sets_count == 0 && instance != store->instance)
            store_instance_close(instance);
    }
}

/* ---- views ---- */

struct store_view *store_view_acquire(struct store *store, uint32_t reader)
{
    struct store_set *set = store->set;
    ASSERT(reader < set->views_count);
    struct store_view *view = &set->views[reader];
    atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    view->sealed = store->sealed;
    view->active = store->active;
    return view;
}

struct store_view *store_apply_view(struct store *store)
{
    lock_acquire(store->lock);
    struct store_view *view = store_view_acquire(store, store->options.readers_count);
    lock_release(store->lock);
    return view;
}

void store_view_release(struct store_view *view)
{
    /* The set may be gone as soon as its count is down. */
    struct store_set *set = view->set;
    struct store *store = set->store;
    if (atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) == 1)
        store_wake_writer(store);
}

bool store_view_get_in_memory(const struct store_view *view, struct revision revision,
                              struct slice *record_out)
{
    const struct generation_record *record = generation_find(view->active, revision);
    if (record == NULL && view->sealed != NULL)
        record = generation_find(view->sealed, revision);
    if (record != NULL)
        *record_out = slice_make(record->data, record->len);
    return record != NULL;
}

enum status store_view_get(struct store_view *view, struct revision revision,
                           struct slice *record_out, bool *stable_out)
{
    if (store_view_get_in_memory(view, revision, record_out)) {
        *stable_out = true;
        return ST_OK;
    }
    const struct backend_ops *ops = view->snapshot->backend->ops;
    uint8_t key[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode(revision, /* tombstone= */ false, key);
    enum status st = ops->get(view->snapshot, BUCKET_KEY, slice_make(key, size), record_out);
    if (st == ST_NOT_FOUND) {
        size = revision_key_encode(revision, /* tombstone= */ true, key);
        st = ops->get(view->snapshot, BUCKET_KEY, slice_make(key, size), record_out);
    }
    *stable_out = ops->values_are_stable;
    return st;
}

/* ---- walking the revisions ---- */

struct walk {
    store_revision_fn fn;
    void *context;
    struct revision next; /* everything below was given or is out of range */
};

static enum status walk_gives(struct walk *walk, struct revision revision, bool tombstone,
                              struct slice record)
{
    walk->next = (struct revision){revision.main, revision.sub + 1};
    return walk->fn(walk->context, revision, tombstone, record);
}

static enum status walk_backend(struct walk *walk, struct backend_snapshot *snapshot)
{
    const struct backend_ops *ops = snapshot->backend->ops;
    struct backend_cursor *cursor;
    enum status st = ops->cursor_open(snapshot, BUCKET_KEY, &cursor);
    if (st != ST_OK)
        return st;
    uint8_t from[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode(walk->next, /* tombstone= */ false, from);
    struct slice key, record;
    enum status found = ops->cursor_seek(cursor, slice_make(from, size), &key, &record);
    while (found == ST_OK && st == ST_OK) {
        struct revision revision;
        bool tombstone;
        st = revision_key_decode(key, &revision, &tombstone);
        if (st == ST_OK)
            st = walk_gives(walk, revision, tombstone, record);
        if (st == ST_OK)
            found = ops->cursor_next(cursor, &key, &record);
    }
    ops->cursor_close(cursor);
    if (st != ST_OK)
        return st; /* fn's own, also if it is ST_NOT_FOUND */
    return found == ST_NOT_FOUND ? ST_OK : found;
}

static enum status walk_generation(struct walk *walk, const struct generation *generation)
{
    size_t count = generation_count(generation);
    enum status st = ST_OK;
    for (size_t i = generation_lower_bound(generation, walk->next); i < count && st == ST_OK; i++) {
        const struct generation_record *record = generation_at(generation, i);
        st = walk_gives(walk, record->revision, record->tombstone,
                        slice_make(record->data, record->len));
    }
    return st;
}

enum status store_view_each(struct store_view *view, struct revision from, store_revision_fn fn,
                            void *context)
{
    struct walk walk = {.fn = fn, .context = context, .next = from};
    /* A nested acquire may refresh the view's generations meanwhile. */
    const struct generation *sealed = view->sealed, *active = view->active;
    enum status st = walk_backend(&walk, view->snapshot);
    if (st == ST_OK && sealed != NULL)
        st = walk_generation(&walk, sealed);
    if (st == ST_OK)
        st = walk_generation(&walk, active);
    return st;
}
