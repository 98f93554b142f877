#include "tests/raft/member.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdlib.h>

struct raft_config member_config(raft_id id)
{
    return (struct raft_config){
        .id = id,
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .message_bytes_max = 1 << 20,
        .inflight_messages_max = 512,
        .check_quorum = true,
        .pre_vote = true,
        .step_down_on_removal = true,
        .apply_unstable = true,
        .window_entries_max = 5000,
        .window_bytes_max = 64 << 20,
    };
}

struct member *member_new(const struct raft_config *config, uint64_t seed)
{
    struct member *m = calloc(1, sizeof(*m));
    ASSERT(m != NULL);
    rng_seed(&m->rng, seed);
    m->config = *config;
    m->config.rng = &m->rng;
    return m;
}

static void truncate_disk(struct member *m, raft_index last)
{
    for (; m->disk_last > last; m->disk_last--)
        raft_payload_unref(m->disk[m->disk_last - 1].payload);
}

void member_free(struct member *m)
{
    member_crash(m);
    truncate_disk(m, 0);
    free(m);
}

enum status member_start(struct member *m)
{
    ASSERT(m->raft == NULL);
    struct raft_start start = {
        .hard_state = m->disk_hard_state,
        .conf_state = m->store_conf_state,
        .before_first = {.index = m->store_applied},
        .entries = m->disk + m->store_applied,
        .entries_count = (uint32_t)(m->disk_last - m->store_applied),
        .applied = m->store_applied,
    };
    if (m->store_applied > 0)
        start.before_first.term = m->disk[m->store_applied - 1].term;
    m->applied = m->store_applied;
    m->conf_state = m->store_conf_state;
    m->durable = (struct raft_log_id){0};
    return raft_new(&m->config, &start, &m->raft);
}

static void drop_work(struct member *m, struct raft_ready *ready)
{
    for (uint32_t i = 0; i < m->held_count; i++) {
        if (m->held[i].ready != ready)
            continue;
        if (--m->held[i].works == 0) {
            raft_ready_release(ready);
            m->held[i] = m->held[--m->held_count];
        }
        return;
    }
    ASSERT(false);
}

void member_crash(struct member *m)
{
    for (uint32_t i = 0; i < m->held_count; i++)
        raft_ready_release(m->held[i].ready);
    m->held_count = 0;
    m->appends = m->applies = (struct work_queue){0};
    raft_free(m->raft);
    m->raft = NULL;
}

static void push(struct work_queue *queue, struct raft_ready *ready)
{
    ASSERT(queue->count < MEMBER_WORKS_MAX);
    queue->items[(queue->head + queue->count++) % MEMBER_WORKS_MAX] = ready;
}

static struct raft_ready *pop(struct work_queue *queue)
{
    if (queue->count == 0)
        return NULL;
    struct raft_ready *ready = queue->items[queue->head];
    queue->head = (queue->head + 1) % MEMBER_WORKS_MAX;
    queue->count--;
    return ready;
}

static void note_sent(struct member *m, const struct raft_message *message)
{
    m->last_sent = *message;
    if (m->outbox_count < MEMBER_OUTBOX_MAX)
        m->outbox[m->outbox_count++] = *message;
}

const struct raft_message *member_sent(const struct member *m, enum raft_message_type type,
                                       raft_id to)
{
    for (uint32_t i = m->outbox_count; i > 0; i--) {
        if (m->outbox[i - 1].type == type && m->outbox[i - 1].to == to)
            return &m->outbox[i - 1];
    }
    return NULL;
}

static void note(struct member *m, const struct raft_ready *ready)
{
    for (uint32_t i = 0; i < ready->fetches_count && m->fetches_count < MEMBER_OUTBOX_MAX; i++)
        m->fetches[m->fetches_count++] = ready->fetches[i];
    for (uint32_t i = 0; i < ready->read_states_count; i++) {
        ASSERT(m->reads_count < MEMBER_READS_MAX);
        m->reads[m->reads_count++] = ready->read_states[i];
    }
    for (uint32_t i = 0; i < ready->reads_lost_count; i++) {
        ASSERT(m->reads_lost_count < MEMBER_READS_MAX);
        m->reads_lost[m->reads_lost_count++] = ready->reads_lost[i];
    }
    for (uint32_t i = 0; i < ready->messages_count; i++)
        note_sent(m, &ready->messages[i]);
    m->sent_count += ready->messages_count;
    m->handed_over = ready->handed_over;
    m->must_sync_count += ready->append.must_sync;
    m->append_count += ready->append.present;
}

bool member_take_ready(struct member *m)
{
    if (!raft_has_ready(m->raft))
        return false;
    struct raft_ready *ready;
    if (raft_ready(m->raft, &ready) != ST_OK)
        return false;
    note(m, ready);
    uint32_t works = 0;
    if (ready->append.present) {
        push(&m->appends, ready);
        works++;
    }
    /* The durable id travels in the same queue, before the entries. */
    push(&m->applies, ready);
    works++;
    ASSERT(m->held_count < MEMBER_WORKS_MAX);
    m->held[m->held_count].ready = ready;
    m->held[m->held_count++].works = works;
    return true;
}

static void step(struct member *m, const struct raft_message *message)
{
    enum status st = raft_step(m->raft, message);
    ASSERT(st == ST_OK || st == ST_NOT_FOUND);
    raft_check(m->raft);
}

/* The entries a snapshot stands for are there, but empty. */
static void write_snapshot(struct member *m, const struct raft_snapshot_meta *snapshot)
{
    truncate_disk(m, 0);
    ASSERT(snapshot->last.index < MEMBER_ENTRIES_MAX);
    while (m->disk_last < snapshot->last.index) {
        m->disk[m->disk_last] =
            (struct raft_entry){.index = m->disk_last + 1, .term = snapshot->last.term};
        m->disk_last++;
    }
    m->store_applied = m->applied = snapshot->last.index;
    m->store_conf_state = m->conf_state = snapshot->conf_state;
    m->applied_ids[m->applied] = snapshot->last;
}

static void write_disk(struct member *m, const struct raft_append_work *work)
{
    if (work->snapshot != NULL) {
        ASSERT(work->entries_count == 0);
        write_snapshot(m, work->snapshot);
    }
    if (work->entries_count > 0) {
        ASSERT(work->entries[0].index <= m->disk_last + 1);
        truncate_disk(m, work->entries[0].index - 1);
    }
    for (uint32_t i = 0; i < work->entries_count; i++) {
        ASSERT(work->entries[i].index == m->disk_last + 1);
        ASSERT(m->disk_last < MEMBER_ENTRIES_MAX);
        m->disk[m->disk_last++] = work->entries[i];
        raft_payload_ref(work->entries[i].payload);
    }
    if (work->has_hard_state)
        m->disk_hard_state = work->hard_state;
}

void member_crash_after(struct member *m, uint32_t works)
{
    struct raft_ready *ready;
    while (works-- > 0 && (ready = pop(&m->appends)) != NULL)
        write_disk(m, &ready->append);
    member_crash(m);
}

void member_check_durable(const struct member *m)
{
    struct raft_log_id durable = member_status(m).durable;
    ASSERT(durable.index <= m->disk_last);
    if (durable.index > 0)
        ASSERT(m->disk[durable.index - 1].term == durable.term);
    for (uint32_t i = 0; i < m->appends.count; i++) {
        const struct raft_ready *ready = m->appends.items[(m->appends.head + i) % MEMBER_WORKS_MAX];
        if (ready->append.entries_count > 0)
            ASSERT(ready->append.entries[0].index > durable.index);
    }
}

/* What an answer promises must be on the disk when it leaves. */
static void check_promise(const struct member *m, const struct raft_append_work *work,
                          const struct raft_message *answer)
{
    if (answer->type == RAFT_MSG_VOTE_RESP && !answer->reject) {
        ASSERT(m->disk_hard_state.term > answer->term ||
               (m->disk_hard_state.term == answer->term && m->disk_hard_state.vote == answer->to));
    }
    const struct raft_message *last = &work->responses[work->responses_count - 1];
    if (answer->type == RAFT_MSG_APP_RESP && !answer->reject && last->term == answer->term)
        ASSERT(m->disk_last >= answer->index);
}

bool member_finish_append(struct member *m)
{
    struct raft_ready *ready = pop(&m->appends);
    if (ready == NULL)
        return false;
    if (ready->append.snapshot != NULL) { /* apply finishes what it was given before */
        while (member_finish_apply(m))
            continue;
    }
    write_disk(m, &ready->append);
    for (uint32_t i = 0; i < ready->append.responses_count; i++) {
        const struct raft_message *response = &ready->append.responses[i];
        check_promise(m, &ready->append, response);
        if (response->to == m->config.id)
            step(m, response);
        else
            note_sent(m, response);
    }
    drop_work(m, ready);
    return true;
}

static void apply_entry(struct member *m, const struct raft_entry *entry)
{
    ASSERT(entry->index == m->applied + 1);
    ASSERT(entry->index < MEMBER_ENTRIES_MAX);
    m->applied = entry->index;
    m->applied_ids[entry->index] = (struct raft_log_id){.index = entry->index, .term = entry->term};
    if (entry->type != RAFT_ENTRY_NORMAL) {
        struct slice change = raft_payload_slice(entry->payload);
        enum status st = raft_apply_conf_change(m->raft, entry->type, &change, &m->conf_state);
        ASSERT(st == ST_OK);
        raft_check(m->raft);
    }
}

bool member_finish_apply(struct member *m)
{
    struct raft_ready *ready = pop(&m->applies);
    if (ready == NULL)
        return false;
    m->durable = ready->durable;
    for (uint32_t i = 0; i < ready->apply.entries_count; i++)
        apply_entry(m, &ready->apply.entries[i]);
    if (ready->apply.entries_count > 0)
        step(m, &ready->apply.response);
    drop_work(m, ready);
    return true;
}

void member_settle(struct member *m)
{
    bool busy = true;
    while (busy) {
        busy = member_take_ready(m);
        busy = member_finish_append(m) || busy;
        busy = member_finish_apply(m) || busy;
    }
}

void member_lead(struct member *m)
{
    member_settle(m); /* what is committed is applied */
    enum status st = raft_campaign(m->raft);
    ASSERT(st == ST_OK);
    member_settle(m);
    ASSERT(member_status(m).role == RAFT_LEADER);
}

void member_found(struct member *m, const raft_id *ids, uint32_t count)
{
    struct raft_payload *changes[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        struct conf_change_single change = {.type = CONF_CHANGE_ADD_NODE, .node_id = ids[i]};
        changes[i] = conf_change_encode_v1(/* id= */ 0, change, SLICE("member"));
        ASSERT(changes[i] != NULL);
    }
    enum status st = member_start(m);
    ASSERT(st == ST_OK);
    st = raft_bootstrap(m->raft, changes, count);
    ASSERT(st == ST_OK);
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(changes[i]);
}

void member_commit_store(struct member *m)
{
    /* The store rule: the log on disk reaches as far and holds the very entry that was applied. The
     * generation that ends at applied goes as a whole. */
    if (m->applied <= m->store_applied || m->durable.index < m->applied)
        return;
    ASSERT(m->disk_last >= m->applied);
    ASSERT(m->disk[m->applied - 1].term == m->applied_ids[m->applied].term);
    m->store_applied = m->applied;
    m->store_conf_state = m->conf_state;
}

enum status member_propose(struct member *m, const char *text, raft_index *index_out)
{
    struct raft_payload *payload = raft_payload_copy(slice_from_str(text));
    ASSERT(payload != NULL);
    enum status st = raft_propose(m->raft, &payload, 1, index_out);
    raft_payload_unref(payload);
    return st;
}

struct raft_status member_status(const struct member *m)
{
    struct raft_status status;
    raft_get_status(m->raft, &status);
    return status;
}
