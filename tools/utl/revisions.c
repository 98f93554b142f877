/* A sorted record:
 *   0    4  length of the key
 *   4    8  main, 12 8 sub, 20 8 create revision, 28 8 version, 36 8 lease, 44 8 size of the value,
 *   52   8  size of the record, 60 1 tombstone; numbers in little-endian
 *   61      the key */
#include "tools/utl/revisions.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock_real.h"
#include "base/lock.h"
#include "base/minmax.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "tools/utl/progress.h"
#include "tools/utl/sort.h"

#include <inttypes.h>
#include <stdlib.h>

#define HEAD_BYTES 61U
#define MEMORY_BYTES (32U << 20)
#define META_BYTES_MAX 4096U

struct utl_revisions {
    struct utl_source *source; /* borrowed */
    struct utl_revisions_options options;
    struct buf *why; /* of open */
    struct store_view *view;
    struct utl_sort *sort;
    struct buf packed; /* scratch */
    struct progress progress;
    uint64_t read_bytes;
    int64_t current, compacted;
    /* next_live: the newest so far of the key that is being read, and one read too far */
    struct buf held_key;
    struct utl_revision held;
    bool has_held, at_end;
};

/* ---- packing ---- */

static enum status pack(struct buf *out, struct revision revision, bool tombstone,
                        const struct mvcc_kv *kv, size_t record_bytes)
{
    uint8_t *p;
    buf_reset(out);
    enum status st = buf_extend(out, HEAD_BYTES, &p);
    if (st != ST_OK)
        return st;
    put_le32(p, (uint32_t)kv->key.len);
    put_le64(p + 4, (uint64_t)revision.main);
    put_le64(p + 12, (uint64_t)revision.sub);
    put_le64(p + 20, (uint64_t)kv->create_revision);
    put_le64(p + 28, (uint64_t)kv->version);
    put_le64(p + 36, (uint64_t)kv->lease);
    put_le64(p + 44, kv->value.len);
    put_le64(p + 52, record_bytes);
    p[60] = tombstone;
    return buf_append(out, kv->key);
}

static struct utl_revision unpack(struct slice packed)
{
    const uint8_t *p = packed.data;
    return (struct utl_revision){
        .key = slice_make(p + HEAD_BYTES, get_le32(p)),
        .revision = {(int64_t)get_le64(p + 4), (int64_t)get_le64(p + 12)},
        .create_revision = (int64_t)get_le64(p + 20),
        .version = (int64_t)get_le64(p + 28),
        .lease = (int64_t)get_le64(p + 36),
        .value_bytes = get_le64(p + 44),
        .record_bytes = get_le64(p + 52),
        .tombstone = p[60] != 0,
    };
}

static int compare(struct slice a, struct slice b)
{
    struct utl_revision x = unpack(a), y = unpack(b);
    int order = slice_cmp(x.key, y.key);
    return order != 0 ? order : revision_cmp(x.revision, y.revision);
}

/* ---- opening ---- */

static enum status take(void *context, struct revision revision, bool tombstone,
                        struct slice record)
{
    struct utl_revisions *r = context;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    if (st != ST_OK) {
        enum status said = buf_printf(
            r->why, "store '%s': the record of revision %" PRId64 ".%" PRId64 " cannot be decoded",
            r->source->store_path, revision.main, revision.sub);
        (void)said; /* the status is what counts */
        return st;
    }
    r->current = max_i64(r->current, revision.main);
    r->read_bytes += record.len + TOMBSTONE_KEY_BYTES;
    progress_at(&r->progress, r->read_bytes);
    if (r->options.revision > 0 && revision.main > r->options.revision)
        return ST_OK;
    bool wanted = r->options.whole_key ? slice_eq(kv.key, r->options.prefix)
                                       : slice_has_prefix(kv.key, r->options.prefix);
    if (!wanted)
        return ST_OK;
    st = pack(&r->packed, revision, tombstone, &kv, record.len);
    return st == ST_OK ? utl_sort_add(r->sort, buf_slice(&r->packed)) : st;
}

static enum status read_compacted(struct utl_revisions *r)
{
    static const char *const names[] = {"scheduledCompactRev", "finishedCompactRev"};
    struct arena arena;
    enum status st = ST_OK;
    arena_init(&arena, META_BYTES_MAX);
    r->compacted = -1;
    for (size_t i = 0; i < 2 && st == ST_OK; i++) {
        struct slice value;
        struct revision revision;
        bool tombstone;
        st = store_get(r->source->store, BUCKET_META, slice_from_str(names[i]), &arena, &value);
        if (st == ST_OK)
            st = revision_key_decode(value, &revision, &tombstone);
        if (st == ST_OK)
            r->compacted = max_i64(r->compacted, revision.main);
        st = st == ST_NOT_FOUND ? ST_OK : st;
    }
    arena_deinit(&arena);
    return st;
}

static enum status check_revision(struct utl_revisions *r)
{
    int64_t asked = r->options.revision;
    r->current = max_i64(max_i64(r->current, r->compacted), 1);
    if (asked <= 0 || (asked >= r->compacted && asked <= r->current))
        return ST_OK;
    enum status st = asked > r->current ? ST_FUTURE : ST_COMPACTED;
    enum status said = buf_printf(
        r->why,
        "revision %" PRId64 " %s; the current one is %" PRId64 ", the compacted one %" PRId64,
        asked, st == ST_FUTURE ? "lies in the future" : "has been compacted", r->current,
        r->compacted);
    (void)said; /* the status is what counts */
    return st;
}

static enum status open_revisions(struct utl_revisions *r)
{
    size_t memory = r->options.memory_bytes == 0 ? MEMORY_BYTES : r->options.memory_bytes;
    buf_init(&r->packed, UINT32_MAX);
    buf_init(&r->held_key, UINT32_MAX);
    enum status st = utl_sort_new(memory, compare, &r->sort);
    if (st == ST_OK)
        st = read_compacted(r);
    if (st != ST_OK)
        return st;
    lock_acquire(r->source->lock);
    r->view = store_view_acquire(r->source->store, UTL_SOURCE_READER);
    lock_release(r->source->lock);
    progress_begin(&r->progress, clock_real(), "reading", r->source->stat.in_use_bytes);
    st = store_view_each(r->view, (struct revision){0, 0}, take, r);
    progress_end(&r->progress);
    if (st == ST_OK)
        st = check_revision(r);
    return st == ST_OK ? utl_sort_finish(r->sort) : st;
}

enum status utl_revisions_open(struct utl_source *source,
                               const struct utl_revisions_options *options, struct buf *why,
                               struct utl_revisions **out)
{
    *out = NULL;
    struct utl_revisions *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return ST_NO_MEMORY;
    r->source = source;
    r->options = *options;
    r->why = why;
    enum status st = open_revisions(r);
    if (st == ST_CORRUPT && why->len == 0 && utl_source_check_store(source, why) == ST_OK)
        why->len = 0;
    if (st != ST_OK && why->len == 0) {
        enum status said =
            buf_printf(why, "store '%s': cannot be read: %s", source->store_path, status_str(st));
        (void)said; /* the status is what counts */
    }
    if (st == ST_OK)
        *out = r;
    else
        utl_revisions_close(r);
    return st;
}

void utl_revisions_close(struct utl_revisions *r)
{
    if (r == NULL)
        return;
    if (r->view != NULL)
        store_view_release(r->view);
    utl_sort_free(r->sort);
    buf_deinit(&r->packed);
    buf_deinit(&r->held_key);
    free(r);
}

/* ---- giving ---- */

enum status utl_revisions_next(struct utl_revisions *r, struct utl_revision *out)
{
    struct slice packed;
    enum status st = utl_sort_next(r->sort, &packed);
    if (st == ST_OK)
        *out = unpack(packed);
    return st;
}

static enum status hold(struct utl_revisions *r, const struct utl_revision *revision)
{
    buf_reset(&r->held_key);
    enum status st = buf_append(&r->held_key, revision->key);
    r->held = *revision;
    r->has_held = st == ST_OK;
    return st;
}

/* The newest revision of the next key; *out's key is in r->packed. */
static enum status next_newest(struct utl_revisions *r, struct utl_revision *out)
{
    struct utl_revision next;
    enum status st = r->at_end ? ST_NOT_FOUND : ST_OK;
    if (!r->has_held && st == ST_OK) {
        st = utl_revisions_next(r, &next);
        if (st == ST_OK)
            st = hold(r, &next);
    }
    while (st == ST_OK) {
        st = utl_revisions_next(r, &next);
        if (st == ST_OK && !slice_eq(next.key, buf_slice(&r->held_key)))
            break;
        if (st == ST_OK)
            r->held = next;
    }
    r->at_end = st == ST_NOT_FOUND;
    if ((st != ST_OK && st != ST_NOT_FOUND) || !r->has_held)
        return st;
    buf_reset(&r->packed);
    enum status copied = buf_append(&r->packed, buf_slice(&r->held_key));
    *out = r->held;
    out->key = buf_slice(&r->packed);
    r->has_held = false;
    if (copied == ST_OK && st == ST_OK)
        copied = hold(r, &next);
    return copied;
}

enum status utl_revisions_next_live(struct utl_revisions *r, struct utl_revision *out)
{
    enum status st = next_newest(r, out);
    while (st == ST_OK && out->tombstone)
        st = next_newest(r, out);
    return st;
}

enum status utl_revisions_record(struct utl_revisions *r, struct revision revision,
                                 struct slice *out)
{
    bool is_stable;
    return store_view_get(r->view, revision, out, &is_stable);
}

int64_t utl_revisions_current(const struct utl_revisions *r)
{
    return r->current;
}

int64_t utl_revisions_compacted(const struct utl_revisions *r)
{
    return r->compacted;
}
