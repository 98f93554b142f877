/* raft/memory.h - growing arrays over the allocator handed in, so that a test can fail the nth
 * allocation. */
#ifndef RAFT_MEMORY_H
#define RAFT_MEMORY_H
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* resize is realloc with a context: old NULL allocates, size 0 frees and gives NULL. NULL for a
 * size above 0 means no memory, and old is then untouched. */
struct raft_memory {
    void *(*resize)(void *context, void *old, size_t size);
    void *context;
};

extern const struct raft_memory raft_memory_system;

static inline void *raft_memory_resize(const struct raft_memory *memory, void *old, size_t size)
{
    return memory->resize(memory->context, old, size);
}

static inline void raft_memory_free(const struct raft_memory *memory, void *old)
{
    if (old != NULL)
        (void)memory->resize(memory->context, old, 0);
}

/* Makes room for wanted items in *items (owned by the caller); capacity doubles. Errors:
 * ST_NO_MEMORY, *items is then as it was. */
CHECKED enum status raft_memory_reserve(const struct raft_memory *memory, void **items,
                                        uint32_t *capacity, uint64_t wanted, size_t item_bytes);
#endif
