#include "server/loops/consensus_private.h"
#include "server/loops/snapshots.h"

#include "base/assert.h"
#include "server/metrics/metrics.h"

void loops_wake(struct loops *loops, uint32_t actor)
{
    if (loops->options.wake != NULL)
        loops->options.wake(loops->options.context, actor);
}

void loops_fail(struct loops *loops, enum status st, const char *what)
{
    if (atomic_exchange(&loops->failed, true))
        return;
    loops->options.fatal(loops->options.context, st, what);
}

static void wake_reader(void *context)
{
    struct reader *reader = context;
    struct loops *loops = reader->loops;
    loops_wake(loops, ACTOR_READER_FIRST + (uint32_t)(reader - loops->readers));
}

enum status loops_new(const struct loops_options *options, struct loops **out)
{
    ASSERT(options->readers_count > 0 && options->readers_count <= READERS_MAX);
    *out = NULL;
    struct loops *loops = calloc(1, sizeof(*loops));
    if (loops == NULL)
        return ST_NO_MEMORY;
    loops->options = *options;
    atomic_init(&loops->next_id, options->id_start);
    atomic_init(&loops->applied_index, options->applied);
    consensus_init(&loops->consensus, loops, clock_monotonic_ns(options->clock));
    neighbours_update(&loops->consensus);
    applier_init(&loops->applier, loops);
    snapshots_init(&loops->snapshots, loops);
    defragments_init(loops);
    leases_init(loops);
    for (uint32_t i = 0; i < options->readers_count; i++) {
        struct reader *reader = &loops->readers[i];
        reader->loops = loops;
        reader->slot = options->reader_slot_first + i;
        inbox_init(&reader->inbox, wake_reader, reader);
    }
    *out = loops;
    return ST_OK;
}

void loops_free(struct loops *loops)
{
    if (loops == NULL)
        return;
    applier_deinit(&loops->applier);
    consensus_deinit(&loops->consensus);
    snapshots_deinit(&loops->snapshots);
    defragments_deinit(loops);
    for (uint32_t i = 0; i < loops->options.readers_count; i++)
        reader_step(&loops->readers[i]);
    leases_deinit(loops);
    free(loops);
}

uint64_t loops_step(struct loops *loops, uint32_t actor, uint64_t now_ns)
{
    if (atomic_load_explicit(&loops->failed, memory_order_acquire))
        return UINT64_MAX;
    switch (actor) {
    case ACTOR_CONSENSUS:
        return consensus_step(&loops->consensus, now_ns);
    case ACTOR_APPLIER:
        return applier_step(&loops->applier, now_ns);
    case ACTOR_WRITER:
        return writer_step(loops, now_ns);
    case ACTOR_PREPARER:
        return preparer_step(loops, now_ns);
    case ACTOR_SNAPSHOTS:
        return snapshots_step(&loops->snapshots, now_ns);
    case ACTOR_LEASES:
        return leases_step(loops, now_ns);
    default:
        return reader_step(&loops->readers[actor - ACTOR_READER_FIRST]);
    }
}

/* ---- requests: any thread ---- */

/* What an operator asks for, and what a member needs to get out of trouble, is not held up by the
 * trouble: etcd answers even a list of the alarms with "too many requests" while it catches up. */
static enum api_error check_load(struct loops *loops, uint64_t bytes, bool urgent)
{
    uint64_t calls = atomic_load_explicit(&loops->inbox_calls, memory_order_relaxed);
    if (urgent)
        return calls < INBOX_CALLS_MAX + INBOX_URGENT_MAX ? API_OK : API_TOO_MANY_REQUESTS;
    uint64_t commit = atomic_load_explicit(&loops->commit, memory_order_relaxed);
    uint64_t applied = atomic_load_explicit(&loops->applied_index, memory_order_relaxed);
    if (commit > applied && commit - applied > APPLY_GAP_MAX)
        return API_TOO_MANY_REQUESTS;
    if (calls >= INBOX_CALLS_MAX ||
        atomic_load_explicit(&loops->inbox_bytes, memory_order_relaxed) + bytes > INBOX_BYTES_MAX)
        return API_TOO_MANY_REQUESTS;
    return API_OK;
}

static enum api_error admit(struct loops *loops, uint64_t bytes, bool urgent)
{
    if (atomic_load_explicit(&loops->stopping, memory_order_acquire))
        return API_STOPPED;
    if (atomic_load_explicit(&loops->quarantined, memory_order_acquire))
        return API_STORE_CORRUPT;
    if (atomic_load_explicit(&loops->log_full, memory_order_relaxed))
        return API_DISK_FULL;
    enum api_error error = check_load(loops, bytes, urgent);
    if (error != API_OK)
        metrics_add(METRIC_OVERLOADED, 1);
    return error;
}

/* Counts it and gives it to consensus, or says why not. */
static enum api_error let_in(struct loops *loops, struct request *request, uint64_t bytes,
                             bool urgent)
{
    enum api_error error = admit(loops, bytes, urgent);
    if (error != API_OK)
        return error;
    atomic_fetch_add_explicit(&loops->inbox_calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&loops->inbox_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&loops->proposals_open, 1, memory_order_relaxed);
    metrics_add(METRIC_PROPOSALS_PENDING, 1);
    inbox_push(&loops->consensus.requests, &request->node);
    return API_OK;
}

void loops_propose(struct loops *loops, struct proposal *proposal)
{
    proposal->request.kind = REQUEST_PROPOSAL;
    enum api_error error =
        let_in(loops, &proposal->request, proposal->payload->len, proposal->urgent);
    if (error == API_OK)
        return;
    raft_payload_unref(proposal->payload);
    proposal->payload = NULL;
    proposal->done(proposal, error, SLICE_EMPTY);
}

void loops_propose_conf_change(struct loops *loops, struct conf_proposal *proposal)
{
    proposal->request.kind = REQUEST_CONF_CHANGE;
    enum api_error error =
        let_in(loops, &proposal->request, proposal->payload->len, /* urgent= */ true);
    if (error == API_OK)
        return;
    raft_payload_unref(proposal->payload);
    proposal->payload = NULL;
    proposal->done(proposal, error);
}

void loops_request_done(struct loops *loops, struct request *request, enum api_error error,
                        struct slice response)
{
    atomic_fetch_sub_explicit(&loops->proposals_open, 1, memory_order_release);
    metrics_add(METRIC_PROPOSALS_PENDING, -1);
    if (request->kind == REQUEST_CONF_CHANGE) {
        struct conf_proposal *change = CONTAINER_OF(request, struct conf_proposal, request);
        change->done(change, error);
    } else {
        struct proposal *proposal = CONTAINER_OF(request, struct proposal, request);
        proposal->done(proposal, error, response);
    }
}

void loops_get_progress(struct loops *loops, struct progress_request *progress)
{
    progress->request.kind = REQUEST_PROGRESS;
    inbox_push(&loops->consensus.requests, &progress->request.node);
}

void loops_transfer_leadership(struct loops *loops, struct transfer_request *transfer)
{
    transfer->request.kind = REQUEST_TRANSFER;
    inbox_push(&loops->consensus.requests, &transfer->request.node);
}

void loops_read(struct loops *loops, struct read_request *read)
{
    enum api_error error = API_OK;
    if (atomic_load_explicit(&loops->stopping, memory_order_acquire))
        error = API_STOPPED;
    else if (atomic_load_explicit(&loops->reads_waiting, memory_order_relaxed) >= READS_WAITING_MAX)
        error = API_TOO_MANY_REQUESTS;
    if (error == API_TOO_MANY_REQUESTS)
        metrics_add(METRIC_OVERLOADED, 1);
    if (error != API_OK) {
        read->ready(read, error, /* reader= */ 0);
        return;
    }
    atomic_fetch_add_explicit(&loops->reads_waiting, 1, memory_order_relaxed);
    read->request.kind = REQUEST_READ;
    inbox_push(&loops->consensus.requests, &read->request.node);
}

void loops_read_local(struct loops *loops, struct read_request *read)
{
    read->request.kind = REQUEST_READ;
    read->request.node.next = NULL;
    readers_give(loops, &read->request.node);
}

bool loops_gives_up(const struct loops *loops, const struct request *request, uint64_t now_ns)
{
    if (request->deadline_ns <= now_ns)
        return true;
    uint64_t since_ns = atomic_load_explicit(&loops->log_busy_since_ns, memory_order_relaxed);
    uint64_t began_ns = loops_began_ns(loops, request);
    return since_ns != 0 && since_ns + STALL_PATIENCE_NS <= now_ns &&
           began_ns + STALL_PATIENCE_NS <= now_ns;
}

uint64_t loops_next_id(struct loops *loops)
{
    uint64_t count = atomic_fetch_add_explicit(&loops->next_id, 1, memory_order_relaxed);
    return loops->options.member_id << 48 | (count & 0xffffffffffffU);
}

static bool is_leaderless(const struct loops *loops)
{
    if (atomic_load_explicit(&loops->leader, memory_order_acquire) != 0)
        return false;
    uint64_t lost_ns = atomic_load_explicit(&loops->leader_lost_ns, memory_order_relaxed);
    return lost_ns == 0 ||
           clock_monotonic_ns(loops->options.clock) >= lost_ns + loops_election_ns(loops);
}

void loops_get_status(const struct loops *loops, struct loops_status *out)
{
    *out = (struct loops_status){
        .leader = atomic_load_explicit(&loops->leader, memory_order_relaxed),
        .term = atomic_load_explicit(&loops->term, memory_order_relaxed),
        .commit = atomic_load_explicit(&loops->commit, memory_order_relaxed),
        .applied = atomic_load_explicit(&loops->applied_index, memory_order_relaxed),
        .is_leaderless = is_leaderless(loops),
        .is_leader = atomic_load_explicit(&loops->is_leader, memory_order_relaxed),
        .is_learner = atomic_load_explicit(&loops->is_learner, memory_order_relaxed),
        .is_quarantined = atomic_load_explicit(&loops->quarantined, memory_order_relaxed),
        .ready = atomic_load_explicit(&loops->ready, memory_order_acquire),
    };
}

void loops_stop_requests(struct loops *loops)
{
    atomic_store_explicit(&loops->stopping, true, memory_order_release);
    loops_wake(loops, ACTOR_CONSENSUS);
    loops_wake(loops, ACTOR_WRITER);
    loops_wake(loops, ACTOR_SNAPSHOTS);
}

bool loops_is_idle(const struct loops *loops)
{
    return atomic_load_explicit(&loops->proposals_open, memory_order_acquire) == 0 &&
           atomic_load_explicit(&loops->reads_waiting, memory_order_acquire) == 0 &&
           atomic_load_explicit(&loops->commit, memory_order_acquire) ==
               atomic_load_explicit(&loops->applied_index, memory_order_acquire);
}

bool loops_log_is_full(const struct loops *loops)
{
    return atomic_load_explicit(&loops->log_full, memory_order_relaxed);
}

uint64_t loops_log_waits_ns(const struct loops *loops, uint64_t now_ns)
{
    uint64_t since_ns = atomic_load_explicit(&loops->write_since_ns, memory_order_relaxed);
    return since_ns == 0 || since_ns > now_ns ? 0 : now_ns - since_ns;
}

void loops_set_room_short(struct loops *loops, bool is_short)
{
    atomic_store_explicit(&loops->room_short, is_short, memory_order_relaxed);
}

void loops_finish_log(struct loops *loops)
{
    atomic_store_explicit(&loops->finish_wanted, true, memory_order_release);
    loops_wake(loops, ACTOR_CONSENSUS);
}

bool loops_log_is_finished(const struct loops *loops, enum status *out)
{
    if (!atomic_load_explicit(&loops->finished, memory_order_acquire))
        return false;
    *out = loops->finish_status;
    return true;
}

void loops_seal(struct loops *loops)
{
    atomic_store_explicit(&loops->seal_wanted, true, memory_order_release);
    loops_wake(loops, ACTOR_APPLIER);
}
