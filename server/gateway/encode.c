#include "server/gateway/encode.h"

#include "base/wire.h"
#include "server/gateway/json_text.h"
#include "server/gateway/limits.h"

#include <inttypes.h>

/* ---- values ---- */

static enum status put_message(struct slice message, const ProtobufCMessageDescriptor *descriptor,
                               struct buf *out, uint32_t depth);

static enum status put_enum(uint64_t value, const ProtobufCEnumDescriptor *descriptor,
                            struct buf *out)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(descriptor, (int)value);
    if (known == NULL)
        return buf_printf(out, "%d", (int)value);
    return buf_printf(out, "\"%s\"", known->name);
}

static enum status put_number(uint64_t value, const ProtobufCFieldDescriptor *field,
                              struct buf *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return buf_append(out, value != 0 ? SLICE("true") : SLICE("false"));
    case PROTOBUF_C_TYPE_ENUM:
        return put_enum(value, field->descriptor, out);
    case PROTOBUF_C_TYPE_INT32:
        return buf_printf(out, "%" PRId32, (int32_t)value);
    case PROTOBUF_C_TYPE_UINT32:
        return buf_printf(out, "%" PRIu32, (uint32_t)value);
    case PROTOBUF_C_TYPE_INT64:
        return buf_printf(out, "\"%" PRId64 "\"", (int64_t)value);
    case PROTOBUF_C_TYPE_UINT64:
        return buf_printf(out, "\"%" PRIu64 "\"", value);
    default:
        return ST_INVALID;
    }
}

static bool is_length_delimited(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
           field->type == PROTOBUF_C_TYPE_MESSAGE;
}

static enum status put_value(const struct wire_field *piece, const ProtobufCFieldDescriptor *field,
                             struct buf *out, uint32_t depth)
{
    if ((piece->type == WIRE_BYTES) != is_length_delimited(field))
        return ST_INVALID;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return json_quote(piece->bytes, out);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return put_message(piece->bytes, field->descriptor, out, depth + 1);
    if (field->type != PROTOBUF_C_TYPE_BYTES)
        return put_number(piece->value, field, out);
    enum status st = buf_append(out, SLICE("\""));
    if (st == ST_OK)
        st = json_put_base64(piece->bytes, out);
    return st == ST_OK ? buf_append(out, SLICE("\"")) : st;
}

/* ---- fields ---- */

/* Members or elements, the first without a comma. */
static enum status put_comma(struct buf *out, bool *is_first)
{
    bool needs_comma = !*is_first;
    *is_first = false;
    return needs_comma ? buf_append(out, SLICE(",")) : ST_OK;
}

static enum status put_packed(struct slice in, const ProtobufCFieldDescriptor *field,
                              struct buf *out, bool *is_first)
{
    enum status st = ST_OK;
    while (st == ST_OK && in.len > 0) {
        uint64_t value;
        if (take_varint(&in, &value) != ST_OK)
            return ST_INVALID;
        st = put_comma(out, is_first);
        if (st == ST_OK)
            st = put_number(value, field, out);
    }
    return st;
}

/* All elements of a field, of which the first lies at the front of in. */
static enum status put_repeated(struct slice in, const ProtobufCFieldDescriptor *field,
                                struct buf *out, uint32_t depth)
{
    bool is_first = true;
    enum status st = buf_append(out, SLICE("["));
    while (st == ST_OK && in.len > 0) {
        struct wire_field piece;
        st = wire_next(&in, &piece);
        if (st != ST_OK || piece.number != field->id)
            continue;
        if (piece.type == WIRE_BYTES && !is_length_delimited(field)) {
            st = put_packed(piece.bytes, field, out, &is_first);
            continue;
        }
        st = put_comma(out, &is_first);
        if (st == ST_OK)
            st = put_value(&piece, field, out, depth);
    }
    return st == ST_OK ? buf_append(out, SLICE("]")) : st;
}

/* Where a field was seen: a single one last, a repeated one first. */
struct seen {
    bool is_there;
    struct wire_field piece;
    struct slice from;
};

static bool is_default(const struct wire_field *piece, const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED || field->type == PROTOBUF_C_TYPE_MESSAGE ||
        (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return false;
    return piece->type == WIRE_VARINT ? piece->value == 0 : piece->bytes.len == 0;
}

static enum status put_field(const struct seen *seen, const ProtobufCFieldDescriptor *field,
                             struct buf *out, bool *is_first, uint32_t depth)
{
    enum status st = put_comma(out, is_first);
    if (st == ST_OK)
        st = buf_printf(out, "\"%s\":", field->name);
    if (st != ST_OK)
        return st;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return put_repeated(seen->from, field, out, depth);
    return put_value(&seen->piece, field, out, depth);
}

static enum status find_fields(struct slice in, const ProtobufCMessageDescriptor *descriptor,
                               struct seen *seen)
{
    while (in.len > 0) {
        struct wire_field piece;
        struct slice from = in;
        enum status st = wire_next(&in, &piece);
        if (st != ST_OK)
            return st;
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, piece.number);
        if (field == NULL)
            continue;
        struct seen *at = &seen[field - descriptor->fields];
        if (!at->is_there)
            at->from = from;
        at->piece = piece;
        at->is_there = true;
    }
    return ST_OK;
}

static enum status put_message(struct slice message, const ProtobufCMessageDescriptor *descriptor,
                               struct buf *out, uint32_t depth)
{
    struct seen seen[JSON_FIELDS_MAX] = {0};
    if (descriptor->n_fields > JSON_FIELDS_MAX || depth > JSON_MESSAGES_DEPTH_MAX)
        return ST_INVALID;
    enum status st = find_fields(message, descriptor, seen);
    if (st == ST_OK)
        st = buf_append(out, SLICE("{"));
    bool is_first = true;
    for (unsigned i = 0; st == ST_OK && i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (seen[i].is_there && !is_default(&seen[i].piece, field))
            st = put_field(&seen[i], field, out, &is_first, depth);
    }
    return st == ST_OK ? buf_append(out, SLICE("}")) : st;
}

enum status gateway_encode(struct slice message, const ProtobufCMessageDescriptor *descriptor,
                           struct buf *out)
{
    return put_message(message, descriptor, out, /* depth= */ 0);
}
