/* server/state/machine_alarms.c - alarms: raised and taken back by entries, kept in their bucket,
 * and what they make of other requests. A record's key is an AlarmMember in etcd's bytes, its value
 * is empty. */
#include "base/bytes.h"
#include "server/state/machine_private.h"

#include <stddef.h>
#include <stdlib.h>

enum { FIELD_ALARMS = 2 };                 /* AlarmResponse */
enum { FIELD_MEMBER_ID = 1, FIELD_ALARM }; /* AlarmMember */
#define ALARM_BYTES_MAX (2 * (1 + VARINT_BYTES_MAX))

struct alarm_request {
    int32_t action;
    raft_id member;
    int32_t type;
};
static const struct wire_slot request_slots[] = {
    {WIRE_SLOT_ENUM, offsetof(struct alarm_request, action)},
    {WIRE_SLOT_INT64, offsetof(struct alarm_request, member)},
    {WIRE_SLOT_ENUM, offsetof(struct alarm_request, type)},
};

static const struct wire_slot alarm_slots[] = {
    {WIRE_SLOT_INT64, offsetof(struct alarm, member)},
    {WIRE_SLOT_ENUM, offsetof(struct alarm, type)},
};

static struct slice alarm_key(const struct alarm *alarm, uint8_t bytes[ALARM_BYTES_MAX])
{
    size_t size = 0;
    if (alarm->member != 0) {
        bytes[size++] = FIELD_MEMBER_ID << 3 | WIRE_VARINT;
        size += put_varint(bytes + size, alarm->member);
    }
    if (alarm->type != ALARM_NONE) {
        bytes[size++] = FIELD_ALARM << 3 | WIRE_VARINT;
        size += put_varint(bytes + size, alarm->type);
    }
    return slice_make(bytes, size);
}

/* ---- the set ---- */

static bool is_before(const struct alarm *a, const struct alarm *b)
{
    return a->type != b->type ? a->type < b->type : a->member < b->member;
}

/* Index of the first alarm that is not before this one. */
static uint32_t position(const struct machine *machine, const struct alarm *alarm)
{
    uint32_t at = 0;
    while (at < machine->alarms.count && is_before(&machine->alarms.items[at], alarm))
        at++;
    return at;
}

static bool is_active(const struct machine *machine, const struct alarm *alarm)
{
    uint32_t at = position(machine, alarm);
    return at < machine->alarms.count && !is_before(alarm, &machine->alarms.items[at]);
}

static enum status insert(struct machine *machine, const struct alarm *alarm)
{
    uint32_t count = machine->alarms.count;
    if (count == machine->alarms.capacity) {
        uint32_t capacity = count == 0 ? 8 : count * 2;
        struct alarm *items = malloc(capacity * sizeof(*items));
        if (items == NULL)
            return ST_NO_MEMORY;
        if (count > 0)
            memcpy(items, machine->alarms.items, count * sizeof(*items));
        lock_acquire(machine->lock);
        struct alarm *before = machine->alarms.items;
        machine->alarms.items = items;
        machine->alarms.capacity = capacity;
        lock_release(machine->lock);
        free(before);
    }
    uint32_t at = position(machine, alarm);
    lock_acquire(machine->lock);
    struct alarm *items = machine->alarms.items;
    memmove(items + at + 1, items + at, (count - at) * sizeof(*items));
    items[at] = *alarm;
    machine->alarms.count++;
    lock_release(machine->lock);
    return ST_OK;
}

static void drop(struct machine *machine, const struct alarm *alarm)
{
    uint32_t at = position(machine, alarm);
    lock_acquire(machine->lock);
    struct alarm *items = machine->alarms.items;
    machine->alarms.count--;
    memmove(items + at, items + at + 1, (machine->alarms.count - at) * sizeof(*items));
    lock_release(machine->lock);
}

static enum status load_alarm(void *context, struct slice key, struct slice value)
{
    (void)value;
    struct machine *machine = context;
    struct alarm alarm = {0};
    if (wire_decode(key, alarm_slots, 2, &alarm) != ST_OK)
        return machine_fail(machine, ST_CORRUPT, "the store's record of an alarm is damaged");
    return is_active(machine, &alarm) ? ST_OK : insert(machine, &alarm);
}

enum status machine_load_alarms(struct machine *machine)
{
    return store_each(machine->store, BUCKET_ALARM, load_alarm, machine);
}

bool machine_has_alarm(struct machine *machine, enum alarm_type type)
{
    bool found = false;
    lock_acquire(machine->lock);
    for (uint32_t i = 0; i < machine->alarms.count && !found; i++)
        found = machine->alarms.items[i].type == (uint32_t)type;
    lock_release(machine->lock);
    return found;
}

bool machine_is_alarm_active(struct machine *machine, const struct alarm *alarm)
{
    lock_acquire(machine->lock);
    bool found = is_active(machine, alarm);
    lock_release(machine->lock);
    return found;
}

enum status machine_alarms(struct machine *machine, struct arena *arena, const struct alarm **out,
                           uint32_t *count_out)
{
    lock_acquire(machine->lock);
    uint32_t count = machine->alarms.count;
    struct alarm *copy = ARENA_ARRAY(arena, struct alarm, count);
    if (copy != NULL && count > 0)
        memcpy(copy, machine->alarms.items, count * sizeof(*copy));
    lock_release(machine->lock);
    if (copy == NULL)
        return ST_TOO_BIG;
    *out = copy;
    *count_out = count;
    return ST_OK;
}

/* ---- entries ---- */

static void put_alarm(struct application *a, const struct alarm *alarm)
{
    uint8_t bytes[ALARM_BYTES_MAX];
    wire_put_bytes(a->out, FIELD_ALARMS, alarm_key(alarm, bytes));
}

static void list_alarms(struct application *a, uint32_t type)
{
    const struct machine *machine = a->machine;
    for (uint32_t i = 0; i < machine->alarms.count; i++) {
        if (type == ALARM_NONE || machine->alarms.items[i].type == type)
            put_alarm(a, &machine->alarms.items[i]);
    }
}

/* An alarm that is active already is told as if it were new. */
static enum status activate(struct application *a, const struct alarm *alarm)
{
    if (alarm->type == ALARM_NONE)
        return ST_OK;
    if (alarm->type > ALARM_CORRUPT)
        return ST_UNSUPPORTED; /* etcd stops here too */
    uint8_t bytes[ALARM_BYTES_MAX];
    enum status st = ST_OK;
    if (!is_active(a->machine, alarm)) {
        st = store_put(a->machine->store, BUCKET_ALARM, alarm_key(alarm, bytes), SLICE_EMPTY);
        if (st == ST_OK)
            st = insert(a->machine, alarm);
    }
    put_alarm(a, alarm);
    return st;
}

static enum status deactivate(struct application *a, const struct alarm *alarm)
{
    if (!is_active(a->machine, alarm))
        return ST_OK;
    uint8_t bytes[ALARM_BYTES_MAX];
    enum status st = store_delete(a->machine->store, BUCKET_ALARM, alarm_key(alarm, bytes));
    if (st == ST_OK)
        drop(a->machine, alarm);
    put_alarm(a, alarm);
    return st;
}

enum status apply_alarm(struct application *a, struct slice body)
{
    struct alarm_request request = {0};
    enum status st = wire_decode(body, request_slots, 3, &request);
    if (st != ST_OK)
        return st;
    const struct alarm alarm = {.member = request.member, .type = (uint32_t)request.type};
    switch (request.action) {
    case ALARM_GET:
        list_alarms(a, alarm.type);
        break;
    case ALARM_ACTIVATE:
        st = activate(a, &alarm);
        break;
    case ALARM_DEACTIVATE:
        st = deactivate(a, &alarm);
        break;
    default:
        st = ST_UNSUPPORTED;
    }
    if (st != ST_OK)
        return st;
    int64_t current, compacted;
    mvcc_revisions(a->machine->mvcc, &current, &compacted);
    application_finish(a, current);
    return ST_OK;
}

/* A cluster whose members disagree takes no request that depends on what they hold. */
enum api_error machine_alarm_refuses(struct machine *machine, uint32_t internal_field)
{
    if (machine->alarms.count == 0)
        return API_OK;
    switch (internal_field) {
    case INTERNAL_RANGE:
    case INTERNAL_PUT:
    case INTERNAL_DELETE_RANGE:
    case INTERNAL_TXN:
    case INTERNAL_COMPACTION:
    case INTERNAL_LEASE_GRANT:
    case INTERNAL_LEASE_REVOKE:
        break;
    default:
        return API_OK;
    }
    if (machine_has_alarm(machine, ALARM_CORRUPT))
        return API_CORRUPT_CLUSTER;
    bool adds = internal_field == INTERNAL_PUT || internal_field == INTERNAL_LEASE_GRANT;
    return adds && machine_has_alarm(machine, ALARM_NOSPACE) ? API_NO_SPACE : API_OK;
}
