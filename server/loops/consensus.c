#include "server/loops/loops_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/metrics/metrics.h"

/* Reads that wait for one confirmation of leadership (raft.md section 14). */
struct read_round {
    struct list_node node;
    uint64_t context;
    struct list_node reads; /* struct read_request by request.waiting */
};

static struct request *request_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct request, waiting);
}

static struct proposal *proposal_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct proposal, request.waiting);
}

static struct read_request *read_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct read_request, request.waiting);
}

static void wake_consensus(void *context)
{
    loops_wake(context, ACTOR_CONSENSUS);
}

void consensus_init(struct consensus *c, struct loops *loops, uint64_t now_ns)
{
    *c = (struct consensus){
        .loops = loops, .raft = loops->options.raft, .wal = loops->options.wal, .round_next = 1};
    inbox_init(&c->requests, wake_consensus, loops);
    inbox_init(&c->applied, wake_consensus, loops);
    inbox_init(&c->barriers, wake_consensus, loops);
    waves_init(&c->waves, loops->options.waves);
    list_init(&c->queue);
    list_init(&c->proposed);
    list_init(&c->reads);
    list_init(&c->rounds);
    list_init(&c->appending);
    c->next_tick_ns = now_ns + loops->options.tick_ns;
    c->campaign_wanted = true;
}

/* ---- answers ---- */

static void fail_proposal(struct consensus *c, struct proposal *proposal, enum api_error error)
{
    list_remove(&proposal->request.waiting);
    raft_payload_unref(proposal->payload);
    proposal->payload = NULL;
    metrics_add(METRIC_PROPOSALS_FAILED, 1);
    loops_proposal_done(c->loops, proposal, error, SLICE_EMPTY);
}

static void leave_queue(struct consensus *c, const struct proposal *proposal)
{
    c->queue_count--;
    atomic_fetch_sub_explicit(&c->loops->inbox_calls, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&c->loops->inbox_bytes, proposal->payload->len, memory_order_relaxed);
}

static void fail_read(struct consensus *c, struct read_request *read, enum api_error error)
{
    list_remove(&read->request.waiting);
    atomic_fetch_sub_explicit(&c->loops->reads_waiting, 1, memory_order_relaxed);
    metrics_add(METRIC_READ_INDEXES_FAILED, 1);
    read->ready(read, error, /* reader= */ 0);
}

static void fail_reads(struct consensus *c, struct list_node *reads, enum api_error error)
{
    while (!list_is_empty(reads))
        fail_read(c, read_of(reads->next), error);
}

static void fail_queue(struct consensus *c, enum api_error error)
{
    while (!list_is_empty(&c->queue)) {
        leave_queue(c, proposal_of(c->queue.next));
        fail_proposal(c, proposal_of(c->queue.next), error);
    }
}

static void fail_proposed(struct consensus *c, enum api_error error)
{
    while (!list_is_empty(&c->proposed))
        fail_proposal(c, proposal_of(c->proposed.next), error);
}

static void free_round(struct read_round *round)
{
    list_remove(&round->node);
    free(round);
}

static void fail_rounds(struct consensus *c, enum api_error error)
{
    while (!list_is_empty(&c->rounds)) {
        struct read_round *round = CONTAINER_OF(c->rounds.next, struct read_round, node);
        fail_reads(c, &round->reads, error);
        free_round(round);
    }
}

/* ---- requests ---- */

static void take_requests(struct consensus *c)
{
    uint64_t arrived = 0;
    bool stopping = atomic_load_explicit(&c->loops->stopping, memory_order_acquire);
    for (struct inbox_node *node = inbox_take(&c->requests), *next; node != NULL; node = next) {
        next = node->next;
        struct request *request = CONTAINER_OF(node, struct request, node);
        if (request->kind == REQUEST_READ) {
            list_push_back(&c->reads, &request->waiting);
            continue;
        }
        list_push_back(&c->queue, &request->waiting);
        c->queue_count++;
        arrived++;
    }
    waves_arrived(&c->waves, arrived);
    if (stopping) {
        fail_queue(c, API_STOPPED);
        fail_reads(c, &c->reads, API_STOPPED);
    }
}

/* One limit for all, so each list is ordered by deadline. Without a leader nothing was proposed and
 * etcd answers with the deadline's own text; what is in the log may still happen. */
static void expire_requests(struct consensus *c, uint64_t now_ns)
{
    while (!list_is_empty(&c->queue) && request_of(c->queue.next)->deadline_ns <= now_ns) {
        leave_queue(c, proposal_of(c->queue.next));
        fail_proposal(c, proposal_of(c->queue.next), API_DEADLINE_EXCEEDED);
    }
    while (!list_is_empty(&c->proposed) && request_of(c->proposed.next)->deadline_ns <= now_ns)
        fail_proposal(c, proposal_of(c->proposed.next), API_TIMEOUT);
    while (!list_is_empty(&c->reads) && request_of(c->reads.next)->deadline_ns <= now_ns)
        fail_read(c, read_of(c->reads.next), API_TIMEOUT);
    LIST_FOREACH(node, &c->rounds)
    {
        struct read_round *round = CONTAINER_OF(node, struct read_round, node);
        while (!list_is_empty(&round->reads) &&
               request_of(round->reads.next)->deadline_ns <= now_ns)
            fail_read(c, read_of(round->reads.next), API_TIMEOUT);
    }
}

/* Proposes the first count of the queue as one batch. False when the core takes none now. */
static bool propose_batch(struct consensus *c, uint64_t now_ns)
{
    struct raft_payload **payloads = c->payloads;
    uint32_t count = 0;
    LIST_FOREACH(node, &c->queue)
    {
        if (count == PROPOSE_BATCH_MAX)
            break;
        payloads[count++] = proposal_of(node)->payload;
    }
    raft_index first = 0;
    enum status st = raft_propose(c->raft, payloads, count, &first);
    if (st != ST_OK)
        return false; /* no leader, a hand-over, the quota, no memory: they wait, until their
                         deadline */
    struct raft_status status;
    raft_get_status(c->raft, &status);
    for (uint32_t i = 0; i < count; i++) {
        struct proposal *proposal = proposal_of(list_pop_front(&c->queue));
        leave_queue(c, proposal);
        raft_payload_unref(proposal->payload);
        proposal->payload = NULL;
        proposal->index = first + i;
        proposal->term = status.hard_state.term;
        list_push_back(&c->proposed, &proposal->request.waiting);
    }
    waves_released(&c->waves, now_ns, count, first + count - 1);
    return true;
}

static uint64_t propose_queue(struct consensus *c, uint64_t now_ns)
{
    uint64_t again_ns = UINT64_MAX;
    if (atomic_load_explicit(&c->loops->log_full, memory_order_relaxed))
        fail_queue(c, API_DISK_FULL);
    if (list_is_empty(&c->queue) || c->leader_seen == 0)
        return again_ns;
    uint64_t sync_ns = atomic_load_explicit(&c->loops->commit_ns, memory_order_relaxed);
    if (!waves_may_release(&c->waves, now_ns, sync_ns, &again_ns))
        return again_ns;
    while (!list_is_empty(&c->queue) && propose_batch(c, now_ns))
        continue;
    return UINT64_MAX;
}

static void start_round(struct consensus *c)
{
    if (list_is_empty(&c->reads) || c->leader_seen == 0)
        return;
    struct read_round *round = malloc(sizeof(*round));
    if (round == NULL)
        return; /* they wait for the next step */
    round->context = c->round_next++;
    if (raft_read_index(c->raft, round->context) != ST_OK) {
        free(round);
        return;
    }
    list_init(&round->reads);
    while (!list_is_empty(&c->reads))
        list_push_back(&round->reads, list_pop_front(&c->reads));
    list_push_back(&c->rounds, &round->node);
}

/* ---- ready batches ---- */

static struct read_round *find_round(struct consensus *c, uint64_t context)
{
    LIST_FOREACH(node, &c->rounds)
    {
        struct read_round *round = CONTAINER_OF(node, struct read_round, node);
        if (round->context == context)
            return round;
    }
    return NULL;
}

/* Turns confirmed rounds into a chain of reads, each with the index it must see. Reads whose index
 * is applied already go to the readers at once: the applier has nothing to add. */
static struct inbox_node *take_confirmed_reads(struct consensus *c, const struct raft_ready *ready)
{
    raft_index applied = atomic_load_explicit(&c->loops->applied_index, memory_order_acquire);
    struct inbox_node *chain = NULL, **tail = &chain, *now = NULL, **now_tail = &now;
    uint64_t now_count = 0;
    for (uint32_t i = 0; i < ready->read_states_count; i++) {
        struct read_round *round = find_round(c, ready->read_states[i].context);
        if (round == NULL)
            continue;
        while (!list_is_empty(&round->reads)) {
            struct read_request *read = read_of(list_pop_front(&round->reads));
            read->index = ready->read_states[i].index;
            read->request.node.next = NULL;
            struct inbox_node ***end = read->index <= applied ? &now_tail : &tail;
            **end = &read->request.node;
            *end = &read->request.node.next;
            now_count += read->index <= applied;
        }
        free_round(round);
    }
    atomic_fetch_sub_explicit(&c->loops->reads_waiting, now_count, memory_order_relaxed);
    readers_give(c->loops, now);
    return chain;
}

/* Gives each committed entry its waiting proposal. A proposal whose place in the log was taken by
 * another term's entry never happens: its caller is told at once. */
static enum status match_proposals(struct consensus *c, struct work *work)
{
    const struct raft_apply_work *apply = &work->ready->apply;
    if (apply->entries_count == 0)
        return ST_OK;
    work->proposals = calloc(apply->entries_count, sizeof(struct proposal *));
    if (work->proposals == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < apply->entries_count; i++) {
        while (!list_is_empty(&c->proposed)) {
            struct proposal *proposal = proposal_of(c->proposed.next);
            if (proposal->index > apply->entries[i].index)
                break;
            if (proposal->index == apply->entries[i].index &&
                proposal->term == apply->entries[i].term) {
                list_remove(&proposal->request.waiting);
                work->proposals[i] = proposal;
                work->proposals_count++;
                break;
            }
            fail_proposal(c, proposal, API_LEADER_CHANGED);
        }
    }
    return ST_OK;
}

static void fail_lost_reads(struct consensus *c, const struct raft_ready *ready)
{
    for (uint32_t i = 0; i < ready->reads_lost_count; i++) {
        struct read_round *round = find_round(c, ready->reads_lost[i]);
        if (round == NULL)
            continue;
        fail_reads(c, &round->reads, API_LEADER_CHANGED);
        free_round(round);
    }
}

static void note_soft_state(struct consensus *c, const struct raft_ready *ready)
{
    if (!ready->has_soft_state)
        return;
    bool leads = ready->role == RAFT_LEADER;
    if (ready->leader != c->leader_seen && ready->leader != 0)
        metrics_add(METRIC_LEADER_CHANGES, 1);
    if (c->was_leader && !leads) {
        /* Their fate is open: another leader may still commit them. Callers are told now, not by a
         * deadline. */
        fail_proposed(c, API_LEADER_CHANGED);
        fail_rounds(c, API_LEADER_CHANGED);
        waves_reset(&c->waves);
    }
    c->leader_seen = ready->leader;
    c->was_leader = leads;
    atomic_store_explicit(&c->loops->leader, ready->leader, memory_order_relaxed);
    atomic_store_explicit(&c->loops->is_leader, leads, memory_order_release);
    metrics_set(METRIC_HAS_LEADER, ready->leader != 0);
    metrics_set(METRIC_IS_LEADER, leads);
}

/* Hands the append part to the log. Work that needs no sync finishes with whatever was handed over
 * before it. */
static enum status append_work(struct consensus *c, struct work *work)
{
    const struct raft_append_work *append = &work->ready->append;
    if (!append->present) {
        work->appended = true;
        return ST_OK;
    }
    if (append->entries_count > 0 || append->must_sync || append->snapshot != NULL) {
        struct raft_status status;
        raft_get_status(c->raft, &status);
        struct wal_append to_log = {.entries = append->entries,
                                    .entries_count = append->entries_count,
                                    .hard_state = append->has_hard_state ? &append->hard_state
                                                                         : &status.hard_state,
                                    .snapshot = append->snapshot};
        enum status st = wal_append(c->wal, &to_log, &c->ticket_last);
        if (st != ST_OK)
            return st;
    }
    work->ticket = c->ticket_last;
    list_push_back(&c->appending, &work->appending);
    return ST_OK;
}

static void release_work(struct work *work)
{
    raft_ready_release(work->ready);
    free(work->proposals);
    free(work);
}

static void release_if_done(struct work *work)
{
    if (work->appended && (!work->to_apply || work->applied))
        release_work(work);
}

/* The durable log id travels to apply in the same queue as the entries, also on its own. */
static void give_to_apply(struct consensus *c, struct work *work)
{
    bool durable_moved =
        work->durable.index != c->durable_sent.index || work->durable.term != c->durable_sent.term;
    work->to_apply = work->ready->apply.entries_count > 0 || work->reads != NULL || durable_moved;
    if (work->to_apply) {
        c->durable_sent = work->durable;
        inbox_push(&c->loops->applier.inbox, &work->node);
    } else {
        release_if_done(work);
    }
}

static enum status take_ready(struct consensus *c, uint64_t now_ns)
{
    struct work *work = calloc(1, sizeof(*work));
    if (work == NULL)
        return ST_NO_MEMORY;
    enum status st = raft_ready(c->raft, &work->ready);
    if (st != ST_OK) {
        free(work);
        return st;
    }
    struct raft_ready *ready = work->ready;
    ASSERT(ready->messages_count == 0); /* a cluster of one has nobody to write to */
    note_soft_state(c, ready);
    fail_lost_reads(c, ready);
    work->durable = ready->durable;
    st = match_proposals(c, work);
    if (st == ST_OK)
        st = append_work(c, work);
    if (st != ST_OK)
        return st;
    work->reads = take_confirmed_reads(c, ready);

    struct raft_status status;
    raft_get_status(c->raft, &status);
    if (status.hard_state.commit != c->commit_seen) {
        c->commit_seen = status.hard_state.commit;
        atomic_store_explicit(&c->loops->commit, c->commit_seen, memory_order_release);
        metrics_set(METRIC_PROPOSALS_COMMITTED, (int64_t)c->commit_seen);
        waves_committed(&c->waves, now_ns, c->commit_seen, c->queue_count);
    }
    atomic_store_explicit(&c->loops->term, status.hard_state.term, memory_order_relaxed);
    give_to_apply(c, work);
    return ST_OK;
}

/* ---- completions ---- */

static enum status step_responses(struct consensus *c, const struct raft_append_work *append)
{
    for (uint32_t i = 0; i < append->responses_count; i++) {
        ASSERT(append->responses[i].to == c->loops->options.member_id);
        enum status st = raft_step(c->raft, &append->responses[i]);
        if (st != ST_OK && st != ST_DROPPED)
            return st;
    }
    return ST_OK;
}

static enum status finish_appends(struct consensus *c, uint64_t durable_ticket)
{
    while (!list_is_empty(&c->appending)) {
        struct work *work = CONTAINER_OF(c->appending.next, struct work, appending);
        if (work->ticket > durable_ticket)
            break;
        list_remove(&work->appending);
        enum status st = step_responses(c, &work->ready->append);
        work->appended = true;
        release_if_done(work);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status finish_applies(struct consensus *c)
{
    enum status st = ST_OK;
    for (struct inbox_node *node = inbox_take(&c->applied), *next; node != NULL; node = next) {
        next = node->next;
        struct work *work = CONTAINER_OF(node, struct work, node);
        if (work->ready->apply.entries_count > 0) {
            enum status stepped = raft_step(c->raft, &work->ready->apply.response);
            if (stepped != ST_OK && stepped != ST_DROPPED)
                st = stepped;
        }
        work->applied = true;
        release_if_done(work);
    }
    return st;
}

static enum status answer_barriers(struct consensus *c)
{
    for (struct inbox_node *node = inbox_take(&c->barriers), *next; node != NULL; node = next) {
        next = node->next;
        struct barrier *barrier = CONTAINER_OF(node, struct barrier, node);
        enum status st = raft_apply_conf_change(c->raft, barrier->type,
                                                barrier->refused ? NULL : &barrier->change,
                                                &barrier->conf_state);
        if (st != ST_OK)
            return st;
        atomic_store_explicit(&barrier->answered, true, memory_order_release);
        loops_wake(c->loops, ACTOR_APPLIER);
    }
    return ST_OK;
}

/* What the store has durably need not be replayed: the log may recycle it, the window may drop it.
 */
static void release_log(struct consensus *c)
{
    raft_index durable = store_durable_index(c->loops->options.store);
    if (durable == 0)
        return;
    wal_release(c->wal, durable);
    raft_compact(c->raft, durable);
}

static void tick(struct consensus *c, uint64_t now_ns)
{
    const struct loops_options *options = &c->loops->options;
    if (now_ns < c->next_tick_ns)
        return;
    /* Missed ticks are given one by one, but a process that was paused does not depose its leader
     * with them. */
    uint64_t missed = (now_ns - c->next_tick_ns) / options->tick_ns;
    for (uint64_t i = 0; i <= min_u64(missed, options->election_ticks - 2); i++)
        raft_tick(c->raft);
    c->next_tick_ns += (missed + 1) * options->tick_ns;
    release_log(c);
    if (loops_is_short(c->loops)) {
        wal_shrink(c->wal);
        loops_seal(c->loops); /* what the store commits, the log can let go */
        loops_wake(c->loops, ACTOR_WRITER);
    }
}

static void note_log(struct consensus *c)
{
    struct wal_stat stat;
    wal_get_stat(c->wal, &stat);
    atomic_store_explicit(&c->loops->commit_ns, stat.commit_ns_median, memory_order_relaxed);
    if (stat.batches_count == c->batches_seen)
        return;
    c->batches_seen = stat.batches_count;
    metrics_observe(METRIC_WAL_FSYNC, stat.commit_ns_last);
    metrics_set(METRIC_WAL_WRITE_BYTES, (int64_t)stat.bytes);
    metrics_set(METRIC_WAL_PREPARED_BYTES, (int64_t)stat.prepared_bytes);
}

static enum status poll_log(struct consensus *c)
{
    uint64_t durable_ticket = 0;
    enum status st = wal_poll(c->wal, &durable_ticket);
    /* A full disk is not fatal: what is staged waits for room, and nothing new is taken in until
     * there is some. */
    atomic_store_explicit(&c->loops->log_full, st == ST_NO_SPACE, memory_order_release);
    if (st != ST_OK && st != ST_NO_SPACE)
        return st;
    note_log(c);
    return finish_appends(c, durable_ticket);
}

/* A lone voter need not wait for a timeout; it may have to wait for its own founding entry to be
 * applied. */
static enum status campaign_if_wanted(struct consensus *c)
{
    if (!c->campaign_wanted)
        return ST_OK;
    struct raft_status status;
    raft_get_status(c->raft, &status);
    if (status.role != RAFT_FOLLOWER || status.leader != 0)
        c->campaign_wanted = false;
    if (!c->campaign_wanted || !status.is_lone_voter)
        return ST_OK;
    enum status st = raft_campaign(c->raft);
    return st == ST_DROPPED || st == ST_BUSY ? ST_OK : st;
}

static enum status drain(struct consensus *c, uint64_t now_ns, uint64_t *again_ns)
{
    enum status st = finish_applies(c);
    if (st == ST_OK)
        st = answer_barriers(c);
    if (st == ST_OK)
        st = poll_log(c);
    if (st == ST_OK)
        st = campaign_if_wanted(c);
    if (st != ST_OK)
        return st;
    tick(c, now_ns);
    while (
        raft_has_ready(c->raft)) { /* commits first: what they answer decides about the next wave */
        st = take_ready(c, now_ns);
        if (st != ST_OK)
            return st;
    }
    *again_ns = propose_queue(c, now_ns);
    start_round(c);
    while (raft_has_ready(c->raft)) {
        st = take_ready(c, now_ns);
        if (st != ST_OK)
            return st;
    }
    return poll_log(c); /* submits what was staged just now */
}

static uint64_t finish_log(struct consensus *c)
{
    struct loops *loops = c->loops;
    if (!atomic_load_explicit(&loops->finished, memory_order_relaxed)) {
        loops->finish_status = wal_finish(c->wal);
        atomic_store_explicit(&loops->finished, true, memory_order_release);
    }
    return UINT64_MAX;
}

uint64_t consensus_step(struct consensus *c, uint64_t now_ns)
{
    if (atomic_load_explicit(&c->loops->finish_wanted, memory_order_acquire))
        return finish_log(c);
    take_requests(c);
    expire_requests(c, now_ns);
    uint64_t again_ns = UINT64_MAX;
    enum status st = drain(c, now_ns, &again_ns);
    if (st != ST_OK) {
        loops_fail(c->loops, st, "consensus");
        return UINT64_MAX;
    }
    if (raft_has_ready(c->raft))
        return now_ns;
    again_ns = min_u64(again_ns, wal_idle(c->wal, now_ns));
    return min_u64(again_ns, c->next_tick_ns);
}

void consensus_deinit(struct consensus *c)
{
    take_requests(c);
    fail_queue(c, API_STOPPED);
    fail_proposed(c, API_STOPPED);
    fail_reads(c, &c->reads, API_STOPPED);
    fail_rounds(c, API_STOPPED);
    for (struct inbox_node *node = inbox_take(&c->applied), *next; node != NULL; node = next) {
        next = node->next;
        struct work *work = CONTAINER_OF(node, struct work, node);
        work->applied = true;
        release_if_done(work);
    }
    while (!list_is_empty(&c->appending)) {
        struct work *work = CONTAINER_OF(list_pop_front(&c->appending), struct work, appending);
        release_work(work);
    }
}
