#include "storage/index_record.h"

#include "base/assert.h"
#include "base/bytes.h"

enum record_flags {
    RECORD_TOMBSTONE = 1 << 0,
    RECORD_LIFE = 1 << 1,
    RECORD_HISTORY = 1 << 2,
    RECORD_WIDE = 1 << 3,
};

/* Bytes of each number in the two forms. */
struct widths {
    uint8_t revision, sub, version;
};
static const struct widths narrow_form = {.revision = 6, .sub = 2, .version = 4};
static const struct widths wide_form = {.revision = 8, .sub = 4, .version = 8};

static uint8_t *put_number(uint8_t *p, uint64_t value, uint8_t width)
{
    for (uint8_t i = 0; i < width; i++)
        p[i] = (uint8_t)(value >> (8 * i));
    return p + width;
}

static const uint8_t *get_number(const uint8_t *p, uint8_t width, uint64_t *out)
{
    uint64_t value = 0;
    for (uint8_t i = 0; i < width; i++)
        value |= (uint64_t)p[i] << (8 * i);
    *out = value;
    return p + width;
}

static uint8_t flags_of(const struct index_record *r)
{
    bool narrow = r->newest.main < INT64_C(1) << 48 && r->newest.sub <= UINT16_MAX &&
                  r->previous < UINT64_C(1) << 48 && r->version <= (int64_t)UINT32_MAX;
    bool life = !r->tombstone && (r->version != 1 || r->create_revision != r->newest.main);
    return (uint8_t)((r->tombstone ? RECORD_TOMBSTONE : 0) | (life ? RECORD_LIFE : 0) |
                     (r->previous != 0 ? RECORD_HISTORY : 0) | (narrow ? 0 : RECORD_WIDE));
}

static const struct widths *widths_of(uint8_t flags)
{
    return (flags & RECORD_WIDE) != 0 ? &wide_form : &narrow_form;
}

size_t index_record_size(const struct index_record *record)
{
    uint8_t flags = flags_of(record);
    const struct widths *w = widths_of(flags);
    size_t size = 1 + varint_size(record->key.len) + w->revision + w->sub + record->key.len;
    if ((flags & RECORD_HISTORY) != 0)
        size += w->revision;
    if ((flags & RECORD_LIFE) != 0)
        size += (size_t)w->revision + w->version;
    return size;
}

void index_record_pack(const struct index_record *record, uint8_t *out)
{
    ASSERT(record->key.len <= UINT32_MAX);
    ASSERT(record->newest.sub <= (int64_t)UINT32_MAX);
    uint8_t flags = flags_of(record);
    const struct widths *w = widths_of(flags);
    *out++ = flags;
    out += put_varint(out, record->key.len);
    out = put_number(out, (uint64_t)record->newest.main, w->revision);
    out = put_number(out, (uint64_t)record->newest.sub, w->sub);
    if ((flags & RECORD_HISTORY) != 0)
        out = put_number(out, record->previous, w->revision);
    if ((flags & RECORD_LIFE) != 0) {
        out = put_number(out, (uint64_t)record->create_revision, w->revision);
        out = put_number(out, (uint64_t)record->version, w->version);
    }
    if (record->key.len > 0)
        memcpy(out, record->key.data, record->key.len);
}

/* The packed bytes are our own, so the length is sound. */
static const uint8_t *unpack_length(const uint8_t *p, size_t *length_out)
{
    size_t length = *p & 0x7f;
    for (unsigned shift = 7; (*p++ & 0x80) != 0; shift += 7)
        length |= (size_t)(*p & 0x7f) << shift;
    *length_out = length;
    return p;
}

void index_record_unpack(const uint8_t *packed, struct index_record *out)
{
    uint8_t flags = packed[0];
    const struct widths *w = widths_of(flags);
    uint64_t main, sub, create = 0, version = 0;
    out->tombstone = (flags & RECORD_TOMBSTONE) != 0;
    out->previous = 0;
    const uint8_t *p = unpack_length(packed + 1, &out->key.len);
    p = get_number(p, w->revision, &main);
    p = get_number(p, w->sub, &sub);
    if ((flags & RECORD_HISTORY) != 0)
        p = get_number(p, w->revision, &out->previous);
    if ((flags & RECORD_LIFE) != 0) {
        p = get_number(p, w->revision, &create);
        p = get_number(p, w->version, &version);
    } else if (!out->tombstone) {
        create = main;
        version = 1;
    }
    out->newest = (struct revision){(int64_t)main, (int64_t)sub};
    out->create_revision = (int64_t)create;
    out->version = (int64_t)version;
    out->key.data = p;
}

struct slice index_record_key(const uint8_t *packed)
{
    uint8_t flags = packed[0];
    const struct widths *w = widths_of(flags);
    size_t length;
    const uint8_t *p = unpack_length(packed + 1, &length);
    p += w->revision + w->sub;
    if ((flags & RECORD_HISTORY) != 0)
        p += w->revision;
    if ((flags & RECORD_LIFE) != 0)
        p += w->revision + w->version;
    return slice_make(p, length);
}

bool index_record_is_live(const uint8_t *packed)
{
    return (packed[0] & RECORD_TOMBSTONE) == 0;
}
