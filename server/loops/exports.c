#include "base/assert.h"
#include "base/minmax.h"
#include "server/loops/snapshots.h"
#include "server/rpc/rpc.h"

static void wake_snapshots(void *context)
{
    loops_wake(context, ACTOR_SNAPSHOTS);
}

void exports_init(struct snapshots *s)
{
    inbox_init(&s->events, wake_snapshots, s->loops);
    list_init(&s->exports);
}

/* ---- the caller ---- */

static enum api_error admit(struct loops *loops)
{
    if (atomic_load_explicit(&loops->stopping, memory_order_acquire))
        return API_STOPPED;
    if (atomic_fetch_add(&loops->exports_count, 1) < LOOPS_EXPORTS_MAX)
        return API_OK;
    atomic_fetch_sub(&loops->exports_count, 1);
    return API_TOO_MANY_REQUESTS;
}

void loops_export(struct loops *loops, struct export_request *export)
{
    struct export_work *work = NULL;
    enum api_error error = admit(loops);
    if (error == API_OK) {
        work = calloc(1, sizeof(*work));
        if (work == NULL) {
            atomic_fetch_sub(&loops->exports_count, 1);
            error = API_NO_MEMORY;
        }
    }
    if (error != API_OK) {
        export->give(export, error, SLICE_EMPTY);
        return;
    }
    work->job.kind = JOB_EXPORT;
    work->loops = loops;
    list_init(&work->node);
    list_init(&work->job.turn);
    work->export = export;
    buf_init(&work->hash.after, BACKEND_KEY_BYTES_MAX);
    buf_init(&work->hash.last, BACKEND_KEY_BYTES_MAX);
    work->deadline_ns = clock_monotonic_ns(loops->options.clock) + EXPORT_NS;
    export->loops = loops;
    export->next.export = export->cancel.export = export;
    export->work = work;
    inbox_push(&loops->applier.pins, &work->job.node);
}

static void say(struct export_request *export, struct export_event *event)
{
    rpc_ref(export->call); /* the end may overtake it */
    inbox_push(&export->loops->snapshots.events, &event->node);
}

void loops_export_next(struct export_request *export)
{
    say(export, &export->next);
}

void loops_export_cancel(struct export_request *export)
{
    say(export, &export->cancel);
}

/* ---- apply ---- */

/* What fails is told by the snapshots actor, like everything else. */
void export_pin(struct applier *a, struct export_work *work)
{
    uint32_t reader = a->loops->options.snapshot_slot_first + LOOPS_SENDS_MAX;
    work->job.status = pinned_file_take(&work->file, a->loops, reader);
    inbox_push(&a->loops->snapshots.inbox, &work->job.node);
}

/* ---- the snapshots actor ---- */

/* The last thing the caller hears. */
static void tell_end(struct export_work *work, enum api_error error)
{
    struct export_request *export = work->export;
    if (export == NULL)
        return;
    work->export = NULL;
    export->work = NULL;
    export->give(export, error, SLICE_EMPTY);
}

static void work_free(struct export_work *work)
{
    list_remove(&work->node);
    pinned_file_free(&work->file);
    buf_deinit(&work->hash.after);
    buf_deinit(&work->hash.last);
    atomic_fetch_sub(&work->loops->exports_count, 1);
    free(work);
}

void export_work_free(struct export_work *work)
{
    tell_end(work, API_STOPPED);
    work_free(work);
}

static enum status end(struct export_work *work, enum api_error error)
{
    tell_end(work, error);
    work_free(work);
    return ST_OK;
}

static uint64_t now_of(const struct export_work *work)
{
    return clock_monotonic_ns(work->loops->options.clock);
}

static enum status rest(struct export_work *work, uint64_t due_ns)
{
    work->resting = true;
    work->due_ns = due_ns;
    return ST_OK;
}

/* At half speed: where processors are scarce, the other half is the clients'. */
static enum status measure(struct export_work *work)
{
    uint64_t began_ns = now_of(work);
    enum status st = dbfile_writer_measure(work->file.writer, &work->measured);
    if (st != ST_OK)
        return st == ST_BUSY ? st : end(work, api_error_of(st));
    uint64_t now_ns = now_of(work);
    if (work->measured) {
        work->export->size = dbfile_writer_size(work->file.writer);
        work->deadline_ns += work->export->size / EXPORT_BYTES_PER_S_MIN * NS_PER_S;
        work->next_ns = now_ns;
    }
    return rest(work, now_ns + min_u64(now_ns - began_ns, EXPORT_REST_NS_MAX));
}

static enum status hash(struct export_work *work)
{
    uint64_t began_ns = now_of(work);
    struct dbfile_source records = dbfile_pin_source(&work->file.records);
    bool done = false;
    enum status st = export_hash_step(&work->hash, &records, &done);
    if (st != ST_OK)
        return st == ST_BUSY ? st : end(work, api_error_of(st));
    work->export->hash = work->hash.crc;
    uint64_t now_ns = now_of(work);
    return done ? end(work, API_OK)
                : rest(work, now_ns + min_u64(now_ns - began_ns, EXPORT_REST_NS_MAX));
}

/* Not above the limit over a while; what was not used for longer is lost. */
static bool must_rest(struct export_work *work)
{
    uint64_t now_ns = now_of(work);
    if (work->next_ns + EXPORT_SPARE_NS < now_ns)
        work->next_ns = now_ns - EXPORT_SPARE_NS;
    return work->next_ns > now_ns;
}

static enum status give_part(struct export_work *work)
{
    struct slice bytes;
    enum status st = pinned_file_read(&work->file, work->export->part_bytes_max, &bytes);
    if (st == ST_BUSY)
        return st;
    if (st != ST_OK || bytes.len == 0)
        return end(work, api_error_of(st));
    work->next_ns += bytes.len * NS_PER_S / EXPORT_BYTES_PER_S_MAX;
    work->waiting = true;
    work->export->give(work->export, API_OK, bytes);
    return ST_OK;
}

enum status export_step(struct export_work *work)
{
    if (work->export == NULL)
        return end(work, API_CANCELED);
    if (work->job.status != ST_OK)
        return end(work, api_error_of(work->job.status));
    if (list_is_empty(&work->node))
        list_push_back(&work->loops->snapshots.exports, &work->node);
    if (work->export->hashes)
        return hash(work);
    if (!work->measured)
        return measure(work);
    return must_rest(work) ? rest(work, work->next_ns) : give_part(work);
}

/* One whose pin is not there yet goes when it comes. */
static void cancel(struct export_work *work, enum api_error error)
{
    bool pinned = !list_is_empty(&work->node);
    tell_end(work, error);
    if (!pinned)
        return;
    list_remove(&work->job.turn);
    work_free(work);
}

static void take_events(struct snapshots *s)
{
    for (struct inbox_node *node = inbox_take(&s->events), *next; node != NULL; node = next) {
        next = node->next;
        struct export_request *export = CONTAINER_OF(node, struct export_event, node)->export;
        struct export_work *work = export->work;
        bool is_cancel = node == &export->cancel.node;
        if (work != NULL && is_cancel) {
            cancel(work, API_CANCELED);
        } else if (work != NULL && work->waiting) {
            work->waiting = false;
            list_push_back(&s->jobs, &work->job.turn);
        }
        rpc_unref(export->call);
    }
}

void exports_look(struct snapshots *s, uint64_t now_ns)
{
    bool stopping = atomic_load_explicit(&s->loops->stopping, memory_order_acquire);
    take_events(s);
    for (struct list_node *node = s->exports.next, *next; node != &s->exports; node = next) {
        next = node->next;
        struct export_work *work = CONTAINER_OF(node, struct export_work, node);
        if (stopping) {
            cancel(work, API_STOPPED);
        } else if (work->deadline_ns <= now_ns) {
            cancel(work, API_SNAPSHOT_TOO_SLOW);
        } else if (work->resting && work->due_ns <= now_ns) {
            work->resting = false;
            list_push_back(&s->jobs, &work->job.turn);
        }
    }
}

uint64_t exports_due_ns(const struct snapshots *s)
{
    uint64_t due_ns = UINT64_MAX;
    LIST_FOREACH(node, &s->exports)
    {
        const struct export_work *work = CONTAINER_OF(node, struct export_work, node);
        due_ns = min_u64(due_ns, work->deadline_ns);
        if (work->resting)
            due_ns = min_u64(due_ns, work->due_ns);
    }
    return due_ns;
}

void exports_deinit(struct snapshots *s)
{
    take_events(s);
    while (!list_is_empty(&s->exports))
        cancel(CONTAINER_OF(s->exports.next, struct export_work, node), API_STOPPED);
}
