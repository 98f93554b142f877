#include "server/state/kv_request.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "base/wire.h"
#include "server/state/limits.h"

#include <stddef.h>

#define SLOT(kind, type, member)                        \
    {                                                   \
        WIRE_SLOT_##kind, offsetof(struct type, member) \
    }
#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

static const struct wire_slot range_slots[] = {
    SLOT(BYTES, kv_range, key),
    SLOT(BYTES, kv_range, range_end),
    SLOT(INT64, kv_range, limit),
    SLOT(INT64, kv_range, revision),
    SLOT(ENUM, kv_range, sort_order),
    SLOT(ENUM, kv_range, sort_target),
    SLOT(BOOL, kv_range, serializable),
    SLOT(BOOL, kv_range, keys_only),
    SLOT(BOOL, kv_range, count_only),
    SLOT(INT64, kv_range, min_mod_revision),
    SLOT(INT64, kv_range, max_mod_revision),
    SLOT(INT64, kv_range, min_create_revision),
    SLOT(INT64, kv_range, max_create_revision),
};
static const struct wire_slot put_slots[] = {
    SLOT(BYTES, kv_put, key),    SLOT(BYTES, kv_put, value),       SLOT(INT64, kv_put, lease),
    SLOT(BOOL, kv_put, prev_kv), SLOT(BOOL, kv_put, ignore_value), SLOT(BOOL, kv_put, ignore_lease),
};
static const struct wire_slot delete_slots[] = {
    SLOT(BYTES, kv_delete, key),
    SLOT(BYTES, kv_delete, range_end),
    SLOT(BOOL, kv_delete, prev_kv),
};
static const struct wire_slot compact_slots[] = {
    SLOT(INT64, kv_compact, revision),
    SLOT(BOOL, kv_compact, physical),
};
static const struct wire_slot compare_slots[] = {
    SLOT(ENUM, kv_compare, result),
    SLOT(ENUM, kv_compare, target),
    SLOT(BYTES, kv_compare, key),
};

enum status kv_range_decode(struct slice message, struct kv_range *out)
{
    *out = (struct kv_range){0};
    return wire_decode(message, range_slots, COUNT_OF(range_slots), out);
}

enum status kv_put_decode(struct slice message, struct kv_put *out)
{
    *out = (struct kv_put){0};
    return wire_decode(message, put_slots, COUNT_OF(put_slots), out);
}

enum status kv_delete_decode(struct slice message, struct kv_delete *out)
{
    *out = (struct kv_delete){0};
    return wire_decode(message, delete_slots, COUNT_OF(delete_slots), out);
}

enum status kv_compact_decode(struct slice message, struct kv_compact *out)
{
    *out = (struct kv_compact){0};
    return wire_decode(message, compact_slots, COUNT_OF(compact_slots), out);
}

/* ---- txn ---- */

/* Fields 4 to 8 are the oneof, of which the last one counts. */
static enum status store_compare_operand(const struct wire_field *field, struct kv_compare *out)
{
    static const int32_t target_of[] = {COMPARE_VERSION, COMPARE_CREATE, COMPARE_MOD, COMPARE_VALUE,
                                        COMPARE_LEASE};
    out->given = target_of[field->number - 4];
    if (field->type != (out->given == COMPARE_VALUE ? WIRE_BYTES : WIRE_VARINT))
        return ST_INVALID;
    out->number = 0;
    out->value = SLICE_EMPTY;
    if (out->given == COMPARE_VALUE)
        out->value = field->bytes;
    else
        out->number = (int64_t)field->value;
    return ST_OK;
}

static enum status decode_compare(struct slice in, struct kv_compare *out)
{
    out->given = -1;
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st != ST_OK)
            return st;
        if (field.number >= 4 && field.number <= 8) {
            st = store_compare_operand(&field, out);
        } else if (field.number == 64) {
            st = field.type == WIRE_BYTES ? ST_OK : ST_INVALID;
            out->range_end = field.bytes;
        } else {
            st = wire_store(&field, compare_slots, COUNT_OF(compare_slots), out);
        }
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

struct txn_decoder {
    struct arena *arena;
    uint32_t depth;
    bool passed_over;
};

static enum status decode_txn(struct txn_decoder *decoder, struct slice message, uint32_t ops_max,
                              struct kv_txn *out);

static enum status decode_op(struct txn_decoder *decoder, const struct wire_field *field,
                             uint32_t ops_max, struct kv_op *op)
{
    if (field->type != WIRE_BYTES)
        return ST_INVALID;
    op->kind = (enum kv_op_kind)field->number;
    switch (op->kind) {
    case KV_OP_NONE:
        break;
    case KV_OP_RANGE:
        op->range = ARENA_NEW(decoder->arena, struct kv_range);
        return op->range == NULL ? ST_TOO_BIG : kv_range_decode(field->bytes, op->range);
    case KV_OP_PUT:
        op->put = ARENA_NEW(decoder->arena, struct kv_put);
        return op->put == NULL ? ST_TOO_BIG : kv_put_decode(field->bytes, op->put);
    case KV_OP_DELETE:
        op->del = ARENA_NEW(decoder->arena, struct kv_delete);
        return op->del == NULL ? ST_TOO_BIG : kv_delete_decode(field->bytes, op->del);
    case KV_OP_TXN:
        op->txn = ARENA_NEW(decoder->arena, struct kv_txn);
        return op->txn == NULL ? ST_TOO_BIG : decode_txn(decoder, field->bytes, ops_max, op->txn);
    }
    return ST_INVALID;
}

/* RequestOp: a oneof of fields 1 to 4, of which the last one counts. */
static enum status decode_request_op(struct txn_decoder *decoder, struct slice in, uint32_t ops_max,
                                     struct kv_op *op)
{
    _Static_assert(KV_OP_RANGE == 1 && KV_OP_TXN == 4, "kinds are the field numbers");
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK && field.number <= KV_OP_TXN)
            st = decode_op(decoder, &field, ops_max, op);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* Counts the elements first, so that nothing is allocated for a txn that is refused for them. */
static enum status count_txn(struct slice in, struct kv_txn *out)
{
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st != ST_OK)
            return st;
        if (field.number > 3)
            continue;
        if (field.type != WIRE_BYTES)
            return ST_INVALID;
        if (field.number == 1)
            out->compares_count++;
        else if (field.number == 2)
            out->success.count++;
        else
            out->failure.count++;
    }
    return ST_OK;
}

static enum status fill_txn(struct txn_decoder *decoder, struct slice in, uint32_t ops_max,
                            struct kv_txn *out)
{
    uint32_t compares = 0, successes = 0, failures = 0;
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st != ST_OK)
            return st;
        if (field.number == 1)
            st = decode_compare(field.bytes, &out->compares[compares++]);
        else if (field.number == 2)
            st = decode_request_op(decoder, field.bytes, ops_max, &out->success.items[successes++]);
        else if (field.number == 3)
            st = decode_request_op(decoder, field.bytes, ops_max, &out->failure.items[failures++]);
        if (st != ST_OK)
            return st;
    }
    ASSERT(compares == out->compares_count && successes == out->success.count);
    return ST_OK;
}

static enum status decode_txn(struct txn_decoder *decoder, struct slice message, uint32_t ops_max,
                              struct kv_txn *out)
{
    *out = (struct kv_txn){0};
    enum status st = count_txn(message, out);
    if (st != ST_OK)
        return st;
    uint32_t ops = max_u32(out->compares_count, max_u32(out->success.count, out->failure.count));
    if (ops > ops_max || decoder->depth == TXN_DEPTH_MAX) {
        *out = (struct kv_txn){.over_limit = true};
        decoder->passed_over = true;
        return ST_OK;
    }
    out->compares = ARENA_ARRAY(decoder->arena, struct kv_compare, out->compares_count);
    out->success.items = ARENA_ARRAY(decoder->arena, struct kv_op, out->success.count);
    out->failure.items = ARENA_ARRAY(decoder->arena, struct kv_op, out->failure.count);
    if (out->compares == NULL || out->success.items == NULL || out->failure.items == NULL)
        return ST_TOO_BIG;
    decoder->depth++;
    st = fill_txn(decoder, message, ops_max - ops, out);
    decoder->depth--;
    return st;
}

enum status kv_txn_decode(struct slice message, uint32_t ops_max, struct arena *arena,
                          struct kv_txn *out)
{
    struct txn_decoder decoder = {.arena = arena};
    enum status st = decode_txn(&decoder, message, ops_max, out);
    /* An operation may be given twice, and the last one counts. What was passed over in the first
     * nobody has looked at: every member would decode it when it is applied. */
    out->passed_over = decoder.passed_over;
    return st;
}

static bool all_ranges(const struct kv_ops *ops, bool serializable_only)
{
    for (uint32_t i = 0; i < ops->count; i++) {
        const struct kv_op *op = &ops->items[i];
        if (op->kind != KV_OP_RANGE || (serializable_only && !op->range->serializable))
            return false;
    }
    return true;
}

bool kv_txn_is_read_only(const struct kv_txn *txn)
{
    return all_ranges(&txn->success, false) && all_ranges(&txn->failure, false);
}

bool kv_txn_is_serializable(const struct kv_txn *txn)
{
    return all_ranges(&txn->success, true) && all_ranges(&txn->failure, true);
}

/* ---- the entry ---- */

struct legacy_request {
    uint64_t id;
    struct slice method, path, value;
};
static const struct wire_slot legacy_slots[] = {
    SLOT(INT64, legacy_request, id),
    SLOT(BYTES, legacy_request, method),
    SLOT(BYTES, legacy_request, path),
    SLOT(BYTES, legacy_request, value),
};

struct request_header {
    uint64_t id;
    struct slice username;
    uint64_t auth_revision;
};
static const struct wire_slot header_slots[] = {
    SLOT(INT64, request_header, id),
    SLOT(BYTES, request_header, username),
    SLOT(INT64, request_header, auth_revision),
};

/* Go tries InternalRaftRequest first, whose field 2 is a message; a v2 method's name is not one. */
static bool is_legacy_method(struct slice method)
{
    static const char *const names[] = {"PUT", "POST", "DELETE", "QGET", "SYNC", "GET"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (slice_eq(method, slice_from_str(names[i])))
            return true;
    }
    return false;
}

static enum status decode_legacy(struct slice data, struct internal_request *out)
{
    struct legacy_request legacy = {0};
    enum status st = wire_decode(data, legacy_slots, COUNT_OF(legacy_slots), &legacy);
    if (st != ST_OK)
        return st;
    *out = (struct internal_request){.id = legacy.id,
                                     .is_legacy = true,
                                     .method = legacy.method,
                                     .path = legacy.path,
                                     .value = legacy.value};
    return ST_OK;
}

static enum status store_internal(const struct wire_field *field, struct internal_request *out)
{
    if (field->number == 1) {
        if (field->type != WIRE_VARINT)
            return ST_INVALID;
        out->id = out->id == 0 ? field->value : out->id; /* the header's wins */
        return ST_OK;
    }
    if (field->type != WIRE_BYTES)
        return ST_INVALID;
    if (field->number == INTERNAL_HEADER) {
        struct request_header header = {0};
        enum status st = wire_decode(field->bytes, header_slots, COUNT_OF(header_slots), &header);
        out->id = header.id;
        out->caller.name = header.username;
        out->caller.revision = header.auth_revision;
        return st;
    }
    if (out->field != INTERNAL_NONE)
        return ST_INVALID;
    out->field = field->number;
    out->body = field->bytes;
    return ST_OK;
}

enum status internal_request_decode(struct slice data, struct internal_request *out)
{
    *out = (struct internal_request){0};
    struct slice rest = data;
    while (rest.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&rest, &field);
        if (st != ST_OK)
            return st;
        if (field.number == 2 && field.type == WIRE_BYTES && is_legacy_method(field.bytes))
            return decode_legacy(data, out);
        st = store_internal(&field, out);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static size_t field_size(uint32_t number, size_t bytes)
{
    return varint_size((uint64_t)number << 3) + varint_size(bytes) + bytes;
}

static size_t put_field_head(uint8_t *p, uint32_t number, size_t bytes)
{
    size_t size = put_varint(p, (uint64_t)number << 3 | WIRE_BYTES);
    return size + put_varint(p + size, bytes);
}

static size_t put_bytes(uint8_t *p, struct slice bytes)
{
    if (bytes.len > 0)
        memcpy(p, bytes.data, bytes.len);
    return bytes.len;
}

/* RequestHeader{ID=1, username=2, auth_revision=3}, the ID always there. */
static size_t header_size(uint64_t id, const struct auth_caller *caller)
{
    size_t size = 1 + varint_size(id);
    if (caller == NULL || caller->revision == 0)
        return size;
    if (caller->name.len > 0)
        size += field_size(2, caller->name.len);
    return size + 1 + varint_size(caller->revision);
}

static size_t put_header(uint8_t *p, uint64_t id, const struct auth_caller *caller)
{
    size_t size = 0;
    p[size++] = 1 << 3 | WIRE_VARINT;
    size += put_varint(p + size, id);
    if (caller == NULL || caller->revision == 0)
        return size;
    if (caller->name.len > 0) {
        size += put_field_head(p + size, 2, caller->name.len);
        size += put_bytes(p + size, caller->name);
    }
    p[size++] = 3 << 3 | WIRE_VARINT;
    return size + put_varint(p + size, caller->revision);
}

size_t internal_request_size_as(enum internal_field field, size_t body_bytes, uint64_t id,
                                const struct auth_caller *caller)
{
    ASSERT(field > INTERNAL_NONE);
    return field_size((uint32_t)field, body_bytes) +
           field_size(INTERNAL_HEADER, header_size(id, caller));
}

size_t internal_request_size(enum internal_field field, size_t body_bytes, uint64_t id)
{
    return internal_request_size_as(field, body_bytes, id, NULL);
}

struct raft_payload *internal_request_payload_as(enum internal_field field, struct slice body,
                                                 uint64_t id, const struct auth_caller *caller)
{
    size_t size = internal_request_size_as(field, body.len, id, caller);
    struct raft_payload *payload = size > UINT32_MAX ? NULL : raft_payload_new(size);
    if (payload == NULL)
        return NULL;
    uint8_t *p = payload->data;
    p += put_field_head(p, (uint32_t)field, body.len);
    p += put_bytes(p, body);
    p += put_field_head(p, INTERNAL_HEADER, header_size(id, caller));
    p += put_header(p, id, caller);
    ASSERT(p == payload->data + size);
    return payload;
}

struct raft_payload *internal_request_payload(enum internal_field field, struct slice body,
                                              uint64_t id)
{
    return internal_request_payload_as(field, body, id, NULL);
}
