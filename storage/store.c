#include "storage/store.h"

#include "base/assert.h"
#include "storage/store_private.h"

#define READ_ONLY_TRIES 10 /* of a mark and snapshots of the same commit; one a second, at most */

/* ---- open and close ---- */

static void buffers_init(struct store *store)
{
    buf_init(&store->opened_conf_state, CONF_STATE_BYTES_MAX);
    buf_init(&store->applied_conf_state, CONF_STATE_BYTES_MAX);
    list_init(&store->forget);
    list_init(&store->retired);
}

static enum status load_mark(struct store *store)
{
    struct backend *backend = store->instance->backend;
    enum status st = backend->ops->mark(backend, &store->opened_at, &store->opened_conf_state);
    if (st != ST_OK)
        return st;
    st = buf_append(&store->applied_conf_state, store->opened_at.conf_state);
    if (st != ST_OK)
        return st;
    store->applied = store->opened_at;
    store->applied.conf_state = buf_slice(&store->applied_conf_state);
    atomic_store(&store->committed_index, store->opened_at.index);
    /* Read back from the file, yet it may still be in the page cache alone after a crash of the
     * process; the first commit or flush makes sure of it. */
    atomic_store(&store->durable_index, 0);
    return ST_OK;
}

/* Where a member may be running on the store, a commit of its may have come between the mark and
 * the snapshots: then all is read again. */
static enum status open_first_set(struct store *store, struct store_set **out)
{
    for (int tries = 0; tries < READ_ONLY_TRIES; tries++) {
        enum status st = store_set_new(store, store->instance, out);
        if (st != ST_OK || !store->options.backend_options.shared)
            return st;
        uint64_t index = store->opened_at.index;
        buf_reset(&store->opened_conf_state);
        buf_reset(&store->applied_conf_state);
        st = load_mark(store);
        if (st == ST_OK && store->opened_at.index == index)
            return ST_OK;
        store_set_free(*out);
        *out = NULL;
        if (st != ST_OK)
            return st;
    }
    return ST_BUSY;
}

enum status store_open(const struct store_options *options, struct store **out)
{
    *out = NULL;
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return ST_NO_MEMORY;
    store->options = *options;
    store->lock = options->lock;
    store->forget_ops_max = FORGET_OPS_MAX;
    atomic_store(&store->seal_interval_ns, SEAL_INTERVAL_MS_MIN * NS_PER_MS);
    buffers_init(store);
    struct store_set *set = NULL;
    enum status st = store_instance_open(store, options->backend_options.path,
                                         options->backend_options.create, &store->instance);
    if (st != ST_OK)
        goto fail;
    st = load_mark(store);
    if (st != ST_OK)
        goto fail;
    store->active = generation_new(/* number= */ 1);
    if (store->active == NULL) {
        st = ST_NO_MEMORY;
        goto fail;
    }
    st = open_first_set(store, &set);
    if (st != ST_OK)
        goto fail;
    store->last_commit_ns = clock_monotonic_ns(options->clock);
    store_publish(store, set, /* drop_sealed= */ false);
    *out = store;
    return ST_OK;
fail:
    store_close(store);
    return st;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    if (store->set != NULL) {
        unsigned loans = atomic_fetch_sub(&store->set->references, 1) - 1;
        ASSERT(loans == 0);
        list_push_back(&store->retired, &store->set->node);
        store->set = NULL;
    }
    store_reap(store);
    ASSERT(list_is_empty(&store->retired));
    for (struct list_node *node = list_pop_front(&store->forget); node != NULL;
         node = list_pop_front(&store->forget))
        free(CONTAINER_OF(node, struct forget_batch, node));
    generation_free(store->sealed);
    generation_free(store->active);
    store_instance_close(store->instance);
    buf_deinit(&store->opened_conf_state);
    buf_deinit(&store->applied_conf_state);
    free(store);
}

struct store_mark store_opened_at(const struct store *store)
{
    return store->opened_at;
}

/* ---- apply: changes ---- */

/* Counts what a change added, and notes when the generation began. */
static void account(struct store *store, size_t bytes_before)
{
    struct generation *active = store->active;
    if (active->began_ns == 0)
        active->began_ns = clock_monotonic_ns(store->options.clock);
    atomic_fetch_add_explicit(&store->generation_bytes, active->bytes - bytes_before,
                              memory_order_relaxed);
    store->in_entry = true;
}

enum status store_append(struct store *store, struct revision revision, bool tombstone,
                         struct slice record)
{
    size_t bytes_before = store->active->bytes;
    enum status st = generation_append(store->active, revision, tombstone, record);
    if (st == ST_OK)
        account(store, bytes_before);
    return st;
}

static enum status change(struct store *store, enum bucket bucket, struct slice key,
                          struct slice value, bool deleted)
{
    ASSERT(key.len > 0);
    ASSERT(key.len <= BACKEND_KEY_BYTES_MAX);
    size_t bytes_before = store->active->bytes;
    enum status st = generation_change(store->active, bucket, key, value, deleted);
    account(store, bytes_before); /* also what a failed change took */
    return st;
}

enum status store_put(struct store *store, enum bucket bucket, struct slice key, struct slice value)
{
    return change(store, bucket, key, value, /* deleted= */ false);
}

/* in_entry stays, or a seal, and a pin, would wait for an entry that may never come. */
static enum status note(struct store *store, enum bucket bucket, struct slice key,
                        struct slice value, bool deleted)
{
    bool in_entry = store->in_entry;
    enum status st = change(store, bucket, key, value, deleted);
    store->in_entry = in_entry;
    return st;
}

enum status store_note(struct store *store, enum bucket bucket, struct slice key,
                       struct slice value)
{
    return note(store, bucket, key, value, /* deleted= */ false);
}

enum status store_note_deleted(struct store *store, enum bucket bucket, struct slice key)
{
    return note(store, bucket, key, SLICE_EMPTY, /* deleted= */ true);
}

enum status store_delete(struct store *store, enum bucket bucket, struct slice key)
{
    return change(store, bucket, key, SLICE_EMPTY, /* deleted= */ true);
}

/* The one that holds the last entry. */
static uint64_t newest_generation(const struct store *store)
{
    const struct generation *active = store->active;
    return active->entries_count == 0 && !store->in_entry ? active->number - 1 : active->number;
}

enum status store_forget(struct store *store, const struct store_dead *dead, size_t count)
{
    uint64_t pending = atomic_load_explicit(&store->forget_pending, memory_order_relaxed);
    if (pending + count > FORGET_PENDING_MAX)
        return ST_BUSY;
    if (count == 0)
        return ST_OK;
    struct forget_batch *batch = malloc(sizeof(*batch) + count * sizeof(*dead));
    if (batch == NULL)
        return ST_NO_MEMORY;
    batch->generation = newest_generation(store);
    batch->count = count;
    batch->done = 0;
    memcpy(batch->dead, dead, count * sizeof(*dead));
    lock_acquire(store->lock);
    list_push_back(&store->forget, &batch->node);
    lock_release(store->lock);
    atomic_fetch_add_explicit(&store->forget_pending, count, memory_order_relaxed);
    store->forget_generation = batch->generation;
    store_wake_writer(store);
    return ST_OK;
}

uint64_t store_forget_pending_count(const struct store *store)
{
    return atomic_load_explicit(&store->forget_pending, memory_order_relaxed);
}

enum status store_end_entry(struct store *store, const struct store_mark *mark)
{
    ASSERT(mark->index > store->applied.index);
    ASSERT(mark->term >= store->applied.term);
    if (mark->conf_state.len > 0) {
        buf_reset(&store->applied_conf_state);
        enum status st = buf_append(&store->applied_conf_state, mark->conf_state);
        if (st != ST_OK)
            return st;
    }
    store->applied.index = mark->index;
    store->applied.term = mark->term;
    store->applied.conf_state = buf_slice(&store->applied_conf_state);
    store->active->ops_count++;
    store->active->entries_count++;
    if (store->active->began_ns == 0)
        store->active->began_ns = clock_monotonic_ns(store->options.clock);
    store->in_entry = false;
    return ST_OK;
}

/* ---- apply: sealing ---- */

void store_set_durable(struct store *store, uint64_t index, uint64_t term)
{
    lock_acquire(store->lock);
    store->durable_log_index = index;
    store->durable_log_term = term;
    bool wake = store->sealed != NULL && index >= store->sealed->mark.index;
    lock_release(store->lock);
    if (wake)
        store_wake_writer(store);
}

static bool seal_is_due(const struct store *store)
{
    const struct generation *active = store->active;
    if (active->bytes >= SEAL_BYTES)
        return true;
    /* Deletions that wait for it will bring about a commit anyway, and free room. */
    bool is_awaited = store->forget_generation == active->number;
    if (active->ops_count < SEAL_OPS_MIN && !is_awaited)
        return false;
    uint64_t interval = atomic_load_explicit(&store->seal_interval_ns, memory_order_relaxed);
    return clock_monotonic_ns(store->options.clock) - active->began_ns >= interval;
}

static enum status seal(struct store *store)
{
    struct generation *active = store->active;
    struct generation *next = generation_new(active->number + 1);
    if (next == NULL)
        return ST_NO_MEMORY;
    active->mark = store->applied;
    enum status st =
        arena_copy(&active->arena, store->applied.conf_state, &active->mark.conf_state);
    if (st != ST_OK) {
        generation_free(next);
        return ST_NO_MEMORY;
    }
    lock_acquire(store->lock);
    ASSERT(store->sealed == NULL);
    store->sealed = active;
    store->active = next;
    lock_release(store->lock);
    store_wake_writer(store);
    return ST_OK;
}

enum status store_seal(struct store *store, bool force)
{
    store->seal_wanted = store->seal_wanted || force;
    if (store->active->entries_count == 0) {
        store->seal_wanted = false; /* all that was asked for is sealed or committed */
        return ST_OK;
    }
    if (store->in_entry || (!store->seal_wanted && !seal_is_due(store)))
        return ST_OK;
    lock_acquire(store->lock);
    bool occupied = store->sealed != NULL;
    lock_release(store->lock);
    if (occupied)
        return ST_OK;
    enum status st = seal(store);
    if (st == ST_OK)
        store->seal_wanted = false;
    return st;
}

bool store_is_full(const struct store *store)
{
    return atomic_load_explicit(&store->generation_bytes, memory_order_relaxed) >=
           OVERLAY_BYTES_MAX;
}

enum status store_health(const struct store *store)
{
    return (enum status)atomic_load_explicit(&store->health, memory_order_relaxed);
}

/* ---- apply: reads of the small buckets ---- */

enum status store_get(struct store *store, enum bucket bucket, struct slice key,
                      struct arena *arena, struct slice *value_out)
{
    ASSERT(bucket != BUCKET_KEY);
    struct store_view *view = store_apply_view(store);
    const struct small_node *node = generation_small(view->active, bucket, key);
    if (node == NULL && view->sealed != NULL)
        node = generation_small(view->sealed, bucket, key);
    struct slice value;
    enum status st = ST_OK;
    if (node == NULL)
        st = view->snapshot->backend->ops->get(view->snapshot, bucket, key, &value);
    else if (node->deleted)
        st = ST_NOT_FOUND;
    else
        value = slice_make(node->value, node->value_len);
    if (st == ST_OK)
        st = arena_copy(arena, value, value_out);
    store_view_release(view);
    return st;
}

/* The three ordered sources of one bucket; a newer one hides equal keys of an older one. */
struct merge {
    struct backend_cursor *cursor;
    bool stored; /* key and value hold the cursor's record */
    struct slice key, value;
    const struct small_node *sealed, *active; /* next of each, or NULL */
};

static enum status merge_stored(struct merge *merge, enum status st)
{
    merge->stored = st == ST_OK;
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* Takes the record of the smallest key; *deleted_out: it is hidden by a deletion. */
static void merge_pick(const struct merge *merge, struct slice *key_out, struct slice *value_out,
                       bool *deleted_out)
{
    const struct small_node *node = merge->active;
    if (merge->sealed != NULL && (node == NULL || slice_cmp(merge->sealed->key, node->key) < 0))
        node = merge->sealed;
    if (merge->stored && (node == NULL || slice_cmp(merge->key, node->key) < 0)) {
        *key_out = merge->key;
        *value_out = merge->value;
        *deleted_out = false;
        return;
    }
    *key_out = node->key;
    *value_out = slice_make(node->value, node->value_len);
    *deleted_out = node->deleted;
}

static enum status merge_step(struct merge *merge, store_each_fn fn, void *context)
{
    struct slice key, value;
    bool deleted;
    merge_pick(merge, &key, &value, &deleted);
    enum status st = deleted ? ST_OK : fn(context, key, value);
    if (st != ST_OK)
        return st;
    bool from_store = merge->stored && slice_eq(merge->key, key);
    if (merge->sealed != NULL && slice_eq(merge->sealed->key, key))
        merge->sealed = merge->sealed->next[0];
    if (merge->active != NULL && slice_eq(merge->active->key, key))
        merge->active = merge->active->next[0];
    if (!from_store)
        return ST_OK;
    /* Last, since it ends the slices of the record it leaves. */
    const struct backend_ops *ops = merge->cursor->snapshot->backend->ops;
    return merge_stored(merge, ops->cursor_next(merge->cursor, &merge->key, &merge->value));
}

enum status store_each(struct store *store, enum bucket bucket, store_each_fn fn, void *context)
{
    ASSERT(bucket != BUCKET_KEY);
    struct store_view *view = store_apply_view(store);
    const struct backend_ops *ops = view->snapshot->backend->ops;
    struct merge merge = {.active = generation_small_first(view->active, bucket)};
    if (view->sealed != NULL)
        merge.sealed = generation_small_first(view->sealed, bucket);
    enum status st = ops->cursor_open(view->snapshot, bucket, &merge.cursor);
    if (st == ST_OK)
        st = merge_stored(&merge,
                          ops->cursor_seek(merge.cursor, SLICE_EMPTY, &merge.key, &merge.value));
    while (st == ST_OK && (merge.stored || merge.sealed != NULL || merge.active != NULL))
        st = merge_step(&merge, fn, context);
    ops->cursor_close(merge.cursor);
    store_view_release(view);
    return st;
}
