#include "server/loops/snapshots.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/metrics/metrics.h"
#include "server/rpc/rpc.h"
#include "server/state/machine.h"

static void wake_applier(void *context)
{
    loops_wake(context, ACTOR_APPLIER);
}

void applier_init(struct applier *a, struct loops *loops)
{
    *a = (struct applier){.loops = loops, .metrics.slow_ns = loops->options.slow_apply_ns};
    inbox_init(&a->inbox, wake_applier, loops);
    inbox_init(&a->pins, wake_applier, loops);
    inbox_init(&a->installs, wake_applier, loops);
    list_init(&a->reads);
    list_init(&a->compactions);
}

static struct read_request *read_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct read_request, request.waiting);
}

/* ---- reads that wait for an index ---- */

static void take_reads(struct applier *a, struct work *work)
{
    /* Confirmed indexes never fall, so the list stays ordered. */
    for (struct inbox_node *node = work->reads, *next; node != NULL; node = next) {
        next = node->next;
        struct read_request *read = CONTAINER_OF(node, struct read_request, request.node);
        list_push_back(&a->reads, &read->request.waiting);
    }
    work->reads = NULL;
}

static void release_reads(struct applier *a)
{
    raft_index applied = atomic_load_explicit(&a->loops->applied_index, memory_order_relaxed);
    struct inbox_node *chain = NULL, **tail = &chain;
    uint64_t count = 0;
    while (!list_is_empty(&a->reads) && read_of(a->reads.next)->request.index <= applied) {
        struct read_request *read = read_of(list_pop_front(&a->reads));
        read->request.node.next = NULL;
        *tail = &read->request.node;
        tail = &read->request.node.next;
        count++;
    }
    if (chain == NULL)
        return;
    readers_give(a->loops, chain);
    atomic_fetch_sub_explicit(&a->loops->reads_waiting, count, memory_order_relaxed);
}

/* Their time is about in the order of their indexes. */
static void expire_reads(struct applier *a, uint64_t now_ns)
{
    while (!list_is_empty(&a->reads)) {
        struct read_request *read = read_of(a->reads.next);
        if (!loops_gives_up(a->loops, &read->request, now_ns))
            return;
        list_remove(&read->request.waiting);
        atomic_fetch_sub_explicit(&a->loops->reads_waiting, 1, memory_order_relaxed);
        metrics_add(METRIC_READ_INDEXES_FAILED, 1);
        read->ready(read, API_TIMEOUT_APPLIED_INDEX, /* reader= */ 0);
    }
}

/* ---- entries ---- */

static void note_applied(struct applier *a, const struct raft_entry *entry)
{
    if (atomic_load_explicit(&a->loops->applied_term, memory_order_relaxed) != entry->term) {
        atomic_store_explicit(&a->loops->applied_term, entry->term, memory_order_release);
        loops_wake(a->loops, ACTOR_LEASES);
    }
    atomic_store_explicit(&a->loops->applied_index, entry->index, memory_order_release);
    atomic_fetch_add_explicit(&a->loops->applied_bytes, raft_payload_slice(entry->payload).len,
                              memory_order_relaxed);
    a->unsealed = true;
}

/* The answer to a physical compaction waits until what it made superfluous is out of the index and
 * on its way out of the store. */
static void hold_compaction(struct applier *a, struct proposal *proposal,
                            const struct machine_result *result)
{
    proposal->held_error = result->error;
    proposal->held_response = result->response;
    list_push_back(&a->compactions, &proposal->request.waiting);
}

static void release_compactions(struct applier *a)
{
    if (list_is_empty(&a->compactions) || !mvcc_compact_is_done(a->loops->options.mvcc))
        return;
    while (!list_is_empty(&a->compactions)) {
        struct proposal *proposal =
            CONTAINER_OF(list_pop_front(&a->compactions), struct proposal, request.waiting);
        loops_request_done(a->loops, &proposal->request, proposal->held_error,
                           proposal->held_response);
    }
}

/* A conf change is decided by the state machine and carried out by the core; apply goes on with the
 * configuration that results. True when the entry is finished. */
static enum status apply_conf_change(struct applier *a, const struct raft_entry *entry,
                                     struct request *waiting, bool *finished_out)
{
    struct machine *machine = a->loops->options.machine;
    *finished_out = false;
    if (!a->at_barrier) {
        a->at_barrier = true;
        a->barrier.type = entry->type;
        atomic_store_explicit(&a->barrier.answered, false, memory_order_relaxed);
        struct machine_result result;
        enum status st = machine_check_conf_change(machine, entry, &a->barrier.change, &result);
        if (st != ST_OK)
            return st;
        a->barrier.refused = result.error != API_OK;
        a->barrier_error = result.error;
        inbox_push(&a->loops->consensus.barriers, &a->barrier.node);
    }
    if (!atomic_load_explicit(&a->barrier.answered, memory_order_acquire))
        return ST_OK;
    a->at_barrier = false;
    *finished_out = true;
    enum status st = machine_end_conf_change(machine, entry, &a->barrier.conf_state);
    if (st == ST_OK && waiting != NULL)
        loops_request_done(a->loops, waiting, a->barrier_error, SLICE_EMPTY);
    return st;
}

static void note_times(const struct applier *a, struct request_times *times, uint64_t began_ns,
                       uint64_t ended_ns)
{
    times->began_ns = began_ns;
    times->ended_ns = ended_ns;
    if (a->full_ended_ns > times->committed_ns)
        times->full_ns = a->full_ended_ns - max_u64(a->full_began_ns, times->committed_ns);
}

static enum status apply_normal(struct applier *a, const struct raft_entry *entry,
                                struct request *waiting)
{
    struct proposal *proposal =
        waiting == NULL ? NULL : CONTAINER_OF(waiting, struct proposal, request);
    bool awaited = proposal != NULL && proposal->request.call != NULL;
    struct machine_result result;
    const struct clock *clock = a->loops->options.clock;
    uint64_t began_ns = clock_monotonic_ns(clock);
    enum status st = machine_apply(a->loops->options.machine, entry,
                                   awaited ? proposal->request.call->arena : NULL, &result);
    if (st != ST_OK)
        return st;
    uint64_t ended_ns = clock_monotonic_ns(clock);
    apply_metrics_add(&a->metrics, result.op, result.error == API_OK, ended_ns - began_ns);
    if (result.lease_change != MACHINE_LEASE_NONE) {
        st = leases_note_applied(a->loops, &result, ended_ns);
        if (st != ST_OK)
            return st;
    }
    if (proposal == NULL)
        return ST_OK;
    note_times(a, &waiting->times, began_ns, ended_ns);
    proposal->answer_now = a->answer_now;
    if (result.wait_for_compaction)
        hold_compaction(a, proposal, &result);
    else
        loops_request_done(a->loops, waiting, result.error, result.response);
    return ST_OK;
}

/* The store takes nothing more until its disk has caught up. */
static bool must_wait(struct applier *a)
{
    bool is_full = store_is_full(a->loops->options.store);
    if (is_full == (a->full_since_ns != 0))
        return is_full;
    uint64_t now_ns = clock_monotonic_ns(a->loops->options.clock);
    if (!is_full) {
        a->full_began_ns = a->full_since_ns;
        a->full_ended_ns = now_ns;
    }
    a->full_since_ns = is_full ? now_ns : 0;
    return is_full;
}

/* Applies until the work is done, the barrier stands, or the step's share is used up. */
static enum status apply_current(struct applier *a, uint32_t *budget, bool *finished_out)
{
    const struct raft_apply_work *apply = &a->current->ready->apply;
    *finished_out = false;
    while (a->next_entry < apply->entries_count) {
        if (*budget == 0 || must_wait(a))
            return ST_OK;
        const struct raft_entry *entry = &apply->entries[a->next_entry];
        struct request *waiting = a->current->waiting[a->next_entry];
        enum status st;
        if (entry->type == RAFT_ENTRY_NORMAL) {
            st = apply_normal(a, entry, waiting);
        } else {
            bool passed = false;
            st = apply_conf_change(a, entry, waiting, &passed);
            if (st == ST_OK && !passed)
                return ST_OK;
        }
        if (st != ST_OK)
            return st;
        a->current->waiting[a->next_entry] = NULL;
        note_applied(a, entry);
        a->next_entry++;
        (*budget)--;
    }
    *finished_out = true;
    return ST_OK;
}

static struct work *next_work(struct applier *a)
{
    if (a->works == NULL)
        a->works = inbox_take(&a->inbox);
    if (a->works == NULL)
        return NULL;
    struct work *work = CONTAINER_OF(a->works, struct work, node);
    a->works = a->works->next;
    return work;
}

/* The durable log id travels before the entries: the store rule must never see the newer entries
 * with the older id's promise (design: "the store rule"). */
static void begin_work(struct applier *a, struct work *work)
{
    a->current = work;
    a->next_entry = 0;
    a->answer_now = work->waiting_count <= ANSWERS_NOW_MAX;
    store_set_durable(a->loops->options.store, work->durable.index, work->durable.term);
    take_reads(a, work);
}

static enum status apply_all(struct applier *a, uint32_t *budget)
{
    for (;;) {
        if (a->current == NULL) {
            struct work *work = next_work(a);
            if (work == NULL)
                return ST_OK;
            begin_work(a, work);
        }
        bool finished = false;
        enum status st = apply_current(a, budget, &finished);
        if (st != ST_OK || !finished)
            return st;
        struct work *work = a->current;
        a->current = NULL;
        inbox_push(&a->loops->consensus.applied, &work->node);
    }
}

/* From when a compaction's deletions begin to be scheduled to when they are. */
static void note_compaction(struct applier *a)
{
    const struct clock *clock = a->loops->options.clock;
    bool done = mvcc_compact_is_done(a->loops->options.mvcc);
    if (!done && a->compaction_began_ns == 0)
        a->compaction_began_ns = clock_monotonic_ns(clock);
    if (!done || a->compaction_began_ns == 0)
        return;
    metrics_observe(METRIC_COMPACTION_TOTAL, clock_monotonic_ns(clock) - a->compaction_began_ns);
    metrics_set(METRIC_COMPACTION_LAST, (int64_t)(clock_wall_ns(clock) / NS_PER_S));
    a->compaction_began_ns = 0;
}

static enum status upkeep(struct applier *a, uint64_t now_ns, bool *more_out)
{
    const struct clock *clock = a->loops->options.clock;
    uint64_t began_ns = clock_monotonic_ns(clock);
    note_compaction(a);
    enum status st = mvcc_compact_step(a->loops->options.mvcc, more_out);
    note_compaction(a);
    if (st != ST_OK)
        return st;
    if (*more_out) {
        uint64_t took_ns = clock_monotonic_ns(clock) - began_ns;
        metrics_observe(METRIC_COMPACTION_PAUSE, took_ns);
        metrics_observe(METRIC_INDEX_COMPACTION_PAUSE, took_ns);
    }
    bool wanted = atomic_exchange_explicit(&a->loops->seal_wanted, false, memory_order_acquire);
    if (!a->unsealed && !wanted)
        return ST_OK;
    struct store *store = a->loops->options.store;
    a->next_seal_ns = now_ns + SEAL_CHECK_NS;
    enum status sealed = store_seal(store, wanted);
    struct store_stat stat;
    if (sealed == ST_OK && store_get_stat(store, &stat) == ST_OK && stat.generation_bytes == 0)
        a->unsealed = false;
    return sealed;
}

static void take_pins(struct applier *a)
{
    for (struct inbox_node *node = inbox_take(&a->pins), *next; node != NULL; node = next) {
        next = node->next;
        struct job *job = CONTAINER_OF(node, struct job, node);
        if (job->kind == JOB_EXPORT)
            export_pin(a, CONTAINER_OF(job, struct export_work, job));
        else
            fetch_pin(a, CONTAINER_OF(job, struct snapshot_send, job));
    }
}

/* What was given before a received state is applied first; no entries come meanwhile. */
static enum status work_on(struct applier *a, uint64_t now_ns, uint32_t *budget, bool *more_out)
{
    bool waits = false;
    install_take(a);
    enum status st = apply_all(a, budget);
    if (st == ST_OK && a->current == NULL && a->works == NULL)
        st = install_step_apply(a, &waits);
    if (st != ST_OK || waits)
        return st;
    take_pins(a);
    return a->at_barrier ? ST_OK : upkeep(a, now_ns, more_out);
}

static void expire_work(struct applier *a, struct work *work, uint64_t now_ns)
{
    uint32_t count = work->waiting == NULL ? 0 : work->ready->apply.entries_count;
    for (uint32_t i = 0; i < count; i++) {
        struct request *request = work->waiting[i];
        if (request == NULL || !loops_gives_up(a->loops, request, now_ns))
            continue;
        work->waiting[i] = NULL;
        metrics_add(METRIC_PROPOSALS_FAILED, 1);
        loops_request_done(a->loops, request, API_TIMEOUT, SLICE_EMPTY);
    }
}

/* Apply cannot go on: the store is full because its disk hangs, or consensus has not answered. What
 * waits in the log happens, but nobody is left waiting for it beyond his time. */
static void expire_works(struct applier *a, uint64_t now_ns)
{
    struct inbox_node **end = &a->works;
    expire_work(a, a->current, now_ns);
    for (; *end != NULL; end = &(*end)->next)
        expire_work(a, CONTAINER_OF(*end, struct work, node), now_ns);
    *end = inbox_take(&a->inbox);
    for (; *end != NULL; end = &(*end)->next)
        expire_work(a, CONTAINER_OF(*end, struct work, node), now_ns);
}

static void drop_work(struct applier *a, struct work *work, enum api_error error)
{
    for (uint32_t i = 0; work->waiting != NULL && i < work->ready->apply.entries_count; i++) {
        if (work->waiting[i] != NULL)
            loops_request_done(a->loops, work->waiting[i], error, SLICE_EMPTY);
    }
    take_reads(a, work);
    inbox_push(&a->loops->consensus.applied, &work->node);
}

/* Nothing is applied any more: answers all that wait for it. */
static void drop_all(struct applier *a, enum api_error error)
{
    if (a->current != NULL)
        drop_work(a, a->current, error);
    a->current = NULL;
    for (struct work *work = next_work(a); work != NULL; work = next_work(a))
        drop_work(a, work, error);
    while (!list_is_empty(&a->compactions)) {
        struct proposal *proposal =
            CONTAINER_OF(list_pop_front(&a->compactions), struct proposal, request.waiting);
        loops_request_done(a->loops, &proposal->request, error, SLICE_EMPTY);
    }
    while (!list_is_empty(&a->reads)) {
        struct read_request *read = read_of(list_pop_front(&a->reads));
        atomic_fetch_sub_explicit(&a->loops->reads_waiting, 1, memory_order_relaxed);
        read->ready(read, error, /* reader= */ 0);
    }
}

uint64_t applier_step(struct applier *a, uint64_t now_ns)
{
    if (atomic_load_explicit(&a->loops->quarantined, memory_order_acquire)) {
        drop_all(a, API_STORE_CORRUPT);
        take_pins(a); /* what it has applied is as good as ever */
        return UINT64_MAX;
    }
    uint32_t budget = APPLY_STEP_ENTRIES_MAX;
    bool more = false;
    enum status st = work_on(a, now_ns, &budget, &more);
    if (st != ST_OK) {
        loops_fail(a->loops, st, "apply");
        return UINT64_MAX;
    }
    release_reads(a);
    expire_reads(a, now_ns);
    release_compactions(a);
    metrics_set(METRIC_PROPOSALS_APPLIED,
                (int64_t)atomic_load_explicit(&a->loops->applied_index, memory_order_relaxed));
    if (more || budget == 0)
        return now_ns;
    if (a->current != NULL)
        expire_works(a, now_ns);
    uint64_t again_ns = a->unsealed ? a->next_seal_ns : UINT64_MAX;
    bool somebody_waits = a->current != NULL || !list_is_empty(&a->reads);
    return somebody_waits ? min_u64(again_ns, now_ns + a->loops->options.tick_ns) : again_ns;
}

void applier_deinit(struct applier *a)
{
    for (struct inbox_node *node = inbox_take(&a->pins), *next; node != NULL; node = next) {
        next = node->next;
        job_free(CONTAINER_OF(node, struct job, node));
    }
    drop_all(a, API_STOPPED);
}
