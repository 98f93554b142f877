/* The message in flight of a stream: whichever of two threads is faster, one of them goes on. */
#include "server/services/sending.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka.h wants the three above */
#include <cmocka.h>

#ifdef __SANITIZE_THREAD__
#define ROUNDS 20000U
#else
#define ROUNDS 100000U
#endif

/* On lines of their own, so that both threads reach for the first at the same time. */
struct stream {
    struct sending sending;
    _Alignas(128)
        atomic_uint left; /* messages: the other thread has to say that this one is over */
    atomic_uint told;     /* it has */
    atomic_uint gone_on;  /* times that somebody did, on either side */
};

/* Long enough for the other thread where it runs, and not for long where it waits for a processor.
 */
static void wait_for(atomic_uint *counter, unsigned wanted)
{
    for (unsigned spin = 0; atomic_load(counter) < wanted; spin++) {
        if (spin % 1024 == 1023)
            sched_yield();
    }
}

static void *tell(void *context)
{
    struct stream *stream = context;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        wait_for(&stream->left, i);
        if (sending_over(&stream->sending))
            atomic_fetch_add(&stream->gone_on, 1);
        atomic_store(&stream->told, i);
    }
    return NULL;
}

static void test_sending_is_gone_on_with_once(void **state)
{
    (void)state;
    static struct stream stream;
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, tell, &stream), 0);
    unsigned wrong = 0;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        sending_begin(&stream.sending);
        atomic_store(&stream.left, i);
        for (unsigned spin = i % 512; spin > 0; spin--) /* now before the other, now after it */
            (void)atomic_load(&stream.left);
        if (!sending_waits(&stream.sending, /* is_sent= */ true))
            atomic_fetch_add(&stream.gone_on, 1);
        wait_for(&stream.told, i);
        wrong += atomic_exchange(&stream.gone_on, 0) != 1;
    }
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(wrong, 0);
}

static void test_sending_of_what_did_not_leave_goes_on_here(void **state)
{
    (void)state;
    struct sending sending = {0};
    assert_false(sending_over(&sending));
    sending_begin(&sending);
    assert_false(sending_waits(&sending, /* is_sent= */ false));
    assert_false(sending_over(&sending));
    sending_begin(&sending);
    assert_true(sending_waits(&sending, /* is_sent= */ true));
    assert_true(sending_over(&sending));
    assert_false(sending_over(&sending));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sending_is_gone_on_with_once),
        cmocka_unit_test(test_sending_of_what_did_not_leave_goes_on_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
