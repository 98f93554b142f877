#include "base/assert.h"
#include "base/minmax.h"
#include "storage/mvcc_private.h"

enum status mvcc_write_begin(struct mvcc *mvcc)
{
    ASSERT(!mvcc->writing);
    mvcc->writing = true;
    mvcc->write_sub = 0;
    buf_reset(&mvcc->write_bytes);
    return ST_OK;
}

static int64_t current_of(const struct mvcc *mvcc)
{
    return atomic_load_explicit(&mvcc->current_revision, memory_order_relaxed);
}

int64_t mvcc_write_revision(const struct mvcc *mvcc, bool *wrote_out)
{
    ASSERT(mvcc->writing);
    *wrote_out = mvcc->write_sub > 0;
    return current_of(mvcc) + 1;
}

/* What the transaction sees: everything, its own changes included. */
static int64_t latest_of(const struct mvcc *mvcc)
{
    return current_of(mvcc) + (mvcc->write_sub > 0 ? 1 : 0);
}

enum status mvcc_write_read(struct mvcc *mvcc, const struct mvcc_query *query, mvcc_record_fn fn,
                            void *context, struct mvcc_result *result)
{
    mvcc->txn_calls++;
    mvcc_count(&mvcc->readers[mvcc_apply_slot(mvcc)].ranges_count, 1);
    ASSERT(mvcc->writing);
    int64_t latest = latest_of(mvcc);
    *result = (struct mvcc_result){
        .current_revision = latest,
        .compact_revision = atomic_load_explicit(&mvcc->compact_revision, memory_order_relaxed)};
    /* An explicit revision is measured by what was there before the transaction. */
    if (query->revision > current_of(mvcc))
        return ST_FUTURE;
    int64_t at = query->revision > 0 ? query->revision : latest;
    if (at < result->compact_revision)
        return ST_COMPACTED;
    struct mvcc_scan scan;
    uint32_t slot = mvcc_apply_slot(mvcc);
    lock_acquire(mvcc->lock);
    mvcc_scan_begin(&scan, mvcc, slot, &query->range, at, /* exact= */ at == latest);
    enum status st = mvcc_scan_read(&scan, slot, query, fn, context);
    result->count = scan.count;
    return st;
}

static enum status reserve_event(struct mvcc *mvcc)
{
    if ((size_t)mvcc->write_sub < mvcc->events_capacity)
        return ST_OK;
    size_t capacity = max_size(mvcc->events_capacity * 2, 16);
    struct mvcc_change *grown = realloc(mvcc->events, capacity * sizeof(*grown));
    if (grown == NULL)
        return ST_NO_MEMORY;
    mvcc->events = grown;
    mvcc->events_capacity = capacity;
    return ST_OK;
}

/* Encodes the record behind the transaction's earlier ones, which the event sink still needs. */
static enum status encode(struct mvcc *mvcc, const struct mvcc_kv *kv, struct mvcc_change *event)
{
    if (mvcc->sinks_count == 0 && mvcc->changes_fn == NULL)
        buf_reset(&mvcc->write_bytes);
    uint8_t *room;
    event->offset = mvcc->write_bytes.len;
    event->len = mvcc_kv_encoded_size(kv);
    enum status st = buf_extend(&mvcc->write_bytes, event->len, &room);
    if (st == ST_OK)
        mvcc_kv_encode(kv, room);
    return st;
}

/* Everything that can fail comes before the index changes. */
static enum status append(struct mvcc *mvcc, const struct mvcc_kv *kv, int64_t create_revision,
                          int64_t version)
{
    ASSERT(mvcc->writing);
    struct mvcc_change event = {.tombstone = version == 0};
    enum status st = reserve_event(mvcc);
    if (st == ST_OK)
        st = encode(mvcc, kv, &event);
    if (st != ST_OK)
        return st;
    struct revision revision = {current_of(mvcc) + 1, mvcc->write_sub};
    struct index_change change;
    lock_acquire(mvcc->lock);
    st = index_prepare(mvcc->index, kv->key, revision, create_revision, version, &change);
    lock_release(mvcc->lock);
    if (st != ST_OK)
        return st;
    st = store_append(mvcc->store, revision, event.tombstone,
                      slice_make(mvcc->write_bytes.data + event.offset, event.len));
    if (st != ST_OK) {
        index_abandon(&change);
        return st;
    }
    lock_acquire(mvcc->lock);
    mvcc->unpublished = true;
    index_commit(mvcc->index, &change);
    lock_release(mvcc->lock);
    mvcc->events[mvcc->write_sub++] = event;
    return ST_OK;
}

static struct store_view *apply_view(struct mvcc *mvcc)
{
    lock_acquire(mvcc->lock);
    struct store_view *view = store_view_acquire(mvcc->store, mvcc_apply_slot(mvcc));
    lock_release(mvcc->lock);
    return view;
}

static enum status copy_previous(struct mvcc *mvcc, struct revision revision, struct arena *arena,
                                 struct slice *out)
{
    struct slice record;
    struct store_view *view = apply_view(mvcc);
    enum status st = mvcc_fetch(view, revision, &record);
    if (st == ST_OK)
        st = arena_copy(arena, record, out);
    store_view_release(view);
    return st;
}

enum status mvcc_write_put(struct mvcc *mvcc, struct slice key, struct slice value, int64_t lease,
                           struct arena *arena, struct slice *previous_out)
{
    struct index_record before;
    mvcc->txn_calls++;
    mvcc_count(&mvcc->puts_count, 1);
    mvcc_count(&mvcc->put_bytes, key.len + value.len);
    bool live = index_get(mvcc->index, key, &before) && !before.tombstone;
    int64_t revision = current_of(mvcc) + 1;
    if (previous_out != NULL)
        *previous_out = SLICE_EMPTY;
    if (previous_out != NULL && live) {
        enum status st = copy_previous(mvcc, before.newest, arena, previous_out);
        if (st != ST_OK)
            return st;
    }
    struct mvcc_kv kv = {.key = key,
                         .value = value,
                         .create_revision = live ? before.create_revision : revision,
                         .mod_revision = revision,
                         .version = live ? before.version + 1 : 1,
                         .lease = lease};
    return append(mvcc, &kv, kv.create_revision, kv.version);
}

/* Gives the records that a chunk is about to replace, then replaces them. */
static enum status delete_chunk(struct mvcc *mvcc, const struct mvcc_reader *chunk,
                                mvcc_record_fn fn, void *context)
{
    enum status st = ST_OK;
    if (fn != NULL && chunk->found_count > 0) {
        struct store_view *view = apply_view(mvcc);
        for (uint32_t i = 0; i < chunk->found_count && st == ST_OK; i++) {
            struct slice record;
            st = mvcc_fetch(view, chunk->found[i], &record);
            if (st == ST_OK)
                st = fn(context, record);
        }
        store_view_release(view);
    }
    size_t start = 0;
    for (uint32_t i = 0; i < chunk->found_count && st == ST_OK; i++) {
        size_t len = chunk->key_ends[i] - start;
        struct mvcc_kv kv = {.key = len == 0 ? SLICE_EMPTY
                                             : slice_make(chunk->keys.data + start, len)};
        st = append(mvcc, &kv, /* create_revision= */ 0, /* version= */ 0);
        start = chunk->key_ends[i];
    }
    return st;
}

enum status mvcc_write_delete(struct mvcc *mvcc, const struct mvcc_range *range, mvcc_record_fn fn,
                              void *context, int64_t *deleted_out)
{
    ASSERT(mvcc->writing);
    uint32_t slot = mvcc_apply_slot(mvcc);
    struct mvcc_scan scan;
    *deleted_out = 0;
    mvcc->txn_calls++;
    mvcc_count(&mvcc->deletes_count, 1);
    /* The deletions go on at the revision the scan reads at: a key is met once, so none is seen. */
    mvcc_scan_begin(&scan, mvcc, slot, range, latest_of(mvcc), /* exact= */ false);
    scan.keys_wanted = true;
    while (!scan.done) {
        /* Only this thread changes the index: its own look needs no lock. */
        enum status st = mvcc_scan_chunk(&scan);
        if (st == ST_OK)
            st = delete_chunk(mvcc, scan.reader, fn, context);
        if (st != ST_OK)
            return st;
        *deleted_out += scan.reader->found_count;
    }
    return ST_OK;
}

static void send_events(struct mvcc *mvcc, int64_t main)
{
    for (int64_t sub = 0; sub < mvcc->write_sub; sub++) {
        const struct mvcc_change *event = &mvcc->events[sub];
        struct slice record = slice_make(mvcc->write_bytes.data + event->offset, event->len);
        for (uint32_t i = 0; i < mvcc->sinks_count; i++)
            mvcc->sinks[i].fn(mvcc->sinks[i].context, (struct revision){main, sub},
                              event->tombstone, record);
    }
    if (mvcc->changes_fn == NULL)
        return;
    const struct mvcc_changes changes = {.revision = main,
                                         .bytes = buf_slice(&mvcc->write_bytes),
                                         .list = mvcc->events,
                                         .count = (size_t)mvcc->write_sub};
    mvcc->changes_fn(mvcc->changes_context, &changes);
}

int64_t mvcc_write_end(struct mvcc *mvcc)
{
    ASSERT(mvcc->writing);
    int64_t revision = latest_of(mvcc);
    if (mvcc->write_sub > 0) {
        lock_acquire(mvcc->lock);
        atomic_store(&mvcc->current_revision, revision);
        mvcc->unpublished = false;
        mvcc->published_history_end = index_history_end(index_history(mvcc->index));
        lock_release(mvcc->lock);
        send_events(mvcc, revision);
    }
    mvcc->writing = false;
    mvcc_count(&mvcc->txns_count, mvcc->txn_calls > 1);
    mvcc->txn_calls = 0;
    if (mvcc->write_bytes.capacity > MVCC_WRITE_BYTES_KEPT)
        buf_deinit(&mvcc->write_bytes);
    return revision;
}

void mvcc_add_event_sink(struct mvcc *mvcc, mvcc_event_fn fn, void *context)
{
    ASSERT(!mvcc->writing && mvcc->sinks_count < MVCC_EVENT_SINKS_MAX);
    mvcc->sinks[mvcc->sinks_count].fn = fn;
    mvcc->sinks[mvcc->sinks_count++].context = context;
}

void mvcc_set_changes_sink(struct mvcc *mvcc, mvcc_changes_fn fn, void *context)
{
    ASSERT(fn == NULL || (!mvcc->writing && mvcc->changes_fn == NULL));
    mvcc->changes_fn = fn;
    mvcc->changes_context = context;
}
