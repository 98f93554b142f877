#include "raft/progress.h"

#include "raft/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct flow_limits limits = {.messages_max = 3, .bytes_max = 100};

static struct progress at(raft_index match, raft_index next, enum progress_state state)
{
    return (struct progress){.id = 1, .match = match, .next = next, .state = state};
}

static void sent(struct progress *p, uint32_t count, uint64_t bytes)
{
    assert_int_equal(progress_reserve(p, &raft_memory_system), ST_OK);
    progress_sent_entries(p, count, bytes, &limits);
    progress_check(p);
}

static void test_progress_probe_sends_one_append_at_a_time(void **state)
{
    (void)state;
    struct progress p = at(0, 5, PROGRESS_PROBE);
    sent(&p, 0, 0);
    assert_false(progress_is_paused(&p)); /* an empty one does not count */
    sent(&p, 2, 10);
    assert_true(progress_is_paused(&p));
    assert_int_equal(p.next, 5);
    progress_deinit(&p, &raft_memory_system);
}

static void test_progress_replicate_pauses_when_enough_is_on_its_way(void **state)
{
    (void)state;
    struct progress p = at(4, 5, PROGRESS_REPLICATE);
    sent(&p, 2, 10);
    sent(&p, 2, 10);
    assert_false(progress_is_paused(&p));
    sent(&p, 1, 10);
    assert_true(progress_is_paused(&p)); /* three messages */
    assert_int_equal(p.next, 10);
    assert_true(progress_maybe_update(&p, 6));
    progress_free_inflights(&p, 6);
    assert_int_equal(p.inflights.count, 2);
    assert_false(progress_is_paused(&p));
    sent(&p, 1, 80);
    assert_true(progress_is_paused(&p)); /* and 100 bytes */
    progress_free_inflights(&p, 10);
    assert_int_equal(p.inflights.count, 0);
    assert_int_equal(p.inflights.bytes, 0);
    progress_deinit(&p, &raft_memory_system);
}

static void test_progress_inflights_grow_round_the_ring(void **state)
{
    (void)state;
    static const struct flow_limits wide = {.messages_max = 100};
    struct progress p = at(0, 1, PROGRESS_REPLICATE);
    for (raft_index i = 1; i <= 60; i++) {
        assert_int_equal(progress_reserve(&p, &raft_memory_system), ST_OK);
        progress_sent_entries(&p, 1, 1, &wide);
        if (i % 3 == 0)
            progress_free_inflights(&p, i / 3);
        progress_check(&p);
    }
    assert_int_equal(p.inflights.count, 40);
    progress_deinit(&p, &raft_memory_system);
}

static void test_progress_old_answers_change_nothing(void **state)
{
    (void)state;
    struct progress p = at(5, 9, PROGRESS_REPLICATE);
    assert_false(progress_maybe_update(&p, 5));
    assert_false(progress_maybe_decrease(&p, 5, 2)); /* it has 5 since */
    p = at(5, 9, PROGRESS_PROBE);
    assert_false(progress_maybe_decrease(&p, 7, 2)); /* not what was asked */
    assert_int_equal(p.next, 9);
}

static void test_progress_next_never_falls_to_match(void **state)
{
    (void)state;
    struct progress p = at(5, 9, PROGRESS_PROBE);
    p.sent_commit = 8;
    assert_true(progress_maybe_decrease(&p, 8, 2));
    assert_int_equal(p.next, 6);
    assert_int_equal(p.sent_commit, 5);
    progress_check(&p);
    p = at(0, 9, PROGRESS_PROBE);
    assert_true(progress_maybe_decrease(&p, 8, UINT64_MAX)); /* a hint of nonsense */
    assert_int_equal(p.next, 8);
    p = at(5, 20, PROGRESS_REPLICATE);
    assert_true(progress_maybe_decrease(&p, 9, 7));
    assert_int_equal(p.next, 6);
}

static void test_progress_after_a_snapshot_probes_behind_it(void **state)
{
    (void)state;
    struct progress p = at(5, 9, PROGRESS_SNAPSHOT);
    p.pending_snapshot = 30;
    assert_true(progress_is_paused(&p));
    progress_become_probe(&p);
    assert_int_equal(p.next, 31);
    assert_int_equal(p.pending_snapshot, 0);
    assert_false(progress_is_paused(&p));
}

static void test_progress_commit_is_told_only_where_it_helps(void **state)
{
    (void)state;
    struct progress p = at(5, 9, PROGRESS_REPLICATE);
    p.sent_commit = 6;
    assert_true(progress_can_bump_commit(&p, 7));
    assert_false(progress_can_bump_commit(&p, 6));
    p.sent_commit = 8; /* all that it can have been sent is committed */
    assert_false(progress_can_bump_commit(&p, 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_probe_sends_one_append_at_a_time),
        cmocka_unit_test(test_progress_replicate_pauses_when_enough_is_on_its_way),
        cmocka_unit_test(test_progress_inflights_grow_round_the_ring),
        cmocka_unit_test(test_progress_old_answers_change_nothing),
        cmocka_unit_test(test_progress_next_never_falls_to_match),
        cmocka_unit_test(test_progress_after_a_snapshot_probes_behind_it),
        cmocka_unit_test(test_progress_commit_is_told_only_where_it_helps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
