/* raft/ready.c - effects out: one batch of everything that came up since the last. */
#include "raft/raft_private.h"

#include "base/assert.h"

static bool hard_state_changed(const struct raft *r)
{
    return r->term != r->seen_hard_state.term || r->vote != r->seen_hard_state.vote ||
           r->log.committed != r->seen_hard_state.commit;
}

static bool soft_state_changed(const struct raft *r)
{
    return r->role != r->seen_role || r->leader != r->seen_leader;
}

static bool durable_changed(const struct raft *r)
{
    struct raft_log_id durable = log_durable(&r->log);
    return durable.index != r->seen_durable.index || durable.term != r->seen_durable.term;
}

bool raft_has_ready(const struct raft *r)
{
    raft_index last;
    uint64_t bytes;
    if (r->quarantine != RAFT_QUARANTINE_NONE)
        return false;
    return (r->building != NULL && !batch_is_empty(r->building)) || r->has_fetches_wanted ||
           soft_state_changed(r) || hard_state_changed(r) || durable_changed(r) ||
           log_writable_count(&r->log) > 0 || log_next_committed(&r->log, &last, &bytes);
}

/* Copies [first, last] with a reference each. */
static void copy_entries(const struct raft *r, raft_index first, uint32_t count,
                         struct raft_entry *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = *log_at(&r->log, first + i);
        raft_payload_ref(out[i].payload);
    }
}

/* Everything that can fail, before anything changes. */
static enum status reserve(struct raft *r, uint64_t append_count, uint64_t apply_count)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    struct batch *b = r->building;
    st = batch_reserve_bytes(b, sizeof(struct raft_snapshot_meta));
    if (st != ST_OK)
        return st;
    st = raft_memory_reserve(r->memory, (void **)&b->append_entries, &b->append_capacity,
                             append_count, sizeof(*b->append_entries));
    if (st != ST_OK)
        return st;
    return raft_memory_reserve(r->memory, (void **)&b->apply_entries, &b->apply_capacity,
                               apply_count, sizeof(*b->apply_entries));
}

/* The snapshot to install goes alone: what follows it is not taken before it is handed out. */
static void fill_snapshot(struct raft *r, struct batch *b)
{
    if (!r->log.installing || r->log.install_in_progress)
        return;
    struct raft_snapshot_meta *meta = batch_alloc(b, sizeof(*meta));
    ASSERT(meta != NULL); /* reserved */
    ASSERT(b->append_count == 0);
    meta->last = r->log.before_first;
    meta->conf_state = r->snapshot_conf_state;
    b->ready.append.snapshot = meta;
    r->log.install_in_progress = true;
}

/* With every work while something is not durable: an answer that comes in a later term is ignored,
 * and the next one must make up for it. */
static void fill_append_response(struct raft *r, struct batch *b)
{
    const struct raft_append_work *work = &b->ready.append;
    if (!work->present || (!log_has_unstable(&r->log) && work->snapshot == NULL))
        return;
    struct raft_message response = {.type = RAFT_MSG_STORAGE_APPEND_RESP,
                                    .to = r->id,
                                    .from = RAFT_ID_APPEND_THREAD,
                                    .term = r->term,
                                    .snapshot = work->snapshot};
    if (log_has_unstable(&r->log)) {
        struct raft_log_id last = log_last_id(&r->log);
        response.index = last.index;
        response.log_term = last.term;
    }
    b->responses[b->responses_count++] = response;
}

static void fill_append(struct raft *r, struct batch *b, uint32_t count)
{
    struct raft_append_work *work = &b->ready.append;
    copy_entries(r, r->log.in_progress_offset, count, b->append_entries);
    b->append_count = count;
    work->entries = b->append_entries;
    work->entries_count = count;
    work->has_hard_state = hard_state_changed(r);
    if (work->has_hard_state)
        work->hard_state = raft_hard_state_of(r);
    /* The commit index alone is a hint and not worth a sync. */
    work->must_sync =
        count > 0 || r->term != r->seen_hard_state.term || r->vote != r->seen_hard_state.vote;
    fill_snapshot(r, b);
    work->present =
        count > 0 || work->has_hard_state || work->snapshot != NULL || b->responses_count > 0;
    fill_append_response(r, b);
    work->responses = b->responses;
    work->responses_count = b->responses_count;
}

static void fill_apply(struct raft *r, struct batch *b, uint32_t count)
{
    struct raft_apply_work *work = &b->ready.apply;
    copy_entries(r, r->log.applying + 1, count, b->apply_entries);
    b->apply_count = count;
    work->entries = b->apply_entries;
    work->entries_count = count;
    if (count > 0) {
        work->response = (struct raft_message){.type = RAFT_MSG_STORAGE_APPLY_RESP,
                                               .to = r->id,
                                               .from = RAFT_ID_APPLY_THREAD,
                                               .entries = b->apply_entries,
                                               .entries_count = count};
    }
}

static void fill_rest(struct raft *r, struct batch *b)
{
    struct raft_ready *ready = &b->ready;
    ready->has_soft_state = soft_state_changed(r);
    ready->leader = r->leader;
    ready->role = r->role;
    ready->handed_over = r->handed_over;
    ready->messages = b->messages;
    ready->messages_count = b->messages_count;
    ready->read_states = b->read_states;
    ready->read_states_count = b->read_states_count;
    ready->reads_lost = b->reads_lost;
    ready->reads_lost_count = b->reads_lost_count;
    raft_fill_fetches(r, b);
    ready->durable = log_durable(&r->log);
}

enum status raft_ready(struct raft *r, struct raft_ready **out)
{
    *out = NULL;
    raft_index apply_last = r->log.applying;
    uint64_t apply_bytes = 0;
    bool applies = log_next_committed(&r->log, &apply_last, &apply_bytes);
    uint64_t apply_count = applies ? apply_last - r->log.applying : 0;
    uint64_t append_count = log_writable_count(&r->log);
    enum status st = reserve(r, append_count, apply_count);
    if (st != ST_OK)
        return st;

    struct batch *b = r->building;
    fill_append(r, b, (uint32_t)append_count);
    fill_apply(r, b, (uint32_t)apply_count);
    fill_rest(r, b);
    log_accept_in_progress(&r->log);
    if (applies)
        log_accept_applying(&r->log, apply_last, apply_bytes);
    r->seen_hard_state = raft_hard_state_of(r);
    r->seen_role = r->role;
    r->seen_leader = r->leader;
    r->handed_over = false;
    r->seen_durable = b->ready.durable;
    r->building = NULL;
    *out = &b->ready;
    return ST_OK;
}

void raft_ready_release(struct raft_ready *ready)
{
    if (ready != NULL)
        batch_release((struct batch *)(void *)ready);
}
