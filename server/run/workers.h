/* server/run/workers.h - a few threads for work that takes long and that nothing waits for but its
 * own call: hashing passwords, signing tokens. */
#ifndef SERVER_RUN_WORKERS_H
#define SERVER_RUN_WORKERS_H
#include "base/inbox.h"
#include "server/run/thread.h"

struct slow_work;

#define WORKERS_MAX 4U

struct workers {
    struct worker {
        struct thread thread;
        struct inbox inbox; /* struct slow_work */
    } workers[WORKERS_MAX];
    uint32_t count;
    atomic_uint next; /* whose turn it is */
};

/* One for two processors. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status workers_start(struct workers *workers);
/* Fits services_auth.give; context is the workers. Any thread. */
void workers_give(void *context, struct slow_work *work);
void workers_stop(struct workers *workers); /* runs what waits, as stopping; zeroed is fine */
#endif
