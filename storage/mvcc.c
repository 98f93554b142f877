#include "storage/mvcc.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "storage/mvcc_private.h"

#define META_VALUE_BYTES_MAX 4096U
#define WRITE_BYTES_MAX (SIZE_MAX / 2)

/* ---- building the index ---- */

struct restore {
    struct mvcc *mvcc;
    const struct mvcc_options *options;
    int64_t last_main;
};

static enum status restore_record(void *context, struct revision revision, bool tombstone,
                                  struct slice record)
{
    struct restore *r = context;
    struct mvcc_kv kv;
    enum status st = mvcc_record_decode(record, revision, tombstone, &kv);
    if (st != ST_OK)
        return st;
    r->last_main = revision.main;
    if (r->options->wants != NULL && !r->options->wants(r->options->wants_context, kv.key))
        return ST_OK;
    struct index_change change;
    st = index_prepare(r->mvcc->index, kv.key, revision, tombstone ? 0 : kv.create_revision,
                       tombstone ? 0 : kv.version, &change);
    if (st != ST_OK)
        return st;
    index_commit(r->mvcc->index, &change);
    return ST_OK;
}

/* -1: there is none. */
static enum status get_meta_revision(struct mvcc *mvcc, const char *name, int64_t *out)
{
    struct arena arena;
    struct slice value;
    struct revision revision;
    bool tombstone;
    *out = -1;
    arena_init(&arena, META_VALUE_BYTES_MAX);
    enum status st = store_get(mvcc->store, BUCKET_META, slice_from_str(name), &arena, &value);
    if (st == ST_OK)
        st = revision_key_decode(value, &revision, &tombstone);
    if (st == ST_OK && revision.main > INDEX_MAIN_MAX)
        st = ST_CORRUPT;
    if (st == ST_OK)
        *out = revision.main;
    arena_deinit(&arena);
    return st == ST_NOT_FOUND ? ST_OK : st == ST_TOO_BIG ? ST_CORRUPT : st;
}

static enum status new_index(struct mvcc *mvcc)
{
    index_free(mvcc->index);
    return index_new(&mvcc->index);
}

/* From the checkpoint and what came after it; else, whatever is wrong with it, from the start. */
static enum status build_index(struct mvcc *mvcc, int64_t compact, struct restore *r)
{
    struct revision from = {0, 0};
    int64_t saved;
    enum status st = new_index(mvcc);
    if (st == ST_OK && mvcc->checkpoint_path != NULL) {
        if (mvcc_checkpoint_load(mvcc, compact, &saved) == ST_OK) {
            from.main = saved + 1;
            r->last_main = saved;
            mvcc->loaded_revision = saved;
        } else {
            st = new_index(mvcc);
        }
    }
    if (st != ST_OK)
        return st;
    return mvcc_walk(mvcc, mvcc_apply_slot(mvcc), from, restore_record, r);
}

static enum status restore(struct mvcc *mvcc, const struct mvcc_options *options)
{
    struct restore r = {.mvcc = mvcc, .options = options};
    int64_t scheduled;
    enum status st = get_meta_revision(mvcc, MVCC_META_FINISHED, &mvcc->finished_revision);
    if (st == ST_OK)
        st = get_meta_revision(mvcc, MVCC_META_SCHEDULED, &scheduled);
    if (st != ST_OK)
        return st;
    int64_t compact = max_i64(mvcc->finished_revision, scheduled);
    st = build_index(mvcc, compact, &r);
    if (st != ST_OK)
        return st;
    mvcc->published_history_end = index_history_end(index_history(mvcc->index));
    atomic_init(&mvcc->compact_revision, compact);
    atomic_init(&mvcc->current_revision, max_i64(max_i64(r.last_main, compact), 1));
    return ST_OK;
}

/* ---- opening ---- */

static enum status new_readers(struct mvcc *mvcc)
{
    size_t count = (size_t)mvcc->readers_count + 2;
    mvcc->readers = aligned_alloc(_Alignof(struct mvcc_reader), count * sizeof(*mvcc->readers));
    if (mvcc->readers == NULL)
        return ST_NO_MEMORY;
    memset(mvcc->readers, 0, count * sizeof(*mvcc->readers));
    for (size_t i = 0; i < count; i++) {
        atomic_init(&mvcc->readers[i].pinned, MVCC_UNPINNED);
        buf_init(&mvcc->readers[i].keys, WRITE_BYTES_MAX);
        buf_init(&mvcc->readers[i].resume, WRITE_BYTES_MAX);
    }
    return ST_OK;
}

enum status mvcc_open(const struct mvcc_options *options, struct mvcc **out)
{
    *out = NULL;
    struct mvcc *mvcc = calloc(1, sizeof(*mvcc));
    if (mvcc == NULL)
        return ST_NO_MEMORY;
    mvcc->store = options->store;
    mvcc->lock = options->lock;
    mvcc->life_id = options->life_id;
    mvcc->readers_count = options->readers_count;
    mvcc->watch = options->watch;
    mvcc->trim_started = mvcc->trimmed = -1;
    buf_init(&mvcc->write_bytes, WRITE_BYTES_MAX);
    enum status st = ST_OK;
    ASSERT(options->wants == NULL || options->checkpoint_path == NULL);
    if (options->checkpoint_path != NULL) {
        mvcc->checkpoint_path = strdup(options->checkpoint_path);
        st = mvcc->checkpoint_path != NULL ? ST_OK : ST_NO_MEMORY;
    }
    if (st == ST_OK)
        st = new_readers(mvcc);
    if (st == ST_OK)
        st = restore(mvcc, options);
    if (st != ST_OK) {
        mvcc_close(mvcc);
        return st;
    }
    *out = mvcc;
    return ST_OK;
}

void mvcc_close(struct mvcc *mvcc)
{
    if (mvcc == NULL)
        return;
    if (mvcc->readers != NULL) {
        for (uint32_t i = 0; i <= mvcc_checkpoint_slot(mvcc); i++) {
            ASSERT(!mvcc->readers[i].open);
            buf_deinit(&mvcc->readers[i].keys);
            buf_deinit(&mvcc->readers[i].resume);
        }
    }
    free(mvcc->readers);
    index_free(mvcc->index);
    buf_deinit(&mvcc->write_bytes);
    free(mvcc->events);
    free(mvcc->checkpoint_path);
    free(mvcc);
}

/* ---- upkeep ---- */

void mvcc_get_stat(struct mvcc *mvcc, struct mvcc_stat *out)
{
    struct index_stat stat;
    lock_acquire(mvcc->lock);
    index_get_stat(mvcc->index, &stat);
    lock_release(mvcc->lock);
    mvcc_revisions(mvcc, &out->current_revision, &out->compact_revision);
    out->keys_count = stat.live_count;
    out->index_bytes = stat.bytes;
    out->superseded_count = stat.superseded_count;
    out->loaded_revision = mvcc->loaded_revision;
    out->trimmed_count = atomic_load_explicit(&mvcc->trimmed_count, memory_order_relaxed);
    out->puts_count = atomic_load_explicit(&mvcc->puts_count, memory_order_relaxed);
    out->put_bytes = atomic_load_explicit(&mvcc->put_bytes, memory_order_relaxed);
    out->deletes_count = atomic_load_explicit(&mvcc->deletes_count, memory_order_relaxed);
    out->txns_count = atomic_load_explicit(&mvcc->txns_count, memory_order_relaxed);
    out->ranges_count = 0;
    for (uint32_t i = 0; i <= mvcc->readers_count; i++) /* apply's slot is the last one */
        out->ranges_count +=
            atomic_load_explicit(&mvcc->readers[i].ranges_count, memory_order_relaxed);
}

struct checking {
    struct mvcc *mvcc;
    struct buf *report;
    uint64_t found;
    bool failed;
};

static void fault(struct checking *c, const char *what, struct revision revision)
{
    c->failed = true;
    (void)!buf_printf(c->report, "store: %s at revision %lld.%lld\n", what,
                      (long long)revision.main, (long long)revision.sub);
}

/* True when the key's chain holds the revision; the newest of its main is what lookups give, so the
 * chain is walked. */
static bool chain_holds(struct index *index, const struct index_record *record,
                        struct revision revision, bool tombstone)
{
    if (revision_cmp(record->newest, revision) == 0)
        return record->tombstone == tombstone;
    struct history *history = index_history(index);
    struct history_entry entry;
    uint64_t position = index_history_find(history, record->previous, revision.main);
    while (index_history_get(history, position, &entry) && entry.revision.main == revision.main) {
        if (entry.revision.sub == revision.sub)
            return entry.tombstone == tombstone;
        position = entry.previous;
    }
    return false;
}

static enum status check_record(void *context, struct revision revision, bool tombstone,
                                struct slice record)
{
    struct checking *c = context;
    struct mvcc_kv kv;
    struct index_record known;
    if (mvcc_record_decode(record, revision, tombstone, &kv) != ST_OK) {
        fault(c, "record cannot be decoded", revision);
        return ST_OK;
    }
    lock_acquire(c->mvcc->lock);
    bool held = index_get(c->mvcc->index, kv.key, &known) &&
                chain_holds(c->mvcc->index, &known, revision, tombstone);
    bool newest = held && revision_cmp(known.newest, revision) == 0;
    lock_release(c->mvcc->lock);
    if (held)
        c->found++;
    else if (revision.main > c->mvcc->trim_started)
        fault(c, "record is not in the index", revision);
    if (newest && !tombstone &&
        (known.version != kv.version || known.create_revision != kv.create_revision))
        fault(c, "version or create revision differ from the index", revision);
    return ST_OK;
}

enum status mvcc_check(struct mvcc *mvcc, struct buf *report)
{
    struct checking c = {.mvcc = mvcc, .report = report};
    lock_acquire(mvcc->lock);
    enum status st = index_check(mvcc->index, report);
    struct index_stat stat;
    index_get_stat(mvcc->index, &stat);
    lock_release(mvcc->lock);
    c.failed = st != ST_OK;
    st = mvcc_walk(mvcc, mvcc_apply_slot(mvcc), (struct revision){0, 0}, check_record, &c);
    if (st != ST_OK)
        return st;
    if (c.found < stat.live_count)
        fault(&c, "fewer records than live keys", (struct revision){0, 0});
    return c.failed ? ST_CORRUPT : ST_OK;
}
