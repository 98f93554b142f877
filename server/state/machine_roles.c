/* Entries about roles, and what their change makes of the users who have them. */
#include "server/state/machine_auth.h"

static enum status store_role(struct machine *machine, struct auth_draft *draft,
                              const struct auth_role *role)
{
    struct wire_out out;
    struct slice record;
    wire_out_init(&out, &machine->scratch, /* gap= */ 0);
    auth_role_encode(role, &out);
    if (wire_out_finish(&out, &record) != ST_OK)
        return ST_NO_MEMORY;
    enum status st = store_put(machine->store, BUCKET_AUTH_ROLES, role->name, record);
    if (st == ST_OK)
        st = auth_draft_put_role(draft, role);
    return st == ST_OK ? auth_draft_refresh(draft, role->name) : st;
}

static enum status change_role(struct application *a, const struct auth_role *role)
{
    struct auth_draft draft;
    enum status st = auth_draft_begin(a->machine->auth, &draft);
    return st == ST_OK ? auth_end_change(a, &draft, store_role(a->machine, &draft, role)) : st;
}

enum status apply_role_add(struct application *a, struct slice body)
{
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 1, &texts);
    if (st != ST_OK)
        return st;
    const struct auth_role role = {.name = texts.field[0]};
    if (role.name.len == 0)
        return auth_refuse(a, API_ROLE_EMPTY);
    if (auth_find_role(a->machine->auth, role.name) != NULL)
        return auth_refuse(a, API_ROLE_EXISTS);
    return role.name.len > AUTH_NAME_BYTES_MAX ? ST_TOO_BIG : change_role(a, &role);
}

/* Takes the role away from everybody that etcd lists. */
static enum status strip_users(struct machine *machine, struct auth_draft *draft, struct slice role)
{
    const struct auth_view *before = machine->auth;
    for (uint32_t i = 0; i < before->users_count; i++) {
        const struct auth_user *user = &before->users[i]->user;
        if (!auth_is_listed(user->name) || !auth_user_has_role(user, role))
            continue;
        struct auth_user stripped;
        enum status st = auth_without_role(machine, user, role, &stripped);
        if (st == ST_OK)
            st = auth_store_user(machine, draft, &stripped);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status apply_role_delete(struct application *a, struct slice body)
{
    struct machine *machine = a->machine;
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 1, &texts);
    if (st != ST_OK)
        return st;
    struct slice name = texts.field[0];
    if (machine->auth->enabled && slice_eq(name, SLICE(AUTH_ROOT)))
        return auth_refuse(a, API_INVALID_AUTH_MANAGEMENT);
    if (auth_find_role(machine->auth, name) == NULL)
        return auth_refuse(a, API_ROLE_NOT_FOUND);
    struct auth_draft draft;
    st = auth_draft_begin(machine->auth, &draft);
    if (st != ST_OK)
        return st;
    auth_draft_drop_role(&draft, name);
    st = store_delete(machine->store, BUCKET_AUTH_ROLES, name);
    if (st == ST_OK)
        st = strip_users(machine, &draft, name);
    return auth_end_change(a, &draft, st);
}

static enum status take_permission(struct slice message, void *out)
{
    return auth_permission_decode(message, out);
}

/* No end, an open end, or one above the key. */
static bool is_valid_permission(const struct auth_permission *permission)
{
    if (permission->key.len == 0)
        return false;
    struct slice end = permission->range_end;
    bool bounded = end.len > 1 || (end.len == 1 && end.data[0] != 0);
    return !bounded || slice_cmp(permission->key, end) < 0;
}

static bool is_same_range(const struct auth_permission *a, const struct auth_permission *b)
{
    return slice_eq(a->key, b->key) && slice_eq(a->range_end, b->range_end);
}

/* Only the first permission with this key is looked at for one to replace. */
static enum status with_permission(struct application *a, const struct auth_role *from,
                                   const struct auth_permission *permission, struct auth_role *out)
{
    uint32_t count = from->permissions_count, at = 0;
    struct auth_permission *all =
        ARENA_ARRAY(&a->machine->scratch, struct auth_permission, (size_t)count + 1);
    if (all == NULL)
        return ST_NO_MEMORY;
    if (count > 0)
        memcpy(all, from->permissions, count * sizeof(all[0]));
    uint32_t high = count;
    while (at < high) {
        uint32_t middle = at + (high - at) / 2;
        if (slice_cmp(all[middle].key, permission->key) < 0)
            at = middle + 1;
        else
            high = middle;
    }
    if (at < count && is_same_range(&all[at], permission)) {
        all[at].type = permission->type;
    } else {
        all[count++] = *permission;
        auth_sort_permissions(all, count);
    }
    *out = (struct auth_role){.name = from->name, .permissions = all, .permissions_count = count};
    return ST_OK;
}

enum status apply_role_grant_permission(struct application *a, struct slice body)
{
    enum { NAME, PERMISSION };
    struct auth_texts texts;
    struct auth_permission permission = {0};
    enum status st = auth_take_texts(body, 2, &texts);
    if (st == ST_OK)
        st = auth_take_messages(body, PERMISSION + 1, take_permission, &permission);
    if (st != ST_OK)
        return st;
    if (texts.field[PERMISSION].data == NULL)
        return auth_refuse(a, API_PERMISSION_NOT_GIVEN);
    if (!is_valid_permission(&permission))
        return auth_refuse(a, API_INVALID_AUTH_MANAGEMENT);
    const struct auth_role *before = auth_find_role(a->machine->auth, texts.field[NAME]);
    if (before == NULL)
        return auth_refuse(a, API_ROLE_NOT_FOUND);
    struct auth_role role;
    st = with_permission(a, before, &permission, &role);
    return st == ST_OK ? change_role(a, &role) : st;
}

enum status apply_role_revoke_permission(struct application *a, struct slice body)
{
    enum { NAME, KEY, RANGE_END };
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 3, &texts);
    if (st != ST_OK)
        return st;
    const struct auth_role *before = auth_find_role(a->machine->auth, texts.field[NAME]);
    if (before == NULL)
        return auth_refuse(a, API_ROLE_NOT_FOUND);
    const struct auth_permission gone = {.key = texts.field[KEY],
                                         .range_end = texts.field[RANGE_END]};
    struct auth_permission *kept =
        ARENA_ARRAY(&a->machine->scratch, struct auth_permission, before->permissions_count);
    if (kept == NULL)
        return ST_NO_MEMORY;
    struct auth_role role = {.name = before->name, .permissions = kept};
    for (uint32_t i = 0; i < before->permissions_count; i++) {
        if (!is_same_range(&before->permissions[i], &gone))
            kept[role.permissions_count++] = before->permissions[i];
    }
    if (role.permissions_count == before->permissions_count)
        return auth_refuse(a, API_PERMISSION_NOT_GRANTED);
    return change_role(a, &role);
}

/* What the role root may stands in no record. */
enum status apply_role_get(struct application *a, struct slice body)
{
    static const struct auth_permission all = {.type = AUTH_PERMISSION_READWRITE,
                                               .range_end = {(const uint8_t *)"", 1}};
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 1, &texts);
    if (st != ST_OK)
        return st;
    struct slice name = texts.field[0];
    enum api_error error = auth_check_role_get(a->machine->auth, a->caller, name);
    if (error != API_OK)
        return auth_refuse(a, error);
    const struct auth_role *role = auth_find_role(a->machine->auth, name);
    if (role == NULL)
        return auth_refuse(a, API_ROLE_NOT_FOUND);
    bool is_root = slice_eq(name, SLICE(AUTH_ROOT));
    const struct auth_permission *permissions = is_root ? &all : role->permissions;
    uint32_t count = is_root ? 1 : role->permissions_count;
    for (uint32_t i = 0; i < count; i++) {
        size_t mark = wire_open(a->out, AUTH_FIELD_LIST);
        auth_permission_encode(&permissions[i], a->out);
        wire_close(a->out, mark);
    }
    return ST_OK;
}

enum status apply_role_list(struct application *a)
{
    const struct auth_view *view = a->machine->auth;
    for (uint32_t i = 0; i < view->roles_count; i++) {
        if (auth_is_listed(view->roles[i]->role.name))
            wire_put_bytes(a->out, AUTH_FIELD_LIST, view->roles[i]->role.name);
    }
    return ST_OK;
}
