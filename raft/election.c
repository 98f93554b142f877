#include "raft/raft_private.h"

#include "base/assert.h"

static void request_votes(struct raft *r, enum raft_message_type type, raft_term term)
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
        raft_send(
            r,
            (struct raft_message){
                .type = type, .to = id, .term = term, .index = last.index, .log_term = last.term});
    }
}

static void campaign(struct raft *r)
{
    become_candidate(r);
    request_votes(r, RAFT_MSG_VOTE, r->term);
}

enum status raft_hup(struct raft *r)
{
    if (r->role == RAFT_LEADER || !raft_is_promotable(r))
        return ST_DROPPED;
    /* With the old configuration in mind it could win by a majority that no longer is one. */
    if (log_has_pending_conf_change(&r->log))
        return ST_BUSY;
    if (!r->config.pre_vote) {
        campaign(r);
        return ST_OK;
    }
    become_pre_candidate(r);
    request_votes(r, RAFT_MSG_PRE_VOTE, r->term + 1);
    return ST_OK;
}

enum status raft_campaign(struct raft *r)
{
    enum status st = raft_reserve(r, 0, 0);
    return st == ST_OK ? raft_hup(r) : st;
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
    if (may_vote_for(r, m) && log_is_up_to_date(&r->log, theirs)) {
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

void raft_handle_vote_response(struct raft *r, const struct raft_message *m)
{
    enum raft_message_type mine =
        r->role == RAFT_PRE_CANDIDATE ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;
    if (m->type != mine)
        return; /* of an earlier stage */
    struct progress *from = tracker_find(&r->tracker, m->from);
    if (from != NULL && from->vote == VOTE_NONE)
        from->vote = m->reject ? VOTE_REJECTED : VOTE_GRANTED;
    switch (tracker_votes(&r->tracker)) {
    case QUORUM_WON:
        if (r->role == RAFT_PRE_CANDIDATE) {
            campaign(r);
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
