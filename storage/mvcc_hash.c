#include "base/assert.h"
#include "base/hash.h"
#include "storage/mvcc_private.h"

struct hashing {
    struct mvcc *mvcc;
    int64_t revision, compact;
    int64_t kept_at;
    uint32_t crc;
};

/* Below the compact revision a record counts only if compaction at kept_at would keep it: members
 * that have deleted more or less so far must agree. */
static bool is_kept(struct hashing *h, struct revision revision, struct slice key)
{
    struct revision newest;
    lock_acquire(h->mvcc->lock);
    bool live = index_find(h->mvcc->index, key, h->kept_at, &newest);
    lock_release(h->mvcc->lock);
    return live && revision_cmp(newest, revision) == 0;
}

static enum status stop_at_first(void *context, struct slice record)
{
    (void)record;
    *(bool *)context = true;
    return ST_EXISTS;
}

/* etcd asks what compaction at the hashed revision would keep, but skips nothing when the answer is
 * "no key at all" (kvHasher.WriteKeyValue: len(keep) > 0). Then what counts is what the compaction
 * that was done has left, so kept_at is its revision. */
static enum status choose_kept_at(struct hashing *h, uint32_t reader)
{
    bool found = false;
    struct mvcc_query query = {
        .range = {SLICE_EMPTY, SLICE("\0")}, .revision = h->revision, .limit = 1};
    struct mvcc_result result;
    enum status st = mvcc_read(h->mvcc, reader, &query, stop_at_first, &found, &result);
    h->kept_at = found ? h->revision : h->compact;
    return found ? ST_OK : st;
}

static enum status hash_record(void *context, struct revision revision, bool tombstone,
                               struct slice record)
{
    struct hashing *h = context;
    if (revision.main > h->revision)
        return ST_NOT_FOUND; /* past the end */
    if (revision.main <= h->compact) {
        struct mvcc_kv kv;
        enum status st = mvcc_record_decode(record, revision, tombstone, &kv);
        if (st != ST_OK)
            return st;
        if (tombstone || !is_kept(h, revision, kv.key))
            return ST_OK;
    }
    uint8_t key[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode(revision, tombstone, key);
    h->crc = crc32c(crc32c(h->crc, slice_make(key, size)), record);
    return ST_OK;
}

enum status mvcc_hash_kv(struct mvcc *mvcc, uint32_t reader, int64_t revision, uint32_t *hash_out,
                         int64_t *current_out, int64_t *compact_out)
{
    int64_t current, compact;
    /* Pinned at the compact revision: everything above it is hashed, superseded or not. */
    enum status st = mvcc_read_begin(mvcc, reader, &current, &compact);
    if (st != ST_OK)
        return st;
    *current_out = current;
    *compact_out = compact;
    struct hashing h = {.mvcc = mvcc,
                        .revision = revision > 0 ? revision : current,
                        .compact = compact,
                        .crc = crc32c(0, slice_from_str(backend_bucket_name(BUCKET_KEY)))};
    if (h.revision > current)
        st = ST_FUTURE;
    else if (h.revision < compact)
        st = ST_COMPACTED;
    else
        st = choose_kept_at(&h, reader);
    if (st == ST_OK)
        st = mvcc_walk(mvcc, reader, (struct revision){0, 0}, hash_record, &h);
    mvcc_read_end(mvcc, reader);
    *hash_out = h.crc;
    return st == ST_NOT_FOUND ? ST_OK : st;
}
