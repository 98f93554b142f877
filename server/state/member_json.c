/* server/state/member_json.c - a member as Go's encoding/json writes and reads it. Ids use all 64
 * bits, which JSON libraries with signed or floating numbers do not read; hence this small reader
 * of its own. */
#include "base/arena.h"
#include "base/assert.h"
#include "base/buf.h"
#include "server/state/members.h"

#include <inttypes.h>
#include <strings.h>

#define JSON_DEPTH_MAX 16 /* of values that are passed over */

/* ---- writing ---- */

static enum status append_char(struct buf *out, uint8_t c)
{
    switch (c) {
    case '"':
        return buf_append(out, SLICE("\\\""));
    case '\\':
        return buf_append(out, SLICE("\\\\"));
    case '\n':
        return buf_append(out, SLICE("\\n"));
    case '\r':
        return buf_append(out, SLICE("\\r"));
    case '\t':
        return buf_append(out, SLICE("\\t"));
    default:
        break;
    }
    /* Go escapes what could end a script element in HTML. */
    if (c < 0x20 || c == '<' || c == '>' || c == '&')
        return buf_printf(out, "\\u%04x", c);
    return buf_append(out, slice_make(&c, 1));
}

static enum status append_string(struct buf *out, struct slice s)
{
    enum status st = buf_append(out, SLICE("\""));
    for (size_t i = 0; i < s.len && st == ST_OK; i++)
        st = append_char(out, s.data[i]);
    return st == ST_OK ? buf_append(out, SLICE("\"")) : st;
}

static enum status append_strings(struct buf *out, const struct slice *strings, uint32_t count)
{
    enum status st = buf_append(out, SLICE("["));
    for (uint32_t i = 0; i < count && st == ST_OK; i++) {
        if (i > 0)
            st = buf_append(out, SLICE(","));
        if (st == ST_OK)
            st = append_string(out, strings[i]);
    }
    return st == ST_OK ? buf_append(out, SLICE("]")) : st;
}

static enum status append_key(struct buf *out, enum status before, const char *text)
{
    return before == ST_OK ? buf_append(out, slice_from_str(text)) : before;
}

enum status member_json_encode(const struct member_row *row, struct buf *out)
{
    enum status st = buf_printf(out, "{\"id\":%" PRIu64 ",\"peerURLs\":", row->id);
    if (st == ST_OK)
        st = append_strings(out, row->peer_urls, row->peer_urls_count);
    if (row->is_learner)
        st = append_key(out, st, ",\"isLearner\":true");
    if (row->name.len > 0) {
        st = append_key(out, st, ",\"name\":");
        if (st == ST_OK)
            st = append_string(out, row->name);
    }
    if (row->client_urls_count > 0) {
        st = append_key(out, st, ",\"clientURLs\":");
        if (st == ST_OK)
            st = append_strings(out, row->client_urls, row->client_urls_count);
    }
    return append_key(out, st, "}");
}

enum status member_attributes_encode(const struct member_row *row, struct buf *out)
{
    enum status st = buf_append(out, SLICE("{"));
    if (row->name.len > 0) {
        st = append_key(out, st, "\"name\":");
        if (st == ST_OK)
            st = append_string(out, row->name);
    }
    if (row->client_urls_count > 0) {
        st = append_key(out, st, row->name.len > 0 ? ",\"clientURLs\":" : "\"clientURLs\":");
        if (st == ST_OK)
            st = append_strings(out, row->client_urls, row->client_urls_count);
    }
    return append_key(out, st, "}");
}

enum status members_json_encode(const struct members *members, struct buf *out)
{
    enum status st = buf_append(out, SLICE("["));
    for (uint32_t i = 0; i < members_count(members) && st == ST_OK; i++) {
        if (i > 0)
            st = buf_append(out, SLICE(","));
        if (st == ST_OK)
            st = member_json_encode(members_at(members, i), out);
    }
    return append_key(out, st, "]");
}

/* ---- reading ---- */

struct reader {
    const uint8_t *at, *end;
    struct arena *arena;
};

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

/* The next character that is not space, or 0 at the end. */
static uint8_t peek(struct reader *r)
{
    skip_space(r);
    return r->at < r->end ? *r->at : 0;
}

static bool take(struct reader *r, uint8_t c)
{
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t len = strlen(word);
    skip_space(r);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

static enum status read_u64(struct reader *r, uint64_t *out)
{
    uint64_t value = 0;
    uint8_t c = peek(r);
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

static enum status read_hex4(struct reader *r, uint32_t *out)
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
static enum status read_unicode(struct reader *r, uint32_t *out)
{
    enum status st = read_hex4(r, out);
    if (st != ST_OK || *out < 0xd800 || *out > 0xdfff)
        return st;
    uint32_t high = *out, low;
    *out = 0xfffd;
    if (high > 0xdbff || r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
        return ST_OK;
    struct reader ahead = *r;
    ahead.at += 2;
    if (read_hex4(&ahead, &low) == ST_OK && low >= 0xdc00 && low <= 0xdfff) {
        *out = 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
        r->at = ahead.at;
    }
    return ST_OK;
}

static enum status read_escape(struct reader *r, uint8_t *p, size_t *len)
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

static enum status read_string(struct reader *r, struct slice *out)
{
    if (!take(r, '"'))
        return ST_INVALID;
    const uint8_t *close = memchr(r->at, '"', (size_t)(r->end - r->at));
    while (close != NULL && close[-1] == '\\') /* may be too far: only the room is taken from it */
        close = memchr(close + 1, '"', (size_t)(r->end - close - 1));
    size_t room = (size_t)((close == NULL ? r->end : close) - r->at);
    if (room > MEMBER_TEXT_MAX * 6) /* an escape is at most six bytes for one */
        return ST_TOO_BIG;
    uint8_t *p = arena_alloc_raw(r->arena, room + 1);
    if (p == NULL)
        return ST_TOO_BIG;
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
    return !take(r, '"') ? ST_INVALID : len > MEMBER_TEXT_MAX ? ST_TOO_BIG : ST_OK;
}

static enum status read_strings(struct reader *r, const struct slice **out, uint32_t *count_out)
{
    struct slice strings[MEMBER_URLS_MAX];
    uint32_t count = 0;
    *out = NULL;
    *count_out = 0;
    if (take_word(r, "null"))
        return ST_OK;
    if (!take(r, '['))
        return ST_INVALID;
    while (!take(r, ']')) {
        if (count > 0 && !take(r, ','))
            return ST_INVALID;
        if (count == MEMBER_URLS_MAX)
            return ST_TOO_BIG;
        enum status st = read_string(r, &strings[count]);
        if (st != ST_OK)
            return st;
        count++;
    }
    struct slice *copy = ARENA_ARRAY(r->arena, struct slice, count);
    if (copy == NULL)
        return ST_TOO_BIG;
    memcpy(copy, strings, count * sizeof(strings[0]));
    *out = copy;
    *count_out = count;
    return ST_OK;
}

static enum status read_bool(struct reader *r, bool *out)
{
    if (take_word(r, "true"))
        *out = true;
    else if (take_word(r, "false"))
        *out = false;
    else if (!take_word(r, "null"))
        return ST_INVALID;
    return ST_OK;
}

static enum status skip_value(struct reader *r, int depth);

/* Elements of an array, or members of an object, up to the closing bracket. */
static enum status skip_elements(struct reader *r, uint8_t close, int depth)
{
    for (bool first = true; !take(r, close); first = false) {
        struct slice key;
        if (!first && !take(r, ','))
            return ST_INVALID;
        if (close == '}' && (read_string(r, &key) != ST_OK || !take(r, ':')))
            return ST_INVALID;
        enum status st = skip_value(r, depth + 1);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status skip_value(struct reader *r, int depth)
{
    struct slice text;
    bool flag;
    if (depth > JSON_DEPTH_MAX)
        return ST_TOO_BIG;
    switch (peek(r)) {
    case '"':
        return read_string(r, &text);
    case '[':
        return take(r, '[') ? skip_elements(r, ']', depth) : ST_INVALID;
    case '{':
        return take(r, '{') ? skip_elements(r, '}', depth) : ST_INVALID;
    case 't':
    case 'f':
    case 'n':
        return read_bool(r, &flag);
    default:
        break;
    }
    const uint8_t *from = r->at;
    while (r->at < r->end && strchr("+-.0123456789eE", *r->at) != NULL && *r->at != 0)
        r->at++;
    return r->at > from ? ST_OK : ST_INVALID;
}

/* Go matches keys without regard to case. */
static bool key_is(struct slice key, const char *name)
{
    return key.len == strlen(name) && strncasecmp((const char *)key.data, name, key.len) == 0;
}

static enum status read_field(struct reader *r, struct slice key, struct member_row *out)
{
    if (key_is(key, "id"))
        return read_u64(r, &out->id);
    if (key_is(key, "name"))
        return take_word(r, "null") ? ST_OK : read_string(r, &out->name);
    if (key_is(key, "peerURLs"))
        return read_strings(r, &out->peer_urls, &out->peer_urls_count);
    if (key_is(key, "clientURLs"))
        return read_strings(r, &out->client_urls, &out->client_urls_count);
    if (key_is(key, "isLearner"))
        return read_bool(r, &out->is_learner);
    if (key_is(key, "isPromote"))
        return read_bool(r, &out->is_promote);
    return skip_value(r, 0);
}

static enum status read_member(struct reader *r, struct member_row *out)
{
    *out = (struct member_row){0};
    if (!take(r, '{'))
        return ST_INVALID;
    for (bool first = true; !take(r, '}'); first = false) {
        struct slice key;
        if (!first && !take(r, ','))
            return ST_INVALID;
        enum status st = read_string(r, &key);
        if (st == ST_OK)
            st = take(r, ':') ? read_field(r, key, out) : ST_INVALID;
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static bool is_at_end(struct reader *r)
{
    return peek(r) == 0 && r->at == r->end;
}

enum status member_json_decode(struct slice json, struct arena *arena, struct member_row *out)
{
    struct reader r = {.at = json.data, .end = json.data + json.len, .arena = arena};
    *out = (struct member_row){0};
    if (json.len == 0)
        return ST_INVALID;
    enum status st = read_member(&r, out);
    return st == ST_OK && !is_at_end(&r) ? ST_INVALID : st;
}

static enum status read_members(struct reader *r, struct members **table)
{
    if (!take(r, '['))
        return ST_INVALID;
    for (bool first = true; !take(r, ']'); first = false) {
        struct member_row row;
        struct members *next;
        if (!first && !take(r, ','))
            return ST_INVALID;
        enum status st = read_member(r, &row);
        if (st == ST_OK && (row.id == 0 || members_find(*table, row.id) != NULL))
            st = ST_INVALID;
        if (st == ST_OK)
            st = members_with(*table, &row, &next);
        if (st != ST_OK)
            return st;
        members_unref(*table);
        *table = next;
    }
    return is_at_end(r) ? ST_OK : ST_INVALID;
}

enum status members_json_decode(struct slice json, struct arena *arena, struct members **out)
{
    struct reader r = {.at = json.data, .end = json.data + json.len, .arena = arena};
    struct members *table = NULL;
    enum status st = json.len == 0 ? ST_INVALID : read_members(&r, &table);
    if (st != ST_OK) {
        members_unref(table);
        table = NULL;
    }
    *out = table;
    return st;
}
