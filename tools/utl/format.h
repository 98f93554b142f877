/* tools/utl/format.h - the formats of --write-out. */
#ifndef TOOLS_UTL_FORMAT_H
#define TOOLS_UTL_FORMAT_H
#include "tools/cli/cli.h"

enum utl_format { UTL_SIMPLE, UTL_TABLE, UTL_JSON, UTL_FIELDS };

/* The global flags of the program's table. */
extern const struct cli_flag utl_global_flags[];

/* Reads --write-out. Returns 0, or an exit code after telling that it is none or is not supported
 * here (protobuf never is). */
int utl_read_format(struct cli *cli, enum utl_format *out);
#endif
