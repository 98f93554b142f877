#include "raft/raft_private.h"

#include "base/assert.h"

#include <inttypes.h>

static void request_votes(struct raft *r, enum raft_message_type type, raft_term term,
                          struct slice context)
{
    struct raft_log_id last = log_last_id(&r->log);
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        raft_id id = r->tracker.progresses[i].id;
        if (!tracker_is_voter(&r->tracker, id))
            continue;
        if (id == r->id) {
            /* The own vote counts only once it is durable, so it comes back as a message. */
            raft_send(r,
                      (struct raft_message){.type = type == RAFT_MSG_VOTE ? RAFT_MSG_VOTE_RESP
                                                                          : RAFT_MSG_PRE_VOTE_RESP,
                                            .to = id,
                                            .term = term});
            continue;
        }
        raft_trace(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
                   "] sent %s request to %" PRIx64 " at term %" PRIu64,
                   r->id, last.term, last.index, raft_message_name(type), id, r->term);
        raft_send(r, (struct raft_message){.type = type,
                                           .to = id,
                                           .term = term,
                                           .index = last.index,
                                           .log_term = last.term,
                                           .context = context});
    }
}

static void campaign(struct raft *r, enum campaign kind)
{
    become_candidate(r);
    request_votes(r, RAFT_MSG_VOTE, r->term,
                  kind == CAMPAIGN_TRANSFER ? SLICE(CAMPAIGN_TRANSFER_MARK) : SLICE_EMPTY);
}

enum status raft_hup(struct raft *r, enum campaign kind)
{
    if (r->role == RAFT_LEADER)
        return ST_DROPPED;
    if (!raft_is_promotable(r)) {
        raft_trace(r, RAFT_LOG_WARN, "%" PRIx64 " is unpromotable and can not campaign", r->id);
        return ST_DROPPED;
    }
    /* With the old configuration in mind it could win by a majority that no longer is one. */
    if (log_has_conf_change(&r->log, r->log.committed)) {
        raft_trace(r, RAFT_LOG_WARN,
                   "%" PRIx64 " cannot campaign at term %" PRIu64
                   " since there are still pending configuration changes to apply",
                   r->id, r->term);
        return ST_BUSY;
    }
    /* It would hand over again at once. */
    if (raft_is_stalled(r))
        return ST_BUSY;
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " is starting a new election at term %" PRIu64, r->id,
               r->term);
    /* Asked by the leader itself, it need not first ask whether there is one. */
    if (!r->config.pre_vote || kind == CAMPAIGN_TRANSFER) {
        campaign(r, kind);
        return ST_OK;
    }
    become_pre_candidate(r);
    request_votes(r, RAFT_MSG_PRE_VOTE, r->term + 1, SLICE_EMPTY);
    return ST_OK;
}

enum status raft_campaign(struct raft *r)
{
    enum status st = raft_reserve(r, 0, 0);
    return st == ST_OK ? raft_hup(r, CAMPAIGN_TIMEOUT) : st;
}

void raft_trace_vote_request(struct raft *r, const struct raft_message *m, const char *what,
                             const char *preposition)
{
    struct raft_log_id last = log_last_id(&r->log);
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
               "] %s %s %s %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 "] at term %" PRIu64,
               r->id, last.term, last.index, r->vote, what, raft_message_name(m->type), preposition,
               m->from, m->log_term, m->index, r->term);
}

static bool may_vote_for(const struct raft *r, const struct raft_message *m)
{
    if (m->type == RAFT_MSG_PRE_VOTE && m->term > r->term)
        return true;
    return r->vote == m->from || (r->vote == 0 && r->leader == 0);
}

void raft_handle_vote_request(struct raft *r, const struct raft_message *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    struct raft_log_id theirs = {.index = m->index, .term = m->log_term};
    struct raft_message answer = {
        .type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
        .to = m->from,
    };
    /* A learner votes too: it may have been promoted without knowing it yet. */
    bool granted = may_vote_for(r, m) && log_is_up_to_date(&r->log, theirs);
    raft_trace_vote_request(r, m, granted ? "cast" : "rejected", granted ? "for" : "from");
    if (granted) {
        answer.term = m->term; /* theirs: ours may be lower when it is only a pre-vote */
        if (!pre) {
            r->election_elapsed = 0;
            r->vote = m->from;
        }
    } else {
        answer.term = r->term;
        answer.reject = true;
    }
    raft_send(r, answer);
}

static void trace_votes(struct raft *r, const struct raft_message *m)
{
    const char *name = raft_message_name(m->type);
    uint32_t votes = 0, rejections = 0;
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        votes += r->tracker.progresses[i].vote == VOTE_GRANTED;
        rejections += r->tracker.progresses[i].vote == VOTE_REJECTED;
    }
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " received %s%s from %" PRIx64 " at term %" PRIu64,
               r->id, name, m->reject ? " rejection" : "", m->from, r->term);
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " has received %" PRIu32 " %s votes and %" PRIu32 " vote rejections",
               r->id, votes, name, rejections);
}

void raft_handle_vote_response(struct raft *r, const struct raft_message *m)
{
    enum raft_message_type mine =
        r->role == RAFT_PRE_CANDIDATE ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;
    if (m->type != mine)
        return; /* of an earlier stage */
    struct progress *from = tracker_find(&r->tracker, m->from);
    if (from != NULL && from->vote == VOTE_NONE)
        from->vote = m->reject ? VOTE_REJECTED : VOTE_GRANTED;
    trace_votes(r, m);
    switch (tracker_votes(&r->tracker)) {
    case QUORUM_WON:
        if (r->role == RAFT_PRE_CANDIDATE) {
            campaign(r, CAMPAIGN_TIMEOUT);
        } else {
            become_leader(r);
            raft_finish_append(r);
        }
        break;
    case QUORUM_LOST:
        become_follower(r, r->term, /* leader= */ 0);
        break;
    case QUORUM_PENDING:
        break;
    }
}
