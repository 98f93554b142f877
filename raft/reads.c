#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "raft/limits.h"

/* An own read comes out of the next ready; a follower's answer is on its way, or lost for want of
 * memory. Takes the reference. */
static void answer(struct raft *r, struct read_waiting one)
{
    struct batch *batch = r->building;
    if (one.from == 0) {
        ASSERT(batch->read_states_count < batch->read_states_capacity);
        batch->read_states[batch->read_states_count++] =
            (struct raft_read_state){.index = one.index, .context = one.context};
        return;
    }
    struct raft_entry *entry = batch_alloc(batch, sizeof(*entry));
    if (entry == NULL) {
        raft_payload_unref(one.echo);
        return;
    }
    *entry = (struct raft_entry){.payload = one.echo};
    raft_send(r, (struct raft_message){.type = RAFT_MSG_READ_INDEX_RESP,
                                       .to = one.from,
                                       .index = one.index,
                                       .entries = entry,
                                       .entries_count = 1});
}

/* Answers every read up to the position that a majority has confirmed. */
static void answer_confirmed(struct raft *r)
{
    uint64_t confirmed =
        min_u64(tracker_reads_confirmed(&r->tracker), read_only_last_position(&r->reads));
    while (r->reads.confirmed < confirmed) {
        struct read_waiting one = read_only_pop(&r->reads);
        r->reads.confirmed++;
        answer(r, one);
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
        raft_payload_unref(one.echo);
        if (one.from != 0)
            continue; /* it notices by itself that there is another leader */
        ASSERT(batch->reads_lost_count < batch->reads_lost_capacity);
        batch->reads_lost[batch->reads_lost_count++] = one.context;
    }
    read_only_reset(&r->reads);
}

/* The leader takes a read, its own or a follower's. */
static enum status take_read(struct raft *r, struct read_waiting one)
{
    if (r->reads.count >= READS_WAITING_MAX)
        return ST_DROPPED;
    enum status st = read_only_reserve(&r->reads, r->memory);
    if (st != ST_OK)
        return st;
    one.index = r->log.committed;
    if (r->config.lease_reads && r->reads.open) {
        answer(r, one); /* no other leader can be while this one's lease runs: clocks willing */
        return ST_OK;
    }
    read_only_push(&r->reads, one);
    /* Before the first commit of the term the commit index may be older than what an earlier leader
     * (or this member before a crash) acknowledged: the read waits for it. */
    if (r->reads.open)
        begin_round(r);
    return ST_OK;
}

/* Asks the leader; its answer brings the context back. */
static enum status forward(struct raft *r, uint64_t context)
{
    if (r->role != RAFT_FOLLOWER || r->leader == 0)
        return ST_DROPPED;
    struct raft_entry *entry = batch_alloc(r->building, sizeof(*entry));
    struct raft_payload *payload = entry == NULL ? NULL : raft_payload_new(sizeof(context));
    if (payload == NULL)
        return ST_NO_MEMORY;
    put_le64(payload->data, context);
    *entry = (struct raft_entry){.payload = payload};
    raft_send(
        r, (struct raft_message){
               .type = RAFT_MSG_READ_INDEX, .to = r->leader, .entries = entry, .entries_count = 1});
    return ST_OK;
}

enum status raft_read_index(struct raft *r, uint64_t context)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    if (r->role != RAFT_LEADER)
        return forward(r, context);
    return take_read(r, (struct read_waiting){.context = context});
}

enum status raft_handle_read(struct raft *r, const struct raft_message *m)
{
    if (m->entries_count != 1)
        return ST_INVALID;
    if (r->role != RAFT_LEADER)
        return ST_DROPPED;
    struct raft_payload *echo = raft_payload_ref(m->entries[0].payload);
    enum status st = take_read(r, (struct read_waiting){.from = m->from, .echo = echo});
    if (st != ST_OK)
        raft_payload_unref(echo);
    return st;
}

enum status raft_handle_read_answer(struct raft *r, const struct raft_message *m)
{
    struct slice context =
        m->entries_count == 1 ? raft_payload_slice(m->entries[0].payload) : SLICE_EMPTY;
    if (context.len != sizeof(uint64_t))
        return ST_INVALID;
    answer(r, (struct read_waiting){.context = get_le64(context.data), .index = m->index});
    return ST_OK;
}
