/* server/run/corruption_watch.h - compares this member's data with that of the others: before it
 * serves, and while it leads now and then, or after compactions. Hashing and asking take time, so
 * it has a thread. */
#ifndef SERVER_RUN_CORRUPTION_WATCH_H
#define SERVER_RUN_CORRUPTION_WATCH_H
#include "base/status.h"
#include "server/loops/request.h"
#include "server/run/thread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;
struct mvcc;

/* When to look. */
struct corruption_timer {
    uint64_t interval_ns; /* 0: never */
    uint64_t next_ns;
};

struct corruption_watch {
    struct thread thread;
    struct loops *loops; /* borrowed, as are the others */
    struct machine *machine;
    struct mvcc *mvcc;
    raft_id member_id;
    uint64_t cluster_id;
    uint64_t timeout_ns;
    struct corruption_timer always;
    struct corruption_timer compacted; /* compares if there was a compaction */
    int64_t compared_compact_revision; /* that every member was compared at */
};

/* The fields are set. Compares with those that answer; ST_CORRUPT: this member differs from one of
 * them and must not serve; why says so. What does not answer is passed over. The loops run. */
CHECKED enum status corruption_watch_check_initial(struct corruption_watch *watch, char *why,
                                                   size_t why_bytes);
/* Starts the thread, if a timer has an interval. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status corruption_watch_start(struct corruption_watch *watch);
void corruption_watch_stop(struct corruption_watch *watch); /* zeroed is fine */
#endif
