/* raft/conf_change.c - the bytes of raftpb.ConfChange and raftpb.ConfChangeV2 (proto2):
 *
 *   ConfChange       1 id varint   2 type varint   3 node_id varint   4 context bytes
 *   ConfChangeV2     1 transition varint   2 changes: message {1 type, 2 node_id}   3 context bytes
 *
 * Unknown fields are skipped, as every protobuf decoder does. */
#include "raft/conf_change.h"

#include "base/wire.h"

static enum status set_type(uint64_t value, enum conf_change_type *out)
{
    if (value > CONF_CHANGE_ADD_LEARNER)
        return ST_INVALID;
    *out = (enum conf_change_type)value;
    return ST_OK;
}

/* A known field must come in its own wire type. */
static bool is_number(const struct wire_field *field, uint32_t number)
{
    return field->number == number && field->type == WIRE_VARINT;
}

static bool is_bytes(const struct wire_field *field, uint32_t number)
{
    return field->number == number && field->type == WIRE_BYTES;
}

static enum status decode_v1(struct slice in, struct conf_change *out)
{
    struct conf_change_single *change = &out->changes[0];
    out->changes_count = 1;
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK && is_number(&field, 2))
            st = set_type(field.value, &change->type);
        else if (is_number(&field, 1))
            out->id = field.value;
        else if (is_number(&field, 3))
            change->node_id = field.value;
        else if (is_bytes(&field, 4))
            out->context = field.bytes;
        else if (field.number >= 1 && field.number <= 4)
            st = ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status decode_single(struct slice in, struct conf_change_single *out)
{
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK && is_number(&field, 1))
            st = set_type(field.value, &out->type);
        else if (is_number(&field, 2))
            out->node_id = field.value;
        else if (field.number == 1 || field.number == 2)
            st = ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status add_single(struct slice in, struct conf_change *out)
{
    if (out->changes_count == CONF_CHANGES_MAX)
        return ST_INVALID;
    return decode_single(in, &out->changes[out->changes_count++]);
}

static enum status decode_v2(struct slice in, struct conf_change *out)
{
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK && is_number(&field, 1) && field.value <= CONF_CHANGE_JOINT_EXPLICIT)
            out->transition = (enum conf_change_transition)field.value;
        else if (st == ST_OK && is_bytes(&field, 2))
            st = add_single(field.bytes, out);
        else if (is_bytes(&field, 3))
            out->context = field.bytes;
        else if (field.number >= 1 && field.number <= 3)
            st = ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status conf_change_decode(enum raft_entry_type type, struct slice bytes,
                               struct conf_change *out)
{
    *out = (struct conf_change){0};
    switch (type) {
    case RAFT_ENTRY_CONF_CHANGE:
        return decode_v1(bytes, out);
    case RAFT_ENTRY_CONF_CHANGE_V2:
        return decode_v2(bytes, out);
    case RAFT_ENTRY_NORMAL:
        break;
    }
    return ST_INVALID;
}

static size_t put_number(uint8_t *p, uint32_t field, uint64_t value)
{
    p[0] = (uint8_t)(field << 3 | WIRE_VARINT);
    return 1 + put_varint(p + 1, value);
}

struct raft_payload *conf_change_encode_v1(uint64_t id, struct conf_change_single change,
                                           struct slice context)
{
    uint8_t head[4 * (1 + VARINT_BYTES_MAX)];
    size_t len = put_number(head, 1, id);
    len += put_number(head + len, 2, (uint64_t)change.type);
    len += put_number(head + len, 3, change.node_id);
    if (context.len > 0) { /* absent when there is none, as etcd leaves it out */
        head[len++] = 4 << 3 | WIRE_BYTES;
        len += put_varint(head + len, context.len);
    }
    struct raft_payload *payload = raft_payload_new(len + context.len);
    if (payload == NULL)
        return NULL;
    memcpy(payload->data, head, len);
    if (context.len > 0)
        memcpy(payload->data + len, context.data, context.len);
    return payload;
}
