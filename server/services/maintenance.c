/* server/services/maintenance.c - Status, Alarm, HashKV, MoveLeader, Downgrade. */
#include "server/services/services_private.h"
#include "server/state/cluster_version.h"
#include "server/state/machine.h"
#include "storage/mvcc.h"
#include "storage/store.h"

#include "base/list.h"
#include "base/minmax.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* StatusResponse */
enum {
    FIELD_VERSION = 2,
    FIELD_DB_SIZE,
    FIELD_LEADER,
    FIELD_RAFT_INDEX,
    FIELD_RAFT_TERM,
    FIELD_RAFT_APPLIED_INDEX,
    FIELD_ERRORS,
    FIELD_DB_SIZE_IN_USE,
    FIELD_IS_LEARNER,
};

/* As Go prints an AlarmMember. */
static void put_alarm_error(struct wire_out *out, const struct alarm *alarm)
{
    static const char *const names[] = {"NONE", "NOSPACE", "CORRUPT"};
    char member[40] = "", text[80];
    if (alarm->member != 0)
        snprintf(member, sizeof(member), "memberID:%" PRIu64 " ", alarm->member);
    if (alarm->type < METHODS_OF(names))
        snprintf(text, sizeof(text), "%salarm:%s ", member, names[alarm->type]);
    else
        snprintf(text, sizeof(text), "%salarm:%" PRIu32 " ", member, alarm->type);
    wire_put_bytes(out, FIELD_ERRORS, slice_from_str(text));
}

#define QUARANTINED_TEXT \
    "this member is quarantined: what it promised is gone; remove it and add it again, empty"

static void put_errors(const struct services *services, struct rpc_call *call, struct wire_out *out,
                       const struct loops_status *status)
{
    const struct alarm *alarms;
    uint32_t count;
    if (status->is_quarantined)
        wire_put_bytes(out, FIELD_ERRORS, SLICE(QUARANTINED_TEXT));
    if (status->leader == 0)
        wire_put_bytes(out, FIELD_ERRORS, slice_from_str(api_error_text(API_NO_LEADER)));
    if (machine_alarms(services->options.machine, call->arena, &alarms, &count) != ST_OK)
        out->failed = true;
    for (uint32_t i = 0; !out->failed && i < count; i++)
        put_alarm_error(out, &alarms[i]);
}

/* Answers whatever state the cluster is in. */
static void on_status(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct store_stat stat;
    enum status st = store_get_stat(services->options.store, &stat);
    if (st != ST_OK) {
        finish_error(call, api_error_of(st));
        return;
    }
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_bytes(&out, FIELD_VERSION, slice_from_str(services->options.api_version));
    wire_put_varint(&out, FIELD_DB_SIZE, stat.backend.size_bytes);
    wire_put_varint(&out, FIELD_LEADER, status.leader);
    wire_put_varint(&out, FIELD_RAFT_INDEX, status.commit);
    wire_put_varint(&out, FIELD_RAFT_TERM, status.term);
    wire_put_varint(&out, FIELD_RAFT_APPLIED_INDEX, status.applied);
    put_errors(services, call, &out, &status);
    wire_put_varint(&out, FIELD_DB_SIZE_IN_USE, stat.backend.in_use_bytes);
    wire_put_varint(&out, FIELD_IS_LEARNER, status.is_learner);
    finish_message(call, &out);
}

/* ---- alarms ---- */

struct alarm_request {
    int32_t action;
    raft_id member;
    int32_t type;
};
static const struct wire_slot alarm_slots[] = {
    {WIRE_SLOT_ENUM, offsetof(struct alarm_request, action)},
    {WIRE_SLOT_INT64, offsetof(struct alarm_request, member)},
    {WIRE_SLOT_ENUM, offsetof(struct alarm_request, type)},
};

/* An action or a type that nobody knows would stop every member of a cluster when it is applied. */
static enum api_error check_alarm(struct rpc_call *call)
{
    struct services *services = call->service;
    struct alarm_request request = {0};
    if (wire_decode(call->message, alarm_slots, METHODS_OF(alarm_slots), &request) != ST_OK)
        return API_UNDECODABLE;
    if (request.action < ALARM_GET || request.action > ALARM_DEACTIVATE ||
        request.type < ALARM_NONE || request.type > ALARM_CORRUPT)
        return API_UNDECODABLE;
    const struct alarm *alarms;
    uint32_t count;
    if (machine_alarms(services->options.machine, call->arena, &alarms, &count) != ST_OK)
        return API_NO_MEMORY;
    if (request.action == ALARM_ACTIVATE && count >= ALARMS_MAX)
        return API_TOO_MANY_REQUESTS;
    enum api_error error = request.action == ALARM_GET ? auth_is_user(call) : auth_is_root(call);
    return error == API_OK ? admit_write(services, /* cost= */ 0) : error;
}

/* Lists are proposed too, as in etcd: they show what this moment's leader knows. */
static void on_alarm(struct rpc_call *call)
{
    enum api_error error = check_alarm(call);
    if (error != API_OK)
        refuse_caller(call, error);
    else
        propose_message(call, INTERNAL_ALARM);
}

/* ---- hashes ---- */

enum { FIELD_HASH = 2, FIELD_COMPACT_REVISION }; /* HashKVResponse */

struct hash_call {
    struct read_request read;
    int64_t revision;
};

static void hash_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    struct hash_call *hash_call = CONTAINER_OF(read, struct hash_call, read);
    struct rpc_call *call = read->request.call;
    const struct services *services = call->service;
    uint32_t hash = 0;
    int64_t current = 0, compacted = 0;
    if (error == API_OK)
        error = api_error_of(mvcc_hash_kv(services->options.mvcc, reader, hash_call->revision,
                                          &hash, &current, &compacted));
    if (error != API_OK) {
        finish_later(call, error, SLICE_EMPTY);
        return;
    }
    struct response_header header = header_now(services, current);
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    wire_put_varint(&out, FIELD_HASH, hash);
    wire_put_varint(&out, FIELD_COMPACT_REVISION, (uint64_t)compacted);
    finish_message(call, &out);
}

static void on_hash_kv(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, offsetof(struct hash_call, revision)}};
    struct services *services = call->service;
    enum api_error refused = auth_raw(auth_is_root(call));
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    struct hash_call *hash_call = ARENA_NEW(call->arena, struct hash_call);
    if (hash_call == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    if (wire_decode(call->message, slots, METHODS_OF(slots), hash_call) != ST_OK) {
        finish_error(call, API_UNDECODABLE);
        return;
    }
    hash_call->read = (struct read_request){
        .request = {.deadline_ns = request_deadline_ns(services), .call = call},
        .ready = hash_ready};
    loops_read_whole(services->options.loops, &hash_call->read);
}

/* ---- leadership ---- */

static void transfer_done(struct transfer_request *transfer, enum api_error error)
{
    finish_later(transfer->request.call, error, SLICE_EMPTY); /* etcd's answer has no header */
}

static enum api_error check_transferee(const struct services *services, raft_id target)
{
    struct loops_status status;
    loops_get_status(services->options.loops, &status);
    if (!status.is_leader)
        return API_NOT_LEADER;
    struct members *members = machine_members(services->options.machine);
    const struct member_row *row = members_find(members, target);
    bool is_voter = row != NULL && !row->is_learner;
    members_unref(members);
    return is_voter ? API_OK : API_BAD_LEADER_TRANSFEREE;
}

static void on_move_leader(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, offsetof(struct transfer_request, target)}};
    struct services *services = call->service;
    struct transfer_request *transfer = ARENA_NEW(call->arena, struct transfer_request);
    enum api_error error = transfer == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), transfer) != ST_OK)
        error = API_UNDECODABLE;
    if (error == API_OK)
        error = auth_is_root(call);
    if (error == API_OK)
        error = check_transferee(services, transfer->target);
    if (error != API_OK) {
        refuse_caller(call, error);
        return;
    }
    transfer->request =
        (struct request){.kind = REQUEST_TRANSFER,
                         .deadline_ns = min_u64(request_deadline_ns(services), call->deadline_ns),
                         .call = call};
    transfer->done = transfer_done;
    loops_transfer_leadership(services->options.loops, transfer);
}

/* ---- downgrade ---- */

enum downgrade_action { DOWNGRADE_VALIDATE = 0, DOWNGRADE_ENABLE = 1, DOWNGRADE_CANCEL = 2 };

struct downgrade_request {
    int32_t action;
    struct slice version;
};
static const struct wire_slot downgrade_slots[] = {
    {WIRE_SLOT_ENUM, offsetof(struct downgrade_request, action)},
    {WIRE_SLOT_BYTES, offsetof(struct downgrade_request, version)},
};

/* There is no older cleat that could take over, so no target is a valid one; the checks before that
 * are etcd's. */
static enum api_error check_downgrade(const struct services *services, struct slice target)
{
    struct version version, cluster;
    char text[VERSION_TEXT_BYTES];
    if (version_parse_target(target, &version) != ST_OK)
        return API_BAD_DOWNGRADE_FORMAT;
    machine_cluster_version(services->options.machine, text);
    if (version_parse(slice_from_str(text), &cluster) != ST_OK)
        return API_CLUSTER_VERSION_NOT_FOUND;
    if (version.major == cluster.major && version.minor + 1 == cluster.minor &&
        machine_downgrade_enabled(services->options.machine))
        return API_DOWNGRADE_IN_PROGRESS;
    return API_BAD_DOWNGRADE_TARGET;
}

static void on_downgrade(struct rpc_call *call)
{
    const struct services *services = call->service;
    struct downgrade_request request = {0};
    if (wire_decode(call->message, downgrade_slots, METHODS_OF(downgrade_slots), &request) !=
        ST_OK) {
        finish_error(call, API_UNDECODABLE);
        return;
    }
    enum api_error refused = auth_is_root(call);
    if (refused != API_OK) {
        refuse_caller(call, refused);
        return;
    }
    switch (request.action) {
    case DOWNGRADE_VALIDATE:
    case DOWNGRADE_ENABLE:
        finish_error(call, check_downgrade(services, request.version));
        return;
    case DOWNGRADE_CANCEL: /* one that an etcd member began is ended there */
        finish_error(call, machine_downgrade_enabled(services->options.machine) ? API_NOT_CAPABLE
                                                                                : API_NO_DOWNGRADE);
        return;
    default:
        finish_error(call, API_UNKNOWN_METHOD);
    }
}

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Maintenance/Status", .on_call = on_status},
    {.path = "/etcdserverpb.Maintenance/Alarm", .on_call = on_alarm},
    {.path = "/etcdserverpb.Maintenance/Hash", .on_call = on_hash, .on_cancel = on_hash_cancel},
    {.path = "/etcdserverpb.Maintenance/HashKV", .on_call = on_hash_kv},
    {.path = "/etcdserverpb.Maintenance/Defragment", .on_call = on_defragment},
    {.path = "/etcdserverpb.Maintenance/Snapshot",
     .server_streams = true,
     .on_call = on_snapshot,
     .on_cancel = on_snapshot_cancel,
     .on_sent = on_snapshot_sent},
    {.path = "/etcdserverpb.Maintenance/MoveLeader", .on_call = on_move_leader},
    {.path = "/etcdserverpb.Maintenance/Downgrade", .on_call = on_downgrade},
};
const struct rpc_service maintenance_service = {.methods = methods,
                                                .methods_count = METHODS_OF(methods)};
