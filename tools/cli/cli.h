/* tools/cli/cli.h - a command line from a table: commands and groups of them, flags, help, shell
 * completion and the manual page all come from the same rows, so they cannot drift apart. It
 * behaves as etcdctl's (cobra's and pflag's rules): flags may stand anywhere before "--", a command
 * may be shortened while it stays unambiguous, errors are told the same way and end with the same
 * codes.
 *
 *     static int run_put(struct cli *cli)
 *     {
 *         if (cli->words_count != 2)
 *             return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "put command needs 2 arguments");
 *         struct my_state *state = cli->context;
 *         return put(state, cli->words[0], cli->words[1], cli_bool(cli, "prev-kv"));
 *     }
 *     static const struct cli_flag put_flags[] = {
 *         {.name = "prev-kv", .kind = CLI_BOOL, .help = "also return the value before"},
 *         {.name = "lease", .kind = CLI_STRING, .initial = "0", .help = "lease ID in hexadecimal"},
 *         {0},
 *     };
 *     const struct cli_command my_put_command = {
 *         .name = "put", .usage = "[options] <key> <value>", .brief = "Stores a key",
 *         .flags = put_flags, .run = run_put};
 *
 *     static const struct cli_command *const commands[] = {&my_put_command, &cli_help_command,
 *                                                          &cli_completion_command, NULL};
 *     static const struct cli_program program = {.name = "mine", .commands = commands, ...};
 *     int main(int argc, char **argv) { return cli_main(&program, &state, argc, argv); }
 *
 * Tables are constant and outlive everything. A cli is used by one thread. */
#ifndef TOOLS_CLI_CLI_H
#define TOOLS_CLI_CLI_H
#include "base/arena.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cli;

/* etcdctl's exit codes. */
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_ERROR = 1,          /* the server refused, or anything that has no code of its own */
    CLI_EXIT_BAD_CONNECTION = 2, /* no connection, or not allowed to make one */
    CLI_EXIT_INVALID_INPUT = 3,  /* what txn and watch read */
    CLI_EXIT_BAD_FEATURE = 4,    /* a known flag with a value that is not supported */
    CLI_EXIT_INTERRUPTED = 5,
    CLI_EXIT_IO = 6,
    CLI_EXIT_BAD_ARGUMENTS = 128,
};

enum cli_kind {
    CLI_BOOL, /* "--x" is true, "--x=false" is false; never takes the next word */
    CLI_STRING,
    CLI_LIST, /* "a,b"; given twice, both count */
    CLI_INT,  /* 64 bits, as Go's strconv with base 0: 10, 0x1f, 0b1, 1_000 */
    CLI_UINT,
    CLI_DURATION, /* "1m30s", as base/duration.h reads it */
};

struct cli_flag {
    const char *name; /* without dashes; a row without a name ends the table */
    char letter;      /* shorthand, or 0 */
    bool required;    /* cobra's "required flag(s) ... not set", before the command runs */
    bool hidden;      /* works; help, completion and manual leave it out */
    enum cli_kind kind;
    const char *initial; /* the default as one would type it; NULL: false, "", none or 0 */
    const char *help;    /* one line */
};

/* Returns the program's exit code; errors have been told by then (cli_fail). */
typedef int (*cli_run_fn)(struct cli *cli);

struct cli_command {
    const char *name;
    const char *usage;            /* what follows the name: "<key> [range_end]"; may be NULL */
    const char *brief;            /* one line, no full stop */
    const char *text;             /* more, lines by '\n'; may be NULL */
    const struct cli_flag *flags; /* its own; NULL: none but --help, which every command has */
    const struct cli_command *const *commands; /* a group: its members, ended by NULL */
    cli_run_fn run;                            /* NULL for a group */
    bool hidden;
};

struct cli_program {
    const char *name;
    const char *brief;
    const char *version, *api_version;         /* told by help */
    const struct cli_command *const *commands; /* in the order in which help suggests them */
    const struct cli_flag *flags;              /* global ones, valid with every command */
    const char *environment;                   /* "ETCDCTL_"; NULL: no variables */
    bool usage_on_stderr; /* after an error: etcdutl's way; else the usage goes to stdout */
};

/* One run. The fields are for reading; out, err and context may also be replaced by a test. */
struct cli {
    const struct cli_program *program; /* NULL in one made by cli_read() */
    const struct cli_command *command;
    void *context; /* the program's own, as given to cli_main() */
    FILE *out, *err;
    char **words; /* what is no flag, borrowed from argv */
    uint32_t words_count;
    uint32_t words_before_dashes; /* how many of them stood before "--"; all when there was none */
    bool dashes;                  /* there was a "--" */
    const char *error;            /* of cli_read(): why not */
    struct arena arena;           /* ends with the run; commands may take from it */
    struct cli_value *values;     /* private */
    uint32_t values_count;
};

/* Parses argv, runs what it names and returns the exit code. Prints to stdout and stderr. */
int cli_main(const struct cli_program *program, void *context, int argc, char **argv);
/* The same with other outputs. */
int cli_run(const struct cli_program *program, void *context, int argc, char **argv, FILE *out,
            FILE *err);

/* Values of flags by name, given or default. Naming one that the command does not have is a bug of
 * ours and aborts. Strings are borrowed until the cli ends. */
bool cli_bool(const struct cli *cli, const char *name);
const char *cli_string(const struct cli *cli, const char *name);
int64_t cli_int(const struct cli *cli, const char *name);
uint64_t cli_uint(const struct cli *cli, const char *name);
int64_t cli_duration_ns(const struct cli *cli, const char *name);
char *const *cli_list(const struct cli *cli, const char *name, uint32_t *count_out);
/* Any flag as it was typed, or its default. */
const char *cli_text(const struct cli *cli, const char *name);
/* Was it given on the command line or by the environment? */
bool cli_given(const struct cli *cli, const char *name);

/* Sets global flags from the environment (--dial-timeout from <environment>DIAL_TIMEOUT), as
 * etcdctl's online commands do before they connect; commands that connect to nothing do not call
 * it. A variable for a flag that was also given is a fatal error, an unknown one with the prefix is
 * warned of; both are JSON log lines on err. `also` names variables, prefix included, that the
 * command reads itself; ended by NULL, may be NULL. Returns an exit code, 0 to go on. */
int cli_environment(struct cli *cli, const char *const *also);

/* Tells "Error: ..." on err and returns code, so that a command can `return cli_fail(...)`. */
int cli_fail(struct cli *cli, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads words by the flags of one command alone (no global ones, no --help), for a line that a
 * command reads itself, as in txn and watch -i; words are borrowed. The accessors then work on
 * *out. Errors: ST_INVALID (out->error says it as the command line would), ST_NO_MEMORY,
 * ST_TOO_BIG. In every case the caller ends *out by cli_deinit(). */
CHECKED enum status cli_read(const struct cli_command *command, uint32_t count, char **words,
                             struct cli *out);
void cli_deinit(struct cli *cli);

/* Go's strconv, for arguments that are numbers: on ST_INVALID `error_out` is Go's text, such as
 * `strconv.ParseInt: parsing "x": invalid syntax`, in the cli's arena. base 0 reads prefixes. */
CHECKED enum status cli_parse_int(struct cli *cli, const char *text, uint32_t base, int64_t *out,
                                  const char **error_out);
CHECKED enum status cli_parse_uint(struct cli *cli, const char *text, uint32_t base, uint64_t *out,
                                   const char **error_out);
/* printf into the cli's arena. Never NULL: a fixed text when memory ends. */
const char *cli_format(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For the program's table: "help [command]" (and `help --man`, which prints the whole program's
 * manual page as roff) and "completion bash|zsh|fish". */
extern const struct cli_command cli_help_command;
extern const struct cli_command cli_completion_command;
#endif
