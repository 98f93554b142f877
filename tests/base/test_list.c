#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list_node node;
};

static void assert_values(struct list_node *head, const int *want, size_t count)
{
    size_t i = 0;
    LIST_FOREACH(node, head)
    {
        assert_true(i < count);
        assert_int_equal(CONTAINER_OF(node, struct item, node)->value, want[i++]);
    }
    assert_int_equal(i, count);
    for (struct list_node *node = head->prev; node != head; node = node->prev)
        assert_int_equal(CONTAINER_OF(node, struct item, node)->value, want[--i]);
}

static void test_list_keeps_order_through_both_ends_and_the_middle(void **state)
{
    (void)state;
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct list_node head;
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_pop_front(&head));
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[2].node);
    list_push_front(&head, &items[0].node);
    list_push_back(&head, &items[3].node);
    assert_values(&head, (const int[]){0, 1, 2, 3}, 4);
    list_remove(&items[2].node);
    assert_values(&head, (const int[]){0, 1, 3}, 3);
    list_remove(&items[2].node); /* removed twice: still alone */
    assert_ptr_equal(list_pop_front(&head), &items[0].node);
    list_push_back(&head, &items[0].node);
    assert_values(&head, (const int[]){1, 3, 0}, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_keeps_order_through_both_ends_and_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
