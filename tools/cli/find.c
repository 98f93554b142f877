/* Which command do the words name? As cobra finds it, with names that may be shortened. */
#include "tools/cli/cli_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "tools/print/text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SUGGESTION_DISTANCE_MAX 2U /* edits between what was typed and what is suggested */
#define NAME_BYTES_MAX 64U

const struct cli_command *const *cli_path_commands(const struct cli_program *program,
                                                   const struct cli_path *path)
{
    return path->depth == 0 ? program->commands : cli_path_last(path)->commands;
}

/* A switch takes no value; of a flag that this level does not know, cobra expects one. */
static bool is_switch(const struct cli_flag *flags, const char *name, char letter)
{
    for (const struct cli_flag *flag = flags; flag != NULL && flag->name != NULL; flag++) {
        if (name != NULL ? strcmp(flag->name, name) == 0 : flag->letter == letter)
            return flag->kind == CLI_BOOL;
    }
    return false;
}

static bool takes_next_word(const struct cli_program *program, const struct cli_path *path,
                            const char *word)
{
    if (word[0] != '-' || strchr(word, '=') != NULL)
        return false;
    const struct cli_flag *own = path->depth == 0 ? NULL : cli_path_last(path)->flags;
    if (word[1] == '-')
        return !is_switch(program->flags, word + 2, 0) && !is_switch(own, word + 2, 0);
    return strlen(word) == 2 && !is_switch(program->flags, NULL, word[1]) &&
           !is_switch(own, NULL, word[1]);
}

/* The first of words that is neither a flag nor the value of one; count when there is none. */
static uint32_t first_word(const struct cli_program *program, const struct cli_path *path,
                           uint32_t count, char **words)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(words[i], "--") == 0)
            break;
        if (takes_next_word(program, path, words[i]))
            i++;
        else if (words[i][0] != '-' && words[i][0] != '\0')
            return i;
    }
    return count;
}

/* The member with that name, or the only one whose name begins so. */
static const struct cli_command *match(const struct cli_command *const *commands, const char *word)
{
    const struct cli_command *found = NULL;
    uint32_t found_count = 0;
    for (; commands != NULL && *commands != NULL; commands++) {
        if (strcmp((*commands)->name, word) == 0)
            return *commands;
        if (strncmp((*commands)->name, word, strlen(word)) == 0) {
            found = *commands;
            found_count++;
        }
    }
    return found_count == 1 ? found : NULL;
}

/* Levenshtein's distance, letters in either case alike; "far" for what no command is as long as. */
static uint32_t edit_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len >= NAME_BYTES_MAX || b_len >= NAME_BYTES_MAX)
        return UINT32_MAX;
    uint32_t row[NAME_BYTES_MAX];
    for (uint32_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (uint32_t i = 1; i <= a_len; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= b_len; j++) {
            bool same = strncasecmp(&a[i - 1], &b[j - 1], 1) == 0;
            uint32_t replaced = diagonal + !same;
            diagonal = row[j];
            row[j] = min_u32(replaced, min_u32(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_len];
}

static const char *suggestions(struct cli *cli, const char *word)
{
    const char *text = "";
    for (const struct cli_command *const *c = cli->program->commands; *c != NULL; c++) {
        const char *name = (*c)->name;
        if (!(*c)->hidden && (edit_distance(word, name) <= SUGGESTION_DISTANCE_MAX ||
                              strncasecmp(name, word, strlen(word)) == 0))
            text = cli_format(cli, "%s%s\t%s\n", text,
                              *text == '\0' ? "\n\nDid you mean this?\n" : "", name);
    }
    return text;
}

enum status cli_find(struct cli *cli, uint32_t *count, char **words, struct cli_path *path_out)
{
    *path_out = (struct cli_path){0};
    for (;;) {
        uint32_t at = first_word(cli->program, path_out, *count, words);
        if (at == *count)
            return ST_OK;
        const struct cli_command *next =
            match(cli_path_commands(cli->program, path_out), words[at]);
        if (next == NULL && path_out->depth == 0) {
            char *quoted =
                arena_alloc_raw(&cli->arena, print_quoted_size(slice_from_str(words[at])) + 1);
            if (quoted == NULL)
                return ST_NO_MEMORY;
            print_quoted_write(slice_from_str(words[at]), quoted);
            cli->error = cli_format(cli, "unknown command %s for \"%s\"%s", quoted,
                                    cli->program->name, suggestions(cli, words[at]));
            return ST_NOT_FOUND;
        }
        if (next == NULL)
            return ST_OK;
        ASSERT(path_out->depth < CLI_DEPTH_MAX);
        path_out->steps[path_out->depth++] = next;
        memmove(&words[at], &words[at + 1], (*count - at - 1) * sizeof(*words));
        (*count)--;
    }
}

static int compare_names(const void *a, const void *b)
{
    const struct cli_command *const *first = a, *const *second = b;
    return strcmp((*first)->name, (*second)->name);
}

void cli_walk(const struct cli_program *program, const struct cli_path *from, cli_visit_fn visit,
              void *context)
{
    const struct cli_command *sorted[NAME_BYTES_MAX] = {NULL};
    size_t count = 0;
    const struct cli_command *const *commands = cli_path_commands(program, from);
    for (; commands != NULL && *commands != NULL; commands++) {
        ASSERT(count < NAME_BYTES_MAX);
        sorted[count++] = *commands;
    }
    qsort(sorted, count, sizeof(*sorted), compare_names);
    for (size_t i = 0; i < count; i++) {
        if (sorted[i]->hidden)
            continue;
        struct cli_path path = *from;
        ASSERT(path.depth < CLI_DEPTH_MAX);
        path.steps[path.depth++] = sorted[i];
        visit(context, &path);
        cli_walk(program, &path, visit, context);
    }
}

const char *cli_path_text(const struct cli_path *path, const char *separator, char *out,
                          size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < path->depth; i++) {
        int added =
            snprintf(out + used, size - used, "%s%s", i > 0 ? separator : "", path->steps[i]->name);
        ASSERT(added >= 0 && (size_t)added < size - used); /* names are ours */
        used += (size_t)added;
    }
    return out;
}
