/* cleatctl: etcdctl's commands for a running cluster. The table of commands and global flags. */
#include "tools/ctl/ctl.h"

#include <stdlib.h>
#include <string.h>

static int run_version(struct cli *cli)
{
    fputs("etcdctl version: " CTL_VERSION "\nAPI version: " CTL_API_VERSION "\n", cli->out);
    return CLI_EXIT_OK;
}

static const struct cli_command version_command = {
    .name = "version",
    .brief = "Prints the version of etcdctl whose output this program has",
    .run = run_version,
};

/* The groups. Members are in etcdctl's order as well. */
#define GROUP(variable, ...) static const struct cli_command *const variable[] = {__VA_ARGS__, NULL}

GROUP(alarm_members, &ctl_alarm_disarm_command, &ctl_alarm_list_command);
GROUP(lease_members, &ctl_lease_grant_command, &ctl_lease_revoke_command,
      &ctl_lease_timetolive_command, &ctl_lease_list_command, &ctl_lease_keep_alive_command);
GROUP(member_members, &ctl_member_add_command, &ctl_member_remove_command,
      &ctl_member_update_command, &ctl_member_list_command, &ctl_member_promote_command);
GROUP(snapshot_members, &ctl_snapshot_save_command, &ctl_snapshot_restore_command,
      &ctl_snapshot_status_command);
GROUP(check_members, &ctl_check_perf_command, &ctl_check_datascale_command);
GROUP(auth_members, &ctl_auth_enable_command, &ctl_auth_disable_command, &ctl_auth_status_command);
GROUP(user_members, &ctl_user_add_command, &ctl_user_delete_command, &ctl_user_get_command,
      &ctl_user_list_command, &ctl_user_passwd_command, &ctl_user_grant_role_command,
      &ctl_user_revoke_role_command);
GROUP(role_members, &ctl_role_add_command, &ctl_role_delete_command, &ctl_role_get_command,
      &ctl_role_list_command, &ctl_role_grant_permission_command,
      &ctl_role_revoke_permission_command);

static const struct cli_command alarm_command = {.name = "alarm",
                                                 .usage = "<subcommand>",
                                                 .brief = "Alarms of the cluster",
                                                 .commands = alarm_members};
static const struct cli_command lease_command = {.name = "lease",
                                                 .usage = "<subcommand>",
                                                 .brief = "Leases, which keys can be attached to",
                                                 .commands = lease_members};
static const struct cli_command member_command = {.name = "member",
                                                  .usage = "<subcommand>",
                                                  .brief = "Members of the cluster",
                                                  .commands = member_members};
static const struct cli_command snapshot_command = {.name = "snapshot",
                                                    .usage = "<subcommand>",
                                                    .brief = "Snapshots of a member",
                                                    .commands = snapshot_members};
static const struct cli_command auth_command = {.name = "auth",
                                                .usage = "<enable or disable>",
                                                .brief = "Whether users have to log in",
                                                .commands = auth_members};
static const struct cli_command user_command = {
    .name = "user", .usage = "<subcommand>", .brief = "Users", .commands = user_members};
static const struct cli_command role_command = {.name = "role",
                                                .usage = "<subcommand>",
                                                .brief = "Roles, which users are granted",
                                                .commands = role_members};

static const struct cli_command check_command = {.name = "check",
                                                 .usage = "<subcommand>",
                                                 .brief = "What the cluster can do",
                                                 .commands = check_members};

/* clang-format off */
/* In etcdctl's order, in which "Did you mean this?" names them. */
static const struct cli_command *const commands[] = {
    &ctl_get_command,
    &ctl_put_command,
    &ctl_del_command,
    &ctl_txn_command,
    &ctl_compaction_command,
    &alarm_command,
    &ctl_defrag_command,
    &ctl_endpoint_command,
    &ctl_move_leader_command,
    &ctl_watch_command,
    &version_command,
    &lease_command,
    &member_command,
    &snapshot_command,
    &ctl_make_mirror_command,
    &ctl_lock_command,
    &ctl_elect_command,
    &auth_command,
    &user_command,
    &role_command,
    &check_command,
    &cli_completion_command,
    &cli_help_command,
    NULL,
};
/* clang-format on */

static const struct cli_flag flags[] = {
    {.name = "endpoints",
     .kind = CLI_LIST,
     .initial = "127.0.0.1:2379",
     .help = "the members to talk to: host:port, or URLs"},
    {.name = "debug", .kind = CLI_BOOL, .help = "tell on stderr what every option is set to"},
    {.name = "write-out",
     .letter = 'w',
     .kind = CLI_STRING,
     .initial = "simple",
     .help = "how to print (fields, json, protobuf, simple, table)"},
    {.name = "hex", .kind = CLI_BOOL, .help = "print keys and values as hexadecimal bytes"},
    {.name = "dial-timeout",
     .kind = CLI_DURATION,
     .initial = "2s",
     .help = "how long a connection may take to come up"},
    {.name = "command-timeout",
     .kind = CLI_DURATION,
     .initial = "5s",
     .help = "how long a short command may take, connecting not counted"},
    {.name = "keepalive-time",
     .kind = CLI_DURATION,
     .initial = "2s",
     .help = "after how long without traffic to ask whether the other side is still there"},
    {.name = "keepalive-timeout",
     .kind = CLI_DURATION,
     .initial = "6s",
     .help = "how long the answer to that may take"},
    {.name = "insecure-transport",
     .kind = CLI_BOOL,
     .initial = "true",
     .help = "no TLS unless the endpoint or another option asks for it"},
    {.name = "insecure-discovery",
     .kind = CLI_BOOL,
     .initial = "true",
     .help = "accept endpoints without TLS from discovery"},
    {.name = "insecure-skip-tls-verify",
     .kind = CLI_BOOL,
     .help = "accept any server certificate (for tests only)"},
    {.name = "cert", .kind = CLI_STRING, .help = "file of the client certificate"},
    {.name = "key", .kind = CLI_STRING, .help = "file of the client certificate's key"},
    {.name = "cacert",
     .kind = CLI_STRING,
     .help = "file of the certificates that may sign the server's"},
    {.name = "user",
     .kind = CLI_STRING,
     .help = "name[:password] to log in with; the password is asked for if it is missing"},
    {.name = "password", .kind = CLI_STRING, .help = "the password, when --user is only a name"},
    {.name = "discovery-srv",
     .letter = 'd',
     .kind = CLI_STRING,
     .help = "domain whose SRV records name the members"},
    {.name = "discovery-srv-name",
     .kind = CLI_STRING,
     .help = "service to ask for there, behind etcd-client"},
    {0},
};

static const struct cli_program table = {
    .name = "cleatctl",
    .brief = "The command line client of Cleat and etcd 3",
    .version = CTL_VERSION,
    .api_version = CTL_API_VERSION,
    .commands = commands,
    .flags = flags,
    .environment = "ETCDCTL_",
};

int main(int argc, char **argv)
{
    const char *api = getenv("ETCDCTL_API");
    if (api != NULL && *api != '\0' && strcmp(api, "3") != 0) {
        fprintf(stderr, "unsupported API version: %s\n", api);
        return CLI_EXIT_ERROR;
    }
    unsetenv("ETCDCTL_API"); /* it is no flag's */
    struct cli_program program = table;
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    /* Linked under that name it speaks of itself by that name. */
    if (argc > 0 && strcmp(slash == NULL ? argv[0] : slash + 1, "etcdctl") == 0)
        program.name = "etcdctl";
    return cli_main(&program, NULL, argc, argv);
}
