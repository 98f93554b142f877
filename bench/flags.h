/* bench/flags.h - the options of a subcommand: one table gives parsing and --help. */
#ifndef BENCH_FLAGS_H
#define BENCH_FLAGS_H
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum flag_kind {
    FLAG_TEXT,   /* const char * */
    FLAG_NUMBER, /* uint64_t */
    FLAG_SWITCH, /* bool, takes no value */
};

struct flag {
    const char *name; /* without the dashes */
    enum flag_kind kind;
    void *value;          /* holds the default; set when the option is given */
    const char *argument; /* what the value is: "N", "FILE"; NULL for a switch */
    const char *help;
};

/* Reads "--name value" and "--name=value". Arguments that are no options are counted into
 * *positional_count and moved to the front of argv. Errors: ST_INVALID, told on stderr. */
CHECKED enum status flags_parse(const struct flag *flags, size_t flags_count, int argc, char **argv,
                                int *positional_count);
/* True when argv asks for help. */
bool flags_ask_for_help(int argc, char **argv);

/* A command that takes options alone. */
struct flags_command {
    const char *usage, *figures; /* what --help says before and after the options */
    const struct flag *flags;
    size_t flags_count;
};

/* Reads the command's words. False: it ends here with *exit_out, help given or the line refused. */
bool flags_begin(const struct flags_command *command, int argc, char **argv, int *exit_out);
/* Says how it is used, on stderr; gives the exit code of a wrong line. */
int flags_refuse(const struct flags_command *command);
#endif
