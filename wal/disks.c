#include "wal/disks.h"

#include "base/assert.h"
#include "wal/disk_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROBE_FILE "probe" /* it stays: on a full disk the next start could not make it again */
#define MAGIC_ZFS 0x2fc12fc1
#define MAGIC_BCACHEFS 0xca451a4e

struct candidate {
    enum disk_kind kind;
    bool direct;
    const char *text;
};

/* Best first, where the device completes a durable write by itself. Without O_DIRECT io_uring hands
 * each write to a kernel worker, which is no better than a thread of ours. */
static const struct candidate candidates[] = {
    {DISK_KIND_URING, true, "io_uring with O_DIRECT"},
    {DISK_KIND_PWRITEV2, true, "pwritev2 with O_DIRECT"},
    {DISK_KIND_PWRITEV2, false, "pwritev2 through the page cache"},
    {DISK_KIND_FDATASYNC, true, "pwrite with O_DIRECT and fdatasync"},
    {DISK_KIND_FDATASYNC, false, "pwrite and fdatasync through the page cache"},
};

static enum status open_candidate(const struct candidate *candidate, struct disk **out,
                                  int *error_out)
{
    if (candidate->kind == DISK_KIND_URING)
        return disk_open_uring(candidate->direct, out, error_out);
    return disk_open_thread(candidate->direct, candidate->kind == DISK_KIND_PWRITEV2, out,
                            error_out);
}

/* One real durable write to written blocks, as the log does it. */
static enum status probe_write(struct disk *disk, struct disk_file *file, uint8_t *block)
{
    memset(block, 0, DISK_BLOCK_BYTES);
    enum status st = disk_write_at(file, 0, slice_make(block, DISK_BLOCK_BYTES));
    if (st == ST_OK)
        st = disk_sync(file);
    if (st != ST_OK)
        return st;
    struct disk_write write = {.file = file, .data = block, .len = DISK_BLOCK_BYTES};
    st = disk_submit(disk, &write);
    if (st != ST_OK)
        return st;
    disk_wait(disk);
    struct disk_write *done = disk_poll(disk);
    return done == NULL ? ST_IO : done->status;
}

static enum status probe(struct disk *disk, const char *dir)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/%s", dir, PROBE_FILE);
    if (len < 0 || (size_t)len >= sizeof(path))
        return ST_TOO_BIG;
    uint8_t *block = aligned_alloc(DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    if (block == NULL)
        return ST_NO_MEMORY;
    struct disk_file *file;
    enum status st = disk_open(disk, path, DISK_CREATE | DISK_DIRECT, &file);
    if (st == ST_OK) {
        st = probe_write(disk, file, block);
        disk_close(file);
    }
    free(block);
    return st;
}

/* Reads a word of a block device's queue settings; a partition's are its disk's. */
static bool queue_setting_is(dev_t device, const char *setting, const char *word)
{
    static const char *const levels[] = {"", "/.."};
    for (size_t i = 0; i < 2; i++) {
        char path[128], text[32] = {0};
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/%s", major(device),
                 minor(device), levels[i], setting);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t got = read(fd, text, sizeof(text) - 1);
        close(fd);
        return got > 0 && strncmp(text, word, strlen(word)) == 0;
    }
    return false;
}

/* A durable direct write through io_uring needs no help where one device command does it: forced
 * unit access, or no volatile cache. Elsewhere the kernel hands the flush to a worker bound to one
 * processor (iomap's direct i/o), which on a busy machine waits for its turn there: one-client puts
 * were measured at ten times the latency of a thread of ours, which the scheduler is free to place.
 */
static bool device_needs_no_flush(const char *dir)
{
    struct stat info;
    return stat(dir, &info) == 0 && (queue_setting_is(info.st_dev, "fua", "1") ||
                                     queue_setting_is(info.st_dev, "write_cache", "write through"));
}

static bool is_wanted(const struct candidate *candidate, enum disk_kind kind, bool needs_no_flush)
{
    if (kind == DISK_KIND_AUTO)
        return candidate->kind != DISK_KIND_URING || needs_no_flush;
    return kind == candidate->kind;
}

/* "io_uring with O_DIRECT refused (EPERM), using ..." grows in why; what does not fit is cut. */
static void say(char *why, size_t why_bytes, const char *what, const char *reason)
{
    size_t used = strlen(why);
    snprintf(why + used, why_bytes - used, "%s refused (%s), ", what, reason);
}

enum status disk_open_real(enum disk_kind kind, const char *dir, struct disk **out, char *why,
                           size_t why_bytes)
{
    ASSERT(why_bytes >= 256);
    *out = NULL;
    why[0] = '\0';
    bool needs_no_flush = device_needs_no_flush(dir);
    if (kind == DISK_KIND_AUTO && !needs_no_flush)
        snprintf(why, why_bytes, "no io_uring, this disk flushes by a kernel worker; ");
    enum status st = ST_UNSUPPORTED;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        const struct candidate *candidate = &candidates[i];
        if (!is_wanted(candidate, kind, needs_no_flush))
            continue;
        struct disk *disk = NULL;
        int error = 0;
        st = open_candidate(candidate, &disk, &error);
        if (st != ST_OK) {
            const char *name = strerrorname_np(error);
            say(why, why_bytes, candidate->text, name == NULL ? "unknown error" : name);
            continue;
        }
        st = probe(disk, dir);
        if (st == ST_OK) {
            size_t used = strlen(why);
            snprintf(why + used, why_bytes - used, "using %s", candidate->text);
            /* A ring belongs to the thread that submitted first, so the owner gets a fresh one. */
            disk_free(disk);
            return open_candidate(candidate, out, &error);
        }
        say(why, why_bytes, candidate->text, status_str(st));
        disk_free(disk);
        if (st == ST_NO_SPACE || st == ST_NOT_FOUND || st == ST_TOO_BIG)
            break; /* no other way of writing helps */
    }
    size_t used = strlen(why);
    snprintf(why + used, why_bytes - used, "no way of writing is left for '%s'", dir);
    return st;
}

/* New files inherit the directory's flag; only btrfs knows it. */
static bool ask_nocow(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    int flags = 0;
    bool set = ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
    flags |= FS_NOCOW_FL;
    set = set && ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
    close(fd);
    return set;
}

bool disk_is_copy_on_write(const char *dir, char *why, size_t why_bytes)
{
    struct statfs info;
    if (statfs(dir, &info) != 0)
        return false;
    const char *name = NULL;
    switch ((uint32_t)info.f_type) {
    case BTRFS_SUPER_MAGIC:
        name = "btrfs";
        break;
    case MAGIC_ZFS:
        name = "zfs";
        break;
    case MAGIC_BCACHEFS:
        name = "bcachefs";
        break;
    default:
        return false;
    }
    if (ask_nocow(dir))
        return false;
    snprintf(why, why_bytes,
             "'%s' lies on %s, which copies on write: a full file system can then stop the log in "
             "the middle of its own, already written file. Prefer ext4 or xfs for it",
             dir, name);
    return true;
}
