/* base/disk.h - seam: files and their durability. Real disks are wal/disk_uring.c and
 * wal/disk_thread.c; the test double that loses, keeps or tears un-synced writes is
 * tests/fakes/fake_disk.c.
 *
 * Two kinds of calls. The synchronous ones are for start-up, background preparation and recovery;
 * they may block and may be called by any one thread at a time per file. The asynchronous one,
 * disk_submit(), is the log's hot path: a durable write (data on stable storage when it completes)
 * that never blocks its caller. Completions are taken by the submitting thread with disk_poll();
 * when one becomes available the disk signals the eventfd it was given, so an owner with one
 * eventfd for its inbox and its disk sleeps on that alone. Submit, poll and wait belong to one
 * thread, the one that submits first.
 *
 * Errors: ST_NOT_FOUND, ST_EXISTS, ST_NO_SPACE, ST_UNSUPPORTED, ST_NO_MEMORY, else ST_IO. A write
 * or sync that failed is never retried on the same file: its pages may be lost and marked clean
 * (wal-storage notes in docs/architecture.md, "fsync"). */
#ifndef BASE_DISK_H
#define BASE_DISK_H
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_BLOCK_BYTES \
    4096U /* unit of direct i/o: offsets, sizes and addresses are multiples of it */

struct disk;
struct disk_file;

enum disk_open_flags {
    DISK_READ_ONLY = 1 << 0,
    DISK_CREATE = 1 << 1,    /* make it when absent */
    DISK_EXCLUSIVE = 1 << 2, /* with DISK_CREATE: ST_EXISTS when present */
    DISK_DIRECT =
        1 << 3, /* bypass the page cache where the file system can; else as if not given */
};

/* One durable write. The caller owns the memory and keeps it unchanged until disk_poll() returns
 * it. */
struct disk_write {
    struct disk_file *file;
    uint64_t offset;
    const uint8_t *data;     /* DISK_BLOCK_BYTES aligned */
    size_t len;              /* bytes, a multiple of DISK_BLOCK_BYTES */
    void *owner;             /* the submitter's own */
    enum status status;      /* set on completion */
    struct disk_write *next; /* the disk's, between submit and poll */
};

typedef void (*disk_list_fn)(void *context, const char *name);

struct disk_ops {
    enum status (*open)(struct disk *disk, const char *path, unsigned flags,
                        struct disk_file **out);
    void (*close)(struct disk_file *file);
    /* *got_out < len only at the end of the file. */
    enum status (*read)(struct disk_file *file, uint64_t offset, uint8_t *data, size_t len,
                        size_t *got_out);
    enum status (*write)(struct disk_file *file, uint64_t offset, const uint8_t *data, size_t len);
    enum status (*sync)(struct disk_file *file); /* data and size durable on return */
    enum status (*truncate)(struct disk_file *file, uint64_t size);
    enum status (*size)(struct disk_file *file, uint64_t *out);
    enum status (*rename)(struct disk *disk, const char *from, const char *to);
    enum status (*remove)(struct disk *disk, const char *path);
    enum status (*make_dir)(struct disk *disk, const char *path); /* mode 0700; ST_EXISTS */
    enum status (*sync_dir)(struct disk *disk, const char *path); /* names durable on return */
    enum status (*list)(struct disk *disk, const char *path, disk_list_fn fn,
                        void *context); /* any order */
    enum status (*space)(struct disk *disk, const char *path, uint64_t *free_bytes_out);
    enum status (*submit)(struct disk *disk, struct disk_write *write);
    struct disk_write *(*poll)(struct disk *disk); /* one completed write, or NULL */
    void (*wait)(struct disk *disk);
    enum status (*set_event_fd)(struct disk *disk, int fd);
    const char *(*name)(const struct disk *disk); /* "io_uring", "pwritev2", "fdatasync", "fake" */
    void (*free)(struct disk *disk);
};

struct disk {
    const struct disk_ops *ops;
};

struct disk_file {
    struct disk *disk; /* heads every implementation's file */
};

CHECKED static inline enum status disk_open(struct disk *d, const char *path, unsigned flags,
                                            struct disk_file **out)
{
    return d->ops->open(d, path, flags, out);
}
static inline void disk_close(struct disk_file *f) /* NULL is fine */
{
    if (f != NULL)
        f->disk->ops->close(f);
}
CHECKED static inline enum status disk_read(struct disk_file *f, uint64_t offset, uint8_t *data,
                                            size_t len, size_t *got_out)
{
    return f->disk->ops->read(f, offset, data, len, got_out);
}
CHECKED static inline enum status disk_write_at(struct disk_file *f, uint64_t offset,
                                                struct slice s)
{
    return f->disk->ops->write(f, offset, s.data, s.len);
}
CHECKED static inline enum status disk_sync(struct disk_file *f)
{
    return f->disk->ops->sync(f);
}
CHECKED static inline enum status disk_truncate(struct disk_file *f, uint64_t size)
{
    return f->disk->ops->truncate(f, size);
}
CHECKED static inline enum status disk_size(struct disk_file *f, uint64_t *out)
{
    return f->disk->ops->size(f, out);
}
CHECKED static inline enum status disk_rename(struct disk *d, const char *from, const char *to)
{
    return d->ops->rename(d, from, to);
}
CHECKED static inline enum status disk_remove(struct disk *d, const char *path)
{
    return d->ops->remove(d, path);
}
CHECKED static inline enum status disk_make_dir(struct disk *d, const char *path)
{
    return d->ops->make_dir(d, path);
}
CHECKED static inline enum status disk_sync_dir(struct disk *d, const char *path)
{
    return d->ops->sync_dir(d, path);
}
CHECKED static inline enum status disk_list(struct disk *d, const char *path, disk_list_fn fn,
                                            void *context)
{
    return d->ops->list(d, path, fn, context);
}
CHECKED static inline enum status disk_space(struct disk *d, const char *path,
                                             uint64_t *free_bytes_out)
{
    return d->ops->space(d, path, free_bytes_out);
}
CHECKED static inline enum status disk_submit(struct disk *d, struct disk_write *write)
{
    return d->ops->submit(d, write);
}
static inline struct disk_write *disk_poll(struct disk *d)
{
    return d->ops->poll(d);
}
/* Blocks until disk_poll() has something to give or nothing is outstanding: clean stop, tests. */
static inline void disk_wait(struct disk *d)
{
    d->ops->wait(d);
}
/* From now on each completion adds to fd, an eventfd (borrowed until the disk is freed; it may have
 * other signallers). Call it before the first submit. Errors: ST_UNSUPPORTED, ST_IO. */
CHECKED static inline enum status disk_set_event_fd(struct disk *d, int fd)
{
    return d->ops->set_event_fd(d, fd);
}
static inline const char *disk_name(const struct disk *d)
{
    return d->ops->name(d);
}
static inline void disk_free(struct disk *d) /* NULL is fine; every file must be closed */
{
    if (d != NULL)
        d->ops->free(d);
}
#endif
