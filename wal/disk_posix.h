/* wal/disk_posix.h - the synchronous half of base/disk.h on POSIX files, shared by the real disks.
 */
#ifndef WAL_DISK_POSIX_H
#define WAL_DISK_POSIX_H
#include "base/disk.h"

struct posix_disk {
    struct disk base;
    bool direct; /* DISK_DIRECT is honoured; false where the probe saw O_DIRECT fail */
};

enum status posix_status(int error); /* what an errno means to callers of base/disk.h */
int posix_fd(const struct disk_file *file);

enum status posix_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **out);
void posix_close(struct disk_file *file);
enum status posix_read(struct disk_file *file, uint64_t offset, uint8_t *data, size_t len,
                       size_t *got_out);
enum status posix_write(struct disk_file *file, uint64_t offset, const uint8_t *data, size_t len);
enum status posix_sync(struct disk_file *file);
enum status posix_truncate(struct disk_file *file, uint64_t size);
enum status posix_size(struct disk_file *file, uint64_t *out);
enum status posix_rename(struct disk *disk, const char *from, const char *to);
enum status posix_remove(struct disk *disk, const char *path);
enum status posix_make_dir(struct disk *disk, const char *path);
enum status posix_sync_dir(struct disk *disk, const char *path);
enum status posix_list(struct disk *disk, const char *path, disk_list_fn fn, void *context);
enum status posix_space(struct disk *disk, const char *path, uint64_t *free_bytes_out);

#define POSIX_DISK_OPS                                                                          \
    .open = posix_open, .close = posix_close, .read = posix_read, .write = posix_write,         \
    .sync = posix_sync, .truncate = posix_truncate, .size = posix_size, .rename = posix_rename, \
    .remove = posix_remove, .make_dir = posix_make_dir, .sync_dir = posix_sync_dir,             \
    .list = posix_list, .space = posix_space

/* The asynchronous halves. *error_out is the errno that made them fail. Errors: ST_UNSUPPORTED,
 * ST_NO_MEMORY. */
CHECKED enum status disk_open_uring(bool direct, struct disk **out, int *error_out);
CHECKED enum status disk_open_thread(bool direct, bool dsync, struct disk **out, int *error_out);
#endif
