/* Users and roles: read at start, changed by entries, and who may what when an entry is applied.
 * The order of what is refused, what counts the revision up and what is written are etcd's. */
#include "server/state/machine_auth.h"

#include "base/bytes.h"
#include "server/state/lessor.h"

#include <inttypes.h>

#define KEY_ENABLED SLICE("authEnabled")
#define KEY_REVISION SLICE("authRevision")

/* ---- at start ---- */

static enum status load_setting(void *context, struct slice key, struct slice value)
{
    struct auth_view *view = context;
    if (slice_eq(key, KEY_ENABLED))
        view->enabled = value.len == 1 && value.data[0] == 1;
    if (!slice_eq(key, KEY_REVISION))
        return ST_OK;
    if (value.len != 8)
        return ST_CORRUPT;
    uint64_t revision = get_be64(value.data);
    view->revision = revision == 0 ? AUTH_REVISION_FIRST : revision;
    return ST_OK;
}

struct auth_load {
    struct machine *machine;
    struct auth_draft draft;
};

static enum status as_damage(struct machine *machine, enum status st)
{
    machine_reset_scratch(machine);
    return st == ST_INVALID ? ST_CORRUPT : st == ST_TOO_BIG ? ST_NO_MEMORY : st;
}

static enum status load_role(void *context, struct slice key, struct slice value)
{
    struct auth_load *load = context;
    struct auth_role role;
    enum status st = auth_role_decode(value, &load->machine->scratch, &role);
    role.name = key;
    if (st == ST_OK)
        st = auth_draft_put_role(&load->draft, &role);
    return as_damage(load->machine, st);
}

static enum status load_user(void *context, struct slice key, struct slice value)
{
    struct auth_load *load = context;
    struct auth_user user;
    enum status st = auth_user_decode(value, &load->machine->scratch, &user);
    user.name = key;
    if (st == ST_OK)
        st = auth_draft_put_user(&load->draft, &user);
    return as_damage(load->machine, st);
}

/* A store in which the revision was never written gets the first one, as etcd does at its start. */
static enum status note_revision(struct machine *machine)
{
    struct slice value;
    uint8_t first[8];
    enum status st =
        store_get(machine->store, BUCKET_AUTH, KEY_REVISION, &machine->scratch, &value);
    machine_reset_scratch(machine);
    if (st != ST_NOT_FOUND)
        return st;
    put_be64(first, AUTH_REVISION_FIRST);
    return store_note(machine->store, BUCKET_AUTH, KEY_REVISION, slice_make(first, sizeof(first)));
}

enum status machine_load_auth(struct machine *machine)
{
    struct auth_load load = {.machine = machine};
    enum status st = auth_draft_begin(NULL, &load.draft);
    if (st != ST_OK)
        return st;
    st = store_each(machine->store, BUCKET_AUTH, load_setting, load.draft.view);
    if (st == ST_OK)
        st = store_each(machine->store, BUCKET_AUTH_ROLES, load_role, &load);
    if (st == ST_OK)
        st = store_each(machine->store, BUCKET_AUTH_USERS, load_user, &load);
    if (st == ST_OK)
        st = note_revision(machine);
    if (st != ST_OK) {
        auth_draft_cancel(&load.draft);
        return st == ST_CORRUPT
                   ? machine_fail(machine, st, "the store's record of a user or role is damaged")
                   : st;
    }
    machine->auth = auth_draft_end(&load.draft);
    machine->auth_enabled = machine->auth->enabled;
    machine->auth_revision = machine->auth->revision;
    return ST_OK;
}

struct auth_view *machine_auth(struct machine *machine)
{
    lock_acquire(machine->lock);
    struct auth_view *view = auth_view_ref(machine->auth);
    lock_release(machine->lock);
    return view;
}

bool machine_auth_enabled(const struct machine *machine)
{
    return atomic_load_explicit(&machine->auth_enabled, memory_order_relaxed);
}

uint64_t machine_auth_revision(const struct machine *machine)
{
    return atomic_load_explicit(&machine->auth_revision, memory_order_acquire);
}

void machine_set_token_sink(struct machine *machine, const struct auth_token_sink *sink)
{
    machine->tokens = sink == NULL ? (struct auth_token_sink){0} : *sink;
}

void machine_forget_tokens(struct machine *machine)
{
    if (machine->tokens.forget_all != NULL)
        machine->tokens.forget_all(machine->tokens.context);
}

void machine_forget_tokens_of(struct machine *machine, struct slice user)
{
    if (machine->tokens.forget_user != NULL)
        machine->tokens.forget_user(machine->tokens.context, user);
}

/* ---- a change ---- */

static void publish(struct machine *machine, struct auth_view *view)
{
    lock_acquire(machine->lock);
    struct auth_view *before = machine->auth;
    machine->auth = view;
    lock_release(machine->lock);
    atomic_store_explicit(&machine->auth_enabled, view->enabled, memory_order_relaxed);
    atomic_store_explicit(&machine->auth_revision, view->revision, memory_order_release);
    auth_view_unref(before);
}

static enum status put_revision(struct machine *machine, uint64_t revision)
{
    uint8_t value[8];
    put_be64(value, revision);
    return store_put(machine->store, BUCKET_AUTH, KEY_REVISION, slice_make(value, sizeof(value)));
}

enum status auth_end_change(struct application *a, struct auth_draft *draft, enum status st)
{
    if (st == ST_OK)
        st = put_revision(a->machine, ++draft->view->revision);
    if (st == ST_OK)
        publish(a->machine, auth_draft_end(draft));
    else
        auth_draft_cancel(draft);
    return st;
}

enum status auth_store_user(struct machine *machine, struct auth_draft *draft,
                            const struct auth_user *user)
{
    struct wire_out out;
    struct slice record;
    wire_out_init(&out, &machine->scratch, /* gap= */ 0);
    auth_user_encode(user, &out);
    if (wire_out_finish(&out, &record) != ST_OK)
        return ST_NO_MEMORY;
    enum status st = store_put(machine->store, BUCKET_AUTH_USERS, user->name, record);
    return st == ST_OK ? auth_draft_put_user(draft, user) : st;
}

enum status auth_change_user(struct application *a, const struct auth_user *user)
{
    struct auth_draft draft;
    enum status st = auth_draft_begin(a->machine->auth, &draft);
    return st == ST_OK ? auth_end_change(a, &draft, auth_store_user(a->machine, &draft, user)) : st;
}

enum status auth_refuse(struct application *a, enum api_error error)
{
    a->result->error = error;
    return ST_OK;
}

/* ---- requests ---- */

enum status auth_take_texts(struct slice body, uint32_t count, struct auth_texts *out)
{
    static const struct wire_slot slots[AUTH_TEXTS_MAX] = {
        {WIRE_SLOT_BYTES, 0 * sizeof(struct slice)},
        {WIRE_SLOT_BYTES, 1 * sizeof(struct slice)},
        {WIRE_SLOT_BYTES, 2 * sizeof(struct slice)},
        {WIRE_SLOT_BYTES, 3 * sizeof(struct slice)},
    };
    *out = (struct auth_texts){0};
    return wire_decode(body, slots, count, out);
}

enum status auth_take_messages(struct slice body, uint32_t number,
                               enum status (*take)(struct slice message, void *out), void *out)
{
    while (body.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&body, &field);
        if (st == ST_OK && field.number == number)
            st = field.type == WIRE_BYTES ? take(field.bytes, out) : ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- on and off ---- */

static enum status put_enabled(struct application *a, bool enabled)
{
    const uint8_t value = enabled;
    return store_put(a->machine->store, BUCKET_AUTH, KEY_ENABLED, slice_make(&value, 1));
}

/* Counts no revision. */
static enum status apply_enable(struct application *a)
{
    struct machine *machine = a->machine;
    if (machine->auth->enabled)
        return ST_OK;
    const struct auth_user *root = auth_find_user(machine->auth, SLICE(AUTH_ROOT));
    if (root == NULL)
        return auth_refuse(a, API_ROOT_USER_NOT_EXIST);
    if (!auth_user_has_role(root, SLICE(AUTH_ROOT)))
        return auth_refuse(a, API_ROOT_ROLE_NOT_EXIST);
    struct auth_draft draft;
    enum status st = auth_draft_begin(machine->auth, &draft);
    if (st != ST_OK)
        return st;
    draft.view->enabled = true;
    st = put_enabled(a, true);
    if (st == ST_OK)
        publish(machine, auth_draft_end(&draft));
    else
        auth_draft_cancel(&draft);
    return st;
}

static enum status apply_disable(struct application *a)
{
    if (!a->machine->auth->enabled)
        return ST_OK;
    struct auth_draft draft;
    enum status st = auth_draft_begin(a->machine->auth, &draft);
    if (st != ST_OK)
        return st;
    draft.view->enabled = false;
    st = auth_end_change(a, &draft, put_enabled(a, false));
    machine_forget_tokens(a->machine);
    return st;
}

static enum status apply_status(struct application *a)
{
    enum { FIELD_ENABLED = 2, FIELD_REVISION };
    wire_put_varint(a->out, FIELD_ENABLED, a->machine->auth->enabled);
    wire_put_varint(a->out, FIELD_REVISION, a->machine->auth->revision);
    return ST_OK;
}

/* What is known of prefix from now on, in the scratch memory. */
static enum status make_token(struct machine *machine, struct slice prefix, uint64_t index,
                              struct slice *out)
{
    char text[24];
    size_t digits = (size_t)snprintf(text, sizeof(text), ".%" PRIu64, index);
    uint8_t *token = arena_alloc_raw(&machine->scratch, prefix.len + digits);
    if (token == NULL)
        return ST_NO_MEMORY;
    memcpy(token, prefix.data, prefix.len);
    memcpy(token + prefix.len, text, digits);
    *out = slice_make(token, prefix.len + digits);
    return ST_OK;
}

static void learn_token(struct machine *machine, struct slice user, struct slice token)
{
    if (machine->tokens.learn != NULL)
        machine->tokens.learn(machine->tokens.context, user, token);
}

/* The password was compared before it was proposed. A token ends in the index up to which a member
 * has to have applied to know it. In an old cluster both forms are good, for members of either kind
 * may have given it out. */
static enum status apply_authenticate(struct application *a, struct slice body)
{
    enum { NAME, PASSWORD, TOKEN, FIELD_TOKEN = 2 };
    struct machine *machine = a->machine;
    struct auth_texts texts;
    enum status st = auth_take_texts(body, 3, &texts);
    if (st != ST_OK)
        return st;
    if (!machine->auth->enabled)
        return auth_refuse(a, API_AUTH_NOT_ENABLED);
    const struct auth_user *user = auth_find_user(machine->auth, texts.field[NAME]);
    if (user == NULL || user->no_password)
        return auth_refuse(a, API_AUTH_FAILED);
    struct slice prefix = texts.field[TOKEN];
    if (prefix.len == 0)
        return ST_OK;
    /* etcd 3.4 ends a token in the index of its entry, 3.5 in the one before; a member of it may be
     * called with the token. */
    bool is_old = machine_is_cluster_old(machine);
    struct slice token, older;
    st = make_token(machine, prefix, a->entry->index - 1, &token);
    if (st == ST_OK && is_old)
        st = make_token(machine, prefix, a->entry->index, &older);
    if (st != ST_OK)
        return st;
    learn_token(machine, user->name, token);
    if (is_old)
        learn_token(machine, user->name, older);
    wire_put_bytes(a->out, FIELD_TOKEN, is_old ? older : token);
    return ST_OK;
}

/* ---- which is which ---- */

static const struct auth_kind {
    uint32_t field;
    bool for_admins;
    const char *op;
    enum status (*apply)(struct application *a, struct slice body);
    enum status (*apply_empty)(struct application *a);
} kinds[] = {
    {INTERNAL_AUTH_ENABLE, true, "AuthEnable", NULL, apply_enable},
    {INTERNAL_AUTH_DISABLE, true, "AuthDisable", NULL, apply_disable},
    {INTERNAL_AUTH_STATUS, true, "AuthStatus", NULL, apply_status},
    {INTERNAL_AUTHENTICATE, false, "Authenticate", apply_authenticate, NULL},
    {INTERNAL_AUTH_USER_ADD, true, "AuthUserAdd", apply_user_add, NULL},
    {INTERNAL_AUTH_USER_DELETE, true, "AuthUserDelete", apply_user_delete, NULL},
    {INTERNAL_AUTH_USER_CHANGE_PASSWORD, true, "AuthUserChangePassword", apply_user_change_password,
     NULL},
    {INTERNAL_AUTH_USER_GRANT_ROLE, true, "AuthUserGrantRole", apply_user_grant_role, NULL},
    {INTERNAL_AUTH_USER_REVOKE_ROLE, true, "AuthUserRevokeRole", apply_user_revoke_role, NULL},
    {INTERNAL_AUTH_USER_GET, false, "AuthUserGet", apply_user_get, NULL},
    {INTERNAL_AUTH_USER_LIST, true, "AuthUserList", NULL, apply_user_list},
    {INTERNAL_AUTH_ROLE_ADD, true, "AuthRoleAdd", apply_role_add, NULL},
    {INTERNAL_AUTH_ROLE_DELETE, true, "AuthRoleDelete", apply_role_delete, NULL},
    {INTERNAL_AUTH_ROLE_GRANT_PERMISSION, true, "AuthRoleGrantPermission",
     apply_role_grant_permission, NULL},
    {INTERNAL_AUTH_ROLE_REVOKE_PERMISSION, true, "AuthRoleRevokePermission",
     apply_role_revoke_permission, NULL},
    {INTERNAL_AUTH_ROLE_GET, false, "AuthRoleGet", apply_role_get, NULL},
    {INTERNAL_AUTH_ROLE_LIST, true, "AuthRoleList", NULL, apply_role_list},
};

static const struct auth_kind *kind_of(uint32_t field)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].field == field)
            return &kinds[i];
    }
    return NULL;
}

bool machine_is_auth_request(uint32_t field)
{
    return kind_of(field) != NULL;
}

enum status apply_auth(struct application *a, uint32_t field, struct slice body)
{
    const struct auth_kind *kind = kind_of(field);
    a->result->op = kind->op;
    if (kind->for_admins) {
        a->result->error = auth_check_admin(a->machine->auth, a->caller);
        if (a->result->error != API_OK)
            return ST_OK;
    }
    enum status st = kind->apply != NULL ? kind->apply(a, body) : kind->apply_empty(a);
    if (st != ST_OK || a->result->error != API_OK)
        return st;
    int64_t current, compacted;
    mvcc_revisions(a->machine->mvcc, &current, &compacted);
    application_finish(a, current);
    return ST_OK;
}

/* ---- who may what, of the requests that are about keys ---- */

static enum status each_attached(void *context, int64_t lease,
                                 enum status (*each)(void *context, struct slice key),
                                 void *each_context)
{
    const struct machine *machine = context;
    return lessor_each_key(machine->lessor, lease, each, each_context);
}

static enum api_error check_lease(const struct application *a, int64_t lease)
{
    const struct auth_leases leases = {.context = a->machine, .each_key = each_attached};
    return auth_check_lease(a->machine->auth, a->caller, lease, &leases);
}

static enum api_error check_range(const struct application *a, struct slice key,
                                  struct slice range_end, enum auth_access access)
{
    return auth_check_range(a->machine->auth, a->caller, key, range_end, access);
}

enum api_error machine_auth_refuses_put(const struct application *a, const struct kv_put *put)
{
    if (!a->machine->auth->enabled)
        return API_OK;
    enum api_error error = check_range(a, put->key, SLICE_EMPTY, AUTH_WRITE);
    if (error == API_OK && put->lease != 0)
        error = check_lease(a, put->lease);
    if (error == API_OK && put->prev_kv)
        error = check_range(a, put->key, SLICE_EMPTY, AUTH_READ);
    return error;
}

enum api_error machine_auth_refuses_delete(const struct application *a, const struct kv_delete *del)
{
    enum api_error error = check_range(a, del->key, del->range_end, AUTH_WRITE);
    if (error == API_OK && del->prev_kv)
        error = check_range(a, del->key, del->range_end, AUTH_READ);
    return error;
}

enum api_error machine_auth_refuses_txn(const struct application *a, const struct kv_txn *txn)
{
    return auth_check_txn_applied(a->machine->auth, a->caller, txn);
}

enum api_error machine_auth_refuses_lease_revoke(const struct application *a, int64_t lease)
{
    return a->machine->auth->enabled ? check_lease(a, lease) : API_OK;
}
