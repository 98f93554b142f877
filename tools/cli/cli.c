#include "tools/cli/cli.h"

#include "tools/cli/cli_private.h"

#include <stdarg.h>
#include <string.h>

int cli_fail(struct cli *cli, int code, const char *format, ...)
{
    fflush(cli->out); /* what was printed before comes first where both go to one place */
    fputs("Error: ", cli->err);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(cli->err, format, arguments);
    va_end(arguments);
    fputc('\n', cli->err);
    return code;
}

/* An error of the command line itself: told, explained, and told again, as cobra under etcdctl
 * does. */
static int fail_with_usage(struct cli *cli, const struct cli_path *path)
{
    cli_fail(cli, CLI_EXIT_ERROR, "%s", cli->error);
    cli_print_usage(cli->program, path, cli->program->usage_on_stderr ? cli->err : cli->out);
    fflush(cli->out);
    fputc('\n', cli->err);
    return cli_fail(cli, CLI_EXIT_ERROR, "%s", cli->error);
}

static int fail_unknown(struct cli *cli)
{
    cli_fail(cli, CLI_EXIT_ERROR, "%s", cli->error);
    fprintf(cli->err, "Run '%s --help' for usage.\n", cli->program->name);
    return cli_fail(cli, CLI_EXIT_ERROR, "%s", cli->error);
}

/* Sets cli->error when a required flag was not given. */
static bool lacks_required(struct cli *cli)
{
    const char *names = "";
    for (uint32_t i = 0; i < cli->values_count; i++) {
        const struct cli_value *value = &cli->values[i];
        if (value->flag->required && !value->given)
            names =
                cli_format(cli, "%s%s\"%s\"", names, *names == '\0' ? "" : ", ", value->flag->name);
    }
    if (*names == '\0')
        return false;
    cli->error = cli_format(cli, "required flag(s) %s not set", names);
    return true;
}

static int run_found(struct cli *cli, const struct cli_path *path, uint32_t count, char **words)
{
    cli->command = cli_path_last(path);
    const struct cli_flag *own = cli->command == NULL ? NULL : cli->command->flags;
    const struct cli_flag *tables[3] = {own, cli_help_flags, cli->program->flags};
    cli->error = "out of memory";
    if (cli_values_init(cli, tables) != ST_OK || cli_parse(cli, count, words) != ST_OK)
        return fail_with_usage(cli, path);
    if (cli_bool(cli, "help") || cli->command == NULL || cli->command->run == NULL) {
        cli_print_usage(cli->program, path, cli->out);
        return CLI_EXIT_OK;
    }
    if (lacks_required(cli))
        return fail_with_usage(cli, path);
    return cli->command->run(cli);
}

int cli_run(const struct cli_program *program, void *context, int argc, char **argv, FILE *out,
            FILE *err)
{
    struct cli cli = {
        .program = program, .context = context, .out = out, .err = err, .error = "out of memory"};
    arena_init(&cli.arena, CLI_ARENA_BYTES_MAX);
    struct cli_path path;
    uint32_t count = argc > 1 ? (uint32_t)(argc - 1) : 0;
    int code = CLI_EXIT_ERROR;
    /* A copy, since finding the command takes its names out of the words. */
    char **words = ARENA_ARRAY(&cli.arena, char *, count + 1);
    if (words != NULL && count > 0)
        memcpy(words, argv + 1, count * sizeof(*words));
    if (words == NULL || cli_find(&cli, &count, words, &path) != ST_OK)
        code = fail_unknown(&cli);
    else
        code = run_found(&cli, &path, count, words);
    cli_deinit(&cli);
    if ((fflush(out) != 0 || ferror(out)) && code == CLI_EXIT_OK) {
        fputs("Error: cannot write to standard output\n", err);
        code = CLI_EXIT_IO;
    }
    return code;
}

int cli_main(const struct cli_program *program, void *context, int argc, char **argv)
{
    return cli_run(program, context, argc, argv, stdout, stderr);
}
