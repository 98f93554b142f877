#include "tools/print/message.h"

#include "base/assert.h"

/* A field's place within the message. */
static const void *at(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)(const void *)message + offset;
}

static bool is_default(const ProtobufCFieldDescriptor *field, const void *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(ProtobufCMessage *const *)value == NULL;
    case PROTOBUF_C_TYPE_STRING:
        return *(char *const *)value == NULL || **(char *const *)value == '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)value)->len == 0;
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)value == 0;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_ENUM:
        return *(const uint32_t *)value == 0;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return *(const uint64_t *)value == 0;
    default:
        ASSERT(false); /* no message of the API has others */
        return true;
    }
}

static void print_value(struct print_json *json, const char *key,
                        const ProtobufCFieldDescriptor *field, const void *value)
{
    const ProtobufCBinaryData *bytes = value;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        print_json_message(json, key, *(ProtobufCMessage *const *)value);
        break;
    case PROTOBUF_C_TYPE_STRING:
        print_json_text(json, key, *(char *const *)value);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        print_json_bytes(json, key, slice_make(bytes->data, bytes->len));
        break;
    case PROTOBUF_C_TYPE_BOOL:
        print_json_bool(json, key, *(const protobuf_c_boolean *)value != 0);
        break;
    case PROTOBUF_C_TYPE_UINT32:
        print_json_u64(json, key, *(const uint32_t *)value);
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        print_json_i64(json, key, *(const int32_t *)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
        print_json_i64(json, key, *(const int64_t *)value);
        break;
    default:
        print_json_u64(json, key, *(const uint64_t *)value);
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return sizeof(uint64_t);
    default:
        return sizeof(uint32_t);
    }
}

static void print_repeated(struct print_json *json, const ProtobufCFieldDescriptor *field,
                           const ProtobufCMessage *message)
{
    size_t count = *(const size_t *)at(message, field->quantifier_offset);
    if (count == 0)
        return;
    const char *items = *(const char *const *)at(message, field->offset);
    print_json_array(json, field->name);
    for (size_t i = 0; i < count; i++)
        print_value(json, NULL, field, items + i * size_of(field->type));
    print_json_array_end(json);
}

static void print_choice(struct print_json *json, const ProtobufCFieldDescriptor *field,
                         const ProtobufCMessage *message)
{
    if (*(const uint32_t *)at(message, field->quantifier_offset) != field->id)
        return;
    print_json_object(json, "Response");
    print_value(json, field->name, field, at(message, field->offset));
    print_json_object_end(json);
}

void print_json_members(struct print_json *json, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            print_repeated(json, field, message);
        else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
            print_choice(json, field, message);
        else if (!is_default(field, at(message, field->offset)))
            print_value(json, field->name, field, at(message, field->offset));
    }
}

void print_json_message(struct print_json *json, const char *key, const ProtobufCMessage *message)
{
    print_json_object(json, key);
    print_json_members(json, message);
    print_json_object_end(json);
}
