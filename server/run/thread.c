#include "server/run/thread.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum status thread_init(struct thread *thread, const char *name, const struct clock *clock,
                        thread_step step, void *context)
{
    *thread = (struct thread){.step = step, .context = context, .clock = clock};
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return thread->event_fd < 0 ? ST_IO : ST_OK;
}

void thread_deinit(struct thread *thread)
{
    if (thread->event_fd > 0)
        close(thread->event_fd);
    thread->event_fd = -1;
}

void thread_wake(struct thread *thread)
{
    /* Sequentially consistent with the sleeper: either it sees woken, or we see that it sleeps. */
    atomic_store(&thread->woken, true);
    if (atomic_exchange(&thread->sleeping, 0) == 1) {
        uint64_t one = 1;
        ssize_t written = write(thread->event_fd, &one, sizeof(one));
        (void)written; /* a full counter is readable all the same */
    }
}

static void sleep_until(struct thread *thread, uint64_t until_ns)
{
    atomic_store(&thread->sleeping, 1);
    if (atomic_load(&thread->woken) || atomic_load(&thread->stop)) {
        atomic_store(&thread->sleeping, 0);
        return;
    }
    struct pollfd event = {.fd = thread->event_fd, .events = POLLIN};
    uint64_t now_ns = clock_monotonic_ns(thread->clock);
    struct timespec timeout = {0};
    if (until_ns > now_ns) {
        timeout.tv_sec = (time_t)((until_ns - now_ns) / NS_PER_S);
        timeout.tv_nsec = (long)((until_ns - now_ns) % NS_PER_S);
    }
    int ready = ppoll(&event, 1, until_ns == UINT64_MAX ? NULL : &timeout, NULL);
    atomic_store(&thread->sleeping, 0);
    if (ready > 0) {
        uint64_t count;
        ssize_t got = read(thread->event_fd, &count, sizeof(count));
        (void)got; /* empty already: somebody woke us twice */
    }
}

static void *run(void *argument)
{
    struct thread *thread = argument;
    pthread_setname_np(pthread_self(), thread->name);
    while (!atomic_load(&thread->stop)) {
        atomic_store(&thread->woken, false);
        uint64_t until_ns = thread->step(thread->context, clock_monotonic_ns(thread->clock));
        if (until_ns > clock_monotonic_ns(thread->clock))
            sleep_until(thread, until_ns);
    }
    return NULL;
}

enum status thread_start(struct thread *thread)
{
    if (pthread_create(&thread->handle, NULL, run, thread) != 0)
        return ST_NO_MEMORY;
    thread->running = true;
    return ST_OK;
}

void thread_stop(struct thread *thread)
{
    if (!thread->running)
        return;
    atomic_store(&thread->stop, true);
    thread_wake(thread);
    pthread_join(thread->handle, NULL);
    thread->running = false;
}
