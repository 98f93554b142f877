/* Any line that somebody pipes into txn: read as words and as a comparison, no bytes out of bounds.
 */
#include "tools/ctl/words.h"

#include <stdlib.h>

#define ARENA_BYTES_MAX (16U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_line(struct cli *cli, const char *line)
{
    char **words;
    uint32_t count;
    const char *error = NULL;
    if (words_split(cli, line, &words, &count, &error) == ST_OK) {
        size_t total = 0;
        for (uint32_t i = 0; i < count; i++)
            total += strlen(words[i]);
        if (total > strlen(line)) /* quotes and escapes only ever shorten */
            abort();
    } else if (error == NULL) {
        abort();
    }
    struct words_compare parts;
    if (words_read_compare(cli, line, &parts) == ST_OK && parts.bracket)
        (void)words_compare_got(cli, &parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cli cli = {0};
    arena_init(&cli.arena, ARENA_BYTES_MAX);
    FILE *in = size == 0 ? NULL : fmemopen((void *)(uintptr_t)data, size, "r");
    const char *line;
    while (in != NULL && words_read_line(&cli, in, &line) == ST_OK)
        try_line(&cli, line);
    if (in != NULL)
        fclose(in);
    cli_deinit(&cli);
    return 0;
}
