#include "base/heap.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NODES_COUNT 100U

/* The model: which nodes are in, by a look at all of them. */
static uint64_t model_min(const struct heap_node *nodes)
{
    uint64_t min = UINT64_MAX;
    for (size_t i = 0; i < NODES_COUNT; i++) {
        if (nodes[i].position != HEAP_NOT_IN && nodes[i].key < min)
            min = nodes[i].key;
    }
    return min;
}

static void assert_order(const struct heap *heap)
{
    for (size_t i = 1; i < heap->count; i++)
        assert_true(heap->nodes[(i - 1) / 2]->key <= heap->nodes[i]->key);
    for (size_t i = 0; i < heap->count; i++)
        assert_int_equal(heap->nodes[i]->position, i);
}

static void test_heap_agrees_with_a_model_under_random_work(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    struct heap heap;
    heap_init(&heap);
    struct heap_node nodes[NODES_COUNT];
    for (size_t i = 0; i < NODES_COUNT; i++)
        heap_node_init(&nodes[i]);
    size_t in = 0;
    for (int step = 0; step < 20000; step++) {
        struct heap_node *node = &nodes[rng_below(&rng, NODES_COUNT)];
        bool present = node->position != HEAP_NOT_IN;
        if (rng_below(&rng, 4) == 0) {
            struct heap_node *first = heap_pop(&heap);
            in -= first != NULL;
            assert_true(first == NULL || first->position == HEAP_NOT_IN);
        } else if (present) {
            heap_remove(&heap, node);
            in--;
        } else {
            /* Few distinct keys, so that equal ones meet. */
            assert_int_equal(heap_push(&heap, node, rng_below(&rng, 40)), ST_OK);
            in++;
        }
        assert_int_equal(heap.count, in);
        assert_order(&heap);
        assert_true(in == 0 ? heap_peek(&heap) == NULL : heap_peek(&heap)->key == model_min(nodes));
    }
    heap_deinit(&heap);
}

static void test_heap_pops_in_order(void **state)
{
    (void)state;
    struct heap heap;
    heap_init(&heap);
    struct heap_node nodes[NODES_COUNT];
    for (size_t i = 0; i < NODES_COUNT; i++) {
        heap_node_init(&nodes[i]);
        assert_int_equal(heap_push(&heap, &nodes[i], i * 37 % NODES_COUNT), ST_OK);
    }
    for (size_t i = 0; i < NODES_COUNT; i++)
        assert_int_equal(heap_pop(&heap)->key, i);
    assert_null(heap_pop(&heap));
    heap_deinit(&heap);
}

static void test_heap_remove_of_an_absent_node_does_nothing(void **state)
{
    (void)state;
    struct heap heap;
    heap_init(&heap);
    struct heap_node node;
    heap_node_init(&node);
    heap_remove(&heap, &node);
    assert_int_equal(heap.count, 0);
    heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_agrees_with_a_model_under_random_work),
        cmocka_unit_test(test_heap_pops_in_order),
        cmocka_unit_test(test_heap_remove_of_an_absent_node_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
