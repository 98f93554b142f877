#include "server/state/json_reader.h"

#include "base/assert.h"
#include "server/state/limits.h"

#include <strings.h>

#define JSON_DEPTH_MAX 16 /* of values that are passed over */

static void skip_space(struct json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

/* The next character that is not space, or 0 at the end. */
uint8_t json_peek(struct json_reader *r)
{
    skip_space(r);
    return r->at < r->end ? *r->at : 0;
}

bool json_take(struct json_reader *r, uint8_t c)
{
    if (json_peek(r) != c)
        return false;
    r->at++;
    return true;
}

bool json_take_word(struct json_reader *r, const char *word)
{
    size_t len = strlen(word);
    skip_space(r);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

enum status json_read_u64(struct json_reader *r, uint64_t *out)
{
    uint64_t value = 0;
    uint8_t c = json_peek(r);
    if (c < '0' || c > '9')
        return ST_INVALID;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*r->at - '0'), &value))
            return ST_INVALID;
    }
    *out = value;
    return ST_OK;
}

enum status json_read_i64(struct json_reader *r, int64_t *out)
{
    uint64_t value;
    bool negative = json_take(r, '-');
    enum status st = json_read_u64(r, &value);
    if (st != ST_OK || value > (uint64_t)INT64_MAX)
        return ST_INVALID;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return ST_OK;
}

static enum status read_hex4(struct json_reader *r, uint32_t *out)
{
    uint32_t value = 0;
    if (r->end - r->at < 4)
        return ST_INVALID;
    for (int i = 0; i < 4; i++, r->at++) {
        uint8_t c = *r->at;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return ST_INVALID;
        value = value << 4 | digit;
    }
    *out = value;
    return ST_OK;
}

static size_t put_utf8(uint8_t *p, uint32_t c)
{
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    p[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* After "\u": one UTF-16 unit, or two that make a pair; a lone half becomes U+FFFD as in Go. */
static enum status read_unicode(struct json_reader *r, uint32_t *out)
{
    enum status st = read_hex4(r, out);
    if (st != ST_OK || *out < 0xd800 || *out > 0xdfff)
        return st;
    uint32_t high = *out, low;
    *out = 0xfffd;
    if (high > 0xdbff || r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
        return ST_OK;
    struct json_reader ahead = *r;
    ahead.at += 2;
    if (read_hex4(&ahead, &low) == ST_OK && low >= 0xdc00 && low <= 0xdfff) {
        *out = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
        r->at = ahead.at;
    }
    return ST_OK;
}

static enum status read_escape(struct json_reader *r, uint8_t *p, size_t *len)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return ST_INVALID;
    uint8_t c = *r->at++;
    if (c == 'u') {
        uint32_t unit;
        enum status st = read_unicode(r, &unit);
        if (st == ST_OK)
            *len += put_utf8(p + *len, unit);
        return st;
    }
    const char *name = c == 0 ? NULL : strchr(names, c);
    if (name == NULL)
        return ST_INVALID;
    p[(*len)++] = (uint8_t)values[name - names];
    return ST_OK;
}

enum status json_read_string(struct json_reader *r, struct slice *out)
{
    if (!json_take(r, '"'))
        return ST_INVALID;
    const uint8_t *close = memchr(r->at, '"', (size_t)(r->end - r->at));
    while (close != NULL && close[-1] == '\\') /* may be too far: only the room is taken from it */
        close = memchr(close + 1, '"', (size_t)(r->end - close - 1));
    size_t room = (size_t)((close == NULL ? r->end : close) - r->at);
    if (room > MEMBER_TEXT_MAX * 6) /* an escape is at most six bytes for one */
        return ST_TOO_BIG;
    void *taken;
    enum status taken_st = arena_take(r->arena, room + 1, &taken);
    if (taken_st != ST_OK)
        return taken_st;
    uint8_t *p = taken;
    size_t len = 0;
    while (r->at < r->end && *r->at != '"') {
        uint8_t c = *r->at++;
        if (c < 0x20)
            return ST_INVALID;
        if (c != '\\') {
            p[len++] = c;
            continue;
        }
        enum status st = read_escape(r, p, &len);
        if (st != ST_OK)
            return st;
    }
    ASSERT(len <= room);
    *out = slice_make(p, len);
    return !json_take(r, '"') ? ST_INVALID : len > MEMBER_TEXT_MAX ? ST_TOO_BIG : ST_OK;
}

enum status json_read_bool(struct json_reader *r, bool *out)
{
    if (json_take_word(r, "true"))
        *out = true;
    else if (json_take_word(r, "false"))
        *out = false;
    else if (!json_take_word(r, "null"))
        return ST_INVALID;
    return ST_OK;
}

static enum status skip_value(struct json_reader *r, int depth);

/* Elements of an array, or members of an object, up to the closing bracket. */
static enum status skip_elements(struct json_reader *r, uint8_t close, int depth)
{
    for (bool first = true; !json_take(r, close); first = false) {
        struct slice key;
        if (!first && !json_take(r, ','))
            return ST_INVALID;
        if (close == '}' && (json_read_string(r, &key) != ST_OK || !json_take(r, ':')))
            return ST_INVALID;
        enum status st = skip_value(r, depth + 1);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status skip_value(struct json_reader *r, int depth)
{
    struct slice text;
    bool flag;
    if (depth > JSON_DEPTH_MAX)
        return ST_TOO_BIG;
    switch (json_peek(r)) {
    case '"':
        return json_read_string(r, &text);
    case '[':
        return json_take(r, '[') ? skip_elements(r, ']', depth) : ST_INVALID;
    case '{':
        return json_take(r, '{') ? skip_elements(r, '}', depth) : ST_INVALID;
    case 't':
    case 'f':
    case 'n':
        return json_read_bool(r, &flag);
    default:
        break;
    }
    const uint8_t *from = r->at;
    while (r->at < r->end && strchr("+-.0123456789eE", *r->at) != NULL && *r->at != 0)
        r->at++;
    return r->at > from ? ST_OK : ST_INVALID;
}

enum status json_skip(struct json_reader *r)
{
    return skip_value(r, 0);
}

/* Go matches keys without regard to case. */
bool json_key_is(struct slice key, const char *name)
{
    return key.len == strlen(name) && strncasecmp((const char *)key.data, name, key.len) == 0;
}

bool json_is_at_end(struct json_reader *r)
{
    return json_peek(r) == 0 && r->at == r->end;
}

enum status json_read_object(struct json_reader *r, json_field_fn field, void *context)
{
    if (!json_take(r, '{'))
        return ST_INVALID;
    for (bool first = true; !json_take(r, '}'); first = false) {
        struct slice key;
        if (!first && !json_take(r, ','))
            return ST_INVALID;
        enum status st = json_read_string(r, &key);
        if (st == ST_OK)
            st = json_take(r, ':') ? field(context, r, key) : ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}
