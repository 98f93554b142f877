/* wal/wal.h - the durable log: entries, hard state and snapshot marks in segments of checksummed,
 * chained batches. One batch is one group commit: one durable device write. The writer never
 * blocks: a batch is submitted to the disk and its completion comes back by wal_poll(). Preparing
 * and recycling segments is the preparer's, which runs apart (its own thread, or a step of the
 * simulator) and at a limited rate.
 *
 * Threads: everything named wal_* by one thread (the consensus actor); wal_preparer_step() by one
 * other. */
#ifndef WAL_WAL_H
#define WAL_WAL_H
#include "base/clock.h"
#include "base/disk.h"
#include "base/rng.h"
#include "base/status.h"
#include "raft/types.h"

#include <stdbool.h>
#include <stdint.h>

struct wal;

struct wal_options {
    struct disk *disk;         /* borrowed; outlives the wal */
    const struct clock *clock; /* borrowed */
    struct rng *rng;           /* borrowed; segment seeds. Real servers seed it from the system */
    const char *dir;           /* <data-dir>/member/wal or --wal-dir; exists or is made */
    uint64_t life_id;          /* must match what is found */
    bool create;               /* a new log: the directory must hold no segment (ST_EXISTS) */
    struct raft_log_id store_mark; /* the store's mark: a log that ends before it, lacks it, or has
                                      another term there is damage */
    uint64_t segment_bytes_first;  /* 0: the default (4 MiB); multiples of DISK_BLOCK_BYTES */
    uint64_t segment_bytes_max;    /* 0: the default (64 MiB) */
    bool read_only; /* tools: nothing is made, written, synced or removed, and then only wal_read(),
                       wal_get_stat() and wal_close() may be called. Damage is no refusal: it is the
                       report's verdict, and what comes before it can be read */
    bool mark_is_unknown;   /* with read_only: the log is judged by itself alone */
    uint64_t reserve_bytes; /* of the disk, left to the store that shares it: a new segment is
                               made only while this much stays free */
};

/* What recovery found, in words for the operator when it refuses. */
struct wal_report {
    enum status verdict;                  /* wal_open()'s, but for read_only its result too */
    char text[1024];                      /* what, where, and the ways out; "" when all is well */
    bool torn_tail;                       /* a torn tail was cut: normal after a crash */
    raft_index damage_first, damage_last; /* entries that cannot be trusted, 0 when none */
    uint64_t segments_count, batches_count, bytes;
};

struct wal_recovered {
    struct raft_hard_state hard_state;
    struct raft_snapshot_meta snapshot; /* newest SNAPSHOT record; last.index 0 when none */
    raft_index first_index, last_index; /* entries held; last < first: none */
};

/* Recovers and continues in a fresh segment. Errors: ST_CORRUPT (damaged middle; report says which
 * entries), ST_INVALID (another life id, a foreign file), ST_EXISTS, ST_NOT_FOUND, ST_NO_SPACE,
 * ST_IO. report is always filled. */
CHECKED enum status wal_open(const struct wal_options *options, struct wal **out,
                             struct wal_recovered *recovered, struct wal_report *report);
void wal_close(struct wal *wal); /* after wal_finish() when stopping cleanly; NULL is fine */

/* For tools that do not know whose log is in dir: the life id of the newest segment whose head is
 * sound. Errors: ST_NOT_FOUND (there is none), ST_NO_MEMORY, ST_IO. */
CHECKED enum status wal_find_life(struct disk *disk, const char *dir, uint64_t *life_id_out);

/* Reads entries [first, last] back, payloads included (each with one reference for the caller):
 * restart, and later slow followers. Stops early at bytes_max but gives at least one. Blocking; for
 * start-up and a reader thread. Errors: ST_COMPACTED (released), ST_NOT_FOUND (beyond the end),
 * ST_CORRUPT, ST_IO, ST_NO_MEMORY. */
CHECKED enum status wal_read(struct wal *wal, raft_index first, raft_index last, uint64_t bytes_max,
                             struct raft_entry *entries_out, uint32_t *count_out);

/* ---- the hot path ---- */

struct wal_append {
    const struct raft_entry
        *entries; /* consecutive; first at or below the last one held: truncates from there */
    uint32_t entries_count;
    const struct raft_hard_state *hard_state;  /* NULL: unchanged */
    const struct raft_snapshot_meta *snapshot; /* NULL: none */
};

/* Stages work into the next batch; *ticket_out grows by one for each call. Payloads are copied.
 * Work that changes nothing but the commit index forces no write: it is done when what was staged
 * before it is. Errors (nothing staged then): ST_NO_MEMORY, ST_TOO_BIG (one entry over the limit),
 * ST_NO_SPACE (too much is staged while the disk is full: again later), ST_IO. */
CHECKED enum status wal_append(struct wal *wal, const struct wal_append *append,
                               uint64_t *ticket_out);
/* Takes completions and, when no batch is in flight and something is staged, submits all of it as
 * the next batch. *durable_ticket_out: everything staged up to it is durable (set whatever the
 * status). ST_IO is for ever. ST_NO_SPACE: the next batch has no room and the disk is full; what is
 * staged stays staged and goes when the preparer has found room (the owner's wake is called then).
 * Never blocks. */
CHECKED enum status wal_poll(struct wal *wal, uint64_t *durable_ticket_out);
/* Writes the empty closing batch when nothing has been written for long enough (it marks the one
 * before as durable). Returns the time at which to call again, UINT64_MAX for never (nothing to
 * close). */
uint64_t wal_idle(struct wal *wal, uint64_t now_ns);
/* Clean stop: submits and waits for everything staged and a closing batch. Blocks. The preparer's
 * thread must have ended: its steps are taken here if room is needed. ST_NO_SPACE, ST_IO. */
CHECKED enum status wal_finish(struct wal *wal);

/* Segments wholly below index are no longer needed by the store; up to 4 of them are kept for
 * followers, the rest is recycled. */
void wal_release(struct wal *wal, raft_index index);
/* Gives up those kept for followers too: the disk is short of room. */
void wal_shrink(struct wal *wal);

struct wal_stat {
    uint64_t batches_count, entries_count, bytes; /* written since open, padding included */
    uint64_t segments_count, spares_count;
    uint64_t prepared_bytes;                   /* written by the preparer since open */
    uint64_t commit_ns_last, commit_ns_median; /* submit to completion; median of the last 9 */
    uint64_t in_flight_since_ns;               /* 0: nothing in flight */
    raft_index first_index, last_index, durable_index;
};
void wal_get_stat(const struct wal *wal, struct wal_stat *out);

/* ---- the preparer ---- */

/* Does a bounded piece of work (one chunk of zeros, one sync, one rename, one removal) and returns
 * when to call again; UINT64_MAX: wait for the preparer's wake. Errors
 * stay inside: they show as a missing spare (ST_NO_SPACE) or, for a failed sync, as ST_IO of
 * wal_poll(). */
uint64_t wal_preparer_step(struct wal *wal, uint64_t now_ns);
/* Both are set before any thread runs. The preparer is woken (by the owner's thread) when there is
 * work for it; the owner (by the preparer's thread) when room or a failure awaits its wal_poll().
 */
void wal_set_preparer_wake(struct wal *wal, void (*wake)(void *context), void *context);
void wal_set_owner_wake(struct wal *wal, void (*wake)(void *context), void *context);
#endif
