/* storage/generation.h - applied changes on their way to the backend: revisions in the order they
 * were appended, and the changed records of the small buckets.
 *
 * Threads: apply adds; generation_find() and generation_at() may run on any thread meanwhile: a
 * record is complete before records_count counts it. The small buckets are read by apply alone, and
 * by the writer once the generation is sealed (handed over under the store's lock). */
#ifndef STORAGE_GENERATION_H
#define STORAGE_GENERATION_H
#include "base/arena.h"
#include "base/rng.h"
#include "storage/backend.h"
#include "storage/limits.h"
#include "storage/revision.h"

#include <stdatomic.h>

struct generation_record {
    struct revision revision;
    const uint8_t *data; /* in the generation's arena */
    uint32_t len;        /* bytes */
    bool tombstone;
};

/* A changed record of a small bucket. Ordered by key. */
struct small_node {
    struct slice key;
    uint8_t *value;
    size_t value_len, value_capacity;
    bool deleted;
    struct small_node *next[];
};

struct small_map {
    struct small_node *head; /* NULL while empty: a node without a key, of all levels */
};

struct generation {
    uint64_t number; /* 1, 2, 3, ...: the order of sealing */
    _Atomic size_t records_count;
    struct generation_record *chunks[GENERATION_CHUNKS_MAX];
    struct arena arena;
    struct small_map small[BUCKETS_COUNT];
    struct rng rng;         /* levels of the skip lists */
    size_t bytes;           /* counted against OVERLAY_BYTES_MAX */
    uint64_t ops_count;     /* changes and entries */
    uint64_t entries_count; /* ended in here */
    uint64_t began_ns;      /* monotonic, of the first change; 0: none yet */
    struct store_mark mark; /* set when sealed; conf_state in the arena */
};

struct generation *generation_new(uint64_t number);  /* NULL without memory */
void generation_free(struct generation *generation); /* NULL is fine */

/* Copies the record. revision is above every one before. Errors: ST_NO_MEMORY. */
CHECKED enum status generation_append(struct generation *generation, struct revision revision,
                                      bool tombstone, struct slice record);
/* Sets or, with deleted, marks as deleted. Copies. Errors: ST_NO_MEMORY. */
CHECKED enum status generation_change(struct generation *generation, enum bucket bucket,
                                      struct slice key, struct slice value, bool deleted);

/* Record at revision or NULL. Any thread; valid as long as the generation. */
const struct generation_record *generation_find(const struct generation *generation,
                                                struct revision revision);
size_t generation_count(const struct generation *generation);
/* index < generation_count(). */
const struct generation_record *generation_at(const struct generation *generation, size_t index);
/* Index of the first record at or above revision; generation_count() if none. */
size_t generation_lower_bound(const struct generation *generation, struct revision revision);

/* The change of this key or NULL. */
const struct small_node *generation_small(const struct generation *generation, enum bucket bucket,
                                          struct slice key);
/* First change of the bucket, or NULL; go on with ->next[0]. */
const struct small_node *generation_small_first(const struct generation *generation,
                                                enum bucket bucket);
#endif
