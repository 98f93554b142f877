/* snapshot status and restore: they work on files, which is cleatutl's trade. */
#include "tools/ctl/ctl.h"

static int run_elsewhere(struct cli *cli)
{
    return cli_fail(cli, CLI_EXIT_ERROR, "this works on files: use `cleatutl snapshot %s` instead",
                    cli->command->name);
}

const struct cli_command ctl_snapshot_restore_command = {
    .name = "restore",
    .usage = "<filename> [options]",
    .brief = "Moved to cleatutl snapshot restore",
    .run = run_elsewhere,
};

const struct cli_command ctl_snapshot_status_command = {
    .name = "status",
    .usage = "<filename>",
    .brief = "Moved to cleatutl snapshot status",
    .run = run_elsewhere,
};
