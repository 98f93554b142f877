/* tools/utl/stopped.h - a stopped Cleat member's directory, locked, with its store open for reading
 * and its log looked at. For commands that change one of the two. One thread. */
#ifndef TOOLS_UTL_STOPPED_H
#define TOOLS_UTL_STOPPED_H
#include "base/buf.h"
#include "base/rng.h"
#include "storage/backend.h"
#include "storage/datadir/datadir.h"
#include "tools/cli/cli.h"
#include "wal/wal.h"

#define STOPPED_MAP_BYTES_MAX (64ULL << 30) /* as the server opens it: address space alone */

/* Rows for a command's table of flags. */
#define STOPPED_FLAGS                                                                              \
    {.name = "data-dir",                                                                           \
     .kind = CLI_STRING,                                                                           \
     .required = true,                                                                             \
     .help = "The stopped member's data directory"},                                               \
        {.name = "wal-dir", .kind = CLI_STRING, .help = "Its log directory, where that is apart"}, \
    {                                                                                              \
        .name = "dry-run", .kind = CLI_BOOL, .help = "Check everything and change nothing"         \
    }

struct stopped {
    struct datadir datadir; /* locked */
    const struct backend_ops *ops;
    char store_path[PATH_MAX];
    struct backend *store;  /* owned */
    struct store_mark mark; /* conf_state in the buffer */
    struct buf conf_state;
    struct disk *disk; /* that only reads */
    struct rng rng;
    struct wal *wal; /* owned; read only */
    struct wal_recovered recovered;
    struct wal_report report;
};

/* Opens what --data-dir and --wal-dir name. A damaged log is no error: report tells. Errors, with a
 * sentence in why: ST_NOT_FOUND, ST_INVALID (no Cleat member's; it stopped while it took a
 * snapshot, and only a start of it can go on), ST_BUSY (in use), the backend's, the log's.
 * stopped_close() in every case. */
CHECKED enum status stopped_open(struct cli *cli, struct stopped *out, struct buf *why);
void stopped_close_store(struct stopped *stopped);
void stopped_close(struct stopped *stopped);

const struct backend_ops *stopped_find_backend(const char *name); /* or NULL */
#endif
