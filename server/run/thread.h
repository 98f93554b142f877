/* server/run/thread.h - a thread that steps one actor: sleeps until the actor's next time, or until
 * it is woken. A wake-up costs a system call only when the thread really sleeps. */
#ifndef SERVER_RUN_THREAD_H
#define SERVER_RUN_THREAD_H
#include "base/clock.h"
#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Does what can be done now; returns when to be called again at the latest (monotonic; UINT64_MAX:
 * when woken). */
typedef uint64_t (*thread_step)(void *context, uint64_t now_ns);

struct thread {
    pthread_t handle;
    char name[16];
    thread_step step;
    void *context;
    const struct clock *clock;
    int event_fd; /* written by thread_wake(), and by whoever else may wake the thread (the log's
                     disk) */
    atomic_int sleeping; /* 1 from just before the last look for work until awake */
    atomic_bool woken, stop;
    bool running;
};

/* Names and wires the thread; nothing runs yet, but it may be woken from now on. Errors:
 * ST_NO_MEMORY, ST_IO. */
CHECKED enum status thread_init(struct thread *thread, const char *name, const struct clock *clock,
                                thread_step step, void *context);
CHECKED enum status thread_start(struct thread *thread); /* ST_NO_MEMORY: no more threads */
void thread_wake(struct thread *thread);                 /* any thread */
void thread_stop(struct thread *thread); /* waits for its end; fine when it never ran */
void thread_deinit(struct thread *thread);
#endif
