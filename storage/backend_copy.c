#include "storage/backend_copy.h"

#include "base/assert.h"
#include "base/buf.h"
#include "storage/limits.h"

static enum status copy_record(struct backend_copy *copy, enum bucket bucket, struct slice key,
                               struct slice value)
{
    struct backend_op op = {.kind = bucket == BUCKET_KEY ? BACKEND_APPEND : BACKEND_PUT,
                            .bucket = bucket,
                            .key = key,
                            .value = value};
    return copy->to->ops->apply(copy->to, &op, 1);
}

/* Up to a chunk of revisions above the last one copied. */
static enum status copy_revisions(struct backend_copy *copy)
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
        copy->bytes += key.len + value.len;
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

static enum status copy_small_bucket(struct backend_copy *copy, enum bucket bucket)
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
        copy->bytes += key.len + value.len;
        if (st == ST_OK)
            found = ops->cursor_next(cursor, &key, &value);
    }
    ops->cursor_close(cursor);
    if (st == ST_OK && found != ST_NOT_FOUND)
        st = found;
    return st;
}

/* The rest of one transaction at the end of the walk: everything small, and the mark. */
static enum status copy_the_rest(struct backend_copy *copy)
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

enum status backend_copy_step(struct backend_copy *copy)
{
    ASSERT(!copy->at_end);
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
