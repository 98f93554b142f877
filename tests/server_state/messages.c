#include "tests/server_state/messages.h"

#include "base/assert.h"
#include "base/wire.h"

static struct slice finish(const struct wire_out *out)
{
    struct slice message;
    ASSERT(wire_out_finish(out, &message) == ST_OK);
    return message;
}

static void put_text(struct wire_out *out, uint32_t number, struct slice s)
{
    if (s.len > 0)
        wire_put_bytes(out, number, s);
}

struct slice encode_range(struct arena *arena, const struct kv_range *range)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    put_text(&out, 1, range->key);
    put_text(&out, 2, range->range_end);
    wire_put_varint(&out, 3, (uint64_t)range->limit);
    wire_put_varint(&out, 4, (uint64_t)range->revision);
    wire_put_varint(&out, 5, (uint64_t)(int64_t)range->sort_order);
    wire_put_varint(&out, 6, (uint64_t)(int64_t)range->sort_target);
    wire_put_varint(&out, 7, range->serializable);
    wire_put_varint(&out, 8, range->keys_only);
    wire_put_varint(&out, 9, range->count_only);
    wire_put_varint(&out, 10, (uint64_t)range->min_mod_revision);
    wire_put_varint(&out, 11, (uint64_t)range->max_mod_revision);
    wire_put_varint(&out, 12, (uint64_t)range->min_create_revision);
    wire_put_varint(&out, 13, (uint64_t)range->max_create_revision);
    return finish(&out);
}

struct slice encode_put(struct arena *arena, const struct kv_put *put)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    put_text(&out, 1, put->key);
    put_text(&out, 2, put->value);
    wire_put_varint(&out, 3, (uint64_t)put->lease);
    wire_put_varint(&out, 4, put->prev_kv);
    wire_put_varint(&out, 5, put->ignore_value);
    wire_put_varint(&out, 6, put->ignore_lease);
    return finish(&out);
}

struct slice encode_delete(struct arena *arena, const struct kv_delete *del)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    put_text(&out, 1, del->key);
    put_text(&out, 2, del->range_end);
    wire_put_varint(&out, 3, del->prev_kv);
    return finish(&out);
}

struct slice encode_compact(struct arena *arena, const struct kv_compact *compact)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    wire_put_varint(&out, 1, (uint64_t)compact->revision);
    wire_put_varint(&out, 2, compact->physical);
    return finish(&out);
}

static void append_bytes(struct wire_out *out, struct slice bytes)
{
    uint8_t *room = wire_reserve(out, bytes.len);
    ASSERT(room != NULL);
    if (bytes.len > 0)
        memcpy(room, bytes.data, bytes.len);
}

/* Numbers of a oneof are written even when they are zero. */
static void append_number(struct wire_out *out, uint32_t number, uint64_t value)
{
    uint8_t bytes[1 + VARINT_BYTES_MAX] = {(uint8_t)(number << 3)};
    append_bytes(out, slice_make(bytes, 1 + put_varint(bytes + 1, value)));
}

static struct slice encode_compare(struct arena *arena, const struct kv_compare *compare)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    wire_put_varint(&out, 1, (uint64_t)(int64_t)compare->result);
    wire_put_varint(&out, 2, (uint64_t)(int64_t)compare->target);
    put_text(&out, 3, compare->key);
    if (compare->given == COMPARE_VALUE)
        wire_put_bytes(&out, 7, compare->value);
    else if (compare->given == COMPARE_LEASE)
        append_number(&out, 8, (uint64_t)compare->number);
    else if (compare->given >= 0)
        append_number(&out, 4 + (uint32_t)compare->given, (uint64_t)compare->number);
    if (compare->range_end.len > 0) { /* field 64 has a tag of two bytes */
        uint8_t tag[2 + VARINT_BYTES_MAX] = {0x82, 0x04};
        size_t size = 2 + put_varint(tag + 2, compare->range_end.len);
        append_bytes(&out, slice_make(tag, size));
        append_bytes(&out, compare->range_end);
    }
    return finish(&out);
}

static struct slice encode_op(struct arena *arena, const struct kv_op *op)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    switch (op->kind) {
    case KV_OP_NONE:
        break;
    case KV_OP_RANGE:
        wire_put_bytes(&out, 1, encode_range(arena, op->range));
        break;
    case KV_OP_PUT:
        wire_put_bytes(&out, 2, encode_put(arena, op->put));
        break;
    case KV_OP_DELETE:
        wire_put_bytes(&out, 3, encode_delete(arena, op->del));
        break;
    case KV_OP_TXN:
        wire_put_bytes(&out, 4, encode_txn(arena, op->txn));
        break;
    }
    return finish(&out);
}

struct slice encode_txn(struct arena *arena, const struct kv_txn *txn)
{
    struct wire_out out;
    wire_out_init(&out, arena, 0);
    for (uint32_t i = 0; i < txn->compares_count; i++)
        wire_put_bytes(&out, 1, encode_compare(arena, &txn->compares[i]));
    for (uint32_t i = 0; i < txn->success.count; i++)
        wire_put_bytes(&out, 2, encode_op(arena, &txn->success.items[i]));
    for (uint32_t i = 0; i < txn->failure.count; i++)
        wire_put_bytes(&out, 3, encode_op(arena, &txn->failure.items[i]));
    return finish(&out);
}

/* Written backwards, so that it needs no recursion and no copies. */
struct slice encode_nested(struct arena *arena, uint32_t depth)
{
    size_t room = (size_t)depth * 12 + 16, at = room;
    uint8_t *bytes = arena_alloc(arena, room);
    ASSERT(bytes != NULL);
    for (uint32_t i = 0; i < depth; i++) {
        for (uint32_t tag = 4; tag >= 2; tag -= 2) { /* request_txn in a RequestOp, success */
            uint8_t head[1 + VARINT_BYTES_MAX] = {(uint8_t)(tag << 3 | WIRE_BYTES)};
            size_t size = 1 + put_varint(head + 1, room - at);
            ASSERT(at >= size);
            at -= size;
            memcpy(bytes + at, head, size);
        }
    }
    return slice_make(bytes + at, room - at);
}

/* ---- trees ---- */

struct kv_op op_put(struct arena *arena, const char *key, const char *value)
{
    struct kv_op op = {.kind = KV_OP_PUT, .put = ARENA_NEW(arena, struct kv_put)};
    *op.put = (struct kv_put){.key = slice_from_str(key), .value = slice_from_str(value)};
    return op;
}

struct kv_op op_get(struct arena *arena, const char *key)
{
    struct kv_op op = {.kind = KV_OP_RANGE, .range = ARENA_NEW(arena, struct kv_range)};
    *op.range = (struct kv_range){.key = slice_from_str(key)};
    return op;
}

struct kv_op op_delete(struct arena *arena, const char *key, const char *end)
{
    struct kv_op op = {.kind = KV_OP_DELETE, .del = ARENA_NEW(arena, struct kv_delete)};
    *op.del = (struct kv_delete){.key = slice_from_str(key), .range_end = slice_from_str(end)};
    return op;
}

struct kv_op op_delete_from(struct arena *arena, const char *key)
{
    struct kv_op op = op_delete(arena, key, "");
    op.del->range_end = SLICE("\0");
    return op;
}

struct kv_op op_txn(struct arena *arena, struct kv_txn txn)
{
    struct kv_op op = {.kind = KV_OP_TXN, .txn = ARENA_NEW(arena, struct kv_txn)};
    *op.txn = txn;
    return op;
}

struct kv_ops ops_of(struct arena *arena, const struct kv_op *items, uint32_t count)
{
    struct kv_ops ops = {.items = ARENA_ARRAY(arena, struct kv_op, count), .count = count};
    ASSERT(ops.items != NULL);
    memcpy(ops.items, items, count * sizeof(items[0]));
    return ops;
}
