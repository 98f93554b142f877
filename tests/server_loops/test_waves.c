#include "server/loops/waves.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define SYNC_NS (50 * NS_PER_MS)

/* Commits waves of count calls until C is known. */
static void learn(struct waves *w, uint64_t commit_ns, uint64_t count)
{
    for (uint64_t i = 1; i <= WAVE_SAMPLES; i++) {
        waves_released(w, i * NS_PER_S, count, i);
        waves_committed(w, i * NS_PER_S + commit_ns, i, /* queued= */ 0);
    }
}

static void test_waves_release_at_once_before_anything_is_known(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again;
    waves_init(&w, true);
    assert_true(waves_may_release(&w, 1, SYNC_NS, &again));
    waves_released(&w, 1, 3, 10);
    assert_true(waves_may_release(&w, 2, SYNC_NS, &again));
}

static void test_waves_hold_while_one_is_in_flight_on_a_slow_disk(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again, now = 100 * NS_PER_S;
    waves_init(&w, true);
    learn(&w, SYNC_NS, 1);
    assert_true(waves_may_release(&w, now, SYNC_NS, &again));
    waves_released(&w, now, 1, 100);
    assert_false(waves_may_release(&w, now + 1, SYNC_NS, &again));
    assert_int_equal(again, UINT64_MAX);
    waves_committed(&w, now + SYNC_NS, 99, 0);
    assert_false(waves_may_release(&w, now + SYNC_NS, SYNC_NS, &again));
    waves_committed(&w, now + SYNC_NS, 100, 0);
    assert_true(waves_may_release(&w, now + SYNC_NS, SYNC_NS, &again));
}

static void test_waves_wait_for_as_many_new_calls_as_were_answered(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again, now = 100 * NS_PER_S;
    waves_init(&w, true);
    learn(&w, SYNC_NS, 1);
    waves_released(&w, now, 64, 100);
    waves_arrived(&w, 5); /* came before the answer: they do not count */
    now += SYNC_NS;
    waves_committed(&w, now, 100, /* queued= */ 5);
    assert_false(waves_may_release(&w, now, SYNC_NS, &again));
    assert_int_equal(again, now + 10 * NS_PER_MS);
    waves_arrived(&w, 63);
    assert_false(waves_may_release(&w, now + 1, SYNC_NS, &again));
    waves_arrived(&w, 1);
    assert_true(waves_may_release(&w, now + 2, SYNC_NS, &again));
}

static void test_waves_give_up_waiting_after_the_cap(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again, now = 100 * NS_PER_S;
    waves_init(&w, true);
    learn(&w, 4 * NS_PER_MS, 1);
    waves_released(&w, now, 8, 100);
    waves_committed(&w, now + 4 * NS_PER_MS, 100, 0);
    now += 4 * NS_PER_MS;
    assert_false(waves_may_release(&w, now, 4 * NS_PER_MS, &again));
    assert_int_equal(again, now + 2 * NS_PER_MS); /* C / 2, below the 10 ms */
    assert_true(waves_may_release(&w, again, 4 * NS_PER_MS, &again));
}

static void test_waves_never_hold_one_client(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again, now = 100 * NS_PER_S;
    waves_init(&w, true);
    learn(&w, SYNC_NS, 1);
    waves_released(&w, now, 1, 100);
    waves_committed(&w, now + SYNC_NS, 100, 0);
    assert_true(waves_may_release(&w, now + SYNC_NS, SYNC_NS, &again));
}

static void test_waves_do_nothing_on_a_fast_disk_or_a_long_link(void **state)
{
    (void)state;
    struct waves w;
    uint64_t again, now = 100 * NS_PER_S;
    waves_init(&w, true);
    learn(&w, NS_PER_MS / 2, 8);
    waves_released(&w, now, 8, 100);
    assert_true(waves_may_release(&w, now + 1, NS_PER_MS / 2, &again));

    waves_init(&w, true);
    learn(&w, SYNC_NS, 8);
    waves_released(&w, now, 8, 100);
    assert_true(waves_may_release(&w, now + 1, /* local_sync_ns= */ SYNC_NS / 4, &again));
}

static void test_waves_under_overlap_time_one_release_not_the_stream(void **state)
{
    (void)state;
    struct waves w;
    waves_init(&w, true);
    /* A fast disk under constant load: a release every 100 us, each committed after 200 us. */
    for (uint64_t i = 1; i <= 1000; i++) {
        uint64_t now = i * 100 * NS_PER_US;
        waves_released(&w, now, 1, i);
        if (i > 2)
            waves_committed(&w, now, i - 2, 1);
    }
    assert_in_range(w.commit_ns, 200 * NS_PER_US, 300 * NS_PER_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waves_release_at_once_before_anything_is_known),
        cmocka_unit_test(test_waves_hold_while_one_is_in_flight_on_a_slow_disk),
        cmocka_unit_test(test_waves_wait_for_as_many_new_calls_as_were_answered),
        cmocka_unit_test(test_waves_give_up_waiting_after_the_cap),
        cmocka_unit_test(test_waves_never_hold_one_client),
        cmocka_unit_test(test_waves_do_nothing_on_a_fast_disk_or_a_long_link),
        cmocka_unit_test(test_waves_under_overlap_time_one_release_not_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
