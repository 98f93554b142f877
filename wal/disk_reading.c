/* wal/disk_reading.c - a disk that only reads, for tools: no file is opened for writing, none is
 * made, and the page cache is used, since what is read is read once and not in the way of a log. */
#include "wal/disk_posix.h"
#include "wal/disks.h"

#include <stdlib.h>

static enum status reading_open(struct disk *disk, const char *path, unsigned flags,
                                struct disk_file **out)
{
    *out = NULL;
    if (flags & DISK_CREATE)
        return ST_UNSUPPORTED;
    return posix_open(disk, path, DISK_READ_ONLY, out);
}

static enum status refuse_write(struct disk_file *file, uint64_t offset, const uint8_t *data,
                                size_t len)
{
    (void)file, (void)offset, (void)data, (void)len;
    return ST_UNSUPPORTED;
}

static enum status refuse_sync(struct disk_file *file)
{
    (void)file;
    return ST_UNSUPPORTED;
}

static enum status refuse_truncate(struct disk_file *file, uint64_t size)
{
    (void)file, (void)size;
    return ST_UNSUPPORTED;
}

static enum status refuse_rename(struct disk *disk, const char *from, const char *to)
{
    (void)disk, (void)from, (void)to;
    return ST_UNSUPPORTED;
}

static enum status refuse_path(struct disk *disk, const char *path)
{
    (void)disk, (void)path;
    return ST_UNSUPPORTED;
}

static enum status refuse_submit(struct disk *disk, struct disk_write *write)
{
    (void)disk, (void)write;
    return ST_UNSUPPORTED;
}

static struct disk_write *nothing_done(struct disk *disk)
{
    (void)disk;
    return NULL;
}

static void nothing_outstanding(struct disk *disk)
{
    (void)disk;
}

static enum status refuse_event_fd(struct disk *disk, int fd)
{
    (void)disk, (void)fd;
    return ST_UNSUPPORTED;
}

static const char *reading_name(const struct disk *disk)
{
    (void)disk;
    return "reading";
}

static void reading_free(struct disk *disk)
{
    free(disk);
}

static const struct disk_ops reading_ops = {
    .open = reading_open,
    .close = posix_close,
    .read = posix_read,
    .write = refuse_write,
    .sync = refuse_sync,
    .truncate = refuse_truncate,
    .size = posix_size,
    .rename = refuse_rename,
    .remove = refuse_path,
    .make_dir = refuse_path,
    .sync_dir = refuse_path,
    .list = posix_list,
    .space = posix_space,
    .submit = refuse_submit,
    .poll = nothing_done,
    .wait = nothing_outstanding,
    .set_event_fd = refuse_event_fd,
    .name = reading_name,
    .free = reading_free,
};

enum status disk_open_reading(struct disk **out)
{
    *out = NULL;
    struct posix_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL)
        return ST_NO_MEMORY;
    disk->base.ops = &reading_ops;
    *out = &disk->base;
    return ST_OK;
}
