/* storage/index_history.h - every superseded revision of every key, in the order in which they were
 * superseded, in one queue of 24-byte items. Each item links to the revision of the same key before
 * it and, further back, to one that a search can jump to (the skip pointers of Myers, "An
 * applicative random-access stack", 1983), so a key with a million revisions costs one item to
 * append to and about forty steps to search.
 *
 * Compaction at C drops from the front every item whose superseding revision is <= C: no key is
 * looked up, and what it costs is what was superseded. Links into the dropped part are simply dead.
 *
 * Tombstones stand in a second queue in order of revision: one below C goes even when nothing
 * superseded it, and then its key goes with it. Not thread-safe; the index's lock guards it. */
#ifndef STORAGE_INDEX_HISTORY_H
#define STORAGE_INDEX_HISTORY_H
#include "base/status.h"
#include "storage/revision.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An item keeps main in 58 bits beside its flags. A revision counter reaches 2^58 after nine
 * thousand years of a million transactions a second; a file that claims more is damaged. */
#define INDEX_MAIN_MAX ((INT64_C(1) << 58) - 1)
/* A transaction's changes; each is a key in memory, so four billion do not fit one. */
#define INDEX_SUB_MAX ((int64_t)UINT32_MAX)

/* ---- a queue of fixed-size items in chunks; items keep their position (from 1) for ever ---- */

struct chunk_queue {
    uint8_t **chunks;       /* owned; chunk of position p at [p / CHUNK_ITEMS - first_chunk] */
    size_t count, capacity; /* chunks */
    uint64_t first_chunk;   /* number of chunks[0] */
    uint64_t first, end;    /* positions [first, end) are held */
};

/* ---- superseded revisions ---- */

struct history_item {
    uint64_t main_and_flags; /* main << 6 | jump size class << 1 | tombstone */
    uint32_t sub;
    uint32_t age;      /* superseding main - main; UINT32_MAX: the next item tells it in full */
    uint32_t previous; /* how many items back; 0: none */
    uint32_t jump;     /* how many items back; 0: none */
};

struct history {
    struct chunk_queue superseded; /* struct history_item */
    struct chunk_queue tombstones; /* struct history_tombstone */
};

struct history_tombstone {
    uint64_t main;
    uint32_t sub;
    uint32_t unused;
    uint8_t *record; /* the key's record while this is its newest revision, else NULL */
};

struct history_entry {
    struct revision revision;
    bool tombstone;
    int64_t superseded_by; /* main */
    uint64_t previous;     /* position, 0 for none */
};

void index_history_init(struct history *history);
void index_history_deinit(struct history *history);
size_t index_history_bytes(const struct history *history);

/* Makes room for one append and one tombstone. Errors: ST_NO_MEMORY. */
CHECKED enum status index_history_reserve(struct history *history);
/* Appends a superseded revision; previous is the position before it in its key's chain. Returns its
 * position. Room must have been reserved. */
uint64_t index_history_append(struct history *history, const struct history_entry *entry);
/* False when the position is 0 or was dropped. */
bool index_history_get(const struct history *history, uint64_t position, struct history_entry *out);
/* Position of the newest item at or before main, in the chain that begins at position; 0 if none is
 * held. */
uint64_t index_history_find(const struct history *history, uint64_t position, int64_t main);

uint64_t index_history_first(const struct history *history);
uint64_t index_history_end(const struct history *history);
/* The position after this one: an item with a full-length superseding revision takes two. */
uint64_t index_history_next(const struct history *history, uint64_t position);
void index_history_drop_to(struct history *history,
                           uint64_t position); /* position becomes the first */
/* For the checkpoint: items as they are. Loading begins with index_history_start_at(), on an empty
 * history; room must have been reserved for each. Links only ever lead back, so a damaged item
 * cannot make a search endless. */
const struct history_item *index_history_item_at(const struct history *history, uint64_t position);
void index_history_start_at(struct history *history, uint64_t first);
void index_history_load_item(struct history *history, const struct history_item *item);

/* Room must have been reserved; revisions come in order. */
void index_history_add_tombstone(struct history *history, struct revision revision,
                                 uint8_t *record);
/* The tombstone is no longer its key's newest revision. */
void index_history_forget_record(struct history *history, struct revision revision);
size_t index_history_tombstones_count(const struct history *history);
const struct history_tombstone *index_history_tombstone_at(const struct history *history, size_t i);
void index_history_drop_tombstones(struct history *history, size_t count); /* from the front */
#endif
