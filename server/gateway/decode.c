#include "server/gateway/decode.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "server/gateway/json_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

enum wire { VARINT = 0, LENGTH = 2 };

struct decoder {
    struct buf *out;
    struct json_error *error;
    uint32_t depth;
};

static bool is_null(struct slice value)
{
    return value.data[0] == 'n';
}

static enum status put_varint_to(struct buf *out, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    return buf_append(out, slice_make(bytes, put_varint(bytes, value)));
}

static enum status put_tag(struct buf *out, const ProtobufCFieldDescriptor *field, enum wire wire)
{
    return put_varint_to(out, (uint64_t)field->id << 3 | wire);
}

/* Puts the length of what was written from `begin` on in front of it. */
static enum status prepend_length(struct buf *out, size_t begin)
{
    uint8_t length[VARINT_BYTES_MAX], *room;
    size_t size = out->len - begin, length_bytes = put_varint(length, size);
    enum status st = buf_extend(out, length_bytes, &room);
    if (st != ST_OK)
        return st;
    memmove(out->data + begin + length_bytes, out->data + begin, size);
    memcpy(out->data + begin, length, length_bytes);
    return ST_OK;
}

/* ---- what is wrong, in Go's words ---- */

static enum status wrong_type(struct decoder *d, struct slice value, const char *type)
{
    snprintf(d->error->text, sizeof(d->error->text),
             "json: cannot unmarshal %s into Go value of type %s", json_kind(value), type);
    return ST_INVALID;
}

static enum status wrong_number(struct decoder *d, struct slice value, const char *type)
{
    snprintf(d->error->text, sizeof(d->error->text),
             "json: cannot unmarshal number %.*s into Go value of type %s",
             (int)min_size(value.len, 256), (const char *)value.data, type);
    return ST_INVALID;
}

/* ---- numbers ---- */

struct number_type {
    const char *name;
    bool is_signed;
    uint64_t max; /* of a positive one; a negative one may be one larger */
};
static const struct number_type type_int32 = {"int32", true, INT32_MAX},
                                type_int64 = {"int64", true, INT64_MAX},
                                type_uint8 = {"uint8", false, UINT8_MAX},
                                type_uint32 = {"uint32", false, UINT32_MAX},
                                type_uint64 = {"uint64", false, UINT64_MAX},
                                type_enum = {"protoreflect.EnumNumber", true, INT32_MAX};

static enum status read_integer(struct decoder *d, struct slice value,
                                const struct number_type *type, uint64_t *out)
{
    *out = 0;
    if (is_null(value))
        return ST_OK;
    if (value.data[0] != '-' && !isdigit(value.data[0]))
        return wrong_type(d, value, type->name);
    bool is_negative = value.data[0] == '-';
    uint64_t number = 0;
    for (size_t i = is_negative; i < value.len; i++) {
        uint64_t digit = (uint64_t)value.data[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return wrong_number(d, value, type->name);
        number = number * 10 + digit;
    }
    if ((is_negative && !type->is_signed) || number > type->max + is_negative)
        return wrong_number(d, value, type->name);
    *out = is_negative ? ~number + 1 : number;
    return ST_OK;
}

/* A number may stand in quotes. */
static enum status read_number(struct decoder *d, struct slice value,
                               const struct number_type *type, uint64_t *out)
{
    if (value.data[0] == '"') {
        struct slice inner = slice_make(value.data + 1, value.len - 2);
        enum status st = json_scan_whole(inner, &value, d->error);
        if (st != ST_OK)
            return st;
    }
    return read_integer(d, value, type, out);
}

static enum status read_bool(struct decoder *d, struct slice value, uint64_t *out)
{
    *out = value.data[0] == 't';
    if (value.data[0] == 't' || value.data[0] == 'f' || is_null(value))
        return ST_OK;
    return wrong_type(d, value, "bool");
}

static enum status read_enum(struct decoder *d, struct slice value,
                             const ProtobufCEnumDescriptor *descriptor, uint64_t *out)
{
    if (value.data[0] != '"')
        return read_integer(d, value, &type_enum, out);
    struct slice name = slice_make(value.data + 1, value.len - 2);
    for (unsigned i = 0; i < descriptor->n_values; i++) {
        if (slice_eq(name, slice_from_str(descriptor->values[i].name))) {
            *out = (uint64_t)(int64_t)descriptor->values[i].value;
            return ST_OK;
        }
    }
    /* Go quotes the text with its quotes. */
    snprintf(d->error->text, sizeof(d->error->text), "unknown value \"\\\"%.*s\\\"\" for enum %s",
             (int)min_size(name.len, 256), (const char *)name.data, descriptor->name);
    return ST_INVALID;
}

static enum status read_varint(struct decoder *d, struct slice value,
                               const ProtobufCFieldDescriptor *field, uint64_t *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(d, value, out);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(d, value, field->descriptor, out);
    case PROTOBUF_C_TYPE_INT32:
        return read_number(d, value, &type_int32, out);
    case PROTOBUF_C_TYPE_UINT32:
        return read_number(d, value, &type_uint32, out);
    case PROTOBUF_C_TYPE_INT64:
        return read_number(d, value, &type_int64, out);
    case PROTOBUF_C_TYPE_UINT64:
        return read_number(d, value, &type_uint64, out);
    default:
        return ST_INVALID; /* no message has such a field: gateway_knows() */
    }
}

/* ---- texts and bytes ---- */

static enum status read_base64(struct decoder *d, struct slice value)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    struct slice plain = slice_make(value.data + 1, value.len - 2);
    enum status st = ST_OK;
    if (memchr(plain.data, '\\', plain.len) != NULL) {
        st = json_unquote(value, &text);
        plain = buf_slice(&text);
    }
    size_t fault_at = 0;
    if (st == ST_OK)
        st = json_decode_base64(plain, d->out, &fault_at);
    if (st == ST_INVALID)
        snprintf(d->error->text, sizeof(d->error->text), "illegal base64 data at input byte %zu",
                 fault_at);
    buf_deinit(&text);
    return st;
}

/* Go reads an array of numbers as bytes, too. */
static enum status read_byte_array(struct decoder *d, struct slice value)
{
    struct json_iterator it = json_iterate(value);
    enum status st = ST_OK;
    while (st == ST_OK && json_iterate_next(&it)) {
        uint64_t number;
        st = read_integer(d, it.value, &type_uint8, &number);
        uint8_t byte = (uint8_t)number;
        if (st == ST_OK)
            st = buf_append(d->out, slice_make(&byte, 1));
    }
    return st;
}

static enum status read_bytes(struct decoder *d, struct slice value)
{
    if (is_null(value))
        return ST_OK;
    if (value.data[0] == '"')
        return read_base64(d, value);
    return value.data[0] == '[' ? read_byte_array(d, value) : wrong_type(d, value, "[]uint8");
}

static enum status read_text(struct decoder *d, struct slice value)
{
    if (is_null(value))
        return ST_OK;
    return value.data[0] == '"' ? json_unquote(value, d->out) : wrong_type(d, value, "string");
}

/* ---- fields and messages ---- */

static enum status decode_message(struct decoder *d, struct slice value,
                                  const ProtobufCMessageDescriptor *descriptor);

static bool is_varint(const ProtobufCFieldDescriptor *field)
{
    return field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_BYTES &&
           field->type != PROTOBUF_C_TYPE_MESSAGE;
}

/* What stands in no message with its default value: then a reader sees the same. */
static bool has_presence(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED || field->type == PROTOBUF_C_TYPE_MESSAGE ||
           (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static enum status put_length_delimited(struct decoder *d, struct slice value,
                                        const ProtobufCFieldDescriptor *field)
{
    size_t before = d->out->len;
    enum status st = put_tag(d->out, field, LENGTH);
    size_t begin = d->out->len;
    if (st != ST_OK)
        return st;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        st = decode_message(d, value, field->descriptor);
    else if (field->type == PROTOBUF_C_TYPE_BYTES)
        st = read_bytes(d, value);
    else
        st = read_text(d, value);
    if (st == ST_OK && d->out->len == begin && !has_presence(field)) {
        d->out->len = before;
        return ST_OK;
    }
    return st == ST_OK ? prepend_length(d->out, begin) : st;
}

static enum status put_single(struct decoder *d, struct slice value,
                              const ProtobufCFieldDescriptor *field)
{
    if (!is_varint(field))
        return put_length_delimited(d, value, field);
    uint64_t number;
    enum status st = read_varint(d, value, field, &number);
    if (st != ST_OK || (number == 0 && !has_presence(field)))
        return st;
    st = put_tag(d->out, field, VARINT);
    return st == ST_OK ? put_varint_to(d->out, number) : st;
}

static enum status put_repeated(struct decoder *d, struct slice value,
                                const ProtobufCFieldDescriptor *field)
{
    if (value.data[0] != '[')
        return wrong_type(d, value, "[]json.RawMessage");
    struct json_iterator it = json_iterate(value);
    enum status st = ST_OK;
    if (!is_varint(field)) {
        while (st == ST_OK && json_iterate_next(&it))
            st = put_length_delimited(d, it.value, field);
        return st;
    }
    if (it.rest.len == 0)
        return ST_OK;
    st = put_tag(d->out, field, LENGTH); /* packed */
    size_t begin = d->out->len;
    while (st == ST_OK && json_iterate_next(&it)) {
        uint64_t number;
        st = read_varint(d, it.value, field, &number);
        if (st == ST_OK)
            st = put_varint_to(d->out, number);
    }
    return st == ST_OK ? prepend_length(d->out, begin) : st;
}

/* Whether key is the field's name in lowerCamelCase. */
static bool is_camel_case(const char *name, struct slice key)
{
    bool raise = false;
    size_t at = 0;
    for (; *name != '\0'; name++) {
        if (*name == '_') {
            raise = true;
            continue;
        }
        int c = raise ? toupper((unsigned char)*name) : *name;
        raise = false;
        if (at == key.len || key.data[at++] != (uint8_t)c)
            return false;
    }
    return at == key.len;
}

struct found {
    struct slice value; /* NULL data: the field was not named */
    bool by_camel_case; /* which goes before the other name */
};

static void match(const ProtobufCMessageDescriptor *descriptor, struct slice key,
                  struct slice value, struct found *found)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const char *name = descriptor->fields[i].name;
        bool by_camel_case = is_camel_case(name, key);
        if (!by_camel_case && !slice_eq(key, slice_from_str(name)))
            continue;
        if (by_camel_case || !found[i].by_camel_case)
            found[i] = (struct found){.value = value, .by_camel_case = by_camel_case};
        return;
    }
}

/* The values of the fields; those that are null count as not named. */
static enum status find_fields(const ProtobufCMessageDescriptor *descriptor, struct slice value,
                               struct found *found)
{
    struct json_iterator it = json_iterate(value);
    struct buf name;
    buf_init(&name, SIZE_MAX);
    enum status st = ST_OK;
    while (st == ST_OK && json_iterate_next(&it)) {
        struct slice key = slice_make(it.key.data + 1, it.key.len - 2);
        if (memchr(key.data, '\\', key.len) != NULL) {
            buf_reset(&name);
            st = json_unquote(it.key, &name);
            key = buf_slice(&name);
        }
        if (st == ST_OK)
            match(descriptor, key, it.value, found);
    }
    buf_deinit(&name);
    return st;
}

static bool same_oneof(const ProtobufCFieldDescriptor *a, const ProtobufCFieldDescriptor *b)
{
    return a != NULL && (a->flags & b->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
           a->quantifier_offset == b->quantifier_offset;
}

static enum status put_fields(struct decoder *d, const ProtobufCMessageDescriptor *descriptor,
                              const struct found *found)
{
    const ProtobufCFieldDescriptor *chosen = NULL; /* of a oneof: the last one counts */
    size_t chosen_at = 0;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (found[i].value.data == NULL || is_null(found[i].value))
            continue;
        if (same_oneof(chosen, field))
            d->out->len = chosen_at;
        else
            chosen_at = d->out->len;
        chosen = field;
        enum status st = field->label == PROTOBUF_C_LABEL_REPEATED
                             ? put_repeated(d, found[i].value, field)
                             : put_single(d, found[i].value, field);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status decode_message(struct decoder *d, struct slice value,
                                  const ProtobufCMessageDescriptor *descriptor)
{
    if (is_null(value))
        return ST_OK;
    if (value.data[0] != '{')
        return wrong_type(d, value, "map[string]json.RawMessage");
    if (d->depth == JSON_MESSAGES_DEPTH_MAX) {
        snprintf(d->error->text, sizeof(d->error->text), "messages lie more than %u deep",
                 JSON_MESSAGES_DEPTH_MAX);
        return ST_INVALID;
    }
    ASSERT(descriptor->n_fields <= JSON_FIELDS_MAX);
    struct found found[JSON_FIELDS_MAX] = {0};
    enum status st = find_fields(descriptor, value, found);
    d->depth++;
    if (st == ST_OK)
        st = put_fields(d, descriptor, found);
    d->depth--;
    return st;
}

enum status gateway_decode(struct slice value, const ProtobufCMessageDescriptor *descriptor,
                           struct buf *out, struct json_error *error)
{
    struct decoder decoder = {.out = out, .error = error};
    return decode_message(&decoder, value, descriptor);
}

/* Messages hold messages of their own kind, hence the depth: etcd's, without turning back, are six
 * deep. */
static bool knows(const ProtobufCMessageDescriptor *descriptor, uint32_t depth)
{
    if (descriptor->n_fields > JSON_FIELDS_MAX)
        return false;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        switch (field->type) {
        case PROTOBUF_C_TYPE_BOOL:
        case PROTOBUF_C_TYPE_ENUM:
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
            break;
        case PROTOBUF_C_TYPE_MESSAGE:
            if (depth < 6 && !knows(field->descriptor, depth + 1))
                return false;
            break;
        default:
            return false;
        }
    }
    return true;
}

bool gateway_knows(const ProtobufCMessageDescriptor *descriptor)
{
    return knows(descriptor, 0);
}
