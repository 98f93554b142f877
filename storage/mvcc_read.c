#include "base/assert.h"
#include "base/minmax.h"
#include "storage/mvcc_private.h"

static bool is_single(const struct mvcc_range *range)
{
    return range->end.len == 0;
}

/* An end of one zero byte: no upper end. */
static bool is_open(const struct mvcc_range *range)
{
    return range->end.len == 1 && range->end.data[0] == 0;
}

void mvcc_pin(struct mvcc_reader *reader, int64_t revision)
{
    atomic_store_explicit(&reader->pinned, revision, memory_order_relaxed);
}

void mvcc_unpin(struct mvcc_reader *reader)
{
    atomic_store_explicit(&reader->pinned, MVCC_UNPINNED, memory_order_release);
}

void mvcc_scan_begin(struct mvcc_scan *scan, struct mvcc *mvcc, uint32_t reader,
                     const struct mvcc_range *range, int64_t at, bool exact)
{
    *scan = (struct mvcc_scan){.mvcc = mvcc,
                               .reader = &mvcc->readers[reader],
                               .range = *range,
                               .at = at,
                               .adoptions_count = mvcc->adoptions_count,
                               .wanted = INT64_MAX};
    buf_reset(&scan->reader->resume);
    if (exact && !is_single(range)) {
        scan->count_known = true;
        scan->count = (int64_t)index_count(mvcc->index, range->key, !is_open(range), range->end);
    }
}

static enum status collect(struct mvcc_scan *scan, const struct index_record *record)
{
    struct mvcc_reader *reader = scan->reader;
    struct revision revision;
    if (!index_revision_at(scan->mvcc->index, record, scan->at, &revision))
        return ST_OK;
    if (!scan->count_known)
        scan->count++;
    if (scan->wanted == 0)
        return ST_OK;
    if (scan->wanted != INT64_MAX)
        scan->wanted--;
    if (scan->keys_wanted) {
        enum status st = buf_append(&reader->keys, record->key);
        if (st != ST_OK)
            return st;
        reader->key_ends[reader->found_count] = reader->keys.len;
    }
    reader->found[reader->found_count++] = revision;
    return ST_OK;
}

static enum status scan_single(struct mvcc_scan *scan)
{
    struct index_record record;
    scan->done = true;
    if (!index_get(scan->mvcc->index, scan->range.key, &record))
        return ST_OK;
    return collect(scan, &record);
}

enum status mvcc_scan_chunk(struct mvcc_scan *scan)
{
    struct mvcc_reader *reader = scan->reader;
    reader->found_count = 0;
    buf_reset(&reader->keys);
    if (scan->adoptions_count != scan->mvcc->adoptions_count)
        return ST_COMPACTED;
    if (is_single(&scan->range))
        return scan_single(scan);
    struct slice from = reader->resume.len > 0 ? buf_slice(&reader->resume) : scan->range.key;
    struct index_path path;
    struct index_record record;
    bool more = index_seek(scan->mvcc->index, from, &path);
    enum status st = ST_OK;
    for (uint32_t visited = 0; more && visited < MVCC_CHUNK_KEYS && st == ST_OK; visited++) {
        if (scan->wanted == 0 && scan->count_known)
            break;
        index_at(&path, &record);
        if (!is_open(&scan->range) && slice_cmp(record.key, scan->range.end) >= 0) {
            more = false;
            break;
        }
        st = collect(scan, &record);
        more = index_next(&path);
    }
    scan->done = !more || (scan->wanted == 0 && scan->count_known);
    if (st != ST_OK || scan->done)
        return st;
    index_at(&path, &record);
    buf_reset(&reader->resume);
    return buf_append(&reader->resume, record.key);
}

enum status mvcc_fetch(struct store_view *view, struct revision revision, struct slice *record_out)
{
    bool stable;
    enum status st = store_view_get(view, revision, record_out, &stable);
    return st == ST_NOT_FOUND ? ST_CORRUPT : st;
}

static enum status deliver(const struct mvcc_scan *scan, struct store_view *view, mvcc_record_fn fn,
                           void *context)
{
    const struct mvcc_reader *reader = scan->reader;
    for (uint32_t i = 0; i < reader->found_count; i++) {
        struct slice record;
        enum status st = ST_BUSY;
        if (!scan->in_memory)
            st = mvcc_fetch(view, reader->found[i], &record);
        else if (store_view_get_in_memory(view, reader->found[i], &record))
            st = ST_OK;
        if (st == ST_OK)
            st = fn(context, record);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status mvcc_scan_read(struct mvcc_scan *scan, uint32_t view_slot,
                           const struct mvcc_query *query, mvcc_record_fn fn, void *context)
{
    struct mvcc *mvcc = scan->mvcc;
    scan->in_memory = query->in_memory;
    if (query->count_only)
        scan->wanted = 0;
    else if (query->limit > 0)
        scan->wanted = query->limit;
    for (;;) {
        enum status st = mvcc_scan_chunk(scan);
        struct store_view *view = NULL;
        if (st == ST_OK && scan->reader->found_count > 0)
            view = store_view_acquire(mvcc->store, view_slot);
        lock_release(mvcc->lock);
        if (view != NULL) {
            st = deliver(scan, view, fn, context);
            store_view_release(view);
        }
        if (st != ST_OK || scan->done)
            return st;
        lock_acquire(mvcc->lock);
    }
}

void mvcc_revisions(const struct mvcc *mvcc, int64_t *current_out, int64_t *compact_out)
{
    /* The compact revision only rises: equal before and after, it was that one in between. */
    int64_t compact = atomic_load(&mvcc->compact_revision), again;
    for (;;) {
        *current_out = atomic_load(&mvcc->current_revision);
        again = atomic_load(&mvcc->compact_revision);
        if (again == compact)
            break;
        compact = again;
    }
    *compact_out = compact;
}

static int64_t current_of(const struct mvcc *mvcc)
{
    return atomic_load_explicit(&mvcc->current_revision, memory_order_relaxed);
}

static int64_t compact_of(const struct mvcc *mvcc)
{
    return atomic_load_explicit(&mvcc->compact_revision, memory_order_relaxed);
}

enum status mvcc_read_begin(struct mvcc *mvcc, uint32_t reader, int64_t *current_out,
                            int64_t *compact_out)
{
    ASSERT(reader < mvcc->readers_count);
    struct mvcc_reader *slot = &mvcc->readers[reader];
    ASSERT(!slot->open);
    lock_acquire(mvcc->lock);
    slot->current_revision = current_of(mvcc);
    slot->compact_revision = compact_of(mvcc);
    slot->adoptions_count = mvcc->adoptions_count;
    /* Any revision readable now stays so, not only the current one. */
    mvcc_pin(slot, slot->compact_revision);
    lock_release(mvcc->lock);
    slot->open = true;
    *current_out = slot->current_revision;
    *compact_out = slot->compact_revision;
    return ST_OK;
}

void mvcc_read_end(struct mvcc *mvcc, uint32_t reader)
{
    struct mvcc_reader *slot = &mvcc->readers[reader];
    ASSERT(slot->open);
    slot->open = false;
    mvcc_unpin(slot);
}

enum status mvcc_read(struct mvcc *mvcc, uint32_t reader, const struct mvcc_query *query,
                      mvcc_record_fn fn, void *context, struct mvcc_result *result)
{
    ASSERT(reader < mvcc->readers_count);
    struct mvcc_reader *slot = &mvcc->readers[reader];
    mvcc_count(&slot->ranges_count, 1);
    lock_acquire(mvcc->lock);
    int64_t newest = current_of(mvcc);
    *result = (struct mvcc_result){.current_revision = slot->open ? slot->current_revision : newest,
                                   .compact_revision =
                                       slot->open ? slot->compact_revision : compact_of(mvcc)};
    int64_t at = query->revision > 0 ? query->revision : result->current_revision;
    bool replaced = slot->open && slot->adoptions_count != mvcc->adoptions_count;
    if (at > result->current_revision || at < result->compact_revision || replaced) {
        lock_release(mvcc->lock);
        return at > result->current_revision ? ST_FUTURE : ST_COMPACTED;
    }
    if (!slot->open)
        mvcc_pin(slot, at);
    struct mvcc_scan scan;
    bool exact = at == newest && !mvcc->unpublished;
    mvcc_scan_begin(&scan, mvcc, reader, &query->range, at, exact);
    enum status st = mvcc_scan_read(&scan, reader, query, fn, context);
    if (!slot->open)
        mvcc_unpin(slot);
    result->count = scan.count;
    return st;
}

enum status mvcc_estimate(struct mvcc *mvcc, const struct mvcc_range *range, uint32_t at_most,
                          uint32_t *keys_out)
{
    *keys_out = min_u32(1, at_most);
    if (is_single(range))
        return ST_OK;
    lock_acquire(mvcc->lock);
    uint64_t count = index_count(mvcc->index, range->key, !is_open(range), range->end);
    lock_release(mvcc->lock);
    *keys_out = (uint32_t)min_u64(count, at_most);
    return ST_OK;
}
