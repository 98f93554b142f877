/* storage/mvcc_private.h - the key space's inside, shared by mvcc*.c.
 *
 * A write goes store first, index second, publication last: a reader that finds a revision in the
 * index finds its record in the store, and one that reads at the current revision finds nothing of
 * a transaction that has not ended. */
#ifndef STORAGE_MVCC_PRIVATE_H
#define STORAGE_MVCC_PRIVATE_H
#include "base/buf.h"
#include "base/lock.h"
#include "storage/index.h"
#include "storage/limits.h"
#include "storage/mvcc.h"

#include <stdatomic.h>

#define MVCC_UNPINNED INT64_MAX

#define MVCC_META_SCHEDULED "scheduledCompactRev" /* etcd's names in its bucket meta */
#define MVCC_META_FINISHED "finishedCompactRev"

/* A reader's own. Only its thread uses it, but for pinned, which compaction reads. */
struct mvcc_reader {
    _Alignas(64) _Atomic int64_t pinned;        /* set under the lock; cleared with release */
    _Atomic uint64_t ranges_count;              /* relaxed: a figure */
    uint64_t adoptions_count;                   /* of the open read */
    bool open;                                  /* between mvcc_read_begin() and its end */
    int64_t current_revision, compact_revision; /* of the open read */
    struct revision found[MVCC_CHUNK_KEYS];
    size_t key_ends[MVCC_CHUNK_KEYS]; /* in keys, when keys are wanted */
    uint32_t found_count;
    struct buf keys;
    struct buf resume; /* the key to go on with */
};

struct mvcc {
    struct store *store; /* borrowed */
    struct lock *lock;   /* borrowed */
    struct index *index;
    char *checkpoint_path; /* owned, or NULL */
    uint64_t life_id;
    uint32_t readers_count;
    const struct backend_watch *watch; /* borrowed, or NULL */
    /* Relaxed: figures. */
    _Atomic uint64_t puts_count, deletes_count, txns_count, put_bytes, trimmed_count;
    uint64_t txn_calls;          /* apply's: of the transaction under way */
    int64_t loaded_revision;     /* from the checkpoint at open; 0: none was used */
    struct mvcc_reader *readers; /* readers_count, then apply's, then the checkpoint's */

    /* Written by apply under the lock, read by anyone. */
    _Atomic int64_t current_revision, compact_revision;

    /* Under the lock. */
    uint64_t adoptions_count;       /* how often another state took the place of this one */
    bool unpublished;               /* the index holds changes of the open transaction */
    uint64_t published_history_end; /* the history without those changes */
    int64_t trim_started;           /* the highest revision at which anything was trimmed */
    int64_t trimmed;                /* everything that compaction at this revision takes is gone */

    /* Apply. */
    int64_t finished_revision; /* finishedCompactRev as stored; -1: none */
    bool writing;
    int64_t write_sub; /* changes of the open transaction */
    struct buf write_bytes;
    struct mvcc_change *events; /* write_sub of them; in write_bytes */
    size_t events_capacity;
    struct {
        mvcc_event_fn fn;
        void *context;
    } sinks[MVCC_EVENT_SINKS_MAX];
    uint32_t sinks_count;
    mvcc_changes_fn changes_fn; /* NULL: none */
    void *changes_context;
};

static inline uint32_t mvcc_apply_slot(const struct mvcc *mvcc)
{
    return mvcc->readers_count;
}

static inline uint32_t mvcc_checkpoint_slot(const struct mvcc *mvcc)
{
    return mvcc->readers_count + 1;
}

/* ---- mvcc_read.c ---- */

/* A walk over the index in chunks; each chunk leaves the live revisions it met in the reader. */
struct mvcc_scan {
    struct mvcc *mvcc;
    struct mvcc_reader *reader;
    struct mvcc_range range;
    int64_t at;
    uint64_t adoptions_count; /* when the read began */
    int64_t wanted;           /* revisions still to be collected; INT64_MAX: all */
    bool keys_wanted;         /* keys are collected too */
    bool in_memory;           /* ST_BUSY rather than a look in the backend */
    bool count_known;         /* no need to walk on for the count alone */
    int64_t count;            /* live keys met, unless count_known */
    bool done;
};

/* Begins a scan of range at revision `at`; with the lock held. exact: the tree's own counts are
 * those of `at`. */
void mvcc_scan_begin(struct mvcc_scan *scan, struct mvcc *mvcc, uint32_t reader,
                     const struct mvcc_range *range, int64_t at, bool exact);
/* The next chunk, with the lock held. Errors: ST_NO_MEMORY, ST_COMPACTED (another state has taken
 * the place of the one that the read began in). */
CHECKED enum status mvcc_scan_chunk(struct mvcc_scan *scan);
/* Runs a whole read; the lock is held on entry and not on return. */
CHECKED enum status mvcc_scan_read(struct mvcc_scan *scan, uint32_t view_slot,
                                   const struct mvcc_query *query, mvcc_record_fn fn,
                                   void *context);
/* ST_CORRUPT instead of ST_NOT_FOUND: what the index names must be there. */
CHECKED enum status mvcc_fetch(struct store_view *view, struct revision revision,
                               struct slice *record_out);
/* Pins a reader at revision; with the lock held. */
void mvcc_pin(struct mvcc_reader *reader, int64_t revision);
void mvcc_unpin(struct mvcc_reader *reader);

/* ---- mvcc_walk.c ---- */

/* Walks the store's revisions from `from` on, a bounded number under each view. Stops at the first
 * status other than ST_OK; ST_COMPACTED: another state has taken the place of the one that the
 * reader's open read began in (apply's own walks need none: nothing does meanwhile). */
CHECKED enum status mvcc_walk(struct mvcc *mvcc, uint32_t reader, struct revision from,
                              store_revision_fn fn, void *context);

/* ---- mvcc_checkpoint_load.c ---- */

/* Fills the empty index from the file; compact is the compact revision of the store.
 * *revision_out is what the index then holds; the caller scans what is above. Any error means: not
 * usable, and the index may hold something. */
CHECKED enum status mvcc_checkpoint_load(struct mvcc *mvcc, int64_t compact, int64_t *revision_out);

static inline void mvcc_count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}
#endif
