#include "raft/read_only.h"

#include "base/assert.h"

enum status read_only_reserve(struct read_only *reads, const struct raft_memory *memory)
{
    if (reads->head + reads->count < reads->capacity)
        return ST_OK;
    if (reads->head > 0) { /* full at the end only */
        memmove(reads->items, reads->items + reads->head, reads->count * sizeof(*reads->items));
        reads->head = 0;
        return ST_OK;
    }
    return raft_memory_reserve(memory, (void **)&reads->items, &reads->capacity,
                               (uint64_t)reads->count + 1, sizeof(*reads->items));
}

void read_only_push(struct read_only *reads, struct read_waiting one)
{
    ASSERT(reads->head + reads->count < reads->capacity);
    reads->items[reads->head + reads->count++] = one;
}

struct read_waiting read_only_pop(struct read_only *reads)
{
    ASSERT(reads->count > 0);
    reads->count--;
    return reads->items[reads->head++];
}

void read_only_reset(struct read_only *reads)
{
    reads->head = reads->count = 0;
    reads->confirmed = 0;
    reads->open = false;
}

void read_only_deinit(struct read_only *reads, const struct raft_memory *memory)
{
    for (uint32_t i = 0; i < reads->count; i++)
        raft_payload_unref(reads->items[reads->head + i].echo);
    raft_memory_free(memory, reads->items);
    *reads = (struct read_only){0};
}
