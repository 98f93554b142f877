#include "server/state/reconfig.h"

struct voters {
    uint32_t count, started; /* started: it has published its name */
};

/* Voters other than except. */
static struct voters count_voters(const struct members *members, raft_id except)
{
    struct voters voters = {0};
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->is_learner || row->id == except)
            continue;
        voters.count++;
        voters.started += row->name.len > 0;
    }
    return voters;
}

static bool has_quorum(uint32_t started, uint32_t count)
{
    return started >= count / 2 + 1;
}

static bool is_connected(const struct reconfig_peers *peers, raft_id id)
{
    if (id == peers->self)
        return true;
    uint64_t since_ns = peers->active_since_ns(peers->context, id);
    return since_ns != 0 && since_ns + RECONFIG_CONNECTED_NS < peers->now_ns;
}

static uint32_t count_connected_voters(const struct members *members,
                                       const struct reconfig_peers *peers)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        count += !row->is_learner && is_connected(peers, row->id);
    }
    return count;
}

enum api_error reconfig_check_add(const struct members *members, bool is_learner,
                                  const struct reconfig_peers *peers)
{
    struct voters voters = count_voters(members, /* except= */ 0);
    /* A lone member may always get company: that is how a lost cluster is rebuilt. */
    bool is_lone = voters.started == 1 && voters.count == 1;
    if (!is_learner && !is_lone && !has_quorum(voters.started, voters.count + 1))
        return API_NOT_ENOUGH_STARTED;
    return count_connected_voters(members, peers) == voters.count ? API_OK : API_UNHEALTHY;
}

enum api_error reconfig_check_remove(const struct members *members, raft_id id,
                                     const struct reconfig_peers *peers)
{
    const struct member_row *row = members_find(members, id);
    if (row != NULL && row->is_learner)
        return API_OK;
    struct voters others = count_voters(members, id);
    if (!has_quorum(others.started, others.count))
        return API_NOT_ENOUGH_STARTED;
    /* One that is down takes nobody's place in the quorum that works. */
    if (id != peers->self && peers->active_since_ns(peers->context, id) == 0)
        return API_OK;
    uint32_t voters_count = count_voters(members, /* except= */ 0).count;
    uint32_t connected = count_connected_voters(members, peers);
    uint32_t wanted = 1 + (voters_count == 0 ? 0 : (voters_count - 1) / 2);
    return connected >= wanted + 1 ? API_OK : API_UNHEALTHY;
}

/* The learner counts as a voter, and as started: it follows the leader. */
enum api_error reconfig_check_promote(const struct members *members)
{
    struct voters voters = count_voters(members, /* except= */ 0);
    return has_quorum(voters.started + 1, voters.count + 1) ? API_OK : API_NOT_ENOUGH_STARTED;
}

bool reconfig_learner_is_ready(raft_index learner_match, raft_index leader_match)
{
    return (double)learner_match >= (double)leader_match * 0.9;
}
