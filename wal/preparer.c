/* wal/preparer.c - segments are made ahead of need: zeros written through (a commit into merely
 * allocated blocks costs three writes, two flushes and a journal commit, into written ones one of
 * each), block 0 and the number synced, so that the writer rolls by an ordinary commit.
 *
 * Pace: one chunk a period while the log is quiet; while it is busy only as much as keeps the next
 * segment as far prepared as the current one is used; without restraint once a batch waits.
 *
 * Every rename and removal is made durable before the next: after a crash a released segment can
 * come back, but never with a gap behind it. */
#include "base/assert.h"
#include "base/minmax.h"
#include "wal/wal_private.h"

#define NS_NOW(now_ns) (now_ns) /* call again at once */

enum status wal_preparer_init(struct wal *wal, struct rng *rng)
{
    struct wal_preparer *p = &wal->preparer;
    rng_seed(&p->rng, rng_next(rng)); /* its own: it draws on another thread */
    inbox_init(&p->retired, NULL, NULL);
    p->bytes_next = wal->segment_bytes_first;
    p->zeros = aligned_alloc(WAL_BLOCK_BYTES, WAL_ZERO_CHUNK_BYTES);
    if (p->zeros == NULL)
        return ST_NO_MEMORY;
    memset(p->zeros, 0, WAL_ZERO_CHUNK_BYTES);
    return ST_OK;
}

static void free_nodes(struct inbox_node *node)
{
    while (node != NULL) {
        struct inbox_node *next = node->next;
        wal_segment_free(CONTAINER_OF(node, struct wal_segment, node));
        node = next;
    }
}

void wal_preparer_deinit(struct wal *wal)
{
    struct wal_preparer *p = &wal->preparer;
    free_nodes(p->retired_taken);
    free_nodes(inbox_take(&p->retired));
    free_nodes(wal->ready_taken);
    free_nodes(inbox_take(&wal->ready));
    for (uint32_t i = 0; i < p->spares_count; i++)
        wal_segment_free(p->spares[i]);
    wal_segment_free(p->job);
    free(p->zeros);
    memset(p, 0, sizeof(*p));
    wal->ready_taken = NULL;
}

void wal_preparer_call(struct wal *wal)
{
    if (wal->preparer_wake != NULL)
        wal->preparer_wake(wal->preparer_context);
}

void wal_preparer_retire(struct wal *wal, struct wal_segment *segment)
{
    inbox_push(&wal->preparer.retired, &segment->node);
    wal_preparer_call(wal);
}

static void set_status(struct wal *wal, enum status st)
{
    enum status before = atomic_exchange(&wal->preparer.status, st);
    if (st != before && wal->owner_wake != NULL)
        wal->owner_wake(wal->owner_context);
}

/* ---- recycling ---- */

static enum status rename_durably(struct wal *wal, struct wal_segment *segment,
                                  const char name[WAL_NAME_BYTES])
{
    char from[WAL_PATH_BYTES], to[WAL_PATH_BYTES];
    wal_path(wal, segment->name, from);
    wal_path(wal, name, to);
    enum status st = disk_rename(wal->disk, from, to);
    if (st != ST_OK)
        return st;
    memcpy(segment->name, name, WAL_NAME_BYTES);
    return disk_sync_dir(wal->disk, wal->dir);
}

/* Takes segment on ST_OK. */
static enum status remove_durably(struct wal *wal, struct wal_segment *segment)
{
    char path[WAL_PATH_BYTES];
    wal_path(wal, segment->name, path);
    enum status st = disk_remove(wal->disk, path);
    if (st == ST_OK || st == ST_NOT_FOUND) /* gone by an attempt before this one */
        st = disk_sync_dir(wal->disk, wal->dir);
    if (st == ST_OK)
        wal_segment_free(segment);
    return st;
}

static uint32_t spares_wanted(const struct wal_preparer *p)
{
    uint32_t ready = atomic_load(&p->ready_count) + (p->job != NULL);
    return ready >= WAL_SPARES_MAX ? 0 : WAL_SPARES_MAX - ready;
}

/* Takes segment on ST_OK; else the same one must come first again, lest it be left behind a gap. */
static enum status recycle(struct wal *wal, struct wal_segment *segment)
{
    struct wal_preparer *p = &wal->preparer;
    if (p->spares_count >= spares_wanted(p))
        return remove_durably(wal, segment);
    char name[WAL_NAME_BYTES];
    wal_name_spare(name, p->number_next++);
    enum status st = rename_durably(wal, segment, name);
    if (st != ST_OK)
        return st;
    segment->seq = segment->seed = segment->last_index = 0;
    p->spares[p->spares_count++] = segment;
    p->retry_ns = 0;
    set_status(wal, ST_OK); /* room enough, whatever the disk says */
    return ST_OK;
}

static struct wal_segment *take_retired(struct wal_preparer *p)
{
    if (p->retired_taken == NULL)
        p->retired_taken = inbox_take(&p->retired);
    struct inbox_node *node = p->retired_taken;
    if (node == NULL)
        return NULL;
    p->retired_taken = node->next;
    return CONTAINER_OF(node, struct wal_segment, node);
}

/* ---- making one ---- */

/* The smallest segment worth having. */
static uint64_t bytes_least(const struct wal *wal)
{
    return min_u64(WAL_SEGMENT_BYTES_MIN, wal->segment_bytes_first);
}

/* How large the next segment is to be: doubling from the first on, smaller where writing it takes
 * long or would take much of what is left of the disk, never too small for the batch that waits. */
static enum status size_wanted(struct wal *wal, uint64_t *out)
{
    struct wal_preparer *p = &wal->preparer;
    uint64_t bytes = min_u64(p->bytes_next, wal->segment_bytes_max);
    if (atomic_load_explicit(&p->commit_ns, memory_order_relaxed) > WAL_SLOW_COMMIT_NS)
        bytes = min_u64(bytes, WAL_SEGMENT_BYTES_SLOW);
    uint64_t free_bytes = 0;
    enum status st = disk_space(wal->disk, wal->dir, &free_bytes);
    if (st != ST_OK)
        return st;
    uint64_t least = max_u64(bytes_least(wal), atomic_load(&p->need_bytes));
    if (p->spares_count == 0 && free_bytes < least + wal->reserve_bytes)
        return ST_NO_SPACE; /* the store must be able to commit, which is what frees segments */
    if (p->spares_count == 0)
        bytes = min_u64(bytes, free_bytes - wal->reserve_bytes);
    uint64_t share = free_bytes / WAL_SEGMENT_SPACE_SHARE / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    bytes = min_u64(bytes, share) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    *out = max_u64(bytes, least);
    return ST_OK;
}

static enum status new_part(struct wal *wal, struct wal_segment **out)
{
    *out = NULL;
    struct wal_segment *segment = wal_segment_new();
    if (segment == NULL)
        return ST_NO_MEMORY;
    wal_name_part(segment->name, wal->preparer.number_next++);
    char path[WAL_PATH_BYTES];
    wal_path(wal, segment->name, path);
    enum status st =
        disk_open(wal->disk, path, DISK_CREATE | DISK_EXCLUSIVE | DISK_DIRECT, &segment->file);
    if (st != ST_OK) {
        wal_segment_free(segment);
        return st;
    }
    *out = segment;
    return ST_OK;
}

static enum status start_job(struct wal *wal)
{
    struct wal_preparer *p = &wal->preparer;
    enum status st = size_wanted(wal, &p->job_bytes);
    if (st != ST_OK)
        return st;
    if (p->spares_count > 0) {
        p->job = p->spares[--p->spares_count];
        memset(&p->spares[p->spares_count], 0, sizeof(p->spares[0]));
    } else {
        st = new_part(wal, &p->job);
        if (st != ST_OK)
            return st;
    }
    p->job_filled = p->job->bytes;
    p->job_bytes = max_u64(p->job_bytes, p->job_filled);
    p->stage = WAL_JOB_FILL;
    return ST_OK;
}

static enum status fill_chunk(struct wal *wal, uint64_t now_ns)
{
    struct wal_preparer *p = &wal->preparer;
    uint64_t left = p->job_bytes - p->job_filled;
    if (left == 0) {
        p->stage = WAL_JOB_HEAD;
        return ST_OK;
    }
    size_t len = (size_t)min_u64(left, WAL_ZERO_CHUNK_BYTES);
    enum status st = disk_write_at(p->job->file, p->job_filled, slice_make(p->zeros, len));
    p->chunk_ns = now_ns;
    if (st == ST_NO_SPACE &&
        p->job_filled >= max_u64(bytes_least(wal), atomic_load(&p->need_bytes))) {
        /* The disk is full, but what is written already makes a segment. */
        p->job_bytes = p->job_filled;
        p->stage = WAL_JOB_HEAD;
        return ST_OK;
    }
    if (st != ST_OK)
        return st;
    p->job_filled += len;
    atomic_fetch_add_explicit(&p->prepared_bytes, len, memory_order_relaxed);
    return ST_OK;
}

static enum status write_head(struct wal *wal)
{
    struct wal_preparer *p = &wal->preparer;
    struct wal_segment *segment = p->job;
    segment->bytes = p->job_filled;
    segment->seq = p->seq_next++;
    segment->seed = rng_next(&p->rng);
    struct wal_segment_header header = {
        .life_id = wal->life_id, .seq = segment->seq, .seed = segment->seed};
    wal_segment_header_encode(&header, p->zeros);
    enum status st = disk_write_at(segment->file, 0, slice_make(p->zeros, WAL_BLOCK_BYTES));
    memset(p->zeros, 0, WAL_BLOCK_BYTES);
    if (st == ST_OK)
        st = disk_sync(segment->file);
    if (st != ST_OK)
        return st;
    atomic_fetch_add_explicit(&p->prepared_bytes, WAL_BLOCK_BYTES, memory_order_relaxed);
    p->stage = WAL_JOB_NAME;
    return ST_OK;
}

static enum status give_name(struct wal *wal)
{
    struct wal_preparer *p = &wal->preparer;
    struct wal_segment *segment = p->job;
    char name[WAL_NAME_BYTES];
    wal_name_segment(name, segment->seq);
    enum status st = rename_durably(wal, segment, name);
    if (st != ST_OK)
        return st;
    p->job = NULL;
    p->stage = WAL_JOB_NONE;
    p->bytes_next = min_u64(max_u64(p->bytes_next, segment->bytes) * 2, wal->segment_bytes_max);
    set_status(wal, ST_OK);
    atomic_fetch_add(&p->ready_count, 1);
    inbox_push(&wal->ready, &segment->node);
    return ST_OK;
}

/* ---- pace ---- */

/* True when the next segment lags behind the use of the current one. */
static bool is_behind(const struct wal_preparer *p)
{
    if (atomic_load(&p->starving))
        return true;
    if (atomic_load(&p->ready_count) > 0)
        return false;
    uint64_t size = atomic_load_explicit(&p->size, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&p->used, memory_order_relaxed);
    /* A quarter ahead, so that the last steps, which sync, come well before the end. */
    double use = size == 0 ? 1.0 : 1.25 * (double)used / (double)size;
    double done =
        p->job == NULL || p->job_bytes == 0 ? 0.0 : (double)p->job_filled / (double)p->job_bytes;
    return use > done || use >= 1.0;
}

/* When the next step may be taken: now_ns or later. */
static uint64_t next_step_ns(const struct wal_preparer *p, uint64_t now_ns)
{
    if (is_behind(p))
        return NS_NOW(now_ns);
    uint64_t commit_ns = atomic_load_explicit(&p->commit_ns, memory_order_relaxed);
    uint64_t period_ns = max_u64(WAL_ZERO_PERIOD_NS, WAL_ZERO_COMMITS * commit_ns);
    uint64_t busy_ns = atomic_load_explicit(&p->busy_ns, memory_order_relaxed);
    uint64_t due_ns = max_u64(p->chunk_ns == 0 ? 0 : p->chunk_ns + period_ns,
                              busy_ns == 0 ? 0 : busy_ns + 2 * commit_ns);
    return max_u64(due_ns, now_ns);
}

/* ---- the step ---- */

static void drop_job(struct wal *wal)
{
    struct wal_preparer *p = &wal->preparer;
    if (p->job != NULL && remove_durably(wal, p->job) != ST_OK) {
        wal_segment_free(p->job);
        set_status(wal, ST_IO);
    }
    p->job = NULL;
    p->stage = WAL_JOB_NONE;
}

/* Turns a failure into what the writer and the pace make of it. */
static uint64_t settle(struct wal *wal, enum status st, uint64_t now_ns)
{
    struct wal_preparer *p = &wal->preparer;
    atomic_store(&p->spares_shown, p->spares_count);
    if (st == ST_OK)
        return NS_NOW(now_ns);
    if (st == ST_NO_SPACE || st == ST_NO_MEMORY) {
        p->bytes_next =
            max_u64(p->bytes_next / 2 / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES, bytes_least(wal));
        drop_job(wal);
        if (!status_is_fatal(atomic_load(&p->status)))
            set_status(wal, ST_NO_SPACE);
        p->retry_ns = now_ns + WAL_SPACE_RETRY_NS;
        return p->retry_ns;
    }
    set_status(wal, ST_IO);
    return UINT64_MAX;
}

static enum status take_step(struct wal *wal, uint64_t now_ns)
{
    switch (wal->preparer.stage) {
    case WAL_JOB_NONE:
        return start_job(wal);
    case WAL_JOB_FILL:
        return fill_chunk(wal, now_ns);
    case WAL_JOB_HEAD:
        return write_head(wal);
    case WAL_JOB_NAME:
        return give_name(wal);
    }
    return ST_OK;
}

uint64_t wal_preparer_step(struct wal *wal, uint64_t now_ns)
{
    struct wal_preparer *p = &wal->preparer;
    if (status_is_fatal(atomic_load(&p->status)))
        return UINT64_MAX;
    struct wal_segment *retired = take_retired(p);
    if (retired != NULL) {
        enum status st = recycle(wal, retired);
        if (st != ST_OK) {
            retired->node.next = p->retired_taken;
            p->retired_taken = &retired->node;
        }
        return settle(wal, st, now_ns);
    }
    bool wanted = p->job != NULL || atomic_load(&p->ready_count) == 0 ||
                  (p->spares_count > 0 && atomic_load(&p->ready_count) < WAL_SPARES_MAX);
    if (!wanted)
        return UINT64_MAX;
    if (now_ns < p->retry_ns && p->spares_count == 0)
        return p->retry_ns;
    uint64_t due_ns = next_step_ns(p, now_ns);
    if (due_ns > now_ns)
        return due_ns;
    return settle(wal, take_step(wal, now_ns), now_ns);
}
