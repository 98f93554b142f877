/* tools/utl/commands.h - cleatutl's commands, each in a file of its own, for the table in main.c.
 */
#ifndef TOOLS_UTL_COMMANDS_H
#define TOOLS_UTL_COMMANDS_H
#include "tools/cli/cli.h"

extern const struct cli_command utl_convert_command;
extern const struct cli_command utl_defrag_command;
extern const struct cli_command utl_export_command;
extern const struct cli_command utl_import_command;
extern const struct cli_command utl_log_truncate_command;
extern const struct cli_command utl_recover_command;
extern const struct cli_command utl_restore_command; /* snapshot restore */
extern const struct cli_command utl_save_command;    /* snapshot save */

extern const struct cli_command utl_status_command; /* snapshot status */
extern const struct cli_command utl_verify_command; /* snapshot verify */
extern const struct cli_command utl_check_command;
extern const struct cli_command utl_hashkv_command;
extern const struct cli_command utl_version_command;
#endif
