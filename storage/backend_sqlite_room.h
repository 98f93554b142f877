/* storage/backend_sqlite_room.h - disk taken ahead for an SQLite database and its WAL.
 *
 * Two promises make a full disk one that a store gets out of by its own deletions:
 * - whatever pages the WAL brings, the database's file has room for them, taken before the commit;
 *   so a checkpoint needs none, and the WAL can be started over at any time;
 * - the WAL's file keeps disk, SQLITE_WAL_BYTES_LEAST of it for as long as the database grows.
 *   Deletions go there first, and so do later the writes that fill the pages they freed.
 * The room is blocks behind the end of the files, which SQLite does not see. Where a file system
 * cannot allocate ahead, both are hopes.
 *
 * Threads: the figures from any, the rest from the backend's. */
#ifndef STORAGE_BACKEND_SQLITE_ROOM_H
#define STORAGE_BACKEND_SQLITE_ROOM_H
#include "base/status.h"

#include <stdint.h>

struct sqlite_room {
    char *path, *wal_path;    /* owned */
    int database, wal;        /* descriptors, or -1 */
    uint64_t allocated_bytes; /* of the database's file, surely with blocks behind them */
};

/* Errors: ST_NO_MEMORY; deinit ends it in any case. */
CHECKED enum status sqlite_room_init(struct sqlite_room *room, const char *path);
/* Opens the files, which are there; takes what it can. Closing the database's file drops the locks
 * that SQLite has on it in this process: deinit comes after the last connection. Errors: ST_IO. */
CHECKED enum status sqlite_room_open(struct sqlite_room *room);
void sqlite_room_deinit(struct sqlite_room *room);

/* Before a commit that leaves the database at this size. ST_NO_SPACE, ST_IO. */
CHECKED enum status sqlite_room_take(struct sqlite_room *room, uint64_t database_bytes);
/* After a checkpoint, which may give back what was taken beyond the database's pages. */
void sqlite_room_forget(struct sqlite_room *room);
/* Gives the WAL's file the disk it keeps, as far as there is any: a disk that refuses is one that
 * is full already. */
void sqlite_room_keep_wal(struct sqlite_room *room);

uint64_t sqlite_room_file_bytes(const struct sqlite_room *room); /* both files */
uint64_t sqlite_room_wal_bytes(const struct sqlite_room *room);
uint64_t sqlite_room_available(const struct sqlite_room *room); /* on the disk */
/* For further pages in use, at a guess. */
uint64_t sqlite_room_left(const struct sqlite_room *room, uint64_t in_use_bytes);
#endif
