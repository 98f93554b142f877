/* storage/index.h - from keys to revisions, in memory: a B+tree of packed key records over the
 * history of superseded revisions. Holds no values and knows no store.
 *
 * Threads: one writer (the apply actor) calls everything; it alone changes the index, and does so
 * with the lock held. Readers hold the lock around whatever they call, for a bounded number of
 * keys. What the writer only reads needs no lock. Nothing here takes the lock itself. */
#ifndef STORAGE_INDEX_H
#define STORAGE_INDEX_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "storage/index_history.h"
#include "storage/index_record.h"
#include "storage/revision.h"

#include <stdbool.h>
#include <stdint.h>

#define INDEX_DEPTH_MAX 16U /* nodes hold 64, half full at least where neighbours could merge */

struct index;
struct index_node;

CHECKED enum status index_new(struct index **out); /* ST_NO_MEMORY */
void index_free(struct index *index);              /* NULL is fine */

/* ---- looking ---- */

/* Where a key is or would be; valid until the next change. */
struct index_path {
    struct index_node *nodes[INDEX_DEPTH_MAX]; /* root first */
    uint16_t slots[INDEX_DEPTH_MAX];
    uint32_t depth;
};

/* What the index holds of key, deleted or not; borrowed until the next change. False: nothing. */
bool index_get(const struct index *index, struct slice key, struct index_record *out);
/* The live revision of a record at a revision: the newest with main <= at, unless that is a
 * tombstone or there is none. */
bool index_revision_at(const struct index *index, const struct index_record *record, int64_t at,
                       struct revision *out);
/* The same by key. */
bool index_find(const struct index *index, struct slice key, int64_t at, struct revision *out);

/* Walks records in key order, deleted ones too. False past the end. */
bool index_seek(const struct index *index, struct slice key, struct index_path *path);
bool index_next(struct index_path *path);
void index_at(const struct index_path *path, struct index_record *out);

/* Live keys in [from, to) now, from counts kept in the tree: logarithmic. has_to false: no upper
 * end. */
uint64_t index_count(const struct index *index, struct slice from, bool has_to, struct slice to);

/* ---- changing: the writer, with the lock held ---- */

/* A change prepared: every allocation it needs was made. */
struct index_change {
    struct index_path path;
    uint8_t *packed; /* owned until commit or abandon */
    bool known;      /* the key has a record */
    bool was_live;
    struct index_record before; /* if known */
    struct index_record after;
};

/* Prepares key's next revision; version 0 makes it a tombstone. key is borrowed until commit.
 * Between prepare and its commit or abandon nothing else may change. Errors: ST_NO_MEMORY, then
 * nothing happened; ST_CORRUPT when revision is over the index's limits or not above the key's
 * newest. */
CHECKED enum status index_prepare(struct index *index, struct slice key, struct revision revision,
                                  int64_t create_revision, int64_t version,
                                  struct index_change *out);
void index_commit(struct index *index, struct index_change *change);
void index_abandon(struct index_change *change);

/* ---- compaction ---- */

struct index_dead {
    struct revision revision;
    bool tombstone;
};

/* A bounded step of compaction at `at`, looked at before it is taken. */
struct index_trim {
    uint64_t position; /* superseded revisions before it go */
    size_t tombstones; /* so many of the oldest tombstones go */
    size_t dead_count;
};
/* Finds what goes next, at most max items; dead gets the revisions to delete from the store.
 * Nothing to do: both counts of *out are 0 and position is index_history_first(). */
void index_trim_peek(const struct index *index, int64_t at, size_t max, struct index_dead *dead,
                     struct index_trim *out);
bool index_trim_is_empty(const struct index *index, const struct index_trim *trim);
/* Takes the step. With the lock held. */
void index_trim_take(struct index *index, const struct index_trim *trim);

/* ---- the checkpoint's way in and out ---- */

struct history *index_history(struct index *index);
/* Adds a key as it was saved; keys come in ascending order. Tombstones are to be enlisted after the
 * last by index_load_tombstones(), which leaves out those below trimmed: they were dealt with. */
CHECKED enum status index_load(struct index *index, const struct index_record *record);
CHECKED enum status index_load_tombstones(struct index *index, int64_t trimmed);
/* Changes the life of a key's newest revision. Errors: ST_NOT_FOUND, ST_NO_MEMORY; ST_CORRUPT when
 * the key is deleted or cannot have lived so. */
CHECKED enum status index_set_life(struct index *index, struct slice key, int64_t create_revision,
                                   int64_t version);

/* ---- upkeep ---- */

struct index_stat {
    uint64_t keys_count; /* records, deleted keys that still have one too */
    uint64_t live_count;
    uint64_t superseded_count, tombstones_count;
    uint64_t bytes; /* heap, with malloc's own overhead */
};
void index_get_stat(const struct index *index, struct index_stat *out);
/* Walks it all: order, prefixes, slices, counts, links. A line in *report for each fault;
 * ST_CORRUPT when there are any. */
CHECKED enum status index_check(const struct index *index, struct buf *report);
#endif
