/* raft/transfer.c - leadership handed over on purpose (Ongaro's thesis 3.10): by an operator, or by
 * a leader whose disk does not answer. */
#include "raft/raft_private.h"

#include "base/assert.h"

#include <inttypes.h>

static void send_timeout_now(struct raft *r, raft_id to)
{
    raft_send(r, (struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = to});
}

/* The leader's part: `to` catches up, then campaigns. */
static enum status begin(struct raft *r, raft_id to)
{
    struct progress *target = tracker_find(&r->tracker, to);
    if (target == NULL || !tracker_is_voter(&r->tracker, to))
        return ST_NOT_FOUND;
    if (r->transferee == to)
        return ST_OK;
    r->transferee = 0; /* the newer wish counts */
    if (to == r->id)
        return ST_INVALID;
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [term %" PRIu64 "] starts to transfer leadership to %" PRIx64, r->id,
               r->term, to);
    r->election_elapsed = 0; /* it has one election timeout */
    r->transferee = to;
    if (target->match == r->log.last) {
        send_timeout_now(r, to);
        raft_trace(r, RAFT_LOG_INFO,
                   "%" PRIx64 " sends MsgTimeoutNow to %" PRIx64 " immediately as %" PRIx64
                   " already has up-to-date log",
                   r->id, to, to);
    } else {
        (void)raft_send_append(r, target, /* allow_empty= */ true);
    }
    return ST_OK;
}

enum status raft_transfer_leader(struct raft *r, raft_id to)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    if (r->role == RAFT_LEADER)
        return begin(r, to);
    if (r->role != RAFT_FOLLOWER || r->leader == 0)
        return ST_DROPPED;
    /* The message speaks in the name of the member that is to lead. */
    raft_send(r,
              (struct raft_message){.type = RAFT_MSG_TRANSFER_LEADER, .to = r->leader, .from = to});
    return ST_OK;
}

enum status raft_handle_transfer(struct raft *r, const struct raft_message *m)
{
    if (r->role != RAFT_LEADER)
        return ST_DROPPED;
    enum status st = begin(r, m->from);
    return st == ST_NO_MEMORY ? st : ST_OK; /* who asked is not told */
}

void raft_transfer_caught_up(struct raft *r, const struct progress *from)
{
    if (r->transferee != from->id || from->match != r->log.last)
        return;
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " sent MsgTimeoutNow to %" PRIx64 " after received MsgAppResp", r->id,
               from->id);
    send_timeout_now(r, from->id);
}

void raft_handle_timeout_now(struct raft *r, const struct raft_message *m)
{
    if (r->role != RAFT_FOLLOWER)
        return;
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [term %" PRIu64 "] received MsgTimeoutNow from %" PRIx64
               " and starts an election to get leadership.",
               r->id, r->term, m->from);
    enum status st = raft_hup(r, CAMPAIGN_TRANSFER);
    (void)st; /* refused: the leader stays */
}

/* ---- a disk that does not answer ---- */

bool raft_is_stalled(const struct raft *r)
{
    if (raft_is_lone(r))
        return false;
    return (r->config.stall_ticks_max > 0 && r->append_elapsed >= r->config.stall_ticks_max) ||
           (r->config.stall_bytes_max > 0 && r->log.unstable_bytes >= r->config.stall_bytes_max);
}

/* A voter that was heard of and has everything committed; of those the furthest. 0: none. */
static raft_id find_successor(const struct raft *r)
{
    const struct progress *best = NULL;
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        const struct progress *p = &r->tracker.progresses[i];
        if (p->id == r->id || !p->recent_active || p->match < r->log.committed ||
            !id_set_has(&r->tracker.configuration.incoming, p->id))
            continue;
        if (best == NULL || p->match > best->match)
            best = p;
    }
    return best == NULL ? 0 : best->id;
}

/* Hands over to whoever there is, unless that is under way. */
static void begin_with_any(struct raft *r)
{
    raft_id successor = r->transferee != 0 ? 0 : find_successor(r);
    if (successor == 0)
        return;
    enum status st = begin(r, successor);
    ASSERT(st == ST_OK);
}

void raft_tick_removed(struct raft *r)
{
    if (!tracker_is_voter(&r->tracker, r->id))
        begin_with_any(r);
}

void raft_tick_stalled(struct raft *r)
{
    if (!raft_is_stalled(r)) {
        r->stalled_ticks = 0;
        return;
    }
    if (r->stalled_ticks == 0)
        raft_trace(r, RAFT_LOG_WARN,
                   "%" PRIx64 " is stalled: no append to its log completed for %" PRIu32
                   " ticks, %" PRIu64 " bytes wait; handing leadership over",
                   r->id, r->append_elapsed, r->log.unstable_bytes);
    r->stalled_ticks++;
    if (r->stalled_ticks > r->config.election_ticks) {
        raft_trace(r, RAFT_LOG_WARN,
                   "%" PRIx64 " stepped down to follower since its log is stalled", r->id);
        become_follower(r, r->term, /* leader= */ 0);
        return;
    }
    begin_with_any(r);
}
