/* The keys that the log's tail touches, also by way of the leases that it revokes. */
#include "base/clock_real.h"
#include "storage/store.h"
#include "tools/utl/source.h"
#include "tools/utl/touched.h"

static enum status note_entry(void *context, const struct raft_entry *entry)
{
    return utl_touched_add(context, entry);
}

struct leased {
    struct utl_touched *touched;
    struct progress progress;
    uint64_t read_bytes;
};

static enum status note_record(void *context, struct revision revision, bool tombstone,
                               struct slice record)
{
    struct leased *leased = context;
    struct mvcc_kv kv;
    leased->read_bytes += record.len + TOMBSTONE_KEY_BYTES;
    progress_at(&leased->progress, leased->read_bytes);
    enum status st = mvcc_record_decode(record, revision, tombstone, &kv);
    return st == ST_OK ? utl_touched_add_record(leased->touched, &kv) : st;
}

/* A key belongs to the lease of its newest record; that one is among those looked at. */
static enum status find_leased(struct utl_source *s)
{
    struct leased leased = {.touched = s->touched};
    lock_acquire(s->lock);
    struct store_view *view = store_view_acquire(s->store, UTL_SOURCE_READER);
    lock_release(s->lock);
    progress_begin(&leased.progress, clock_real(), "looking for keys of leases",
                   s->stat.in_use_bytes);
    enum status st = store_view_each(view, (struct revision){0, 0}, note_record, &leased);
    progress_end(&leased.progress);
    store_view_release(view);
    return st;
}

enum status utl_source_find_touched(struct utl_source *s)
{
    enum status st = utl_touched_new(&s->touched);
    if (st == ST_OK)
        st = utl_source_entries(s, s->mark.index + 1, s->log_last, note_entry, s->touched);
    if (st == ST_OK && utl_touched_revokes(s->touched))
        st = find_leased(s);
    if (st == ST_OK)
        utl_touched_seal(s->touched);
    return st;
}
