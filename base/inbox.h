/* base/inbox.h - many producers, one consumer: how actors talk. A lock-free stack that the consumer
 * takes whole and turns round, so a burst of messages costs the producers one wake-up and the
 * consumer one exchange. Order is kept per producer. Nodes are intrusive and belong to the inbox
 * between push and take. */
#ifndef BASE_INBOX_H
#define BASE_INBOX_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct inbox_node {
    struct inbox_node *next;
};

/* Wakes the consumer; called by a producer, and only for the push that finds the inbox empty.
 * May be called from any thread; must not call back into the inbox. */
typedef void (*inbox_wake)(void *context);

struct inbox {
    _Atomic(struct inbox_node *) top; /* release on push, acquire on take */
    inbox_wake wake;
    void *wake_context;
};

void inbox_init(struct inbox *inbox, inbox_wake wake,
                void *wake_context); /* wake may be NULL (tests, sim) */

void inbox_push(struct inbox *inbox, struct inbox_node *node);
/* Pushes a chain first -> ... -> last (linked by next, oldest first) with one exchange and at most
 * one wake-up. */
void inbox_push_chain(struct inbox *inbox, struct inbox_node *first);

/* Everything pushed so far, oldest first, linked by next; NULL when empty. Consumer only. */
struct inbox_node *inbox_take(struct inbox *inbox);
bool inbox_is_empty(const struct inbox *inbox);
#endif
