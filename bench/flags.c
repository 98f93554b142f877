#include "bench/flags.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const struct flag *find(const struct flag *flags, size_t flags_count, const char *name,
                               size_t name_len)
{
    for (size_t i = 0; i < flags_count; i++)
        if (strlen(flags[i].name) == name_len && memcmp(flags[i].name, name, name_len) == 0)
            return &flags[i];
    return NULL;
}

static enum status set_number(const struct flag *flag, const char *text)
{
    char *end = NULL;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0) {
        fprintf(stderr, "--%s wants a number, not '%s'\n", flag->name, text);
        return ST_INVALID;
    }
    *(uint64_t *)flag->value = number;
    return ST_OK;
}

/* Takes the option at argv[*at] and moves *at to its last word. */
static enum status take(const struct flag *flags, size_t flags_count, int argc, char **argv,
                        int *at)
{
    const char *name = argv[*at] + 2;
    size_t name_len = strcspn(name, "=");
    const struct flag *flag = find(flags, flags_count, name, name_len);
    if (flag == NULL) {
        fprintf(stderr, "unknown option '%s'; --help lists them\n", argv[*at]);
        return ST_INVALID;
    }
    const char *value = name[name_len] == '=' ? name + name_len + 1 : NULL;
    if (flag->kind == FLAG_SWITCH) {
        if (value != NULL) {
            fprintf(stderr, "--%s takes no value\n", flag->name);
            return ST_INVALID;
        }
        *(bool *)flag->value = true;
        return ST_OK;
    }
    if (value == NULL && *at + 1 < argc)
        value = argv[++*at];
    if (value == NULL) {
        fprintf(stderr, "--%s wants a value\n", flag->name);
        return ST_INVALID;
    }
    if (flag->kind == FLAG_NUMBER)
        return set_number(flag, value);
    *(const char **)flag->value = value;
    return ST_OK;
}

enum status flags_parse(const struct flag *flags, size_t flags_count, int argc, char **argv,
                        int *positional_count)
{
    *positional_count = 0;
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] != '-') {
            argv[(*positional_count)++] = argv[i];
            continue;
        }
        enum status st = take(flags, flags_count, argc, argv, &i);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static void print_flags(const struct flag *flags, size_t flags_count, FILE *to)
{
    for (size_t i = 0; i < flags_count; i++) {
        const struct flag *flag = &flags[i];
        char head[64];
        snprintf(head, sizeof(head), "--%s %s", flag->name,
                 flag->argument == NULL ? "" : flag->argument);
        fprintf(to, "  %-22s %s", head, flag->help);
        if (flag->kind == FLAG_NUMBER)
            fprintf(to, " (default %llu)", (unsigned long long)*(uint64_t *)flag->value);
        else if (flag->kind == FLAG_TEXT && *(const char **)flag->value != NULL)
            fprintf(to, " (default %s)", *(const char **)flag->value);
        fputc('\n', to);
    }
}

bool flags_ask_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

bool flags_begin(const struct flags_command *command, int argc, char **argv, int *exit_out)
{
    if (flags_ask_for_help(argc, argv)) {
        fputs(command->usage, stdout);
        print_flags(command->flags, command->flags_count, stdout);
        fputs(command->figures, stdout);
        *exit_out = 0;
        return false;
    }
    int positional = 0;
    if (flags_parse(command->flags, command->flags_count, argc, argv, &positional) == ST_OK &&
        positional == 0)
        return true;
    *exit_out = flags_refuse(command);
    return false;
}

int flags_refuse(const struct flags_command *command)
{
    fputs(command->usage, stderr);
    return 2;
}
