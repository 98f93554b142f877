/* The backend writer's side of the store: commits under the store rule, deletions, publication. */
#include "base/assert.h"
#include "base/minmax.h"
#include "storage/store_private.h"

#define OPS_BATCH 256U          /* operations handed to the backend in one call */
#define RETRY_NS (1 * NS_PER_S) /* a full disk is asked again this often */
#define NEVER UINT64_MAX

/* ---- instances ---- */

enum status store_instance_open(struct store *store, const char *path, bool create,
                                struct store_instance **out)
{
    *out = NULL;
    struct store_instance *instance = calloc(1, sizeof(*instance));
    if (instance == NULL)
        return ST_NO_MEMORY;
    instance->path = strdup(path);
    if (instance->path == NULL) {
        free(instance);
        return ST_NO_MEMORY;
    }
    struct backend_options options = store->options.backend_options;
    options.path = instance->path;
    options.create = create;
    enum status st = store->options.backend->open(&options, &instance->backend);
    if (st != ST_OK) {
        store_instance_close(instance);
        return st;
    }
    *out = instance;
    return ST_OK;
}

void store_instance_close(struct store_instance *instance)
{
    if (instance == NULL)
        return;
    ASSERT(instance->sets_count == 0);
    if (instance->backend != NULL) {
        const struct backend_ops *ops = instance->backend->ops;
        ops->close(instance->backend);
        if (instance->replaced) {
            /* One that stays is found and removed at the next start. */
            enum status removed = ops->remove(instance->path);
            (void)removed;
        }
    }
    free(instance->path);
    free(instance);
}

void store_wake_writer(struct store *store)
{
    if (store->options.wake_writer != NULL)
        store->options.wake_writer(store->options.wake_context);
}

/* ---- batches of operations ---- */

struct op_batch {
    struct backend *backend;
    size_t count;
    struct backend_op ops[OPS_BATCH];
    uint8_t keys[OPS_BATCH][TOMBSTONE_KEY_BYTES]; /* of operations on revisions */
};

static enum status batch_flush(struct op_batch *batch)
{
    size_t count = batch->count;
    batch->count = 0;
    return count == 0 ? ST_OK : batch->backend->ops->apply(batch->backend, batch->ops, count);
}

static enum status batch_add(struct op_batch *batch, const struct backend_op *op)
{
    if (batch->count == OPS_BATCH) {
        enum status st = batch_flush(batch);
        if (st != ST_OK)
            return st;
    }
    batch->ops[batch->count++] = *op;
    return ST_OK;
}

static enum status batch_add_revision(struct op_batch *batch, enum backend_op_kind kind,
                                      struct revision revision, bool tombstone, struct slice record)
{
    if (batch->count == OPS_BATCH) {
        enum status st = batch_flush(batch);
        if (st != ST_OK)
            return st;
    }
    uint8_t *key = batch->keys[batch->count];
    size_t size = revision_key_encode(revision, tombstone, key);
    batch->ops[batch->count++] = (struct backend_op){
        .kind = kind, .bucket = BUCKET_KEY, .key = slice_make(key, size), .value = record};
    return ST_OK;
}

static enum status batch_add_generation(struct op_batch *batch, const struct generation *generation)
{
    enum status st = ST_OK;
    size_t count = generation_count(generation);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        const struct generation_record *record = generation_at(generation, i);
        st = batch_add_revision(batch, BACKEND_APPEND, record->revision, record->tombstone,
                                slice_make(record->data, record->len));
    }
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && st == ST_OK; bucket++) {
        const struct small_node *node = generation_small_first(generation, bucket);
        for (; node != NULL && st == ST_OK; node = node->next[0]) {
            struct backend_op op = {.kind = node->deleted ? BACKEND_DELETE : BACKEND_PUT,
                                    .bucket = bucket,
                                    .key = node->key,
                                    .value = slice_make(node->value, node->value_len)};
            st = batch_add(batch, &op);
        }
    }
    return st == ST_OK ? batch_flush(batch) : st;
}

/* ---- scheduled deletions ---- */

static struct forget_batch *forget_after(struct store *store, const struct forget_batch *previous)
{
    lock_acquire(store->lock);
    struct list_node *node = previous == NULL ? store->forget.next : previous->node.next;
    bool end = node == &store->forget;
    lock_release(store->lock);
    return end ? NULL : CONTAINER_OF(node, struct forget_batch, node);
}

/* May deletions ride on a commit that brings the backend to this generation? */
static bool forget_is_due(struct store *store, uint64_t generation)
{
    if (store->defragmenting || atomic_load(&store->pins_count) > 0)
        return false;
    const struct forget_batch *first = forget_after(store, NULL);
    return first != NULL && first->generation <= generation;
}

/* Adds deletions up to the limits of one commit. *taken_out counts them; forget_done() takes them
 * off the queue once they are committed. */
static enum status batch_add_deletions(struct store *store, struct op_batch *batch,
                                       uint64_t generation, size_t *taken_out)
{
    *taken_out = 0;
    atomic_store(&store->deleting, true);
    if (!forget_is_due(store, generation)) {
        atomic_store(&store->deleting, false);
        return ST_OK;
    }
    uint64_t began_ns = clock_monotonic_ns(store->options.clock);
    const struct forget_batch *at = forget_after(store, NULL);
    size_t position = at->done, taken = 0;
    while (taken < store->forget_ops_max) {
        if (position == at->count) {
            at = forget_after(store, at);
            if (at == NULL || at->generation > generation)
                break;
            position = at->done;
            continue;
        }
        const struct store_dead *dead = &at->dead[position++];
        enum status st =
            batch_add_revision(batch, BACKEND_DELETE, dead->revision, dead->tombstone, SLICE_EMPTY);
        if (st != ST_OK)
            return st;
        taken++;
        if (taken % FORGET_BATCH_OPS == 0 &&
            clock_monotonic_ns(store->options.clock) - began_ns >= FORGET_MS_MAX * NS_PER_MS)
            break;
    }
    *taken_out = taken;
    return batch_flush(batch);
}

static void forget_done(struct store *store, size_t taken)
{
    atomic_fetch_sub_explicit(&store->forget_pending, taken, memory_order_relaxed);
    while (taken > 0) {
        struct forget_batch *first = forget_after(store, NULL);
        ASSERT(first != NULL);
        size_t part = min_size(taken, first->count - first->done);
        first->done += part;
        taken -= part;
        if (first->done < first->count)
            continue;
        lock_acquire(store->lock);
        list_remove(&first->node);
        lock_release(store->lock);
        free(first);
    }
}

/* ---- commits ---- */

/* The store rule: the log on disk reaches the generation's last entry, and at that index holds the
 * very entry that was applied. Above it the log's own consistency carries the term backwards. */
static bool rule_allows(const struct store *store, const struct generation *sealed)
{
    if (store->durable_log_index != sealed->mark.index)
        return store->durable_log_index > sealed->mark.index &&
               store->durable_log_term >= sealed->mark.term;
    return store->durable_log_term == sealed->mark.term;
}

static struct generation *committable(struct store *store)
{
    lock_acquire(store->lock);
    struct generation *sealed = store->sealed;
    if (sealed != NULL && !rule_allows(store, sealed))
        sealed = NULL;
    lock_release(store->lock);
    return sealed;
}

static void note_commit_time(struct store *store, uint64_t took_ns)
{
    store->commit_times_ns[store->commit_times_count++ % COMMIT_TIMES_COUNT] = took_ns;
    uint32_t count = min_u32(store->commit_times_count, COMMIT_TIMES_COUNT);
    uint64_t sorted[COMMIT_TIMES_COUNT];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > store->commit_times_ns[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = store->commit_times_ns[i];
    }
    uint64_t interval =
        max_u64(SEAL_INTERVAL_MS_MIN * NS_PER_MS, SEAL_SYNCS_FACTOR * sorted[count / 2]);
    atomic_store_explicit(&store->seal_interval_ns, interval, memory_order_relaxed);
}

static enum status fill_transaction(struct store *store, const struct generation *sealed,
                                    size_t *deleted_out)
{
    struct op_batch *batch = malloc(sizeof(*batch));
    if (batch == NULL)
        return ST_NO_MEMORY;
    batch->backend = store->instance->backend;
    batch->count = 0;
    enum status st = ST_OK;
    if (sealed != NULL)
        st = batch_add_generation(batch, sealed);
    uint64_t reached = sealed != NULL ? sealed->number : store->committed_generation;
    *deleted_out = 0;
    /* A full disk has no room for the copies of pages that deletions need on top. */
    bool with_deletions = sealed == NULL || store_health(store) != ST_NO_SPACE;
    if (st == ST_OK && with_deletions)
        st = batch_add_deletions(store, batch, reached, deleted_out);
    free(batch);
    return st;
}

/* One transaction: the sealed generation (or NULL: deletions alone), deletions, the mark. */
static enum status commit(struct store *store, const struct generation *sealed)
{
    size_t deleted = 0;
    enum status st = fill_transaction(store, sealed, &deleted);
    uint64_t began_ns = clock_monotonic_ns(store->options.clock), durable = 0;
    struct backend *backend = store->instance->backend;
    if (st == ST_OK)
        st = backend->ops->commit(backend, sealed != NULL ? &sealed->mark : NULL,
                                  /* full= */ false, &durable);
    else
        backend->ops->abort(backend);
    store->last_commit_ns = clock_monotonic_ns(store->options.clock);
    if (st != ST_OK) {
        atomic_store(&store->deleting, false);
        return st;
    }
    note_commit_time(store, store->last_commit_ns - began_ns);
    forget_done(store, deleted);
    if (deleted > 0)
        store->forget_ops_max = min_u32(store->forget_ops_max * 2, FORGET_OPS_MAX);
    if (sealed != NULL) {
        store->committed_generation = sealed->number;
        atomic_store_explicit(&store->committed_index, sealed->mark.index, memory_order_relaxed);
    }
    atomic_store_explicit(&store->durable_index, durable, memory_order_release);
    store->unpublished = true;
    return ST_OK;
}

static enum status publish_commit(struct store *store)
{
    ASSERT(store->unpublished);
    struct store_set *set;
    enum status st = store_set_new(store, store->instance, &set);
    if (st != ST_OK)
        return st;
    lock_acquire(store->lock);
    bool sealed_is_in =
        store->sealed != NULL && store->sealed->number <= store->committed_generation;
    lock_release(store->lock);
    store_publish(store, set, sealed_is_in);
    atomic_store(&store->deleting, false);
    store->unpublished = false;
    if (store->options.wake_apply != NULL)
        store->options.wake_apply(store->options.wake_context);
    return ST_OK;
}

/* When deletions alone are worth a commit. */
static uint64_t timed_commit_ns(const struct store *store)
{
    if (store->deletions_hurry)
        return store->last_commit_ns;
    return store->last_commit_ns +
           atomic_load_explicit(&store->seal_interval_ns, memory_order_relaxed);
}

static bool timed_commit_is_due(const struct store *store)
{
    return clock_monotonic_ns(store->options.clock) >= timed_commit_ns(store);
}

void store_hurry_deletions(struct store *store, bool hurry)
{
    store->deletions_hurry = hurry;
}

/* Lets the backend tidy up when none but the published snapshots are open. */
static enum status upkeep(struct store *store)
{
    struct backend *backend = store->instance->backend;
    if (backend->ops->upkeep == NULL || !list_is_empty(&store->retired))
        return ST_OK;
    bool reopen;
    enum status st = backend->ops->upkeep(backend, &reopen);
    if (st != ST_OK || !reopen)
        return st;
    struct store_set *set;
    st = store_set_new(store, store->instance, &set);
    if (st != ST_OK)
        return st;
    store_publish(store, set, /* drop_sealed= */ false);
    store_reap(store);
    return ST_OK;
}

static enum status commit_and_publish(struct store *store, const struct generation *sealed,
                                      bool *worked_out)
{
    enum status st = commit(store, sealed);
    if (st != ST_OK)
        return st;
    *worked_out = true;
    st = publish_commit(store);
    store_reap(store);
    return st;
}

/* Is there anything that a commit would bring in? */
static bool is_waiting(struct store *store)
{
    lock_acquire(store->lock);
    bool sealed = store->sealed != NULL;
    lock_release(store->lock);
    return sealed || store_forget_pending_count(store) > 0;
}

static enum status work(struct store *store, bool *worked_out)
{
    if (store->unpublished) {
        enum status st = publish_commit(store);
        if (st != ST_OK)
            return st;
    }
    store_reap(store);
    enum status st = store_health(store);
    bool deletions = forget_is_due(store, store->committed_generation);
    /* On a full disk deletions go first, alone: the pages they free may be the room that misses. */
    if (st == ST_NO_SPACE && deletions) {
        st = commit_and_publish(store, NULL, worked_out);
        /* Fewer copy fewer pages; what they free serves more of them. */
        if (st == ST_NO_SPACE)
            store->forget_ops_max = max_u32(store->forget_ops_max / 2, FORGET_OPS_MIN);
    }
    if (st != ST_OK && st != ST_NO_SPACE)
        return st;
    struct generation *sealed = committable(store);
    if (sealed != NULL || (deletions && timed_commit_is_due(store)))
        st = commit_and_publish(store, sealed, worked_out);
    else if (st == ST_NO_SPACE && !is_waiting(store))
        st = ST_OK; /* else a full disk counts as full until a commit works */
    enum status tidied = upkeep(store);
    return st != ST_OK ? st : tidied;
}

enum status store_writer_step(struct store *store, bool *worked_out)
{
    *worked_out = false;
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    st = work(store, worked_out);
    /* A refusal our own operations cannot cause stands for a broken store. */
    bool passing = st == ST_NO_MEMORY || st == ST_BUSY;
    store->retry = passing || st == ST_NO_SPACE;
    if (st != ST_OK && st != ST_NO_SPACE && !passing && !status_is_fatal(st))
        st = ST_IO;
    if (!passing)
        atomic_store_explicit(&store->health, (int)st, memory_order_relaxed);
    return st;
}

uint64_t store_writer_deadline_ns(struct store *store)
{
    if (status_is_fatal(store_health(store)))
        return NEVER;
    if (store->retry)
        return store->last_commit_ns + RETRY_NS;
    /* Those of a generation that is not committed yet wait for its commit, not for a time. */
    const struct forget_batch *first = forget_after(store, NULL);
    if (first == NULL || first->generation > store->committed_generation ||
        atomic_load_explicit(&store->pins_count, memory_order_relaxed) > 0)
        return NEVER;
    return timed_commit_ns(store);
}

enum status store_writer_flush(struct store *store)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    uint64_t durable = store_durable_index(store);
    if (durable == atomic_load_explicit(&store->committed_index, memory_order_relaxed))
        return ST_OK;
    struct backend *backend = store->instance->backend;
    st = backend->ops->commit(backend, NULL, /* full= */ true, &durable);
    if (st == ST_OK)
        atomic_store_explicit(&store->durable_index, durable, memory_order_release);
    else if (status_is_fatal(st))
        atomic_store_explicit(&store->health, (int)st, memory_order_relaxed);
    return st;
}

uint64_t store_durable_index(const struct store *store)
{
    return atomic_load_explicit(&store->durable_index, memory_order_acquire);
}

enum status store_get_stat(struct store *store, struct store_stat *out)
{
    lock_acquire(store->lock);
    struct store_set *set = store->set;
    atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    lock_release(store->lock);
    /* The loan keeps the backend open while it is asked. */
    struct backend *backend = set->instance->backend;
    enum status st = backend->ops->stat(backend, &out->backend);
    store_view_release(&set->views[0]);
    out->generation_bytes = atomic_load_explicit(&store->generation_bytes, memory_order_relaxed);
    uint64_t kept = ROOM_BYTES_KEPT + ROOM_FACTOR * out->generation_bytes;
    uint64_t room = st == ST_OK ? out->backend.room_bytes : 0;
    out->room_bytes = (room - min_u64(kept, room)) / ROOM_FACTOR;
    if (out->room_bytes < ROOM_BYTES_LEAST)
        out->room_bytes = 0; /* full for all alike, not for large requests alone */
    out->committed_index = atomic_load_explicit(&store->committed_index, memory_order_relaxed);
    out->durable_index = store_durable_index(store);
    out->forget_pending_count = store_forget_pending_count(store);
    return st;
}

enum status store_check(struct store *store, struct buf *report)
{
    struct backend *backend = store->instance->backend;
    return backend->ops->check(backend, report);
}
