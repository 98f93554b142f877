#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "raft/limits.h"

#include <inttypes.h>

/* ---- the leader's own log ---- */

void raft_append_own(struct raft *r, enum raft_entry_type type, struct raft_payload *payload)
{
    struct raft_entry entry = {
        .term = r->term,
        .index = r->log.last + 1,
        .type = type,
        .payload = payload,
    };
    r->uncommitted_bytes += raft_payload_bytes(&entry);
    log_append(&r->log, &entry, 1);
}

void raft_finish_append(struct raft *r)
{
    /* The leader's own disk is one of the votes: it counts when the entries are durable there. */
    raft_send(r,
              (struct raft_message){.type = RAFT_MSG_APP_RESP, .to = r->id, .index = r->log.last});
    raft_broadcast_append(r);
}

/* Raises the commit index to the highest index a majority stores, but only if that entry is of the
 * current term; older entries commit with it (Raft paper 5.4.2, figure 8). */
bool raft_maybe_commit(struct raft *r)
{
    raft_index index = tracker_committed(&r->tracker);
    raft_term term;
    if (index <= r->log.committed || !log_term(&r->log, index, &term) || term != r->term)
        return false;
    log_commit_to(&r->log, index);
    raft_reads_open(r);
    return true;
}

/* ---- sending ---- */

static struct flow_limits flow_limits_of(const struct raft *r)
{
    return (struct flow_limits){.messages_max = r->config.inflight_messages_max,
                                .bytes_max = r->config.inflight_bytes_max};
}

/* How many entries from `next` on fit one message: at least one, if there is any. */
static uint32_t entries_that_fit(const struct raft *r, raft_index next)
{
    uint64_t bytes = 0;
    uint32_t count = 0;
    for (raft_index i = next; i <= r->log.last && count < UINT32_MAX; i++) {
        bytes += raft_entry_bytes(log_at(&r->log, i));
        if (count > 0 && bytes > r->config.message_bytes_max)
            break;
        count++;
    }
    return count;
}

/* Room for a message's entries. Errors: ST_NO_MEMORY. */
static enum status alloc_entries(struct raft *r, uint32_t count, struct raft_entry **out)
{
    *out = count == 0 ? NULL : batch_alloc(r->building, count * sizeof(**out));
    return count > 0 && *out == NULL ? ST_NO_MEMORY : ST_OK;
}

enum status raft_copy_entries(struct raft *r, const struct raft_entry *entries, uint32_t count,
                              struct raft_message *message, uint64_t *bytes_out)
{
    struct raft_entry *copies;
    enum status st = alloc_entries(r, count, &copies);
    if (st != ST_OK)
        return st;
    *bytes_out = 0;
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = entries[i];
        raft_payload_ref(copies[i].payload);
        *bytes_out += raft_payload_bytes(&copies[i]);
    }
    message->entries = copies;
    message->entries_count = count;
    return ST_OK;
}

/* The same from the window. */
static enum status copy_from_log(struct raft *r, raft_index first, uint32_t count,
                                 struct raft_message *message, uint64_t *bytes_out)
{
    struct raft_entry *copies;
    enum status st = alloc_entries(r, count, &copies);
    if (st != ST_OK)
        return st;
    *bytes_out = 0;
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = *log_at(&r->log, first + i);
        raft_payload_ref(copies[i].payload);
        *bytes_out += raft_payload_bytes(&copies[i]);
    }
    message->entries = copies;
    message->entries_count = count;
    return ST_OK;
}

void raft_sent_append(struct raft *r, struct progress *to, struct raft_message message,
                      uint64_t bytes)
{
    struct flow_limits limits = flow_limits_of(r);
    message.commit = r->log.committed;
    raft_send(r, message);
    progress_sent_entries(to, message.entries_count, bytes, &limits);
    to->sent_commit = r->log.committed;
}

bool raft_send_append(struct raft *r, struct progress *to, bool allow_empty)
{
    struct raft_message message = {.type = RAFT_MSG_APP, .to = to->id, .index = to->next - 1};
    if (progress_is_paused(to))
        return false;
    if (!log_term(&r->log, message.index, &message.log_term)) {
        raft_want_fetch(r, to);
        return false;
    }
    struct flow_limits limits = flow_limits_of(r);
    uint32_t count = 0;
    /* When every message in flight was lost, an empty append is what gets things going again. */
    if (to->state != PROGRESS_REPLICATE || !inflights_is_full(&to->inflights, &limits))
        count = entries_that_fit(r, to->next);
    if (count == 0 && !allow_empty)
        return false;
    uint64_t bytes;
    if (count > 0 && progress_reserve(to, r->memory) != ST_OK)
        return false; /* no memory: the next answer or heartbeat tries again */
    if (copy_from_log(r, to->next, count, &message, &bytes) != ST_OK)
        return false;
    raft_sent_append(r, to, message, bytes);
    return true;
}

void raft_broadcast_append(struct raft *r)
{
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        if (r->tracker.progresses[i].id != r->id)
            (void)raft_send_append(r, &r->tracker.progresses[i], /* allow_empty= */ true);
    }
}

void raft_broadcast_heartbeat(struct raft *r)
{
    struct slice context = SLICE_EMPTY;
    if (r->reads.open && r->reads.count > 0 && r->tracker.progresses_count > 1) {
        uint8_t *bytes = batch_alloc(r->building, 8);
        if (bytes != NULL) {
            put_le64(bytes, read_only_last_position(&r->reads));
            context = slice_make(bytes, 8);
        }
    }
    for (uint32_t i = 0; i < r->tracker.progresses_count; i++) {
        struct progress *to = &r->tracker.progresses[i];
        if (to->id == r->id)
            continue;
        /* Never beyond its match: it might not have what is committed. */
        raft_send(r, (struct raft_message){.type = RAFT_MSG_HEARTBEAT,
                                           .to = to->id,
                                           .commit = min_u64(to->match, r->log.committed),
                                           .context = context});
        to->sent_commit = min_u64(to->match, r->log.committed);
    }
}

/* ---- answers to the leader ---- */

static void handle_rejection(struct raft *r, struct progress *from, const struct raft_message *m)
{
    raft_index next_probe = m->reject_hint;
    /* Both sides skip whole terms, so that probing costs a round per term, not one per entry. */
    if (m->log_term > 0)
        next_probe = log_find_conflict(&r->log, m->reject_hint, m->log_term).index;
    raft_trace(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " received MsgAppResp(rejected, hint: (index %" PRIu64 ", term %" PRIu64
               ")) from %" PRIx64 " for index %" PRIu64,
               r->id, m->reject_hint, m->log_term, m->from, m->index);
    if (!progress_maybe_decrease(from, m->index, next_probe))
        return;
    char text[PRINT_BYTES_MAX];
    raft_trace(r, RAFT_LOG_DEBUG, "%" PRIx64 " decreased progress of %" PRIx64 " to [%s]", r->id,
               from->id, raft_print_progress(r, from, text, sizeof(text)));
    if (from->state == PROGRESS_REPLICATE)
        progress_become_probe(from);
    (void)raft_send_append(r, from, /* allow_empty= */ true);
}

static void note_match(struct raft *r, struct progress *from, raft_index index)
{
    char text[PRINT_BYTES_MAX];
    switch (from->state) {
    case PROGRESS_PROBE:
        progress_become_replicate(from);
        break;
    case PROGRESS_SNAPSHOT:
        /* Whichever snapshot it has, or none: it is back where the entries are. */
        if (from->match + 1 < log_first(&r->log))
            break;
        raft_trace(r, RAFT_LOG_DEBUG,
                   "%" PRIx64 " recovered from needing snapshot, resumed sending replication "
                   "messages to %" PRIx64 " [%s]",
                   r->id, from->id, raft_print_progress(r, from, text, sizeof(text)));
        progress_become_probe(from);
        progress_become_replicate(from);
        break;
    case PROGRESS_REPLICATE:
        progress_free_inflights(from, index);
        break;
    }
}

void raft_handle_append_response(struct raft *r, const struct raft_message *m)
{
    struct progress *from = tracker_find(&r->tracker, m->from);
    if (from == NULL)
        return;
    from->recent_active = true;
    if (m->reject) {
        handle_rejection(r, from, m);
        return;
    }
    if (m->index > r->log.last)
        return; /* no answer to anything this leader sent */
    bool caught_up_probe = from->match == m->index && from->state == PROGRESS_PROBE;
    if (!progress_maybe_update(from, m->index) && !caught_up_probe)
        return;
    note_match(r, from, m->index);
    bool is_self = m->from == r->id;
    if (raft_maybe_commit(r))
        raft_broadcast_append(r);
    else if (!is_self && progress_can_bump_commit(from, r->log.committed))
        (void)raft_send_append(r, from, /* allow_empty= */ true);
    if (is_self)
        return;
    while (raft_send_append(r, from, /* allow_empty= */ false))
        continue; /* several messages may fit now */
    raft_transfer_caught_up(r, from);
}

void raft_handle_heartbeat_response(struct raft *r, const struct raft_message *m)
{
    struct progress *from = tracker_find(&r->tracker, m->from);
    if (from == NULL)
        return;
    from->recent_active = true;
    from->flow_paused = false;
    if (from->match < r->log.last || from->state == PROGRESS_PROBE)
        (void)raft_send_append(r, from, /* allow_empty= */ true);
    if (m->context.len == 8)
        raft_reads_confirm(r, from, get_le64(m->context.data));
}

/* ---- the follower ---- */

/* Bytes of a peer: they must be what a leader sends. */
static bool entries_are_consecutive(const struct raft_message *m)
{
    raft_term term = m->log_term;
    for (uint32_t i = 0; i < m->entries_count; i++) {
        const struct raft_entry *entry = &m->entries[i];
        if (entry->index != m->index + 1 + i || entry->term < term || entry->term > m->term)
            return false;
        term = entry->term;
    }
    return m->index <= UINT64_MAX - m->entries_count - 1;
}

/* A disk that does not keep up must not fill the memory; and a snapshot goes to the log before any
 * entry behind it. */
static bool cannot_take_more(const struct raft *r, const struct raft_message *m)
{
    if (r->log.installing && !r->log.install_in_progress)
        return true;
    return m->entries_count > 0 && r->config.follower_bytes_max > 0 &&
           r->log.unstable_bytes >= r->config.follower_bytes_max;
}

static void trace_conflict(struct raft *r, struct raft_entry theirs)
{
    raft_term ours;
    if (!log_term(&r->log, theirs.index, &ours))
        return;
    raft_trace(r, RAFT_LOG_INFO,
               "found conflict at index %" PRIu64 " [existing term: %" PRIu64
               ", conflicting term: %" PRIu64 "]",
               theirs.index, ours, theirs.term);
    if (theirs.index <= r->log.unstable_offset)
        raft_trace(r, RAFT_LOG_INFO, "replace the unstable entries from index %" PRIu64,
                   theirs.index);
    else
        raft_trace(r, RAFT_LOG_INFO, "truncate the unstable entries before index %" PRIu64,
                   theirs.index);
}

static void refuse_append(struct raft *r, const struct raft_message *m)
{
    raft_term ours;
    (void)log_term(&r->log, m->index, &ours);
    raft_trace(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
               "] rejected MsgApp [logterm: %" PRIu64 ", index: %" PRIu64 "] from %" PRIx64,
               r->id, ours, m->index, m->log_term, m->index, m->from);
    raft_index hint = min_u64(m->index, r->log.last);
    struct raft_log_id guess = log_find_conflict(&r->log, hint, m->log_term);
    raft_send(r, (struct raft_message){.type = RAFT_MSG_APP_RESP,
                                       .to = m->from,
                                       .reject = true,
                                       .index = m->index,
                                       .reject_hint = guess.index,
                                       .log_term = guess.term});
}

enum status raft_handle_append(struct raft *r, const struct raft_message *m)
{
    if (!entries_are_consecutive(m))
        return ST_INVALID;
    if (cannot_take_more(r, m))
        return ST_OK; /* as if lost: the leader sends it again */
    struct raft_message answer = {.type = RAFT_MSG_APP_RESP, .to = m->from};
    if (m->index < r->log.committed) {
        answer.index = r->log.committed; /* old news, or a leader that starts from afar */
        raft_send(r, answer);
        return ST_OK;
    }
    if (!log_matches(&r->log, (struct raft_log_id){.index = m->index, .term = m->log_term})) {
        refuse_append(r, m);
        return ST_OK;
    }
    /* Entries we have already stay: a delayed append that is a prefix of the log must not cut it.
     */
    uint32_t known = 0;
    while (known < m->entries_count &&
           log_matches(&r->log, (struct raft_log_id){.index = m->entries[known].index,
                                                     .term = m->entries[known].term}))
        known++;
    if (known < m->entries_count) {
        ASSERT(m->entries[known].index > r->log.committed); /* all of them are above m->index */
        trace_conflict(r, m->entries[known]);
        log_append(&r->log, m->entries + known, m->entries_count - known);
    }
    answer.index = m->index + m->entries_count;
    log_commit_to(&r->log, min_u64(m->commit, answer.index));
    raft_send(r, answer);
    return ST_OK;
}

enum status raft_handle_heartbeat(struct raft *r, const struct raft_message *m)
{
    if (m->commit > r->log.last)
        return raft_put_in_quarantine(r, RAFT_QUARANTINE_LOG_LOST);
    struct raft_message answer = {.type = RAFT_MSG_HEARTBEAT_RESP, .to = m->from};
    if (m->context.len > 0) {
        uint8_t *copy = batch_alloc(r->building, m->context.len);
        ASSERT(copy != NULL); /* reserved by raft_step() */
        memcpy(copy, m->context.data, m->context.len);
        answer.context = slice_make(copy, m->context.len);
    }
    log_commit_to(&r->log, m->commit);
    raft_send(r, answer);
    return ST_OK;
}
