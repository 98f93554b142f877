/* server/services/auth.c - the Auth service. What changes users and roles is proposed, and judged
 * when it is applied; questions are answered by a linearizable read of this member's view, where
 * etcd puts them into the log. What has to do with passwords is in auth_login.c. */
#include "server/services/services_private.h"
#include "server/state/auth.h"
#include "server/state/machine.h"

#include "base/list.h"

#include <stddef.h>

/* ---- changes ---- */

static void propose_change(struct rpc_call *call, enum internal_field field)
{
    enum api_error error = auth_check_change(field, call->message);
    if (error == API_OK)
        error = admit_write(call->service, /* cost= */ 0);
    if (error != API_OK)
        finish_error(call, error);
    else
        propose_message(call, field);
}

#define CHANGE(name, field)                 \
    static void name(struct rpc_call *call) \
    {                                       \
        propose_change(call, field);        \
    }
CHANGE(on_auth_enable, INTERNAL_AUTH_ENABLE)
CHANGE(on_auth_disable, INTERNAL_AUTH_DISABLE)
CHANGE(on_user_delete, INTERNAL_AUTH_USER_DELETE)
CHANGE(on_user_grant_role, INTERNAL_AUTH_USER_GRANT_ROLE)
CHANGE(on_user_revoke_role, INTERNAL_AUTH_USER_REVOKE_ROLE)
CHANGE(on_role_add, INTERNAL_AUTH_ROLE_ADD)
CHANGE(on_role_delete, INTERNAL_AUTH_ROLE_DELETE)
CHANGE(on_role_grant_permission, INTERNAL_AUTH_ROLE_GRANT_PERMISSION)
CHANGE(on_role_revoke_permission, INTERNAL_AUTH_ROLE_REVOKE_PERMISSION)

/* ---- questions ---- */

struct auth_question {
    struct read_request read;
    struct slice name; /* of the user or role that it is about */
    struct auth_view *view;
    struct auth_caller caller;
    /* Whether the caller may ask, and what the answer is; it is not put out on an error. */
    enum api_error (*answer)(const struct auth_question *question, struct wire_out *out);
};

static void question_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct auth_question *question = CONTAINER_OF(read, struct auth_question, read);
    struct rpc_call *call = read->request.call;
    struct services *services = call->service;
    if (error != API_OK) {
        finish_later(call, error, SLICE_EMPTY);
        return;
    }
    struct response_header header = header_now(services, current_revision(services));
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_header(&out, &header);
    error = auth_caller_of(call, &question->caller);
    question->view = machine_auth(services->options.machine);
    if (error == API_OK)
        error = question->answer(question, &out);
    auth_view_unref(question->view);
    if (error != API_OK)
        finish_error(call, error);
    else
        finish_message(call, &out);
}

static void ask(struct rpc_call *call,
                enum api_error (*answer)(const struct auth_question *, struct wire_out *))
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, offsetof(struct auth_question, name)}};
    struct services *services = call->service;
    struct auth_question *question = ARENA_NEW(call->arena, struct auth_question);
    if (question == NULL) {
        finish_error(call, API_NO_MEMORY);
        return;
    }
    if (wire_decode(call->message, slots, METHODS_OF(slots), question) != ST_OK) {
        finish_error(call, API_UNDECODABLE);
        return;
    }
    question->answer = answer;
    question->read = (struct read_request){.request = {.kind = REQUEST_READ,
                                                       .deadline_ns = request_deadline_ns(services),
                                                       .call = call},
                                           .ready = question_ready};
    loops_read(services->options.loops, &question->read);
}

/* AuthStatusResponse; of the others what follows the header is field 2. */
enum { FIELD_ENABLED = 2, FIELD_AUTH_REVISION };
enum { FIELD_ANSWERS = 2 };
enum { FIELD_PERMISSION_TYPE = 1, FIELD_KEY, FIELD_RANGE_END }; /* Permission */

static enum api_error answer_status(const struct auth_question *q, struct wire_out *out)
{
    enum api_error error = auth_check_admin(q->view, &q->caller);
    if (error != API_OK)
        return error;
    wire_put_varint(out, FIELD_ENABLED, auth_is_enabled(q->view));
    wire_put_varint(out, FIELD_AUTH_REVISION, auth_revision(q->view));
    return API_OK;
}

static enum api_error answer_user(const struct auth_question *q, struct wire_out *out)
{
    enum api_error error = auth_check_user_get(q->view, &q->caller, q->name);
    if (error != API_OK)
        return error;
    const struct auth_user *user = auth_find_user(q->view, q->name);
    if (user == NULL)
        return API_USER_NOT_FOUND;
    for (uint32_t i = 0; i < user->roles_count; i++)
        wire_put_bytes(out, FIELD_ANSWERS, user->roles[i]);
    return API_OK;
}

static enum api_error answer_users(const struct auth_question *q, struct wire_out *out)
{
    enum api_error error = auth_check_admin(q->view, &q->caller);
    uint32_t count = error == API_OK ? auth_users_count(q->view) : 0;
    for (uint32_t i = 0; i < count; i++)
        wire_put_bytes(out, FIELD_ANSWERS, auth_user_at(q->view, i)->name);
    return error;
}

static void put_permission(struct wire_out *out, const struct auth_permission *permission)
{
    size_t body = wire_open(out, FIELD_ANSWERS);
    wire_put_varint(out, FIELD_PERMISSION_TYPE, (uint64_t)(int64_t)permission->type);
    if (permission->key.len > 0)
        wire_put_bytes(out, FIELD_KEY, permission->key);
    if (permission->range_end.len > 0)
        wire_put_bytes(out, FIELD_RANGE_END, permission->range_end);
    wire_close(out, body);
}

static enum api_error answer_role(const struct auth_question *q, struct wire_out *out)
{
    enum api_error error = auth_check_role_get(q->view, &q->caller, q->name);
    if (error != API_OK)
        return error;
    const struct auth_role *role = auth_find_role(q->view, q->name);
    if (role == NULL)
        return API_ROLE_NOT_FOUND;
    for (uint32_t i = 0; i < role->permissions_count; i++)
        put_permission(out, &role->permissions[i]);
    return API_OK;
}

static enum api_error answer_roles(const struct auth_question *q, struct wire_out *out)
{
    enum api_error error = auth_check_admin(q->view, &q->caller);
    uint32_t count = error == API_OK ? auth_roles_count(q->view) : 0;
    for (uint32_t i = 0; i < count; i++)
        wire_put_bytes(out, FIELD_ANSWERS, auth_role_at(q->view, i)->name);
    return error;
}

#define QUESTION(name, answer)              \
    static void name(struct rpc_call *call) \
    {                                       \
        ask(call, answer);                  \
    }
QUESTION(on_auth_status, answer_status)
QUESTION(on_user_get, answer_user)
QUESTION(on_user_list, answer_users)
QUESTION(on_role_get, answer_role)
QUESTION(on_role_list, answer_roles)

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.Auth/AuthEnable", .on_call = on_auth_enable},
    {.path = "/etcdserverpb.Auth/AuthDisable", .on_call = on_auth_disable},
    {.path = "/etcdserverpb.Auth/AuthStatus", .on_call = on_auth_status},
    {.path = "/etcdserverpb.Auth/Authenticate", .on_call = on_authenticate},
    {.path = "/etcdserverpb.Auth/UserAdd", .on_call = on_user_add},
    {.path = "/etcdserverpb.Auth/UserGet", .on_call = on_user_get},
    {.path = "/etcdserverpb.Auth/UserList", .on_call = on_user_list},
    {.path = "/etcdserverpb.Auth/UserDelete", .on_call = on_user_delete},
    {.path = "/etcdserverpb.Auth/UserChangePassword", .on_call = on_user_change_password},
    {.path = "/etcdserverpb.Auth/UserGrantRole", .on_call = on_user_grant_role},
    {.path = "/etcdserverpb.Auth/UserRevokeRole", .on_call = on_user_revoke_role},
    {.path = "/etcdserverpb.Auth/RoleAdd", .on_call = on_role_add},
    {.path = "/etcdserverpb.Auth/RoleGet", .on_call = on_role_get},
    {.path = "/etcdserverpb.Auth/RoleList", .on_call = on_role_list},
    {.path = "/etcdserverpb.Auth/RoleDelete", .on_call = on_role_delete},
    {.path = "/etcdserverpb.Auth/RoleGrantPermission", .on_call = on_role_grant_permission},
    {.path = "/etcdserverpb.Auth/RoleRevokePermission", .on_call = on_role_revoke_permission},
};
const struct rpc_service auth_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
