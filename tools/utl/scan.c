#include "tools/utl/scan.h"

#include "base/clock_real.h"
#include "base/disk.h"
#include "base/hash.h"
#include "storage/dbfile/reader.h"
#include "storage/revision.h"
#include "tools/utl/progress.h"
#include "wal/disks.h"

#include <errno.h>
#include <string.h>

static void take(const struct dbfile_item *item, bool *in_keys, struct utl_summary *summary)
{
    summary->hash = crc32c(summary->hash, item->key);
    if (item->kind == DBFILE_ITEM_BUCKET) {
        *in_keys = slice_eq(item->key, SLICE("key"));
        return;
    }
    summary->hash = crc32c(summary->hash, item->value);
    summary->records_count++;
    struct revision revision;
    bool tombstone;
    if (*in_keys && revision_key_decode(item->key, &revision, &tombstone) == ST_OK)
        summary->revision = revision.main;
}

static enum status read_all(struct disk_file *file, struct utl_summary *summary, struct buf *why)
{
    struct dbfile_reader *reader;
    struct dbfile_item item;
    bool in_keys = false;
    enum status st = dbfile_reader_open(file, why, &reader);
    if (st != ST_OK)
        return st;
    summary->size_bytes = dbfile_reader_info(reader).size_bytes;
    struct progress progress;
    progress_begin(&progress, clock_real(), "reading", summary->size_bytes);
    while ((st = dbfile_reader_next(reader, &item)) == ST_OK) {
        take(&item, &in_keys, summary);
        struct dbfile_info info = dbfile_reader_info(reader);
        progress_at(&progress, info.visited_pages_count * info.page_bytes);
    }
    progress_end(&progress);
    dbfile_reader_close(reader);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status utl_summarise(const char *path, struct utl_summary *out, struct buf *why)
{
    struct disk *disk = NULL;
    struct disk_file *file = NULL;
    *out = (struct utl_summary){0};
    enum status st = disk_open_reading(&disk);
    if (st == ST_OK) {
        errno = 0;
        st = disk_open(disk, path, 0, &file);
        if (st != ST_OK && errno != 0 &&
            buf_printf(why, "open %s: %s", path, strerror(errno)) != ST_OK)
            buf_reset(why);
    }
    if (st == ST_OK)
        st = read_all(file, out, why);
    disk_close(file);
    disk_free(disk);
    return st;
}
