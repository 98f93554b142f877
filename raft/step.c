/* raft/step.c - messages in: the rules of terms first, then by role. */
#include "raft/raft_private.h"

#include "base/assert.h"

#include <inttypes.h>

static bool is_local_thread(raft_id id)
{
    return id == RAFT_ID_APPEND_THREAD || id == RAFT_ID_APPLY_THREAD;
}

/* ---- work that was done ---- */

static void trace_append_done(struct raft *r, const struct raft_message *m)
{
    raft_term ours;
    if (m->index < r->log.unstable_offset || !log_term(&r->log, m->index, &ours))
        raft_trace(r, RAFT_LOG_ROUTINE,
                   "entry at index %" PRIu64 " missing from unstable log; ignoring", m->index);
    else if (ours != m->log_term)
        raft_trace(r, RAFT_LOG_INFO,
                   "entry at (index,term)=(%" PRIu64 ",%" PRIu64
                   ") mismatched with entry at (%" PRIu64 ",%" PRIu64 ") in unstable log; ignoring",
                   m->index, m->log_term, m->index, ours);
}

static void handle_append_done(struct raft *r, const struct raft_message *m)
{
    r->append_elapsed = 0;
    /* Work handed out in an earlier term says nothing about the entries: the same index and term
     * may since have been truncated and appended again, with that write still queued. */
    if (m->term < r->term && m->index != 0) {
        raft_trace(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [term: %" PRIu64
                   "] ignored entry appends from a MsgStorageAppendResp message with lower term "
                   "[term: %" PRIu64 "]",
                   r->id, r->term, m->term);
    } else if (m->index != 0) {
        trace_append_done(r, m);
        log_stable_to(&r->log, (struct raft_log_id){.index = m->index, .term = m->log_term});
    }
    if (m->snapshot != NULL)
        raft_snapshot_installed(r, m->snapshot->last.index);
}

static void handle_apply_done(struct raft *r, const struct raft_message *m)
{
    ASSERT(m->entries_count > 0);
    uint64_t bytes = 0, payload_bytes = 0;
    for (uint32_t i = 0; i < m->entries_count; i++) {
        bytes += raft_entry_bytes(&m->entries[i]);
        payload_bytes += raft_payload_bytes(&m->entries[i]);
    }
    r->uncommitted_bytes -=
        r->uncommitted_bytes < payload_bytes ? r->uncommitted_bytes : payload_bytes;
    raft_applied_to(r, m->entries[m->entries_count - 1].index, bytes);
}

static enum status step_local(struct raft *r, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_STORAGE_APPEND_RESP:
        handle_append_done(r, m);
        return ST_OK;
    case RAFT_MSG_STORAGE_APPLY_RESP:
        handle_apply_done(r, m);
        return ST_OK;
    default:
        return ST_INVALID;
    }
}

/* ---- terms ---- */

static bool is_from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APP || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAP;
}

static bool is_vote_request(enum raft_message_type type)
{
    return type == RAFT_MSG_VOTE || type == RAFT_MSG_PRE_VOTE;
}

/* A leader is known and was heard of within an election timeout: whoever asks for votes now was
 * cut off or removed, and must not disturb it. */
static bool is_in_lease(const struct raft *r)
{
    return r->config.check_quorum && r->leader != 0 &&
           r->election_elapsed < r->config.election_ticks;
}

static void trace_lease(struct raft *r, const struct raft_message *m)
{
    struct raft_log_id last = log_last_id(&r->log);
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
               "] ignored %s from %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
               "] at term %" PRIu64 ": lease is not expired (remaining ticks: %" PRIu32 ")",
               r->id, last.term, last.index, r->vote, raft_message_name(m->type), m->from,
               m->log_term, m->index, r->term, r->config.election_ticks - r->election_elapsed);
}

/* False: the message ends here. */
static bool accept_higher_term(struct raft *r, const struct raft_message *m)
{
    if (is_vote_request(m->type) && is_in_lease(r) &&
        !slice_eq(m->context, SLICE(CAMPAIGN_TRANSFER_MARK))) {
        trace_lease(r, m);
        return false;
    }
    /* A pre-vote only asks what would be, and its grant only answers that. */
    if (m->type == RAFT_MSG_PRE_VOTE || (m->type == RAFT_MSG_PRE_VOTE_RESP && !m->reject))
        return true;
    if (r->role == RAFT_LEADER && r->transferee == m->from)
        r->handed_over = true;
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [term: %" PRIu64
               "] received a %s message with higher term from %" PRIx64 " [term: %" PRIu64 "]",
               r->id, r->term, raft_message_name(m->type), m->from, m->term);
    become_follower(r, m->term, is_from_leader(m->type) ? m->from : 0);
    return true;
}

static void answer_lower_term(struct raft *r, const struct raft_message *m)
{
    if ((m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT) &&
        (r->config.check_quorum || r->config.pre_vote)) {
        /* A member whose term ran ahead while it was cut off cannot be voted back by pre-votes:
         * its answer makes the stuck leader step down, and the next election takes it in. */
        raft_send(r, (struct raft_message){.type = RAFT_MSG_APP_RESP, .to = m->from});
    } else if (m->type == RAFT_MSG_PRE_VOTE) {
        raft_trace_vote_request(r, m, "rejected", "from");
        raft_send(
            r, (struct raft_message){
                   .type = RAFT_MSG_PRE_VOTE_RESP, .to = m->from, .term = r->term, .reject = true});
    } else {
        raft_trace(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [term: %" PRIu64
                   "] ignored a %s message with lower term from %" PRIx64 " [term: %" PRIu64 "]",
                   r->id, r->term, raft_message_name(m->type), m->from, m->term);
    }
}

/* ---- by role ---- */

static enum status step_leader(struct raft *r, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_APP_RESP:
        raft_handle_append_response(r, m);
        return ST_OK;
    case RAFT_MSG_HEARTBEAT_RESP:
        raft_handle_heartbeat_response(r, m);
        return ST_OK;
    default:
        return ST_OK;
    }
}

static enum status step_from_leader(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER)
        return ST_INVALID; /* two leaders in one term: not a member of this cluster */
    if (r->role == RAFT_FOLLOWER) {
        r->election_elapsed = 0;
        r->leader = m->from;
    } else {
        become_follower(r, m->term, m->from);
    }
    if (m->type == RAFT_MSG_APP)
        return raft_handle_append(r, m);
    if (m->type == RAFT_MSG_SNAP)
        return raft_handle_snapshot(r, m);
    return raft_handle_heartbeat(r, m);
}

static enum status dispatch(struct raft *r, const struct raft_message *m)
{
    if (is_vote_request(m->type)) {
        raft_handle_vote_request(r, m);
        return ST_OK;
    }
    if (is_from_leader(m->type))
        return step_from_leader(r, m);
    if (m->type == RAFT_MSG_TRANSFER_LEADER)
        return raft_handle_transfer(r, m);
    if (m->type == RAFT_MSG_READ_INDEX_RESP)
        return raft_handle_read_answer(r, m);
    if (m->type == RAFT_MSG_TIMEOUT_NOW) {
        raft_handle_timeout_now(r, m);
        return ST_OK;
    }
    switch (r->role) {
    case RAFT_LEADER:
        return step_leader(r, m);
    case RAFT_CANDIDATE:
    case RAFT_PRE_CANDIDATE:
        if (m->type == RAFT_MSG_VOTE_RESP || m->type == RAFT_MSG_PRE_VOTE_RESP)
            raft_handle_vote_response(r, m);
        return ST_OK;
    case RAFT_FOLLOWER:
        return ST_OK; /* answers to what it asked in an earlier role */
    }
    return ST_OK;
}

/* What this core understands from outside. */
static enum status check_message(struct raft *r, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_PROP:
        return m->term == 0 ? ST_OK : ST_INVALID;
    case RAFT_MSG_READ_INDEX:
        return m->term == 0 && m->from != 0 ? ST_OK : ST_INVALID;
    case RAFT_MSG_APP:
    case RAFT_MSG_SNAP:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_TRANSFER_LEADER:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_VOTE:
    case RAFT_MSG_PRE_VOTE:
        return m->term != 0 && m->from != 0 ? ST_OK : ST_INVALID;
    case RAFT_MSG_APP_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_READ_INDEX_RESP:
        if (m->term == 0)
            return ST_INVALID;
        /* Its own answers may come back after it was removed: they say nothing then. */
        return m->from != r->id && tracker_find(&r->tracker, m->from) == NULL ? ST_NOT_FOUND
                                                                              : ST_OK;
    default:
        return ST_INVALID;
    }
}

static uint32_t terms_in(const struct raft_message *m)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->entries_count; i++)
        count += i == 0 || m->entries[i].term != m->entries[i - 1].term;
    return count;
}

enum status raft_step(struct raft *r, const struct raft_message *m)
{
    enum status st = raft_reserve(r, m->entries_count, terms_in(m));
    if (st == ST_OK && m->context.len > 0)
        st = batch_reserve_bytes(r->building, m->context.len); /* to be echoed */
    if (st != ST_OK)
        return st;
    if (is_local_thread(m->from))
        return step_local(r, m);
    st = check_message(r, m);
    if (st != ST_OK)
        return st;
    if (m->type == RAFT_MSG_PROP)
        return raft_handle_proposal(r, m);
    if (m->type == RAFT_MSG_READ_INDEX)
        return raft_handle_read(r, m);
    if (m->term > r->term && !accept_higher_term(r, m))
        return ST_OK;
    if (m->term < r->term) {
        answer_lower_term(r, m);
        return ST_OK;
    }
    return dispatch(r, m);
}
