#include "server/loops/snapshots.h"

#include "base/assert.h"

static void wake_snapshots(void *context)
{
    loops_wake(context, ACTOR_SNAPSHOTS);
}

void snapshots_init(struct snapshots *s, struct loops *loops)
{
    *s = (struct snapshots){.loops = loops};
    inbox_init(&s->inbox, wake_snapshots, loops);
    list_init(&s->jobs);
    exports_init(s);
}

static struct job *job_of(struct list_node *turn)
{
    return CONTAINER_OF(turn, struct job, turn);
}

static struct job *job_at(struct inbox_node *node)
{
    return CONTAINER_OF(node, struct job, node);
}

static void entries_fetch_free(struct entries_fetch *fetch)
{
    for (uint32_t i = 0; i < fetch->count; i++)
        raft_payload_unref(fetch->entries[i].payload);
    free(fetch);
}

void job_free(struct job *job)
{
    switch (job->kind) {
    case JOB_ENTRIES:
        entries_fetch_free(CONTAINER_OF(job, struct entries_fetch, job));
        break;
    case JOB_SEND:
        snapshot_send_free(CONTAINER_OF(job, struct snapshot_send, job));
        break;
    case JOB_EXPORT:
        export_work_free(CONTAINER_OF(job, struct export_work, job));
        break;
    case JOB_INSTALL:
    case JOB_DISCARD:
        install_free(CONTAINER_OF(job, struct install, job));
        break;
    }
}

static void take_jobs(struct snapshots *s)
{
    for (struct inbox_node *node = inbox_take(&s->inbox), *next; node != NULL; node = next) {
        next = node->next;
        list_push_back(&s->jobs, &job_at(node)->turn);
    }
}

static enum status step_job(struct snapshots *s, struct job *job)
{
    switch (job->kind) {
    case JOB_ENTRIES:
        return entries_fetch_step(s->loops, CONTAINER_OF(job, struct entries_fetch, job));
    case JOB_SEND:
        return snapshot_send_step(CONTAINER_OF(job, struct snapshot_send, job));
    case JOB_EXPORT:
        return export_step(CONTAINER_OF(job, struct export_work, job));
    case JOB_INSTALL:
        return install_step(CONTAINER_OF(job, struct install, job));
    case JOB_DISCARD:
        break;
    }
    return ST_OK;
}

/* One step of the job whose turn it is: a long one does not hold up the others. */
uint64_t snapshots_step(struct snapshots *s, uint64_t now_ns)
{
    take_jobs(s);
    exports_look(s, now_ns);
    if (list_is_empty(&s->jobs))
        return exports_due_ns(s);
    struct job *job = job_of(list_pop_front(&s->jobs));
    enum job_kind kind = job->kind;
    enum status st = step_job(s, job);
    if (st == ST_CANCELED || st == ST_BUSY) {
        list_push_back(&s->jobs, &job->turn);
        return st == ST_BUSY ? now_ns + SETTLE_RETRY_NS : now_ns;
    }
    if (kind == JOB_DISCARD) {
        job_free(job);
    } else if (kind != JOB_EXPORT) {
        job->status = st;
        inbox_push(&s->loops->consensus.answers, &job->node);
    }
    return list_is_empty(&s->jobs) ? exports_due_ns(s) : now_ns;
}

void snapshots_deinit(struct snapshots *s)
{
    take_jobs(s);
    while (!list_is_empty(&s->jobs))
        job_free(job_of(list_pop_front(&s->jobs)));
    exports_deinit(s);
}
