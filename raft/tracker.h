/* raft/tracker.h - the configuration in force and, for a leader, how far each of its members is. */
#ifndef RAFT_TRACKER_H
#define RAFT_TRACKER_H
#include "raft/ids.h"
#include "raft/memory.h"
#include "raft/progress.h"
#include "raft/quorum.h"
#include "raft/types.h"

struct raft_configuration {
    struct id_set incoming; /* the voters; in a joint configuration the half to come */
    struct id_set outgoing; /* the half to go; empty unless joint */
    struct id_set learners;
    struct id_set learners_next; /* voters of the outgoing half that become learners after it */
    bool auto_leave;
};

/* A plain value but for the inflight rings, which belong to the tracker in use. */
struct tracker {
    struct raft_configuration configuration;
    struct progress progresses[RAFT_MEMBERS_MAX]; /* ascending id */
    uint32_t progresses_count;
};

struct progress *tracker_find(struct tracker *tracker, raft_id id); /* NULL: not a member */
const struct progress *tracker_get(const struct tracker *tracker, raft_id id);
/* Inserts a progress for a member not yet known. False: RAFT_MEMBERS_MAX reached. */
CHECKED bool tracker_add(struct tracker *tracker, const struct progress *progress);
void tracker_remove(struct tracker *tracker, raft_id id);

static inline bool tracker_is_joint(const struct tracker *tracker)
{
    return tracker->configuration.outgoing.count > 0;
}
/* The only voter there is. */
bool tracker_is_lone(const struct tracker *tracker, raft_id id);
bool tracker_is_voter(const struct tracker *tracker, raft_id id); /* in either half */

/* The joint rules over match indexes, read acknowledgements, votes and activity. */
raft_index tracker_committed(const struct tracker *tracker);
uint64_t tracker_reads_confirmed(const struct tracker *tracker);
enum quorum_result tracker_votes(const struct tracker *tracker);
bool tracker_quorum_is_active(const struct tracker *tracker);

void tracker_conf_state(const struct tracker *tracker, struct raft_conf_state *out);
void tracker_check(const struct tracker *tracker); /* asserts the rules of a configuration */
#endif
