/* raft/batch.h - a ready batch while it is filled, and its memory. Arrays keep their room when a
 * released batch is used again. */
#ifndef RAFT_BATCH_H
#define RAFT_BATCH_H
#include "raft/memory.h"
#include "raft/raft.h"

struct batch_block;

struct batch {
    struct raft_ready ready; /* first: raft_ready_release() gets its address */
    struct batch_pool *pool;
    struct batch *next_free;
    struct raft_message *messages, *responses;
    uint32_t messages_count, messages_capacity, responses_count, responses_capacity;
    struct raft_read_state *read_states;
    uint32_t read_states_count, read_states_capacity;
    uint64_t *reads_lost;
    uint32_t reads_lost_count, reads_lost_capacity;
    struct raft_fetch fetches[RAFT_MEMBERS_MAX];
    struct raft_entry *append_entries, *apply_entries; /* each with a reference */
    uint32_t append_count, append_capacity, apply_count, apply_capacity;
    struct batch_block *blocks; /* entries and bytes of messages: addresses that stay */
};

struct batch_pool {
    const struct raft_memory *memory; /* borrowed */
    struct batch *free;
    uint32_t free_count;
    uint32_t live_count; /* made and not released */
};

/* NULL: no memory. Ended with batch_release(). */
struct batch *batch_new(struct batch_pool *pool);
void batch_release(struct batch *batch); /* drops all references; back to the pool */
void batch_pool_deinit(struct batch_pool *pool);

/* Memory that lives as long as the batch, not zeroed; NULL without memory. */
void *batch_alloc(struct batch *batch, size_t size);
/* The next batch_alloc() of at most size succeeds. Errors: ST_NO_MEMORY. */
CHECKED enum status batch_reserve_bytes(struct batch *batch, size_t size);
/* Room for more of each. Errors: ST_NO_MEMORY. */
CHECKED enum status batch_reserve_messages(struct batch *batch, uint32_t messages,
                                           uint32_t responses);
CHECKED enum status batch_reserve_reads(struct batch *batch, uint32_t count);
bool batch_is_empty(const struct batch *batch);
#endif
