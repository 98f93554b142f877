#include "server/gateway/json_scan.h"

#include "base/assert.h"

#include <ctype.h>
#include <stdio.h>

struct scan {
    const uint8_t *at, *end;
    uint32_t depth;
    uint8_t is_object[JSON_DEPTH_MAX / 8 + 1]; /* a bit for each open object or array */
    struct json_error *error;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static void skip_space(struct scan *scan)
{
    while (scan->at < scan->end && is_space(*scan->at))
        scan->at++;
}

/* ---- what is wrong ---- */

/* As Go quotes one character: 'x', '\n', '\x01', 'ÿ'. */
static void quote(uint8_t c, char out[16])
{
    if (c == '\'' || c == '\\')
        snprintf(out, 16, "'\\%c'", c);
    else if (c >= '\a' && c <= '\r')
        snprintf(out, 16, "'\\%c'", "abtnvfr"[c - '\a']);
    else if (c < ' ' || c == 0x7f)
        snprintf(out, 16, "'\\x%02x'", c);
    else if (c < 0x80)
        snprintf(out, 16, "'%c'", c);
    else if (c <= 0xa0 || c == 0xad)
        snprintf(out, 16, "'\\u%04x'", c);
    else
        snprintf(out, 16, "'%c%c'", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
}

static enum status wrong(struct scan *scan, const char *where)
{
    char quoted[16];
    quote(*scan->at, quoted);
    snprintf(scan->error->text, sizeof(scan->error->text), "invalid character %s %s", quoted,
             where);
    return ST_INVALID;
}

static enum status ended_early(struct scan *scan)
{
    snprintf(scan->error->text, sizeof(scan->error->text), "unexpected EOF");
    return ST_TRUNCATED;
}

/* ---- simple values ---- */

static enum status scan_escape(struct scan *scan)
{
    scan->at++;
    if (scan->at == scan->end)
        return ended_early(scan);
    if (strchr("bfnrt\\/\"u", *scan->at) == NULL || *scan->at == '\0')
        return wrong(scan, "in string escape code");
    if (*scan->at++ != 'u')
        return ST_OK;
    for (uint32_t i = 0; i < 4; i++, scan->at++) {
        if (scan->at == scan->end)
            return ended_early(scan);
        if (!isxdigit(*scan->at))
            return wrong(scan, "in \\u hexadecimal character escape");
    }
    return ST_OK;
}

static enum status scan_string(struct scan *scan)
{
    scan->at++;
    while (scan->at < scan->end) {
        if (*scan->at == '"') {
            scan->at++;
            return ST_OK;
        }
        if (*scan->at < ' ')
            return wrong(scan, "in string literal");
        if (*scan->at != '\\') {
            scan->at++;
            continue;
        }
        enum status st = scan_escape(scan);
        if (st != ST_OK)
            return st;
    }
    return ended_early(scan);
}

/* At least one digit, then as many as there are. */
static enum status scan_digits(struct scan *scan, const char *where)
{
    if (scan->at == scan->end)
        return ended_early(scan);
    if (!is_digit(*scan->at))
        return wrong(scan, where);
    while (scan->at < scan->end && is_digit(*scan->at))
        scan->at++;
    return ST_OK;
}

static bool is_next(const struct scan *scan, char a, char b)
{
    return scan->at < scan->end && (*scan->at == a || *scan->at == b);
}

static enum status scan_number(struct scan *scan)
{
    if (*scan->at == '-')
        scan->at++;
    enum status st = ST_OK;
    if (is_next(scan, '0', '0'))
        scan->at++; /* nothing but the number's end, a point or an exponent may follow */
    else
        st = scan_digits(scan, "in numeric literal");
    if (st == ST_OK && is_next(scan, '.', '.')) {
        scan->at++;
        st = scan_digits(scan, "after decimal point in numeric literal");
    }
    if (st == ST_OK && is_next(scan, 'e', 'E')) {
        scan->at++;
        if (is_next(scan, '+', '-'))
            scan->at++;
        st = scan_digits(scan, "in exponent of numeric literal");
    }
    return st;
}

static enum status scan_word(struct scan *scan, const char *word)
{
    for (const char *c = word + 1; *c != '\0'; c++) {
        scan->at++;
        if (scan->at == scan->end)
            return ended_early(scan);
        if (*scan->at == (uint8_t)*c)
            continue;
        char where[48];
        snprintf(where, sizeof(where), "in literal %s (expecting '%c')", word, *c);
        return wrong(scan, where);
    }
    scan->at++;
    return ST_OK;
}

static enum status scan_simple(struct scan *scan)
{
    switch (*scan->at) {
    case '"':
        return scan_string(scan);
    case 't':
        return scan_word(scan, "true");
    case 'f':
        return scan_word(scan, "false");
    case 'n':
        return scan_word(scan, "null");
    default:
        if (*scan->at == '-' || is_digit(*scan->at))
            return scan_number(scan);
        return wrong(scan, "looking for beginning of value");
    }
}

/* ---- objects and arrays ---- */

static bool in_object(const struct scan *scan)
{
    uint32_t top = scan->depth - 1;
    return (scan->is_object[top / 8] & 1U << top % 8) != 0;
}

static enum status open_nested(struct scan *scan)
{
    if (scan->depth == JSON_DEPTH_MAX)
        return wrong(scan, "exceeded max depth");
    uint8_t bit = (uint8_t)(1U << scan->depth % 8);
    if (*scan->at == '{')
        scan->is_object[scan->depth / 8] |= bit;
    else
        scan->is_object[scan->depth / 8] &= (uint8_t)~bit;
    scan->depth++;
    scan->at++;
    return ST_OK;
}

/* A member's name and the colon; the text stands before the value. */
static enum status scan_key(struct scan *scan)
{
    skip_space(scan);
    if (scan->at == scan->end)
        return ended_early(scan);
    if (*scan->at != '"')
        return wrong(scan, "looking for beginning of object key string");
    enum status st = scan_string(scan);
    if (st != ST_OK)
        return st;
    skip_space(scan);
    if (scan->at == scan->end)
        return ended_early(scan);
    if (*scan->at != ':')
        return wrong(scan, "after object key");
    scan->at++;
    return ST_OK;
}

/* After a value: closes what ends here. True: another value comes (or st is an error). */
static bool another_follows(struct scan *scan, enum status *st)
{
    while (scan->depth > 0) {
        skip_space(scan);
        if (scan->at == scan->end) {
            *st = ended_early(scan);
            return true;
        }
        bool is_object = in_object(scan);
        if (*scan->at == ',') {
            scan->at++;
            *st = is_object ? scan_key(scan) : ST_OK;
            return true;
        }
        if (*scan->at != (is_object ? '}' : ']')) {
            *st = wrong(scan, is_object ? "after object key:value pair" : "after array element");
            return true;
        }
        scan->at++;
        scan->depth--;
    }
    return false;
}

/* Opens '{' or '['. *is_empty_out: it was closed at once, and is a value that has ended. */
static enum status scan_opening(struct scan *scan, bool *is_empty_out)
{
    bool is_object = *scan->at == '{';
    enum status st = open_nested(scan);
    if (st != ST_OK)
        return st;
    skip_space(scan);
    *is_empty_out = is_next(scan, is_object ? '}' : ']', is_object ? '}' : ']');
    if (*is_empty_out) {
        scan->at++;
        scan->depth--;
        return ST_OK;
    }
    return is_object ? scan_key(scan) : ST_OK;
}

static enum status scan_value(struct scan *scan)
{
    enum status st = ST_OK;
    do {
        skip_space(scan);
        if (scan->at == scan->end)
            return ended_early(scan);
        bool has_ended = true;
        if (*scan->at == '{' || *scan->at == '[')
            st = scan_opening(scan, &has_ended);
        else
            st = scan_simple(scan);
        if (st == ST_OK && !has_ended)
            continue;
        if (st == ST_OK && !another_follows(scan, &st))
            return ST_OK;
    } while (st == ST_OK);
    return st;
}

static enum status scan_first(struct scan *scan, struct slice in, struct json_error *error,
                              struct slice *value_out)
{
    scan->at = in.data;
    scan->end = in.len == 0 ? in.data : in.data + in.len;
    scan->depth = 0;
    scan->error = error;
    error->text[0] = '\0';
    skip_space(scan);
    if (scan->at == scan->end)
        return ST_NOT_FOUND;
    const uint8_t *begin = scan->at;
    enum status st = scan_value(scan);
    *value_out = slice_make(begin, (size_t)(scan->at - begin));
    return st;
}

enum status json_scan_next(struct slice in, struct slice *value_out, size_t *size_out,
                           struct json_error *error)
{
    struct scan scan;
    enum status st = scan_first(&scan, in, error, value_out);
    if (st == ST_OK)
        *size_out = (size_t)(scan.at - in.data);
    return st == ST_TRUNCATED ? ST_INVALID : st;
}

enum status json_scan_whole(struct slice in, struct slice *value_out, struct json_error *error)
{
    struct scan scan;
    enum status st = scan_first(&scan, in, error, value_out);
    if (st == ST_NOT_FOUND || st == ST_TRUNCATED) {
        snprintf(error->text, sizeof(error->text), "unexpected end of JSON input");
        return ST_INVALID;
    }
    if (st != ST_OK)
        return st;
    skip_space(&scan);
    return scan.at == scan.end ? ST_OK : wrong(&scan, "after top-level value");
}

/* ---- within a value that was checked ---- */

static struct slice trim_left(struct slice s)
{
    while (s.len > 0 && is_space(s.data[0]))
        s = slice_make(s.data + 1, s.len - 1);
    return s;
}

static size_t string_size(struct slice s)
{
    size_t at = 1;
    while (s.data[at] != '"')
        at += s.data[at] == '\\' ? 2 : 1;
    return at + 1;
}

/* Bytes of the value at the front of s. */
static size_t value_size(struct slice s)
{
    size_t at = 0;
    uint32_t depth = 0;
    do {
        uint8_t c = s.data[at];
        if (c == '"') {
            at += string_size(slice_make(s.data + at, s.len - at));
            continue;
        }
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        at++;
        if (depth > 0 || c == '}' || c == ']')
            continue;
        while (at < s.len && strchr(",]} \t\r\n", s.data[at]) == NULL) /* a number or a word */
            at++;
    } while (depth > 0);
    return at;
}

static struct slice take(struct slice *s, size_t size)
{
    ASSERT(size <= s->len);
    struct slice taken = slice_make(s->data, size);
    *s = trim_left(slice_make(s->data + size, s->len - size));
    return taken;
}

struct json_iterator json_iterate(struct slice value)
{
    return (struct json_iterator){.is_object = value.data[0] == '{',
                                  .rest = trim_left(slice_make(value.data + 1, value.len - 2))};
}

bool json_iterate_next(struct json_iterator *it)
{
    if (it->rest.len == 0)
        return false;
    if (it->is_object) {
        it->key = take(&it->rest, string_size(it->rest));
        (void)take(&it->rest, 1); /* the colon */
    }
    it->value = take(&it->rest, value_size(it->rest));
    if (it->rest.len > 0)
        (void)take(&it->rest, 1); /* the comma */
    return true;
}

const char *json_kind(struct slice value)
{
    switch (value.data[0]) {
    case '{':
        return "object";
    case '[':
        return "array";
    case '"':
        return "string";
    case 't':
    case 'f':
        return "bool";
    case 'n':
        return "null";
    default:
        return "number";
    }
}
