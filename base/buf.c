#include "base/buf.h"

#include "base/minmax.h"

#define BUF_CAPACITY_MIN 256U

void buf_init(struct buf *buf, size_t bytes_max)
{
    *buf = (struct buf){.bytes_max = bytes_max};
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){.bytes_max = buf->bytes_max};
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
}

enum status buf_extend(struct buf *buf, size_t size, uint8_t **room_out)
{
    if (size > buf->bytes_max - buf->len)
        return ST_TOO_BIG;
    size_t wanted = buf->len + size;
    if (wanted > buf->capacity) {
        size_t capacity = max_size(max_size(buf->capacity * 2, BUF_CAPACITY_MIN), wanted);
        capacity = min_size(capacity, max_size(buf->bytes_max, BUF_CAPACITY_MIN));
        uint8_t *grown = realloc(buf->data, capacity);
        if (grown == NULL)
            return ST_NO_MEMORY;
        buf->data = grown;
        buf->capacity = capacity;
    }
    *room_out = buf->data + buf->len;
    buf->len = wanted;
    return ST_OK;
}

enum status buf_append(struct buf *buf, struct slice s)
{
    if (s.len == 0)
        return ST_OK;
    uint8_t *room;
    enum status st = buf_extend(buf, s.len, &room);
    if (st == ST_OK)
        memcpy(room, s.data, s.len);
    return st;
}

enum status buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    uint8_t *room = NULL;
    /* One byte more for vsnprintf's NUL, given back below. */
    enum status st = length < 0 ? ST_INVALID : buf_extend(buf, (size_t)length + 1, &room);
    if (st == ST_OK) {
        vsnprintf((char *)room, (size_t)length + 1, format, again);
        buf->len--;
    }
    va_end(again);
    return st;
}
