/* storage/limits.h - every bound of this room, with unit and reason. */
#ifndef STORAGE_LIMITS_H
#define STORAGE_LIMITS_H

/* ---- store ---- */
#define OVERLAY_BYTES_MAX (128U << 20) /* both generations; above it apply waits for the writer */
#define SEAL_OPS_MIN 1000U             /* fewer a commit doubles the bytes written per put */
#define SEAL_INTERVAL_MS_MIN 500U      /* between timed commits on a fast disk */
#define SEAL_SYNCS_FACTOR                                                    \
    50U /* or this many median commits: then the store costs 2 % of the disk \
         */
#define SEAL_BYTES (16U << 20) /* sealed at once: a commit of this size is still short */
#define COMMIT_TIMES_COUNT 9U  /* commits whose median stands for "a sync" */

#define FORGET_BATCH_OPS 1000U        /* deletions between two looks at the clock */
#define FORGET_OPS_MAX 10000U         /* deletions in one commit: under 5 ms on a warm tree */
#define FORGET_OPS_MIN 10U            /* and at least, where a full disk has room for few */
#define FORGET_MS_MAX 5U              /* time they may take in one commit */
#define FORGET_PENDING_MAX (1U << 20) /* queued deletions; 17 MiB */

#define DEFRAGMENT_CHUNK_BYTES                                        \
    (4U << 20) /* copied between two looks at the writer's other work \
                */

#define ROOM_FACTOR \
    2U /* of a change's bytes, that it may take of the disk: LMDB's pages, SQLite's log */
#define ROOM_BYTES_LEAST \
    (2ULL << 20)                     /* less counts as none: more than etcd lets one request have */
#define ROOM_BYTES_KEPT (4ULL << 20) /* for commits and deletions when nothing else is let in */

#define PIN_BYTES_MAX (256ULL << 20) /* copies of the small buckets: a million leases fit */

/* ---- key space ---- */
#define MVCC_CHUNK_KEYS 128U    /* keys a reader visits in one hold of the lock: about 25 us */
#define MVCC_WALK_RECORDS 4096U /* records read under one view: far below its 100 ms */
#define MVCC_TRIM_ITEMS 1000U   /* superseded revisions in one compaction step; etcd's batch */
#define MVCC_EVENT_SINKS_MAX 4U /* leases, watches, and those of a test */
#define MVCC_WRITE_BYTES_KEPT (1U << 20) /* a transaction's buffer is kept up to this size */

/* ---- generation ---- */
#define GENERATION_CHUNK_RECORDS 4096U /* 128 KiB of record heads */
#define GENERATION_CHUNKS_MAX 2048U    /* 8 million records: above what OVERLAY_BYTES_MAX admits */
#define GENERATION_ARENA_BYTES_MAX (1ULL << 30)
#define GENERATION_RECORD_BYTES 48U /* counted for each record besides its bytes */
#define SMALL_MAP_LEVELS 16U        /* skip list: 4^16 records */

/* ---- backend ---- */
#define GROWTH_BYTES_RECORD 128U /* of an LMDB file, by one record besides its bytes */
#define GROWTH_PAGES_PATH 5U     /* from the root to a record and its new neighbour */
#define GROWTH_PAGES_COMMIT 64U  /* by a commit besides: mark, roots, the free list's own */
#define GROWTH_BYTES_SPARE                                                         \
    (2U << 20) /* stays allocated, for transactions that only delete: they are the \
                  way out of a full disk */
#define GROWTH_BYTES_AHEAD \
    (16ULL << 20)                   /* allocated beyond need, as etcd grows its file; at most */
#define GROWTH_SHARE 8U             /* this part of the free space */
#define CONF_STATE_BYTES_MAX 65536U /* an encoded configuration of 64 members is 3 KiB */

#define LMDB_READERS_MAX 1024U               /* open snapshots, old sets on loan included */
#define LMDB_MAP_BYTES_DEFAULT (64ULL << 30) /* address space, when no limit is given */
#define LMDB_MAP_BYTES_MIN (256ULL << 20)    /* less than this is not worth opening */
#define LMDB_MAP_BYTES_UNIT (1ULL << 16)     /* a multiple of every page size */
#define SQLITE_BUSY_MS 2000                  /* for a tool that looks into the file meanwhile */
#define SQLITE_CHECKPOINT_BYTES (16U << 20)  /* of WAL: then it is copied into the database */
#define SQLITE_CHECKPOINT_BYTES_SHORT                                                    \
    (1U << 20)                           /* where this is much of what the disk has left \
                                          */
#define SQLITE_WAL_BYTES_MAX (64U << 20) /* of its file: then it is cut down */
#define SQLITE_WAL_BYTES_KEPT                                                                    \
    (16ULL << 20) /* of disk, kept for it: between checkpoints it comes to that anyway, and on a \
                     full disk it takes the deletions and what then fills the freed pages */
#define SQLITE_WAL_SHARE 4U /* of what is free, at most this part */
#define SQLITE_WAL_BYTES_LEAST \
    (2ULL                      \
     << 20) /* but this in any case: the deletions of some commits, the way out of a full disk */
#define SQLITE_VALUE_BYTES_MAX (1U << 30) /* SQLite's own limit of a blob */
#endif
