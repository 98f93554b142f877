#include "raft/log.h"

#include "raft/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Entries 1.. with the given terms, all durable when stable is set. */
static void fill(struct raft_log *log, const raft_term *terms, uint32_t count, bool stable)
{
    log_init(log, &raft_memory_system, (struct raft_log_id){0, 0});
    log->apply_unstable = true;
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry entry = {
            .index = i + 1, .term = terms[i], .payload = raft_payload_copy(SLICE("12345"))};
        assert_int_equal(log_reserve(log, 1, 1), ST_OK);
        log_append(log, &entry, 1);
        raft_payload_unref(entry.payload);
    }
    log_accept_in_progress(log);
    if (stable && count > 0)
        log_stable_to(log, log_last_id(log));
    log_check(log);
}

static void append(struct raft_log *log, raft_index index, raft_term term)
{
    struct raft_entry entry = {.index = index, .term = term};
    assert_int_equal(log_reserve(log, 1, 1), ST_OK);
    log_append(log, &entry, 1);
    log_check(log);
}

static void test_log_find_conflict_skips_whole_terms(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 1, 3, 3, 3, 5}, 6, /* stable= */ true);
    static const struct {
        raft_index index;
        raft_term term;
        struct raft_log_id expected;
    } cases[] = {
        {6, 5, {6, 5}}, {6, 4, {5, 3}}, {6, 2, {2, 1}}, {4, 3, {4, 3}},
        {4, 2, {2, 1}}, {6, 0, {0, 0}}, {9, 2, {9, 0}}, {0, 7, {0, 0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct raft_log_id got = log_find_conflict(&log, cases[i].index, cases[i].term);
        assert_int_equal(got.index, cases[i].expected.index);
        assert_int_equal(got.term, cases[i].expected.term);
    }
    log_deinit(&log);
}

static void test_log_find_conflict_below_the_window_is_unknown(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 2, 3, 4}, 4, /* stable= */ true);
    log_commit_to(&log, 3);
    log_applied_to(&log, 3, 0);
    log_compact(&log, 2);
    struct raft_log_id got = log_find_conflict(&log, 4, 2);
    assert_int_equal(got.index, 2); /* the entry before the window is known */
    assert_int_equal(got.term, 2);
    got = log_find_conflict(&log, 4, 1);
    assert_int_equal(got.index, 1);
    assert_int_equal(got.term, 0);
    log_deinit(&log);
}

static void test_log_window_slides_and_grows_round_its_ring(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1}, 1, /* stable= */ true);
    for (raft_index i = 2; i < 1000; i++) {
        append(&log, i, 1 + i / 50);
        log_accept_in_progress(&log);
        log_stable_to(&log, log_last_id(&log));
        log_commit_to(&log, i);
        log_applied_to(&log, i, 0);
        if (i % 100 == 0)
            log_compact(&log, i - 70);
        log_check(&log);
    }
    assert_int_equal(log_first(&log), 831);
    assert_true(log.ring_capacity <= 256);
    raft_term term;
    assert_false(log_term(&log, 829, &term));
    assert_true(log_term(&log, 830, &term));
    assert_int_equal(term, 1 + 830 / 50);
    log_compact(&log, UINT64_MAX);
    log_check(&log);
    assert_int_equal(log_first(&log), 1000);
    assert_int_equal(log.runs_count, 0);
    append(&log, 1000, 30);
    log_deinit(&log);
}

static void test_log_compact_keeps_what_is_not_applied_or_not_durable(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 1, 1, 1}, 4, /* stable= */ false);
    log_commit_to(&log, 4);
    log_stable_to(&log, (struct raft_log_id){3, 1});
    log_compact(&log, 4);
    assert_int_equal(log_first(&log), 1); /* nothing is applied */
    log_applied_to(&log, 4, 0);
    log_compact(&log, 4);
    assert_int_equal(log_first(&log), 4); /* 4 is not durable */
    assert_int_equal(log_durable(&log).index, 3);
    log_check(&log);
    log_deinit(&log);
}

static void test_log_stable_to_ignores_what_is_not_waiting(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 2, 2}, 3, /* stable= */ false);
    assert_int_equal(log.unstable_bytes, 15);
    log_stable_to(&log, (struct raft_log_id){9, 2}); /* beyond */
    log_stable_to(&log, (struct raft_log_id){2, 1}); /* another term */
    assert_int_equal(log_durable(&log).index, 0);
    log_stable_to(&log, (struct raft_log_id){2, 2});
    assert_int_equal(log_durable(&log).index, 2);
    assert_int_equal(log.unstable_bytes, 5);
    log_stable_to(&log, (struct raft_log_id){1, 1}); /* known already */
    assert_int_equal(log_durable(&log).index, 2);
    log_deinit(&log);
}

static void test_log_truncation_lowers_durable_in_the_same_step(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 1, 2, 2}, 4, /* stable= */ true);
    append(&log, 3, 3);
    assert_int_equal(log.last, 3);
    assert_int_equal(log_durable(&log).index, 2);
    assert_int_equal(log_durable(&log).term, 1);
    assert_int_equal(log_writable_count(&log), 1);
    log_deinit(&log);
}

static void test_log_hands_out_only_durable_entries_unless_told(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 1, 1}, 3, /* stable= */ false);
    log.apply_unstable = false;
    log_commit_to(&log, 3);
    raft_index last;
    uint64_t bytes;
    assert_false(log_next_committed(&log, &last, &bytes));
    log_stable_to(&log, (struct raft_log_id){2, 1});
    assert_true(log_next_committed(&log, &last, &bytes));
    assert_int_equal(last, 2);
    log.apply_unstable = true;
    assert_true(log_next_committed(&log, &last, &bytes));
    assert_int_equal(last, 3);
    log_deinit(&log);
}

static void test_log_pages_pause_until_applied(void **state)
{
    (void)state;
    struct raft_log log;
    fill(&log, (raft_term[]){1, 1, 1, 1}, 4, /* stable= */ true);
    uint64_t one = raft_entry_bytes(log_at(&log, 1));
    assert_int_equal(one, 2 + 2 + 2 + 7);
    log.applying_bytes_max = 2 * one + 1;
    log_commit_to(&log, 4);
    raft_index last;
    uint64_t bytes;
    assert_true(log_next_committed(&log, &last, &bytes));
    assert_int_equal(last, 2);
    log_accept_applying(&log, last, bytes);
    /* Room for a byte is left, but the batch was cut short: what follows waits as well. */
    assert_false(log_next_committed(&log, &last, &bytes));
    log_applied_to(&log, 2, 2 * one);
    log.applying_bytes_max = 1; /* one entry goes however big it is */
    assert_true(log_next_committed(&log, &last, &bytes));
    assert_int_equal(last, 3);
    log_deinit(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_find_conflict_skips_whole_terms),
        cmocka_unit_test(test_log_find_conflict_below_the_window_is_unknown),
        cmocka_unit_test(test_log_window_slides_and_grows_round_its_ring),
        cmocka_unit_test(test_log_compact_keeps_what_is_not_applied_or_not_durable),
        cmocka_unit_test(test_log_stable_to_ignores_what_is_not_waiting),
        cmocka_unit_test(test_log_truncation_lowers_durable_in_the_same_step),
        cmocka_unit_test(test_log_hands_out_only_durable_entries_unless_told),
        cmocka_unit_test(test_log_pages_pause_until_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
