#include "base/inbox.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PRODUCERS_COUNT 4U
#define MESSAGES_PER_PRODUCER 20000U

struct message {
    struct inbox_node node; /* first, so that a node is its message */
    uint32_t producer, number;
};

static void count_wake(void *context)
{
    ++*(unsigned *)context;
}

static void test_inbox_gives_oldest_first_and_one_wake_up_a_batch(void **state)
{
    (void)state;
    unsigned wakes = 0;
    struct inbox inbox;
    inbox_init(&inbox, count_wake, &wakes);
    assert_true(inbox_is_empty(&inbox));
    assert_null(inbox_take(&inbox));
    struct inbox_node nodes[6];
    for (size_t i = 0; i < 3; i++)
        inbox_push(&inbox, &nodes[i]);
    assert_int_equal(wakes, 1);
    nodes[3].next = &nodes[4];
    nodes[4].next = &nodes[5];
    nodes[5].next = NULL;
    inbox_push_chain(&inbox, &nodes[3]);
    inbox_push_chain(&inbox, NULL);
    assert_int_equal(wakes, 1);
    struct inbox_node *node = inbox_take(&inbox);
    for (size_t i = 0; i < 6; i++, node = node->next)
        assert_ptr_equal(node, &nodes[i]);
    assert_null(node);
    assert_true(inbox_is_empty(&inbox));
    nodes[0].next = NULL;
    inbox_push_chain(&inbox, &nodes[0]);
    assert_int_equal(wakes, 2);
    assert_ptr_equal(inbox_take(&inbox), &nodes[0]);
}

struct actor {
    struct inbox inbox;
    sem_t wake;
};

struct producer {
    struct actor *actor;
    struct message *messages;
};

static void wake_actor(void *context)
{
    struct actor *actor = context;
    (void)sem_post(&actor->wake);
}

/* By turns single pushes and chains of three. */
static void *produce(void *context)
{
    struct producer *producer = context;
    struct message *messages = producer->messages;
    for (uint32_t i = 0; i < MESSAGES_PER_PRODUCER;) {
        if (i % 4 == 0 || i + 3 > MESSAGES_PER_PRODUCER) {
            inbox_push(&producer->actor->inbox, &messages[i++].node);
            continue;
        }
        messages[i].node.next = &messages[i + 1].node;
        messages[i + 1].node.next = &messages[i + 2].node;
        messages[i + 2].node.next = NULL;
        inbox_push_chain(&producer->actor->inbox, &messages[i].node);
        i += 3;
    }
    return NULL;
}

/* Sleeps only on the wake-up: a lost one hangs the test. */
static void consume_all(struct actor *actor)
{
    uint32_t next[PRODUCERS_COUNT] = {0};
    uint64_t taken = 0;
    while (taken < PRODUCERS_COUNT * MESSAGES_PER_PRODUCER) {
        assert_int_equal(sem_wait(&actor->wake), 0);
        struct inbox_node *node = inbox_take(&actor->inbox);
        for (; node != NULL; node = node->next, taken++) {
            const struct message *message = (const struct message *)(const void *)node;
            assert_int_equal(message->number, next[message->producer]++);
        }
    }
}

static void test_inbox_loses_nothing_and_keeps_each_producers_order(void **state)
{
    (void)state;
    struct actor actor;
    assert_int_equal(sem_init(&actor.wake, 0, 0), 0);
    inbox_init(&actor.inbox, wake_actor, &actor);
    struct producer producers[PRODUCERS_COUNT];
    pthread_t threads[PRODUCERS_COUNT];
    for (uint32_t p = 0; p < PRODUCERS_COUNT; p++) {
        producers[p].actor = &actor;
        producers[p].messages = calloc(MESSAGES_PER_PRODUCER, sizeof(struct message));
        assert_non_null(producers[p].messages);
        for (uint32_t i = 0; i < MESSAGES_PER_PRODUCER; i++) {
            producers[p].messages[i].producer = p;
            producers[p].messages[i].number = i;
        }
        assert_int_equal(pthread_create(&threads[p], NULL, produce, &producers[p]), 0);
    }
    consume_all(&actor);
    for (uint32_t p = 0; p < PRODUCERS_COUNT; p++) {
        assert_int_equal(pthread_join(threads[p], NULL), 0);
        free(producers[p].messages);
    }
    assert_true(inbox_is_empty(&actor.inbox));
    (void)sem_destroy(&actor.wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inbox_gives_oldest_first_and_one_wake_up_a_batch),
        cmocka_unit_test(test_inbox_loses_nothing_and_keeps_each_producers_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
