#include "storage/dbfile/conf_json.h"

#include "base/wire.h"

#include <inttypes.h>

/* raftpb.ConfState: fields 1 to 4 are lists of ids, one varint field each; 5 is a flag. The names
 * are those of the JSON. */
static const char *const names[] = {"voters", "learners", "voters_outgoing", "learners_next",
                                    "auto_leave"};
enum { LISTS_COUNT = 4, AUTO_LEAVE = 5 };

static enum status take_field(struct slice *in, struct wire_field *out)
{
    if (wire_next(in, out) != ST_OK || out->type != WIRE_VARINT || out->number > AUTO_LEAVE)
        return ST_CORRUPT;
    return ST_OK;
}

/* The ids of one list, as `"voters":[1,2],`; nothing when there are none. */
static enum status append_list(struct slice message, uint64_t wanted, struct buf *out)
{
    enum status st = ST_OK;
    bool empty = true;
    while (message.len > 0 && st == ST_OK) {
        struct wire_field field;
        st = take_field(&message, &field);
        if (st != ST_OK || field.number != wanted)
            continue;
        if (empty)
            st = buf_printf(out, "\"%s\":[%" PRIu64, names[wanted - 1], field.value);
        else
            st = buf_printf(out, ",%" PRIu64, field.value);
        empty = false;
    }
    return st != ST_OK || empty ? st : buf_append(out, SLICE("],"));
}

static enum status find_auto_leave(struct slice message, bool *out)
{
    *out = false;
    while (message.len > 0) {
        struct wire_field field;
        enum status st = take_field(&message, &field);
        if (st != ST_OK)
            return st;
        if (field.number == AUTO_LEAVE)
            *out = field.value != 0;
    }
    return ST_OK;
}

enum status dbfile_conf_to_json(struct slice message, struct buf *out)
{
    bool auto_leave;
    enum status st = find_auto_leave(message, &auto_leave);
    if (st == ST_OK)
        st = buf_append(out, SLICE("{"));
    for (uint64_t number = 1; number <= LISTS_COUNT && st == ST_OK; number++)
        st = append_list(message, number, out);
    if (st == ST_OK)
        st = buf_printf(out, "\"%s\":%s}", names[AUTO_LEAVE - 1], auto_leave ? "true" : "false");
    return st;
}

/* ---- reading: what Go writes of this one type, spaces allowed ---- */

static uint8_t peek(struct slice *in)
{
    while (in->len > 0 && strchr(" \t\r\n", in->data[0]) != NULL && in->data[0] != 0)
        *in = slice_make(in->data + 1, in->len - 1);
    return in->len > 0 ? in->data[0] : 0;
}

static bool take(struct slice *in, const char *word)
{
    size_t len = strlen(word);
    (void)peek(in);
    if (!slice_has_prefix(*in, slice_from_str(word)))
        return false;
    *in = slice_make(in->data + len, in->len - len);
    return true;
}

static enum status take_number(struct slice *in, uint64_t *out)
{
    uint64_t value = 0;
    uint8_t c = peek(in);
    if (c < '0' || c > '9')
        return ST_CORRUPT;
    for (; in->len > 0 && in->data[0] >= '0' && in->data[0] <= '9';
         *in = slice_make(in->data + 1, in->len - 1)) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(in->data[0] - '0'), &value))
            return ST_CORRUPT;
    }
    *out = value;
    return ST_OK;
}

static enum status append_field(struct buf *out, uint64_t number, uint64_t value)
{
    uint8_t bytes[1 + VARINT_BYTES_MAX] = {(uint8_t)(number << 3 | WIRE_VARINT)};
    return buf_append(out, slice_make(bytes, 1 + put_varint(bytes + 1, value)));
}

static enum status read_list(struct slice *in, uint64_t number, struct buf *out)
{
    if (take(in, "null"))
        return ST_OK;
    if (!take(in, "["))
        return ST_CORRUPT;
    for (bool first = true; !take(in, "]"); first = false) {
        uint64_t id;
        if (!first && !take(in, ","))
            return ST_CORRUPT;
        enum status st = take_number(in, &id);
        if (st == ST_OK)
            st = append_field(out, number, id);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status read_member(struct slice *in, struct buf *out)
{
    for (uint64_t number = 1; number <= AUTO_LEAVE; number++) {
        struct slice ahead = *in;
        if (!take(&ahead, "\"") || !take(&ahead, names[number - 1]) || !take(&ahead, "\""))
            continue;
        if (!take(&ahead, ":"))
            return ST_CORRUPT;
        *in = ahead;
        if (number <= LISTS_COUNT)
            return read_list(in, number, out);
        if (take(in, "false"))
            return append_field(out, number, 0);
        return take(in, "true") ? append_field(out, number, 1) : ST_CORRUPT;
    }
    return ST_CORRUPT;
}

enum status dbfile_conf_from_json(struct slice json, struct buf *out)
{
    if (!take(&json, "{"))
        return ST_CORRUPT;
    for (bool first = true; !take(&json, "}"); first = false) {
        if (!first && !take(&json, ","))
            return ST_CORRUPT;
        enum status st = read_member(&json, out);
        if (st != ST_OK)
            return st;
    }
    return peek(&json) == 0 && json.len == 0 ? ST_OK : ST_CORRUPT;
}
