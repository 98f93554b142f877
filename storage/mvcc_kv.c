/* mvccpb.KeyValue: 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease; zeros are
 * left out. The int64 fields are varints of the 64-bit pattern, so a negative lease takes ten
 * bytes. */
#include "base/assert.h"
#include "base/bytes.h"
#include "storage/mvcc.h"

enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };
enum { FIELD_KEY = 1, FIELD_CREATE, FIELD_MOD, FIELD_VERSION, FIELD_VALUE, FIELD_LEASE };

/* Every tag is one byte. */
#define TAG(field, wire) ((uint8_t)((field) << 3 | (wire)))

static enum status take_bytes(struct slice *in, struct slice *out)
{
    uint64_t length;
    enum status st = take_varint(in, &length);
    if (st != ST_OK || length > in->len)
        return ST_CORRUPT;
    *out = slice_make(in->data, (size_t)length);
    *in = slice_make(in->data + length, in->len - (size_t)length);
    return ST_OK;
}

static enum status take_int64(struct slice *in, int64_t *out)
{
    uint64_t value;
    if (take_varint(in, &value) != ST_OK)
        return ST_CORRUPT;
    *out = (int64_t)value;
    return ST_OK;
}

enum status mvcc_kv_decode(struct slice record, struct mvcc_kv *out)
{
    *out = (struct mvcc_kv){0};
    while (record.len > 0) {
        uint8_t tag = record.data[0];
        record = slice_make(record.data + 1, record.len - 1);
        enum status st = ST_CORRUPT;
        if (tag == TAG(FIELD_KEY, WIRE_BYTES))
            st = take_bytes(&record, &out->key);
        else if (tag == TAG(FIELD_CREATE, WIRE_VARINT))
            st = take_int64(&record, &out->create_revision);
        else if (tag == TAG(FIELD_MOD, WIRE_VARINT))
            st = take_int64(&record, &out->mod_revision);
        else if (tag == TAG(FIELD_VERSION, WIRE_VARINT))
            st = take_int64(&record, &out->version);
        else if (tag == TAG(FIELD_VALUE, WIRE_BYTES))
            st = take_bytes(&record, &out->value);
        else if (tag == TAG(FIELD_LEASE, WIRE_VARINT))
            st = take_int64(&record, &out->lease);
        if (st != ST_OK)
            return st;
    }
    return out->key.len > 0 ? ST_OK : ST_CORRUPT;
}

enum status mvcc_record_decode(struct slice record, struct revision revision, bool tombstone,
                               struct mvcc_kv *out)
{
    if (record.len == 0 && !tombstone) {
        *out = (struct mvcc_kv){
            .create_revision = revision.main, .mod_revision = revision.main, .version = 1};
        return ST_OK;
    }
    enum status st = mvcc_kv_decode(record, out);
    if (st != ST_OK || tombstone)
        return st;
    bool is_sound = out->mod_revision == revision.main && out->version >= 1 &&
                    out->create_revision >= 1 && out->create_revision <= revision.main;
    return is_sound ? ST_OK : ST_CORRUPT;
}

static size_t bytes_size(struct slice s)
{
    return s.len == 0 ? 0 : 1 + varint_size(s.len) + s.len;
}

static size_t int64_size(int64_t value)
{
    return value == 0 ? 0 : 1 + varint_size((uint64_t)value);
}

size_t mvcc_kv_encoded_size(const struct mvcc_kv *kv)
{
    return bytes_size(kv->key) + int64_size(kv->create_revision) + int64_size(kv->mod_revision) +
           int64_size(kv->version) + bytes_size(kv->value) + int64_size(kv->lease);
}

static uint8_t *put_bytes(uint8_t *p, int field, struct slice s)
{
    if (s.len == 0)
        return p;
    *p++ = TAG(field, WIRE_BYTES);
    p += put_varint(p, s.len);
    memcpy(p, s.data, s.len);
    return p + s.len;
}

static uint8_t *put_int64(uint8_t *p, int field, int64_t value)
{
    if (value == 0)
        return p;
    *p++ = TAG(field, WIRE_VARINT);
    return p + put_varint(p, (uint64_t)value);
}

void mvcc_kv_encode(const struct mvcc_kv *kv, uint8_t *out)
{
    uint8_t *p = put_bytes(out, FIELD_KEY, kv->key);
    p = put_int64(p, FIELD_CREATE, kv->create_revision);
    p = put_int64(p, FIELD_MOD, kv->mod_revision);
    p = put_int64(p, FIELD_VERSION, kv->version);
    p = put_bytes(p, FIELD_VALUE, kv->value);
    p = put_int64(p, FIELD_LEASE, kv->lease);
    ASSERT((size_t)(p - out) == mvcc_kv_encoded_size(kv));
}
