/* wal/disk_uring.c - durable writes by io_uring: one system call a commit, no thread. RWF_DSYNC on
 * the write itself; a linked fsync, SQPOLL and IOPOLL all measured worse. */
#include "base/assert.h"
#include "wal/disk_posix.h"

#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_ENTRIES 64U

struct uring_disk {
    struct posix_disk posix;
    struct io_uring ring;
    bool enabled; /* SINGLE_ISSUER binds the ring to the thread that enables it: the first to
                     submit, which need not be the one that opened the disk */
    uint32_t outstanding;
};

static enum status enable(struct uring_disk *disk)
{
    if (disk->enabled)
        return ST_OK;
    /* By its system call: the shared library of liburing 2.3 does not export the wrapper. */
    if ((disk->ring.flags & IORING_SETUP_R_DISABLED) &&
        syscall(__NR_io_uring_register, disk->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) <
            0)
        return ST_IO;
    disk->enabled = true;
    return ST_OK;
}

static enum status uring_submit(struct disk *base, struct disk_write *write)
{
    struct uring_disk *disk = (struct uring_disk *)base;
    ASSERT(write->len <= INT32_MAX);
    ASSERT(disk->outstanding < RING_ENTRIES);
    enum status st = enable(disk);
    if (st != ST_OK)
        return st;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&disk->ring);
    ASSERT(sqe != NULL);
    io_uring_prep_write(sqe, posix_fd(write->file), write->data, (unsigned)write->len,
                        write->offset);
    sqe->rw_flags = RWF_DSYNC;
    io_uring_sqe_set_data(sqe, write);
    int submitted;
    do {
        submitted = io_uring_submit(&disk->ring);
    } while (submitted == -EINTR);
    if (submitted != 1)
        return ST_IO;
    disk->outstanding++;
    return ST_OK;
}

static struct disk_write *uring_poll(struct disk *base)
{
    struct uring_disk *disk = (struct uring_disk *)base;
    struct io_uring_cqe *cqe = NULL;
    if (disk->outstanding == 0 || io_uring_peek_cqe(&disk->ring, &cqe) != 0)
        return NULL;
    struct disk_write *write = io_uring_cqe_get_data(cqe);
    if (cqe->res < 0)
        write->status = posix_status(-cqe->res);
    else
        write->status = (size_t)cqe->res == write->len ? ST_OK : ST_IO; /* short: torn by design */
    io_uring_cqe_seen(&disk->ring, cqe);
    disk->outstanding--;
    return write;
}

static void uring_wait(struct disk *base)
{
    struct uring_disk *disk = (struct uring_disk *)base;
    struct io_uring_cqe *cqe = NULL;
    while (disk->outstanding > 0 && io_uring_wait_cqe(&disk->ring, &cqe) == -EINTR)
        continue;
}

static enum status uring_set_event_fd(struct disk *base, int fd)
{
    struct uring_disk *disk = (struct uring_disk *)base;
    ASSERT(!disk->enabled);
    return io_uring_register_eventfd(&disk->ring, fd) == 0 ? ST_OK : ST_IO;
}

static const char *uring_name(const struct disk *base)
{
    (void)base;
    return "io_uring";
}

static void uring_free(struct disk *base)
{
    struct uring_disk *disk = (struct uring_disk *)base;
    /* The kernel may still read what was submitted: the buffers must outlive that. */
    while (disk->outstanding > 0) {
        uring_wait(base);
        if (uring_poll(base) == NULL)
            break;
    }
    io_uring_queue_exit(&disk->ring);
    free(disk);
}

static const struct disk_ops uring_ops = {
    POSIX_DISK_OPS,
    .submit = uring_submit,
    .poll = uring_poll,
    .wait = uring_wait,
    .set_event_fd = uring_set_event_fd,
    .name = uring_name,
    .free = uring_free,
};

/* Older kernels refuse flags they do not know with EINVAL: each set is tried until one is taken. */
static int init_ring(struct io_uring *ring)
{
    static const unsigned flags[] = {
        IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int error = -EINVAL;
    for (size_t i = 0; error == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++)
        error = io_uring_queue_init(RING_ENTRIES, ring, flags[i]);
    return error;
}

enum status disk_open_uring(bool direct, struct disk **out, int *error_out)
{
    *out = NULL;
    struct uring_disk *disk = calloc(1, sizeof(*disk));
    *error_out = ENOMEM;
    if (disk == NULL)
        return ST_NO_MEMORY;
    disk->posix = (struct posix_disk){.base = {&uring_ops}, .direct = direct};
    int error = init_ring(&disk->ring);
    if (error < 0) {
        *error_out = -error;
        free(disk);
        return ST_UNSUPPORTED;
    }
    *out = &disk->posix.base;
    return ST_OK;
}
