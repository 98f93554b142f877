/* wal/limits.h - every bound of the log, with unit and reason. */
#ifndef WAL_LIMITS_H
#define WAL_LIMITS_H

#define WAL_BATCH_BYTES_MAX                                                 \
    (1U << 20) /* of one batch, unless a single entry is larger; 10 ms of a \
                  100 MB/s disk */
#define WAL_ENTRY_BYTES_MAX (128U << 20) /* payload of one entry; far above any request limit */
#define WAL_STAGED_BYTES_MAX                                            \
    (256ULL << 20) /* waiting for a slow or full disk; then ST_NO_SPACE \
                    */

#define WAL_SEGMENT_BYTES_MIN (1ULL << 20)   /* what a nearly full disk still gets */
#define WAL_SEGMENT_BYTES_FIRST (4ULL << 20) /* written before the first start can go on */
#define WAL_SEGMENT_BYTES_MAX (64ULL << 20)
#define WAL_SEGMENT_BYTES_SLOW (16ULL << 20) /* the maximum where a commit takes longer than: */
#define WAL_SLOW_COMMIT_NS 5000000ULL        /* 200 commits a second */
#define WAL_SEGMENT_SPACE_SHARE 8U           /* a segment takes at most 1/8 of the free space */

#define WAL_KEEP_SEGMENTS 4U /* kept for slow followers beyond what the store needs */
#define WAL_SPARES_MAX 2U    /* prepared segments and recycled files, together */

#define WAL_ZERO_CHUNK_BYTES (256U << 10) /* one step of the preparer */
#define WAL_ZERO_PERIOD_NS 20000000ULL    /* between steps while it is in no hurry: 13 MB/s */
#define WAL_ZERO_COMMITS 5U               /* or this many commit times, whichever is longer */
#define WAL_SPACE_RETRY_NS 1000000000ULL  /* after ENOSPC */

#define WAL_IDLE_NS 1000000000ULL /* without work before the closing batch, or */
#define WAL_IDLE_COMMITS 20U      /* this many commit times, whichever is longer */

#define WAL_COMMIT_TIMES 9U       /* the median's window */
#define WAL_READ_BYTES (1U << 20) /* one read of recovery; larger for a larger batch */
#define WAL_EXTENT_BYTES                                                                    \
    (256U << 10)                /* an entry is found by reading at most this much before it \
                                 */
#define WAL_SEGMENTS_MAX 65536U /* files looked at in one directory */
#endif
