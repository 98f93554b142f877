/* raft/quorum.h - what a majority says, and two majorities at once (joint configurations). Pure
 * arithmetic over the answers of one configuration's voters. */
#ifndef RAFT_QUORUM_H
#define RAFT_QUORUM_H
#include "raft/types.h"

/* In this order the worse outcome is the smaller number. */
enum quorum_result { QUORUM_LOST, QUORUM_PENDING, QUORUM_WON };

/* The highest index that a majority of the count voters has reached; one entry per voter, 0 for no
 * answer. Sorts the array. No voters: UINT64_MAX, so that an empty half never holds up the other.
 */
raft_index quorum_majority_index(raft_index *indexes, uint32_t count);
/* yes and no answers among count voters. No voters: won. */
enum quorum_result quorum_majority_vote(uint32_t yes, uint32_t no, uint32_t count);
enum quorum_result quorum_joint_vote(enum quorum_result a, enum quorum_result b);
#endif
