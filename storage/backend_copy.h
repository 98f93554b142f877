/* storage/backend_copy.h - copies what a backend has committed, record by record, into a fresh one
 * of any kind: pages that nothing uses, and the order in which time left them, stay behind.
 *
 * A step copies a chunk, from a snapshot of its own, so that other work goes on between the steps:
 * revisions that were committed meanwhile are simply further on in the walk. Nothing may be deleted
 * from BUCKET_KEY meanwhile. The last chunk, the small buckets and the mark come from one snapshot
 * and go into one transaction. The writer's thread of both. */
#ifndef STORAGE_BACKEND_COPY_H
#define STORAGE_BACKEND_COPY_H
#include "storage/backend.h"
#include "storage/revision.h"

struct backend_copy {
    struct backend *from, *to;             /* borrowed; to is fresh */
    struct backend_snapshot *snapshot;     /* of this chunk */
    uint8_t last_key[TOMBSTONE_KEY_BYTES]; /* copied so far */
    size_t last_key_len;                   /* 0: nothing yet */
    uint64_t bytes;                        /* of keys and values copied */
    bool at_end;
};

static inline struct backend_copy backend_copy_new(struct backend *from, struct backend *to)
{
    return (struct backend_copy){.from = from, .to = to};
}
/* Copies and commits a chunk. With at_end, to holds everything, durably. Errors: the two backends';
 * to is of no use then. */
CHECKED enum status backend_copy_step(struct backend_copy *copy);
#endif
