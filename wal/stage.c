/* wal/stage.c - work handed over becomes records in the batch that goes next. Entries are encoded
 * once, straight into the memory that the disk writes. */
#include "base/assert.h"
#include "base/minmax.h"
#include "wal/wal_private.h"

#define BATCH_BYTES_FIRST (64U << 10)             /* memory of a new batch */
#define POOL_BATCHES_MAX 2U                       /* one fills while the other is written */
#define POOL_BYTES_MAX (2U * WAL_BATCH_BYTES_MAX) /* a batch grown for one large entry is freed */

static void batch_free(struct wal_batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->bytes);
    free(batch);
}

static void batch_reset(struct wal_batch *batch)
{
    uint8_t *bytes = batch->bytes;
    size_t capacity = batch->capacity;
    memset(batch, 0, sizeof(*batch));
    batch->bytes = bytes;
    batch->capacity = capacity;
    batch->len = WAL_BATCH_HEADER_BYTES;
}

static enum status batch_reserve(struct wal_batch *batch, size_t bytes)
{
    if (batch->capacity - batch->len >= bytes)
        return ST_OK;
    size_t capacity = (size_t)wal_padded(max_size(batch->capacity * 2, batch->len + bytes));
    uint8_t *grown = aligned_alloc(WAL_BLOCK_BYTES, capacity);
    if (grown == NULL)
        return ST_NO_MEMORY;
    memcpy(grown, batch->bytes, batch->len);
    free(batch->bytes);
    batch->bytes = grown;
    batch->capacity = capacity;
    return ST_OK;
}

static struct wal_batch *batch_take(struct wal *wal)
{
    struct wal_batch *batch = wal->pool;
    if (batch != NULL) {
        wal->pool = batch->next;
        wal->pool_count--;
        batch_reset(batch);
        return batch;
    }
    batch = calloc(1, sizeof(*batch));
    if (batch == NULL)
        return NULL;
    batch->bytes = aligned_alloc(WAL_BLOCK_BYTES, BATCH_BYTES_FIRST);
    batch->capacity = BATCH_BYTES_FIRST;
    if (batch->bytes == NULL) {
        batch_free(batch);
        return NULL;
    }
    batch_reset(batch);
    return batch;
}

void wal_batch_recycle(struct wal *wal, struct wal_batch *batch)
{
    if (wal->pool_count >= POOL_BATCHES_MAX || batch->capacity > POOL_BYTES_MAX) {
        batch_free(batch);
        return;
    }
    batch->next = wal->pool;
    wal->pool = batch;
    wal->pool_count++;
}

struct wal_batch *wal_pending_pop(struct wal *wal)
{
    struct wal_batch *batch = wal->pending;
    ASSERT(batch != NULL);
    wal->pending = batch->next;
    if (wal->pending == NULL) {
        wal->pending_end = &wal->pending;
        wal->pending_last = NULL;
    }
    batch->next = NULL;
    wal->staged_bytes -= batch->len;
    return batch;
}

void wal_stage_deinit(struct wal *wal)
{
    while (wal->pending != NULL)
        batch_free(wal_pending_pop(wal));
    while (wal->pool != NULL) {
        struct wal_batch *batch = wal->pool;
        wal->pool = batch->next;
        batch_free(batch);
    }
    wal->pool_count = 0;
}

static enum status open_batch(struct wal *wal)
{
    struct wal_batch *batch = batch_take(wal);
    if (batch == NULL)
        return ST_NO_MEMORY;
    *wal->pending_end = batch;
    wal->pending_end = &batch->next;
    wal->pending_last = batch;
    wal->staged_bytes += batch->len;
    return ST_OK;
}

enum status wal_stage_empty(struct wal *wal)
{
    if (wal->pending_last == NULL) {
        enum status st = open_batch(wal);
        if (st != ST_OK)
            return st;
    }
    wal->pending_last->hard_state = wal->hard_state;
    return ST_OK;
}

/* Makes the last pending batch one that takes bytes more. Hidden behind the soft limit: a batch
 * without records takes anything. */
static enum status make_room(struct wal *wal, size_t bytes)
{
    struct wal_batch *last = wal->pending_last;
    bool fits = last != NULL &&
                (last->len == WAL_BATCH_HEADER_BYTES || last->len + bytes <= WAL_BATCH_BYTES_MAX);
    if (!fits) {
        enum status st = open_batch(wal);
        if (st != ST_OK)
            return st;
    }
    return batch_reserve(wal->pending_last, bytes);
}

static enum status put_record(struct wal *wal, const struct wal_record *record)
{
    size_t bytes = (size_t)wal_record_bytes(record->payload.len);
    enum status st = make_room(wal, bytes);
    if (st != ST_OK)
        return st;
    struct wal_batch *batch = wal->pending_last;
    wal_record_encode(record, batch->bytes + batch->len);
    batch->len += bytes;
    wal->staged_bytes += bytes;
    return ST_OK;
}

static enum status stage_snapshot(struct wal *wal, bool restated)
{
    /* A SNAPSHOT heads its batch: what it drops and what follows it must not mix. */
    struct wal_batch *last = wal->pending_last;
    if (last != NULL && last->len > WAL_BATCH_HEADER_BYTES) {
        enum status st = open_batch(wal);
        if (st != ST_OK)
            return st;
    }
    uint8_t conf_state[WAL_CONF_STATE_BYTES_MAX];
    size_t len = wal_conf_state_encode(&wal->snapshot.conf_state, conf_state);
    struct wal_record record = {
        .type = WAL_RECORD_SNAPSHOT,
        .flags = restated ? WAL_RECORD_RESTATED : 0,
        .id = wal->snapshot.last,
        .payload = slice_make(conf_state, len),
    };
    enum status st = put_record(wal, &record);
    if (st != ST_OK)
        return st;
    wal->restate = false;
    wal->pending_last->restates = true;
    if (!restated) {
        wal->pending_last->resets = true;
        wal->pending_last->snapshot_index = wal->snapshot.last.index;
        wal->last_index = wal->snapshot.last.index;
        wal->has_base = true;
    }
    return ST_OK;
}

static enum status stage_entries(struct wal *wal, const struct raft_entry *entries, uint32_t count)
{
    ASSERT(!wal->has_base || entries[0].index <= wal->last_index + 1);
    struct wal_batch *last = wal->pending_last;
    bool truncates = wal->has_base && entries[0].index <= wal->last_index;
    if (truncates && last != NULL && last->entries_count > 0) {
        enum status st = open_batch(wal); /* the entries of one batch are consecutive */
        if (st != ST_OK)
            return st;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_entry *entry = &entries[i];
        ASSERT(entry->index == entries[0].index + i);
        struct wal_record record = {
            .type = WAL_RECORD_ENTRY,
            .flags = (uint8_t)entry->type,
            .id = {.index = entry->index, .term = entry->term},
            .payload = raft_payload_slice(entry->payload),
        };
        enum status st = put_record(wal, &record);
        if (st != ST_OK)
            return st;
        struct wal_batch *batch = wal->pending_last;
        if (batch->entries_count++ == 0)
            batch->first_index = entry->index;
        batch->last_index = entry->index;
        wal->last_index = entry->index;
        wal->has_base = true;
        batch->hard_state = wal->hard_state;
        batch->hard_state.commit = min_u64(wal->hard_state.commit, wal->last_index);
    }
    return ST_OK;
}

static enum status stage(struct wal *wal, const struct wal_append *append)
{
    if (append->snapshot != NULL) {
        wal->snapshot = *append->snapshot;
        enum status st = stage_snapshot(wal, /* restated= */ false);
        if (st != ST_OK)
            return st;
    } else if (wal->restate && append->entries_count > 0) {
        enum status st = stage_snapshot(wal, /* restated= */ true);
        if (st != ST_OK)
            return st;
    }
    if (append->entries_count > 0) {
        enum status st = stage_entries(wal, append->entries, append->entries_count);
        if (st != ST_OK)
            return st;
    }
    enum status st = wal_stage_empty(wal);
    if (st != ST_OK)
        return st;
    /* The hint never points past what the same log holds: a crash may end it with this batch. */
    struct raft_hard_state *hard_state = &wal->pending_last->hard_state;
    hard_state->commit = min_u64(hard_state->commit, wal->last_index);
    return ST_OK;
}

/* What a failed append puts back: nothing is staged then. */
struct undo {
    struct wal_batch *last, copy;
    struct raft_hard_state hard_state;
    struct raft_snapshot_meta snapshot;
    bool restate, has_base;
    raft_index last_index;
    uint64_t staged_bytes;
};

static void undo_save(const struct wal *wal, struct undo *undo)
{
    undo->last = wal->pending_last;
    if (undo->last != NULL)
        undo->copy = *undo->last;
    undo->hard_state = wal->hard_state;
    undo->snapshot = wal->snapshot;
    undo->restate = wal->restate;
    undo->has_base = wal->has_base;
    undo->last_index = wal->last_index;
    undo->staged_bytes = wal->staged_bytes;
}

static void undo_restore(struct wal *wal, const struct undo *undo)
{
    struct wal_batch *extra = undo->last == NULL ? wal->pending : undo->last->next;
    while (extra != NULL) {
        struct wal_batch *next = extra->next;
        batch_free(extra);
        extra = next;
    }
    wal->pending_last = undo->last;
    if (undo->last == NULL) {
        wal->pending = NULL;
        wal->pending_end = &wal->pending;
    } else {
        uint8_t *bytes = undo->last->bytes; /* may have moved; what it held before is unchanged */
        size_t capacity = undo->last->capacity;
        *undo->last = undo->copy;
        undo->last->bytes = bytes;
        undo->last->capacity = capacity;
        undo->last->next = NULL;
        wal->pending_end = &undo->last->next;
    }
    wal->hard_state = undo->hard_state;
    wal->snapshot = undo->snapshot;
    wal->restate = undo->restate;
    wal->has_base = undo->has_base;
    wal->last_index = undo->last_index;
    wal->staged_bytes = undo->staged_bytes;
}

static bool must_write(const struct wal *wal, const struct wal_append *append)
{
    const struct raft_hard_state *now = append->hard_state;
    return append->entries_count > 0 || append->snapshot != NULL ||
           (now != NULL &&
            (now->term != wal->hard_state.term || now->vote != wal->hard_state.vote));
}

static enum status check_sizes(const struct wal_append *append)
{
    for (uint32_t i = 0; i < append->entries_count; i++) {
        if (raft_payload_slice(append->entries[i].payload).len > WAL_ENTRY_BYTES_MAX)
            return ST_TOO_BIG;
    }
    return ST_OK;
}

enum status wal_append(struct wal *wal, const struct wal_append *append, uint64_t *ticket_out)
{
    ASSERT(!wal->read_only);
    if (wal->status != ST_OK)
        return wal->status;
    bool writes = must_write(wal, append);
    if (writes && wal->staged_bytes > WAL_STAGED_BYTES_MAX)
        return ST_NO_SPACE;
    enum status st = check_sizes(append);
    if (st != ST_OK)
        return st;
    struct undo undo;
    undo_save(wal, &undo);
    if (append->hard_state != NULL)
        wal->hard_state = *append->hard_state;
    if (writes) {
        st = stage(wal, append);
        if (st != ST_OK) {
            undo_restore(wal, &undo);
            return st;
        }
    }
    *ticket_out = ++wal->ticket_last;
    if (wal->pending_last != NULL)
        wal->pending_last->ticket_last = wal->ticket_last;
    else if (wal->in_flight != NULL)
        wal->in_flight->ticket_last = wal->ticket_last;
    else
        wal->ticket_durable = wal->ticket_last;
    return ST_OK;
}
