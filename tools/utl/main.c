#include "tools/cli/cli.h"
#include "tools/utl/commands.h"
#include "tools/utl/format.h"
#include "tools/utl/inspect.h"

static const struct cli_command *const snapshot_commands[] = {
    &utl_save_command, &utl_restore_command, &utl_status_command, &utl_verify_command, NULL,
};
static const struct cli_command snapshot_command = {
    .name = "snapshot",
    .brief = "Manages etcd node snapshots",
    .commands = snapshot_commands,
};

static const struct cli_command *const log_commands[] = {
    &utl_log_truncate_command,
    NULL,
};
static const struct cli_command log_command = {
    .name = "log",
    .brief = "Works on a stopped member's log",
    .commands = log_commands,
};

/* One a line: */
/* clang-format off */
static const struct cli_command *const commands[] = {
    &snapshot_command,
    &utl_check_command,
    &utl_inspect_command,
    &utl_hashkv_command,
    &utl_defrag_command,
    &utl_convert_command,
    &utl_export_command,
    &log_command,
    &utl_import_command,
    &utl_recover_command,
    &utl_version_command,
    &cli_help_command,
    &cli_completion_command,
    NULL,
};
/* clang-format on */
static const struct cli_program program = {.name = "cleatutl",
                                           .brief = "Works on Cleat's and etcd's files, offline",
                                           .version = CLEAT_VERSION,
                                           .api_version = "3.5",
                                           .commands = commands,
                                           .flags = utl_global_flags,
                                           .usage_on_stderr = true};

int main(int argc, char **argv)
{
    return cli_main(&program, NULL, argc, argv);
}
