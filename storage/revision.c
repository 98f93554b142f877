#include "storage/revision.h"

#include "base/assert.h"
#include "base/bytes.h"

#define SEPARATOR '_'
#define TOMBSTONE_MARK 't'

size_t revision_key_encode(struct revision revision, bool tombstone,
                           uint8_t out[TOMBSTONE_KEY_BYTES])
{
    ASSERT(revision.main >= 0);
    ASSERT(revision.sub >= 0);
    put_be64(out, (uint64_t)revision.main);
    out[8] = SEPARATOR;
    put_be64(out + 9, (uint64_t)revision.sub);
    if (!tombstone)
        return REVISION_KEY_BYTES;
    out[REVISION_KEY_BYTES] = TOMBSTONE_MARK;
    return TOMBSTONE_KEY_BYTES;
}

enum status revision_key_decode(struct slice key, struct revision *out, bool *tombstone_out)
{
    if (key.len != REVISION_KEY_BYTES && key.len != TOMBSTONE_KEY_BYTES)
        return ST_CORRUPT;
    if (key.data[8] != SEPARATOR)
        return ST_CORRUPT;
    bool tombstone = key.len == TOMBSTONE_KEY_BYTES;
    if (tombstone && key.data[REVISION_KEY_BYTES] != TOMBSTONE_MARK)
        return ST_CORRUPT;
    uint64_t main = get_be64(key.data), sub = get_be64(key.data + 9);
    if (main > INT64_MAX || sub > INT64_MAX)
        return ST_CORRUPT;
    *out = (struct revision){.main = (int64_t)main, .sub = (int64_t)sub};
    *tombstone_out = tombstone;
    return ST_OK;
}
