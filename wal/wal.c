#include "wal/wal.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "wal/wal_private.h"

void wal_path(const struct wal *wal, const char *name, char path[WAL_PATH_BYTES])
{
    int len = snprintf(path, WAL_PATH_BYTES, "%s/%s", wal->dir, name);
    ASSERT(len > 0 && (size_t)len < WAL_PATH_BYTES);
}

/* The owner sleeps on: only a batch that waits for a segment makes it worth waking. */
static void ready_wake(void *context)
{
    struct wal *wal = context;
    if (atomic_load(&wal->preparer.starving) && wal->owner_wake != NULL)
        wal->owner_wake(wal->owner_context);
}

static enum status wal_new(const struct wal_options *options, struct wal **out)
{
    struct wal *wal = calloc(1, sizeof(*wal));
    *out = wal;
    if (wal == NULL)
        return ST_NO_MEMORY;
    list_init(&wal->segments);
    wal->pending_end = &wal->pending;
    inbox_init(&wal->ready, ready_wake, wal);
    wal->disk = options->disk;
    wal->clock = options->clock;
    wal->life_id = options->life_id;
    wal->read_only = options->read_only;
    wal->segment_bytes_first = options->segment_bytes_first;
    if (wal->segment_bytes_first == 0)
        wal->segment_bytes_first = WAL_SEGMENT_BYTES_FIRST;
    wal->reserve_bytes = options->reserve_bytes;
    wal->segment_bytes_max = options->segment_bytes_max;
    if (wal->segment_bytes_max == 0)
        wal->segment_bytes_max = WAL_SEGMENT_BYTES_MAX;
    ASSERT(wal->segment_bytes_first % WAL_BLOCK_BYTES == 0);
    ASSERT(wal->segment_bytes_max % WAL_BLOCK_BYTES == 0);
    wal->dir = strdup(options->dir);
    if (wal->dir == NULL)
        return ST_NO_MEMORY;
    enum status st = lock_new(/* threaded= */ true, &wal->lock);
    if (st != ST_OK)
        return st;
    return wal_preparer_init(wal, options->rng);
}

enum status wal_open(const struct wal_options *options, struct wal **out,
                     struct wal_recovered *recovered, struct wal_report *report)
{
    ASSERT(!options->read_only || !options->create);
    *out = NULL;
    memset(report, 0, sizeof(*report));
    memset(recovered, 0, sizeof(*recovered));
    if (strlen(options->dir) + WAL_NAME_BYTES >= WAL_PATH_BYTES) {
        snprintf(report->text, sizeof(report->text), "the path of the log's directory is too long");
        return ST_INVALID;
    }
    struct wal *wal = NULL;
    enum status st = wal_new(options, &wal);
    if (st == ST_OK)
        st = wal_recover(wal, options, recovered, report);
    report->verdict = st;
    if (st == ST_CORRUPT && options->read_only)
        st = ST_OK;
    if (st != ST_OK) {
        if (report->text[0] == '\0')
            snprintf(report->text, sizeof(report->text), "cannot open the log in '%s': %s",
                     options->dir, status_str(st));
        wal_close(wal);
        return st;
    }
    *out = wal;
    return ST_OK;
}

void wal_close(struct wal *wal)
{
    if (wal == NULL)
        return;
    /* The disk reads the batch's memory until the write is over, whatever became of it. */
    while (wal->in_flight != NULL) {
        disk_wait(wal->disk);
        if (disk_poll(wal->disk) == &wal->in_flight->write) {
            wal_batch_recycle(wal, wal->in_flight);
            wal->in_flight = NULL;
        }
    }
    wal_preparer_deinit(wal);
    while (!list_is_empty(&wal->segments)) {
        struct list_node *node = list_pop_front(&wal->segments);
        wal_segment_free(CONTAINER_OF(node, struct wal_segment, link));
    }
    wal_stage_deinit(wal);
    lock_free(wal->lock);
    free(wal->extents);
    free(wal->dir);
    free(wal);
}

/* ---- completion ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void note_commit_time(struct wal *wal, uint64_t now_ns)
{
    wal->commit_ns_last = now_ns - wal->submit_ns;
    wal->commit_times[wal->commits_count++ % WAL_COMMIT_TIMES] = wal->commit_ns_last;
    uint64_t sorted[WAL_COMMIT_TIMES];
    size_t count = (size_t)min_u64(wal->commits_count, WAL_COMMIT_TIMES);
    memcpy(sorted, wal->commit_times, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), compare_u64);
    wal->commit_ns_median = sorted[count / 2];
    atomic_store_explicit(&wal->preparer.commit_ns, wal->commit_ns_median, memory_order_relaxed);
    atomic_store_explicit(&wal->preparer.busy_ns, now_ns, memory_order_relaxed);
}

static enum status index_batch(struct wal *wal, const struct wal_batch *batch)
{
    if (batch->resets) {
        wal_extents_cut(wal, 0);
        lock_acquire(wal->lock);
        wal->first_index = batch->snapshot_index + 1;
        lock_release(wal->lock);
        wal->durable_index = batch->snapshot_index;
    }
    if (batch->restates)
        wal->snapshot_seq = wal->current->seq;
    if (batch->entries_count == 0)
        return ST_OK;
    wal->durable_index = batch->last_index;
    wal->current->last_index = max_u64(wal->current->last_index, batch->last_index);
    return wal_extents_add(wal, wal->current, batch->write.offset, batch->first_index,
                           batch->last_index);
}

/* A failed write poisons the log: its pages may be lost although a second sync would succeed. */
static void complete(struct wal *wal, struct disk_write *write)
{
    struct wal_batch *batch = wal->in_flight;
    ASSERT(batch != NULL && write == &batch->write);
    wal->in_flight = NULL;
    uint64_t now_ns = clock_monotonic_ns(wal->clock);
    wal->active_ns = now_ns;
    note_commit_time(wal, now_ns);
    if (write->status != ST_OK || index_batch(wal, batch) != ST_OK) {
        wal->status = ST_IO;
    } else {
        wal->end.seq = wal->current->seq;
        wal->end.offset = wal->offset;
        wal->end.batch_no = batch->header.batch_no;
        wal->end.chain = batch->header.chain;
        wal->durable_no = batch->header.batch_no;
        wal->ticket_durable = max_u64(wal->ticket_durable, batch->ticket_last);
        wal->batches_count++;
        wal->entries_count += batch->entries_count;
        wal->bytes += write->len;
    }
    wal_batch_recycle(wal, batch);
}

/* ---- submission ---- */

static struct wal_segment *take_ready(struct wal *wal)
{
    if (wal->ready_taken == NULL)
        wal->ready_taken = inbox_take(&wal->ready);
    struct inbox_node *node = wal->ready_taken;
    if (node == NULL)
        return NULL;
    wal->ready_taken = node->next;
    atomic_fetch_sub(&wal->preparer.ready_count, 1);
    return CONTAINER_OF(node, struct wal_segment, node);
}

static struct wal_segment *take_ready_of(struct wal *wal, uint64_t bytes)
{
    struct wal_segment *segment = take_ready(wal);
    while (segment != NULL && segment->bytes < bytes) {
        /* Too small for an unusual batch: the preparer makes a larger one of it. But a log always
         * has a numbered file: a directory without one is a log that was lost. */
        if (list_is_empty(&wal->segments))
            list_push_back(&wal->segments, &segment->link);
        else
            wal_preparer_retire(wal, segment);
        segment = take_ready(wal);
    }
    return segment;
}

/* Goes on in the next prepared segment: no flush, no new name, an ordinary commit. False: none is
 * there. */
static bool roll(struct wal *wal, uint64_t padded_len)
{
    uint64_t bytes = WAL_BLOCK_BYTES + padded_len;
    atomic_store(&wal->preparer.need_bytes, bytes);
    struct wal_segment *segment = take_ready_of(wal, bytes);
    if (segment == NULL) {
        atomic_store(&wal->preparer.starving, true);
        segment = take_ready_of(wal, bytes); /* one may have come before it saw the flag */
    }
    wal_preparer_call(wal);
    if (segment == NULL)
        return false;
    atomic_store(&wal->preparer.starving, false);
    atomic_store(&wal->preparer.need_bytes, 0);
    list_push_back(&wal->segments, &segment->link);
    wal->current = segment;
    wal->offset = WAL_BLOCK_BYTES;
    atomic_store_explicit(&wal->preparer.size, segment->bytes, memory_order_relaxed);
    return true;
}

static enum status submit(struct wal *wal)
{
    uint64_t padded_len = wal_padded(wal->pending->len);
    if (wal->current == NULL || wal->current->bytes - wal->offset < padded_len) {
        if (!roll(wal, padded_len))
            return atomic_load(&wal->preparer.status) == ST_NO_SPACE ? ST_NO_SPACE : ST_OK;
    }
    struct wal_batch *batch = wal_pending_pop(wal);
    batch->header = (struct wal_batch_header){
        .life_id = wal->life_id,
        .len = (uint32_t)batch->len,
        .batch_no = wal->end.batch_no + 1,
        .durable_no = wal->durable_no,
        .first_index = batch->first_index,
        .hard_state = batch->hard_state,
        .previous = wal->end,
    };
    wal_batch_seal(&batch->header, wal->current->seed, batch->bytes);
    batch->write = (struct disk_write){
        .file = wal->current->file,
        .offset = wal->offset,
        .data = batch->bytes,
        .len = (size_t)padded_len,
        .owner = batch,
    };
    ASSERT(wal->offset + padded_len <= wal->current->bytes);
    wal->offset += padded_len;
    wal->in_flight = batch;
    wal->submit_ns = clock_monotonic_ns(wal->clock);
    wal->active_ns = wal->submit_ns;
    wal->unclosed = batch->len > WAL_BATCH_HEADER_BYTES || wal->unclosed;
    atomic_store_explicit(&wal->preparer.used, wal->offset, memory_order_relaxed);
    atomic_store_explicit(&wal->preparer.busy_ns, wal->submit_ns, memory_order_relaxed);
    enum status st = disk_submit(wal->disk, &batch->write);
    if (st != ST_OK) {
        wal->in_flight = NULL;
        wal_batch_recycle(wal, batch);
        wal->status = ST_IO;
    }
    return wal->status;
}

/* ---- release ---- */

/* Gives segments that nobody needs to the preparer, oldest first and without gaps; true when there
 * was one. */
static bool retire(struct wal *wal, uint32_t keep)
{
    bool any = false;
    uint32_t needless = 0;
    LIST_FOREACH(node, &wal->segments)
    {
        struct wal_segment *segment = CONTAINER_OF(node, struct wal_segment, link);
        if (segment == wal->current || segment->last_index >= wal->release_index)
            break;
        needless++;
    }
    for (; needless > keep; needless--) {
        struct wal_segment *segment = CONTAINER_OF(wal->segments.next, struct wal_segment, link);
        if (segment->seq == wal->snapshot_seq) {
            wal->restate = true; /* its SNAPSHOT is still the newest */
            break;
        }
        if (!wal_extents_release(wal, segment))
            break;
        list_remove(&segment->link);
        wal_preparer_retire(wal, segment);
        any = true;
    }
    return any;
}

void wal_release(struct wal *wal, raft_index index)
{
    wal->release_index = max_u64(wal->release_index, index);
    retire(wal, WAL_KEEP_SEGMENTS);
}

void wal_shrink(struct wal *wal)
{
    retire(wal, /* keep= */ 0);
}

/* ---- the owner's verbs ---- */

enum status wal_poll(struct wal *wal, uint64_t *durable_ticket_out)
{
    for (struct disk_write *write = disk_poll(wal->disk); write != NULL;
         write = disk_poll(wal->disk))
        complete(wal, write);
    *durable_ticket_out = wal->ticket_durable;
    if (status_is_fatal(atomic_load(&wal->preparer.status)))
        wal->status = ST_IO;
    if (wal->status != ST_OK)
        return wal->status;
    if (wal->in_flight != NULL || wal->pending == NULL)
        return ST_OK;
    enum status st = submit(wal);
    /* Followers' convenience does not outweigh a full disk. */
    if (st == ST_NO_SPACE && retire(wal, /* keep= */ 0))
        return ST_OK;
    return st;
}

uint64_t wal_idle(struct wal *wal, uint64_t now_ns)
{
    if (wal->status != ST_OK || !wal->unclosed)
        return UINT64_MAX;
    uint64_t wait_ns = max_u64(WAL_IDLE_NS, WAL_IDLE_COMMITS * wal->commit_ns_median);
    uint64_t due_ns = wal->active_ns + wait_ns;
    if (wal->in_flight != NULL || wal->pending != NULL)
        return now_ns + wait_ns;
    if (now_ns < due_ns)
        return due_ns;
    if (wal_stage_empty(wal) != ST_OK)
        return now_ns + wait_ns;
    wal->unclosed = false;
    /* A failure is kept; want of room is the next wal_poll()'s to tell. */
    enum status st = submit(wal);
    ASSERT(st == ST_OK || st == ST_NO_SPACE || st == wal->status);
    return UINT64_MAX;
}

enum status wal_finish(struct wal *wal)
{
    bool closed = false;
    for (;;) {
        uint64_t durable_ticket;
        enum status st = wal_poll(wal, &durable_ticket);
        if (st != ST_OK)
            return st;
        if (wal->in_flight != NULL) {
            disk_wait(wal->disk);
        } else if (wal->pending != NULL) {
            uint64_t now_ns = clock_monotonic_ns(wal->clock);
            uint64_t due_ns = wal_preparer_step(wal, now_ns);
            /* A waiting batch makes it hurry: only a full disk makes it wait. */
            if (due_ns > now_ns && due_ns != UINT64_MAX)
                return ST_NO_SPACE;
        } else if (closed || !wal->unclosed) {
            return ST_OK;
        } else {
            closed = true;
            st = wal_stage_empty(wal);
            if (st != ST_OK)
                return st;
            wal->unclosed = false;
        }
    }
}

void wal_set_preparer_wake(struct wal *wal, void (*wake)(void *context), void *context)
{
    wal->preparer_wake = wake;
    wal->preparer_context = context;
}

void wal_set_owner_wake(struct wal *wal, void (*wake)(void *context), void *context)
{
    wal->owner_wake = wake;
    wal->owner_context = context;
}

void wal_get_stat(const struct wal *wal, struct wal_stat *out)
{
    uint64_t segments_count = 0;
    LIST_FOREACH(node, &wal->segments)
    segments_count++;
    const struct wal_preparer *preparer = &wal->preparer;
    *out = (struct wal_stat){
        .batches_count = wal->batches_count,
        .entries_count = wal->entries_count,
        .bytes = wal->bytes,
        .segments_count = segments_count,
        .spares_count = atomic_load(&preparer->ready_count) + atomic_load(&preparer->spares_shown),
        .prepared_bytes = atomic_load(&preparer->prepared_bytes),
        .commit_ns_last = wal->commit_ns_last,
        .commit_ns_median = wal->commit_ns_median,
        .in_flight_since_ns = wal->in_flight == NULL ? 0 : wal->submit_ns,
        .first_index = wal->first_index,
        .last_index = wal->last_index,
        .durable_index = wal->durable_index,
    };
}
