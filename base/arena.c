#include "base/arena.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdalign.h>

/* Calls that last for long and need little are many: streams. Those that need more get it back from
 * their pool. */
#define ARENA_BLOCK_BYTES_MIN 1024U

struct arena_block {
    struct arena_block *next;
    size_t size; /* bytes of data */
    alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.bytes_max = bytes_max};
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_deinit(struct arena *arena)
{
    free_blocks(arena->head);
    *arena = (struct arena){.bytes_max = arena->bytes_max};
}

void arena_reset(struct arena *arena)
{
    if (arena->head == NULL)
        return;
    free_blocks(arena->head->next);
    arena->head->next = NULL;
    arena->total_bytes = arena->head->size;
    arena->used = 0;
}

/* Blocks double, so that a large request costs few of them; one oversized piece gets its own size.
 */
static enum status add_block(struct arena *arena, size_t wanted)
{
    size_t size = arena->head == NULL ? ARENA_BLOCK_BYTES_MIN : arena->head->size * 2;
    size_t room = arena->bytes_max - arena->total_bytes;
    size = max_size(min_size(size, room), wanted);
    if (size > room)
        return ST_TOO_BIG;
    struct arena_block *block = malloc(sizeof(*block) + size);
    if (block == NULL)
        return ST_NO_MEMORY;
    block->next = arena->head;
    block->size = size;
    arena->head = block;
    arena->total_bytes += size;
    arena->used = 0;
    return ST_OK;
}

enum status arena_take(struct arena *arena, size_t size, void **out)
{
    *out = NULL;
    if (size > arena->bytes_max)
        return ST_TOO_BIG;
    size_t rounded = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (arena->head == NULL || arena->head->size - arena->used < rounded) {
        enum status st = add_block(arena, rounded);
        if (st != ST_OK)
            return st;
    }
    *out = arena->head->data + arena->used;
    arena->used += rounded;
    ASSERT(arena->used <= arena->head->size);
    return ST_OK;
}

void *arena_alloc_raw(struct arena *arena, size_t size)
{
    void *piece;
    return arena_take(arena, size, &piece) == ST_OK ? piece : NULL;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *piece = arena_alloc_raw(arena, size);
    if (piece != NULL)
        memset(piece, 0, size);
    return piece;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc(arena, total);
}

enum status arena_copy(struct arena *arena, struct slice s, struct slice *out)
{
    void *copy;
    enum status st = arena_take(arena, s.len, &copy);
    if (st != ST_OK)
        return st;
    if (s.len > 0)
        memcpy(copy, s.data, s.len);
    *out = slice_make(copy, s.len);
    return ST_OK;
}
