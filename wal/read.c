/* wal/read.c - entries back from the disk, found by extents: each names a place from which a run of
 * consecutive, still valid entries is read without having to know what was truncated since. */
#include "base/assert.h"
#include "base/minmax.h"
#include "wal/wal_private.h"

#define EXTENTS_FIRST 64U

enum status wal_extents_add(struct wal *wal, struct wal_segment *segment, uint64_t offset,
                            raft_index first, raft_index last)
{
    ASSERT(first > 0 && first <= last);
    wal_extents_cut(wal, first);
    enum status st = ST_OK;
    lock_acquire(wal->lock);
    struct wal_extent *newest =
        wal->extents_count == 0 ? NULL : &wal->extents[wal->extents_count - 1];
    if (newest == NULL)
        wal->first_index = first;
    if (newest != NULL && newest->segment == segment && newest->last + 1 == first &&
        newest->grows && offset - newest->offset < WAL_EXTENT_BYTES) {
        newest->last = last;
        goto out;
    }
    if (wal->extents_count == wal->extents_capacity) {
        uint32_t capacity = max_u32(EXTENTS_FIRST, wal->extents_capacity * 2);
        struct wal_extent *grown = realloc(wal->extents, capacity * sizeof(*grown));
        if (grown == NULL) {
            st = ST_NO_MEMORY;
            goto out;
        }
        wal->extents = grown;
        wal->extents_capacity = capacity;
    }
    wal->extents[wal->extents_count++] = (struct wal_extent){
        .first = first, .last = last, .segment = segment, .offset = offset, .grows = true};
out:
    lock_release(wal->lock);
    return st;
}

void wal_extents_cut(struct wal *wal, raft_index index)
{
    lock_acquire(wal->lock);
    while (wal->extents_count > 0 && wal->extents[wal->extents_count - 1].first >= index)
        wal->extents_count--;
    if (wal->extents_count > 0) {
        struct wal_extent *newest = &wal->extents[wal->extents_count - 1];
        if (newest->last >= index) {
            newest->last = index - 1;
            /* What follows on disk is the part cut off: a reader must not run into it. */
            newest->grows = false;
        }
    }
    lock_release(wal->lock);
}

bool wal_extents_release(struct wal *wal, const struct wal_segment *segment)
{
    lock_acquire(wal->lock);
    bool free_to_go = segment->readers == 0;
    uint32_t gone = 0;
    while (free_to_go && gone < wal->extents_count && wal->extents[gone].segment == segment)
        gone++;
    if (gone > 0) {
        wal->extents_count -= gone;
        memmove(wal->extents, wal->extents + gone, wal->extents_count * sizeof(*wal->extents));
        wal->first_index = wal->extents_count > 0 ? wal->extents[0].first : wal->durable_index + 1;
    }
    lock_release(wal->lock);
    return free_to_go;
}

/* The extent that holds index, copied; its segment is held until unhold(). */
static enum status hold(struct wal *wal, raft_index index, struct wal_extent *out)
{
    lock_acquire(wal->lock);
    enum status st = index < wal->first_index ? ST_COMPACTED : ST_NOT_FOUND;
    uint32_t low = 0, high = wal->extents_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wal->extents[middle].last < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < wal->extents_count && wal->extents[low].first <= index) {
        *out = wal->extents[low];
        out->segment->readers++;
        st = ST_OK;
    }
    lock_release(wal->lock);
    return st;
}

static void unhold(struct wal *wal, const struct wal_extent *extent)
{
    lock_acquire(wal->lock);
    ASSERT(extent->segment->readers > 0);
    extent->segment->readers--;
    lock_release(wal->lock);
}

/* What one wal_read() collects. */
struct collector {
    raft_index next, last;
    uint64_t bytes, bytes_max;
    struct raft_entry *entries; /* borrowed, the caller's */
    uint32_t count;
    bool full;
};

static enum status collect(struct collector *collector, const struct wal_record *record)
{
    collector->full =
        collector->count > 0 && collector->bytes + record->payload.len > collector->bytes_max;
    if (collector->full)
        return ST_OK;
    struct raft_payload *payload = NULL;
    if (record->payload.len > 0) {
        payload = raft_payload_copy(record->payload);
        if (payload == NULL)
            return ST_NO_MEMORY;
    }
    collector->entries[collector->count++] = (struct raft_entry){
        .term = record->id.term,
        .index = record->id.index,
        .type = (enum raft_entry_type)record->flags,
        .payload = payload,
    };
    collector->bytes += record->payload.len;
    collector->next = record->id.index + 1;
    collector->full = collector->next > collector->last;
    return ST_OK;
}

static enum status collect_batch(struct collector *collector, const struct wal_extent *extent,
                                 struct slice records)
{
    while (records.len > 0 && !collector->full && collector->next <= extent->last) {
        struct wal_record record;
        if (wal_record_take(&records, &record) != ST_OK)
            return ST_CORRUPT;
        if (record.type != WAL_RECORD_ENTRY || record.id.index < collector->next)
            continue;
        if (record.id.index > collector->next)
            return ST_CORRUPT;
        enum status st = collect(collector, &record);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status read_extent(struct wal_reader *reader, const struct wal_extent *extent,
                               struct collector *collector)
{
    enum status st = wal_reader_open(reader, extent->segment);
    uint64_t offset = extent->offset;
    while (st == ST_OK && !collector->full && collector->next <= extent->last) {
        struct wal_batch_header header;
        struct slice records;
        st = wal_reader_batch(reader, offset, &header, &records);
        if (st != ST_OK)
            break;
        st = collect_batch(collector, extent, records);
        offset += wal_padded(header.len);
    }
    return st;
}

enum status wal_read(struct wal *wal, raft_index first, raft_index last, uint64_t bytes_max,
                     struct raft_entry *entries_out, uint32_t *count_out)
{
    ASSERT(first > 0 && first <= last);
    *count_out = 0;
    struct collector collector = {
        .next = first, .last = last, .bytes_max = bytes_max, .entries = entries_out};
    struct wal_reader reader;
    wal_reader_init(&reader);
    enum status st = ST_OK;
    while (st == ST_OK && !collector.full) {
        struct wal_extent extent;
        st = hold(wal, collector.next, &extent);
        if (st != ST_OK)
            break;
        st = read_extent(&reader, &extent, &collector);
        unhold(wal, &extent);
    }
    wal_reader_deinit(&reader);
    if (st != ST_OK) {
        for (uint32_t i = 0; i < collector.count; i++)
            raft_payload_unref(collector.entries[i].payload);
        return st;
    }
    *count_out = collector.count;
    return ST_OK;
}
