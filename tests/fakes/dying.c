#include "tests/fakes/dying.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define UNSYNCED_MAX 64U
#define SECTOR_BYTES 512U
#define EXPORT __attribute__((visibility("default")))

/* A file that was written, or a directory that was changed. */
struct unsynced {
    char path[PATH_MAX];     /* "": free */
    char name[NAME_MAX + 1]; /* made in this directory; "": a file */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char watched_dir[PATH_MAX]; /* "": not armed */
static uint64_t countdown, changes_count;
static int failure; /* the errno that one change ends with, in place of the process; 0: death */
static struct unsynced table[UNSYNCED_MAX];
static void (*write_watch)(const char *path);

void dying_arm(const char *dir, uint64_t nth)
{
    pthread_mutex_lock(&mutex);
    snprintf(watched_dir, sizeof(watched_dir), "%s", dir);
    countdown = nth;
    changes_count = 0;
    failure = 0;
    memset(table, 0, sizeof(table));
    pthread_mutex_unlock(&mutex);
}

void dying_fail_instead(int error)
{
    failure = error;
}

uint64_t dying_count(void)
{
    pthread_mutex_lock(&mutex);
    uint64_t count = changes_count;
    pthread_mutex_unlock(&mutex);
    return count;
}

void dying_watch_writes(void (*watch)(const char *path))
{
    write_watch = watch;
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_watched(const char *path)
{
    return watched_dir[0] != '\0' && has_prefix(path, watched_dir);
}

static bool fd_is_watched(int fd, char path[PATH_MAX])
{
    char link[64];
    int error = errno;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = watched_dir[0] == '\0' ? -1 : readlink(link, path, PATH_MAX - 1);
    errno = error;
    path[len < 0 ? 0 : len] = '\0';
    return len >= 0 && is_watched(path);
}

/* ---- what is not synced ---- */

static struct unsynced *find(const char *path, const char *name)
{
    for (uint32_t i = 0; i < UNSYNCED_MAX; i++) {
        if (strcmp(table[i].path, path) == 0 && strcmp(table[i].name, name) == 0)
            return &table[i];
    }
    return NULL;
}

static void note(const char *path, const char *name)
{
    size_t len = strlen(path);
    if (len > 4 && strcmp(path + len - 4, "-shm") == 0)
        return; /* SQLite makes it again */
    struct unsynced *slot = find(path, name);
    if (slot == NULL)
        slot = find("", "");
    ASSERT(slot != NULL);
    snprintf(slot->path, sizeof(slot->path), "%s", path);
    snprintf(slot->name, sizeof(slot->name), "%s", name);
}

static void note_name(const char *path)
{
    char parent[PATH_MAX], name[PATH_MAX];
    snprintf(parent, sizeof(parent), "%s", path);
    snprintf(name, sizeof(name), "%s", path);
    note(dirname(parent), basename(name));
}

static void forget(const char *path)
{
    for (uint32_t i = 0; i < UNSYNCED_MAX; i++) {
        if (strcmp(table[i].path, path) == 0)
            table[i] = (struct unsynced){.path = ""};
    }
}

static bool is_at(const struct unsynced *slot, const char *prefix)
{
    size_t len = strlen(slot->path);
    if (slot->name[0] == '\0' || strlen(prefix) <= len)
        return has_prefix(slot->path, prefix);
    return has_prefix(prefix, slot->path) && prefix[len] == '/' &&
           has_prefix(slot->name, prefix + len + 1);
}

bool dying_is_unsynced(const char *path_prefix)
{
    bool found = false;
    pthread_mutex_lock(&mutex);
    for (uint32_t i = 0; i < UNSYNCED_MAX; i++)
        found |= table[i].path[0] != '\0' && is_at(&table[i], path_prefix);
    pthread_mutex_unlock(&mutex);
    return found;
}

/* ---- death ---- */

/* With the mutex. True: this is the change that does not happen. */
static bool is_the_last(void)
{
    changes_count++;
    return countdown != 0 && --countdown == 0;
}

/* With the mutex, which it gives back: the change is not made. */
static int refuse(void)
{
    if (failure == 0)
        _exit(DYING_EXIT);
    errno = failure;
    pthread_mutex_unlock(&mutex);
    return -1;
}

/* These are 0, or -1 with errno set where the change fails. */

static int change_name(const char *path)
{
    if (!is_watched(path))
        return 0;
    pthread_mutex_lock(&mutex);
    if (is_the_last())
        return refuse();
    forget(path);
    note_name(path);
    pthread_mutex_unlock(&mutex);
    return 0;
}

static int change_fd(int fd)
{
    char path[PATH_MAX];
    if (!fd_is_watched(fd, path))
        return 0;
    pthread_mutex_lock(&mutex);
    if (is_the_last())
        return refuse();
    pthread_mutex_unlock(&mutex);
    return 0;
}

/* Every other write that the process dies in, or that fails, leaves its first half. */
static int before_write(int fd, const void *data, size_t len, off_t offset)
{
    char path[PATH_MAX];
    if (!fd_is_watched(fd, path))
        return 0;
    if (write_watch != NULL)
        write_watch(path);
    pthread_mutex_lock(&mutex);
    if (is_the_last()) {
        if (changes_count % 2 == 0 && data != NULL)
            (void)!syscall(SYS_pwrite64, fd, data, len / 2 / SECTOR_BYTES * SECTOR_BYTES, offset);
        return refuse();
    }
    note(path, "");
    pthread_mutex_unlock(&mutex);
    return 0;
}

static int sync_fd(int fd)
{
    char path[PATH_MAX];
    if (!fd_is_watched(fd, path))
        return (int)syscall(SYS_fsync, fd);
    pthread_mutex_lock(&mutex);
    if (is_the_last())
        return refuse();
    forget(path);
    pthread_mutex_unlock(&mutex);
    return 0;
}

static int open_file(int dir, const char *path, int flags, mode_t mode)
{
    struct stat info;
    if ((flags & O_CREAT) != 0 && is_watched(path) && stat(path, &info) != 0 &&
        change_name(path) != 0)
        return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

/* ---- the calls ---- */

EXPORT int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_file(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_file(AT_FDCWD, path, flags, mode);
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
    if (before_write(fd, NULL, len, 0) != 0)
        return -1;
    return syscall(SYS_write, fd, data, len);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (before_write(fd, data, len, offset) != 0)
        return -1;
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
    if (before_write(fd, data, len, offset) != 0)
        return -1;
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (before_write(fd, NULL, 0, 0) != 0)
        return -1;
    return syscall(SYS_writev, fd, parts, count);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (before_write(fd, NULL, 0, 0) != 0)
        return -1;
    return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

EXPORT int fsync(int fd)
{
    return sync_fd(fd);
}

EXPORT int fdatasync(int fd)
{
    return sync_fd(fd);
}

EXPORT int ftruncate(int fd, off_t len)
{
    if (change_fd(fd) != 0)
        return -1;
    return (int)syscall(SYS_ftruncate, fd, len);
}

EXPORT int ftruncate64(int fd, off64_t len)
{
    if (change_fd(fd) != 0)
        return -1;
    return (int)syscall(SYS_ftruncate, fd, len);
}

EXPORT int rename(const char *from, const char *to)
{
    if (change_name(to) != 0)
        return -1;
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (change_name(to) != 0)
        return -1;
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

EXPORT int unlink(const char *path)
{
    if (change_name(path) != 0)
        return -1;
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
    if (change_fd(dir) != 0)
        return -1;
    return (int)syscall(SYS_unlinkat, dir, path, flags);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    if (change_name(path) != 0)
        return -1;
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
