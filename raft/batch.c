#include "raft/batch.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/limits.h"

#include <stdalign.h>

#define BLOCK_BYTES_MIN 4096U

struct batch_block {
    struct batch_block *next;
    size_t size, used; /* bytes of data */
    alignas(max_align_t) uint8_t data[];
};

struct batch *batch_new(struct batch_pool *pool)
{
    struct batch *batch = pool->free;
    if (batch != NULL) {
        pool->free = batch->next_free;
        pool->free_count--;
    } else {
        batch = raft_memory_resize(pool->memory, NULL, sizeof(*batch));
        if (batch == NULL)
            return NULL;
        *batch = (struct batch){.pool = pool};
    }
    batch->next_free = NULL;
    pool->live_count++;
    return batch;
}

static void drop_entries(const struct raft_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(entries[i].payload);
}

static void drop_messages(const struct raft_message *messages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        drop_entries(messages[i].entries, messages[i].entries_count);
}

/* Keeps the first block only: the smallest, since they grow. */
static void drop_blocks(struct batch *batch, bool all)
{
    while (batch->blocks != NULL && (all || batch->blocks->next != NULL)) {
        struct batch_block *next = batch->blocks->next;
        raft_memory_free(batch->pool->memory, batch->blocks);
        batch->blocks = next;
    }
    if (batch->blocks != NULL)
        batch->blocks->used = 0;
}

static void destroy(struct batch *batch)
{
    const struct raft_memory *memory = batch->pool->memory;
    drop_blocks(batch, /* all= */ true);
    raft_memory_free(memory, batch->messages);
    raft_memory_free(memory, batch->responses);
    raft_memory_free(memory, batch->read_states);
    raft_memory_free(memory, batch->reads_lost);
    raft_memory_free(memory, batch->append_entries);
    raft_memory_free(memory, batch->apply_entries);
    raft_memory_free(memory, batch);
}

static bool is_oversized(const struct batch *batch)
{
    uint32_t largest = max_u32(batch->messages_capacity, batch->responses_capacity);
    largest = max_u32(largest, max_u32(batch->append_capacity, batch->apply_capacity));
    largest = max_u32(largest, max_u32(batch->read_states_capacity, batch->reads_lost_capacity));
    return largest > BATCH_ITEMS_KEPT_MAX;
}

void batch_release(struct batch *batch)
{
    struct batch_pool *pool = batch->pool;
    ASSERT(pool->live_count > 0);
    pool->live_count--;
    drop_messages(batch->messages, batch->messages_count);
    drop_messages(batch->responses, batch->responses_count);
    drop_entries(batch->append_entries, batch->append_count);
    drop_entries(batch->apply_entries, batch->apply_count);
    if (pool->free_count >= BATCHES_KEPT_MAX || is_oversized(batch)) {
        destroy(batch);
        return;
    }
    drop_blocks(batch, /* all= */ false);
    batch->messages_count = batch->responses_count = 0;
    batch->read_states_count = batch->reads_lost_count = 0;
    batch->append_count = batch->apply_count = 0;
    batch->ready = (struct raft_ready){0};
    batch->next_free = pool->free;
    pool->free = batch;
    pool->free_count++;
}

void batch_pool_deinit(struct batch_pool *pool)
{
    ASSERT(pool->live_count == 0); /* a batch outlived its member */
    while (pool->free != NULL) {
        struct batch *next = pool->free->next_free;
        destroy(pool->free);
        pool->free = next;
    }
    pool->free_count = 0;
}

static size_t rounded_up(size_t size)
{
    return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

enum status batch_reserve_bytes(struct batch *batch, size_t size)
{
    struct batch_block *block = batch->blocks;
    size_t wanted = rounded_up(size);
    if (block != NULL && block->size - block->used >= wanted)
        return ST_OK;
    size_t grown = max_size(block == NULL ? BLOCK_BYTES_MIN : block->size * 2, wanted);
    block = raft_memory_resize(batch->pool->memory, NULL, sizeof(*block) + grown);
    if (block == NULL)
        return ST_NO_MEMORY;
    block->next = batch->blocks;
    block->size = grown;
    block->used = 0;
    batch->blocks = block;
    return ST_OK;
}

void *batch_alloc(struct batch *batch, size_t size)
{
    if (batch_reserve_bytes(batch, size) != ST_OK)
        return NULL;
    void *piece = batch->blocks->data + batch->blocks->used;
    batch->blocks->used += rounded_up(size);
    return piece;
}

enum status batch_reserve_messages(struct batch *batch, uint32_t messages, uint32_t responses)
{
    const struct raft_memory *memory = batch->pool->memory;
    enum status st =
        raft_memory_reserve(memory, (void **)&batch->messages, &batch->messages_capacity,
                            (uint64_t)batch->messages_count + messages, sizeof(*batch->messages));
    if (st != ST_OK)
        return st;
    return raft_memory_reserve(memory, (void **)&batch->responses, &batch->responses_capacity,
                               (uint64_t)batch->responses_count + responses,
                               sizeof(*batch->responses));
}

enum status batch_reserve_reads(struct batch *batch, uint32_t count)
{
    const struct raft_memory *memory = batch->pool->memory;
    enum status st = raft_memory_reserve(
        memory, (void **)&batch->read_states, &batch->read_states_capacity,
        (uint64_t)batch->read_states_count + count, sizeof(*batch->read_states));
    if (st != ST_OK)
        return st;
    return raft_memory_reserve(memory, (void **)&batch->reads_lost, &batch->reads_lost_capacity,
                               (uint64_t)batch->reads_lost_count + count,
                               sizeof(*batch->reads_lost));
}

bool batch_is_empty(const struct batch *batch)
{
    return batch->messages_count == 0 && batch->responses_count == 0 &&
           batch->read_states_count == 0 && batch->reads_lost_count == 0;
}
