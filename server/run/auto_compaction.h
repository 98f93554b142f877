/* server/run/auto_compaction.h - compacts the history by itself: server/run/compactor.h with a
 * thread of its own, since a compaction is waited for. */
#ifndef SERVER_RUN_AUTO_COMPACTION_H
#define SERVER_RUN_AUTO_COMPACTION_H
#include "base/status.h"
#include "server/run/compactor.h"
#include "server/run/thread.h"

struct loops;
struct mvcc;

struct auto_compaction {
    struct loops *loops; /* borrowed, as is the next */
    struct mvcc *mvcc;
    bool by_revision;
    uint64_t retention; /* revisions or nanoseconds; 0: never */
    uint64_t timeout_ns;
    /* Its own. */
    struct compactor compactor;
    struct thread thread;
    uint64_t next_ns;
};

/* The fields are set. Starts the thread, if there is a retention. Errors: ST_NO_MEMORY, ST_TOO_BIG
 * (the retention), ST_IO. */
CHECKED enum status auto_compaction_start(struct auto_compaction *compaction);
void auto_compaction_stop(struct auto_compaction *compaction); /* zeroed is fine */
#endif
