/* The watch over the quota: when it raises this member's alarm and when it takes it back. */
#include "server/metrics/metrics.h"
#include "server/run/quota.h"
#include "tests/server_services/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct quota_watch watch_of(struct fixture *f, uint64_t quota_bytes, uint32_t clear_percent)
{
    return (struct quota_watch){.store = f->harness.store,
                                .mvcc = f->harness.mvcc,
                                .loops = &f->loops,
                                .machine = f->harness.machine,
                                .quota_bytes = quota_bytes,
                                .warn_percent = 80,
                                .clear_percent = clear_percent,
                                .timeout_ns = NS_PER_S};
}

static bool is_raised(struct fixture *f, raft_id member)
{
    const struct alarm alarm = {.member = member, .type = ALARM_NOSPACE};
    return machine_is_alarm_active(f->harness.machine, &alarm);
}

static void apply_alarm_entry(struct fixture *f, enum alarm_action action, raft_id member)
{
    struct raft_payload *payload = machine_alarm_payload(1, action, member, ALARM_NOSPACE);
    (void)harness_apply_data(&f->harness, raft_payload_slice(payload), &f->harness.arena);
    raft_payload_unref(payload);
}

/* What others wrote takes it over; what was disarmed by hand stays so until somebody writes. */
static void test_quota_watch_raises_the_alarm_after_a_write(void **state)
{
    struct fixture *f = *state;
    struct quota_watch w = watch_of(f, /* quota_bytes= */ 1, /* clear_percent= */ 0);
    harness_set(&f->harness, "a", "1");
    quota_watch_step(&w);
    assert_true(is_raised(f, HARNESS_MEMBER_ID));
    assert_true(w.is_near);
    quota_watch_step(&w);
    assert_int_equal(f->loops.proposals, 1);
    apply_alarm_entry(f, ALARM_DEACTIVATE, HARNESS_MEMBER_ID);
    quota_watch_step(&w);
    assert_false(is_raised(f, HARNESS_MEMBER_ID));
    harness_set(&f->harness, "a", "2");
    quota_watch_step(&w);
    assert_true(is_raised(f, HARNESS_MEMBER_ID));
}

static void test_quota_watch_takes_back_its_own_alarm_only(void **state)
{
    struct fixture *f = *state;
    apply_alarm_entry(f, ALARM_ACTIVATE, HARNESS_MEMBER_ID);
    apply_alarm_entry(f, ALARM_ACTIVATE, 77);
    struct quota_watch never = watch_of(f, 1 << 30, /* clear_percent= */ 0);
    quota_watch_step(&never);
    assert_true(is_raised(f, HARNESS_MEMBER_ID));
    struct quota_watch w = watch_of(f, 1 << 30, /* clear_percent= */ 70);
    f->loops.refuse = API_TIMEOUT; /* tried again at the next look */
    quota_watch_step(&w);
    assert_true(is_raised(f, HARNESS_MEMBER_ID));
    f->loops.refuse = API_OK;
    quota_watch_step(&w);
    assert_false(is_raised(f, HARNESS_MEMBER_ID));
    assert_true(is_raised(f, 77));
    quota_watch_step(&w);
    assert_int_equal(f->loops.proposals, 2);
    assert_int_equal(w.alarms_count, 1);
}

/* Above the mark it stays, so that it does not come and go with each write. */
static void test_quota_watch_waits_for_the_low_mark(void **state)
{
    struct fixture *f = *state;
    struct store_stat stat;
    harness_set(&f->harness, "a", "1");
    apply_alarm_entry(f, ALARM_ACTIVATE, HARNESS_MEMBER_ID);
    assert_int_equal(store_get_stat(f->harness.store, &stat), ST_OK);
    uint64_t used = stat.backend.in_use_bytes + stat.generation_bytes;
    struct quota_watch w = watch_of(f, used * 100 / 75, /* clear_percent= */ 70);
    quota_watch_step(&w);
    assert_true(is_raised(f, HARNESS_MEMBER_ID));
    assert_false(w.is_near);
}

static void test_quota_watch_of_no_quota_does_nothing(void **state)
{
    struct fixture *f = *state;
    struct quota_watch w = watch_of(f, UINT64_MAX, /* clear_percent= */ 70);
    harness_set(&f->harness, "a", "1");
    apply_alarm_entry(f, ALARM_ACTIVATE, HARNESS_MEMBER_ID);
    quota_watch_step(&w);
    assert_int_equal(f->loops.proposals, 0);
    assert_false(w.is_near);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_quota_watch_raises_the_alarm_after_a_write),
        FIXTURE_TEST(test_quota_watch_takes_back_its_own_alarm_only),
        FIXTURE_TEST(test_quota_watch_waits_for_the_low_mark),
        FIXTURE_TEST(test_quota_watch_of_no_quota_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
