/* The committed tail of the log, applied in memory over what the store holds: by the state machine
 * that members use, so that what is shown is what the member would serve. */
#include "base/buf.h"
#include "base/minmax.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "storage/store.h"
#include "tools/utl/source.h"

#include <inttypes.h>

struct tail {
    struct utl_source *source;
    struct raft_conf_state conf_state;
};

static void drop(raft_id *ids, uint32_t *count, raft_id id)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (ids[i] != id)
            continue;
        (*count)--;
        for (uint32_t j = i; j < *count; j++)
            ids[j] = ids[j + 1];
        return;
    }
}

/* Ascending, as consensus keeps them. */
static enum status add(raft_id *ids, uint32_t *count, raft_id id)
{
    if (*count == RAFT_MEMBERS_MAX)
        return ST_TOO_BIG;
    uint32_t at = (*count)++;
    for (; at > 0 && ids[at - 1] > id; at--)
        ids[at] = ids[at - 1];
    ids[at] = id;
    return ST_OK;
}

/* What a simple change, the only kind that etcd and Cleat propose, makes of a configuration. */
static enum status change(struct raft_conf_state *conf, const struct member_change *change)
{
    if (change->type == MEMBER_CHANGE_UPDATE_NODE || change->node_id == 0)
        return ST_OK;
    drop(conf->voters, &conf->voters_count, change->node_id);
    drop(conf->learners, &conf->learners_count, change->node_id);
    if (change->type == MEMBER_CHANGE_ADD_NODE)
        return add(conf->voters, &conf->voters_count, change->node_id);
    if (change->type == MEMBER_CHANGE_ADD_LEARNER)
        return add(conf->learners, &conf->learners_count, change->node_id);
    return ST_OK;
}

/* ---- which member it is ---- */

static bool is_lone_voter(const struct raft_conf_state *conf, raft_id id)
{
    return conf->voters_count == 1 && conf->voters_outgoing_count == 0 && conf->voters[0] == id;
}

static enum status follow_change(void *context, const struct raft_entry *entry)
{
    struct tail *tail = context;
    struct member_change decoded;
    if (entry->type != RAFT_ENTRY_CONF_CHANGE ||
        member_change_decode(raft_payload_slice(entry->payload), &decoded) != ST_OK)
        return ST_OK;
    return change(&tail->conf_state, &decoded);
}

enum status utl_source_guess_member(struct utl_source *s)
{
    struct tail tail = {.source = s};
    const struct raft_conf_state *conf = &tail.conf_state;
    enum status st = conf_state_decode(s->mark.conf_state, &tail.conf_state);
    if (st == ST_OK)
        st = utl_source_entries(s, s->mark.index + 1, s->hard_state.commit, follow_change, &tail);
    if (st == ST_OK && conf->learners_count == 0 && conf->voters_count > 0 &&
        is_lone_voter(conf, conf->voters[0]))
        s->member_id = conf->voters[0];
    return st == ST_NO_MEMORY || st == ST_IO ? st : ST_OK;
}

/* ---- how far it is committed ---- */

static enum status follow(void *context, const struct raft_entry *entry)
{
    struct tail *tail = context;
    struct utl_source *s = tail->source;
    if (entry->index <= s->mark.index)
        return ST_OK;
    if (entry->index > s->committed && !s->options.whole_log &&
        !is_lone_voter(&tail->conf_state, s->member_id))
        return ST_EXISTS; /* nobody knows without asking the others */
    s->committed = max_u64(s->committed, entry->index);
    return follow_change(context, entry);
}

enum status utl_source_find_committed(struct utl_source *s)
{
    struct tail tail = {.source = s};
    enum status st = conf_state_decode(s->mark.conf_state, &tail.conf_state);
    s->committed = max_u64(min_u64(s->hard_state.commit, s->log_last), s->mark.index);
    if (st == ST_OK)
        st = utl_source_entries(s, s->mark.index + 1, s->log_last, follow, &tail);
    return st == ST_NO_MEMORY || st == ST_IO ? st : ST_OK;
}

/* ---- applying ---- */

static enum status apply_change(struct tail *tail, const struct raft_entry *entry)
{
    struct machine_result result;
    struct slice allowed;
    struct member_change decoded;
    struct machine *machine = tail->source->machine;
    enum status st = machine_check_conf_change(machine, entry, &allowed, &result);
    if (st == ST_OK && allowed.len > 0) {
        st = member_change_decode(allowed, &decoded);
        if (st == ST_OK)
            st = change(&tail->conf_state, &decoded);
    }
    return st == ST_OK ? machine_end_conf_change(machine, entry, &tail->conf_state) : st;
}

static enum status apply(void *context, const struct raft_entry *entry)
{
    struct tail *tail = context;
    struct utl_source *s = tail->source;
    struct machine_result result;
    if (entry->index <= s->applied)
        return ST_OK;
    if (entry->index != s->applied + 1)
        return ST_NOT_FOUND;
    enum status st = entry->type == RAFT_ENTRY_NORMAL
                         ? machine_apply(s->machine, entry, /* arena= */ NULL, &result)
                         : apply_change(tail, entry);
    if (st == ST_OK)
        s->applied = entry->index;
    return st;
}

enum status utl_source_apply_tail(struct utl_source *s)
{
    struct tail tail = {.source = s};
    enum status st = conf_state_decode(s->mark.conf_state, &tail.conf_state);
    if (st == ST_OK)
        st = utl_source_entries(s, s->applied + 1, s->committed, apply, &tail);
    if (st == ST_NO_MEMORY || st == ST_IO)
        return st;
    if (st == ST_OK && s->applied == s->committed)
        return ST_OK;
    s->apply_status = st == ST_OK || st == ST_NOT_FOUND ? ST_CORRUPT : st;
    const char *problem = machine_problem(s->machine);
    if (st == ST_OK || st == ST_NOT_FOUND)
        problem = "the log does not hold it";
    return buf_printf(&s->apply_text,
                      "what is shown is the state after entry %" PRIu64 "; entry %" PRIu64
                      " and what follows, up to %" PRIu64 ", is left out: %s",
                      s->applied, s->applied + 1, s->committed,
                      problem[0] != '\0' ? problem : status_str(st));
}
