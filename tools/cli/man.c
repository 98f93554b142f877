/* The program's manual page, as roff for man(7), from the same rows as its help. */
#include "tools/cli/cli_private.h"

#include <ctype.h>
#include <string.h>

#define PATH_BYTES_MAX 256U

/* Text into roff: a dash that is one, and no line that roff takes for a request. */
static void put_text(FILE *out, const char *text)
{
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
        line_start = *text == '\n';
    }
}

static void put_upper(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

static const char *kind_name(enum cli_kind kind)
{
    switch (kind) {
    case CLI_BOOL:
        return NULL;
    case CLI_STRING:
        return "TEXT";
    case CLI_LIST:
        return "TEXT,...";
    case CLI_INT:
    case CLI_UINT:
        return "NUMBER";
    case CLI_DURATION:
        return "DURATION";
    }
    return NULL;
}

/* A default that need not be told. */
static bool is_nothing(const char *initial)
{
    return *initial == '\0' || strcmp(initial, "false") == 0 || strcmp(initial, "0") == 0 ||
           strcmp(initial, "0s") == 0;
}

static void put_flags(FILE *out, const struct cli_flag *flags)
{
    for (uint32_t i = 0; i < cli_flags_count(flags); i++) {
        const struct cli_flag *flag = &flags[i];
        if (flag->hidden)
            continue;
        fputs(".TP\n", out);
        if (flag->letter != 0)
            fprintf(out, "\\fB\\-%c\\fR, ", flag->letter);
        fputs("\\fB\\-\\-", out);
        put_text(out, flag->name);
        fputs("\\fR", out);
        if (kind_name(flag->kind) != NULL)
            fprintf(out, "=\\fI%s\\fR", kind_name(flag->kind));
        fputc('\n', out);
        put_text(out, flag->help);
        const char *initial = cli_flag_initial(flag);
        if (flag->required)
            fputs(" (required)", out);
        else if (!is_nothing(initial)) {
            fputs(" (default: ", out);
            put_text(out, initial);
            fputc(')', out);
        }
        fputc('\n', out);
    }
}

/* Paragraphs: lines as they are, since the texts hold examples. */
static void put_paragraphs(FILE *out, const char *text)
{
    fputs(".PP\n.nf\n", out);
    put_text(out, text);
    fputs("\n.fi\n", out);
}

struct page {
    const struct cli_program *program;
    FILE *out;
};

static void put_command(void *context, const struct cli_path *path)
{
    const struct page *page = context;
    const struct cli_command *command = cli_path_last(path);
    if (command->run == NULL)
        return;
    char text[PATH_BYTES_MAX];
    fputs(".SS \"", page->out);
    put_text(page->out, cli_path_text(path, " ", text, sizeof(text)));
    fputs("\"\n\\fB", page->out);
    put_text(page->out, page->program->name);
    fputc(' ', page->out);
    put_text(page->out, text);
    fputs("\\fR ", page->out);
    if (command->usage != NULL)
        put_text(page->out, command->usage);
    fputs("\n.PP\n", page->out);
    put_text(page->out, command->brief);
    fputs(".\n", page->out);
    if (command->text != NULL)
        put_paragraphs(page->out, command->text);
    put_flags(page->out, command->flags);
}

void cli_print_man(const struct cli_program *program, FILE *out)
{
    fputs(".TH \"", out);
    put_upper(out, program->name);
    fprintf(out, "\" \"1\" \"\" \"%s %s\"\n.SH NAME\n", program->name, program->version);
    put_text(out, program->name);
    fputs(" \\- ", out);
    put_text(out, program->brief);
    fputs("\n.SH SYNOPSIS\n\\fB", out);
    put_text(out, program->name);
    fputs("\\fR [options] \\fIcommand\\fR [arguments]\n.SH OPTIONS\n", out);
    put_flags(out, program->flags);
    put_flags(out, cli_help_flags);
    fputs(".SH COMMANDS\n", out);
    struct page page = {.program = program, .out = out};
    cli_walk(program, &(struct cli_path){0}, put_command, &page);
    if (program->environment == NULL)
        return;
    fputs(".SH ENVIRONMENT\nEvery option above the commands may be set by a variable: ", out);
    fprintf(out, "\\fB%s\\fR and the option's name in capitals, with _ for \\-.\n",
            program->environment);
}
