/* raft/progress.h - the leader's view of one member: what it surely has, what to send next, and how
 * much may be on its way. */
#ifndef RAFT_PROGRESS_H
#define RAFT_PROGRESS_H
#include "raft/memory.h"
#include "raft/types.h"

enum progress_state {
    PROGRESS_PROBE,     /* position unknown: one append at a time */
    PROGRESS_REPLICATE, /* streaming: next advances when sending */
    PROGRESS_SNAPSHOT,  /* waits for a snapshot to arrive */
};

/* What it lacks is not in memory: what the driver is asked for. It waits, paused. */
enum progress_fetch {
    FETCH_NONE,
    FETCH_ENTRIES_WANTED, /* to go out with the next batch */
    FETCH_ENTRIES_ASKED,
    FETCH_SNAPSHOT_WANTED,
    FETCH_SNAPSHOT_ASKED,
};

enum vote { VOTE_NONE, VOTE_GRANTED, VOTE_REJECTED };

struct inflight {
    raft_index last; /* of the message's entries */
    uint64_t bytes;
};

/* The messages not yet acknowledged: a ring, oldest first, doubling up to the limit. */
struct inflights {
    struct inflight *ring; /* owned */
    uint32_t start, count, capacity;
    uint64_t bytes;
};

struct flow_limits {
    uint32_t messages_max;
    uint64_t bytes_max; /* 0: none. Soft: one message may overshoot it */
};

struct progress {
    raft_id id;
    raft_index match, next;
    raft_index sent_commit; /* the highest commit index told to it */
    enum progress_state state;
    raft_index pending_snapshot;
    bool recent_active; /* heard of since the last quorum check */
    bool flow_paused;
    enum progress_fetch fetch;
    bool is_learner;
    enum vote vote;          /* its answer in the election that is on */
    uint64_t read_confirmed; /* position in the queue of reads */
    struct inflights inflights;
};

bool inflights_is_full(const struct inflights *inflights, const struct flow_limits *limits);

/* A member's first or, after a change of leader, fresh state. */
void progress_reset(struct progress *progress, raft_index match, raft_index next);
void progress_become_probe(struct progress *progress);
void progress_become_replicate(struct progress *progress);
void progress_become_snapshot(struct progress *progress, raft_index index);
bool progress_is_paused(const struct progress *progress);
/* Room to note one more message. Errors: ST_NO_MEMORY. */
CHECKED enum status progress_reserve(struct progress *progress, const struct raft_memory *memory);
void progress_sent_entries(struct progress *progress, uint32_t count, uint64_t bytes,
                           const struct flow_limits *limits);
/* It has everything up to index. False: known before. */
bool progress_maybe_update(struct progress *progress, raft_index index);
/* It refused an append after `rejected`, and hint is where to try. False: an old answer. */
bool progress_maybe_decrease(struct progress *progress, raft_index rejected, raft_index hint);
void progress_free_inflights(struct progress *progress, raft_index acknowledged);
/* Telling it about this commit index can still help it. */
bool progress_can_bump_commit(const struct progress *progress, raft_index commit);
void progress_deinit(struct progress *progress, const struct raft_memory *memory);
void progress_check(const struct progress *progress);
#endif
