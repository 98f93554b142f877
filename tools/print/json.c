#include "tools/print/json.h"

#include "tools/print/text.h"

#include <inttypes.h>

/* How many bytes at the front mean themselves. */
static size_t plain_size(struct slice s)
{
    size_t len = 0;
    while (len < s.len && s.data[len] >= ' ' && s.data[len] < 0x7f &&
           strchr("\"\\<>&", s.data[len]) == NULL)
        len++;
    return len;
}

static void put_string(FILE *out, struct slice s)
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
        if (code == UINT32_MAX)
            fputs("\\ufffd", out);
        else if (code == '"' || code == '\\')
            fprintf(out, "\\%c", (char)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            fprintf(out, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        else if (code < 0x20 || code == '<' || code == '>' || code == '&' || code == 0x2028 ||
                 code == 0x2029) /* the last five: safe within HTML and JavaScript, Go's default */
            fprintf(out, "\\u%04x", (unsigned)code);
        else
            fwrite(s.data, 1, len, out);
        s = slice_make(s.data + len, s.len - len);
    }
    fputc('"', out);
}

/* What stands before a value. */
static void begin(struct print_json *json, const char *key)
{
    if (json->comma)
        fputc(',', json->out);
    json->comma = true;
    if (key != NULL) {
        put_string(json->out, slice_from_str(key));
        fputc(':', json->out);
    }
}

void print_json_object(struct print_json *json, const char *key)
{
    begin(json, key);
    fputc('{', json->out);
    json->comma = false;
}

void print_json_object_end(struct print_json *json)
{
    fputc('}', json->out);
    json->comma = true;
}

void print_json_array(struct print_json *json, const char *key)
{
    begin(json, key);
    fputc('[', json->out);
    json->comma = false;
}

void print_json_array_end(struct print_json *json)
{
    fputc(']', json->out);
    json->comma = true;
}

void print_json_string(struct print_json *json, const char *key, struct slice value)
{
    begin(json, key);
    put_string(json->out, value);
}

void print_json_text(struct print_json *json, const char *key, const char *value)
{
    print_json_string(json, key, slice_from_str(value));
}

void print_json_bytes(struct print_json *json, const char *key, struct slice value)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    begin(json, key);
    fputc('"', json->out);
    for (size_t i = 0; i < value.len; i += 3) {
        size_t left = value.len - i;
        uint32_t bits = (uint32_t)value.data[i] << 16;
        bits |= left > 1 ? (uint32_t)value.data[i + 1] << 8 : 0;
        bits |= left > 2 ? value.data[i + 2] : 0;
        char text[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                        left > 1 ? digits[bits >> 6 & 63] : '=',
                        left > 2 ? digits[bits & 63] : '='};
        fwrite(text, 1, sizeof(text), json->out);
    }
    fputc('"', json->out);
}

void print_json_u64(struct print_json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "%" PRIu64, value);
}

void print_json_i64(struct print_json *json, const char *key, int64_t value)
{
    begin(json, key);
    fprintf(json->out, "%" PRId64, value);
}

void print_json_hex(struct print_json *json, const char *key, uint64_t value)
{
    begin(json, key);
    fprintf(json->out, "\"%" PRIx64 "\"", value);
}

void print_json_bool(struct print_json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void print_json_null(struct print_json *json, const char *key)
{
    begin(json, key);
    fputs("null", json->out);
}
