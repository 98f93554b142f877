#include "tests/e2e/message_text.h"

#include "base/hash.h"

#include <ctype.h>

#define BYTES_SHOWN_MAX 48U /* of a longer field its size and hash stand for the rest */

static enum status bytes_text(ProtobufCBinaryData bytes, struct buf *out)
{
    enum status st = buf_append(out, SLICE("\""));
    for (size_t i = 0; st == ST_OK && i < bytes.len && i < BYTES_SHOWN_MAX; i++) {
        uint8_t c = bytes.data[i];
        st = isprint(c) && c != '"' && c != '\\' ? buf_printf(out, "%c", c)
                                                 : buf_printf(out, "\\x%02x", c);
    }
    if (st == ST_OK && bytes.len > BYTES_SHOWN_MAX)
        st = buf_printf(out, "...%zu bytes, hash %016llx", bytes.len,
                        (unsigned long long)hash64(slice_make(bytes.data, bytes.len)));
    return st == ST_OK ? buf_append(out, SLICE("\"")) : st;
}

static bool is_id(const char *name)
{
    return strcmp(name, "cluster_id") == 0 || strcmp(name, "member_id") == 0 ||
           strcmp(name, "raft_term") == 0;
}

static enum status enum_text(const ProtobufCFieldDescriptor *field, int value, struct buf *out)
{
    const ProtobufCEnumValue *known =
        protobuf_c_enum_descriptor_get_value(field->descriptor, value);
    return known == NULL ? buf_printf(out, "%d", value) : buf_printf(out, "%s", known->name);
}

/* The value at member, which is one element of the field. */
static enum status value_text(const ProtobufCFieldDescriptor *field, const void *member,
                              struct buf *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_text(*(ProtobufCMessage *const *)member, out);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_text(*(const ProtobufCBinaryData *)member, out);
    case PROTOBUF_C_TYPE_STRING:
        return buf_printf(out, "'%s'", *(char *const *)member);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_text(field, *(const int *)member, out);
    case PROTOBUF_C_TYPE_BOOL:
        return buf_printf(out, "%s", *(const protobuf_c_boolean *)member ? "true" : "false");
    case PROTOBUF_C_TYPE_UINT64:
        if (is_id(field->name))
            return buf_append(out, SLICE("set"));
        return buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)member);
    case PROTOBUF_C_TYPE_INT64:
        return buf_printf(out, "%lld", (long long)*(const int64_t *)member);
    default:
        return buf_printf(out, "%lu", (unsigned long)*(const uint32_t *)member);
    }
}

static size_t value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_INT64:
        return sizeof(uint64_t);
    default:
        return sizeof(uint32_t);
    }
}

/* Proto3's rule: a singular field at its zero value is not there. */
static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message, *member = base + field->offset;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return *(const uint32_t *)(base + field->quantifier_offset) == field->id;
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)member)->len > 0;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return *(char *const *)member != NULL && **(char *const *)member != '\0';
    static const uint8_t zeros[sizeof(uint64_t)];
    return memcmp(member, zeros, value_size(field)) != 0;
}

static enum status repeated_text(const ProtobufCMessage *message,
                                 const ProtobufCFieldDescriptor *field, struct buf *out)
{
    const uint8_t *base = (const uint8_t *)message;
    size_t count = *(const size_t *)(base + field->quantifier_offset);
    const uint8_t *elements = *(const uint8_t *const *)(base + field->offset);
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        st = buf_printf(out, "%s: ", field->name);
        if (st == ST_OK)
            st = value_text(field, elements + i * value_size(field), out);
        if (st == ST_OK)
            st = buf_append(out, SLICE(" "));
    }
    return st;
}

static enum status field_text(const ProtobufCMessage *message,
                              const ProtobufCFieldDescriptor *field, struct buf *out)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return repeated_text(message, field, out);
    if (!is_set(message, field))
        return ST_OK;
    enum status st = buf_printf(out, "%s: ", field->name);
    if (st == ST_OK)
        st = value_text(field, (const uint8_t *)message + field->offset, out);
    return st == ST_OK ? buf_append(out, SLICE(" ")) : st;
}

enum status message_text(const ProtobufCMessage *message, struct buf *out)
{
    enum status st = buf_append(out, SLICE("{ "));
    for (unsigned i = 0; st == ST_OK && i < message->descriptor->n_fields; i++)
        st = field_text(message, &message->descriptor->fields[i], out);
    for (unsigned i = 0; st == ST_OK && i < message->n_unknown_fields; i++)
        st = buf_printf(out, "unknown field %u, %zu bytes ", message->unknown_fields[i].tag,
                        message->unknown_fields[i].len);
    return st == ST_OK ? buf_append(out, SLICE("}")) : st;
}
