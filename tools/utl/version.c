#include "tools/utl/commands.h"

/* The version that stands behind the formats and the API, as etcdutl tells its own. */
static int run_version(struct cli *cli)
{
    fprintf(cli->out, "cleatutl version: %s\netcdutl version: 3.5.15\nAPI version: 3.5\n",
            CLEAT_VERSION);
    return CLI_EXIT_OK;
}

const struct cli_command utl_version_command = {
    .name = "version", .brief = "Prints the version of cleatutl", .run = run_version};
