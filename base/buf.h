/* base/buf.h - a growing byte buffer with a limit. Owned by whoever initialised it. */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include "base/slice.h"
#include "base/status.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t len, capacity; /* bytes */
    size_t bytes_max;
};

void buf_init(struct buf *buf, size_t bytes_max);
void buf_deinit(struct buf *buf);
void buf_reset(struct buf *buf); /* drops content, keeps memory */

static inline struct slice buf_slice(const struct buf *buf)
{
    return slice_make(buf->data, buf->len);
}

/* Appends; the buffer is unchanged on an error. Errors of all three: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status buf_append(struct buf *buf, struct slice s);
CHECKED enum status buf_printf(struct buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for size more bytes at the end, len already raised by size; the caller fills it. */
CHECKED enum status buf_extend(struct buf *buf, size_t size, uint8_t **room_out);
#endif
