/* storage/mvcc.h - etcd's multi-version key space: an in-memory index from keys to revisions over
 * the records in the store. One writer (the apply actor), any number of readers that never hold it
 * up: a reader looks in the index under a short lock taken in bounded chunks, then fetches values
 * through a store view without any lock. A read is pinned at its revision against compaction.
 *
 * Records are the exact bytes of mvccpb.KeyValue as etcd encodes it (fields 1..6 in order, zeros
 * left out), so a Range answer embeds them unchanged and hashes agree with etcd's. */
#ifndef STORAGE_MVCC_H
#define STORAGE_MVCC_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "storage/revision.h"
#include "storage/store.h"

#include <stdbool.h>
#include <stdint.h>

struct mvcc;

struct mvcc_options {
    struct store *store;         /* borrowed, open */
    struct lock *lock;           /* borrowed; the same one as the store's */
    const char *checkpoint_path; /* store/index.ckpt, or NULL for none; copied */
    uint64_t life_id;
    uint32_t readers_count; /* slots, as the store's; apply's own comes on top, there as here */
    /* Only keys that it wants are in the index, which needs checkpoint_path to be NULL; NULL: all
     * are. For tools that read the records themselves. */
    bool (*wants)(void *context, struct slice key);
    void *wants_context;
    const struct backend_watch *watch; /* of every walk over all revisions; NULL: nobody. Borrowed
                                          until it closes */
};

/* Builds the index: from the checkpoint where one fits, scanning the revisions above it, else by a
 * full scan. Resumes a compaction that was scheduled but not finished. Errors: ST_CORRUPT, ST_IO,
 * ST_NO_MEMORY. */
CHECKED enum status mvcc_open(const struct mvcc_options *options, struct mvcc **out);
void mvcc_close(struct mvcc *mvcc); /* NULL is fine; readers must have ended */
/* incoming, open over a store of its own that holds a later state, takes the place of mvcc, and its
 * store that of mvcc's (store_adopt()); both are closed here. Reads that are under way end with
 * ST_COMPACTED where the two states would mix. Writer, while apply waits between two entries. */
void mvcc_adopt(struct mvcc *mvcc, struct mvcc *incoming);

/* Decoded head of a record; slices are borrowed from it. */
struct mvcc_kv {
    struct slice key, value;
    int64_t create_revision, mod_revision, version, lease;
};
CHECKED enum status mvcc_kv_decode(struct slice record, struct mvcc_kv *out); /* ST_CORRUPT */
/* The same of whatever may stand in BUCKET_KEY under revision. An empty record is one: etcdutl's
 * --bump-revision leaves it at the revision it goes on from, and etcd takes it for the only version
 * of a key of no bytes, which no request can name; compactions keep it, hashes count it. */
CHECKED enum status mvcc_record_decode(struct slice record, struct revision revision,
                                       bool tombstone, struct mvcc_kv *out); /* ST_CORRUPT */
size_t mvcc_kv_encoded_size(const struct mvcc_kv *kv);
void mvcc_kv_encode(const struct mvcc_kv *kv,
                    uint8_t *out); /* exactly mvcc_kv_encoded_size() bytes */

/* [key, end): end empty = just key; end "\0" = from key on; else half-open; key >= end is the empty
 * range. */
struct mvcc_range {
    struct slice key, end;
};

/* ---- reads: any reader, with its slot ---- */

struct mvcc_query {
    struct mvcc_range range;
    int64_t revision; /* <= 0: current */
    int64_t limit;    /* <= 0: none; counts records given to fn, never the count */
    bool count_only;  /* fn is not called */
    bool in_memory;   /* rather than look for a record in the backend the read ends: ST_BUSY */
};

struct mvcc_result {
    int64_t current_revision; /* of the store, whatever was asked for */
    int64_t compact_revision; /* -1: never */
    int64_t count;            /* live keys in the range at the revision */
};

/* Gets each record in key order. Borrowed for the call (copy what is kept). Stop by a status other
 * than ST_OK. */
typedef enum status (*mvcc_record_fn)(void *context, struct slice record);

/* Errors: ST_COMPACTED, ST_FUTURE (result holds the two revisions then), fn's status, ST_BUSY (of
 * query->in_memory), ST_IO, ST_CORRUPT. */
CHECKED enum status mvcc_read(struct mvcc *mvcc, uint32_t reader, const struct mvcc_query *query,
                              mvcc_record_fn fn, void *context, struct mvcc_result *result);
/* Current and compact revision, consistent with each other. Any thread, no lock. */
void mvcc_revisions(const struct mvcc *mvcc, int64_t *current_out, int64_t *compact_out);
/* A guess of what a read costs, to choose between the poller and a reader thread: keys in range up
 * to at_most, as they are now whatever revision is read. */
CHECKED enum status mvcc_estimate(struct mvcc *mvcc, const struct mvcc_range *range,
                                  uint32_t at_most, uint32_t *keys_out);

/* A multi-range read of one instant (a read-only transaction): every mvcc_read between begin and
 * end sees the same current revision. mvcc_read alone is begin, read, end. */
CHECKED enum status mvcc_read_begin(struct mvcc *mvcc, uint32_t reader, int64_t *current_out,
                                    int64_t *compact_out);
void mvcc_read_end(struct mvcc *mvcc, uint32_t reader);

/* Every change from the main revision `from` on, in order, up to the current revision as it is when
 * this begins; fn must not read meanwhile. Nothing is left out that a compaction might
 * trim while this runs. Errors: ST_COMPACTED (from is below the compact revision; or another state
 * has taken the place of this one meanwhile), fn's status, ST_IO, ST_CORRUPT. */
CHECKED enum status mvcc_history(struct mvcc *mvcc, uint32_t reader, int64_t from,
                                 store_revision_fn fn, void *context, int64_t *current_out,
                                 int64_t *compact_out);

/* ---- writes: the apply actor. One transaction = one main revision if anything changed. ---- */

/* A write that fails (ST_NO_MEMORY, ST_IO, ST_CORRUPT, ST_TOO_BIG of the arena, a status of fn)
 * leaves the transaction half done: the member must stop. */
CHECKED enum status mvcc_write_begin(struct mvcc *mvcc);
/* Reads inside the transaction see its own writes at current + 1. Same errors as mvcc_read().
 * revision <= 0: latest; a positive one is measured by what was there before the transaction.
 * result->current_revision is current + 1 once something was written. fn must not write. */
CHECKED enum status mvcc_write_read(struct mvcc *mvcc, const struct mvcc_query *query,
                                    mvcc_record_fn fn, void *context, struct mvcc_result *result);
/* Puts key. previous_out (may be NULL) gets the record it replaces, in arena; ST_OK with an empty
 * slice if none. lease is stored as given; attaching is the caller's. */
CHECKED enum status mvcc_write_put(struct mvcc *mvcc, struct slice key, struct slice value,
                                   int64_t lease, struct arena *arena, struct slice *previous_out);
/* Deletes every live key of the range. *deleted_out counts them; fn (may be NULL) gets each
 * replaced record. */
CHECKED enum status mvcc_write_delete(struct mvcc *mvcc, const struct mvcc_range *range,
                                      mvcc_record_fn fn, void *context, int64_t *deleted_out);
/* Revision that a write would get now (current + 1), and whether anything was written in this
 * transaction. */
int64_t mvcc_write_revision(const struct mvcc *mvcc, bool *wrote_out);
/* Publishes: readers see the new revision. Never fails: room was taken by the writes. Returns the
 * current revision. */
int64_t mvcc_write_end(struct mvcc *mvcc);

/* Events of the transaction just ended: called from mvcc_write_end() in order. A sink is for good;
 * there is room for MVCC_EVENT_SINKS_MAX, and each event goes to all of them in the order in which
 * they came. */
typedef void (*mvcc_event_fn)(void *context, struct revision revision, bool tombstone,
                              struct slice record);
void mvcc_add_event_sink(struct mvcc *mvcc, mvcc_event_fn fn, void *context);

/* The same of a whole transaction, after them: its revision can be read by now. Borrowed for the
 * call. Without changes: another state has taken the place of the one before (mvcc_adopt(), on that
 * thread, while nobody writes), and revision is its current one; what lies between is not told. */
struct mvcc_change {
    size_t offset, len; /* of the record in bytes */
    bool tombstone;     /* the record is the key alone */
};
struct mvcc_changes {
    int64_t revision;
    struct slice bytes;
    const struct mvcc_change *list; /* by sub-revision */
    size_t count;
};
typedef void (*mvcc_changes_fn)(void *context, const struct mvcc_changes *changes);
/* There is one at most; NULL takes it away, at any time but from the sink. */
void mvcc_set_changes_sink(struct mvcc *mvcc, mvcc_changes_fn fn, void *context);

/* Compaction. Apply: checks and sets the compact revision (stored as scheduledCompactRev with this
 * entry). Errors: ST_COMPACTED, ST_FUTURE. What was superseded is trimmed later by
 * mvcc_compact_step(). */
CHECKED enum status mvcc_compact(struct mvcc *mvcc, int64_t revision);
/* Trims up to a bounded number of superseded revisions; apply calls it between entries while
 * *more_out, and once whenever it wakes (after a commit, a tick): false may also mean that a reader
 * or the store's queue holds the rest back for now. Once all is trimmed and the deletions are
 * committed, finishedCompactRev is put, with the entry that ends next. */
CHECKED enum status mvcc_compact_step(struct mvcc *mvcc, bool *more_out);
/* True once everything below the compact revision is out of the index and scheduled for physical
 * deletion. */
bool mvcc_compact_is_done(const struct mvcc *mvcc);

/* HashKV exactly as etcd computes it, over the state at revision (<= 0: current), by a reader;
 * slow: walks the store. */
CHECKED enum status mvcc_hash_kv(struct mvcc *mvcc, uint32_t reader, int64_t revision,
                                 uint32_t *hash_out, int64_t *current_out, int64_t *compact_out);

/* Index checkpoint: writer actor, every 64 MiB of revisions and at a clean stop (best after the
 * last store_writer_flush(): one above the store's last revision is of no use). Takes the lock in
 * bounded chunks; compaction trims nothing meanwhile. Whatever it returns, the store is none the
 * worse: the next start scans more. Errors: ST_NO_SPACE, ST_IO, ST_NO_MEMORY, ST_TOO_BIG. */
CHECKED enum status mvcc_checkpoint(struct mvcc *mvcc);

struct mvcc_stat {
    int64_t current_revision, compact_revision;
    uint64_t keys_count;       /* live keys */
    uint64_t index_bytes;      /* of the index in memory */
    int64_t loaded_revision;   /* of the checkpoint that open used; 0: it scanned everything */
    uint64_t superseded_count; /* revisions that a compaction at the current one could trim */
    /* Calls since open. */
    uint64_t ranges_count, puts_count, deletes_count;
    uint64_t txns_count;    /* transactions of more than one call */
    uint64_t put_bytes;     /* of keys and values */
    uint64_t trimmed_count; /* revisions that compactions scheduled for deletion, since open */
};
void mvcc_get_stat(struct mvcc *mvcc, struct mvcc_stat *out);

/* Walks everything and compares index with store; for tests, tools and debug builds. ST_CORRUPT
 * with a line each. */
CHECKED enum status mvcc_check(struct mvcc *mvcc, struct buf *report);
#endif
