#include "storage/backend_sqlite_room.h"

#include "base/minmax.h"
#include "storage/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STEP_BYTES (1ULL << 20) /* of allocation: few system calls, few extents */

/* ---- figures ---- */

struct file_figures {
    uint64_t size_bytes;
    uint64_t room_bytes; /* and what is allocated behind that */
};

static struct file_figures figures_of(const char *path)
{
    struct stat file;
    if (stat(path, &file) != 0)
        return (struct file_figures){0};
    uint64_t size_bytes = (uint64_t)file.st_size;
    return (struct file_figures){.size_bytes = size_bytes,
                                 .room_bytes = max_u64(size_bytes, (uint64_t)file.st_blocks * 512)};
}

uint64_t sqlite_room_file_bytes(const struct sqlite_room *room)
{
    return figures_of(room->path).size_bytes + figures_of(room->wal_path).size_bytes;
}

uint64_t sqlite_room_wal_bytes(const struct sqlite_room *room)
{
    return figures_of(room->wal_path).size_bytes;
}

uint64_t sqlite_room_available(const struct sqlite_room *room)
{
    struct statvfs disk;
    return statvfs(room->path, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
}

/* A new page goes to the WAL and, unless a free one takes it, to the database as well. The WAL is
 * empty after a checkpoint: all that it has counts. Pages in use that the database has no place for
 * are in the WAL alone, where nothing could be allocated ahead. */
uint64_t sqlite_room_left(const struct sqlite_room *room, uint64_t in_use_bytes)
{
    uint64_t database_bytes = figures_of(room->path).room_bytes;
    uint64_t unplaced = in_use_bytes - min_u64(in_use_bytes, database_bytes);
    uint64_t unused = database_bytes - min_u64(in_use_bytes, database_bytes);
    uint64_t disk = sqlite_room_available(room) + figures_of(room->wal_path).room_bytes;
    disk -= min_u64(disk, unplaced);
    return min_u64(disk, (disk + unused) / 2);
}

/* ---- taking it ---- */

enum status sqlite_room_take(struct sqlite_room *room, uint64_t database_bytes)
{
    if (database_bytes <= room->allocated_bytes)
        return ST_OK;
    uint64_t have = figures_of(room->path).room_bytes, available = sqlite_room_available(room);
    uint64_t wal = figures_of(room->wal_path).room_bytes;
    uint64_t kept = SQLITE_WAL_BYTES_LEAST - min_u64(SQLITE_WAL_BYTES_LEAST, wal);
    available -= min_u64(available, kept);
    /* A disk with too little is not asked: it would give what it has before it refuses. */
    if (database_bytes - min_u64(database_bytes, have) > available)
        return ST_NO_SPACE;
    uint64_t end = (database_bytes + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
    if (end - min_u64(end, have) > available / 2)
        end = database_bytes;
    if (fallocate(room->database, FALLOC_FL_KEEP_SIZE, 0, (off_t)end) == 0 || errno == EOPNOTSUPP) {
        room->allocated_bytes = end;
        return ST_OK;
    }
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ST_NO_SPACE : ST_IO;
}

void sqlite_room_forget(struct sqlite_room *room)
{
    room->allocated_bytes = 0;
}

void sqlite_room_keep_wal(struct sqlite_room *room)
{
    uint64_t have = figures_of(room->wal_path).room_bytes;
    uint64_t all = have + sqlite_room_available(room);
    uint64_t wanted = min_u64(SQLITE_WAL_BYTES_KEPT, all / SQLITE_WAL_SHARE);
    wanted = max_u64(wanted, min_u64(SQLITE_WAL_BYTES_LEAST, all));
    if (have >= wanted)
        return;
    int failed = fallocate(room->wal, FALLOC_FL_KEEP_SIZE, 0, (off_t)wanted);
    (void)failed;
}

/* ---- files ---- */

enum status sqlite_room_init(struct sqlite_room *room, const char *path)
{
    *room = (struct sqlite_room){.database = -1, .wal = -1};
    room->path = strdup(path);
    if (room->path == NULL)
        return ST_NO_MEMORY;
    if (asprintf(&room->wal_path, "%s-wal", path) < 0) {
        room->wal_path = NULL;
        return ST_NO_MEMORY;
    }
    return ST_OK;
}

enum status sqlite_room_open(struct sqlite_room *room)
{
    room->database = open(room->path, O_RDWR | O_CLOEXEC);
    room->wal = open(room->wal_path, O_RDWR | O_CLOEXEC);
    if (room->database < 0 || room->wal < 0)
        return ST_IO;
    sqlite_room_keep_wal(room);
    return ST_OK;
}

void sqlite_room_deinit(struct sqlite_room *room)
{
    if (room->database >= 0)
        close(room->database);
    if (room->wal >= 0)
        close(room->wal);
    free(room->path);
    free(room->wal_path);
}
