#include "tools/print/text.h"

#include <inttypes.h>

size_t print_utf8_decode(struct slice s, uint32_t *code_out)
{
    uint8_t first = s.data[0];
    *code_out = UINT32_MAX;
    if (first < 0x80) {
        *code_out = first;
        return 1;
    }
    size_t len = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
    if (len == 0 || first >= 0xf5 || s.len < len)
        return 1;
    uint32_t code = first & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 1;
        code = code << 6 | (s.data[i] & 0x3fU);
    }
    bool overlong = (len == 3 && code < 0x800) || (len == 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 1;
    *code_out = code;
    return len;
}

/* Characters beyond ASCII that Go does not print: controls, spaces, format characters, private use
 * and what is no character. Code points that Unicode has not assigned yet are taken as printable,
 * which Go's own table also changes its mind about with every version. */
static bool is_printable(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } not [] = {
        {0x00, 0x1f},       {0x7f, 0xa0},       {0xad, 0xad},        {0x600, 0x605},
        {0x61c, 0x61c},     {0x6dd, 0x6dd},     {0x70f, 0x70f},      {0x890, 0x891},
        {0x8e2, 0x8e2},     {0x1680, 0x1680},   {0x180e, 0x180e},    {0x2000, 0x200f},
        {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},    {0xd800, 0xf8ff},
        {0xfdd0, 0xfdef},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},    {0xfffe, 0xffff},
        {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f},  {0x1bca0, 0x1bca3},
        {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff}, {0xe01f0, 0x10ffff},
    };
    for (size_t i = 0; i < sizeof(not ) / sizeof(not [0]); i++) {
        if (code >= not [i].first && code <= not [i].last)
            return false;
    }
    return (code & 0xfffe) != 0xfffe;
}

#define ESCAPE_BYTES_MAX 12 /* \U0010ffff and a NUL */

/* The text of one character in quotes. */
static size_t escape(uint32_t code, struct slice bytes, char out[ESCAPE_BYTES_MAX])
{
    static const char letters[] = "abtnvfr"; /* 7 to 13 */
    int size;
    if (code == UINT32_MAX)
        size = snprintf(out, ESCAPE_BYTES_MAX, "\\x%02x", bytes.data[0]);
    else if (code == '"' || code == '\\')
        size = snprintf(out, ESCAPE_BYTES_MAX, "\\%c", (char)code);
    else if (code >= 7 && code <= 13)
        size = snprintf(out, ESCAPE_BYTES_MAX, "\\%c", letters[code - 7]);
    else if (is_printable(code))
        size = snprintf(out, ESCAPE_BYTES_MAX, "%.*s", (int)bytes.len, (const char *)bytes.data);
    else if (code < 0x20 || code == 0x7f)
        size = snprintf(out, ESCAPE_BYTES_MAX, "\\x%02x", (unsigned)code);
    else
        size =
            snprintf(out, ESCAPE_BYTES_MAX, code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
    return (size_t)size;
}

/* Hands the quoted text of s piece by piece to out, or only counts it. */
static size_t quote(struct slice s, char *out)
{
    size_t used = 1;
    if (out != NULL)
        out[0] = '"';
    while (s.len > 0) {
        uint32_t code;
        size_t len = print_utf8_decode(s, &code);
        char text[ESCAPE_BYTES_MAX] = "";
        size_t size = escape(code, slice_make(s.data, len), text);
        if (out != NULL)
            memcpy(out + used, text, size);
        used += size;
        s = slice_make(s.data + len, s.len - len);
    }
    if (out != NULL) {
        out[used] = '"';
        out[used + 1] = '\0';
    }
    return used + 1;
}

size_t print_quoted_size(struct slice s)
{
    return quote(s, NULL);
}

void print_quoted_write(struct slice s, char *out)
{
    quote(s, out);
}

/* How many bytes at the front mean themselves. */
static size_t plain_size(struct slice s)
{
    size_t len = 0;
    while (len < s.len && s.data[len] >= ' ' && s.data[len] < 0x7f && s.data[len] != '"' &&
           s.data[len] != '\\')
        len++;
    return len;
}

void print_quoted(FILE *out, struct slice s)
{
    fputc('"', out);
    while (s.len > 0) {
        size_t plain = plain_size(s);
        print_slice(out, slice_make(s.data, plain));
        s = slice_make(s.data + plain, s.len - plain);
        if (s.len == 0)
            break;
        uint32_t code;
        size_t len = print_utf8_decode(s, &code);
        char text[ESCAPE_BYTES_MAX] = "";
        fwrite(text, 1, escape(code, slice_make(s.data, len), text), out);
        s = slice_make(s.data + len, s.len - len);
    }
    fputc('"', out);
}

void print_escaped(FILE *out, struct slice s)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < s.len; i++) {
        char text[4] = {'\\', 'x', digits[s.data[i] >> 4], digits[s.data[i] & 15]};
        fwrite(text, 1, sizeof(text), out);
    }
}

void print_slice(FILE *out, struct slice s)
{
    if (s.len > 0)
        fwrite(s.data, 1, s.len, out);
}

const char *print_size(uint64_t bytes, char out[PRINT_SIZE_TEXT_MAX])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (bytes < 10) {
        snprintf(out, PRINT_SIZE_TEXT_MAX, "%" PRIu64 " B", bytes);
        return out;
    }
    size_t unit = 0;
    uint64_t scale = 1;
    while (bytes / scale >= 1000) {
        scale *= 1000;
        unit++;
    }
    /* In tenths, halves rounded up. From ten on the decimal is dropped by rounding half to even, as
     * printf does, which is why 999.5 kB reads "1000 kB". */
    uint64_t tenths = (uint64_t)(((__uint128_t)bytes * 10 + scale / 2) / scale);
    if (tenths < 100)
        snprintf(out, PRINT_SIZE_TEXT_MAX, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10,
                 units[unit]);
    else
        snprintf(out, PRINT_SIZE_TEXT_MAX, "%.0f %s", (double)tenths / 10, units[unit]);
    return out;
}

void print_field_u64(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, "\"%s\" : %" PRIu64 "\n", name, value);
}

void print_field_i64(FILE *out, const char *name, int64_t value)
{
    fprintf(out, "\"%s\" : %" PRId64 "\n", name, value);
}

void print_field_bool(FILE *out, const char *name, bool value)
{
    print_field_bare(out, name, value ? "true" : "false");
}

void print_field_quoted(FILE *out, const char *name, struct slice value)
{
    fprintf(out, "\"%s\" : ", name);
    print_quoted(out, value);
    fputc('\n', out);
}

void print_field_bare(FILE *out, const char *name, const char *value)
{
    fprintf(out, "\"%s\" : %s\n", name, value);
}
