#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/limits.h"

#include <inttypes.h>
#include <stdio.h>

struct raft_hard_state raft_hard_state_of(const struct raft *r)
{
    return (struct raft_hard_state){.term = r->term, .vote = r->vote, .commit = r->log.committed};
}

static bool config_is_valid(const struct raft_config *config)
{
    return config->id != 0 && config->id < RAFT_ID_APPLY_THREAD && config->heartbeat_ticks > 0 &&
           config->election_ticks > config->heartbeat_ticks && config->inflight_messages_max > 0 &&
           (config->inflight_bytes_max == 0 ||
            config->inflight_bytes_max >= config->message_bytes_max) &&
           (config->check_quorum || !config->lease_reads) && config->rng != NULL;
}

/* What was found must be a log: consecutive, terms never falling, holding the store's mark, and no
 * newer than the term that was promised. */
static enum status check_start(const struct raft_start *start)
{
    struct raft_log_id last = start->before_first;
    for (uint32_t i = 0; i < start->entries_count; i++) {
        const struct raft_entry *entry = &start->entries[i];
        if (entry->index != last.index + 1 || entry->term < last.term || entry->term == 0)
            return ST_CORRUPT;
        last = (struct raft_log_id){.index = entry->index, .term = entry->term};
    }
    if (start->applied < start->before_first.index || start->applied > last.index)
        return ST_CORRUPT;
    if (start->hard_state.commit > last.index)
        return ST_CORRUPT;
    /* Made from a snapshot of the founding term, a member has no hard state of its own yet. */
    bool fresh = start->hard_state.term == 0 && start->entries_count == 0 && last.term <= 1;
    if (start->hard_state.term < last.term && !fresh)
        return ST_CORRUPT;
    if ((start->before_first.index == 0) != (start->before_first.term == 0))
        return ST_CORRUPT;
    return ST_OK;
}

static enum status load_log(struct raft *r, const struct raft_start *start)
{
    log_init(&r->log, r->memory, start->before_first);
    r->log.apply_unstable = r->config.apply_unstable;
    r->log.applying_bytes_max = r->config.apply_bytes_max;
    if (start->entries_count > 0) {
        enum status st = log_reserve(&r->log, start->entries_count, start->entries_count);
        if (st != ST_OK)
            return st;
        log_append(&r->log, start->entries, start->entries_count);
        log_accept_in_progress(&r->log); /* they come from the disk */
        log_stable_to(&r->log, log_last_id(&r->log));
    }
    /* The stored commit index is a hint and may be older than what was applied. */
    log_commit_to(&r->log, max_u64(start->hard_state.commit, start->applied));
    log_applied_to(&r->log, start->applied, 0);
    return ST_OK;
}

static bool same_ids(const raft_id *a, uint32_t a_count, const raft_id *b, uint32_t b_count)
{
    struct id_set left = {0}, right = {0};
    if (a_count > RAFT_MEMBERS_MAX || b_count > RAFT_MEMBERS_MAX)
        return false;
    for (uint32_t i = 0; i < a_count; i++) {
        if (!id_set_add(&left, a[i]))
            return false;
    }
    for (uint32_t i = 0; i < b_count; i++) {
        if (!id_set_add(&right, b[i]))
            return false;
    }
    return left.count == right.count &&
           memcmp(left.ids, right.ids, left.count * sizeof(left.ids[0])) == 0;
}

static bool same_conf_state(const struct raft_conf_state *a, const struct raft_conf_state *b)
{
    return same_ids(a->voters, a->voters_count, b->voters, b->voters_count) &&
           same_ids(a->learners, a->learners_count, b->learners, b->learners_count) &&
           same_ids(a->voters_outgoing, a->voters_outgoing_count, b->voters_outgoing,
                    b->voters_outgoing_count) &&
           same_ids(a->learners_next, a->learners_next_count, b->learners_next,
                    b->learners_next_count) &&
           a->auto_leave == b->auto_leave;
}

static bool counts_are_sane(const struct raft_conf_state *cs)
{
    return cs->voters_count <= RAFT_MEMBERS_MAX && cs->learners_count <= RAFT_MEMBERS_MAX &&
           cs->voters_outgoing_count <= RAFT_MEMBERS_MAX &&
           cs->learners_next_count <= RAFT_MEMBERS_MAX;
}

bool raft_restore_tracker(struct tracker *tracker, const struct raft_conf_state *conf_state,
                          raft_index last_index)
{
    struct raft_conf_state restored;
    if (!counts_are_sane(conf_state) || changer_restore(tracker, conf_state, last_index) != NULL)
        return false;
    tracker_conf_state(tracker, &restored);
    return same_conf_state(conf_state, &restored);
}

static enum status load_configuration(struct raft *r, const struct raft_conf_state *conf_state)
{
    struct tracker restored = {0};
    if (!raft_restore_tracker(&restored, conf_state, r->log.last))
        return ST_CORRUPT;
    raft_replace_tracker(r, &restored);
    return ST_OK;
}

static void trace_start(struct raft *r)
{
    char peers[PRINT_BYTES_MAX] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < r->tracker.progresses_count && used + 20 < sizeof(peers); i++)
        used += (size_t)snprintf(peers + used, sizeof(peers) - used, "%s%" PRIx64,
                                 i == 0 ? "" : ",", r->tracker.progresses[i].id);
    raft_trace(r, RAFT_LOG_INFO,
               "newRaft %" PRIx64 " [peers: [%s], term: %" PRIu64 ", commit: %" PRIu64
               ", applied: %" PRIu64 ", lastindex: %" PRIu64 ", lastterm: %" PRIu64 "]",
               r->id, peers, r->term, r->log.committed, r->log.applied, r->log.last,
               log_last_id(&r->log).term);
}

enum status raft_new(const struct raft_config *config, const struct raft_start *start,
                     struct raft **out)
{
    *out = NULL;
    if (!config_is_valid(config))
        return ST_INVALID;
    enum status st = check_start(start);
    if (st != ST_OK)
        return st;
    const struct raft_memory *memory =
        config->memory != NULL ? config->memory : &raft_memory_system;
    struct raft *r = raft_memory_resize(memory, NULL, sizeof(*r));
    if (r == NULL)
        return ST_NO_MEMORY;
    *r = (struct raft){
        .config = *config,
        .memory = memory,
        .id = config->id,
        .term = start->hard_state.term,
        .vote = start->hard_state.vote,
        .batches.memory = memory,
    };
    if (r->config.apply_bytes_max == 0)
        r->config.apply_bytes_max = max_u64(r->config.message_bytes_max, 1);
    st = load_log(r, start);
    if (st == ST_OK)
        st = load_configuration(r, &start->conf_state);
    if (st != ST_OK) {
        raft_free(r);
        return st;
    }
    become_follower(r, r->term, /* leader= */ 0);
    trace_start(r);
    r->seen_hard_state = raft_hard_state_of(r);
    r->seen_role = r->role;
    r->seen_durable = log_durable(&r->log);
    *out = r;
    return ST_OK;
}

void raft_free(struct raft *r)
{
    if (r == NULL)
        return;
    if (r->building != NULL)
        batch_release(r->building);
    batch_pool_deinit(&r->batches);
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++)
        progress_deinit(&r->tracker.progresses[i], r->memory);
    read_only_deinit(&r->reads, r->memory);
    log_deinit(&r->log);
    raft_memory_free(r->memory, r);
}

enum status raft_reserve(struct raft *r, uint64_t entries_count, uint32_t terms_count)
{
    if (r->quarantine != RAFT_QUARANTINE_NONE)
        return ST_CORRUPT;
    if (r->building == NULL)
        r->building = batch_new(&r->batches);
    if (r->building == NULL)
        return ST_NO_MEMORY;
    /* One entry more: a leader's first, or the end of a joint configuration. */
    enum status st = log_reserve(&r->log, entries_count + 1, terms_count + 1);
    if (st == ST_OK)
        st = batch_reserve_messages(r->building, 2 * RAFT_MEMBERS_MAX, /* responses= */ 4);
    if (st == ST_OK)
        st = batch_reserve_reads(r->building, r->reads.count + 1);
    return st;
}

static bool leaves_after_persistence(enum raft_message_type type)
{
    return type == RAFT_MSG_APP_RESP || type == RAFT_MSG_VOTE_RESP ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

static bool carries_own_term(enum raft_message_type type)
{
    return type == RAFT_MSG_VOTE || type == RAFT_MSG_VOTE_RESP || type == RAFT_MSG_PRE_VOTE ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

void raft_send(struct raft *r, struct raft_message message)
{
    struct batch *batch = r->building;
    if (message.from == 0)
        message.from = r->id;
    if (carries_own_term(message.type)) {
        ASSERT(message.term != 0);
    } else if (message.type != RAFT_MSG_PROP && message.type != RAFT_MSG_READ_INDEX) {
        message.term = r->term;
    }
    if (leaves_after_persistence(message.type)) {
        ASSERT(batch->responses_count < batch->responses_capacity);
        batch->responses[batch->responses_count++] = message;
        return;
    }
    ASSERT(message.to != r->id);
    if (batch_reserve_messages(batch, 1, 0) != ST_OK) {
        /* Beyond what was reserved only a burst of appends comes: it is as good as lost on the
         * way. Its entries' references go with the batch's memory. */
        for (uint32_t i = 0; i < message.entries_count; i++)
            raft_payload_unref(message.entries[i].payload);
        return;
    }
    batch->messages[batch->messages_count++] = message;
}

enum status raft_put_in_quarantine(struct raft *r, enum raft_quarantine why)
{
    r->quarantine = why;
    raft_trace(r, RAFT_LOG_ERROR, "%" PRIx64 " is taken out of service: %s", r->id,
               raft_quarantine_text(why));
    return ST_CORRUPT;
}

/* ---- roles ---- */

/* Every change of role but to pre-candidate begins here. */
static void reset(struct raft *r, raft_term term)
{
    ASSERT(term >= r->term);
    if (r->term != term) {
        r->term = term;
        r->vote = 0;
    }
    r->leader = 0;
    r->election_elapsed = r->heartbeat_elapsed = 0;
    r->election_timeout = r->config.election_ticks +
                          (uint32_t)rng_below(r->config.rng, r->config.election_ticks) +
                          r->config.election_delay_ticks;
    r->pending_conf_index = 0;
    r->uncommitted_bytes = 0;
    r->transferee = 0;
    r->stalled_ticks = 0;
    r->has_fetches_wanted = false;
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        struct progress *p = &r->tracker.progresses[i];
        progress_reset(p, p->id == r->id ? r->log.last : 0, r->log.last + 1);
    }
    raft_reads_drop(r);
}

void become_follower(struct raft *r, raft_term term, raft_id leader)
{
    reset(r, term);
    r->leader = leader;
    r->role = RAFT_FOLLOWER;
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " became follower at term %" PRIu64, r->id, r->term);
}

void become_pre_candidate(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    /* Neither term nor vote nor timers: a refused pre-vote must leave no trace. */
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++)
        r->tracker.progresses[i].vote = VOTE_NONE;
    r->leader = 0;
    r->role = RAFT_PRE_CANDIDATE;
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " became pre-candidate at term %" PRIu64, r->id,
               r->term);
}

void become_candidate(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    reset(r, r->term + 1);
    r->vote = r->id;
    r->role = RAFT_CANDIDATE;
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " became candidate at term %" PRIu64, r->id, r->term);
}

void become_leader(struct raft *r)
{
    ASSERT(r->role == RAFT_CANDIDATE);
    reset(r, r->term);
    r->leader = r->id;
    r->role = RAFT_LEADER;
    struct progress *self = tracker_find(&r->tracker, r->id);
    ASSERT(self != NULL);
    progress_become_replicate(self);
    self->recent_active = true;
    /* One of the entries inherited may be a change that is not applied yet. */
    r->pending_conf_index = r->log.last;
    /* Entries of earlier terms commit with this one, never by counting copies (Raft paper 5.4.2).
     */
    raft_append_own(r, RAFT_ENTRY_NORMAL, NULL);
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " became leader at term %" PRIu64, r->id, r->term);
}

bool raft_is_promotable(const struct raft *r)
{
    const struct progress *self = tracker_get(&r->tracker, r->id);
    return self != NULL && !self->is_learner && !r->log.installing;
}

/* ---- ticks ---- */

static void tick_election(struct raft *r)
{
    r->election_elapsed++;
    if (!raft_is_promotable(r) || r->election_elapsed < r->election_timeout)
        return;
    r->election_elapsed = 0;
    enum status st = raft_hup(r, CAMPAIGN_TIMEOUT); /* a refusal is repeated at the next timeout */
    (void)st;
}

static void check_quorum(struct raft *r)
{
    struct progress *self = tracker_find(&r->tracker, r->id);
    if (self != NULL)
        self->recent_active = true;
    bool active = tracker_quorum_is_active(&r->tracker);
    if (!active) {
        raft_trace(r, RAFT_LOG_WARN,
                   "%" PRIx64 " stepped down to follower since quorum is not active", r->id);
        become_follower(r, r->term, /* leader= */ 0);
    }
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        if (r->tracker.progresses[i].id != r->id)
            r->tracker.progresses[i].recent_active = false;
    }
}

static void tick_leader(struct raft *r)
{
    r->heartbeat_elapsed++;
    r->election_elapsed++;
    raft_tick_stalled(r); /* first: the check of the quorum forgets who was heard of */
    if (r->role == RAFT_LEADER && r->config.step_down_on_removal)
        raft_tick_removed(r);
    if (r->role == RAFT_LEADER && r->election_elapsed >= r->config.election_ticks) {
        r->election_elapsed = 0;
        if (r->config.check_quorum)
            check_quorum(r);
        r->transferee = 0; /* it had its time */
    }
    if (r->role == RAFT_LEADER && r->heartbeat_elapsed >= r->config.heartbeat_ticks) {
        r->heartbeat_elapsed = 0;
        raft_broadcast_heartbeat(r);
    }
}

void raft_tick(struct raft *r)
{
    if (raft_reserve(r, 0, 0) != ST_OK)
        return; /* as if this tick came late */
    r->append_elapsed =
        r->log.in_progress_offset > r->log.unstable_offset ? r->append_elapsed + 1 : 0;
    if (r->role == RAFT_LEADER)
        tick_leader(r);
    else
        tick_election(r);
}

enum status raft_forget_leader(struct raft *r)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK || r->role != RAFT_FOLLOWER || r->leader == 0)
        return st;
    if (r->config.lease_reads) {
        raft_trace(r, RAFT_LOG_ERROR, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased");
        return ST_INVALID;
    }
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " forgetting leader %" PRIx64 " at term %" PRIu64,
               r->id, r->leader, r->term);
    r->leader = 0; /* the timers stay: it campaigns when it would have */
    return ST_OK;
}

void raft_report_gone(struct raft *r, raft_id id)
{
    if (id == 0 || r->leader != id || r->role != RAFT_FOLLOWER || r->config.lease_reads ||
        raft_forget_leader(r) != ST_OK)
        return;
    /* Two ticks at least, so that the others have noticed too and their leases are over; a draw,
     * so that seldom two of them begin together. */
    uint32_t soon =
        2 + (uint32_t)rng_below(r->config.rng, max_u32(r->config.election_ticks / 2, 1));
    soon = min_u32(soon + r->config.election_delay_ticks, r->election_timeout);
    r->election_elapsed = max_u32(r->election_elapsed, r->election_timeout - soon);
}

void raft_report_unreachable(struct raft *r, raft_id id)
{
    struct progress *progress = tracker_find(&r->tracker, id);
    if (r->role != RAFT_LEADER || progress == NULL || id == r->id)
        return;
    /* What was sent ahead is probably lost. */
    if (progress->state == PROGRESS_REPLICATE)
        progress_become_probe(progress);
    char text[PRINT_BYTES_MAX];
    raft_trace(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " failed to send message to %" PRIx64 " because it is unreachable [%s]",
               r->id, id, raft_print_progress(r, progress, text, sizeof(text)));
}

/* ---- configuration ---- */

/* Inflight rings of a copy are shared by both until now. */
void raft_replace_tracker(struct raft *r, struct tracker *changed)
{
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        struct progress *old = &r->tracker.progresses[i];
        struct progress *kept = tracker_find(changed, old->id);
        if (kept == NULL || kept->inflights.ring != old->inflights.ring)
            progress_deinit(old, r->memory);
    }
    r->tracker = *changed;
    tracker_conf_state(&r->tracker, &r->conf_state);
    const struct progress *self = tracker_get(&r->tracker, r->id);
    r->is_learner = self != NULL && self->is_learner;
    char text[PRINT_BYTES_MAX];
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " switched to configuration %s", r->id,
               raft_print_configuration(&r->tracker, text, sizeof(text)));
}

static void switch_configuration(struct raft *r, struct tracker *changed)
{
    raft_replace_tracker(r, changed);
    if (r->role != RAFT_LEADER)
        return;
    if (r->transferee != 0 && !tracker_is_voter(&r->tracker, r->transferee))
        r->transferee = 0;
    if (r->is_learner || tracker_get(&r->tracker, r->id) == NULL) {
        if (r->config.step_down_at_once)
            become_follower(r, r->term, /* leader= */ 0);
        else if (r->config.step_down_on_removal)
            raft_tick_removed(r);
        return; /* else it leads on until a member of the new configuration takes over */
    }
    /* A smaller quorum may already have confirmed the reads that wait; alone, nobody else will. */
    raft_reads_confirm(r, tracker_find(&r->tracker, r->id), /* position= */ 0);
    if (raft_maybe_commit(r)) {
        raft_broadcast_append(r); /* a smaller quorum may already have what it needs */
        return;
    }
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        if (r->tracker.progresses[i].id != r->id)
            (void)raft_send_append(r, &r->tracker.progresses[i], /* allow_empty= */ false);
    }
}

enum status raft_apply_conf_change(struct raft *r, enum raft_entry_type type,
                                   const struct slice *change, struct raft_conf_state *out)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    if (change != NULL) {
        struct conf_change decoded;
        if (conf_change_decode(type, *change, &decoded) != ST_OK)
            return raft_put_in_quarantine(r, RAFT_QUARANTINE_BAD_CONF_CHANGE);
        struct tracker changed = r->tracker;
        if (changer_apply(&changed, &decoded, r->log.last) != NULL)
            return ST_INVALID;
        switch_configuration(r, &changed);
    }
    *out = r->conf_state;
    return ST_OK;
}

const struct raft_conf_state *raft_conf_state(const struct raft *r)
{
    return &r->conf_state;
}

/* ---- the rest ---- */

void raft_compact(struct raft *r, raft_index index)
{
    struct raft_log *log = &r->log;
    index = min_u64(index, log->applied);
    /* Members that are a little behind are served from memory: keep what the window may hold. */
    raft_index first = log_first(log);
    uint64_t bytes = log->window_bytes;
    while (first <= index && (log->last + 1 - first > r->config.window_entries_max ||
                              bytes > r->config.window_bytes_max)) {
        bytes -= raft_payload_bytes(log_at(log, first));
        first++;
    }
    log_compact(log, first - 1);
}

void raft_get_status(const struct raft *r, struct raft_status *out)
{
    *out = (struct raft_status){
        .id = r->id,
        .leader = r->leader,
        .transferee = r->transferee,
        .role = r->role,
        .is_learner = r->is_learner,
        .is_lone_voter = raft_is_lone(r),
        .is_promotable = raft_is_promotable(r),
        .is_installing = r->log.installing,
        .is_stalled = raft_is_stalled(r),
        .append_ticks = r->append_elapsed,
        .quarantine = r->quarantine,
        .hard_state = raft_hard_state_of(r),
        .applied = r->log.applied,
        .last_index = r->log.last,
        .window_first = log_first(&r->log),
        .durable = log_durable(&r->log),
        .window_bytes = r->log.window_bytes,
        .unstable_bytes = r->log.unstable_bytes,
    };
}

_Static_assert((int)RAFT_PROGRESS_PROBE == (int)PROGRESS_PROBE, "the same order");
_Static_assert((int)RAFT_PROGRESS_REPLICATE == (int)PROGRESS_REPLICATE, "the same order");
_Static_assert((int)RAFT_PROGRESS_SNAPSHOT == (int)PROGRESS_SNAPSHOT, "the same order");

enum status raft_get_progress(const struct raft *r, raft_id id, struct raft_progress *out)
{
    const struct progress *p = tracker_get(&r->tracker, id);
    if (p == NULL)
        return ST_NOT_FOUND;
    if (r->role != RAFT_LEADER)
        return ST_DROPPED;
    *out = (struct raft_progress){
        .id = id,
        .match = p->match,
        .next = p->next,
        .state = (enum raft_progress_state)p->state,
        .pending_snapshot = p->pending_snapshot,
        .is_learner = p->is_learner,
        .recent_active = p->recent_active || id == r->id,
        .is_paused = progress_is_paused(p),
        .inflight_count = p->inflights.count,
    };
    return ST_OK;
}

void raft_check(const struct raft *r)
{
    log_check(&r->log);
    tracker_check(&r->tracker);
    ASSERT(r->log.last == r->log.before_first.index || r->term >= log_last_id(&r->log).term);
    ASSERT(r->term >= r->seen_hard_state.term);
    ASSERT(r->log.committed >= r->seen_hard_state.commit);
    if (r->term == r->seen_hard_state.term && r->seen_hard_state.vote != 0)
        ASSERT(r->vote == r->seen_hard_state.vote);
    if (r->role == RAFT_LEADER)
        ASSERT(r->leader == r->id);
    else
        ASSERT(r->leader != r->id && r->reads.count == 0);
    if (r->building == NULL)
        return;
    for (uint32_t i = 0; i < r->building->messages_count; i++)
        ASSERT(r->building->messages[i].to != r->id);
}
