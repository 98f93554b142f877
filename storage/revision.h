/* storage/revision.h - etcd's revisions and their keys in BUCKET_KEY: 8 bytes main big-endian, '_',
 * 8 bytes sub big-endian; a tombstone's key has an 18th byte 't'. */
#ifndef STORAGE_REVISION_H
#define STORAGE_REVISION_H
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define REVISION_KEY_BYTES 17U
#define TOMBSTONE_KEY_BYTES 18U

struct revision {
    int64_t main; /* one per transaction that changed something */
    int64_t sub;  /* counts the changes of one transaction from 0 */
};

static inline int revision_cmp(struct revision a, struct revision b)
{
    if (a.main != b.main)
        return a.main < b.main ? -1 : 1;
    return a.sub < b.sub ? -1 : a.sub > b.sub;
}

/* Writes the key and returns its size. */
size_t revision_key_encode(struct revision revision, bool tombstone,
                           uint8_t out[TOMBSTONE_KEY_BYTES]);
/* Errors: ST_CORRUPT (length, separator, marker, or a negative number). */
CHECKED enum status revision_key_decode(struct slice key, struct revision *out,
                                        bool *tombstone_out);
#endif
