#include "server/gateway/json_text.h"

#include "base/base64.h"

#include <stdbool.h>
#include <stdio.h>

#define REPLACEMENT 0xfffdU

/* ---- UTF-8 ---- */

/* Bytes of the character at the front of s, and which it is; 0: there is none. */
static size_t utf8_take(struct slice s, uint32_t *out)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = s.data[0];
    size_t size = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size == 0 || size > s.len || first > 0xf7)
        return 0;
    uint32_t c = size == 1 ? first : first & (0x7fU >> size);
    for (size_t i = 1; i < size; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s.data[i] & 0x3f);
    }
    if (c < least[size] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *out = c;
    return size;
}

static enum status utf8_put(uint32_t c, struct buf *out)
{
    uint8_t bytes[4];
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; c >>= 6)
        bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
    bytes[0] = (uint8_t)(size == 1 ? c : (0xf00U >> size & 0xff) | c);
    return buf_append(out, slice_make(bytes, size));
}

/* ---- reading ---- */

static uint32_t hex4(const uint8_t *at)
{
    uint32_t c = 0;
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t digit = at[i];
        c = c << 4 | (uint32_t)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    return c;
}

/* An escape at the front of s, which is checked. Returns its bytes. */
static size_t take_escape(struct slice s, uint32_t *out)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *found = strchr(from, s.data[1]);
    *out = found != NULL ? (uint8_t)to[found - from] : s.data[1];
    if (s.data[1] != 'u')
        return 2;
    *out = hex4(s.data + 2);
    if (*out < 0xd800 || *out >= 0xe000)
        return 6;
    if (*out < 0xdc00 && s.len >= 12 && s.data[6] == '\\' && s.data[7] == 'u') {
        uint32_t low = hex4(s.data + 8);
        if (low >= 0xdc00 && low < 0xe000) {
            *out = 0x10000 + ((*out - 0xd800) << 10 | (low - 0xdc00));
            return 12;
        }
    }
    *out = REPLACEMENT;
    return 6;
}

/* Bytes at the front of s that stand for themselves. */
static size_t plain_size(struct slice s)
{
    size_t size = 0;
    while (size < s.len && s.data[size] < 0x80 && s.data[size] != '\\')
        size++;
    return size;
}

enum status json_unquote(struct slice string, struct buf *out)
{
    struct slice rest = slice_make(string.data + 1, string.len - 2);
    enum status st = ST_OK;
    while (st == ST_OK && rest.len > 0) {
        size_t size = plain_size(rest);
        if (size > 0) {
            st = buf_append(out, slice_make(rest.data, size));
        } else {
            uint32_t c = REPLACEMENT;
            size = rest.data[0] == '\\' ? take_escape(rest, &c) : utf8_take(rest, &c);
            st = utf8_put(c, out);
            size = size == 0 ? 1 : size;
        }
        rest = slice_make(rest.data + size, rest.len - size);
    }
    return st;
}

/* ---- writing ---- */

/* What is not written as it is: Go escapes what would be markup, too. */
static bool is_escaped(uint8_t c)
{
    return c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&';
}

static enum status put_escaped(uint32_t c, struct buf *out)
{
    static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
    const char *found = c != 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (found != NULL)
        return buf_printf(out, "\\%c", to[found - from]);
    return buf_printf(out, "\\u%04x", c);
}

enum status json_quote(struct slice text, struct buf *out)
{
    enum status st = buf_append(out, SLICE("\""));
    while (st == ST_OK && text.len > 0) {
        size_t size = 0;
        while (size < text.len && text.data[size] < 0x80 && !is_escaped(text.data[size]))
            size++;
        if (size > 0) {
            st = buf_append(out, slice_make(text.data, size));
        } else {
            uint32_t c = REPLACEMENT;
            size = utf8_take(text, &c);
            bool as_it_is = size > 1 && c != 0x2028 && c != 0x2029; /* line ends in JavaScript */
            st = as_it_is ? buf_append(out, slice_make(text.data, size)) : put_escaped(c, out);
            size = size == 0 ? 1 : size;
        }
        text = slice_make(text.data + size, text.len - size);
    }
    return st == ST_OK ? buf_append(out, SLICE("\"")) : st;
}

/* ---- base64 ---- */

enum status json_put_base64(struct slice bytes, struct buf *out)
{
    uint8_t *room;
    enum status st = buf_extend(out, base64_encoded_size(BASE64_STANDARD, bytes.len), &room);
    if (st == ST_OK)
        base64_encode(BASE64_STANDARD, bytes, room);
    return st;
}

static int digit_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static size_t skip_line_ends(struct slice text, size_t at)
{
    while (at < text.len && (text.data[at] == '\n' || text.data[at] == '\r'))
        at++;
    return at;
}

/* What may follow count digits of a group when padding begins at `at`. Gives where the fault is;
 * SIZE_MAX: all is well. */
static size_t padding_fault(struct slice text, size_t at, uint32_t count)
{
    if (count < 2)
        return at;
    size_t next = skip_line_ends(text, at + 1);
    if (count == 2) {
        if (next == text.len)
            return next;
        if (text.data[next] != '=')
            return next - 1;
        next = skip_line_ends(text, next + 1);
    }
    return next == text.len ? SIZE_MAX : next;
}

/* One group of up to four digits at *at; *bits_out holds 6 for each. Errors: ST_INVALID with *at at
 * the fault. */
static enum status take_group(struct slice text, size_t *at, uint32_t *bits_out,
                              uint32_t *count_out)
{
    uint32_t bits = 0, count = 0;
    size_t i = *at;
    while (count < 4) {
        i = skip_line_ends(text, i);
        if (i == text.len && count == 0)
            break;
        int digit = i == text.len ? -1 : digit_of(text.data[i]);
        if (digit >= 0) {
            bits = bits << 6 | (uint32_t)digit;
            count++;
            i++;
            continue;
        }
        if (i == text.len)
            *at = i - count;
        else if (text.data[i] != '=')
            *at = i;
        else if ((*at = padding_fault(text, i, count)) == SIZE_MAX)
            break;
        return ST_INVALID;
    }
    if (count == 4 || i == text.len)
        *at = i;
    *bits_out = bits << (4 - count) * 6;
    *count_out = count;
    return ST_OK;
}

enum status json_decode_base64(struct slice text, struct buf *out, size_t *at_out)
{
    size_t at = 0;
    enum status st = ST_OK;
    while (st == ST_OK && at < text.len) {
        uint32_t bits, count;
        st = take_group(text, &at, &bits, &count);
        *at_out = at;
        if (st != ST_OK || count == 0)
            break;
        uint8_t bytes[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        st = buf_append(out, slice_make(bytes, count - 1));
    }
    return st;
}
