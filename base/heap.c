#include "base/heap.h"

#include "base/assert.h"

void heap_init(struct heap *heap)
{
    *heap = (struct heap){0};
}

void heap_deinit(struct heap *heap)
{
    free(heap->nodes);
    heap_init(heap);
}

static void place(struct heap *heap, size_t position, struct heap_node *node)
{
    heap->nodes[position] = node;
    node->position = position;
}

static void sift_up(struct heap *heap, size_t position, struct heap_node *node)
{
    while (position > 0) {
        size_t parent = (position - 1) / 2;
        if (heap->nodes[parent]->key <= node->key)
            break;
        place(heap, position, heap->nodes[parent]);
        position = parent;
    }
    place(heap, position, node);
}

static void sift_down(struct heap *heap, size_t position, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * position + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key)
            child++;
        if (node->key <= heap->nodes[child]->key)
            break;
        place(heap, position, heap->nodes[child]);
        position = child;
    }
    place(heap, position, node);
}

enum status heap_push(struct heap *heap, struct heap_node *node, uint64_t key)
{
    ASSERT(node->position == HEAP_NOT_IN);
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity == 0 ? 16 : heap->capacity * 2;
        struct heap_node **grown = realloc(heap->nodes, capacity * sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        heap->nodes = grown;
        heap->capacity = capacity;
    }
    node->key = key;
    sift_up(heap, heap->count++, node);
    return ST_OK;
}

struct heap_node *heap_peek(const struct heap *heap)
{
    return heap->count == 0 ? NULL : heap->nodes[0];
}

struct heap_node *heap_pop(struct heap *heap)
{
    struct heap_node *first = heap_peek(heap);
    if (first != NULL)
        heap_remove(heap, first);
    return first;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    if (node->position == HEAP_NOT_IN)
        return;
    size_t position = node->position;
    ASSERT(position < heap->count && heap->nodes[position] == node);
    node->position = HEAP_NOT_IN;
    struct heap_node *last = heap->nodes[--heap->count];
    if (last == node)
        return;
    sift_down(heap, position, last);
    sift_up(heap, last->position, last);
}
