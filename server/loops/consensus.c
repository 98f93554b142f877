#include "server/loops/consensus_private.h"
#include "server/loops/snapshots.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/metrics/metrics.h"
#include "server/state/members.h"

static void wake_consensus(void *context)
{
    loops_wake(context, ACTOR_CONSENSUS);
}

void consensus_init(struct consensus *c, struct loops *loops, uint64_t now_ns)
{
    *c = (struct consensus){
        .loops = loops,
        .raft = loops->options.raft,
        .wal = loops->options.wal,
        .round_next = loops->options.id_start >> 1, /* half of them are left: it never wraps */
    };
    inbox_init(&c->requests, wake_consensus, loops);
    inbox_init(&c->applied, wake_consensus, loops);
    inbox_init(&c->barriers, wake_consensus, loops);
    inbox_init(&c->messages, wake_consensus, loops);
    inbox_init(&c->reports, wake_consensus, loops);
    inbox_init(&c->answers, wake_consensus, loops);
    list_init(&c->offers);
    waves_init(&c->waves, loops->options.waves);
    list_init(&c->urgent);
    list_init(&c->queue);
    list_init(&c->changes);
    list_init(&c->proposed);
    list_init(&c->transfers);
    forwarded_init(&c->forwarded);
    list_init(&c->reads);
    list_init(&c->rounds);
    list_init(&c->appending);
    c->next_tick_ns = now_ns + loops->options.tick_ns;
    c->campaign_wanted = true;
}

/* ---- the core's word ---- */

/* Passes on what the core said. ST_CORRUPT, after which it says nothing else, is not the end of the
 * process but of this member's part in the cluster. */
static enum status from_core(struct consensus *c, enum status st)
{
    if (st == ST_CORRUPT)
        c->quarantined = true;
    return st == ST_DROPPED || st == ST_BUSY ? ST_OK : st;
}

static void note_led_term(struct consensus *c, raft_term term)
{
    if (atomic_load_explicit(&c->loops->led_term, memory_order_relaxed) == term)
        return;
    atomic_store_explicit(&c->loops->led_term, term, memory_order_release);
    loops_wake(c->loops, ACTOR_LEASES);
}

/* It neither votes nor acknowledges nor serves any more, and stays up to say why. */
static void enter_quarantine(struct consensus *c)
{
    struct loops *loops = c->loops;
    if (atomic_exchange(&loops->quarantined, true))
        return;
    atomic_store_explicit(&loops->leader, 0, memory_order_relaxed);
    atomic_store_explicit(&loops->is_leader, false, memory_order_release);
    note_led_term(c, 0);
    metrics_set(METRIC_HAS_LEADER, 0);
    metrics_set(METRIC_IS_LEADER, 0);
    struct raft_status status;
    raft_get_status(c->raft, &status);
    loops_wake(loops, ACTOR_APPLIER); /* it has calls to answer */
    if (loops->options.quarantined != NULL)
        loops->options.quarantined(loops->options.context, raft_quarantine_text(status.quarantine));
}

/* ---- ready batches ---- */

static void note_leader(struct consensus *c, raft_id leader, uint64_t now_ns)
{
    if (leader != c->leader_seen) {
        requests_leader_moved(c, now_ns);
        atomic_store_explicit(&c->loops->leader_lost_ns, now_ns, memory_order_relaxed);
    }
    c->leader_seen = leader;
    if (leader != 0 && leader != c->leader_known) {
        metrics_add(METRIC_LEADER_CHANGES, 1);
        c->leader_known = leader;
        c->leader_since_ns = now_ns;
        rounds_leader_moved(c);
    }
    atomic_store_explicit(&c->loops->leader, leader, memory_order_release);
    metrics_set(METRIC_HAS_LEADER, leader != 0);
}

/* What is in the log of a leader that is deposed has an open fate: another one may still commit it.
 * Callers are told now, not by a deadline. After a hand-over it is in the next one's log, and
 * completes. Reads ask the next leader. */
static void note_role(struct consensus *c, bool leads, uint64_t now_ns)
{
    if (c->was_leader && !leads) {
        requests_leader_lost(c, /* orderly= */ c->transferee != 0);
        rounds_leader_lost(c, now_ns);
    }
    c->was_leader = leads;
    atomic_store_explicit(&c->loops->is_leader, leads, memory_order_release);
    metrics_set(METRIC_IS_LEADER, leads);
}

static void note_soft_state(struct consensus *c, const struct raft_ready *ready, uint64_t now_ns)
{
    rounds_lost(c, ready);
    if (!ready->has_soft_state)
        return;
    note_role(c, ready->role == RAFT_LEADER, now_ns);
    note_leader(c, ready->leader, now_ns);
}

/* The snapshot that the core accepted just now is the one that was prepared for it. */
static void take_install(struct consensus *c, struct work *work)
{
    ASSERT(c->prepared != NULL);
    ASSERT(c->prepared->meta.last.index == work->ready->append.snapshot->last.index);
    work->install = c->prepared;
    c->prepared = NULL;
    atomic_store_explicit(&work->install->state, INSTALL_LOGGED, memory_order_relaxed);
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
        if (append->snapshot != NULL)
            take_install(c, work);
    }
    work->ticket = c->ticket_last;
    if (append->entries_count > 0)
        work->last_index = append->entries[append->entries_count - 1].index;
    list_push_back(&c->appending, &work->appending);
    return ST_OK;
}

static void release_work(struct work *work)
{
    if (work->install != NULL)
        install_free(work->install);
    if (work->ready != NULL)
        raft_ready_release(work->ready);
    free(work->responses);
    free(work->waiting);
    free(work);
}

static bool stands_alone(const struct raft_message *message)
{
    return message->entries_count == 0 && message->snapshot == NULL && message->context.len == 0;
}

/* Only the log has to finish it. While its disk hangs thousands of works wait like this; a whole
 * batch is some twenty KiB, what is left to be said a few hundred bytes. */
static void slim(struct work *work)
{
    const struct raft_append_work *append = &work->ready->append;
    for (uint32_t i = 0; i < append->responses_count; i++) {
        if (!stands_alone(&append->responses[i]))
            return;
    }
    struct raft_message *copies = calloc(append->responses_count + 1U, sizeof(*copies));
    if (copies == NULL)
        return; /* it stays as it is */
    if (append->responses_count > 0)
        memcpy(copies, append->responses, append->responses_count * sizeof(*copies));
    work->responses = copies;
    work->responses_count = append->responses_count;
    raft_ready_release(work->ready);
    work->ready = NULL;
    free(work->waiting);
    work->waiting = NULL;
}

static void release_if_done(struct work *work)
{
    if (work->to_apply && !work->applied)
        return;
    if (work->appended)
        release_work(work);
    else if (work->install == NULL)
        slim(work);
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
    neighbours_send(c, ready->messages, ready->messages_count);
    for (uint32_t i = 0; i < ready->fetches_count; i++)
        fetch_start(c, &ready->fetches[i]);
    work->durable = ready->durable;
    st = requests_match(c, work); /* before a loss of leadership, which leaves the rest open */
    note_soft_state(c, ready, now_ns);
    if (st == ST_OK)
        st = append_work(c, work);
    if (st != ST_OK)
        return st;
    work->reads = rounds_take_confirmed(c, ready);

    struct raft_status status;
    raft_get_status(c->raft, &status);
    if (status.hard_state.commit != c->commit_seen) {
        c->commit_seen = status.hard_state.commit;
        atomic_store_explicit(&c->loops->commit, c->commit_seen, memory_order_release);
        metrics_set(METRIC_PROPOSALS_COMMITTED, (int64_t)c->commit_seen);
        waves_committed(&c->waves, now_ns, c->commit_seen, c->queue_count);
    }
    c->transferee = status.transferee;
    atomic_store_explicit(&c->loops->term, status.hard_state.term, memory_order_relaxed);
    note_led_term(c, c->was_leader ? status.hard_state.term : 0);
    atomic_store_explicit(&c->loops->is_learner, status.is_learner, memory_order_relaxed);
    give_to_apply(c, work);
    return ST_OK;
}

/* ---- completions ---- */

/* In their order; runs of those to other members leave together. */
static enum status step_responses(struct consensus *c, const struct work *work)
{
    raft_id self = c->loops->options.member_id;
    bool is_slim = work->ready == NULL;
    const struct raft_message *responses =
        is_slim ? work->responses : work->ready->append.responses;
    uint32_t count = is_slim ? work->responses_count : work->ready->append.responses_count;
    for (uint32_t i = 0, end; i < count; i = end) {
        for (end = i; end < count && responses[end].to != self; end++)
            continue;
        neighbours_send(c, responses + i, end - i);
        if (end > i)
            continue;
        end++;
        enum status st = from_core(c, raft_step(c->raft, &responses[i]));
        if (st != ST_OK)
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
        if (work->install != NULL) {
            if (!install_is_done(c, work->install))
                break; /* what comes behind it waits too: its answers build on it */
            work->install = NULL;
            neighbours_update(c);
        }
        list_remove(&work->appending);
        if (work->last_index != 0)
            timeline_logged(c, work->last_index);
        enum status st = step_responses(c, work);
        work->appended = true;
        release_if_done(work);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static bool has_conf_change(const struct raft_apply_work *apply)
{
    for (uint32_t i = 0; i < apply->entries_count; i++) {
        if (apply->entries[i].type != RAFT_ENTRY_NORMAL)
            return true;
    }
    return false;
}

static enum status finish_applies(struct consensus *c)
{
    enum status st = ST_OK;
    for (struct inbox_node *node = inbox_take(&c->applied), *next; node != NULL; node = next) {
        next = node->next;
        struct work *work = CONTAINER_OF(node, struct work, node);
        const struct raft_apply_work *apply = &work->ready->apply;
        if (apply->entries_count > 0) {
            if (has_conf_change(apply))
                neighbours_update(c);
            enum status stepped = from_core(c, raft_step(c->raft, &apply->response));
            if (stepped != ST_OK)
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
            return from_core(c, st);
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
    if (missed > 0 && c->was_leader)
        metrics_add(METRIC_HEARTBEAT_SEND_FAILURES, 1);
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
    atomic_store_explicit(&c->loops->log_busy_since_ns, c->was_leader ? 0 : stat.in_flight_since_ns,
                          memory_order_relaxed);
    atomic_store_explicit(&c->loops->write_since_ns, stat.in_flight_since_ns, memory_order_relaxed);
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
    return from_core(c, raft_campaign(c->raft));
}

static enum status take_answers(struct consensus *c)
{
    enum status st = ST_OK;
    for (struct inbox_node *node = inbox_take(&c->answers), *next; node != NULL; node = next) {
        next = node->next;
        struct job *job = CONTAINER_OF(node, struct job, node);
        enum status answered = job->kind == JOB_INSTALL
                                   ? install_answer(c, CONTAINER_OF(job, struct install, job))
                                   : fetch_answer(c, job);
        if (st == ST_OK)
            st = from_core(c, answered);
    }
    return st;
}

static enum status take_all_ready(struct consensus *c, uint64_t now_ns)
{
    enum status st = ST_OK;
    while (st == ST_OK && raft_has_ready(c->raft))
        st = take_ready(c, now_ns);
    return st;
}

static enum status drain(struct consensus *c, uint64_t now_ns, uint64_t *again_ns)
{
    enum status st = finish_applies(c);
    if (st == ST_OK)
        st = answer_barriers(c);
    if (st == ST_OK)
        st = poll_log(c);
    if (st == ST_OK)
        st = from_core(c, neighbours_receive(c, now_ns));
    if (st == ST_OK)
        st = take_answers(c);
    if (st == ST_OK)
        st = campaign_if_wanted(c);
    if (st != ST_OK)
        return st;
    tick(c, now_ns);
    st =
        take_all_ready(c, now_ns); /* commits first: what they answer decides about the next wave */
    if (st != ST_OK)
        return st;
    fetch_drop_offers(c); /* those that were late: the core made no message of them */
    install_drop_unwanted(c);
    *again_ns = min_u64(requests_propose(c, now_ns), rounds_start(c, now_ns));
    requests_hand_over(c);
    st = take_all_ready(c, now_ns);
    return st == ST_OK ? poll_log(c) : st; /* submits what was staged just now */
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

/* Told by apply or by another member that it was removed. */
static void check_removed(struct consensus *c)
{
    struct loops *loops = c->loops;
    if (c->removed || !atomic_load_explicit(&loops->removed_wanted, memory_order_acquire))
        return;
    c->removed = true;
    if (loops->options.removed != NULL)
        loops->options.removed(loops->options.context);
}

static uint64_t step_quarantined(struct consensus *c)
{
    requests_take(c);
    requests_fail_all(c, API_STORE_CORRUPT);
    neighbours_drop(c);
    return UINT64_MAX;
}

uint64_t consensus_step(struct consensus *c, uint64_t now_ns)
{
    if (atomic_load_explicit(&c->loops->finish_wanted, memory_order_acquire))
        return finish_log(c);
    if (c->quarantined)
        return step_quarantined(c);
    c->now_ns = now_ns;
    requests_take(c);
    requests_expire(c, now_ns);
    uint64_t again_ns = UINT64_MAX;
    enum status st = drain(c, now_ns, &again_ns);
    if (c->quarantined) {
        enter_quarantine(c);
        return step_quarantined(c);
    }
    if (st != ST_OK) {
        loops_fail(c->loops, st, "consensus");
        return UINT64_MAX;
    }
    check_removed(c);
    if (raft_has_ready(c->raft))
        return now_ns;
    again_ns = min_u64(again_ns, wal_idle(c->wal, now_ns));
    return min_u64(again_ns, c->next_tick_ns);
}

void consensus_deinit(struct consensus *c)
{
    requests_take(c);
    requests_fail_all(c, API_STOPPED);
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
    for (struct inbox_node *node = inbox_take(&c->answers), *next; node != NULL; node = next) {
        next = node->next;
        job_free(CONTAINER_OF(node, struct job, node));
    }
    fetch_drop_offers(c);
    if (c->prepared != NULL)
        install_free(c->prepared);
    neighbours_drop(c);
    members_unref(c->members);
}
