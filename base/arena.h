/* base/arena.h - memory of one request: bump allocation, no frees inside, one reset at the end.
 * Capped, so that a hostile request costs at most bytes_max. Not thread-safe; it may move between
 * threads with the request that owns it. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include "base/slice.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
    struct arena_block *head; /* newest block; allocation happens here */
    size_t used;              /* bytes taken from head */
    size_t total_bytes;       /* of all blocks */
    size_t bytes_max;
};

void arena_init(struct arena *arena, size_t bytes_max);
void arena_deinit(struct arena *arena); /* frees every block; a zeroed arena is fine */
void arena_reset(struct arena *arena);  /* drops content, keeps one block */

/* Zeroed memory aligned for any type, or NULL over the cap or without memory. size 0 gives a valid
 * pointer. */
void *arena_alloc(struct arena *arena, size_t size);
/* The same without zeroing. */
void *arena_alloc_raw(struct arena *arena, size_t size);
/* The same, and says why not. Errors: ST_TOO_BIG (the cap), ST_NO_MEMORY. */
CHECKED enum status arena_take(struct arena *arena, size_t size, void **out);
/* Makes *piece, of size bytes, as large as wanted, which is more: in place where it is the newest
 * one, and without a copy where it has megabytes. *piece NULL of size 0 is taken anew. Errors,
 * which leave it as it was: ST_TOO_BIG (the cap), ST_NO_MEMORY. */
CHECKED enum status arena_grow(struct arena *arena, size_t size, size_t wanted, void **piece);
/* Zeroed array; NULL also when count * size overflows. */
void *arena_alloc_array(struct arena *arena, size_t count, size_t size);
/* A copy of s in the arena. Errors: ST_TOO_BIG (the cap), ST_NO_MEMORY. */
CHECKED enum status arena_copy(struct arena *arena, struct slice s, struct slice *out);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_alloc_array((arena), (count), sizeof(type)))
#endif
