#include "base/arena.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "base/pages.h"

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

static bool is_in_pages(size_t size)
{
    return size >= PAGES_BYTES_MIN;
}

static struct arena_block *block_new(size_t size)
{
    size_t bytes = sizeof(struct arena_block) + size;
    struct arena_block *block = is_in_pages(size) ? pages_alloc(bytes) : malloc(bytes);
    if (block != NULL)
        block->size = size;
    return block;
}

static void block_free(struct arena_block *block)
{
    if (is_in_pages(block->size))
        pages_free(block, sizeof(*block) + block->size);
    else
        free(block);
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        block_free(block);
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
    struct arena_block *block = block_new(size);
    if (block == NULL)
        return ST_NO_MEMORY;
    block->next = arena->head;
    arena->head = block;
    arena->total_bytes += size;
    arena->used = 0;
    return ST_OK;
}

static size_t round_up(size_t size)
{
    return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

enum status arena_take(struct arena *arena, size_t size, void **out)
{
    *out = NULL;
    if (size > arena->bytes_max)
        return ST_TOO_BIG;
    size_t rounded = round_up(size);
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

/* The newest block, all of which is one piece. */
static enum status grow_block(struct arena *arena, size_t wanted)
{
    struct arena_block *block = arena->head;
    size_t more = wanted - block->size;
    if (more > arena->bytes_max - arena->total_bytes)
        return ST_TOO_BIG;
    block = pages_grow(block, sizeof(*block) + block->size, sizeof(*block) + wanted);
    if (block == NULL)
        return ST_NO_MEMORY;
    block->size = wanted;
    arena->head = block;
    arena->total_bytes += more;
    return ST_OK;
}

static bool is_newest(const struct arena *arena, const uint8_t *piece, size_t size)
{
    return piece != NULL && piece + round_up(size) == arena->head->data + arena->used;
}

static enum status move(struct arena *arena, size_t size, size_t wanted, void **piece)
{
    void *moved;
    enum status st = arena_take(arena, wanted, &moved);
    if (st != ST_OK)
        return st;
    if (size > 0)
        memcpy(moved, *piece, size);
    *piece = moved;
    return ST_OK;
}

enum status arena_grow(struct arena *arena, size_t size, size_t wanted, void **piece)
{
    ASSERT(wanted > size);
    if (wanted > arena->bytes_max)
        return ST_TOO_BIG;
    if (!is_newest(arena, *piece, size))
        return move(arena, size, wanted, piece);
    size_t at = (size_t)((uint8_t *)*piece - arena->head->data), used = at + round_up(wanted);
    if (used > arena->head->size) {
        if (at > 0 || !is_in_pages(arena->head->size))
            return move(arena, size, wanted, piece);
        enum status st = grow_block(arena, used);
        if (st != ST_OK)
            return st;
    }
    *piece = arena->head->data + at;
    arena->used = used;
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
