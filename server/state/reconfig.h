/* server/state/reconfig.h - whether a change of membership is safe to propose now
 * (--strict-reconfig-check): etcd's rules, by the member table and by who is connected. What the
 * change itself must be like is judged when it is applied (machine_changes.c). */
#ifndef SERVER_STATE_RECONFIG_H
#define SERVER_STATE_RECONFIG_H
#include "server/state/error.h"
#include "server/state/members.h"

/* A member is connected well when it has been so for this long. */
#define RECONFIG_CONNECTED_NS 5000000000ULL

/* Who is connected to this member, as of now. */
struct reconfig_peers {
    raft_id self;
    uint64_t now_ns; /* monotonic */
    /* Since when messages flow to and from a member; 0: they do not. Never asked about self. */
    uint64_t (*active_since_ns)(void *context, raft_id id);
    void *context;
};

/* API_OK; API_NOT_ENOUGH_STARTED: of the voters there would be, too few have ever started;
 * API_UNHEALTHY: too few are connected well. */
enum api_error reconfig_check_add(const struct members *members, bool is_learner,
                                  const struct reconfig_peers *peers);
enum api_error reconfig_check_remove(const struct members *members, raft_id id,
                                     const struct reconfig_peers *peers);
enum api_error reconfig_check_promote(const struct members *members);

/* Whether a learner with this match index follows a leader with that one closely enough. */
bool reconfig_learner_is_ready(raft_index learner_match, raft_index leader_match);
#endif
