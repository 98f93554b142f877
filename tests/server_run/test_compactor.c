/* When a member compacts by itself, in virtual time. */
#include "server/run/compactor.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MINUTE_NS (60 * NS_PER_S)
#define HOUR_NS (60 * MINUTE_NS)
#define START_NS (5 * HOUR_NS)

static struct compactor started(bool by_revision, uint64_t retention, int64_t revision)
{
    struct compactor c;
    assert_int_equal(compactor_init(&c, by_revision, retention), ST_OK);
    assert_int_equal(compactor_step(&c, START_NS, revision, /* is_leader= */ true), 0);
    return c;
}

/* Revision n is written in the nth interval; every compaction works. The time of the nth one since
 * the start, and its revision. */
static uint64_t run_until(struct compactor *c, uint32_t compactions, int64_t *revision_out)
{
    uint64_t since_ns = 0;
    int64_t newest = 1;
    while (compactions > 0) {
        since_ns += c->interval_ns;
        newest++;
        *revision_out = compactor_step(c, START_NS + since_ns, newest, /* is_leader= */ true);
        if (*revision_out == 0)
            continue;
        compactor_done(c, START_NS + since_ns, newest, /* ok= */ true);
        compactions--;
    }
    return since_ns;
}

static void check_run(uint64_t retention, uint32_t compactions, uint64_t since_ns, int64_t revision)
{
    int64_t got = 0;
    struct compactor c = started(/* by_revision= */ false, retention, 1);
    assert_int_equal(run_until(&c, compactions, &got), since_ns);
    assert_int_equal(got, revision);
    compactor_deinit(&c);
}

/* The revision of a retention ago, in tenths of it or of an hour; from the second time on the note
 * is a tenth older, since the newest one is not taken yet. */
static void test_periodic_keeps_the_retention(void **state)
{
    (void)state;
    check_run(5 * NS_PER_S, 1, 5 * NS_PER_S, 1);
    check_run(5 * NS_PER_S, 2, 10 * NS_PER_S, 10);
    check_run(59 * MINUTE_NS, 3, 3 * 59 * MINUTE_NS, 20);
    check_run(HOUR_NS, 1, HOUR_NS, 1);
    check_run(HOUR_NS, 2, 2 * HOUR_NS, 10);
}

/* Longer ones begin after the retention and then come every hour. */
static void test_periodic_of_a_day_compacts_every_hour(void **state)
{
    (void)state;
    check_run(24 * HOUR_NS, 1, 24 * HOUR_NS, 1);
    check_run(24 * HOUR_NS, 2, 25 * HOUR_NS, 10);
    check_run(24 * HOUR_NS, 3, 26 * HOUR_NS, 20);
}

/* At the next note; from there on it takes a whole retention again. */
static void test_periodic_tries_again_after_a_failure(void **state)
{
    (void)state;
    int64_t got = 0;
    struct compactor c = started(/* by_revision= */ false, 10 * NS_PER_S, 1);
    uint64_t now_ns = START_NS;
    for (int64_t newest = 2; got == 0; newest++)
        got = compactor_step(&c, now_ns += NS_PER_S, newest, /* is_leader= */ true);
    assert_int_equal(got, 1);
    assert_int_equal(now_ns, START_NS + 10 * NS_PER_S);
    compactor_done(&c, now_ns, 11, /* ok= */ false);
    got = compactor_step(&c, now_ns += NS_PER_S, 12, /* is_leader= */ true);
    assert_int_equal(got, 1);
    compactor_done(&c, now_ns, 12, /* ok= */ true);
    for (int64_t newest = 13; newest < 22; newest++)
        assert_int_equal(compactor_step(&c, now_ns += NS_PER_S, newest, /* is_leader= */ true), 0);
    got = compactor_step(&c, now_ns += NS_PER_S, 22, /* is_leader= */ true);
    assert_int_equal(got, 11);
    compactor_deinit(&c);
}

static void test_periodic_leaves_it_to_the_leader(void **state)
{
    (void)state;
    struct compactor c = started(/* by_revision= */ false, 10 * NS_PER_S, 1);
    uint64_t now_ns = START_NS;
    for (int64_t newest = 2; newest < 40; newest++)
        assert_int_equal(compactor_step(&c, now_ns += NS_PER_S, newest, /* is_leader= */ false), 0);
    assert_int_equal(compactor_step(&c, now_ns += NS_PER_S, 40, /* is_leader= */ true), 29);
    compactor_deinit(&c);
}

static void test_periodic_of_an_idle_store_asks_for_nothing(void **state)
{
    (void)state;
    struct compactor c = started(/* by_revision= */ false, 10 * NS_PER_S, 7);
    uint64_t now_ns = START_NS;
    uint32_t asked = 0;
    for (uint32_t i = 0; i < 100; i++) {
        int64_t got = compactor_step(&c, now_ns += NS_PER_S, 7, /* is_leader= */ true);
        if (got == 0)
            continue;
        assert_int_equal(got, 7);
        compactor_done(&c, now_ns, 7, /* ok= */ true);
        asked++;
    }
    assert_int_equal(asked, 1);
    compactor_deinit(&c);
}

static void test_revision_keeps_so_many(void **state)
{
    (void)state;
    struct compactor c = started(/* by_revision= */ true, 1000, 1);
    assert_int_equal(c.interval_ns, 5 * MINUTE_NS);
    assert_int_equal(compactor_step(&c, START_NS, 1000, /* is_leader= */ true), 0);
    assert_int_equal(compactor_step(&c, START_NS, 1500, /* is_leader= */ false), 0);
    assert_int_equal(compactor_step(&c, START_NS, 1500, /* is_leader= */ true), 500);
    compactor_done(&c, START_NS, 1500, /* ok= */ false);
    assert_int_equal(compactor_step(&c, START_NS, 1500, /* is_leader= */ true), 500);
    compactor_done(&c, START_NS, 1500, /* ok= */ true);
    assert_int_equal(compactor_step(&c, START_NS, 1500, /* is_leader= */ true), 0);
    assert_int_equal(compactor_step(&c, START_NS, 1501, /* is_leader= */ true), 501);
    compactor_deinit(&c);
}

static void test_retentions_of_all_sizes(void **state)
{
    (void)state;
    struct compactor c;
    assert_int_equal(compactor_init(&c, /* by_revision= */ false, UINT64_MAX / 2), ST_TOO_BIG);
    check_run(/* ns= */ 1, 1, 1, 1);
    check_run(/* ns= */ 9, 1, 9, 1);
    check_run(365 * 24 * HOUR_NS, 1, 365 * 24 * HOUR_NS, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_periodic_keeps_the_retention),
        cmocka_unit_test(test_periodic_of_a_day_compacts_every_hour),
        cmocka_unit_test(test_periodic_tries_again_after_a_failure),
        cmocka_unit_test(test_periodic_leaves_it_to_the_leader),
        cmocka_unit_test(test_periodic_of_an_idle_store_asks_for_nothing),
        cmocka_unit_test(test_revision_keeps_so_many),
        cmocka_unit_test(test_retentions_of_all_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
