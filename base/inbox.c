#include "base/inbox.h"

void inbox_init(struct inbox *inbox, inbox_wake wake, void *wake_context)
{
    atomic_init(&inbox->top, NULL);
    inbox->wake = wake;
    inbox->wake_context = wake_context;
}

/* Puts the chain newest -> ... -> oldest on top. */
static void push_reversed(struct inbox *inbox, struct inbox_node *newest, struct inbox_node *oldest)
{
    struct inbox_node *top = atomic_load_explicit(&inbox->top, memory_order_relaxed);
    do {
        oldest->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&inbox->top, &top, newest, memory_order_release,
                                                    memory_order_relaxed));
    /* Only the push that ends an empty spell wakes: the consumer takes all or is on its way. */
    if (top == NULL && inbox->wake != NULL)
        inbox->wake(inbox->wake_context);
}

void inbox_push(struct inbox *inbox, struct inbox_node *node)
{
    push_reversed(inbox, node, node);
}

static struct inbox_node *reverse(struct inbox_node *node)
{
    struct inbox_node *reversed = NULL;
    while (node != NULL) {
        struct inbox_node *next = node->next;
        node->next = reversed;
        reversed = node;
        node = next;
    }
    return reversed;
}

void inbox_push_chain(struct inbox *inbox, struct inbox_node *first)
{
    if (first == NULL)
        return;
    push_reversed(inbox, reverse(first), first);
}

struct inbox_node *inbox_take(struct inbox *inbox)
{
    return reverse(atomic_exchange_explicit(&inbox->top, NULL, memory_order_acquire));
}

bool inbox_is_empty(const struct inbox *inbox)
{
    return atomic_load_explicit(&inbox->top, memory_order_acquire) == NULL;
}
