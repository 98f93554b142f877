#include "server/state/json_writer.h"

#include "base/buf.h"

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

enum status json_put_string(struct buf *out, struct slice text)
{
    enum status st = buf_append(out, SLICE("\""));
    for (size_t i = 0; i < text.len && st == ST_OK; i++)
        st = append_char(out, text.data[i]);
    return st == ST_OK ? buf_append(out, SLICE("\"")) : st;
}
