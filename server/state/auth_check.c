/* Who may what: the rules of etcd's auth store and of the layer above its apply. */
#include "base/assert.h"
#include "base/wire.h"
#include "server/state/auth_private.h"

#include <stddef.h>

static bool is_root(const struct auth_user *user)
{
    return auth_user_has_role(user, SLICE(AUTH_ROOT));
}

enum api_error auth_check_range(const struct auth_view *view, const struct auth_caller *caller,
                                struct slice key, struct slice range_end, enum auth_access access)
{
    if (!view->enabled)
        return API_OK;
    if (caller->revision == 0)
        return API_USER_EMPTY;
    if (caller->revision < view->revision)
        return API_AUTH_OLD_REVISION;
    const struct auth_user_node *node = auth_find_node(view, caller->name);
    if (node == NULL)
        return API_PERMISSION_DENIED;
    if (is_root(&node->user) || auth_union_covers(&node->may[access], key, range_end))
        return API_OK;
    return API_PERMISSION_DENIED;
}

enum api_error auth_check_admin(const struct auth_view *view, const struct auth_caller *caller)
{
    if (!view->enabled)
        return API_OK;
    if (caller->name.len == 0)
        return API_USER_EMPTY;
    const struct auth_user *user = auth_find_user(view, caller->name);
    if (user == NULL)
        return API_USER_NOT_FOUND;
    return is_root(user) ? API_OK : API_PERMISSION_DENIED;
}

enum api_error auth_check_user_get(const struct auth_view *view, const struct auth_caller *caller,
                                   struct slice user)
{
    enum api_error error = auth_check_admin(view, caller);
    return slice_eq(user, caller->name) ? API_OK : error;
}

enum api_error auth_check_role_get(const struct auth_view *view, const struct auth_caller *caller,
                                   struct slice role)
{
    enum api_error error = auth_check_admin(view, caller);
    if (error == API_OK)
        return API_OK;
    const struct auth_user *user = auth_find_user(view, caller->name);
    return user != NULL && auth_user_has_role(user, role) ? API_OK : error;
}

/* ---- leases ---- */

struct lease_check {
    const struct auth_view *view;
    const struct auth_caller *caller;
    enum api_error error;
};

/* Stops with ST_CANCELED at the first key that is denied. */
static enum status check_attached(void *context, struct slice key)
{
    struct lease_check *check = context;
    check->error = auth_check_range(check->view, check->caller, key, SLICE_EMPTY, AUTH_WRITE);
    return check->error == API_OK ? ST_OK : ST_CANCELED;
}

enum api_error auth_check_lease(const struct auth_view *view, const struct auth_caller *caller,
                                int64_t lease, const struct auth_leases *leases)
{
    if (auth_check_admin(view, caller) == API_OK)
        return API_OK;
    struct lease_check check = {.view = view, .caller = caller};
    enum status st = leases->each_key(leases->context, lease, check_attached, &check);
    return st == ST_OK || st == ST_CANCELED ? check.error : api_error_of(st);
}

/* ---- txns ---- */

struct txn_check {
    const struct auth_view *view;
    const struct auth_caller *caller;
    const struct auth_leases *leases; /* may be NULL */
    bool as_applied;                  /* no more than etcd looks at then */
};

static enum api_error check_txn(const struct txn_check *check, const struct kv_txn *txn);

static enum api_error check_range(const struct txn_check *check, struct slice key,
                                  struct slice range_end, enum auth_access access)
{
    return auth_check_range(check->view, check->caller, key, range_end, access);
}

static enum api_error check_put(const struct txn_check *check, const struct kv_put *put)
{
    enum api_error error = check_range(check, put->key, SLICE_EMPTY, AUTH_WRITE);
    if (error != API_OK || check->as_applied)
        return error;
    if (put->lease != 0 && check->leases != NULL)
        error = auth_check_lease(check->view, check->caller, put->lease, check->leases);
    if (error == API_OK && put->prev_kv)
        error = check_range(check, put->key, SLICE_EMPTY, AUTH_READ);
    return error;
}

static enum api_error check_delete(const struct txn_check *check, const struct kv_delete *del)
{
    enum api_error error = API_OK;
    if (del->prev_kv)
        error = check_range(check, del->key, del->range_end, AUTH_READ);
    return error != API_OK ? error : check_range(check, del->key, del->range_end, AUTH_WRITE);
}

static enum api_error check_op(const struct txn_check *check, const struct kv_op *op)
{
    switch (op->kind) {
    case KV_OP_NONE:
        break;
    case KV_OP_RANGE:
        return check_range(check, op->range->key, op->range->range_end, AUTH_READ);
    case KV_OP_PUT:
        return check_put(check, op->put);
    case KV_OP_DELETE:
        return check_delete(check, op->del);
    case KV_OP_TXN:
        return check->as_applied ? API_OK : check_txn(check, op->txn);
    }
    return API_OK;
}

static enum api_error check_ops(const struct txn_check *check, const struct kv_ops *ops)
{
    enum api_error error = API_OK;
    for (uint32_t i = 0; i < ops->count && error == API_OK; i++)
        error = check_op(check, &ops->items[i]);
    return error;
}

static enum api_error check_txn(const struct txn_check *check, const struct kv_txn *txn)
{
    ASSERT(!txn->over_limit);
    enum api_error error = API_OK;
    for (uint32_t i = 0; i < txn->compares_count && error == API_OK; i++)
        error = check_range(check, txn->compares[i].key, txn->compares[i].range_end, AUTH_READ);
    if (error == API_OK)
        error = check_ops(check, &txn->success);
    return error != API_OK ? error : check_ops(check, &txn->failure);
}

enum api_error auth_check_txn(const struct auth_view *view, const struct auth_caller *caller,
                              const struct kv_txn *txn, const struct auth_leases *leases)
{
    const struct txn_check check = {.view = view, .caller = caller, .leases = leases};
    return view->enabled ? check_txn(&check, txn) : API_OK;
}

enum api_error auth_check_txn_applied(const struct auth_view *view,
                                      const struct auth_caller *caller, const struct kv_txn *txn)
{
    const struct txn_check check = {.view = view, .caller = caller, .as_applied = true};
    return view->enabled ? check_txn(&check, txn) : API_OK;
}

/* ---- before it is proposed ---- */

static enum api_error check_permission(struct slice message)
{
    struct auth_permission permission = {0};
    if (auth_permission_decode(message, &permission) != ST_OK)
        return API_UNDECODABLE;
    return permission.type < AUTH_PERMISSION_READ || permission.type > AUTH_PERMISSION_READWRITE
               ? API_INVALID_AUTH_MANAGEMENT
               : API_OK;
}

static enum api_error check_options(struct slice message)
{
    struct auth_user user = {0};
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BOOL, offsetof(struct auth_user, no_password)}};
    return wire_decode(message, slots, 1, &user) == ST_OK ? API_OK : API_UNDECODABLE;
}

/* Every field of these requests is text or a message; the name of a user or role that a change is
 * about comes first, and the role that a user gets or loses is known or not found. */
enum api_error auth_check_change(enum internal_field field, struct slice body)
{
    while (body.len > 0) {
        struct wire_field f;
        if (wire_next(&body, &f) != ST_OK)
            return API_UNDECODABLE;
        if (f.number > 4)
            continue;
        if (f.type != WIRE_BYTES)
            return API_UNDECODABLE;
        enum api_error error = API_OK;
        if (f.number == 1 && f.bytes.len > AUTH_NAME_BYTES_MAX)
            error = API_INVALID_AUTH_MANAGEMENT;
        else if (f.number == 2 && field == INTERNAL_AUTH_ROLE_GRANT_PERMISSION)
            error = check_permission(f.bytes);
        else if (f.number == 3 && field == INTERNAL_AUTH_USER_ADD)
            error = check_options(f.bytes);
        if (error != API_OK)
            return error;
    }
    return API_OK;
}
