/* wal/disk_thread.c - durable writes by a thread of our own: pwritev2(RWF_DSYNC), or pwrite and
 * fdatasync where a kernel or file system refuses that. The reference that io_uring is measured
 * against. Writes are done one after the other, in the order of their submission. */
#include "base/assert.h"
#include "wal/disk_posix.h"

#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

struct write_queue {
    struct disk_write *first, **end;
};

struct thread_disk {
    struct posix_disk posix;
    bool dsync;   /* RWF_DSYNC, else fdatasync after the write */
    int event_fd; /* -1: none */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t work, done;
    struct write_queue submitted, completed;
    uint32_t outstanding; /* submitted and not yet completed */
    bool stopping;
};

static void queue_init(struct write_queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

static void queue_push(struct write_queue *queue, struct disk_write *write)
{
    write->next = NULL;
    *queue->end = write;
    queue->end = &write->next;
}

static struct disk_write *queue_pop(struct write_queue *queue)
{
    struct disk_write *write = queue->first;
    if (write == NULL)
        return NULL;
    queue->first = write->next;
    if (queue->first == NULL)
        queue->end = &queue->first;
    return write;
}

static enum status write_durably(const struct thread_disk *disk, const struct disk_write *write)
{
    if (!disk->dsync) {
        enum status st = posix_write(write->file, write->offset, write->data, write->len);
        return st == ST_OK ? posix_sync(write->file) : st;
    }
    size_t done = 0;
    while (done < write->len) {
        struct iovec part = {(void *)(uintptr_t)(write->data + done), write->len - done};
        ssize_t n =
            pwritev2(posix_fd(write->file), &part, 1, (off_t)(write->offset + done), RWF_DSYNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return posix_status(errno);
        done += (size_t)n;
    }
    return ST_OK;
}

static void signal_event(int fd)
{
    uint64_t one = 1;
    /* An eventfd refuses only at 2^64 - 2, when its reader is awake anyway. */
    ssize_t ignored = write(fd, &one, sizeof(one));
    (void)ignored;
}

static void *thread_main(void *context)
{
    struct thread_disk *disk = context;
    pthread_mutex_lock(&disk->mutex);
    for (;;) {
        struct disk_write *write = queue_pop(&disk->submitted);
        if (write == NULL && disk->stopping)
            break;
        if (write == NULL) {
            pthread_cond_wait(&disk->work, &disk->mutex);
            continue;
        }
        pthread_mutex_unlock(&disk->mutex);
        write->status = write_durably(disk, write);
        pthread_mutex_lock(&disk->mutex);
        queue_push(&disk->completed, write);
        disk->outstanding--;
        pthread_cond_signal(&disk->done);
        if (disk->event_fd >= 0)
            signal_event(disk->event_fd);
    }
    pthread_mutex_unlock(&disk->mutex);
    return NULL;
}

static enum status thread_submit(struct disk *base, struct disk_write *write)
{
    struct thread_disk *disk = (struct thread_disk *)base;
    pthread_mutex_lock(&disk->mutex);
    queue_push(&disk->submitted, write);
    disk->outstanding++;
    pthread_cond_signal(&disk->work);
    pthread_mutex_unlock(&disk->mutex);
    return ST_OK;
}

static struct disk_write *thread_poll(struct disk *base)
{
    struct thread_disk *disk = (struct thread_disk *)base;
    pthread_mutex_lock(&disk->mutex);
    struct disk_write *write = queue_pop(&disk->completed);
    pthread_mutex_unlock(&disk->mutex);
    return write;
}

static void thread_wait(struct disk *base)
{
    struct thread_disk *disk = (struct thread_disk *)base;
    pthread_mutex_lock(&disk->mutex);
    while (disk->completed.first == NULL && disk->outstanding > 0)
        pthread_cond_wait(&disk->done, &disk->mutex);
    pthread_mutex_unlock(&disk->mutex);
}

static enum status thread_set_event_fd(struct disk *base, int fd)
{
    struct thread_disk *disk = (struct thread_disk *)base;
    pthread_mutex_lock(&disk->mutex);
    disk->event_fd = fd;
    pthread_mutex_unlock(&disk->mutex);
    return ST_OK;
}

static const char *thread_name(const struct disk *base)
{
    return ((const struct thread_disk *)base)->dsync ? "pwritev2" : "fdatasync";
}

static void thread_free(struct disk *base)
{
    struct thread_disk *disk = (struct thread_disk *)base;
    pthread_mutex_lock(&disk->mutex);
    disk->stopping = true;
    pthread_cond_signal(&disk->work);
    pthread_mutex_unlock(&disk->mutex);
    pthread_join(disk->thread, NULL);
    pthread_cond_destroy(&disk->work);
    pthread_cond_destroy(&disk->done);
    pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

static const struct disk_ops thread_ops = {
    POSIX_DISK_OPS,
    .submit = thread_submit,
    .poll = thread_poll,
    .wait = thread_wait,
    .set_event_fd = thread_set_event_fd,
    .name = thread_name,
    .free = thread_free,
};

enum status disk_open_thread(bool direct, bool dsync, struct disk **out, int *error_out)
{
    *out = NULL;
    struct thread_disk *disk = calloc(1, sizeof(*disk));
    *error_out = ENOMEM;
    if (disk == NULL)
        return ST_NO_MEMORY;
    disk->posix = (struct posix_disk){.base = {&thread_ops}, .direct = direct};
    disk->dsync = dsync;
    disk->event_fd = -1;
    queue_init(&disk->submitted);
    queue_init(&disk->completed);
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->work, NULL);
    pthread_cond_init(&disk->done, NULL);
    *error_out = pthread_create(&disk->thread, NULL, thread_main, disk);
    if (*error_out != 0) {
        free(disk);
        return ST_NO_MEMORY;
    }
    *out = &disk->posix.base;
    return ST_OK;
}
