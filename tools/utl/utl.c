#include "tools/utl/utl.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

enum status utl_fail(struct buf *why, enum status st, const char *format, ...)
{
    char text[PATH_MAX + 1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    enum status said = buf_printf(why, "%s", text);
    (void)said; /* the status is what counts */
    return st;
}

int utl_end(struct cli *cli, enum status st, const struct buf *why)
{
    if (st == ST_OK)
        return CLI_EXIT_OK;
    if (why->len == 0)
        return cli_fail(cli, CLI_EXIT_ERROR, "%s", status_str(st));
    return cli_fail(cli, CLI_EXIT_ERROR, "%.*s", (int)why->len, (const char *)why->data);
}

const char *utl_word(struct cli *cli, const char *command)
{
    if (cli->words_count == 1)
        return cli->words[0];
    (void)cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "%s requires exactly one argument", command);
    return NULL;
}
