/* Replacing the store's file under a running store: the switch, and the compact copy that uses it.
 *
 * The copy is made record by record, in chunks, each from a snapshot of its own, with the writer's
 * ordinary steps between them: revisions are only ever appended, so whatever was committed
 * meanwhile is simply further on in the walk. Deletions wait until the switch. The last chunk, the
 * small buckets and the mark come from one snapshot and go into one transaction. */
#include "base/assert.h"
#include "storage/store_private.h"

static enum status read_mark(struct backend *backend, struct store_mark *out)
{
    struct buf conf_state;
    buf_init(&conf_state, CONF_STATE_BYTES_MAX);
    enum status st = backend->ops->mark(backend, out, &conf_state);
    out->conf_state = SLICE_EMPTY;
    buf_deinit(&conf_state);
    return st;
}

static enum status same_mark(struct backend *a, struct backend *b)
{
    struct store_mark of_a, of_b;
    enum status st = read_mark(a, &of_a);
    if (st == ST_OK)
        st = read_mark(b, &of_b);
    if (st != ST_OK)
        return st;
    return of_a.index == of_b.index && of_a.term == of_b.term ? ST_OK : ST_INVALID;
}

/* Takes instance, also on an error. */
static enum status switch_to(struct store *store, struct store_instance *instance)
{
    struct store_set *set = NULL;
    enum status st = same_mark(store->instance->backend, instance->backend);
    if (st == ST_OK)
        st = store_set_new(store, instance, &set);
    if (st != ST_OK) {
        store_instance_close(instance);
        return st;
    }
    store->instance->replaced = true;
    instance->replaced = false;
    store->instance = instance;
    store_publish(store, set, /* drop_sealed= */ false);
    /* The new file was synced as a whole before it came here. */
    atomic_store_explicit(&store->durable_index,
                          atomic_load_explicit(&store->committed_index, memory_order_relaxed),
                          memory_order_release);
    store_reap(store);
    return ST_OK;
}

enum status store_switch(struct store *store, const char *path)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    struct store_instance *instance;
    st = store_instance_open(store, path, /* create= */ false, &instance);
    return st == ST_OK ? switch_to(store, instance) : st;
}

/* ---- the copy ---- */

struct copy {
    struct backend *from, *to;
    struct backend_snapshot *snapshot;     /* of this chunk */
    uint8_t last_key[TOMBSTONE_KEY_BYTES]; /* copied so far */
    size_t last_key_len;                   /* 0: nothing yet */
    bool at_end;
};

static enum status copy_record(struct copy *copy, enum bucket bucket, struct slice key,
                               struct slice value)
{
    struct backend_op op = {.kind = bucket == BUCKET_KEY ? BACKEND_APPEND : BACKEND_PUT,
                            .bucket = bucket,
                            .key = key,
                            .value = value};
    return copy->to->ops->apply(copy->to, &op, 1);
}

/* Up to a chunk of revisions above the last one copied. */
static enum status copy_revisions(struct copy *copy)
{
    const struct backend_ops *ops = copy->from->ops;
    struct backend_cursor *cursor;
    enum status st = ops->cursor_open(copy->snapshot, BUCKET_KEY, &cursor);
    if (st != ST_OK)
        return st;
    struct slice last = slice_make(copy->last_key, copy->last_key_len), key, value;
    enum status found = ops->cursor_seek(cursor, last, &key, &value);
    if (found == ST_OK && slice_eq(key, last))
        found = ops->cursor_next(cursor, &key, &value);
    size_t bytes = 0;
    while (found == ST_OK && st == ST_OK && bytes < DEFRAGMENT_CHUNK_BYTES) {
        ASSERT(key.len <= sizeof(copy->last_key));
        bytes += key.len + value.len;
        st = copy_record(copy, BUCKET_KEY, key, value);
        memcpy(copy->last_key, key.data, key.len);
        copy->last_key_len = key.len;
        if (st == ST_OK)
            found = ops->cursor_next(cursor, &key, &value);
    }
    ops->cursor_close(cursor);
    copy->at_end = found == ST_NOT_FOUND;
    if (st == ST_OK && found != ST_NOT_FOUND)
        st = found;
    return st;
}

static enum status copy_small_bucket(struct copy *copy, enum bucket bucket)
{
    const struct backend_ops *ops = copy->from->ops;
    struct backend_cursor *cursor;
    enum status st = ops->cursor_open(copy->snapshot, bucket, &cursor);
    if (st != ST_OK)
        return st;
    struct slice key, value;
    enum status found = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
    while (found == ST_OK && st == ST_OK) {
        st = copy_record(copy, bucket, key, value);
        if (st == ST_OK)
            found = ops->cursor_next(cursor, &key, &value);
    }
    ops->cursor_close(cursor);
    if (st == ST_OK && found != ST_NOT_FOUND)
        st = found;
    return st;
}

/* The rest of one transaction at the end of the walk: everything small, and the mark. */
static enum status copy_the_rest(struct copy *copy)
{
    enum status st = ST_OK;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && st == ST_OK; bucket++) {
        if (bucket != BUCKET_KEY)
            st = copy_small_bucket(copy, bucket);
    }
    if (st != ST_OK)
        return st;
    struct buf conf_state;
    buf_init(&conf_state, CONF_STATE_BYTES_MAX);
    struct store_mark mark;
    uint64_t durable;
    st = copy->from->ops->mark(copy->from, &mark, &conf_state);
    if (st == ST_OK)
        st = copy->to->ops->commit(copy->to, &mark, /* full= */ true, &durable);
    buf_deinit(&conf_state);
    return st;
}

/* One chunk, committed. */
static enum status copy_chunk(struct copy *copy)
{
    enum status st = copy->from->ops->snapshot_open(copy->from, &copy->snapshot);
    if (st != ST_OK)
        return st;
    uint64_t durable;
    st = copy_revisions(copy);
    if (st == ST_OK)
        st = copy->at_end ? copy_the_rest(copy)
                          : copy->to->ops->commit(copy->to, NULL, /* full= */ false, &durable);
    copy->from->ops->snapshot_close(copy->snapshot);
    bool reopen; /* no snapshot of the copy is open */
    if (st == ST_OK && copy->to->ops->upkeep != NULL)
        st = copy->to->ops->upkeep(copy->to, &reopen);
    return st;
}

static enum status copy_all(struct store *store, struct backend *to)
{
    struct copy copy = {.from = store->instance->backend, .to = to};
    enum status st = ST_OK;
    while (st == ST_OK && !copy.at_end) {
        st = copy_chunk(&copy);
        bool worked;
        if (st == ST_OK && !copy.at_end)
            st = store_writer_step(store, &worked);
    }
    return st;
}

enum status store_defragment(struct store *store, const char *path)
{
    enum status st = store_health(store);
    if (status_is_fatal(st))
        return st;
    struct store_instance *instance;
    st = store_instance_open(store, path, /* create= */ false, &instance);
    store_instance_close(instance);
    if (st != ST_NOT_FOUND)
        return st == ST_NO_MEMORY || st == ST_IO ? st : ST_EXISTS;
    st = store_instance_open(store, path, /* create= */ true, &instance);
    if (st != ST_OK)
        return st;
    instance->replaced = true; /* until it is the store: half made, it goes when it closes */
    store->defragmenting = true;
    st = copy_all(store, instance->backend);
    store->defragmenting = false;
    if (st == ST_OK)
        return switch_to(store, instance);
    store_instance_close(instance);
    return st;
}
