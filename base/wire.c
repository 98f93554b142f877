#include "base/wire.h"

#include "base/assert.h"
#include "base/minmax.h"

#define WIRE_OUT_BYTES_MIN 256U

static inline enum status take_number(struct slice *in, uint64_t *out)
{
    if (in->len > 0 && in->data[0] < 0x80) {
        *out = in->data[0];
        *in = slice_make(in->data + 1, in->len - 1);
        return ST_OK;
    }
    return take_varint(in, out) == ST_OK ? ST_OK : ST_INVALID;
}

static inline enum status take_bytes(struct slice *in, uint64_t size, struct slice *out)
{
    if (size > in->len)
        return ST_INVALID;
    *out = slice_make(in->data, (size_t)size);
    *in = slice_make(in->data + size, in->len - (size_t)size);
    return ST_OK;
}

enum status wire_next(struct slice *in, struct wire_field *out)
{
    uint64_t tag;
    *out = (struct wire_field){0};
    enum status st = take_number(in, &tag);
    if (st != ST_OK)
        return st;
    if (tag >> 3 == 0 || tag >> 32 != 0)
        return ST_INVALID;
    out->number = (uint32_t)(tag >> 3);
    uint64_t size;
    switch (tag & 7) {
    case WIRE_VARINT:
        out->type = WIRE_VARINT;
        return take_number(in, &out->value);
    case WIRE_FIXED64:
        out->type = WIRE_FIXED64;
        return take_bytes(in, 8, &out->bytes);
    case WIRE_BYTES:
        out->type = WIRE_BYTES;
        st = take_number(in, &size);
        return st != ST_OK ? st : take_bytes(in, size, &out->bytes);
    case WIRE_FIXED32:
        out->type = WIRE_FIXED32;
        return take_bytes(in, 4, &out->bytes);
    default: /* groups, and types that do not exist */
        return ST_INVALID;
    }
}

enum status wire_store(const struct wire_field *field, const struct wire_slot *slots,
                       uint32_t slots_count, void *out)
{
    if (field->number > slots_count || slots[field->number - 1].kind == WIRE_SLOT_SKIP)
        return ST_OK;
    const struct wire_slot *slot = &slots[field->number - 1];
    enum wire_type wanted = slot->kind == WIRE_SLOT_BYTES ? WIRE_BYTES : WIRE_VARINT;
    if (field->type != wanted)
        return ST_INVALID;
    uint8_t *place = (uint8_t *)out + slot->offset;
    switch (slot->kind) {
    case WIRE_SLOT_SKIP:
        break;
    case WIRE_SLOT_BYTES:
        memcpy(place, &field->bytes, sizeof(field->bytes));
        break;
    case WIRE_SLOT_INT64:
        memcpy(place, &field->value, sizeof(field->value));
        break;
    case WIRE_SLOT_ENUM: {
        uint32_t low = (uint32_t)field->value;
        memcpy(place, &low, sizeof(low));
        break;
    }
    case WIRE_SLOT_BOOL: {
        bool set = field->value != 0;
        memcpy(place, &set, sizeof(set));
        break;
    }
    }
    return ST_OK;
}

enum status wire_decode(struct slice in, const struct wire_slot *slots, uint32_t slots_count,
                        void *out)
{
    while (in.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&in, &field);
        if (st == ST_OK)
            st = wire_store(&field, slots, slots_count, out);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- writing ---- */

void wire_out_init(struct wire_out *out, struct arena *arena, size_t gap)
{
    *out = (struct wire_out){.arena = arena, .gap = gap, .len = gap};
}

/* The array doubles; what a small one leaves behind in the arena is less than the message. */
static bool grow(struct wire_out *out, size_t size)
{
    size_t wanted, capacity;
    if (__builtin_add_overflow(out->len, size, &wanted))
        return false;
    capacity = max_size(wanted, max_size(out->capacity * 2, WIRE_OUT_BYTES_MIN));
    void *data = out->data;
    enum status st = arena_grow(out->arena, out->capacity, capacity, &data);
    if (st == ST_TOO_BIG && capacity > wanted) { /* near the cap: take what is needed */
        capacity = wanted;
        st = arena_grow(out->arena, out->capacity, capacity, &data);
    }
    if (st != ST_OK)
        return false;
    out->data = data;
    out->capacity = capacity;
    return true;
}

uint8_t *wire_reserve(struct wire_out *out, size_t size)
{
    if (out->failed)
        return NULL;
    if (out->capacity < out->len || out->capacity - out->len < size) {
        if (!grow(out, size)) {
            out->failed = true;
            return NULL;
        }
    }
    uint8_t *room = out->data + out->len;
    out->len += size;
    return room;
}

static inline uint8_t tag_of(uint32_t number, enum wire_type type)
{
    ASSERT(number > 0 && number < 16);
    return (uint8_t)(number << 3 | type);
}

void wire_put_varint(struct wire_out *out, uint32_t number, uint64_t value)
{
    if (value == 0)
        return;
    uint8_t *p = wire_reserve(out, 1 + varint_size(value));
    if (p == NULL)
        return;
    *p = tag_of(number, WIRE_VARINT);
    put_varint(p + 1, value);
}

void wire_put_bytes(struct wire_out *out, uint32_t number, struct slice bytes)
{
    uint8_t *p = wire_reserve(out, 1 + varint_size(bytes.len) + bytes.len);
    if (p == NULL)
        return;
    *p++ = tag_of(number, WIRE_BYTES);
    p += put_varint(p, bytes.len);
    if (bytes.len > 0)
        memcpy(p, bytes.data, bytes.len);
}

size_t wire_open(struct wire_out *out, uint32_t number)
{
    uint8_t *p = wire_reserve(out, 2); /* tag, and a length of one byte until we know better */
    if (p != NULL)
        *p = tag_of(number, WIRE_BYTES);
    return out->len;
}

void wire_close(struct wire_out *out, size_t mark)
{
    if (out->failed)
        return;
    ASSERT(mark >= out->gap + 2 && mark <= out->len);
    size_t body = out->len - mark;
    size_t extra = varint_size(body) - 1;
    if (extra > 0) {
        if (wire_reserve(out, extra) == NULL)
            return;
        memmove(out->data + mark + extra, out->data + mark, body);
    }
    put_varint(out->data + mark - 1, body);
}

void wire_insert(struct wire_out *out, size_t mark, struct slice fields)
{
    size_t behind = out->len - mark;
    if (fields.len == 0 || wire_reserve(out, fields.len) == NULL)
        return;
    uint8_t *p = out->data + mark;
    memmove(p + fields.len, p, behind);
    memcpy(p, fields.data, fields.len);
}

enum status wire_out_finish(const struct wire_out *out, struct slice *message_out)
{
    if (out->failed)
        return ST_TOO_BIG;
    *message_out =
        out->data == NULL ? SLICE_EMPTY : slice_make(out->data + out->gap, out->len - out->gap);
    return ST_OK;
}
