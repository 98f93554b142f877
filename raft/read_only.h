/* raft/read_only.h - the leader's queue of reads that wait for a majority to confirm that it still
 * leads. A read's place in the term's order is its position; a round confirms every read up to one.
 * Positions, unlike the callers' contexts, make late and repeated answers harmless. */
#ifndef RAFT_READ_ONLY_H
#define RAFT_READ_ONLY_H
#include "raft/memory.h"
#include "raft/types.h"

struct read_waiting {
    uint64_t context;          /* of an own read */
    raft_index index;          /* committed when it arrived; set when the queue opens */
    raft_id from;              /* the follower that asks; 0: an own read */
    struct raft_payload *echo; /* counted: what a follower wants back */
};

struct read_only {
    struct read_waiting *items; /* owned; [head, head + count) wait, oldest first */
    uint32_t head, count, capacity;
    uint64_t confirmed; /* position of the newest read answered in this term */
    bool open;          /* something of this term is committed */
};

static inline uint64_t read_only_last_position(const struct read_only *reads)
{
    return reads->confirmed + reads->count;
}

/* Errors: ST_NO_MEMORY. */
CHECKED enum status read_only_reserve(struct read_only *reads, const struct raft_memory *memory);
void read_only_push(struct read_only *reads, struct read_waiting one); /* room is reserved */
struct read_waiting read_only_pop(struct read_only *reads);            /* count > 0 */
void read_only_reset(struct read_only *reads); /* empty, closed, position 0 */
void read_only_deinit(struct read_only *reads, const struct raft_memory *memory);
#endif
