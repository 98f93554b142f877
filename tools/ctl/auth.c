/* auth enable, disable, status. */
#include "tools/ctl/ctl.h"

#include "tools/print/text.h"

#include <inttypes.h>
#include <string.h>

/* ---- enable ---- */

/* The role that the user root must have, and the user's grant of it. */
static const char *make_root_role(struct ctl *ctl)
{
    static const struct ctl_method add = {"/etcdserverpb.Auth/RoleAdd",
                                          &etcdserverpb__auth_role_add_response__descriptor, false};
    static const struct ctl_method grant = {
        "/etcdserverpb.Auth/UserGrantRole",
        &etcdserverpb__auth_user_grant_role_response__descriptor, false};
    static char root[] = "root";
    Etcdserverpb__AuthRoleAddRequest role = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    role.name = root;
    struct ctl_answer answer = ctl_call(ctl, &add, &role.base);
    if (answer.error != NULL)
        return answer.error;
    Etcdserverpb__AuthUserGrantRoleRequest user = ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    user.user = root;
    user.role = root;
    return ctl_call(ctl, &grant, &user.base).error;
}

/* Asks, gives root its role if that is missing, asks again. */
static const char *enable(struct ctl *ctl)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/AuthEnable", &etcdserverpb__auth_enable_response__descriptor, false};
    Etcdserverpb__AuthEnableRequest request = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    const char *error = ctl_call(ctl, &method, &request.base).error;
    if (error == NULL || strcmp(error, "etcdserver: root user does not have root role") != 0)
        return error;
    error = make_root_role(ctl);
    return error == NULL ? ctl_call(ctl, &method, &request.base).error : error;
}

static const char *disable(struct ctl *ctl)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/AuthDisable", &etcdserverpb__auth_disable_response__descriptor, false};
    Etcdserverpb__AuthDisableRequest request = ETCDSERVERPB__AUTH_DISABLE_REQUEST__INIT;
    return ctl_call(ctl, &method, &request.base).error;
}

/* Does one of both and says so in every writer's stead. */
static int run_switch(struct cli *cli, const char *(*change)(struct ctl *ctl), const char *done)
{
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "auth %s command does not accept any arguments", cli->command->name);
    struct ctl ctl;
    int code = ctl_open(cli, &ctl);
    if (code == CLI_EXIT_OK) {
        const char *error = change(&ctl);
        if (error != NULL)
            code = cli_fail(cli, CLI_EXIT_ERROR, "%s", error);
        else
            fprintf(cli->out, "%s\n", done);
    }
    ctl_close(&ctl);
    return code;
}

static int run_enable(struct cli *cli)
{
    return run_switch(cli, enable, "Authentication Enabled");
}

const struct cli_command ctl_auth_enable_command = {
    .name = "enable",
    .brief = "Lets only users in who log in; there must be a user root",
    .run = run_enable,
};

static int run_disable(struct cli *cli)
{
    return run_switch(cli, disable, "Authentication Disabled");
}

const struct cli_command ctl_auth_disable_command = {
    .name = "disable",
    .brief = "Lets everybody in",
    .run = run_disable,
};

/* ---- status ---- */

static void simple_status(struct ctl *ctl, const void *message, const void *about)
{
    const Etcdserverpb__AuthStatusResponse *response = message;
    (void)about;
    fprintf(ctl->cli->out, "Authentication Status: %s\nAuthRevision: %" PRIu64 "\n",
            response->enabled ? "true" : "false", response->authrevision);
}

static int run_status(struct cli *cli)
{
    static const struct ctl_method method = {
        "/etcdserverpb.Auth/AuthStatus", &etcdserverpb__auth_status_response__descriptor, false};
    static const struct ctl_view view = {.simple = simple_status};
    if (cli->words_count != 0)
        return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS,
                        "auth status command does not accept any arguments");
    Etcdserverpb__AuthStatusRequest request = ETCDSERVERPB__AUTH_STATUS_REQUEST__INIT;
    return ctl_ask(cli, &method, &request.base, &view, NULL);
}

const struct cli_command ctl_auth_status_command = {
    .name = "status",
    .brief = "Tells whether users have to log in",
    .run = run_status,
};
