#include "tools/ctl/words.h"

#include "tools/print/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

enum status words_read_line(struct cli *cli, FILE *in, const char **out)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len = getline(&line, &capacity, in);
    enum status st = ST_NOT_FOUND;
    if (len > 0 && line[len - 1] == '\n') {
        const char *first = line;
        while (is_blank(*first))
            first++;
        while (len > 0 && is_blank(line[len - 1]))
            line[--len] = '\0';
        size_t size = strlen(first) + 1;
        void *copy;
        st = arena_take(&cli->arena, size, &copy);
        if (st == ST_OK)
            *out = memcpy(copy, first, size);
    }
    free(line);
    return st;
}

/* ---- Go's quoted strings ---- */

/* The bytes of a character; returns how many. */
static size_t put_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00U >> len & 0xffU) | code);
    return len;
}

static bool take_digits(const char **text, size_t count, uint32_t base, uint32_t *out)
{
    char digits[9] = {0};
    for (size_t i = 0; i < count; i++) {
        char c = (*text)[i];
        bool good = base == 16 ? isxdigit((unsigned char)c) != 0 : c >= '0' && c <= '7';
        if (!good)
            return false;
        digits[i] = c;
    }
    *out = (uint32_t)strtoul(digits, NULL, (int)base);
    *text += count;
    return true;
}

/* One escape, *text behind its backslash; appends what it means to out. */
static bool take_escape(const char **text, char *out, size_t *len)
{
    static const char letters[] = "abfnrtv\\\"";
    static const char meanings[] = "\a\b\f\n\r\t\v\\\"";
    char c = **text;
    const char *found = c == '\0' ? NULL : strchr(letters, c);
    uint32_t code;
    if (found != NULL) {
        (*text)++;
        out[(*len)++] = meanings[found - letters];
        return true;
    }
    if (c == 'x' || (c >= '0' && c <= '7')) { /* a byte */
        *text += c == 'x';
        if (!take_digits(text, c == 'x' ? 2 : 3, c == 'x' ? 16 : 8, &code) || code > 0xff)
            return false;
        out[(*len)++] = (char)code;
        return true;
    }
    if (c != 'u' && c != 'U')
        return false;
    (*text)++;
    if (!take_digits(text, c == 'u' ? 4 : 8, 16, &code) || code > 0x10ffff ||
        (code >= 0xd800 && code < 0xe000))
        return false;
    *len += put_utf8(code, out + *len);
    return true;
}

/* Takes "..." off *text and gives what it means. ST_INVALID: it does not end, or has an escape that
 * is none. */
static enum status take_quoted(struct cli *cli, const char **text, struct slice *out)
{
    char *meaning = arena_alloc_raw(&cli->arena, strlen(*text) + 1);
    if (meaning == NULL)
        return ST_NO_MEMORY;
    size_t len = 0;
    const char *at = *text + 1;
    while (*at != '"') {
        if (*at == '\0')
            return ST_INVALID;
        if (*at != '\\') {
            meaning[len++] = *at++;
            continue;
        }
        at++;
        if (!take_escape(&at, meaning, &len))
            return ST_INVALID;
    }
    meaning[len] = '\0';
    *text = at + 1;
    *out = slice_make(meaning, len);
    return ST_OK;
}

/* ---- words ---- */

/* Where the quoted word that begins at text ends, behind its quote; NULL if it does not. */
static const char *quoted_end(const char *text)
{
    char quote = *text++;
    for (; *text != '\0' && *text != quote; text++) {
        if (quote == '"' && *text == '\\' && text[1] != '\0')
            text++;
    }
    return *text == quote ? text + 1 : NULL;
}

/* Takes the next word off *text. */
static enum status take_word(struct cli *cli, const char **text, char **out)
{
    const char *at = *text;
    if (*at == '"' && quoted_end(at) != NULL) {
        struct slice meaning;
        enum status st = take_quoted(cli, text, &meaning);
        *out = (char *)(uintptr_t)meaning.data;
        return st == ST_OK && memchr(*out, 0, meaning.len) != NULL ? ST_TOO_BIG : st;
    }
    size_t skip = 0, len;
    if (*at == '\'' && quoted_end(at) != NULL) {
        skip = 1;
        len = (size_t)(quoted_end(at) - at) - 2;
        *text = quoted_end(at);
    } else {
        for (len = 0; at[len] != '\0' && !is_blank(at[len]); len++)
            continue;
        *text = at + len;
    }
    *out = arena_alloc(&cli->arena, len + 1);
    if (*out == NULL)
        return ST_NO_MEMORY;
    memcpy(*out, at + skip, len);
    return ST_OK;
}

enum status words_split(struct cli *cli, const char *line, char ***out, uint32_t *count_out,
                        const char **error_out)
{
    char **words = ARENA_ARRAY(&cli->arena, char *, strlen(line) + 1);
    *error_out = "out of memory";
    if (words == NULL)
        return ST_NO_MEMORY;
    uint32_t count = 0;
    while (*line != '\0') {
        bool lone_quote = (*line == '"' || *line == '\'') && quoted_end(line) == NULL;
        if (is_blank(*line) || lone_quote) {
            line++;
            continue;
        }
        enum status st = take_word(cli, &line, &words[count]);
        if (st == ST_INVALID)
            *error_out = "invalid syntax";
        if (st == ST_TOO_BIG)
            *error_out = "a zero byte cannot be part of an argument";
        if (st != ST_OK)
            return st;
        count++;
    }
    *out = words;
    *count_out = count;
    return ST_OK;
}

/* ---- comparisons ---- */

/* "..." or `...`, after blanks. */
static enum status take_any_quoted(struct cli *cli, const char **text, struct slice *out)
{
    while (is_blank(**text))
        (*text)++;
    if (**text == '"')
        return take_quoted(cli, text, out);
    const char *end = **text == '`' ? strchr(*text + 1, '`') : NULL;
    if (end == NULL)
        return ST_INVALID;
    *out = slice_make(*text + 1, (size_t)(end - *text) - 1);
    *text = end + 1;
    return ST_OK;
}

enum status words_read_compare(struct cli *cli, const char *line, struct words_compare *out)
{
    *out = (struct words_compare){0};
    const char *at = strchr(line, '(');
    if (at == NULL)
        return ST_OK;
    out->bracket = true;
    out->target = slice_make(line, (size_t)(at - line));
    at++;
    enum status st = take_any_quoted(cli, &at, &out->key);
    out->found = st == ST_OK;
    if (st != ST_OK || *at != ')' || !is_blank(at[1]))
        return st == ST_NO_MEMORY ? st : ST_OK;
    at++;
    while (is_blank(*at))
        at++;
    const char *operation = at;
    while (*at != '\0' && !is_blank(*at))
        at++;
    out->operation = slice_make(operation, (size_t)(at - operation));
    if (out->operation.len == 0 || !is_blank(*at))
        return ST_OK;
    out->found = 2;
    st = take_any_quoted(cli, &at, &out->value);
    out->found += st == ST_OK;
    return st == ST_NO_MEMORY ? st : ST_OK;
}

static const char *quoted(struct cli *cli, struct slice text)
{
    char *out = arena_alloc_raw(&cli->arena, print_quoted_size(text) + 1);
    if (out == NULL)
        return "";
    print_quoted_write(text, out);
    return out;
}

const char *words_compare_got(struct cli *cli, const struct words_compare *parts)
{
    return cli_format(cli, "; got %.*s(%s) %.*s %s", (int)parts->target.len,
                      (const char *)parts->target.data, quoted(cli, parts->key),
                      (int)parts->operation.len, (const char *)parts->operation.data,
                      quoted(cli, parts->value));
}
