/* Flags and words as pflag reads them. */
#include "tools/cli/cli_private.h"

#include "tools/print/text.h"

#include <string.h>

/* Where the parser stands in the words. */
struct words {
    char **items;
    uint32_t count, next;
};

static enum status refuse(struct cli *cli, const char *text)
{
    cli->error = text;
    return ST_INVALID;
}

static enum status set_given(struct cli *cli, struct cli_value *value, const char *text)
{
    const char *why;
    enum status st = cli_value_set(cli, value, text, &why);
    value->given = value->given || st == ST_OK;
    if (st != ST_INVALID)
        return st;
    char *quoted = arena_alloc_raw(&cli->arena, print_quoted_size(slice_from_str(text)) + 1);
    if (quoted == NULL)
        return ST_NO_MEMORY;
    print_quoted_write(slice_from_str(text), quoted);
    const struct cli_flag *flag = value->flag;
    if (flag->letter != 0)
        return refuse(cli, cli_format(cli, "invalid argument %s for \"-%c, --%s\" flag: %s", quoted,
                                      flag->letter, flag->name, why));
    return refuse(
        cli, cli_format(cli, "invalid argument %s for \"--%s\" flag: %s", quoted, flag->name, why));
}

static enum status parse_long(struct cli *cli, struct words *words, const char *word)
{
    const char *name = word + 2;
    if (*name == '-' || *name == '=')
        return refuse(cli, cli_format(cli, "bad flag syntax: %s", word));
    size_t len = strcspn(name, "=");
    struct cli_value *value = cli_value_find(cli, name, len);
    if (value == NULL)
        return refuse(cli, cli_format(cli, "unknown flag: --%.*s", (int)len, name));
    if (name[len] == '=')
        return set_given(cli, value, name + len + 1);
    if (value->flag->kind == CLI_BOOL)
        return set_given(cli, value, "true");
    if (words->next == words->count)
        return refuse(cli, cli_format(cli, "flag needs an argument: %s", word));
    return set_given(cli, value, words->items[words->next++]);
}

static struct cli_value *find_letter(const struct cli *cli, char letter)
{
    for (uint32_t i = 0; i < cli->values_count; i++) {
        if (cli->values[i].flag->letter == letter)
            return &cli->values[i];
    }
    return NULL;
}

/* "-w json", "-wjson", "-w=json", and "-ab" for two switches. */
static enum status parse_letters(struct cli *cli, struct words *words, const char *letters)
{
    for (; *letters != '\0'; letters++) {
        struct cli_value *value = find_letter(cli, *letters);
        if (value == NULL)
            return refuse(
                cli, cli_format(cli, "unknown shorthand flag: '%c' in -%s", *letters, letters));
        if (letters[1] == '=' && letters[2] != '\0')
            return set_given(cli, value, letters + 2);
        if (value->flag->kind != CLI_BOOL && letters[1] != '\0')
            return set_given(cli, value, letters + 1);
        if (value->flag->kind != CLI_BOOL && words->next == words->count)
            return refuse(
                cli, cli_format(cli, "flag needs an argument: '%c' in -%s", *letters, letters));
        if (value->flag->kind != CLI_BOOL)
            return set_given(cli, value, words->items[words->next++]);
        enum status st = set_given(cli, value, "true");
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status cli_parse(struct cli *cli, uint32_t count, char **words)
{
    cli->words = ARENA_ARRAY(&cli->arena, char *, count + 1);
    if (cli->words == NULL)
        return ST_NO_MEMORY;
    struct words left = {.items = words, .count = count};
    enum status st = ST_OK;
    while (st == ST_OK && left.next < left.count) {
        char *word = left.items[left.next++];
        if (!cli->dashes && strcmp(word, "--") == 0) {
            cli->dashes = true;
            cli->words_before_dashes = cli->words_count;
        } else if (cli->dashes || word[0] != '-' || word[1] == '\0') {
            cli->words[cli->words_count++] = word;
        } else if (word[1] == '-') {
            st = parse_long(cli, &left, word);
        } else {
            st = parse_letters(cli, &left, word + 1);
        }
    }
    if (!cli->dashes)
        cli->words_before_dashes = cli->words_count;
    return st;
}

enum status cli_read(const struct cli_command *command, uint32_t count, char **words,
                     struct cli *out)
{
    *out = (struct cli){.command = command, .error = "out of memory"};
    arena_init(&out->arena, CLI_ARENA_BYTES_MAX);
    enum status st = cli_values_init(out, (const struct cli_flag *[3]){command->flags, NULL, NULL});
    if (st == ST_OK)
        st = cli_parse(out, count, words);
    return st;
}

void cli_deinit(struct cli *cli)
{
    arena_deinit(&cli->arena);
}
