/* user add, delete, get, list, passwd, grant-role, revoke-role. */
#include "tools/ctl/ctl.h"

#include "tools/ctl/role.h"
#include "tools/print/text.h"

#include <string.h>

#define SCAN_BYTES_MAX 4096U /* a password that comes by a pipe */

/* ---- passwords ---- */

/* Asks twice. Returns an exit code. */
static int ask_new_password(struct cli *cli, const char *name, const char **out)
{
    const char *again;
    if (ctl_ask_password(cli, cli_format(cli, "Password of %s: ", name), out) != ST_OK)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "failed to ask password: out of memory");
    if (**out == '\0')
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "empty password");
    const char *prompt = cli_format(cli, "Type password of %s again for confirmation: ", name);
    if (ctl_ask_password(cli, prompt, &again) != ST_OK)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "failed to ask password: out of memory");
    if (strcmp(*out, again) != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "given passwords are different");
    return CLI_EXIT_OK;
}

/* The first word of standard input, nothing asked. */
static const char *scan_password(struct cli *cli)
{
    char *word = arena_alloc(&cli->arena, SCAN_BYTES_MAX);
    if (word == NULL || fgets(word, SCAN_BYTES_MAX, stdin) == NULL)
        return "";
    word += strspn(word, " \t");
    word[strcspn(word, " \t\r\n")] = '\0';
    return word;
}

static int new_password(struct cli *cli, const char *name, const char **out)
{
    if (cli_bool(cli, "interactive"))
        return ask_new_password(cli, name, out);
    *out = scan_password(cli);
    return CLI_EXIT_OK;
}

/* ---- add ---- */

static char *writable(const char *text)
{
    return (char *)(uintptr_t)text; /* protobuf-c's fields are; it only reads them */
}

/* name[:password] and the flags about it. Returns an exit code. */
static int read_new_user(struct cli *cli, Etcdserverpb__AuthUserAddRequest *out)
{
    const char *word = cli->words[0], *colon = strchr(word, ':'), *password = "";
    out->name = writable(word);
    out->options->no_password = cli_bool(cli, "no-password");
    if (out->options->no_password)
        return CLI_EXIT_OK;
    int code = CLI_EXIT_OK;
    if (*cli_string(cli, "new-user-password") != '\0') {
        password = cli_string(cli, "new-user-password");
    } else if (colon != NULL) {
        out->name = writable(cli_format(cli, "%.*s", (int)(colon - word), word));
        password = colon + 1;
        if (*out->name == '\0')
            return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "empty user name is not allowed");
    } else {
        code = new_password(cli, word, &password);
    }
    out->password = writable(password);
    return code;
}

static int run_add(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserAdd", &etcdserverpb__auth_user_add_response__descriptor, true};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user add command requires user name as its argument");
    Authpb__UserAddOptions options = AUTHPB__USER_ADD_OPTIONS__INIT;
    Etcdserverpb__AuthUserAddRequest request = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    request.options = &options;
    int code = read_new_user(cli, &request);
    return code == CLI_EXIT_OK ? ctl_ask(cli, &method, &request.base, &ctl_header_view,
                                         cli_format(cli, "User %s created", request.name))
                               : code;
}

static const struct cli_flag add_flags[] = {
    {.name = "interactive",
     .kind = CLI_BOOL,
     .initial = "true",
     .help = "ask for the password; false: read it from standard input"},
    {.name = "new-user-password", .kind = CLI_STRING, .help = "the password"},
    {.name = "no-password",
     .kind = CLI_BOOL,
     .help = "a user without one, who logs in by a certificate only"},
    {0},
};

const struct cli_command ctl_user_add_command = {
    .name = "add",
    .usage = "<user name or user:password> [options]",
    .brief = "Adds a user",
    .flags = add_flags,
    .run = run_add,
};

/* ---- delete ---- */

static int run_delete(struct cli *cli)
{
    static const struct ctl_method method = {"/etcdserverpb.Auth/UserDelete",
                                             &etcdserverpb__auth_user_delete_response__descriptor,
                                             true};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user delete command requires user name as its argument");
    Etcdserverpb__AuthUserDeleteRequest request = ETCDSERVERPB__AUTH_USER_DELETE_REQUEST__INIT;
    request.name = cli->words[0];
    return ctl_ask(cli, &method, &request.base, &ctl_header_view,
                   cli_format(cli, "User %s deleted", cli->words[0]));
}

const struct cli_command ctl_user_delete_command = {
    .name = "delete",
    .usage = "<user name>",
    .brief = "Deletes a user",
    .run = run_delete,
};

/* ---- get ---- */

static void simple_get(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthUserGetResponse *response = message;
    fprintf(ctl->cli->out, "User: %s\nRoles:", (const char *)about);
    for (size_t i = 0; i < response->n_roles; i++)
        fprintf(ctl->cli->out, " %s", response->roles[i]);
    fputc('\n', ctl->cli->out);
}

/* Each role by whatever writer, but the frame always as text: etcdctl's way. */
static int show_detail(struct ctl *ctl, const Etcdserverpb__AuthUserGetResponse *user)
{
    fprintf(ctl->cli->out, "User: %s\n", ctl->cli->words[0]);
    int code = CLI_EXIT_OK;
    for (size_t i = 0; i < user->n_roles && code == CLI_EXIT_OK; i++) {
        fputc('\n', ctl->cli->out);
        code = role_get(ctl, user->roles[i]);
    }
    return code;
}

static int get(struct ctl *ctl)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserGet", &etcdserverpb__auth_user_get_response__descriptor, true};
    static const struct ctl_view view = {.simple = simple_get};
    Etcdserverpb__AuthUserGetRequest request = ETCDSERVERPB__AUTH_USER_GET_REQUEST__INIT;
    request.name = ctl->cli->words[0];
    struct ctl_answer answer = ctl_call(ctl, &method, &request.base);
    if (answer.error != NULL)
        return cli_fail(ctl->cli, CLI_EXIT_ERROR, "%s", answer.error);
    if (cli_bool(ctl->cli, "detail"))
        return show_detail(ctl, answer.message);
    return ctl_show(ctl, &view, answer.message, request.name);
}

static int run_get(struct cli *cli)
{
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user get command requires user name as its argument");
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK)
        code = get(&ctl);
    ctl_close(&ctl);
    return code;
}

static const struct cli_flag get_flags[] = {
    {.name = "detail", .kind = CLI_BOOL, .help = "also what each of its roles allows"},
    {0},
};

const struct cli_command ctl_user_get_command = {
    .name = "get",
    .usage = "<user name> [options]",
    .brief = "Prints a user's roles",
    .flags = get_flags,
    .run = run_get,
};

/* ---- list ---- */

static void simple_list(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthUserListResponse *response = message;
    (void)about;
    for (size_t i = 0; i < response->n_users; i++)
        fprintf(ctl->cli->out, "%s\n", response->users[i]);
}

static int run_list(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserList", &etcdserverpb__auth_user_list_response__descriptor, true};
    static const struct ctl_view view = {.simple = simple_list};
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "user list command requires no arguments");
    Etcdserverpb__AuthUserListRequest request = ETCDSERVERPB__AUTH_USER_LIST_REQUEST__INIT;
    return ctl_ask(cli, &method, &request.base, &view, NULL);
}

const struct cli_command ctl_user_list_command = {
    .name = "list",
    .brief = "Lists the users",
    .run = run_list,
};

/* ---- passwd ---- */

static int run_passwd(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserChangePassword",
        &etcdserverpb__auth_user_change_password_response__descriptor, true};
    if (cli->words_count != 1)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user passwd command requires user name as its argument");
    const char *password;
    int code = new_password(cli, cli->words[0], &password);
    if (code != CLI_EXIT_OK)
        return code;
    Etcdserverpb__AuthUserChangePasswordRequest request =
        ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;
    request.name = cli->words[0];
    request.password = writable(password);
    return ctl_ask(cli, &method, &request.base, &ctl_header_view, "Password updated");
}

static const struct cli_flag passwd_flags[] = {
    {.name = "interactive",
     .kind = CLI_BOOL,
     .initial = "true",
     .help = "ask for the password; false: read it from standard input"},
    {0},
};

const struct cli_command ctl_user_passwd_command = {
    .name = "passwd",
    .usage = "<user name> [options]",
    .brief = "Changes a user's password",
    .flags = passwd_flags,
    .run = run_passwd,
};

/* ---- grant-role, revoke-role ---- */

static int run_grant_role(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserGrantRole",
        &etcdserverpb__auth_user_grant_role_response__descriptor, true};
    if (cli->words_count != 2)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user grant command requires user name and role name as its argument");
    Etcdserverpb__AuthUserGrantRoleRequest request =
        ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    request.user = cli->words[0];
    request.role = cli->words[1];
    return ctl_ask(cli, &method, &request.base, &ctl_header_view,
                   cli_format(cli, "Role %s is granted to user %s", cli->words[1], cli->words[0]));
}

const struct cli_command ctl_user_grant_role_command = {
    .name = "grant-role",
    .usage = "<user name> <role name>",
    .brief = "Gives a user a role",
    .run = run_grant_role,
};

static int run_revoke_role(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/UserRevokeRole",
        &etcdserverpb__auth_user_revoke_role_response__descriptor, true};
    if (cli->words_count != 2)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "user revoke-role requires user name and role name as its argument");
    Etcdserverpb__AuthUserRevokeRoleRequest request =
        ETCDSERVERPB__AUTH_USER_REVOKE_ROLE_REQUEST__INIT;
    request.name = cli->words[0];
    request.role = cli->words[1];
    return ctl_ask(
        cli, &method, &request.base, &ctl_header_view,
        cli_format(cli, "Role %s is revoked from user %s", cli->words[1], cli->words[0]));
}

const struct cli_command ctl_user_revoke_role_command = {
    .name = "revoke-role",
    .usage = "<user name> <role name>",
    .brief = "Takes a role from a user",
    .run = run_revoke_role,
};
