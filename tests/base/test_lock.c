#include "base/lock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct counter {
    struct lock *lock;
    uint64_t value; /* under lock */
};

static void *count(void *context)
{
    struct counter *counter = context;
    for (int i = 0; i < 20000; i++) {
        lock_acquire(counter->lock);
        counter->value++;
        lock_release(counter->lock);
    }
    return NULL;
}

static void test_lock_keeps_threads_apart(void **state)
{
    (void)state;
    struct counter counter = {0};
    assert_int_equal(lock_new(/* threaded= */ true, &counter.lock), ST_OK);
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, &counter), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(counter.value, 60000);
    lock_free(counter.lock);
}

static void test_lock_of_one_thread_is_a_no_op(void **state)
{
    (void)state;
    struct lock *lock;
    assert_int_equal(lock_new(/* threaded= */ false, &lock), ST_OK);
    lock_acquire(lock);
    lock_acquire(lock); /* would hang if it locked */
    lock_release(lock);
    lock_free(lock);
    lock_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock_keeps_threads_apart),
        cmocka_unit_test(test_lock_of_one_thread_is_a_no_op),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
