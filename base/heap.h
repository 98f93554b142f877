/* base/heap.h - intrusive binary min-heap over 64-bit keys (times, revisions). The array is owned
 * by the heap, the nodes are the caller's. Not thread-safe. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define HEAP_NOT_IN SIZE_MAX

struct heap_node {
    uint64_t key;
    size_t position; /* HEAP_NOT_IN while in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count, capacity;
};

void heap_init(struct heap *heap);
void heap_deinit(struct heap *heap); /* forgets the nodes, frees the array */

static inline void heap_node_init(struct heap_node *node)
{
    node->position = HEAP_NOT_IN;
}

/* Inserts node under key. Errors: ST_NO_MEMORY. */
CHECKED enum status heap_push(struct heap *heap, struct heap_node *node, uint64_t key);
/* The node with the smallest key, or NULL. */
struct heap_node *heap_peek(const struct heap *heap);
struct heap_node *heap_pop(struct heap *heap);
void heap_remove(struct heap *heap, struct heap_node *node); /* no-op when it is in no heap */
#endif
