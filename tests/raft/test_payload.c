#include "raft/types.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ROUNDS 10000

static void test_payload_copy_holds_the_bytes(void **state)
{
    (void)state;
    struct raft_payload *payload = raft_payload_copy(SLICE("put a 1"));
    assert_non_null(payload);
    assert_true(slice_eq(raft_payload_slice(payload), SLICE("put a 1")));
    raft_payload_unref(payload);
}

static void test_payload_may_be_empty_or_absent(void **state)
{
    (void)state;
    struct raft_payload *payload = raft_payload_copy(SLICE_EMPTY);
    assert_non_null(payload);
    assert_int_equal(payload->len, 0);
    raft_payload_unref(payload);
    assert_null(raft_payload_ref(NULL));
    raft_payload_unref(NULL);
    assert_int_equal(raft_payload_slice(NULL).len, 0);
}

static void test_payload_new_refuses_a_length_it_cannot_hold(void **state)
{
    (void)state;
    assert_null(raft_payload_new((size_t)UINT32_MAX + 1));
}

static void *take_and_drop(void *argument)
{
    struct raft_payload *payload = argument;
    for (uint32_t i = 0; i < ROUNDS; i++)
        raft_payload_unref(raft_payload_ref(payload));
    raft_payload_unref(payload); /* the reference handed to this thread */
    return NULL;
}

static void test_payload_is_counted_across_threads(void **state)
{
    (void)state;
    struct raft_payload *payload = raft_payload_copy(SLICE("shared"));
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        raft_payload_ref(payload);
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_drop, payload), 0);
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&payload->references), 1);
    raft_payload_unref(payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_payload_copy_holds_the_bytes),
        cmocka_unit_test(test_payload_may_be_empty_or_absent),
        cmocka_unit_test(test_payload_new_refuses_a_length_it_cannot_hold),
        cmocka_unit_test(test_payload_is_counted_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
