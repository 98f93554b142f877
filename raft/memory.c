#include "raft/memory.h"

#include "base/assert.h"

#include <stdlib.h>

static void *system_resize(void *context, void *old, size_t size)
{
    (void)context;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, size);
}

const struct raft_memory raft_memory_system = {.resize = system_resize};

enum status raft_memory_reserve(const struct raft_memory *memory, void **items, uint32_t *capacity,
                                uint64_t wanted, size_t item_bytes)
{
    if (wanted <= *capacity)
        return ST_OK;
    if (wanted > UINT32_MAX / 2)
        return ST_NO_MEMORY;
    uint32_t grown = *capacity == 0 ? 8 : *capacity;
    while (grown < wanted)
        grown *= 2;
    void *moved = raft_memory_resize(memory, *items, (size_t)grown * item_bytes);
    if (moved == NULL)
        return ST_NO_MEMORY;
    *items = moved;
    *capacity = grown;
    ASSERT(*capacity >= wanted);
    return ST_OK;
}
