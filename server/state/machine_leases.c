/* server/state/machine_leases.c - leases: granted and revoked by entries, kept in their bucket, and
 * the keys that belong to them. A record's key is the id, big-endian, its value a leasepb.Lease.
 * Which key belongs to which lease stands in the keys themselves and is read from them at start. */
#include "base/bytes.h"
#include "server/state/lessor.h"
#include "server/state/machine_private.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

enum { FIELD_RESPONSE_ID = 2, FIELD_RESPONSE_TTL }; /* LeaseGrantResponse */
enum { FIELD_ID = 1, FIELD_TTL, FIELD_REMAINING };  /* leasepb.Lease */
#define LEASE_BYTES_MAX (3 * (1 + VARINT_BYTES_MAX))

static const struct wire_slot lease_slots[] = {
    {WIRE_SLOT_INT64, offsetof(struct lease, id)},
    {WIRE_SLOT_INT64, offsetof(struct lease, ttl_s)},
    {WIRE_SLOT_INT64, offsetof(struct lease, remaining_s)},
};

/* ---- the lock ---- */

struct lessor *machine_lock_lessor(struct machine *machine)
{
    lock_acquire(machine->lessor_lock);
    return machine->lessor;
}

void machine_unlock_lessor(struct machine *machine)
{
    lock_release(machine->lessor_lock);
}

void machine_swap_lessor(struct machine *machine, struct lessor **other)
{
    struct list_node ended;
    list_init(&ended);
    struct lessor *before = machine_lock_lessor(machine);
    if (lessor_is_primary(before))
        lessor_demote(before, &ended);
    machine->lessor = *other;
    machine_unlock_lessor(machine);
    *other = before;
    lease_renewals_end(&ended);
}

/* ---- keys and leases ---- */

/* After each transaction: what it put and deleted. */
static void note_event(void *context, struct revision revision, bool tombstone, struct slice record)
{
    struct machine *machine = context;
    struct mvcc_kv kv;
    if (lessor_leases_count(machine->lessor) == 0 || machine->attach_status != ST_OK)
        return;
    machine->attach_status = mvcc_record_decode(record, revision, tombstone, &kv);
    if (machine->attach_status != ST_OK)
        return;
    lease_id id = tombstone ? 0 : kv.lease;
    if (id == 0 && !lessor_is_attached(machine->lessor, kv.key))
        return;
    machine->attach_status = lessor_attach(machine_lock_lessor(machine), id, kv.key);
    machine_unlock_lessor(machine);
}

void machine_watch_leases(struct machine *machine)
{
    mvcc_add_event_sink(machine->mvcc, note_event, machine);
}

static enum status attach_record(void *context, struct slice record)
{
    struct machine *machine = context;
    struct mvcc_kv kv;
    enum status st = mvcc_kv_decode(record, &kv);
    return st != ST_OK || kv.lease == 0 ? st : lessor_attach(machine->lessor, kv.lease, kv.key);
}

/* ---- at start ---- */

static enum status load_lease(void *context, struct slice key, struct slice value)
{
    struct machine *machine = context;
    struct lease lease = {0};
    enum status st = wire_decode(value, lease_slots, 3, &lease);
    if (st != ST_OK || key.len != 8 || lease.id == 0 || get_be64(key.data) != (uint64_t)lease.id)
        return machine_fail(machine, ST_CORRUPT, "the store's record of a lease is damaged");
    st = lessor_grant(machine->lessor, &lease);
    return st == ST_EXISTS ? ST_OK : st;
}

enum status machine_load_leases(struct machine *machine)
{
    enum status st = lessor_new(&machine->lessor);
    if (st == ST_OK)
        st = store_each(machine->store, BUCKET_LEASE, load_lease, machine);
    if (st != ST_OK || lessor_leases_count(machine->lessor) == 0)
        return st;
    struct mvcc_query all = {.range = {.key = SLICE("\0"), .end = SLICE("\0")}};
    struct mvcc_result result;
    st = mvcc_write_begin(machine->mvcc);
    if (st != ST_OK)
        return st;
    st = mvcc_write_read(machine->mvcc, &all, attach_record, machine, &result);
    (void)mvcc_write_end(machine->mvcc); /* nothing was written: the revision stays */
    return st;
}

/* ---- entries ---- */

static enum status put_record(struct machine *machine, const struct lease *lease)
{
    uint8_t key[8], value[LEASE_BYTES_MAX];
    size_t size = 0;
    const struct {
        uint32_t number;
        int64_t value;
    } fields[] = {
        {FIELD_ID, lease->id}, {FIELD_TTL, lease->ttl_s}, {FIELD_REMAINING, lease->remaining_s}};
    for (size_t i = 0; i < 3; i++) {
        if (fields[i].value == 0)
            continue;
        value[size++] = (uint8_t)(fields[i].number << 3 | WIRE_VARINT);
        size += put_varint(value + size, (uint64_t)fields[i].value);
    }
    put_be64(key, (uint64_t)lease->id);
    return store_put(machine->store, BUCKET_LEASE, slice_make(key, sizeof(key)),
                     slice_make(value, size));
}

static void finish_at_current(struct application *a)
{
    int64_t current, compacted;
    mvcc_revisions(a->machine->mvcc, &current, &compacted);
    application_finish(a, current);
}

/* LeaseGrantRequest has the TTL first. */
enum status apply_lease_grant(struct application *a, struct slice body)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_INT64, offsetof(struct lease, ttl_s)},
                                             {WIRE_SLOT_INT64, offsetof(struct lease, id)}};
    struct machine *machine = a->machine;
    struct lease lease = {0};
    enum status st = wire_decode(body, slots, 2, &lease);
    if (st != ST_OK)
        return st;
    if (lease.id == 0) { /* whoever proposes it chooses one; etcd answers so */
        a->result->error = API_LEASE_NOT_FOUND;
        return ST_OK;
    }
    if (lease.ttl_s > LEASE_TTL_S_MAX) {
        a->result->error = API_LEASE_TTL_TOO_LARGE;
        return ST_OK;
    }
    if (lease.ttl_s < machine->lease_ttl_s_min)
        lease.ttl_s = machine->lease_ttl_s_min;
    st = lessor_grant(machine_lock_lessor(machine), &lease);
    machine_unlock_lessor(machine);
    if (st == ST_EXISTS) {
        a->result->error = API_LEASE_EXISTS;
        return ST_OK;
    }
    if (st == ST_OK)
        st = put_record(machine, &lease);
    a->result->lease_change = MACHINE_LEASE_GRANTED;
    a->result->lease = lease.id;
    a->result->lease_ttl_s = lease.ttl_s;
    wire_put_varint(a->out, FIELD_RESPONSE_ID, (uint64_t)lease.id);
    wire_put_varint(a->out, FIELD_RESPONSE_TTL, (uint64_t)lease.ttl_s);
    finish_at_current(a);
    return st;
}

static int compare_keys(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* In one revision, in order; none when there is none. */
static enum status delete_keys(struct machine *machine, lease_id id)
{
    struct slice *keys;
    uint64_t count;
    int64_t deleted;
    enum status st = lessor_keys(machine->lessor, id, &machine->scratch, &keys, &count);
    if (st == ST_OK && count > 1)
        qsort(keys, count, sizeof(keys[0]), compare_keys);
    if (st == ST_OK)
        st = mvcc_write_begin(machine->mvcc);
    if (st != ST_OK)
        return st;
    for (uint64_t i = 0; i < count && st == ST_OK; i++) {
        struct mvcc_range range = {.key = keys[i]};
        st = mvcc_write_delete(machine->mvcc, &range, NULL, NULL, &deleted);
    }
    if (st == ST_OK)
        (void)mvcc_write_end(machine->mvcc);
    return st;
}

enum status apply_lease_revoke(struct application *a, struct slice body)
{
    struct machine *machine = a->machine;
    struct lease lease = {0};
    enum status st = wire_decode(body, lease_slots, 1, &lease);
    if (st != ST_OK)
        return st;
    a->result->error = machine_auth_refuses_lease_revoke(a, lease.id);
    if (a->result->error != API_OK)
        return ST_OK;
    if (lessor_find(machine->lessor, lease.id) == NULL) {
        a->result->error = API_LEASE_NOT_FOUND;
        return ST_OK;
    }
    uint8_t key[8];
    put_be64(key, (uint64_t)lease.id);
    st = delete_keys(machine, lease.id);
    if (st == ST_OK)
        st = store_delete(machine->store, BUCKET_LEASE, slice_make(key, sizeof(key)));
    if (st != ST_OK)
        return st;
    struct list_node ended;
    list_init(&ended);
    lessor_drop(machine_lock_lessor(machine), lease.id, &ended);
    machine_unlock_lessor(machine);
    lease_renewals_end(&ended);
    a->result->lease_change = MACHINE_LEASE_REVOKED;
    a->result->lease = lease.id;
    finish_at_current(a);
    return ST_OK;
}

static enum status checkpoint(struct machine *machine, const struct lease *told)
{
    bool found = lessor_checkpoint(machine_lock_lessor(machine), told->id, told->remaining_s);
    machine_unlock_lessor(machine);
    if (!found || !machine->persist_checkpoints)
        return ST_OK;
    return put_record(machine, lessor_find(machine->lessor, told->id));
}

/* What is left of leases as their leader counted it; in memory alone, as etcd keeps it by default.
 */
enum status apply_lease_checkpoint(struct application *a, struct slice body)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, offsetof(struct lease, id)},
        {WIRE_SLOT_INT64, offsetof(struct lease, remaining_s)}};
    while (body.len > 0) {
        struct wire_field field;
        struct lease lease = {0};
        enum status st = wire_next(&body, &field);
        if (st == ST_OK && field.number == 1)
            st = field.type == WIRE_BYTES ? wire_decode(field.bytes, slots, 2, &lease) : ST_INVALID;
        if (st != ST_OK)
            return st;
        st = checkpoint(a->machine, &lease);
        if (st != ST_OK)
            return st;
    }
    finish_at_current(a);
    return ST_OK;
}
