#include "server/state/machine.h"

#include "base/assert.h"
#include "server/state/auth.h"
#include "server/state/lessor.h"
#include "server/state/limits.h"
#include "server/state/machine_private.h"
#include "server/state/response_header.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

static enum status load(struct machine *machine)
{
    enum status st = machine_load_members(machine);
    if (st == ST_OK)
        st = machine_load_auth(machine);
    if (st == ST_OK)
        st = machine_load_alarms(machine);
    return st == ST_OK ? machine_load_leases(machine) : st;
}

enum status machine_open(const struct machine_options *options, struct machine **out)
{
    *out = NULL;
    struct machine *machine = calloc(1, sizeof(*machine));
    if (machine == NULL)
        return ST_NO_MEMORY;
    machine->store = options->store;
    machine->mvcc = options->mvcc;
    machine->cluster_id = options->cluster_id;
    machine->member_id = options->member_id;
    machine->persist_checkpoints = options->persist_checkpoints;
    machine->lease_ttl_s_min =
        options->lease_ttl_s_min > 0 ? options->lease_ttl_s_min : LEASE_TTL_S_MIN_DEFAULT;
    struct store_mark mark = store_opened_at(options->store);
    machine->applied = (struct raft_log_id){.index = mark.index, .term = mark.term};
    arena_init(&machine->scratch, SIZE_MAX / 2);
    enum status st = lock_new(options->threaded, &machine->lock);
    if (st == ST_OK)
        st = lock_new(options->threaded, &machine->lessor_lock);
    if (st == ST_OK)
        st = load(machine);
    if (st != ST_OK) {
        machine_close(machine);
        return st;
    }
    machine_watch_leases(machine);
    *out = machine;
    return ST_OK;
}

/* Tables only; the rest of machine stays. */
static void swap_tables(struct machine *machine, struct machine *with)
{
    struct machine before = *machine;
    lock_acquire(machine->lock);
    machine->members = with->members;
    machine->removed = with->removed;
    machine->alarms = with->alarms;
    memcpy(machine->version, with->version, sizeof(machine->version));
    machine->downgrade_enabled = with->downgrade_enabled;
    machine->auth = with->auth;
    atomic_store_explicit(&machine->auth_enabled, with->auth_enabled, memory_order_relaxed);
    lock_release(machine->lock);
    atomic_store_explicit(&machine->auth_revision, with->auth_revision, memory_order_release);
    machine_swap_lessor(machine, &with->lessor);
    with->members = before.members;
    with->removed = before.removed;
    with->alarms = before.alarms;
    with->auth = before.auth;
}

enum status machine_reload(struct machine *machine, struct raft_log_id applied)
{
    struct machine *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL)
        return ST_NO_MEMORY;
    fresh->store = machine->store;
    fresh->mvcc = machine->mvcc;
    arena_init(&fresh->scratch, SIZE_MAX / 2);
    enum status st = lock_new(/* threaded= */ false, &fresh->lock);
    if (st == ST_OK)
        st = load(fresh);
    if (st == ST_OK) {
        swap_tables(machine, fresh);
        machine->applied = applied;
        machine_forget_tokens(machine);
    } else {
        (void)machine_fail(machine, st, "%s", fresh->problem);
    }
    machine_close(fresh);
    return st;
}

void machine_close(struct machine *machine)
{
    if (machine == NULL)
        return;
    members_unref(machine->members);
    auth_view_unref(machine->auth);
    free(machine->removed.ids);
    free(machine->alarms.items);
    lessor_free(machine->lessor);
    lock_free(machine->lock);
    lock_free(machine->lessor_lock);
    arena_deinit(&machine->scratch);
    free(machine);
}

enum status machine_fail(struct machine *machine, enum status st, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(machine->problem, sizeof(machine->problem), format, arguments);
    va_end(arguments);
    return st;
}

const char *machine_problem(const struct machine *machine)
{
    return machine->problem;
}

struct raft_log_id machine_applied(const struct machine *machine)
{
    return machine->applied;
}

uint64_t machine_cluster_id(const struct machine *machine)
{
    return machine->cluster_id;
}

raft_id machine_member_id(const struct machine *machine)
{
    return machine->member_id;
}

/* ---- entries ---- */

enum status machine_end_entry(struct machine *machine, const struct raft_entry *entry,
                              struct slice conf_state)
{
    struct store_mark mark = {.index = entry->index, .term = entry->term, .conf_state = conf_state};
    enum status st = store_end_entry(machine->store, &mark);
    if (st != ST_OK)
        return machine_fail(machine, st, "cannot end entry %" PRIu64 " in the store: %s",
                            entry->index, status_str(st));
    machine->applied = (struct raft_log_id){.index = entry->index, .term = entry->term};
    return ST_OK;
}

void machine_reset_scratch(struct machine *machine)
{
    if (machine->scratch.total_bytes > MACHINE_SCRATCH_KEPT_BYTES)
        arena_deinit(&machine->scratch);
    else
        arena_reset(&machine->scratch);
}

static enum status refuse(struct application *a, const char *what)
{
    return machine_fail(a->machine, ST_UNSUPPORTED,
                        "entry %" PRIu64 " (term %" PRIu64 ") holds %s, which this version cannot "
                        "apply; the member stops rather than leave it out",
                        a->entry->index, a->entry->term, what);
}

static enum status apply_request(struct application *a, const struct internal_request *request)
{
    if (request->is_legacy)
        return apply_legacy(a, request);
    a->result->error = machine_alarm_refuses(a->machine, request->field);
    if (a->result->error != API_OK)
        return ST_OK;
    switch (request->field) {
    case INTERNAL_NONE:
    case INTERNAL_RANGE: /* changes nothing, and nobody waits for it */
        return ST_OK;
    case INTERNAL_PUT:
        a->result->op = "Put";
        return apply_put(a, request->body);
    case INTERNAL_DELETE_RANGE:
        a->result->op = "DeleteRange";
        return apply_delete(a, request->body);
    case INTERNAL_TXN:
        a->result->op = "Txn";
        return apply_txn(a, request->body);
    case INTERNAL_COMPACTION:
        a->result->op = "Compaction";
        return apply_compaction(a, request->body);
    case INTERNAL_LEASE_GRANT:
        a->result->op = "LeaseGrant";
        return apply_lease_grant(a, request->body);
    case INTERNAL_LEASE_REVOKE:
        a->result->op = "LeaseRevoke";
        return apply_lease_revoke(a, request->body);
    case INTERNAL_LEASE_CHECKPOINT:
        a->result->op = "LeaseCheckpoint";
        return apply_lease_checkpoint(a, request->body);
    case INTERNAL_ALARM:
        a->result->op = "Alarm";
        return apply_alarm(a, request->body);
    case INTERNAL_CLUSTER_VERSION_SET:
        return apply_cluster_version(a, request->body);
    case INTERNAL_MEMBER_ATTR_SET:
        return apply_member_attributes(a, request->body);
    case INTERNAL_DOWNGRADE_INFO_SET:
        return apply_downgrade_info(a, request->body);
    default: {
        if (machine_is_auth_request(request->field))
            return apply_auth(a, request->field, request->body);
        char what[64];
        snprintf(what, sizeof(what), "a request of kind %" PRIu32, request->field);
        return refuse(a, what);
    }
    }
}

/* Decoding that fails, or an operation that is not what every member let pass before it was
 * proposed: the log does not say what to do, so going on would be a guess. */
static enum status explain(struct application *a, enum status st)
{
    if (st == ST_OK || a->machine->problem[0] != '\0')
        return st;
    if (st == ST_INVALID || st == ST_NOT_FOUND || st == ST_TOO_BIG || st == ST_UNSUPPORTED)
        return refuse(a, "a malformed request");
    return machine_fail(a->machine, st, "cannot apply entry %" PRIu64 ": %s", a->entry->index,
                        status_str(st));
}

static enum status apply_data(struct application *a)
{
    struct slice data = raft_payload_slice(a->entry->payload);
    if (data.len == 0) /* a new leader's first entry */
        return ST_OK;
    struct internal_request request;
    enum status st = internal_request_decode(data, &request);
    if (st != ST_OK)
        return explain(a, st);
    a->result->request_id = request.id;
    a->caller = &request.caller;
    st = apply_request(a, &request);
    if (st == ST_OK)
        st = a->machine->attach_status;
    machine_reset_scratch(a->machine);
    return explain(a, st);
}

enum status machine_apply(struct machine *machine, const struct raft_entry *entry,
                          struct arena *arena, struct machine_result *out)
{
    ASSERT(entry->type == RAFT_ENTRY_NORMAL);
    *out = (struct machine_result){0};
    if (entry->index <= machine->applied.index)
        return ST_OK;
    ASSERT(entry->index == machine->applied.index + 1);
    machine->problem[0] = '\0';
    struct wire_out response;
    wire_out_init(&response, arena, RESPONSE_HEADER_BYTES_MAX);
    response.failed = arena == NULL;
    struct application application = {
        .machine = machine, .entry = entry, .result = out, .out = &response};
    enum status st = apply_data(&application);
    if (st != ST_OK)
        return st;
    if (out->error == API_OK && wire_out_finish(&response, &out->response) != ST_OK)
        out->error = arena == NULL ? API_OK : API_RESPONSE_TOO_LARGE;
    return machine_end_entry(machine, entry, SLICE_EMPTY);
}
