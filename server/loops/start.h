/* server/loops/start.h - what consensus starts from, out of what the log and the store hold. */
#ifndef SERVER_LOOPS_START_H
#define SERVER_LOOPS_START_H
#include "base/status.h"
#include "raft/raft.h"
#include "storage/backend.h"
#include "wal/wal.h"

/* The log ends in a snapshot that the store does not contain yet: the member stopped between the
 * record and the switch. The store to be opened is the one that was made for that index (its file
 * is whole and durable, or there would be no record). */
static inline bool loops_start_is_behind(const struct wal_recovered *recovered,
                                         const struct store_mark *mark)
{
    return recovered->snapshot.last.index > mark->index;
}

/* Reads the entries above the store's mark and at most window_entries_max below it, and the
 * configuration. Borrowed by raft_new() from start, which loops_start_deinit() ends also after an
 * error. Errors: ST_CORRUPT, ST_IO, ST_NO_MEMORY. */
struct loops_start {
    struct raft_start start;
    struct raft_entry *entries; /* owned, with their payloads */
    uint32_t count, capacity;
};
CHECKED enum status loops_start_init(struct loops_start *start, struct wal *wal,
                                     const struct wal_recovered *recovered,
                                     const struct store_mark *mark, uint32_t window_entries_max);
void loops_start_deinit(struct loops_start *start);
#endif
