#include "wal/disk_posix.h"

#include "base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct posix_file {
    struct disk_file base;
    int fd;
};

enum status posix_status(int error)
{
    switch (error) {
    case ENOENT:
        return ST_NOT_FOUND;
    case EEXIST:
        return ST_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ST_NO_SPACE;
    case ENOMEM:
        return ST_NO_MEMORY;
    case EINVAL:
    case ENOSYS:
    case EOPNOTSUPP:
        return ST_UNSUPPORTED;
    default:
        return ST_IO;
    }
}

int posix_fd(const struct disk_file *file)
{
    return ((const struct posix_file *)file)->fd;
}

enum status posix_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **out)
{
    *out = NULL;
    int mode = O_CLOEXEC | ((flags & DISK_READ_ONLY) ? O_RDONLY : O_RDWR);
    mode |= (flags & DISK_CREATE) ? O_CREAT : 0;
    mode |= (flags & DISK_EXCLUSIVE) ? O_EXCL : 0;
    bool direct = (flags & DISK_DIRECT) && ((struct posix_disk *)disk)->direct;
    int fd = open(path, mode | (direct ? O_DIRECT : 0), 0600);
    if (fd < 0 && direct && errno == EINVAL) {
        /* The failed O_DIRECT open may have made the file already (open(2), BUGS). */
        fd = open(path, mode & ~O_EXCL, 0600);
    }
    if (fd < 0)
        return posix_status(errno);
    struct posix_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        close(fd);
        return ST_NO_MEMORY;
    }
    file->base.disk = disk;
    file->fd = fd;
    *out = &file->base;
    return ST_OK;
}

void posix_close(struct disk_file *file)
{
    /* What close() could still report was reported by the sync that every caller did before. */
    close(posix_fd(file));
    free(file);
}

enum status posix_read(struct disk_file *file, uint64_t offset, uint8_t *data, size_t len,
                       size_t *got_out)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(posix_fd(file), data + got, len - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return posix_status(errno);
        if (n == 0)
            break;
        got += (size_t)n;
        if (n % DISK_BLOCK_BYTES != 0)
            break; /* the end; a direct read from an odd offset would be refused */
    }
    *got_out = got;
    return ST_OK;
}

enum status posix_write(struct disk_file *file, uint64_t offset, const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(posix_fd(file), data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return posix_status(errno);
        done += (size_t)n;
    }
    return ST_OK;
}

enum status posix_sync(struct disk_file *file)
{
    return fdatasync(posix_fd(file)) == 0 ? ST_OK : posix_status(errno);
}

enum status posix_truncate(struct disk_file *file, uint64_t size)
{
    return ftruncate(posix_fd(file), (off_t)size) == 0 ? ST_OK : posix_status(errno);
}

enum status posix_size(struct disk_file *file, uint64_t *out)
{
    struct stat info;
    if (fstat(posix_fd(file), &info) != 0)
        return posix_status(errno);
    *out = (uint64_t)info.st_size;
    return ST_OK;
}

enum status posix_rename(struct disk *disk, const char *from, const char *to)
{
    (void)disk;
    return rename(from, to) == 0 ? ST_OK : posix_status(errno);
}

enum status posix_remove(struct disk *disk, const char *path)
{
    (void)disk;
    return unlink(path) == 0 ? ST_OK : posix_status(errno);
}

enum status posix_make_dir(struct disk *disk, const char *path)
{
    (void)disk;
    return mkdir(path, 0700) == 0 ? ST_OK : posix_status(errno);
}

enum status posix_sync_dir(struct disk *disk, const char *path)
{
    (void)disk;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return posix_status(errno);
    enum status st = fsync(fd) == 0 ? ST_OK : posix_status(errno);
    close(fd);
    return st;
}

enum status posix_list(struct disk *disk, const char *path, disk_list_fn fn, void *context)
{
    (void)disk;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return posix_status(errno);
    errno = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(context, entry->d_name);
        errno = 0;
    }
    enum status st = errno == 0 ? ST_OK : posix_status(errno);
    closedir(dir);
    return st;
}

enum status posix_space(struct disk *disk, const char *path, uint64_t *free_bytes_out)
{
    (void)disk;
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return posix_status(errno);
    *free_bytes_out = (uint64_t)info.f_bavail * info.f_frsize;
    return ST_OK;
}
