/* tools/cli/cli_private.h - what only the files of tools/cli/ share. */
#ifndef TOOLS_CLI_CLI_PRIVATE_H
#define TOOLS_CLI_CLI_PRIVATE_H
#include "tools/cli/cli.h"

#define CLI_ARENA_BYTES_MAX (64U << 20) /* argv alone may be several MiB */
#define CLI_DEPTH_MAX 4U                /* groups within groups */

/* The value of one flag in one run. */
struct cli_value {
    const struct cli_flag *flag;
    bool given, from_environment;
    const char *text; /* as typed */
    union {
        bool boolean;
        int64_t i64;
        uint64_t u64;
    };
    char **items; /* CLI_LIST */
    uint32_t items_count, items_capacity;
};

/* A command with the groups that lead to it, outermost first; depth 0 is the program itself. */
struct cli_path {
    const struct cli_command *steps[CLI_DEPTH_MAX];
    uint32_t depth;
};

static inline const struct cli_command *cli_path_last(const struct cli_path *path)
{
    return path->depth == 0 ? NULL : path->steps[path->depth - 1];
}

/* The flag that every command has; a table of its own. */
extern const struct cli_flag cli_help_flags[];

static inline uint32_t cli_flags_count(const struct cli_flag *flags) /* NULL is none */
{
    uint32_t count = 0;
    while (flags != NULL && flags[count].name != NULL)
        count++;
    return count;
}
const char *cli_flag_initial(const struct cli_flag *flag);

/* Makes values for up to three tables of flags, at their defaults. Errors: ST_NO_MEMORY. */
CHECKED enum status cli_values_init(struct cli *cli, const struct cli_flag *const tables[3]);
struct cli_value *cli_value_find(const struct cli *cli, const char *name, size_t name_len);
/* Errors: ST_INVALID (*error_out is Go's text for the value), ST_NO_MEMORY. */
CHECKED enum status cli_value_set(struct cli *cli, struct cli_value *value, const char *text,
                                  const char **error_out);
/* Reads words into cli's values and words. Errors: ST_INVALID (cli->error), ST_NO_MEMORY. */
CHECKED enum status cli_parse(struct cli *cli, uint32_t count, char **words);

/* Finds the command that words name and removes its names from them, leaving *count of them.
 * Errors: ST_NOT_FOUND (words name none; cli->error is the text). */
CHECKED enum status cli_find(struct cli *cli, uint32_t *count, char **words,
                             struct cli_path *path_out);
const struct cli_command *const *cli_path_commands(const struct cli_program *program,
                                                   const struct cli_path *path);

void cli_print_usage(const struct cli_program *program, const struct cli_path *path, FILE *out);
void cli_print_man(const struct cli_program *program, FILE *out);

/* Calls visit for every command below the program that is not hidden, groups before their members,
 * each level in the order of names. */
typedef void (*cli_visit_fn)(void *context, const struct cli_path *path);
void cli_walk(const struct cli_program *program, const struct cli_path *from, cli_visit_fn visit,
              void *context);
/* "member add", the names of path joined by `separator`; in out, which has room for size bytes. */
const char *cli_path_text(const struct cli_path *path, const char *separator, char *out,
                          size_t size);
#endif
