#include "server/run/force_new.h"

#include "base/buf.h"
#include "base/minmax.h"
#include "server/loops/start.h"
#include "server/run/log.h"
#include "server/run/member_private.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Who would be in the cluster when the whole log is applied. */
struct known {
    struct {
        raft_id id;
        bool is_learner;
    } members[RAFT_MEMBERS_MAX * 2];
    uint32_t count;
};

static void forget(struct known *known, raft_id id)
{
    for (uint32_t i = 0; i < known->count; i++) {
        if (known->members[i].id == id)
            known->members[i--] = known->members[--known->count];
    }
}

static enum status learn(struct known *known, raft_id id, bool is_learner)
{
    forget(known, id);
    if (known->count == sizeof(known->members) / sizeof(known->members[0]))
        return ST_TOO_BIG;
    known->members[known->count].id = id;
    known->members[known->count++].is_learner = is_learner;
    return ST_OK;
}

static enum status learn_all(struct known *known, const raft_id *ids, uint32_t count,
                             bool is_learner)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < count && st == ST_OK; i++)
        st = learn(known, ids[i], is_learner);
    return st;
}

static enum status learn_conf_state(struct known *known, const struct raft_conf_state *c)
{
    enum status st = learn_all(known, c->learners, c->learners_count, true);
    if (st == ST_OK)
        st = learn_all(known, c->learners_next, c->learners_next_count, true);
    if (st == ST_OK)
        st = learn_all(known, c->voters_outgoing, c->voters_outgoing_count, false);
    return st == ST_OK ? learn_all(known, c->voters, c->voters_count, false) : st;
}

static enum status learn_change(struct known *known, const struct raft_entry *entry)
{
    struct member_change change;
    if (entry->type != RAFT_ENTRY_CONF_CHANGE ||
        member_change_decode(raft_payload_slice(entry->payload), &change) != ST_OK)
        return ST_UNSUPPORTED;
    switch (change.type) {
    case MEMBER_CHANGE_ADD_NODE:
        return learn(known, change.node_id, /* is_learner= */ false);
    case MEMBER_CHANGE_ADD_LEARNER:
        return learn(known, change.node_id, /* is_learner= */ true);
    case MEMBER_CHANGE_REMOVE_NODE:
        forget(known, change.node_id);
        return ST_OK;
    default: /* an update changes URLs alone */
        return ST_OK;
    }
}

static enum status learn_log(struct known *known, struct wal *wal,
                             const struct wal_recovered *recovered, const struct store_mark *mark)
{
    struct loops_start log;
    enum status st = loops_start_init(&log, wal, recovered, mark, /* window_entries_max= */ 0);
    if (st == ST_OK)
        st = learn_conf_state(known, &log.start.conf_state);
    for (uint32_t i = 0; i < log.count && st == ST_OK; i++) {
        if (log.entries[i].index > mark->index && log.entries[i].type != RAFT_ENTRY_NORMAL)
            st = learn_change(known, &log.entries[i]);
    }
    loops_start_deinit(&log);
    return st;
}

/* ---- the changes ---- */

struct changes {
    struct raft_entry entries[RAFT_MEMBERS_MAX * 2 + 1];
    uint32_t count;
};

static enum status add_change(struct changes *changes, const struct member_change *change)
{
    struct raft_payload *payload = member_change_payload(change);
    if (payload == NULL)
        return ST_NO_MEMORY;
    changes->entries[changes->count++] =
        (struct raft_entry){.type = RAFT_ENTRY_CONF_CHANGE, .payload = payload};
    return ST_OK;
}

/* This member as a voter: it is promoted, or, where nobody knows of it, added. */
static enum status add_self(struct member *m, struct changes *changes, bool is_promote)
{
    struct slice urls[MEMBER_URLS_MAX];
    uint32_t count = min_u32(m->options.peer_urls_count, MEMBER_URLS_MAX);
    for (uint32_t i = 0; i < count; i++)
        urls[i] = slice_from_str(m->options.peer_urls[i]);
    struct member_row row = {
        .id = m->member_id, .peer_urls = urls, .peer_urls_count = count, .is_promote = is_promote};
    struct buf json;
    buf_init(&json, UINT32_MAX);
    enum status st = member_json_encode(&row, &json);
    if (st == ST_OK)
        st = add_change(changes, &(struct member_change){.type = MEMBER_CHANGE_ADD_NODE,
                                                         .node_id = m->member_id,
                                                         .context = buf_slice(&json)});
    buf_deinit(&json);
    return st;
}

static int compare_ids(const void *a, const void *b)
{
    raft_id x = *(const raft_id *)a, y = *(const raft_id *)b;
    return x < y ? -1 : x > y;
}

static enum status make_changes(struct member *m, const struct known *known,
                                struct changes *changes)
{
    raft_id others[RAFT_MEMBERS_MAX * 2];
    uint32_t others_count = 0;
    bool is_known = false, is_learner = false;
    for (uint32_t i = 0; i < known->count; i++) {
        if (known->members[i].id != m->member_id) {
            others[others_count++] = known->members[i].id;
            continue;
        }
        is_known = true;
        is_learner = known->members[i].is_learner;
    }
    qsort(others, others_count, sizeof(others[0]), compare_ids);
    enum status st = ST_OK;
    if (!is_known || is_learner)
        st = add_self(m, changes, /* is_promote= */ is_known);
    for (uint32_t i = 0; i < others_count && st == ST_OK; i++)
        st = add_change(changes, &(struct member_change){.type = MEMBER_CHANGE_REMOVE_NODE,
                                                         .node_id = others[i]});
    return st;
}

static enum status append(struct member *m, struct changes *changes,
                          struct wal_recovered *recovered)
{
    struct raft_hard_state *hard_state = &recovered->hard_state;
    hard_state->term = max_u64(hard_state->term, 1);
    for (uint32_t i = 0; i < changes->count; i++) {
        changes->entries[i].term = hard_state->term;
        changes->entries[i].index = recovered->last_index + 1 + i;
    }
    struct raft_hard_state next = *hard_state;
    next.commit = recovered->last_index + changes->count;
    const struct wal_append work = {
        .entries = changes->entries, .entries_count = changes->count, .hard_state = &next};
    enum status st = member_append_durably(m->wal, &work);
    if (st != ST_OK)
        return st;
    log_warn("forcing a new cluster of this member alone; everything in its log is kept",
             LOG_HEX("local-member-id", m->member_id), LOG_U64("commit-index", hard_state->commit),
             LOG_U64("last-index", recovered->last_index),
             LOG_U64("entries-above-commit", recovered->last_index - hard_state->commit),
             LOG_U64("changes", changes->count));
    if (recovered->last_index == 0)
        recovered->first_index = 1;
    *hard_state = next;
    recovered->last_index = next.commit;
    return ST_OK;
}

enum status force_new_cluster(struct member *m, struct wal_recovered *recovered,
                              const struct store_mark *mark, char *why, size_t why_bytes)
{
    struct known known = {0};
    struct changes changes = {0};
    if (machine_is_removed(m->machine, m->member_id)) {
        snprintf(why, why_bytes,
                 "member %" PRIx64 " was removed from the cluster: its data is older than the "
                 "cluster's; force the new cluster on the data of another member",
                 m->member_id);
        return ST_INVALID;
    }
    enum status st = learn_log(&known, m->wal, recovered, mark);
    if (st == ST_OK)
        st = make_changes(m, &known, &changes);
    if (st == ST_OK && changes.count > 0)
        st = append(m, &changes, recovered);
    for (uint32_t i = 0; i < changes.count; i++)
        raft_payload_unref(changes.entries[i].payload);
    if (st != ST_OK)
        return member_explain(st, why, why_bytes, "force a new cluster on the log in",
                              m->datadir.wal);
    return ST_OK;
}
