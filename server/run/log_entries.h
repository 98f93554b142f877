/* server/run/log_entries.h - entries read back from the log at start. */
#ifndef SERVER_RUN_LOG_ENTRIES_H
#define SERVER_RUN_LOG_ENTRIES_H
#include "base/status.h"
#include "raft/types.h"

#include <stdint.h>

struct wal;

struct log_entries {
    struct raft_entry *items; /* each with a reference of its payload */
    uint32_t count, capacity;
};

/* All of [first, last]; last < first: none. *out is to be freed also after an error. Errors: those
 * of wal_read(). */
CHECKED enum status log_entries_read(struct wal *wal, raft_index first, raft_index last,
                                     struct log_entries *out);
void log_entries_free(struct log_entries *entries); /* zeroed is fine */
#endif
