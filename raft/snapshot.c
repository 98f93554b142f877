/* raft/snapshot.c - what a member lacks that the leader has no longer in memory: read from its log
 * on disk, or taken over as a snapshot; and the other side, a log replaced by a snapshot. */
#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/limits.h"

#include <inttypes.h>

/* ---- the leader asks ---- */

void raft_want_fetch(struct raft *r, struct progress *to)
{
    if (!to->recent_active)
        return; /* nobody there to send it to */
    ASSERT(to->fetch == FETCH_NONE);
    to->fetch = FETCH_ENTRIES_WANTED;
    r->has_fetches_wanted = true;
}

void raft_fill_fetches(struct raft *r, struct batch *batch)
{
    uint32_t count = 0;
    for (uint32_t i = 0; r->has_fetches_wanted && i < r->tracker.progresses_count; i++) {
        struct progress *p = &r->tracker.progresses[i];
        struct raft_fetch fetch = {
            .peer = p->id, .first = p->next, .bytes_max = r->config.message_bytes_max};
        if (p->fetch == FETCH_ENTRIES_WANTED) {
            fetch.kind = RAFT_FETCH_ENTRIES;
            p->fetch = FETCH_ENTRIES_ASKED;
        } else if (p->fetch == FETCH_SNAPSHOT_WANTED) {
            fetch.kind = RAFT_FETCH_SNAPSHOT;
            p->fetch = FETCH_SNAPSHOT_ASKED;
        } else {
            continue;
        }
        batch->fetches[count++] = fetch;
    }
    r->has_fetches_wanted = false;
    batch->ready.fetches = batch->fetches;
    batch->ready.fetches_count = count;
}

/* ---- and is answered ---- */

/* The member that waits for an answer of this kind; NULL: the answer is late. */
static struct progress *waiting_for(struct raft *r, raft_id peer, bool snapshot)
{
    struct progress *p = tracker_find(&r->tracker, peer);
    if (r->role != RAFT_LEADER || p == NULL)
        return NULL;
    bool waits = snapshot ? p->fetch == FETCH_SNAPSHOT_WANTED || p->fetch == FETCH_SNAPSHOT_ASKED
                          : p->fetch == FETCH_ENTRIES_WANTED || p->fetch == FETCH_ENTRIES_ASKED;
    return waits ? p : NULL;
}

static bool follow_each_other(struct raft_log_id before, const struct raft_entry *entries,
                              uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].index != before.index + 1 || entries[i].term < before.term)
            return false;
        before = (struct raft_log_id){.index = entries[i].index, .term = entries[i].term};
    }
    return true;
}

static void want_snapshot(struct raft *r, struct progress *to)
{
    to->fetch = FETCH_SNAPSHOT_WANTED;
    r->has_fetches_wanted = true;
}

enum status raft_entries_read(struct raft *r, raft_id peer, struct raft_log_id before,
                              const struct raft_entry *entries, uint32_t count)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    struct progress *to = waiting_for(r, peer, /* snapshot= */ false);
    if (to == NULL)
        return ST_OK;
    if (count == 0 || !follow_each_other(before, entries, count)) {
        want_snapshot(r, to);
        return count == 0 ? ST_OK : ST_INVALID;
    }
    if (before.index != to->next - 1)
        return ST_OK; /* of an earlier fetch; the answer to this one is still to come */
    st = progress_reserve(to, r->memory);
    if (st != ST_OK)
        return st;
    struct raft_message message = {
        .type = RAFT_MSG_APP, .to = peer, .index = before.index, .log_term = before.term};
    uint64_t bytes;
    st = raft_copy_entries(r, entries, count, &message, &bytes);
    if (st != ST_OK)
        return st;
    to->fetch = FETCH_NONE;
    raft_sent_append(r, to, message, bytes);
    while (raft_send_append(r, to, /* allow_empty= */ false))
        continue; /* the rest may be in memory */
    return ST_OK;
}

static bool has_member(const struct raft_conf_state *cs, raft_id id)
{
    bool found = false;
    for (uint32_t i = 0; i < cs->voters_count; i++)
        found = found || cs->voters[i] == id;
    for (uint32_t i = 0; i < cs->learners_count; i++)
        found = found || cs->learners[i] == id;
    for (uint32_t i = 0; i < cs->voters_outgoing_count; i++)
        found = found || cs->voters_outgoing[i] == id;
    return found;
}

enum status raft_snapshot_offer(struct raft *r, raft_id peer,
                                const struct raft_snapshot_meta *snapshot)
{
    enum status st = raft_reserve(r, 0, 0);
    if (st != ST_OK)
        return st;
    struct progress *to = waiting_for(r, peer, /* snapshot= */ true);
    if (to == NULL)
        return ST_OK;
    if (snapshot == NULL || snapshot->last.index == 0 || snapshot->last.index > r->log.committed ||
        !has_member(&snapshot->conf_state, peer)) {
        to->fetch = FETCH_NONE; /* its next answer to a heartbeat asks again */
        return snapshot == NULL ? ST_OK : ST_INVALID;
    }
    struct raft_snapshot_meta *copy = batch_alloc(r->building, sizeof(*copy));
    if (copy == NULL)
        return ST_NO_MEMORY;
    *copy = *snapshot;
    char text[PRINT_BYTES_MAX];
    to->fetch = FETCH_NONE;
    raft_trace(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " [firstindex: %" PRIu64 ", commit: %" PRIu64
               "] sent snapshot[index: %" PRIu64 ", term: %" PRIu64 "] to %" PRIx64 " [%s]",
               r->id, log_first(&r->log), r->log.committed, copy->last.index, copy->last.term, peer,
               raft_print_progress(r, to, text, sizeof(text)));
    progress_become_snapshot(to, copy->last.index);
    raft_trace(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " paused sending replication messages to %" PRIx64 " [%s]", r->id, peer,
               raft_print_progress(r, to, text, sizeof(text)));
    raft_send(r, (struct raft_message){.type = RAFT_MSG_SNAP, .to = peer, .snapshot = copy});
    return ST_OK;
}

void raft_report_snapshot(struct raft *r, raft_id id, bool delivered)
{
    struct progress *p = tracker_find(&r->tracker, id);
    if (r->role != RAFT_LEADER || p == NULL || p->state != PROGRESS_SNAPSHOT)
        return;
    if (!delivered)
        p->pending_snapshot = 0;
    char text[PRINT_BYTES_MAX];
    progress_become_probe(p);
    raft_trace(r, RAFT_LOG_DEBUG,
               delivered ? "%" PRIx64 " snapshot succeeded, resumed sending replication messages "
                           "to %" PRIx64 " [%s]"
                         : "%" PRIx64 " snapshot failed, resumed sending replication messages to "
                           "%" PRIx64 " [%s]",
               r->id, id, raft_print_progress(r, p, text, sizeof(text)));
    /* Delivered, it is still being installed; lost, the next heartbeat finds out what to do. */
    p->flow_paused = true;
}

/* ---- the member that receives one ---- */

static bool is_sound(const struct raft_message *m)
{
    const struct raft_snapshot_meta *s = m->snapshot;
    return s != NULL && s->last.index > 0 && s->last.term > 0 && s->last.term <= m->term &&
           s->last.index < UINT64_MAX;
}

/* Whether the snapshot is to take the place of this member's log. */
static bool is_wanted(struct raft *r, const struct raft_snapshot_meta *snapshot)
{
    if (snapshot->last.index <= r->log.committed)
        return false;
    if (!has_member(&snapshot->conf_state, r->id)) {
        raft_trace(r, RAFT_LOG_WARN,
                   "%" PRIx64 " attempted to restore snapshot but it is not in the ConfState",
                   r->id);
        return false;
    }
    if (!log_matches(&r->log, snapshot->last))
        return true;
    /* Nothing is gained by throwing away a log that holds the very entry. */
    log_commit_to(&r->log, snapshot->last.index);
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [commit: %" PRIu64
               "] fast-forwarded commit to snapshot [index: %" PRIu64 ", term: %" PRIu64 "]",
               r->id, r->log.committed, snapshot->last.index, snapshot->last.term);
    return false;
}

static void install(struct raft *r, const struct raft_snapshot_meta *snapshot,
                    struct tracker *restored)
{
    const struct raft_log *log = &r->log;
    raft_trace(r, RAFT_LOG_INFO,
               "log [committed=%" PRIu64 ", applied=%" PRIu64 ", applying=%" PRIu64
               ", unstable.offset=%" PRIu64 ", unstable.offsetInProgress=%" PRIu64
               ", len(unstable.Entries)=%" PRIu64 "] starts to restore snapshot [index: %" PRIu64
               ", term: %" PRIu64 "]",
               log->committed, log->applied, log->applying, log->unstable_offset,
               log->in_progress_offset, log->last + 1 - log->unstable_offset, snapshot->last.index,
               snapshot->last.term);
    log_restore(&r->log, snapshot->last);
    raft_replace_tracker(r, restored);
    r->snapshot_conf_state = snapshot->conf_state;
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [commit: %" PRIu64 ", lastindex: %" PRIu64 ", lastterm: %" PRIu64
               "] restored snapshot [index: %" PRIu64 ", term: %" PRIu64 "]",
               r->id, log->committed, log->last, snapshot->last.term, snapshot->last.index,
               snapshot->last.term);
}

enum status raft_handle_snapshot(struct raft *r, const struct raft_message *m)
{
    if (!is_sound(m))
        return ST_INVALID;
    const struct raft_snapshot_meta *snapshot = m->snapshot;
    struct tracker restored = {0};
    if (!raft_restore_tracker(&restored, &snapshot->conf_state, snapshot->last.index))
        return ST_INVALID;
    /* Apply is about to decide a change of the configuration that would be replaced under it: the
     * leader finds out by probing, and sends again. */
    if (!r->log.installing && log_has_conf_change(&r->log, r->log.applying))
        return ST_OK;
    bool wanted = is_wanted(r, snapshot);
    if (wanted)
        install(r, snapshot, &restored);
    raft_trace(r, RAFT_LOG_INFO,
               "%" PRIx64 " [commit: %" PRIu64 "] %s snapshot [index: %" PRIu64 ", term: %" PRIu64
               "]",
               r->id, r->log.committed, wanted ? "restored" : "ignored", snapshot->last.index,
               snapshot->last.term);
    raft_send(r, (struct raft_message){.type = RAFT_MSG_APP_RESP,
                                       .to = m->from,
                                       .index = wanted ? r->log.last : r->log.committed});
    return ST_OK;
}

void raft_snapshot_installed(struct raft *r, raft_index index)
{
    log_installed(&r->log, index);
    if (index > r->log.applied)
        raft_applied_to(r, index, /* bytes= */ 0);
}
