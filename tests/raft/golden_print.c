#include "tests/raft/golden_print.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "raft/raft_private.h"

#define U(x) ((unsigned long long)(x))

const char *print_role(enum raft_role role)
{
    static const char *const names[] = {"StateFollower", "StatePreCandidate", "StateCandidate",
                                        "StateLeader"};
    return names[role];
}

static void print_changes(const struct raft_entry *entry, struct buf *out)
{
    struct conf_change change;
    enum status st = conf_change_decode(entry->type, raft_payload_slice(entry->payload), &change);
    ASSERT(st == ST_OK);
    for (uint32_t i = 0; i < change.changes_count; i++)
        emit(out, " %c%llu", "vrul"[change.changes[i].type], U(change.changes[i].node_id));
}

void print_entry(const struct raft_entry *entry, struct buf *out)
{
    static const char *const types[] = {"EntryNormal", "EntryConfChange", "EntryConfChangeV2"};
    emit(out, "%llu/%llu %s", U(entry->term), U(entry->index), types[entry->type]);
    if (entry->type != RAFT_ENTRY_NORMAL) {
        print_changes(entry, out);
        return;
    }
    emit(out, " \"");
    struct slice data = raft_payload_slice(entry->payload);
    for (size_t i = 0; i < data.len; i++)
        emit(out, "%s%c", data.data[i] == '"' || data.data[i] == '\\' ? "\\" : "", data.data[i]);
    emit(out, "\"");
}

void print_entries(const struct raft_entry *entries, uint32_t count, struct buf *out)
{
    for (uint32_t i = 0; i < count; i++) {
        print_entry(&entries[i], out);
        emit(out, "\n");
    }
}

static void print_id(raft_id id, struct buf *out)
{
    if (id == RAFT_ID_APPEND_THREAD)
        emit(out, "AppendThread");
    else if (id == RAFT_ID_APPLY_THREAD)
        emit(out, "ApplyThread");
    else
        emit(out, "%llx", U(id));
}

static void print_ids(const char *name, const raft_id *ids, uint32_t count, struct buf *out)
{
    emit(out, "%s:[", name);
    for (uint32_t i = 0; i < count; i++)
        emit(out, "%s%llu", i == 0 ? "" : " ", U(ids[i]));
    emit(out, "] ");
}

static void print_snapshot(const struct raft_snapshot_meta *snapshot, struct buf *out)
{
    const struct raft_conf_state *cs = &snapshot->conf_state;
    emit(out, "Index:%llu Term:%llu ConfState:", U(snapshot->last.index), U(snapshot->last.term));
    print_ids("Voters", cs->voters, cs->voters_count, out);
    print_ids("VotersOutgoing", cs->voters_outgoing, cs->voters_outgoing_count, out);
    print_ids("Learners", cs->learners, cs->learners_count, out);
    print_ids("LearnersNext", cs->learners_next, cs->learners_next_count, out);
    emit(out, "AutoLeave:%s", cs->auto_leave ? "true" : "false");
}

static void print_head(const char *indent, const struct raft_message *m, raft_id vote,
                       struct buf *out)
{
    emit(out, "%s", indent);
    print_id(m->from, out);
    emit(out, "->");
    print_id(m->to, out);
    emit(out, " %s Term:%llu Log:%llu/%llu", raft_message_name(m->type), U(m->term), U(m->log_term),
         U(m->index));
    if (m->reject)
        emit(out, " Rejected (Hint: %llu)", U(m->reject_hint));
    if (m->commit != 0)
        emit(out, " Commit:%llu", U(m->commit));
    if (vote != 0)
        emit(out, " Vote:%llu", U(vote));
    if (m->type == RAFT_MSG_READ_INDEX || m->type == RAFT_MSG_READ_INDEX_RESP) {
        emit(out, " Context:%llu", U(get_le64(m->entries[0].payload->data)));
        return;
    }
    if ((m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_HEARTBEAT_RESP) &&
        m->context.len == 8)
        emit(out, " Position:%llu", U(get_le64(m->context.data)));
    if (m->entries_count == 1) {
        emit(out, " Entries:[");
        print_entry(&m->entries[0], out);
        emit(out, "]");
    } else if (m->entries_count > 1) {
        emit(out, " Entries:[");
        for (uint32_t i = 0; i < m->entries_count; i++) {
            emit(out, "\n%s  ", indent);
            print_entry(&m->entries[i], out);
        }
        emit(out, "\n%s]", indent);
    }
    if (m->snapshot != NULL) {
        emit(out, "\n%s  Snapshot: ", indent);
        print_snapshot(m->snapshot, out);
    }
}

void print_message(const struct raft_message *message, struct buf *out)
{
    print_head("", message, /* vote= */ 0, out);
    emit(out, "\n");
}

static void print_work(const struct raft_message *work, raft_id vote,
                       const struct raft_message *responses, uint32_t count, struct buf *out)
{
    print_head("", work, vote, out);
    if (count > 0) {
        emit(out, " Responses:[\n");
        for (uint32_t i = 0; i < count; i++) {
            print_head("  ", &responses[i], /* vote= */ 0, out);
            emit(out, "\n");
        }
        emit(out, "]");
    }
    emit(out, "\n");
}

void print_append_work(raft_id id, const struct raft_append_work *work, bool with_responses,
                       struct buf *out)
{
    struct raft_message m = {
        .type = RAFT_MSG_STORAGE_APPEND,
        .from = id,
        .to = RAFT_ID_APPEND_THREAD,
        .entries = work->entries,
        .entries_count = work->entries_count,
        .snapshot = work->snapshot,
    };
    raft_id vote = 0;
    if (work->has_hard_state) {
        m.term = work->hard_state.term;
        m.commit = work->hard_state.commit;
        vote = work->hard_state.vote;
    }
    print_work(&m, vote, work->responses, with_responses ? work->responses_count : 0, out);
}

void print_apply_work(raft_id id, const struct raft_apply_work *work, bool with_responses,
                      struct buf *out)
{
    struct raft_message m = {
        .type = RAFT_MSG_STORAGE_APPLY,
        .from = id,
        .to = RAFT_ID_APPLY_THREAD,
        .entries = work->entries,
        .entries_count = work->entries_count,
    };
    print_work(&m, /* vote= */ 0, &work->response, with_responses ? 1 : 0, out);
}

static void print_async_messages(raft_id id, const struct raft_ready *ready, struct buf *out)
{
    if (ready->append.present)
        print_append_work(id, &ready->append, /* with_responses= */ true, out);
    if (ready->apply.entries_count > 0)
        print_apply_work(id, &ready->apply, /* with_responses= */ true, out);
}

static void print_messages(raft_id id, const struct raft_ready *ready, bool is_async,
                           struct buf *out)
{
    size_t before = out->len;
    emit(out, "Messages:\n");
    size_t start = out->len;
    for (uint32_t i = 0; i < ready->messages_count; i++)
        print_message(&ready->messages[i], out);
    if (is_async)
        print_async_messages(id, ready, out);
    for (uint32_t i = 0; !is_async && i < ready->append.responses_count; i++) {
        if (ready->append.responses[i].to != id)
            print_message(&ready->append.responses[i], out);
    }
    if (out->len == start)
        out->len = before;
}

static void print_reads(const struct raft_ready *ready, struct buf *out)
{
    if (ready->read_states_count > 0)
        emit(out, "ReadStates");
    for (uint32_t i = 0; i < ready->read_states_count; i++)
        emit(out, " %llu@%llu", U(ready->read_states[i].context), U(ready->read_states[i].index));
    if (ready->read_states_count > 0)
        emit(out, "\n");
    for (uint32_t i = 0; i < ready->reads_lost_count; i++)
        emit(out, "ReadLost %llu\n", U(ready->reads_lost[i]));
}

void print_ready(raft_id id, const struct raft_ready *ready, bool is_async, struct buf *out)
{
    size_t before = out->len;
    emit(out, "Ready MustSync=%s:\n", ready->append.must_sync ? "true" : "false");
    size_t start = out->len;
    if (ready->has_soft_state)
        emit(out, "Lead:%llu State:%s\n", U(ready->leader), print_role(ready->role));
    if (ready->append.has_hard_state) {
        emit(out, "HardState Term:%llu", U(ready->append.hard_state.term));
        if (ready->append.hard_state.vote != 0)
            emit(out, " Vote:%llu", U(ready->append.hard_state.vote));
        emit(out, " Commit:%llu\n", U(ready->append.hard_state.commit));
    }
    if (ready->read_states_count > 0 || ready->reads_lost_count > 0)
        print_reads(ready, out);
    if (ready->append.entries_count > 0) {
        emit(out, "Entries:\n");
        print_entries(ready->append.entries, ready->append.entries_count, out);
    }
    if (ready->append.snapshot != NULL) {
        emit(out, "Snapshot ");
        print_snapshot(ready->append.snapshot, out);
        emit(out, "\n");
    }
    if (ready->apply.entries_count > 0) {
        emit(out, "CommittedEntries:\n");
        print_entries(ready->apply.entries, ready->apply.entries_count, out);
    }
    print_messages(id, ready, is_async, out);
    if (out->len == start) {
        out->len = before;
        emit(out, "<empty Ready>\n");
    }
}
