/* tools/utl/inspect.h - what the commands of `inspect` share: their first word is a source, their
 * output a list of rows. */
#ifndef TOOLS_UTL_INSPECT_H
#define TOOLS_UTL_INSPECT_H
#include "tools/cli/cli.h"
#include "tools/utl/format.h"
#include "tools/utl/rows.h"
#include "tools/utl/source.h"

extern const struct cli_command utl_inspect_command; /* the group */

extern const struct cli_command inspect_keys_command, inspect_history_command, inspect_get_command,
    inspect_space_command; /* inspect_keys.c */
extern const struct cli_command inspect_leases_command, inspect_members_command,
    inspect_auth_command, inspect_alarms_command;    /* inspect_state.c */
extern const struct cli_command inspect_log_command; /* inspect_log.c */

/* Rows of every command's table of flags, */
#define INSPECT_WAL_DIR_FLAG                                                   \
    {                                                                          \
        .name = "wal-dir", .kind = CLI_STRING, .initial = "",                  \
        .help = "the directory of the log, if it is not in the data directory" \
    }
/* and of those that show the state: whether, and which, entries of the log are applied. */
#define INSPECT_FLAGS                                                                              \
    INSPECT_WAL_DIR_FLAG,                                                                          \
        {.name = "store-only", .kind = CLI_BOOL, .help = "leave out what only the log holds yet"}, \
    {                                                                                              \
        .name = "uncommitted", .kind = CLI_BOOL,                                                   \
        .help = "show what the log holds and is not known to be committed, too"                    \
    }

struct inspect {
    struct cli *cli;
    enum utl_format format;
    struct utl_source *source;
    struct buf why;
};

enum inspect_need {
    INSPECT_STORE, /* records are enough: of the index only what is needed to apply the log's tail
                    */
    INSPECT_STATE, /* key space and state machine */
    INSPECT_LOG,   /* the log's entries; of the state nothing is built */
};

/* Checks that there are as many words as `usage` names, the first being the source, reads the
 * format, opens the source, warns on stderr of what is not as it should be, and calls fn; tells why
 * any of it failed. Returns the exit code. */
int inspect_run(struct cli *cli, uint32_t words_count, enum inspect_need need,
                enum status (*fn)(struct inspect *inspect));
#endif
