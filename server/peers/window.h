/* server/peers/window.h - bytes that came in and were not used yet, in one piece. It grows as bytes
 * arrive, never on another's word for how many will. Not thread-safe. */
#ifndef SERVER_PEERS_WINDOW_H
#define SERVER_PEERS_WINDOW_H
#include "base/slice.h"
#include "base/status.h"

struct window {
    uint8_t *data;
    size_t start, end, capacity;
};

void window_deinit(struct window *window); /* {0} is an empty one */

static inline struct slice window_slice(const struct window *window)
{
    return window->data == NULL
               ? SLICE_EMPTY
               : slice_make(window->data + window->start, window->end - window->start);
}

/* Room for at least size bytes behind the end; what was written there is added by raising end.
 * Errors: ST_NO_MEMORY. */
CHECKED enum status window_reserve(struct window *window, size_t size);
CHECKED enum status window_append(struct window *window, struct slice bytes);
/* Drops the first size bytes; a large window that becomes empty gives its memory back. */
void window_consume(struct window *window, size_t size);
#endif
