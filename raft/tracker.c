#include "raft/tracker.h"

#include "base/assert.h"
#include "base/minmax.h"

static uint32_t position_of(const struct tracker *tracker, raft_id id)
{
    uint32_t at = 0;
    while (at < tracker->progresses_count && tracker->progresses[at].id < id)
        at++;
    return at;
}

static const struct progress *find(const struct tracker *tracker, raft_id id)
{
    uint32_t at = position_of(tracker, id);
    if (at == tracker->progresses_count || tracker->progresses[at].id != id)
        return NULL;
    return &tracker->progresses[at];
}

struct progress *tracker_find(struct tracker *tracker, raft_id id)
{
    const struct progress *found = find(tracker, id);
    return found == NULL ? NULL : &tracker->progresses[found - tracker->progresses];
}

const struct progress *tracker_get(const struct tracker *tracker, raft_id id)
{
    return find(tracker, id);
}

bool tracker_add(struct tracker *tracker, const struct progress *progress)
{
    ASSERT(find(tracker, progress->id) == NULL);
    if (tracker->progresses_count == RAFT_MEMBERS_MAX)
        return false;
    uint32_t at = position_of(tracker, progress->id);
    memmove(&tracker->progresses[at + 1], &tracker->progresses[at],
            (tracker->progresses_count - at) * sizeof(*progress));
    tracker->progresses[at] = *progress;
    tracker->progresses_count++;
    return true;
}

void tracker_remove(struct tracker *tracker, raft_id id)
{
    uint32_t at = position_of(tracker, id);
    if (at == tracker->progresses_count || tracker->progresses[at].id != id)
        return;
    tracker->progresses_count--;
    memmove(&tracker->progresses[at], &tracker->progresses[at + 1],
            (tracker->progresses_count - at) * sizeof(struct progress));
}

bool tracker_is_lone(const struct tracker *tracker, raft_id id)
{
    const struct raft_configuration *c = &tracker->configuration;
    return c->incoming.count == 1 && c->outgoing.count == 0 && c->incoming.ids[0] == id;
}

bool tracker_is_voter(const struct tracker *tracker, raft_id id)
{
    return id_set_has(&tracker->configuration.incoming, id) ||
           id_set_has(&tracker->configuration.outgoing, id);
}

typedef uint64_t (*answer_of)(const struct progress *progress);

static uint64_t match_of(const struct progress *progress)
{
    return progress->match;
}

static uint64_t read_confirmed_of(const struct progress *progress)
{
    return progress->read_confirmed;
}

static uint64_t half_index(const struct tracker *tracker, const struct id_set *half,
                           answer_of answer)
{
    uint64_t answers[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < half->count; i++)
        answers[i] = answer(find(tracker, half->ids[i]));
    return quorum_majority_index(answers, half->count);
}

raft_index tracker_committed(const struct tracker *tracker)
{
    const struct raft_configuration *c = &tracker->configuration;
    return min_u64(half_index(tracker, &c->incoming, match_of),
                   half_index(tracker, &c->outgoing, match_of));
}

uint64_t tracker_reads_confirmed(const struct tracker *tracker)
{
    const struct raft_configuration *c = &tracker->configuration;
    return min_u64(half_index(tracker, &c->incoming, read_confirmed_of),
                   half_index(tracker, &c->outgoing, read_confirmed_of));
}

typedef enum vote (*vote_of)(const struct progress *progress);

static enum vote cast_by(const struct progress *progress)
{
    return progress->vote;
}

static enum vote active_as_vote(const struct progress *progress)
{
    return progress->recent_active ? VOTE_GRANTED : VOTE_REJECTED;
}

static enum quorum_result half_vote(const struct tracker *tracker, const struct id_set *half,
                                    vote_of answer)
{
    uint32_t yes = 0, no = 0;
    for (uint32_t i = 0; i < half->count; i++) {
        enum vote vote = answer(find(tracker, half->ids[i]));
        yes += vote == VOTE_GRANTED;
        no += vote == VOTE_REJECTED;
    }
    return quorum_majority_vote(yes, no, half->count);
}

static enum quorum_result joint_vote(const struct tracker *tracker, vote_of answer)
{
    const struct raft_configuration *c = &tracker->configuration;
    return quorum_joint_vote(half_vote(tracker, &c->incoming, answer),
                             half_vote(tracker, &c->outgoing, answer));
}

enum quorum_result tracker_votes(const struct tracker *tracker)
{
    return joint_vote(tracker, cast_by);
}

bool tracker_quorum_is_active(const struct tracker *tracker)
{
    return joint_vote(tracker, active_as_vote) == QUORUM_WON;
}

static uint32_t copy_ids(const struct id_set *set, raft_id *out)
{
    memcpy(out, set->ids, set->count * sizeof(*out));
    return set->count;
}

void tracker_conf_state(const struct tracker *tracker, struct raft_conf_state *out)
{
    const struct raft_configuration *c = &tracker->configuration;
    *out = (struct raft_conf_state){.auto_leave = c->auto_leave};
    out->voters_count = copy_ids(&c->incoming, out->voters);
    out->learners_count = copy_ids(&c->learners, out->learners);
    out->voters_outgoing_count = copy_ids(&c->outgoing, out->voters_outgoing);
    out->learners_next_count = copy_ids(&c->learners_next, out->learners_next);
}

void tracker_check(const struct tracker *tracker)
{
    const struct raft_configuration *c = &tracker->configuration;
    for (uint32_t i = 0; i < tracker->progresses_count; i++) {
        const struct progress *p = &tracker->progresses[i];
        progress_check(p);
        ASSERT(i == 0 || tracker->progresses[i - 1].id < p->id);
        ASSERT(tracker_is_voter(tracker, p->id) || id_set_has(&c->learners, p->id));
        ASSERT(p->is_learner == id_set_has(&c->learners, p->id));
    }
    for (uint32_t i = 0; i < c->incoming.count; i++)
        ASSERT(find(tracker, c->incoming.ids[i]) != NULL);
    for (uint32_t i = 0; i < c->outgoing.count; i++)
        ASSERT(find(tracker, c->outgoing.ids[i]) != NULL);
    for (uint32_t i = 0; i < c->learners.count; i++) {
        ASSERT(find(tracker, c->learners.ids[i]) != NULL);
        ASSERT(!tracker_is_voter(tracker, c->learners.ids[i]));
    }
    for (uint32_t i = 0; i < c->learners_next.count; i++)
        ASSERT(id_set_has(&c->outgoing, c->learners_next.ids[i]));
    if (!tracker_is_joint(tracker)) {
        ASSERT(c->learners_next.count == 0);
        ASSERT(!c->auto_leave);
    }
}
