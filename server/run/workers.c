#include "server/run/workers.h"

#include "base/list.h"
#include "base/minmax.h"
#include "base/clock_real.h"
#include "server/services/services.h"

#include <stdio.h>
#include <unistd.h>

static uint64_t step(void *context, uint64_t now_ns)
{
    (void)now_ns;
    struct worker *worker = context;
    for (struct inbox_node *node = inbox_take(&worker->inbox), *next; node != NULL; node = next) {
        next = node->next;
        struct slow_work *work = CONTAINER_OF(node, struct slow_work, node);
        work->run(work, atomic_load(&worker->thread.stop));
    }
    return UINT64_MAX;
}

static void wake(void *context)
{
    struct worker *worker = context;
    thread_wake(&worker->thread);
}

enum status workers_start(struct workers *workers)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t count = cores < 4 ? 1 : min_u32((uint32_t)cores / 2, WORKERS_MAX);
    enum status st = ST_OK;
    while (st == ST_OK && workers->count < count) {
        struct worker *worker = &workers->workers[workers->count];
        char name[16];
        snprintf(name, sizeof(name), "passwords-%u", workers->count);
        inbox_init(&worker->inbox, wake, worker);
        st = thread_init(&worker->thread, name, clock_real(), step, worker);
        if (st != ST_OK)
            break;
        workers->count++;
        st = thread_start(&worker->thread);
    }
    return st;
}

void workers_give(void *context, struct slow_work *work)
{
    struct workers *workers = context;
    uint32_t turn = atomic_fetch_add_explicit(&workers->next, 1, memory_order_relaxed);
    inbox_push(&workers->workers[turn % workers->count].inbox, &work->node);
}

void workers_stop(struct workers *workers)
{
    for (uint32_t i = 0; i < workers->count; i++) {
        struct worker *worker = &workers->workers[i];
        thread_stop(&worker->thread);
        atomic_store(&worker->thread.stop, true);
        step(worker, 0);
        thread_deinit(&worker->thread);
    }
    workers->count = 0;
}
