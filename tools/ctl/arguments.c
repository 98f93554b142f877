/* What commands read besides flags: ids, ranges, passwords. */
#include "tools/ctl/ctl.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>

enum status ctl_prefix_end(struct cli *cli, ProtobufCBinaryData prefix, ProtobufCBinaryData *out)
{
    uint8_t *end = arena_alloc(&cli->arena, prefix.len + 1);
    if (end == NULL)
        return ST_NO_MEMORY;
    size_t len = prefix.len;
    if (len > 0)
        memcpy(end, prefix.data, len);
    while (len > 0 && end[len - 1] == 0xff)
        len--;
    if (len > 0)
        end[len - 1]++;
    else
        end[len++] = 0;
    *out = (ProtobufCBinaryData){.len = len, .data = end};
    return ST_OK;
}

int ctl_lease_argument(struct cli *cli, const char *text, int64_t *out)
{
    const char *error;
    if (cli_parse_int(cli, text, 16, out, &error) == ST_OK)
        return CLI_EXIT_OK;
    return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "bad lease ID arg (%s), expecting ID in Hex",
                    error);
}

int ctl_member_argument(struct cli *cli, const char *text, uint64_t *out)
{
    const char *error;
    if (cli_parse_uint(cli, text, 16, out, &error) == ST_OK)
        return CLI_EXIT_OK;
    return cli_fail(cli, CLI_EXIT_BAD_ARGUMENTS, "bad member ID arg (%s), expecting ID in Hex",
                    error);
}

/* Byte by byte, so that what follows the line stays for whoever reads next. */
static enum status read_line(struct cli *cli, const char **out)
{
    size_t capacity = 64, len = 0;
    char *line = arena_alloc_raw(&cli->arena, capacity);
    char c;
    while (line != NULL && read(STDIN_FILENO, &c, 1) == 1 && c != '\n') {
        if (len + 1 == capacity) {
            char *grown = arena_alloc_raw(&cli->arena, capacity * 2);
            if (grown != NULL)
                memcpy(grown, line, len);
            line = grown;
            capacity *= 2;
        }
        if (line != NULL)
            line[len++] = c;
    }
    if (line == NULL)
        return ST_NO_MEMORY;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    line[len] = '\0';
    *out = line;
    return ST_OK;
}

enum status ctl_ask_password(struct cli *cli, const char *prompt, const char **out)
{
    fputs(prompt, cli->out);
    fflush(cli->out);
    struct termios before, silent;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    enum status st = read_line(cli, out);
    if (terminal)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', cli->out);
    return st;
}
