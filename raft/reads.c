#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/limits.h"

/* Answers every read up to the position that a majority has confirmed. */
static void answer_confirmed(struct raft *r)
{
    uint64_t confirmed =
        min_u64(tracker_reads_confirmed(&r->tracker), read_only_last_position(&r->reads));
    struct batch *batch = r->building;
    while (r->reads.confirmed < confirmed) {
        struct read_waiting one = read_only_pop(&r->reads);
        r->reads.confirmed++;
        ASSERT(batch->read_states_count < batch->read_states_capacity);
        batch->read_states[batch->read_states_count++] =
            (struct raft_read_state){.index = one.index, .context = one.context};
    }
}

void raft_reads_confirm(struct raft *r, struct progress *by, uint64_t position)
{
    if (!r->reads.open)
        return;
    position = min_u64(position, read_only_last_position(&r->reads));
    by->read_confirmed = max_u64(by->read_confirmed, position);
    answer_confirmed(r);
}

/* Asks everyone to confirm all that waits; a lone voter confirms to itself. */
static void begin_round(struct raft *r)
{
    raft_broadcast_heartbeat(r);
    struct progress *self = tracker_find(&r->tracker, r->id);
    if (self != NULL)
        raft_reads_confirm(r, self, read_only_last_position(&r->reads));
}

void raft_reads_open(struct raft *r)
{
    if (r->reads.open)
        return;
    r->reads.open = true;
    if (r->reads.count == 0)
        return;
    for (uint32_t i = 0; i < r->reads.count; i++)
        r->reads.items[r->reads.head + i].index = r->log.committed;
    begin_round(r);
}

void raft_reads_drop(struct raft *r)
{
    while (r->reads.count > 0) {
        struct read_waiting one = read_only_pop(&r->reads);
        struct batch *batch = r->building;
        ASSERT(batch->reads_lost_count < batch->reads_lost_capacity);
        batch->reads_lost[batch->reads_lost_count++] = one.context;
    }
    read_only_reset(&r->reads);
}

enum status raft_read_index(struct raft *r, uint64_t context)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    if (r->role != RAFT_LEADER || r->reads.count >= READS_WAITING_MAX)
        return ST_DROPPED;
    st = read_only_reserve(&r->reads, r->memory);
    if (st != ST_OK)
        return st;
    read_only_push(&r->reads, (struct read_waiting){.context = context, .index = r->log.committed});
    /* Before the first commit of the term the commit index may be older than what an earlier leader
     * (or this member before a crash) acknowledged: the read waits for it. */
    if (r->reads.open)
        begin_round(r);
    return ST_OK;
}
