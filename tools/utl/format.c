#include "tools/utl/format.h"

#include <string.h>

const struct cli_flag utl_global_flags[] = {
    {.name = "write-out",
     .letter = 'w',
     .kind = CLI_STRING,
     .initial = "simple",
     .help = "set the output format (fields, json, protobuf, simple, table)"},
    {0},
};

int utl_read_format(struct cli *cli, enum utl_format *out)
{
    static const char *const names[] = {[UTL_SIMPLE] = "simple",
                                        [UTL_TABLE] = "table",
                                        [UTL_JSON] = "json",
                                        [UTL_FIELDS] = "fields"};
    const char *wanted = cli_string(cli, "write-out");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(wanted, names[i]) == 0) {
            *out = (enum utl_format)i;
            return CLI_EXIT_OK;
        }
    }
    return cli_fail(cli, CLI_EXIT_BAD_FEATURE,
                    strcmp(wanted, "protobuf") == 0 ? "protobuf not supported as output format"
                                                    : "unsupported output format");
}
