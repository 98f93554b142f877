#include "server/peers/http1.h"

#include "base/minmax.h"

#include <strings.h>

#define LINE_BYTES_MAX 256U /* of a chunk's size with its extensions, or all trailers */

/* ---- heads ---- */

bool http1_equals(struct slice s, const char *word)
{
    return s.len == strlen(word) &&
           (s.len == 0 || strncasecmp((const char *)s.data, word, s.len) == 0);
}

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
            return false;
    }
    return s.len > 0;
}

static bool is_text(struct slice s, uint8_t lowest)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((s.data[i] < lowest && s.data[i] != '\t') || s.data[i] == 0x7f)
            return false;
    }
    return true;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = slice_make(s.data + 1, s.len - 1);
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The bytes before the first `c`, and it, come off the front. */
static bool take_until(struct slice *in, uint8_t c, struct slice *out)
{
    const uint8_t *found = in->len == 0 ? NULL : memchr(in->data, c, in->len);
    if (found == NULL)
        return false;
    *out = slice_make(in->data, (size_t)(found - in->data));
    *in = slice_make(found + 1, in->len - out->len - 1);
    return true;
}

/* A line without its CR LF; a bare LF ends one too, as in Go. */
static bool take_line(struct slice *in, struct slice *out)
{
    if (!take_until(in, '\n', out))
        return false;
    if (out->len > 0 && out->data[out->len - 1] == '\r')
        out->len--;
    return true;
}

static enum status take_fields(struct slice *in, struct http1_head *out)
{
    for (;;) {
        struct slice line;
        if (!take_line(in, &line))
            return ST_TRUNCATED;
        if (line.len == 0)
            return ST_OK;
        struct http1_field field;
        if (!take_until(&line, ':', &field.name) || !is_token(field.name))
            return ST_INVALID;
        field.value = trim(line);
        if (!is_text(field.value, ' '))
            return ST_INVALID;
        if (out->fields_count == HEAD_FIELDS_MAX)
            return ST_TOO_BIG;
        out->fields[out->fields_count++] = field;
    }
}

static bool take_version(struct slice version, struct http1_head *out)
{
    if (version.len != 8 || memcmp(version.data, "HTTP/1.", 7) != 0)
        return false;
    out->minor = (uint32_t)version.data[7] - '0';
    return out->minor <= 1;
}

static bool parse_request_line(struct slice line, struct http1_head *out)
{
    return take_until(&line, ' ', &out->method) && is_token(out->method) &&
           take_until(&line, ' ', &out->target) && out->target.len > 0 &&
           is_text(out->target, '!') && take_version(line, out);
}

static bool parse_status_line(struct slice line, struct http1_head *out)
{
    struct slice version;
    if (!take_until(&line, ' ', &version) || !take_version(version, out) || line.len < 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        if (line.data[i] < '0' || line.data[i] > '9')
            return false;
        out->status = out->status * 10 + line.data[i] - '0';
    }
    return out->status >= 100 && (line.len == 3 || line.data[3] == ' ');
}

static enum status parse_head(struct slice in, struct http1_head *out, bool is_answer)
{
    out->method = out->target = SLICE_EMPTY;
    out->status = out->minor = out->fields_count = 0;
    struct slice whole = in, line;
    in.len = min_size(in.len, HEAD_BYTES_MAX);
    enum status st = ST_TRUNCATED;
    if (take_line(&in, &line)) {
        bool fine = is_answer ? parse_status_line(line, out) : parse_request_line(line, out);
        st = fine ? take_fields(&in, out) : ST_INVALID;
    }
    if (st == ST_TRUNCATED && whole.len >= HEAD_BYTES_MAX)
        return ST_TOO_BIG;
    out->size = (size_t)(in.data - whole.data);
    return st;
}

enum status http1_parse_request(struct slice in, struct http1_head *out)
{
    return parse_head(in, out, false);
}

enum status http1_parse_answer(struct slice in, struct http1_head *out)
{
    return parse_head(in, out, true);
}

bool http1_find(const struct http1_head *head, const char *name, struct slice *out)
{
    for (uint32_t i = 0; i < head->fields_count; i++) {
        if (http1_equals(head->fields[i].name, name)) {
            *out = head->fields[i].value;
            return true;
        }
    }
    *out = SLICE_EMPTY;
    return false;
}

bool http1_has_word(const struct http1_head *head, const char *name, const char *word)
{
    for (uint32_t i = 0; i < head->fields_count; i++) {
        struct slice rest = head->fields[i].value, part;
        if (!http1_equals(head->fields[i].name, name))
            continue;
        while (take_until(&rest, ',', &part)) {
            if (http1_equals(trim(part), word))
                return true;
        }
        if (http1_equals(trim(rest), word))
            return true;
    }
    return false;
}

bool http1_keeps_alive(const struct http1_head *head)
{
    if (http1_has_word(head, "Connection", "close"))
        return false;
    return head->minor == 1 || http1_has_word(head, "Connection", "keep-alive");
}

/* ---- bodies ---- */

enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

static enum status parse_length(struct slice s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' || *out > (UINT64_MAX - 9) / 10)
            return ST_INVALID;
        *out = *out * 10 + s.data[i] - '0';
    }
    return s.len > 0 ? ST_OK : ST_INVALID;
}

/* Every Content-Length there is says the same. */
static enum status find_length(const struct http1_head *head, bool *has_out, uint64_t *out)
{
    *has_out = false;
    for (uint32_t i = 0; i < head->fields_count; i++) {
        uint64_t length;
        if (!http1_equals(head->fields[i].name, "Content-Length"))
            continue;
        if (parse_length(head->fields[i].value, &length) != ST_OK)
            return ST_INVALID;
        if (*has_out && length != *out)
            return ST_INVALID;
        *has_out = true;
        *out = length;
    }
    return ST_OK;
}

enum status http1_body_init(struct http1_body *body, const struct http1_head *head, bool is_answer)
{
    *body = (struct http1_body){.framing = HTTP1_LENGTH};
    struct slice coding;
    bool has_length;
    if (find_length(head, &has_length, &body->left) != ST_OK)
        return ST_INVALID;
    if (is_answer && (head->status < 200 || head->status == 204 || head->status == 304))
        body->left = 0;
    else if (http1_find(head, "Transfer-Encoding", &coding)) {
        if (!http1_equals(coding, "chunked") || has_length)
            return ST_INVALID;
        body->framing = HTTP1_CHUNKED;
    } else if (is_answer && !has_length)
        body->framing = HTTP1_TO_END;
    body->ended = body->framing == HTTP1_LENGTH && body->left == 0;
    return ST_OK;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void end_of_size_line(struct http1_body *body)
{
    body->line = 0;
    body->state = body->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
}

static enum status size_byte(struct http1_body *body, uint8_t c)
{
    int digit = hex_value(c);
    if (digit >= 0) {
        if (body->left > UINT64_MAX >> 8)
            return ST_INVALID;
        body->left = body->left << 4 | (uint64_t)digit;
        body->line++;
        return ST_OK;
    }
    if (body->line == 0)
        return ST_INVALID; /* a size has a digit at least */
    if (c == '\n')
        end_of_size_line(body);
    else if (c == ';' || c == ' ' || c == '\t' || c == '\r')
        body->state = CHUNK_EXTENSION;
    else
        return ST_INVALID;
    return ST_OK;
}

/* One byte of what surrounds the content. */
static enum status chunk_byte(struct http1_body *body, uint8_t c)
{
    if (body->line > LINE_BYTES_MAX)
        return ST_INVALID;
    switch ((enum chunk_state)body->state) {
    case CHUNK_SIZE:
        return size_byte(body, c);
    case CHUNK_EXTENSION:
        body->line++;
        if (c == '\n')
            end_of_size_line(body);
        return ST_OK;
    case CHUNK_DATA_END:
        if (c == '\n')
            body->state = CHUNK_SIZE;
        return c == '\n' || c == '\r' ? ST_OK : ST_INVALID;
    case CHUNK_TRAILER:
        /* `line` counts, in its low bit, whether this line has a byte; in the rest, all bytes. */
        if (c == '\n' && (body->line & 1) == 0)
            body->ended = true;
        else if (c == '\n')
            body->line &= ~1U;
        else if (c != '\r')
            body->line = (body->line + 2) | 1;
        return ST_OK;
    case CHUNK_DATA:
        break;
    }
    return ST_INVALID;
}

static void take_content(struct http1_body *body, struct slice *in, struct slice *piece_out)
{
    size_t size = body->framing == HTTP1_TO_END ? in->len : (size_t)min_u64(body->left, in->len);
    *piece_out = slice_make(in->data, size);
    *in = slice_make(in->data + size, in->len - size);
    if (body->framing == HTTP1_TO_END)
        return;
    body->left -= size;
    if (body->left > 0)
        return;
    body->ended = body->framing == HTTP1_LENGTH;
    body->state = CHUNK_DATA_END;
}

enum status http1_body_take(struct http1_body *body, struct slice *in, struct slice *piece_out)
{
    *piece_out = SLICE_EMPTY;
    while (!body->ended && in->len > 0) {
        if (body->framing != HTTP1_CHUNKED || body->state == CHUNK_DATA) {
            take_content(body, in, piece_out);
            return ST_OK;
        }
        enum status st = chunk_byte(body, in->data[0]);
        if (st != ST_OK)
            return st;
        *in = slice_make(in->data + 1, in->len - 1);
    }
    return ST_OK;
}

enum status http1_body_end(struct http1_body *body)
{
    if (body->framing == HTTP1_TO_END)
        body->ended = true;
    return body->ended ? ST_OK : ST_TRUNCATED;
}
