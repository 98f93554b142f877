#include "storage/backend_lmdb_room.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "storage/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define FREE_DBI 0 /* LMDB's own database of free pages: transaction id -> count, page numbers */

/* ---- what a transaction needs ---- */

enum status lmdb_pages_count(MDB_txn *txn, const MDB_dbi *dbis, size_t count,
                             struct lmdb_pages *out)
{
    *out = (struct lmdb_pages){0};
    for (size_t i = 0; i < count; i++) {
        MDB_stat stat;
        if (mdb_stat(txn, dbis[i], &stat) != MDB_SUCCESS)
            return ST_CORRUPT;
        out->tree += stat.ms_branch_pages + stat.ms_leaf_pages;
        out->overflow += stat.ms_overflow_pages;
    }
    return ST_OK;
}

void lmdb_room_begin(struct lmdb_room *room, const struct lmdb_pages *pages)
{
    room->record_bytes = room->overflow_pages = room->paths_count = 0;
    room->overflow_before = pages->overflow;
    room->deletions_only = true;
    room->tight = false;
}

void lmdb_room_add(struct lmdb_room *room, const struct backend_op *op)
{
    if (op->kind != BACKEND_APPEND)
        room->paths_count++; /* an append's path is that of the one before */
    if (op->kind == BACKEND_DELETE)
        return;
    room->deletions_only = false;
    uint64_t bytes = op->key.len + op->value.len + GROWTH_BYTES_RECORD;
    if (bytes <= room->page_bytes / 2) {
        room->record_bytes += 2 * bytes; /* a page is at least half full */
        return;
    }
    uint64_t pages = (bytes + room->page_bytes - 1) / room->page_bytes;
    room->overflow_pages += pages;
    room->record_bytes += pages * room->page_bytes + GROWTH_BYTES_RECORD;
}

/* The most that the transaction can add to the file. A tree's pages are copied at most once each,
 * however many records change; what is freed or was reclaimed is listed, a number a page. */
static uint64_t growth_of(const struct lmdb_room *room, const struct lmdb_pages *pages,
                          const MDB_stat *free_list)
{
    uint64_t copied = min_u64(room->paths_count * GROWTH_PAGES_PATH, pages->tree);
    uint64_t had = room->overflow_before + room->overflow_pages;
    uint64_t freed = copied + had - min_u64(had, pages->overflow);
    uint64_t listed = freed * sizeof(size_t) / room->page_bytes + free_list->ms_branch_pages +
                      free_list->ms_leaf_pages + free_list->ms_overflow_pages;
    return room->record_bytes + (copied + 2 * listed + GROWTH_PAGES_COMMIT) * room->page_bytes;
}

/* ---- where it may come from ---- */

enum status lmdb_free_pages_count(MDB_txn *txn, uint64_t before, uint64_t *out)
{
    *out = 0;
    MDB_cursor *cursor;
    if (mdb_cursor_open(txn, FREE_DBI, &cursor) != MDB_SUCCESS)
        return ST_NO_MEMORY;
    MDB_val key, data;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == MDB_SUCCESS) {
        size_t id, pages;
        if (key.mv_size != sizeof(id) || data.mv_size < sizeof(pages))
            break;
        memcpy(&id, key.mv_data, sizeof(id));
        memcpy(&pages, data.mv_data, sizeof(pages));
        if (id < before)
            *out += pages;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? ST_OK : ST_CORRUPT;
}

static uint64_t available_bytes(int fd)
{
    struct statvfs disk;
    return fstatvfs(fd, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
}

static uint64_t blocks_bytes(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 ? (uint64_t)file.st_blocks * 512 : 0;
}

uint64_t lmdb_room_on_disk(MDB_env *env, uint64_t end_bytes)
{
    mdb_filehandle_t fd;
    if (mdb_env_get_fd(env, &fd) != MDB_SUCCESS)
        return 0;
    uint64_t have = blocks_bytes(fd);
    return available_bytes(fd) + have - min_u64(have, end_bytes);
}

/* Allocates the file up to wanted and, where the disk has plenty, beyond. A disk with too little is
 * not asked: it would give what it has before it refuses. */
static enum status allocate(struct lmdb_room *room, int fd, uint64_t wanted, uint64_t map_bytes)
{
    if (wanted <= room->allocated_bytes)
        return ST_OK;
    uint64_t have = blocks_bytes(fd), available = available_bytes(fd);
    uint64_t missing = wanted - min_u64(wanted, have);
    if (missing > available)
        return ST_NO_SPACE;
    /* A small part of what is free: the log lives there too. */
    uint64_t ahead = min_u64((available - missing) / GROWTH_SHARE, GROWTH_BYTES_AHEAD);
    uint64_t end = max_u64(min_u64(wanted + ahead, map_bytes), wanted);
    if (fallocate(fd, 0, 0, (off_t)end) == 0) {
        room->allocated_bytes = end;
        return ST_OK;
    }
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return ST_NO_SPACE;
    if (errno != EOPNOTSUPP)
        return ST_IO;
    /* Such a file system promises nothing; one with plenty of room is believed. */
    return missing <= available / 2 ? ST_OK : ST_NO_SPACE;
}

/* As they were when the write transaction began: it cannot read the list itself. */
static enum status free_pages_at_begin(MDB_env *env, uint64_t before, uint64_t *out)
{
    MDB_txn *txn;
    if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != MDB_SUCCESS)
        return ST_NO_MEMORY;
    enum status st = lmdb_free_pages_count(txn, before, out);
    mdb_txn_abort(txn);
    return st;
}

static bool free_pages_may_do(const struct lmdb_room *room, uint64_t end_bytes, uint64_t free_pages,
                              uint64_t growth)
{
    uint64_t spare = room->deletions_only ? 0 : GROWTH_BYTES_SPARE;
    uint64_t tail = room->allocated_bytes - min_u64(room->allocated_bytes, end_bytes);
    return free_pages * room->page_bytes + tail >= growth + spare;
}

enum status lmdb_room_reserve(struct lmdb_room *room, MDB_txn *txn, const struct lmdb_pages *pages,
                              uint64_t oldest)
{
    MDB_env *env = mdb_txn_env(txn);
    MDB_envinfo info;
    MDB_stat free_list;
    mdb_filehandle_t fd;
    mdb_env_info(env, &info);
    if (mdb_env_get_fd(env, &fd) != MDB_SUCCESS ||
        mdb_stat(txn, FREE_DBI, &free_list) != MDB_SUCCESS)
        return ST_IO;
    uint64_t growth = growth_of(room, pages, &free_list);
    uint64_t end_bytes = ((uint64_t)info.me_last_pgno + 1) * room->page_bytes;
    uint64_t wanted = end_bytes + growth + (room->deletions_only ? 0 : GROWTH_BYTES_SPARE);
    room->tight = false;
    /* LMDB itself keeps to the map's size. */
    enum status st = allocate(room, fd, min_u64(wanted, info.me_mapsize), info.me_mapsize);
    if (st != ST_NO_SPACE)
        return st;
    uint64_t free_pages = 0;
    /* LMDB leaves alone what the transaction before this one freed. */
    st = free_pages_at_begin(env, min_u64(oldest, mdb_txn_id(txn) - 1), &free_pages);
    if (st != ST_OK)
        return st;
    if (!free_pages_may_do(room, end_bytes, free_pages, growth))
        return ST_NO_SPACE;
    room->tight = true;
    return mdb_env_sync(env, /* force= */ 1) == MDB_SUCCESS ? ST_OK : ST_IO;
}
