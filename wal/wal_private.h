/* wal/wal_private.h - what the files of the log share. */
#ifndef WAL_WAL_PRIVATE_H
#define WAL_WAL_PRIVATE_H
#include "base/lock.h"
#include "wal/limits.h"
#include "wal/segment.h"
#include "wal/wal.h"

#include <stdatomic.h>

/* A batch being filled, waiting or in flight. One memory block, written to the disk as it is. */
struct wal_batch {
    struct wal_batch *next;
    uint8_t *bytes;       /* owned; aligned for direct i/o */
    size_t capacity, len; /* len: header (reserved at the front) and records so far */
    uint32_t entries_count;
    raft_index first_index, last_index; /* of its entries; 0: none */
    bool resets;   /* a SNAPSHOT that drops the log up to snapshot_index comes first */
    bool restates; /* the newest SNAPSHOT is (also) in here */
    raft_index snapshot_index;
    struct raft_hard_state hard_state; /* as of its last record */
    uint64_t ticket_last;              /* durable with this batch; 0: none ends here */
    struct wal_batch_header header;    /* once submitted */
    struct disk_write write;
};

/* Entries [first, last] lie, consecutive and valid, in the batches from offset on. */
struct wal_extent {
    raft_index first, last;
    struct wal_segment *segment; /* borrowed from wal->segments */
    uint64_t offset;
    bool grows; /* batches that follow on disk belong to it; false once it was cut */
};

enum wal_job_stage {
    WAL_JOB_NONE,
    WAL_JOB_FILL, /* zeros up to job_bytes */
    WAL_JOB_HEAD, /* block 0 and the sync */
    WAL_JOB_NAME, /* the number and the directory's sync */
};

/* Everything here is the preparer's but for the atomics, written by the writer as noted. */
struct wal_preparer {
    struct rng rng;
    struct inbox retired;             /* from the writer: to be recycled or removed */
    struct inbox_node *retired_taken; /* of these, oldest first */
    struct wal_segment *spares[WAL_SPARES_MAX];
    uint32_t spares_count;
    struct wal_segment *job;
    enum wal_job_stage stage;
    uint64_t job_filled, job_bytes;
    uint64_t seq_next, number_next; /* of segments; of spare and part names */
    uint64_t bytes_next;            /* size of the next segment */
    uint64_t chunk_ns;              /* when the last chunk was written */
    uint64_t retry_ns;              /* after ENOSPC: not before */
    uint8_t *zeros;                 /* owned, one chunk; later also block 0 */
    _Atomic enum status status;     /* ST_OK, ST_NO_SPACE, ST_IO; preparer writes, writer reads */
    atomic_uint ready_count;        /* prepared and not yet taken; both write */
    atomic_bool starving;           /* writer: a batch waits for a segment */
    _Atomic uint64_t need_bytes;    /* writer: the next batch's segment needs this much */
    _Atomic uint64_t used, size;    /* writer: of the current segment */
    _Atomic uint64_t commit_ns;     /* writer: median */
    _Atomic uint64_t busy_ns;       /* writer: when a commit last began or ended */
    _Atomic uint64_t prepared_bytes;
    atomic_uint spares_shown;
};

struct wal {
    struct disk *disk;         /* borrowed */
    const struct clock *clock; /* borrowed */
    char *dir;                 /* owned */
    uint64_t life_id;
    uint64_t segment_bytes_first, segment_bytes_max, reserve_bytes;
    enum status status; /* sticky: ST_OK, ST_IO */
    bool read_only;

    struct list_node segments;   /* oldest first; the last one is current unless that is NULL */
    struct wal_segment *current; /* NULL: none fit to write to */
    uint64_t offset;             /* of the next batch in it */
    struct wal_position end;     /* of the last batch written */
    uint64_t durable_no;
    struct inbox ready; /* from the preparer, in order of seq */
    struct inbox_node *ready_taken;

    struct lock *lock;          /* guards extents, first_index, and readers of every segment */
    struct wal_extent *extents; /* by index; owned array */
    uint32_t extents_count, extents_capacity;

    struct raft_hard_state hard_state; /* newest staged */
    struct raft_snapshot_meta snapshot;
    uint64_t snapshot_seq;              /* segment of its newest durable statement; 0: none */
    bool restate;                       /* say it again in the next batch with entries */
    bool has_base;                      /* first_index and last_index mean something */
    raft_index first_index, last_index; /* last_index: newest staged */
    raft_index durable_index, release_index;
    uint64_t ticket_last, ticket_durable;
    bool unclosed; /* a batch was written after the last closing one */

    struct wal_batch *in_flight;
    struct wal_batch *pending, **pending_end; /* oldest first; the last one is open */
    struct wal_batch *pending_last;
    struct wal_batch *pool;
    uint32_t pool_count;
    uint64_t staged_bytes;

    uint64_t submit_ns, active_ns; /* of the batch in flight; when one last began or ended */
    uint64_t commit_times[WAL_COMMIT_TIMES], commit_ns_last, commit_ns_median;
    uint64_t commits_count;
    uint64_t batches_count, entries_count, bytes;

    void (*owner_wake)(void *context);
    void *owner_context;
    void (*preparer_wake)(void *context);
    void *preparer_context;
    struct wal_preparer preparer;
};

/* Room for dir, '/' and a name. Long directories are refused by wal_open(). */
#define WAL_PATH_BYTES 4096U
void wal_path(const struct wal *wal, const char *name, char path[WAL_PATH_BYTES]);

/* ---- stage.c ---- */
/* Adds an empty batch to be written even without records. ST_NO_MEMORY. */
CHECKED enum status wal_stage_empty(struct wal *wal);
/* Moves the oldest pending batch out; it stays the caller's until wal_batch_recycle(). */
struct wal_batch *wal_pending_pop(struct wal *wal);
void wal_batch_recycle(struct wal *wal, struct wal_batch *batch);
void wal_stage_deinit(struct wal *wal);

/* ---- extents, read.c ---- */
/* Entries [first, last] were found or written at offset of segment. ST_NO_MEMORY. */
CHECKED enum status wal_extents_add(struct wal *wal, struct wal_segment *segment, uint64_t offset,
                                    raft_index first, raft_index last);
/* Drops everything at or above index (truncation) or all (a snapshot). */
void wal_extents_cut(struct wal *wal, raft_index index);
/* Drops what lies in segment; false while it is being read. */
bool wal_extents_release(struct wal *wal, const struct wal_segment *segment);

/* ---- recover.c ---- */
CHECKED enum status wal_recover(struct wal *wal, const struct wal_options *options,
                                struct wal_recovered *recovered, struct wal_report *report);

/* ---- preparer.c ---- */
CHECKED enum status wal_preparer_init(struct wal *wal, struct rng *rng);
void wal_preparer_deinit(struct wal *wal);
/* Gives a segment to be recycled. Writer only. */
void wal_preparer_retire(struct wal *wal, struct wal_segment *segment);
void wal_preparer_call(struct wal *wal); /* wakes it */
#endif
