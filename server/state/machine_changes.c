/* server/state/machine_changes.c - changes of membership as they are applied: etcd's rules, in
 * etcd's order. What they refuse stays in the log and changes nothing. */
#include "base/assert.h"
#include "server/state/conf_state.h"
#include "server/state/machine_private.h"

#include <inttypes.h>

/* A configuration change, looked at. */
struct examined {
    struct member_change change;
    struct member_row row; /* of its context; not for a removal */
    enum machine_change kind;
    enum api_error error;
};

static enum api_error check_peer_urls(const struct machine *machine, const struct member_row *row,
                                      raft_id exempt)
{
    for (uint32_t i = 0; i < row->peer_urls_count; i++) {
        if (members_find_peer_url(machine->members, row->peer_urls[i], exempt) != NULL)
            return API_PEER_URL_EXISTS;
    }
    return API_OK;
}

static uint32_t learners_count(const struct members *members)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < members_count(members); i++)
        count += members_at(members, i)->is_learner;
    return count;
}

static enum api_error check_added(const struct machine *machine, const struct examined *examined)
{
    if (members_find(machine->members, examined->change.node_id) != NULL)
        return API_MEMBER_EXISTS;
    enum api_error error = check_peer_urls(machine, &examined->row, /* exempt= */ 0);
    if (error != API_OK)
        return error;
    if (examined->row.is_learner && learners_count(machine->members) >= LEARNERS_MAX)
        return API_TOO_MANY_LEARNERS;
    return members_count(machine->members) == MEMBERS_MAX ? API_UNHEALTHY : API_OK;
}

static enum api_error check_promoted(const struct machine *machine, raft_id id)
{
    const struct member_row *row = members_find(machine->members, id);
    if (row == NULL)
        return API_MEMBER_NOT_FOUND;
    return row->is_learner ? API_OK : API_MEMBER_NOT_LEARNER;
}

/* Reads the member in the context, into scratch. */
static enum status decode_row(struct machine *machine, struct examined *examined)
{
    return member_json_decode(examined->change.context, &machine->scratch, &examined->row);
}

static enum status examine_add(struct machine *machine, struct examined *out)
{
    enum status st = decode_row(machine, out);
    if (st != ST_OK)
        return st;
    out->kind = out->row.is_promote ? MACHINE_CHANGE_PROMOTE : MACHINE_CHANGE_ADD;
    out->error = out->row.is_promote ? check_promoted(machine, out->change.node_id)
                                     : check_added(machine, out);
    return ST_OK;
}

static enum status examine_update(struct machine *machine, struct examined *out)
{
    if (out->error != API_OK)
        return ST_OK;
    out->kind = MACHINE_CHANGE_UPDATE;
    enum status st = decode_row(machine, out);
    if (st == ST_OK)
        out->error = check_peer_urls(machine, &out->row, out->change.node_id);
    return st;
}

static enum status examine_known(struct machine *machine, struct examined *out)
{
    raft_id id = out->change.node_id;
    if (machine_is_removed(machine, id)) {
        out->error = API_MEMBER_NOT_FOUND;
        return ST_OK;
    }
    bool is_member = members_find(machine->members, id) != NULL;
    switch (out->change.type) {
    case MEMBER_CHANGE_ADD_NODE:
    case MEMBER_CHANGE_ADD_LEARNER:
        return examine_add(machine, out);
    case MEMBER_CHANGE_REMOVE_NODE:
        out->kind = MACHINE_CHANGE_REMOVE;
        out->error = is_member ? API_OK : API_MEMBER_NOT_FOUND;
        return ST_OK;
    case MEMBER_CHANGE_UPDATE_NODE:
        out->error = is_member ? API_OK : API_MEMBER_NOT_FOUND;
        return examine_update(machine, out);
    default:
        return ST_UNSUPPORTED;
    }
}

/* Decodes the change of an entry and judges it by the member table as it is now: the same table for
 * every member that applies this entry. What does not decode stops the member, as it stops etcd. */
static enum status examine(struct machine *machine, const struct raft_entry *entry,
                           struct examined *out)
{
    *out = (struct examined){0};
    enum status st = entry->type == RAFT_ENTRY_CONF_CHANGE
                         ? member_change_decode(raft_payload_slice(entry->payload), &out->change)
                         : ST_UNSUPPORTED;
    if (st == ST_OK)
        st = examine_known(machine, out);
    bool has_row = out->kind != MACHINE_CHANGE_NONE && out->kind != MACHINE_CHANGE_REMOVE;
    if (st == ST_OK && out->error == API_OK && has_row &&
        (out->row.id != out->change.node_id || out->row.id == 0))
        st = ST_UNSUPPORTED;
    if (out->error != API_OK)
        out->kind = MACHINE_CHANGE_NONE;
    if (st == ST_OK)
        return ST_OK;
    if (st == ST_NO_MEMORY)
        return machine_fail(machine, st, "cannot apply entry %" PRIu64 ": %s", entry->index,
                            status_str(st));
    return machine_fail(machine, ST_UNSUPPORTED,
                        "entry %" PRIu64 " (term %" PRIu64 ") holds a change of membership that "
                        "this version cannot apply; the member stops rather than leave it out",
                        entry->index, entry->term);
}

enum status machine_check_conf_change(struct machine *machine, const struct raft_entry *entry,
                                      struct slice *change_out, struct machine_result *out)
{
    ASSERT(entry->type != RAFT_ENTRY_NORMAL);
    *out = (struct machine_result){0};
    *change_out = SLICE_EMPTY;
    if (entry->index <= machine->applied.index)
        return ST_OK;
    struct examined examined;
    enum status st = examine(machine, entry, &examined);
    if (st == ST_OK) {
        out->request_id = examined.change.id;
        out->error = examined.error;
        out->change = examined.kind;
        out->changed = examined.kind == MACHINE_CHANGE_NONE ? 0 : examined.change.node_id;
        if (out->error == API_OK)
            *change_out = raft_payload_slice(entry->payload);
    }
    machine_reset_scratch(machine);
    return st;
}

/* The rest of the row stays as it is. An update that does not carry the learner flag takes it away,
 * as it does in etcd; those proposed here carry it. It never makes a learner of a voter. */
static enum status change_row(struct machine *machine, const struct examined *examined)
{
    struct member_row row = *members_find(machine->members, examined->change.node_id);
    if (examined->kind == MACHINE_CHANGE_UPDATE) {
        row.peer_urls = examined->row.peer_urls;
        row.peer_urls_count = examined->row.peer_urls_count;
    }
    row.is_learner =
        row.is_learner && examined->kind == MACHINE_CHANGE_UPDATE && examined->row.is_learner;
    return machine_put_member(machine, &row);
}

static enum status carry_out(struct machine *machine, const struct examined *examined)
{
    switch (examined->kind) {
    case MACHINE_CHANGE_NONE:
        return ST_OK;
    case MACHINE_CHANGE_ADD:
        return machine_put_member(machine, &examined->row);
    case MACHINE_CHANGE_PROMOTE:
    case MACHINE_CHANGE_UPDATE:
        return change_row(machine, examined);
    case MACHINE_CHANGE_REMOVE:
        return machine_remove_member(machine, examined->change.node_id);
    }
    return ST_OK;
}

enum status machine_end_conf_change(struct machine *machine, const struct raft_entry *entry,
                                    const struct raft_conf_state *conf_state)
{
    if (entry->index <= machine->applied.index)
        return ST_OK;
    ASSERT(entry->index == machine->applied.index + 1);
    struct examined examined;
    struct buf bytes;
    buf_init(&bytes, UINT32_MAX);
    enum status st = examine(machine, entry, &examined);
    if (st == ST_OK)
        st = carry_out(machine, &examined);
    if (st == ST_OK)
        st = conf_state_encode(conf_state, &bytes);
    if (st == ST_OK)
        st = machine_end_entry(machine, entry, buf_slice(&bytes));
    buf_deinit(&bytes);
    machine_reset_scratch(machine);
    return st;
}

static enum status replay_change(struct machine *machine, const struct raft_entry *entry)
{
    struct examined examined;
    enum status st = examine(machine, entry, &examined);
    return st == ST_OK ? carry_out(machine, &examined) : st;
}

/* What does not decode did nothing then, either. */
enum status machine_replay_members(struct machine *machine, const struct raft_entry *entry)
{
    struct machine_result result = {0};
    struct application application = {.machine = machine, .entry = entry, .result = &result};
    machine->is_replaying = true;
    enum status st = entry->type == RAFT_ENTRY_NORMAL ? apply_attributes_alone(&application)
                                                      : replay_change(machine, entry);
    machine->is_replaying = false;
    machine->problem[0] = '\0';
    machine_reset_scratch(machine);
    return st == ST_NO_MEMORY || st == ST_TOO_BIG ? st : ST_OK;
}
