#include "raft/raft_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/limits.h"

#include <inttypes.h>
#include <stdio.h>

/* The first proposal over the quota goes in, and empty ones always do: a leader's first entry and
 * the end of a joint configuration must not be refused. */
static bool is_over_quota(const struct raft *r, uint64_t bytes)
{
    return r->config.uncommitted_bytes_max > 0 && r->uncommitted_bytes > 0 && bytes > 0 &&
           r->uncommitted_bytes + bytes > r->config.uncommitted_bytes_max;
}

/* Whether this leader takes proposals now. Errors: as raft_propose(). */
static enum status check_leader(struct raft *r, uint64_t bytes)
{
    if (tracker_find(&r->tracker, r->id) == NULL)
        return ST_DROPPED;
    if (r->transferee != 0)
        return ST_BUSY; /* it must catch up, so the log must end somewhere */
    return is_over_quota(r, bytes) ? ST_TOO_BIG : ST_OK;
}

/* Why a change comes at the wrong time; NULL: it does not. Best effort: it looks at the
 * configuration applied so far. */
static const char *conf_change_is_untimely(const struct raft *r, const struct conf_change *change)
{
    bool joint = tracker_is_joint(&r->tracker);
    if (r->pending_conf_index > r->log.applied)
        return "possible unapplied conf change";
    if (joint && !conf_change_is_leave(change))
        return "must transition out of joint config first";
    if (!joint && conf_change_is_leave(change))
        return "not in joint state; refusing empty conf change";
    return NULL;
}

static void trace_refused(struct raft *r, const struct conf_change *change, const char *why)
{
    char configuration[PRINT_BYTES_MAX], text[PRINT_BYTES_MAX], where[96] = "";
    if (r->pending_conf_index > r->log.applied)
        (void)snprintf(where, sizeof(where), " at index %" PRIu64 " (applied to %" PRIu64 ")",
                       r->pending_conf_index, r->log.applied);
    raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " ignoring conf change %s at config %s: %s%s", r->id,
               raft_print_change(change, text, sizeof(text)),
               raft_print_configuration(&r->tracker, configuration, sizeof(configuration)), why,
               where);
}

static enum status append_proposed(struct raft *r, enum raft_entry_type type,
                                   struct raft_payload *payload)
{
    if (type == RAFT_ENTRY_NORMAL) {
        raft_append_own(r, type, payload);
        return ST_OK;
    }
    struct conf_change change;
    enum status st = conf_change_decode(type, raft_payload_slice(payload), &change);
    ASSERT(st == ST_OK); /* checked before anything was appended */
    const char *why = conf_change_is_untimely(r, &change);
    if (why != NULL && !r->config.no_conf_change_validation) {
        /* An empty entry in its place, so that its index still resolves. */
        trace_refused(r, &change, why);
        raft_append_own(r, RAFT_ENTRY_NORMAL, NULL);
        return ST_OK;
    }
    r->pending_conf_index = r->log.last + 1;
    raft_append_own(r, type, payload);
    return ST_OK;
}

/* Hands proposals on to the leader. */
static enum status forward(struct raft *r, const struct raft_entry *proposed, uint32_t count)
{
    if (r->role != RAFT_FOLLOWER || r->leader == 0 || r->config.no_proposal_forwarding) {
        raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " no leader at term %" PRIu64 "; dropping proposal",
                   r->id, r->term);
        return ST_DROPPED;
    }
    struct raft_entry *entries = batch_alloc(r->building, count * sizeof(*entries));
    if (entries == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct raft_entry){.type = proposed[i].type,
                                         .payload = raft_payload_ref(proposed[i].payload)};
    }
    raft_send(
        r, (struct raft_message){
               .type = RAFT_MSG_PROP, .to = r->leader, .entries = entries, .entries_count = count});
    return ST_OK;
}

enum status raft_propose(struct raft *r, struct raft_payload *const *payloads, uint32_t count,
                         raft_index *first_out)
{
    ASSERT(count > 0);
    enum status st = raft_reserve(r, count, 1);
    if (st != ST_OK)
        return st;
    if (r->role != RAFT_LEADER) {
        struct raft_entry *entries = batch_alloc(r->building, count * sizeof(*entries));
        if (entries == NULL)
            return ST_NO_MEMORY;
        for (uint32_t i = 0; i < count; i++)
            entries[i] = (struct raft_entry){.payload = payloads[i]};
        st = forward(r, entries, count);
        if (st == ST_OK)
            *first_out = 0;
        return st;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += payloads[i] == NULL ? 0 : payloads[i]->len;
    st = check_leader(r, bytes);
    if (st != ST_OK)
        return st;
    *first_out = r->log.last + 1;
    for (uint32_t i = 0; i < count; i++)
        raft_append_own(r, RAFT_ENTRY_NORMAL, payloads[i]);
    raft_finish_append(r);
    return ST_OK;
}

/* Proposals of this member or of a follower; nothing is appended unless all of them are sound. */
static enum status propose_entries(struct raft *r, const struct raft_entry *proposed,
                                   uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct conf_change change;
        bytes += raft_payload_bytes(&proposed[i]);
        if (proposed[i].type != RAFT_ENTRY_NORMAL &&
            conf_change_decode(proposed[i].type, raft_payload_slice(proposed[i].payload),
                               &change) != ST_OK)
            return ST_INVALID;
    }
    if (r->role != RAFT_LEADER)
        return forward(r, proposed, count);
    enum status st = check_leader(r, bytes);
    if (st != ST_OK)
        return st;
    for (uint32_t i = 0; i < count; i++) {
        st = append_proposed(r, proposed[i].type, proposed[i].payload);
        ASSERT(st == ST_OK);
    }
    raft_finish_append(r);
    return ST_OK;
}

enum status raft_propose_conf_change(struct raft *r, enum raft_entry_type type,
                                     struct raft_payload *payload, raft_index *index_out)
{
    ASSERT(type != RAFT_ENTRY_NORMAL);
    enum status st = raft_reserve(r, 1, 1);
    if (st != ST_OK)
        return st;
    raft_index index = r->role == RAFT_LEADER ? r->log.last + 1 : 0;
    struct raft_entry entry = {.type = type, .payload = payload};
    st = propose_entries(r, &entry, 1);
    if (st == ST_OK)
        *index_out = index;
    return st;
}

enum status raft_handle_proposal(struct raft *r, const struct raft_message *m)
{
    if (m->entries_count == 0)
        return ST_INVALID;
    enum status st = propose_entries(r, m->entries, m->entries_count);
    return st == ST_BUSY || st == ST_TOO_BIG ? ST_DROPPED : st;
}

void raft_applied_to(struct raft *r, raft_index index, uint64_t bytes)
{
    log_applied_to(&r->log, max_u64(index, r->log.applied), bytes);
    if (r->role != RAFT_LEADER || !r->tracker.configuration.auto_leave ||
        r->pending_conf_index > r->log.applied || r->transferee != 0)
        return;
    /* An empty change ends the joint configuration; should this leader lose its place before it
     * commits, the next one does the same when it applies something. */
    char text[PRINT_BYTES_MAX];
    raft_trace(r, RAFT_LOG_INFO, "initiating automatic transition out of joint configuration %s",
               raft_print_configuration(&r->tracker, text, sizeof(text)));
    r->pending_conf_index = r->log.last + 1;
    raft_append_own(r, RAFT_ENTRY_CONF_CHANGE_V2, NULL);
    raft_finish_append(r);
}

enum status raft_bootstrap(struct raft *r, struct raft_payload *const *changes, uint32_t count)
{
    ASSERT(r->log.last == 0);
    ASSERT(r->term == 0);
    ASSERT(r->tracker.progresses_count == 0);
    ASSERT(count > 0 && count <= RAFT_MEMBERS_MAX);
    enum status st = raft_reserve(r, count, 1);
    if (st != ST_OK)
        return st;
    for (uint32_t i = 0; i < count; i++) {
        struct conf_change change;
        if (conf_change_decode(RAFT_ENTRY_CONF_CHANGE, raft_payload_slice(changes[i]), &change) !=
            ST_OK)
            return ST_INVALID;
    }
    become_follower(r, /* term= */ 1, /* leader= */ 0);
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry entry = {
            .term = 1, .index = i + 1, .type = RAFT_ENTRY_CONF_CHANGE, .payload = changes[i]};
        log_append(&r->log, &entry, 1);
    }
    /* Every founding member starts with the same entries, so they are committed from the start. */
    log_commit_to(&r->log, count);
    return ST_OK;
}
