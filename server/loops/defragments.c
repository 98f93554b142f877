#include "base/minmax.h"
#include "server/loops/loops_private.h"
#include "server/metrics/metrics.h"

static void wake_writer(void *context)
{
    loops_wake(context, ACTOR_WRITER);
}

void defragments_init(struct loops *loops)
{
    struct defragments *d = &loops->defragments;
    inbox_init(&d->inbox, wake_writer, loops);
    list_init(&d->queue);
}

void loops_defragment(struct loops *loops, struct defragment_request *request)
{
    inbox_push(&loops->defragments.inbox, &request->node);
}

static void take_requests(struct defragments *d)
{
    for (struct inbox_node *node = inbox_take(&d->inbox), *next; node != NULL; node = next) {
        next = node->next;
        struct defragment_request *request = CONTAINER_OF(node, struct defragment_request, node);
        list_push_back(&d->queue, &request->waiting);
    }
}

/* The first of the queue is answered. */
static void answer(struct loops *loops, enum api_error error)
{
    struct defragments *d = &loops->defragments;
    store_defragment_cancel(d->copy);
    d->copy = NULL;
    if (d->begun) {
        store_hurry_deletions(loops->options.store, false);
        metrics_set(METRIC_DEFRAG_INFLIGHT, 0);
    }
    d->begun = false;
    struct defragment_request *request =
        CONTAINER_OF(list_pop_front(&d->queue), struct defragment_request, waiting);
    request->done(request, error);
}

void defragments_begin_again(struct loops *loops)
{
    struct defragments *d = &loops->defragments;
    store_defragment_cancel(d->copy);
    d->copy = NULL;
}

static void begin_turn(struct loops *loops, uint64_t now_ns)
{
    struct defragments *d = &loops->defragments;
    d->begun = true;
    d->began_ns = d->next_ns = d->progress_ns = now_ns;
    d->pending_seen = UINT64_MAX;
    metrics_set(METRIC_DEFRAG_INFLIGHT, 1);
    store_hurry_deletions(loops->options.store, true);
    loops_seal(loops); /* what is to be deleted may still be in a generation */
}

/* Whoever compacts and then asks for this wants to see the room that the compaction makes. A pin
 * that holds the deletions up is not waited for. */
static bool deletions_are_under_way(struct loops *loops, uint64_t now_ns)
{
    struct defragments *d = &loops->defragments;
    uint64_t pending = store_forget_pending_count(loops->options.store);
    if (pending < d->pending_seen)
        d->progress_ns = now_ns;
    d->pending_seen = pending;
    return pending > 0 && now_ns < d->progress_ns + DEFRAGMENT_WAIT_NS;
}

/* API_OK with *gain_out false: there is nothing to do. */
static enum api_error weigh(struct loops *loops, bool *gain_out)
{
    struct store_stat stat;
    enum status st = store_get_stat(loops->options.store, &stat);
    *gain_out = false;
    if (st != ST_OK)
        return api_error_of(st);
    const struct backend_stat *backend = &stat.backend;
    uint64_t gain = backend->free_bytes;
    if (gain < DEFRAGMENT_GAIN_BYTES || gain < backend->size_bytes / DEFRAGMENT_GAIN_SHARE)
        return API_OK;
    /* Free pages of the old file are no room for the new one. */
    uint64_t room = backend->room_bytes - min_u64(gain, backend->room_bytes);
    if (loops_is_short(loops) || room < backend->in_use_bytes + DEFRAGMENT_ROOM_BYTES)
        return API_NO_ROOM_FOR_COPY;
    *gain_out = true;
    return API_OK;
}

static void begin_copy(struct loops *loops)
{
    struct defragments *d = &loops->defragments;
    const struct loops_options *options = &loops->options;
    bool gain;
    enum api_error error = weigh(loops, &gain);
    if (error != API_OK || !gain) {
        answer(loops, error);
        return;
    }
    struct store_stat stat;
    enum status st = store_get_stat(options->store, &stat);
    if (st == ST_OK) {
        options->snapshots.copy_path(options->context, stat.committed_index, d->path,
                                     sizeof(d->path));
        st = store_defragment_begin(options->store, d->path, &d->copy);
    }
    if (st != ST_OK)
        answer(loops, api_error_of(st));
}

/* The copy is whole: its name is noted down before anything is written to it, since from then on
 * the old file is behind the log. From there on there is no way back. */
static void end_copy(struct loops *loops)
{
    struct defragments *d = &loops->defragments;
    const struct loops_options *options = &loops->options;
    struct store_copy *copy = d->copy;
    d->copy = NULL;
    enum status st = options->snapshots.store_chosen(options->context, d->path);
    store_defragment_end(copy);
    if (st != ST_OK) { /* which of the two the next start opens, nobody knows */
        loops_fail(loops, st, "switch to a compact copy");
        return;
    }
    metrics_observe(METRIC_BACKEND_DEFRAG, clock_monotonic_ns(options->clock) - d->began_ns);
    answer(loops, API_OK);
}

/* Then the disk has as much time for others. */
static void copy_chunk(struct loops *loops, uint64_t now_ns)
{
    struct defragments *d = &loops->defragments;
    bool done = false;
    if (loops_is_short(loops)) {
        answer(loops, API_NO_ROOM_FOR_COPY);
        return;
    }
    enum status st = store_defragment_step(d->copy, &done);
    uint64_t end_ns = clock_monotonic_ns(loops->options.clock);
    atomic_store_explicit(&loops->writer_sync_ns, end_ns, memory_order_relaxed);
    d->next_ns = end_ns + (end_ns - now_ns);
    if (st != ST_OK)
        answer(loops, st == ST_NO_SPACE ? API_NO_ROOM_FOR_COPY : api_error_of(st));
    else if (done)
        end_copy(loops);
}

uint64_t defragments_step(struct loops *loops, uint64_t now_ns)
{
    struct defragments *d = &loops->defragments;
    take_requests(d);
    if (list_is_empty(&d->queue))
        return UINT64_MAX;
    if (atomic_load_explicit(&loops->stopping, memory_order_acquire)) {
        answer(loops, API_STOPPED);
        return now_ns;
    }
    if (!d->begun)
        begin_turn(loops, now_ns);
    if (d->next_ns > now_ns)
        return d->next_ns;
    if (d->copy != NULL) {
        copy_chunk(loops, now_ns);
    } else if (deletions_are_under_way(loops, now_ns)) {
        d->next_ns = now_ns + DEFRAGMENT_LOOK_NS;
    } else {
        begin_copy(loops);
    }
    return list_is_empty(&d->queue) ? UINT64_MAX : max_u64(d->next_ns, now_ns);
}

void defragments_deinit(struct loops *loops)
{
    struct defragments *d = &loops->defragments;
    take_requests(d);
    while (!list_is_empty(&d->queue))
        answer(loops, API_STOPPED);
}
