/* Users and roles as etcd stores them: authpb.User{name=1, password=2, roles=3, options=4},
 * UserAddOptions{no_password=1}, Role{name=1, keyPermission=2}, Permission{permType=1, key=2,
 * range_end=3}. Whatever is written here is byte for byte what etcd would write. */
#include "base/wire.h"
#include "server/state/auth_private.h"

#include <stddef.h>

enum { FIELD_NAME = 1, FIELD_PASSWORD, FIELD_ROLES, FIELD_OPTIONS };
enum { FIELD_PERMISSIONS = 2 };
enum { FIELD_TYPE = 1, FIELD_KEY, FIELD_RANGE_END };
enum { FIELD_NO_PASSWORD = 1 };

static enum status take_options(struct slice message, struct auth_user *out)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BOOL, offsetof(struct auth_user, no_password)}};
    out->has_options = true;
    return wire_decode(message, slots, 1, out);
}

/* How many fields of this number there are. Errors: ST_INVALID. */
static enum status count_fields(struct slice message, uint32_t number, uint32_t *out)
{
    *out = 0;
    while (message.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&message, &field);
        if (st != ST_OK)
            return st;
        *out += field.number == number;
    }
    return ST_OK;
}

static enum status take_user_field(const struct wire_field *field, struct slice *roles,
                                   struct auth_user *out)
{
    if (field->number > FIELD_OPTIONS)
        return ST_OK;
    if (field->type != WIRE_BYTES)
        return ST_INVALID;
    switch (field->number) {
    case FIELD_NAME:
        out->name = field->bytes;
        return ST_OK;
    case FIELD_PASSWORD:
        out->password = field->bytes;
        return ST_OK;
    case FIELD_ROLES:
        roles[out->roles_count++] = field->bytes;
        return ST_OK;
    default:
        return take_options(field->bytes, out);
    }
}

enum status auth_user_decode(struct slice message, struct arena *arena, struct auth_user *out)
{
    *out = (struct auth_user){0};
    uint32_t count;
    enum status st = count_fields(message, FIELD_ROLES, &count);
    if (st != ST_OK)
        return st;
    struct slice *roles = ARENA_ARRAY(arena, struct slice, count);
    if (roles == NULL)
        return ST_TOO_BIG;
    out->roles = roles;
    while (message.len > 0 && st == ST_OK) {
        struct wire_field field;
        st = wire_next(&message, &field);
        if (st == ST_OK)
            st = take_user_field(&field, roles, out);
    }
    return st;
}

enum status auth_permission_decode(struct slice message, struct auth_permission *out)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_ENUM, offsetof(struct auth_permission, type)},
        {WIRE_SLOT_BYTES, offsetof(struct auth_permission, key)},
        {WIRE_SLOT_BYTES, offsetof(struct auth_permission, range_end)},
    };
    return wire_decode(message, slots, 3, out);
}

enum status auth_role_decode(struct slice message, struct arena *arena, struct auth_role *out)
{
    *out = (struct auth_role){0};
    uint32_t count;
    enum status st = count_fields(message, FIELD_PERMISSIONS, &count);
    if (st != ST_OK)
        return st;
    struct auth_permission *permissions = ARENA_ARRAY(arena, struct auth_permission, count);
    if (permissions == NULL)
        return ST_TOO_BIG;
    out->permissions = permissions;
    while (message.len > 0) {
        struct wire_field field;
        st = wire_next(&message, &field);
        if (st == ST_OK && field.number <= FIELD_PERMISSIONS && field.type != WIRE_BYTES)
            st = ST_INVALID;
        if (st != ST_OK)
            return st;
        if (field.number == FIELD_NAME)
            out->name = field.bytes;
        if (field.number == FIELD_PERMISSIONS)
            st = auth_permission_decode(field.bytes, &permissions[out->permissions_count++]);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static void put_unless_empty(struct wire_out *out, uint32_t number, struct slice bytes)
{
    if (bytes.len > 0)
        wire_put_bytes(out, number, bytes);
}

void auth_user_encode(const struct auth_user *user, struct wire_out *out)
{
    put_unless_empty(out, FIELD_NAME, user->name);
    put_unless_empty(out, FIELD_PASSWORD, user->password);
    for (uint32_t i = 0; i < user->roles_count; i++)
        wire_put_bytes(out, FIELD_ROLES, user->roles[i]);
    if (!user->has_options)
        return;
    size_t options = wire_open(out, FIELD_OPTIONS);
    wire_put_varint(out, FIELD_NO_PASSWORD, user->no_password);
    wire_close(out, options);
}

void auth_permission_encode(const struct auth_permission *permission, struct wire_out *out)
{
    /* An enum is a 32-bit number that is sign-extended. */
    wire_put_varint(out, FIELD_TYPE, (uint64_t)(int64_t)permission->type);
    put_unless_empty(out, FIELD_KEY, permission->key);
    put_unless_empty(out, FIELD_RANGE_END, permission->range_end);
}

void auth_role_encode(const struct auth_role *role, struct wire_out *out)
{
    put_unless_empty(out, FIELD_NAME, role->name);
    for (uint32_t i = 0; i < role->permissions_count; i++) {
        size_t permission = wire_open(out, FIELD_PERMISSIONS);
        auth_permission_encode(&role->permissions[i], out);
        wire_close(out, permission);
    }
}
