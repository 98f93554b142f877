/* Usage texts, laid out as etcdctl's: columns by tabs. */
#include "tools/cli/cli_private.h"

#include "base/assert.h"
#include "tools/print/text.h"

#include <stdlib.h>
#include <string.h>

#define TAB_COLUMNS 8U
#define PATH_BYTES_MAX 256U

/* Ends a first column of width columns, of which used are taken, with the tabs that it needs. */
static void pad(FILE *out, size_t used, size_t width)
{
    size_t stop = (width / TAB_COLUMNS + 1) * TAB_COLUMNS; /* at least one column apart */
    for (size_t at = used; at < stop; at = at / TAB_COLUMNS * TAB_COLUMNS + TAB_COLUMNS)
        fputc('\t', out);
}

/* "  -w, --write-out="simple"" or "      --debug[=false]"; returns its length. out may be NULL. */
static size_t print_flag(const struct cli_flag *flag, FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL)
        return 0;
    if (flag->letter != 0)
        fprintf(memory, "  -%c, --%s", flag->letter, flag->name);
    else
        fprintf(memory, "      --%s", flag->name);
    const char *initial = cli_flag_initial(flag);
    if (flag->kind == CLI_STRING) {
        fputc('=', memory);
        print_quoted(memory, slice_from_str(initial));
    } else if (flag->kind == CLI_BOOL || flag->kind == CLI_LIST) {
        fprintf(memory, flag->kind == CLI_BOOL ? "[=%s]" : "=[%s]", initial);
    } else {
        fprintf(memory, "=%s", initial);
    }
    fclose(memory);
    if (out != NULL)
        fputs(text == NULL ? "" : text, out);
    free(text);
    return size;
}

static int compare_flags(const void *a, const void *b)
{
    const struct cli_flag *const *first = a, *const *second = b;
    return strcmp((*first)->name, (*second)->name);
}

/* Adds those of a table that are shown to sorted; returns how many are in it then. */
static uint32_t collect(const struct cli_flag *flags, const struct cli_flag **sorted,
                        uint32_t count)
{
    for (const struct cli_flag *flag = flags; flag != NULL && flag->name != NULL; flag++) {
        if (!flag->hidden)
            sorted[count++] = flag;
    }
    return count;
}

/* The flags of one or two tables, in the order of names. */
static void print_flags(const char *title, const struct cli_flag *a, const struct cli_flag *b,
                        FILE *out)
{
    const struct cli_flag **sorted =
        calloc(cli_flags_count(a) + cli_flags_count(b) + 1, sizeof(*sorted));
    if (sorted == NULL)
        return;
    uint32_t count = collect(b, sorted, collect(a, sorted, 0));
    qsort(sorted, count, sizeof(*sorted), compare_flags);
    size_t width = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = print_flag(sorted[i], NULL);
        width = size > width ? size : width;
    }
    if (count > 0)
        fprintf(out, "\n%s:\n", title);
    for (uint32_t i = 0; i < count; i++) {
        pad(out, print_flag(sorted[i], out), width);
        fprintf(out, "%s\n", sorted[i]->help);
    }
    free(sorted);
}

/* Walking the members of a group: first for the widest name, then to print. */
struct listing {
    FILE *out; /* NULL: measure */
    uint32_t depth;
    size_t width;
};

static void list_command(void *context, const struct cli_path *path)
{
    struct listing *listing = context;
    const struct cli_command *command = cli_path_last(path);
    if (command->run == NULL)
        return;
    struct cli_path below = {.depth = path->depth - listing->depth};
    memcpy(below.steps, &path->steps[listing->depth], below.depth * sizeof(*below.steps));
    char text[PATH_BYTES_MAX];
    size_t size = strlen(cli_path_text(&below, " ", text, sizeof(text)));
    if (listing->out == NULL) {
        listing->width = size > listing->width ? size : listing->width;
        return;
    }
    fprintf(listing->out, "\t%s", text);
    pad(listing->out, size, listing->width);
    fprintf(listing->out, "%s\n", command->brief);
}

static void print_commands(const struct cli_program *program, const struct cli_path *path,
                           FILE *out)
{
    struct listing listing = {.depth = path->depth};
    cli_walk(program, path, list_command, &listing);
    listing.out = out;
    fputs("\n\nCOMMANDS:\n", out);
    cli_walk(program, path, list_command, &listing);
}

static void print_lines(const char *text, FILE *out)
{
    fputs("\nDESCRIPTION:\n", out);
    for (const char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        fprintf(out, "\t%.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

void cli_print_usage(const struct cli_program *program, const struct cli_path *path, FILE *out)
{
    const struct cli_command *command = cli_path_last(path);
    bool group = command == NULL || command->commands != NULL;
    char text[PATH_BYTES_MAX];
    cli_path_text(path, " ", text, sizeof(text));
    fprintf(out, "NAME:\n\t%s - %s\n", command == NULL ? program->name : text,
            command == NULL ? program->brief : command->brief);
    fprintf(out, "\nUSAGE:\n\t%s%s%s", program->name, *text == '\0' ? "" : " ", text);
    if (command != NULL && command->usage != NULL)
        fprintf(out, " %s", command->usage);
    fputs(" [flags]\n", out);
    if (command == NULL)
        fprintf(out, "\nVERSION:\n\t%s\n", program->version);
    if (group && program->api_version != NULL)
        fprintf(out, "\nAPI VERSION:\n\t%s\n", program->api_version);
    if (group)
        print_commands(program, path, out);
    if (command != NULL && command->text != NULL)
        print_lines(command->text, out);
    if (command == NULL) {
        print_flags("OPTIONS", cli_help_flags, program->flags, out);
    } else {
        print_flags("OPTIONS", cli_help_flags, command->flags, out);
        print_flags("GLOBAL OPTIONS", program->flags, NULL, out);
    }
    fputc('\n', out);
}

static int run_help(struct cli *cli)
{
    if (cli_bool(cli, "man")) {
        cli_print_man(cli->program, cli->out);
        return CLI_EXIT_OK;
    }
    struct cli_path path;
    uint32_t count = cli->words_count;
    if (cli_find(cli, &count, cli->words, &path) == ST_OK) {
        cli_print_usage(cli->program, &path, cli->out);
        return CLI_EXIT_OK;
    }
    fputs("Unknown help topic [", cli->err);
    for (uint32_t i = 0; i < cli->words_count; i++)
        fprintf(cli->err, "%s`%s`", i > 0 ? " " : "", cli->words[i]);
    fputs("]\n", cli->err);
    cli_print_usage(cli->program, &(struct cli_path){0},
                    cli->program->usage_on_stderr ? cli->err : cli->out);
    return CLI_EXIT_OK;
}

static const struct cli_flag help_flags[] = {
    {.name = "man", .kind = CLI_BOOL, .hidden = true, .help = "print the manual page as roff"},
    {0},
};

const struct cli_command cli_help_command = {
    .name = "help",
    .usage = "[command]",
    .brief = "Explains a command",
    .flags = help_flags,
    .run = run_help,
};
