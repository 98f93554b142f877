#include "raft/quorum.h"

#include "base/assert.h"

raft_index quorum_majority_index(raft_index *indexes, uint32_t count)
{
    if (count == 0)
        return UINT64_MAX;
    for (uint32_t i = 1; i < count; i++) { /* descending; at most RAFT_MEMBERS_MAX of them */
        raft_index moved = indexes[i];
        uint32_t at = i;
        for (; at > 0 && indexes[at - 1] < moved; at--)
            indexes[at] = indexes[at - 1];
        indexes[at] = moved;
    }
    return indexes[count / 2];
}

enum quorum_result quorum_majority_vote(uint32_t yes, uint32_t no, uint32_t count)
{
    ASSERT(yes + no <= count);
    uint32_t majority = count / 2 + 1;
    if (count == 0 || yes >= majority)
        return QUORUM_WON;
    return count - no < majority ? QUORUM_LOST : QUORUM_PENDING;
}

enum quorum_result quorum_joint_vote(enum quorum_result a, enum quorum_result b)
{
    return a < b ? a : b;
}
