#include "bench/disk_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOOP_FILE_BYTES (64ULL << 20)
#define ZERO_CHUNK_BYTES (1ULL << 20)

static enum status told(const char *what)
{
    int error = errno;
    fprintf(stderr, "cannot %s: %s\n", what, strerror(error));
    if (error == ENOSPC)
        return ST_NO_SPACE;
    return error == EOPNOTSUPP || error == EINVAL ? ST_UNSUPPORTED : ST_IO;
}

static enum status prepare(const struct disk_loop *loop, int fd)
{
    if (loop->file == FILE_ALLOCATED)
        return fallocate(fd, 0, 0, (off_t)LOOP_FILE_BYTES) == 0 ? ST_OK : told("fallocate");
    void *zeros = NULL;
    if (posix_memalign(&zeros, 4096, ZERO_CHUNK_BYTES) != 0)
        return ST_NO_MEMORY;
    memset(zeros, 0, ZERO_CHUNK_BYTES);
    enum status st = ST_OK;
    for (uint64_t at = 0; st == ST_OK && at < LOOP_FILE_BYTES; at += ZERO_CHUNK_BYTES)
        if (pwrite(fd, zeros, ZERO_CHUNK_BYTES, (off_t)at) != (ssize_t)ZERO_CHUNK_BYTES)
            st = told("write zeros");
    free(zeros);
    return st;
}

/* O_DIRECT where it works: tmpfs and some others refuse it at open or at the first write. */
static int open_file(struct disk_loop *loop, const char *path)
{
    int flags = O_RDWR | O_CREAT | O_CLOEXEC;
    loop->direct = loop->sync == SYNC_PWRITEV2;
    int fd = open(path, flags | (loop->direct ? O_DIRECT : 0), 0600);
    if (fd < 0 && loop->direct && errno == EINVAL) {
        loop->direct = false;
        fd = open(path, flags, 0600);
    }
    return fd;
}

static bool write_once(const struct disk_loop *loop, int fd, struct iovec *vector, uint64_t at)
{
    if (loop->sync == SYNC_PWRITEV2)
        return pwritev2(fd, vector, 1, (off_t)at, RWF_DSYNC) == (ssize_t)vector->iov_len;
    return pwritev(fd, vector, 1, (off_t)at) == (ssize_t)vector->iov_len && fdatasync(fd) == 0;
}

enum status disk_loop_open(struct disk_loop *loop)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/cleat-bench.%d", loop->dir, (int)getpid());
    loop->fd = open_file(loop, path);
    if (loop->fd < 0) {
        fprintf(stderr, "cannot create a file in '%s': %s\n", loop->dir, strerror(errno));
        return ST_INVALID;
    }
    unlink(path);
    if (posix_memalign(&loop->block, 4096, loop->write_bytes) != 0) {
        loop->block = NULL;
        return ST_NO_MEMORY;
    }
    memset(loop->block, 'c', loop->write_bytes);
    enum status st = prepare(loop, loop->fd);
    if (st == ST_OK && fsync(loop->fd) != 0)
        st = told("sync");
    return st;
}

void disk_loop_close(struct disk_loop *loop)
{
    if (loop->fd >= 0)
        close(loop->fd);
    free(loop->block);
}

static enum status write_all(struct disk_loop *loop, uint64_t duration_ns)
{
    struct iovec vector = {.iov_base = loop->block, .iov_len = loop->write_bytes};
    uint64_t start_ns = bench_now_ns(), now_ns = start_ns;
    while (now_ns - start_ns < duration_ns) {
        if (loop->at + loop->write_bytes > LOOP_FILE_BYTES) {
            if (loop->file == FILE_ALLOCATED)
                break; /* it is new territory only once */
            loop->at = 0;
        }
        if (!write_once(loop, loop->fd, &vector, loop->at))
            return told("make a write durable");
        loop->at += loop->write_bytes;
        uint64_t done_ns = bench_now_ns();
        hist_add(&loop->hist, done_ns - now_ns);
        now_ns = done_ns;
    }
    loop->elapsed_ns += now_ns - start_ns;
    return ST_OK;
}

enum status disk_loop_run(struct disk_loop *loop, uint64_t duration_ns)
{
    struct meter_source source = disk_loop_meter(loop->dir);
    struct meter before, after;
    enum status st = meter_read(&source, &before);
    if (st != ST_OK)
        return st;
    uint64_t cpu_ns = bench_cpu_ns();
    st = write_all(loop, duration_ns);
    cpu_ns = bench_cpu_ns() - cpu_ns;
    if (st == ST_OK)
        st = meter_read(&source, &after);
    if (st != ST_OK)
        return st;
    struct meter spent = meter_since(&before, &after);
    spent.cpu_ns = cpu_ns; /* finer than what /proc tells */
    meter_add(&loop->spent, &spent);
    return ST_OK;
}

struct row *disk_loop_row(struct report *report, const char *name, const struct disk_loop *loop)
{
    struct row *row = report_row(report, name);
    row->count = loop->hist.count;
    row_latency(row, &loop->hist, loop->elapsed_ns);
    row_costs(row, &loop->spent);
    return row;
}

struct meter_source disk_loop_meter(const char *dir)
{
    static char device[128], journal[128];
    meter_find_device(dir, device, journal);
    return (struct meter_source){.device = device[0] == '\0' ? NULL : device,
                                 .journal = journal[0] == '\0' ? NULL : journal};
}
