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

/* In etcdctl's order, in which "Did you mean this?" names them. */
static const struct cli_command *const commands[] = {
    &ctl_get_command,        &ctl_put_command,      &ctl_del_command,
    &ctl_compaction_command, &ctl_endpoint_command, &version_command,
    &cli_completion_command, &cli_help_command,     NULL,
};

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
     .help = "domain whose SRV records name the members (not supported)"},
    {.name = "discovery-srv-name",
     .kind = CLI_STRING,
     .help = "service to ask for there (not supported)"},
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
