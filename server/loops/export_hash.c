#include "base/hash.h"
#include "server/loops/snapshots.h"
#include "storage/dbfile/meta_keys.h"

static enum status hash_record(void *context, struct slice key, struct slice value)
{
    struct export_hash *hash = context;
    buf_reset(&hash->last);
    enum status st = buf_append(&hash->last, key);
    if (st != ST_OK)
        return st;
    bool is_mark =
        hash->bucket == BUCKET_META && (slice_eq(key, META_INDEX) || slice_eq(key, META_TERM));
    if (!is_mark)
        hash->crc = crc32c(crc32c(hash->crc, key), value);
    return ST_OK;
}

enum status export_hash_step(struct export_hash *hash, const struct dbfile_source *records,
                             bool *done_out)
{
    *done_out = false;
    if (!hash->named)
        hash->crc = crc32c(hash->crc, slice_from_str(backend_bucket_name(hash->bucket)));
    hash->named = true;
    bool end = false;
    enum status st = records->read(records->context, hash->bucket, buf_slice(&hash->after),
                                   hash_record, hash, &end);
    if (st != ST_OK)
        return st;
    buf_reset(&hash->after);
    if (!end)
        return buf_append(&hash->after, buf_slice(&hash->last));
    buf_reset(&hash->last);
    hash->named = false;
    hash->bucket++;
    *done_out = hash->bucket == BUCKETS_COUNT;
    return ST_OK;
}
