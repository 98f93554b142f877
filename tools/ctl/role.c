/* role add, delete, get, list, grant-permission, revoke-permission. */
#include "tools/ctl/role.h"

#include "tools/ctl/ctl.h"
#include "tools/print/text.h"

#include <string.h>
#include <strings.h>

static uint8_t zero_byte[1] = {0};

/* A range whose end is a zero byte goes on for ever. */
static bool is_open(ProtobufCBinaryData end)
{
    return end.len == 1 && end.data[0] == 0;
}

/* ---- add, delete ---- */

static int run_add(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/RoleAdd", &etcdserverpb__auth_role_add_response__descriptor, true};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "role add command requires role name as its argument");
    Etcdserverpb__AuthRoleAddRequest request = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    request.name = cli->words[0];
    return ctl_ask(cli, &method, &request.base, &ctl_header_view,
                   cli_format(cli, "Role %s created", cli->words[0]));
}

const struct cli_command ctl_role_add_command = {
    .name = "add",
    .usage = "<role name>",
    .brief = "Adds a role",
    .run = run_add,
};

static int run_delete(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Auth/RoleDelete",
                                             &etcdserverpb__auth_role_delete_response__descriptor,
                                             true};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "role delete command requires role name as its argument");
    Etcdserverpb__AuthRoleDeleteRequest request = ETCDSERVERPB__AUTH_ROLE_DELETE_REQUEST__INIT;
    request.role = cli->words[0];
    return ctl_ask(cli, &method, &request.base, &ctl_header_view,
                   cli_format(cli, "Role %s deleted", cli->words[0]));
}

const struct cli_command ctl_role_delete_command = {
    .name = "delete",
    .usage = "<role name>",
    .brief = "Deletes a role",
    .run = run_delete,
};

/* ---- get ---- */

static void print_permission(struct ctl *ctl, const Authpb__Permission *permission)
{
    FILE *out = ctl->cli->out;
    fputs(permission->range_end.len == 0 ? "\t" : "\t[", out);
    print_slice(out, ctl_slice(permission->key));
    if (permission->range_end.len > 0) {
        fputs(", ", out);
        if (is_open(permission->range_end)) {
            fputs("<open ended>", out);
        } else {
            print_slice(out, ctl_slice(permission->range_end));
            fputc(')', out);
        }
        ProtobufCBinaryData end;
        if (ctl_prefix_end(ctl->cli, permission->key, &end) == ST_OK &&
            slice_eq(ctl_slice(end), ctl_slice(permission->range_end))) {
            fputs(" (prefix ", out);
            print_slice(out, ctl_slice(permission->key));
            fputc(')', out);
        }
    }
    fputc('\n', out);
}

/* Those that allow `type`, READ or WRITE. */
static void print_permissions(struct ctl *ctl, const Etcdserverpb__AuthRoleGetResponse *response,
                              Authpb__Permission__Type type)
{
    for (size_t i = 0; i < response->n_perm; i++) {
        Authpb__Permission__Type allowed = response->perm[i]->permtype;
        if (allowed == type || allowed == AUTHPB__PERMISSION__TYPE__READWRITE)
            print_permission(ctl, response->perm[i]);
    }
}

static void simple_get(struct ctl *ctl, const void *message, const void *about)
{
    fprintf(ctl->cli->out, "Role %s\nKV Read:\n", (const char *)about);
    print_permissions(ctl, message, AUTHPB__PERMISSION__TYPE__READ);
    fputs("KV Write:\n", ctl->cli->out);
    print_permissions(ctl, message, AUTHPB__PERMISSION__TYPE__WRITE);
}

static const char *type_name(struct ctl *ctl, Authpb__Permission__Type type)
{
    switch (type) {
    case AUTHPB__PERMISSION__TYPE__READ:
        return "READ";
    case AUTHPB__PERMISSION__TYPE__WRITE:
        return "WRITE";
    case AUTHPB__PERMISSION__TYPE__READWRITE:
        return "READWRITE";
    default:
        return cli_format(ctl->cli, "%d", (int)type);
    }
}

static void fields_get(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthRoleGetResponse *response = message;
    (void)about;
    FILE *out = ctl->cli->out;
    ctl_fields_header(ctl, response->header);
    for (size_t i = 0; i < response->n_perm; i++) {
        const Authpb__Permission *permission = response->perm[i];
        /* Two blanks: etcdctl prints one of its own and one by Println. */
        fprintf(out, "\"PermType\" :  %s\n", type_name(ctl, permission->permtype));
        print_field_quoted(out, "Key", ctl_slice(permission->key));
        print_field_quoted(out, "RangeEnd", ctl_slice(permission->range_end));
    }
}

int role_get(struct ctl *ctl, const char *name)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/RoleGet", &etcdserverpb__auth_role_get_response__descriptor, true};
    static const struct ctl_view view = {.simple = simple_get, .fields = fields_get};
    Etcdserverpb__AuthRoleGetRequest request = ETCDSERVERPB__AUTH_ROLE_GET_REQUEST__INIT;
    request.role = (char *)(uintptr_t)name;
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    return ctl_show(ctl, &view, answer.message, name);
}

static int run_get(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "role get command requires role name as its argument");
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = role_get(&ctl, cli->words[0]);
    ctl_close(&ctl);
    return code;
}

const struct cli_command ctl_role_get_command = {
    .name = "get",
    .usage = "<role name>",
    .brief = "Prints what a role allows",
    .run = run_get,
};

/* ---- list ---- */

static void simple_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthRoleListResponse *response = message;
    (void)about;
    for (size_t i = 0; i < response->n_roles; i++)
        fprintf(ctl->cli->out, "%s\n", response->roles[i]);
}

static void fields_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthRoleListResponse *response = message;
    (void)about;
    ctl_fields_header(ctl, response->header);
    fputs("\"Roles\" :", ctl->cli->out);
    for (size_t i = 0; i < response->n_roles; i++) {
        fputc(' ', ctl->cli->out);
        print_quoted(ctl->cli->out, slice_from_str(response->roles[i]));
    }
    fputc('\n', ctl->cli->out);
}

static int run_list(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/RoleList", &etcdserverpb__auth_role_list_response__descriptor, true};
    static const struct ctl_view view = {.simple = simple_list, .fields = fields_list};
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "role list command requires no arguments");
    Etcdserverpb__AuthRoleListRequest request = ETCDSERVERPB__AUTH_ROLE_LIST_REQUEST__INIT;
    return ctl_ask(cli, &method, &request.base, &view, NULL);
}

const struct cli_command ctl_role_list_command = {
    .name = "list",
    .brief = "Lists the roles",
    .run = run_list,
};

/* ---- grant-permission, revoke-permission ---- */

#define EXCLUSIVE "--from-key and --prefix flags are mutually exclusive"

/* <key> [endkey] from the words at `first`, with --prefix and --from-key. An empty key is stored as
 * a zero byte, since the server keeps ranges that way. Returns an exit code. */
static int read_range(struct cli *cli, uint32_t first, ProtobufCBinaryData *key,
                      ProtobufCBinaryData *end)
{
    bool prefix = cli_bool(cli, "prefix"), from_key = cli_bool(cli, "from-key");
    bool has_end = cli->words_count > first + 1;
    ProtobufCBinaryData open = {.len = 1, .data = zero_byte};
    *key = ctl_bytes(cli->words[first]);
    *end = ctl_bytes("");
    if (key->len == 0) {
        if (prefix && from_key)
            return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, EXCLUSIVE);
        *key = open;
        *end = prefix || from_key ? open : *end;
        return CLI_EXIT_OK;
    }
    if (has_end && (prefix || from_key))
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "unexpected endkey argument with --%s flag",
                        prefix ? "prefix" : "from-key");
    if (prefix && from_key)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, EXCLUSIVE);
    if (has_end)
        *end = ctl_bytes(cli->words[first + 1]);
    else if (from_key)
        *end = open;
    else if (prefix && ctl_prefix_end(cli, *key, end) != ST_OK)
        return cli_fail(cli, CLI_EXIT_ERROR, "out of memory");
    return CLI_EXIT_OK;
}

static int read_type(struct cli *cli, const char *text, Authpb__Permission__Type *out)
{
    static const char *const names[] = {"READ", "WRITE", "READWRITE"}; /* by the enum's numbers */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *out = (Authpb__Permission__Type)i;
            return CLI_EXIT_OK;
        }
    }
    return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "invalid permission type: %s", text);
}

static int run_grant(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/RoleGrantPermission",
        &etcdserverpb__auth_role_grant_permission_response__descriptor, true};
    if (cli->words_count < 3)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "role grant command requires role name, permission type, and key [endkey] "
                        "as its argument");
    Authpb__Permission permission = AUTHPB__PERMISSION__INIT;
    Etcdserverpb__AuthRoleGrantPermissionRequest request =
        ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
    request.name = cli->words[0];
    request.perm = &permission;
    int code = read_type(cli, cli->words[1], &permission.permtype);
    if (code == CLI_EXIT_OK)
        code = read_range(cli, 2, &permission.key, &permission.range_end);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &ctl_header_view,
                                         cli_format(cli, "Role %s updated", cli->words[0]))
                               : code;
}

static const struct cli_flag grant_flags[] = {
    {.name = "prefix", .kind = CLI_BOOL, .help = "for all keys that begin with <key>"},
    {.name = "from-key", .kind = CLI_BOOL, .help = "for <key> and all keys behind it, bytewise"},
    {0},
};

const struct cli_command ctl_role_grant_permission_command = {
    .name = "grant-permission",
    .usage = "[options] <role name> <permission type> <key> [endkey]",
    .brief = "Lets a role read, write or readwrite a key or a range of keys",
    .flags = grant_flags,
    .run = run_grant,
};

static void simple_revoke(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthRoleRevokePermissionRequest *request = about;
    const char *key = ctl->cli->words[1]; /* as typed: an empty key stays empty here */
    (void)message;
    FILE *out = ctl->cli->out;
    if (request->range_end.len == 0) {
        fprintf(out, "Permission of key %s is revoked from role %s\n", key, request->role);
    } else if (is_open(request->range_end)) {
        fprintf(out, "Permission of range [%s, <open ended> is revoked from role %s\n", key,
                request->role);
    } else {
        fprintf(out, "Permission of range [%s, ", key);
        print_slice(out, ctl_slice(request->range_end));
        fprintf(out, ") is revoked from role %s\n", request->role);
    }
}

static int run_revoke(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/RoleRevokePermission",
        &etcdserverpb__auth_role_revoke_permission_response__descriptor, true};
    if (cli->words_count < 2)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "role revoke-permission command requires role name and key [endkey] as its "
                        "argument");
    Etcdserverpb__AuthRoleRevokePermissionRequest request =
        ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT;
    request.role = cli->words[0];
    int code = read_range(cli, 1, &request.key, &request.range_end);
    struct ctl_view view = ctl_header_view;
    view.simple = simple_revoke;
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &view, &request) : code;
}

const struct cli_command ctl_role_revoke_permission_command = {
    .name = "revoke-permission",
    .usage = "<role name> <key> [endkey]",
    .brief = "Takes from a role what it was allowed",
    .flags = grant_flags,
    .run = run_revoke,
};
