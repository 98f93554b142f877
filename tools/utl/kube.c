#include "tools/utl/kube.h"

#include "base/wire.h"
#include "server/state/json_reader.h"

#include <string.h>

#define PARTS_MAX 5U

/* ---- keys ---- */

/* The part up to the next '/', taken off the front. */
static struct slice take_part(struct slice *rest)
{
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->data, '/', rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->data);
    struct slice part = slice_make(rest->data, len);
    size_t gone = end == NULL ? len : len + 1;
    *rest = slice_make(rest->data + gone, rest->len - gone);
    return part;
}

static bool has_dot(struct slice s)
{
    return s.len > 0 && memchr(s.data, '.', s.len) != NULL;
}

bool kube_key_read(struct slice key, struct kube_key *out)
{
    struct slice parts[PARTS_MAX];
    uint32_t count = 0;
    *out = (struct kube_key){0};
    if (!slice_has_prefix(key, SLICE("/registry/")))
        return false;
    struct slice rest = slice_make(key.data + 10, key.len - 10);
    while (rest.len > 0 && count < PARTS_MAX)
        parts[count++] = take_part(&rest);
    if (rest.len > 0 || count < 2)
        return false;
    uint32_t at = 0;
    /* Custom resources, and the API server's own, are kept under their group's name. */
    if (has_dot(parts[0]) && count >= 3)
        out->group = parts[at++];
    out->type = parts[at++];
    /* Services have two subtrees: specs and endpoints. */
    if (slice_eq(out->type, SLICE("services")) && count - at == 3)
        at++;
    if (count - at > 2 || count == at)
        return false;
    if (count - at == 2)
        out->namespace = parts[at++];
    out->name = parts[at];
    return out->type.len > 0 && out->name.len > 0;
}

/* ---- protobuf ---- */

/* Calls take for each field; false where the bytes are no message. */
typedef void (*field_fn)(struct kube_object *object, const struct wire_field *field);

static bool walk(struct slice message, field_fn take, struct kube_object *object)
{
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            return false;
        take(object, &field);
    }
    return true;
}

/* Fields 1 and 2 of a map's entry, or two others. */
static struct kube_pair read_pair(struct slice message, uint32_t key_number, uint32_t value_number)
{
    struct kube_pair pair = {0};
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            break;
        if (field.type == WIRE_BYTES && field.number == key_number)
            pair.key = field.bytes;
        else if (field.type == WIRE_BYTES && field.number == value_number)
            pair.value = field.bytes;
    }
    return pair;
}

/* Time's seconds are its field 1. */
static int64_t read_seconds(struct slice message)
{
    struct wire_field field;
    if (message.len == 0 || wire_next(&message, &field) != ST_OK || field.number != 1 ||
        field.type != WIRE_VARINT)
        return 0;
    return (int64_t)field.value;
}

static void add_pair(struct kube_pair *pairs, uint32_t *count, struct kube_pair pair)
{
    if (*count < KUBE_PAIRS_MAX)
        pairs[(*count)++] = pair;
}

static void take_metadata(struct kube_object *o, const struct wire_field *field)
{
    if (field->number == 7 && field->type == WIRE_VARINT)
        o->generation = (int64_t)field->value;
    if (field->type != WIRE_BYTES)
        return;
    switch (field->number) {
    case 1:
        o->name = field->bytes;
        break;
    case 2:
        o->generate_name = field->bytes;
        break;
    case 3:
        o->namespace = field->bytes;
        break;
    case 5:
        o->uid = field->bytes;
        break;
    case 8:
        o->created_s = read_seconds(field->bytes);
        break;
    case 9:
        o->deleted_s = read_seconds(field->bytes);
        break;
    case 11:
        add_pair(o->labels, &o->labels_count, read_pair(field->bytes, 1, 2));
        break;
    case 12:
        o->annotations_count++;
        break;
    case 13:
        add_pair(o->owners, &o->owners_count, read_pair(field->bytes, 1, 3));
        break;
    case 14:
        if (o->finalizers_count < KUBE_PAIRS_MAX)
            o->finalizers[o->finalizers_count++] = field->bytes;
        break;
    default:
        break;
    }
}

/* The object itself: its metadata is field 1, whatever its kind. */
static void take_object(struct kube_object *o, const struct wire_field *field)
{
    if (field->number == 1 && field->type == WIRE_BYTES)
        (void)walk(field->bytes, take_metadata, o);
}

static void take_unknown(struct kube_object *o, const struct wire_field *field)
{
    if (field->type != WIRE_BYTES)
        return;
    if (field->number == 1) {
        struct kube_pair type = read_pair(field->bytes, 1, 2);
        o->api_version = type.key;
        o->kind = type.value;
    } else if (field->number == 2) {
        (void)walk(field->bytes, take_object, o);
    }
}

/* ---- JSON ---- */

static enum status read_text(struct json_reader *r, struct slice *out)
{
    return json_peek(r) == '"' ? json_read_string(r, out) : json_skip(r);
}

static enum status take_label(void *context, struct json_reader *r, struct slice key)
{
    struct kube_object *o = context;
    struct kube_pair pair = {.key = key};
    enum status st = read_text(r, &pair.value);
    if (st == ST_OK)
        add_pair(o->labels, &o->labels_count, pair);
    return st;
}

static enum status take_json_metadata(void *context, struct json_reader *r, struct slice key)
{
    struct kube_object *o = context;
    static const struct {
        const char *name;
        size_t offset;
    } texts[] = {
        {"name", offsetof(struct kube_object, name)},
        {"generateName", offsetof(struct kube_object, generate_name)},
        {"namespace", offsetof(struct kube_object, namespace)},
        {"uid", offsetof(struct kube_object, uid)},
        {"creationTimestamp", offsetof(struct kube_object, created)},
        {"deletionTimestamp", offsetof(struct kube_object, deleted)},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (json_key_is(key, texts[i].name))
            return read_text(r, (struct slice *)(void *)((char *)o + texts[i].offset));
    }
    if (json_key_is(key, "generation"))
        return json_read_i64(r, &o->generation);
    if (json_key_is(key, "labels") && json_peek(r) == '{')
        return json_read_object(r, take_label, o);
    return json_skip(r);
}

static enum status take_json_object(void *context, struct json_reader *r, struct slice key)
{
    struct kube_object *o = context;
    if (json_key_is(key, "apiVersion"))
        return read_text(r, &o->api_version);
    if (json_key_is(key, "kind"))
        return read_text(r, &o->kind);
    if (json_key_is(key, "metadata") && json_peek(r) == '{')
        return json_read_object(r, take_json_metadata, o);
    return json_skip(r);
}

/* ---- values ---- */

static bool read_encrypted(struct slice value, struct kube_object *out)
{
    struct slice rest = slice_make(value.data + 8, value.len - 8);
    const uint8_t *end = rest.len == 0 ? NULL : memchr(rest.data, ':', rest.len);
    if (end == NULL)
        return false;
    out->form = KUBE_ENCRYPTED;
    out->provider = slice_make(rest.data, (size_t)(end - rest.data));
    return true;
}

bool kube_object_read(struct slice value, struct arena *arena, struct kube_object *out)
{
    static const uint8_t magic[4] = {'k', '8', 's', 0};
    *out = (struct kube_object){0};
    if (slice_has_prefix(value, SLICE("k8s:enc:")))
        return read_encrypted(value, out);
    if (slice_has_prefix(value, slice_make(magic, sizeof(magic)))) {
        struct slice message = slice_make(value.data + sizeof(magic), value.len - sizeof(magic));
        out->form = KUBE_PROTOBUF;
        return walk(message, take_unknown, out) && out->kind.len > 0;
    }
    if (value.len == 0 || value.data[0] != '{')
        return false;
    struct json_reader reader = json_reader_of(value, arena);
    out->form = KUBE_JSON;
    /* An object that is too large in some part is known by what came before. */
    enum status st = json_read_object(&reader, take_json_object, out);
    return (st == ST_OK || st == ST_TOO_BIG) && out->kind.len > 0 && out->api_version.len > 0;
}
