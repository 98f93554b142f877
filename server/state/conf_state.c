#include "server/state/conf_state.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/wire.h"

#include <stddef.h>

/* ConfState: four repeated, unpacked uint64 and a bool that etcd always writes. */
enum { FIELD_VOTERS = 1, FIELD_LEARNERS, FIELD_OUTGOING, FIELD_LEARNERS_NEXT, FIELD_AUTO_LEAVE };

static enum status append_number(struct buf *out, uint32_t number, uint64_t value)
{
    uint8_t bytes[1 + VARINT_BYTES_MAX] = {(uint8_t)(number << 3 | WIRE_VARINT)};
    size_t size = 1 + put_varint(bytes + 1, value);
    return buf_append(out, slice_make(bytes, size));
}

static enum status append_ids(struct buf *out, uint32_t number, const raft_id *ids, uint32_t count)
{
    ASSERT(count <= RAFT_MEMBERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        enum status st = append_number(out, number, ids[i]);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status conf_state_encode(const struct raft_conf_state *c, struct buf *out)
{
    size_t before = out->len;
    enum status st = append_ids(out, FIELD_VOTERS, c->voters, c->voters_count);
    if (st == ST_OK)
        st = append_ids(out, FIELD_LEARNERS, c->learners, c->learners_count);
    if (st == ST_OK)
        st = append_ids(out, FIELD_OUTGOING, c->voters_outgoing, c->voters_outgoing_count);
    if (st == ST_OK)
        st = append_ids(out, FIELD_LEARNERS_NEXT, c->learners_next, c->learners_next_count);
    if (st == ST_OK)
        st = append_number(out, FIELD_AUTO_LEAVE, c->auto_leave);
    if (st != ST_OK)
        out->len = before;
    return st;
}

static enum status take_id(const struct wire_field *field, raft_id *ids, uint32_t *count)
{
    if (field->type != WIRE_VARINT || *count == RAFT_MEMBERS_MAX)
        return ST_CORRUPT;
    ids[(*count)++] = field->value;
    return ST_OK;
}

static enum status take_conf_field(const struct wire_field *field, struct raft_conf_state *out)
{
    switch (field->number) {
    case FIELD_VOTERS:
        return take_id(field, out->voters, &out->voters_count);
    case FIELD_LEARNERS:
        return take_id(field, out->learners, &out->learners_count);
    case FIELD_OUTGOING:
        return take_id(field, out->voters_outgoing, &out->voters_outgoing_count);
    case FIELD_LEARNERS_NEXT:
        return take_id(field, out->learners_next, &out->learners_next_count);
    case FIELD_AUTO_LEAVE:
        out->auto_leave = field->value != 0;
        return field->type == WIRE_VARINT ? ST_OK : ST_CORRUPT;
    default:
        return ST_OK;
    }
}

enum status conf_state_decode(struct slice bytes, struct raft_conf_state *out)
{
    *out = (struct raft_conf_state){0};
    while (bytes.len > 0) {
        struct wire_field field = {0};
        if (wire_next(&bytes, &field) != ST_OK)
            return ST_CORRUPT;
        enum status st = take_conf_field(&field, out);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- ConfChange ---- */

static const struct wire_slot change_slots[] = {
    {WIRE_SLOT_INT64, offsetof(struct member_change, id)},
    {WIRE_SLOT_INT64, offsetof(struct member_change, type)},
    {WIRE_SLOT_INT64, offsetof(struct member_change, node_id)},
    {WIRE_SLOT_BYTES, offsetof(struct member_change, context)},
};

enum status member_change_decode(struct slice bytes, struct member_change *out)
{
    *out = (struct member_change){0};
    enum status st = wire_decode(bytes, change_slots, 4, out);
    return st == ST_OK ? ST_OK : ST_CORRUPT;
}

/* etcd writes the numbers even when they are zero, and leaves an absent context out. */
struct raft_payload *member_change_payload(const struct member_change *change)
{
    struct buf out;
    buf_init(&out, UINT32_MAX);
    struct raft_payload *payload = NULL;
    enum status st = append_number(&out, 1, change->id);
    if (st == ST_OK)
        st = append_number(&out, 2, change->type);
    if (st == ST_OK)
        st = append_number(&out, 3, change->node_id);
    if (st == ST_OK && change->context.len > 0) {
        uint8_t head[1 + VARINT_BYTES_MAX] = {4 << 3 | WIRE_BYTES};
        size_t size = 1 + put_varint(head + 1, change->context.len);
        st = buf_append(&out, slice_make(head, size));
        if (st == ST_OK)
            st = buf_append(&out, change->context);
    }
    if (st == ST_OK)
        payload = raft_payload_copy(buf_slice(&out));
    buf_deinit(&out);
    return payload;
}
