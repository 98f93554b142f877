#include "server/peers/window.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/peers/limits.h"

#define WINDOW_KEPT_BYTES_MAX (1U << 20) /* of an empty window */

void window_deinit(struct window *window)
{
    free(window->data);
    *window = (struct window){0};
}

enum status window_reserve(struct window *window, size_t size)
{
    if (window->capacity - window->end >= size)
        return ST_OK;
    size_t used = window->end - window->start;
    /* Moving costs at most as much as was consumed since the last time. */
    if (window->start >= used && window->capacity - used >= size) {
        memmove(window->data, window->data + window->start, used);
        window->start = 0;
        window->end = used;
        return ST_OK;
    }
    size_t capacity = max_size(window->capacity * 2, max_size(READ_BYTES, used + size));
    uint8_t *grown = malloc(capacity);
    if (grown == NULL)
        return ST_NO_MEMORY;
    if (used > 0)
        memcpy(grown, window->data + window->start, used);
    free(window->data);
    *window = (struct window){.data = grown, .end = used, .capacity = capacity};
    return ST_OK;
}

enum status window_append(struct window *window, struct slice bytes)
{
    if (bytes.len == 0)
        return ST_OK;
    enum status st = window_reserve(window, bytes.len);
    if (st != ST_OK)
        return st;
    memcpy(window->data + window->end, bytes.data, bytes.len);
    window->end += bytes.len;
    return ST_OK;
}

void window_consume(struct window *window, size_t size)
{
    ASSERT(size <= window->end - window->start);
    window->start += size;
    if (window->start < window->end)
        return;
    window->start = window->end = 0;
    if (window->capacity > WINDOW_KEPT_BYTES_MAX)
        window_deinit(window);
}
