/* server/loops/timeline.c - when what happened to a request on its way to being committed. */
#include "server/loops/consensus_private.h"

#define SLOW_COMMIT_NS (20 * NS_PER_MS) /* a faster one is not asked who was behind */

void timeline_logged(struct consensus *c, raft_index index)
{
    struct timeline *t = &c->timeline;
    t->acknowledged_by = c->loops->options.member_id;
    t->logged[t->logged_next++ % TIMELINE_LOGGED_MAX] =
        (struct logged){.index = index, .at_ns = c->now_ns};
}

void timeline_acknowledged(struct consensus *c, const struct raft_message *message)
{
    if (message->type == RAFT_MSG_APP_RESP && !message->reject)
        c->timeline.acknowledged_by = message->from;
}

/* When our own log had it; 0: it has not yet. */
static uint64_t logged_ns(const struct timeline *t, raft_index index)
{
    uint64_t found_ns = 0;
    for (uint32_t i = 1; i <= TIMELINE_LOGGED_MAX; i++) {
        const struct logged *logged = &t->logged[(t->logged_next - i) % TIMELINE_LOGGED_MAX];
        if (logged->index < index)
            return found_ns;
        found_ns = logged->at_ns;
    }
    return found_ns;
}

/* The voter that is furthest behind, and how far it is behind index; 0 and 0: none is. */
static void note_slowest(const struct consensus *c, raft_index index, struct request_times *times)
{
    const struct raft_conf_state *conf_state = raft_conf_state(c->raft);
    for (uint32_t i = 0; i < conf_state->voters_count; i++) {
        struct raft_progress progress;
        if (raft_get_progress(c->raft, conf_state->voters[i], &progress) != ST_OK ||
            progress.match >= index || index - progress.match <= times->slowest_behind)
            continue;
        times->slowest = conf_state->voters[i];
        times->slowest_behind = index - progress.match;
    }
}

void timeline_committed(struct consensus *c, struct request *request, raft_index index)
{
    struct request_times *times = &request->times;
    times->committed_ns = c->now_ns;
    times->logged_ns = logged_ns(&c->timeline, index);
    times->committed_by = c->was_leader ? c->timeline.acknowledged_by : c->leader_seen;
    if (c->was_leader && c->now_ns - times->taken_ns > SLOW_COMMIT_NS)
        note_slowest(c, index, times);
}
