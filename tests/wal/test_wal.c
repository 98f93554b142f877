#include "tests/wal/fixture.h"

#include "base/minmax.h"

static void test_wal_keeps_entries_over_a_restart(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    fixture_open(&f, /* create= */ true);
    assert_int_equal(f.recovered.last_index, 0);
    for (raft_index i = 1; i <= 100; i++)
        fixture_append(&f, 1, i, i);
    fixture_append(&f, 1, 101, 200);
    fixture_check(&f, 1, 200, term_is_one);
    fixture_close(&f);
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.first_index, 1);
    assert_int_equal(f.recovered.last_index, 200);
    assert_int_equal(f.recovered.hard_state.term, 1);
    assert_int_equal(f.recovered.hard_state.vote, 1);
    assert_int_equal(f.recovered.hard_state.commit, 100);
    assert_string_equal(f.report.text, "");
    fixture_check(&f, 1, 200, term_is_one);
    fixture_append(&f, 1, 201, 210);
    fixture_check(&f, 150, 210, term_is_one);
    fixture_deinit(&f);
}

static raft_term term_two_from_six(raft_index index)
{
    return index < 6 ? 1 : 2;
}

static void test_wal_truncates_from_a_lower_index(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    fixture_open(&f, /* create= */ true);
    fixture_append(&f, 1, 1, 3);
    fixture_append(&f, 1, 4, 10);
    fixture_append(&f, 2, 6, 8);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.last_index, 8);
    fixture_check(&f, 1, 8, term_two_from_six);
    struct raft_entry entry;
    uint32_t count;
    assert_int_equal(wal_read(f.wal, 9, 9, 100, &entry, &count), ST_NOT_FOUND);
    fixture_close(&f);
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, 8);
    fixture_check(&f, 1, 8, term_two_from_six);
    fixture_deinit(&f);
}

static void test_wal_commits_everything_staged_in_one_batch(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 256 << 10);
    fixture_open(&f, /* create= */ true);
    fake_disk_set_auto(f.disk, false);
    assert_int_equal(fixture_stage(&f, 1, 1, 1, 0), ST_OK);
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
    for (raft_index i = 2; i <= 20; i++)
        assert_int_equal(fixture_stage(&f, 1, i, i, 0), ST_OK);
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
    assert_int_equal(f.durable_ticket, 0);
    assert_true(fake_disk_complete(f.disk));
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
    assert_int_equal(f.durable_ticket, 1);
    assert_true(fake_disk_complete(f.disk));
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
    assert_int_equal(f.durable_ticket, 20);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 2);
    assert_int_equal(stat.durable_index, 20);
    fixture_deinit(&f);
}

static void test_wal_writes_nothing_for_a_commit_index(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    fixture_open(&f, /* create= */ true);
    fixture_append(&f, 1, 1, 5);
    struct raft_hard_state hard_state = {.term = 1, .vote = 1, .commit = 5};
    struct wal_append append = {.hard_state = &hard_state};
    assert_int_equal(wal_append(f.wal, &append, &f.ticket), ST_OK);
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
    assert_int_equal(f.durable_ticket, f.ticket);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 1);
    hard_state.vote = 2;
    assert_int_equal(wal_append(f.wal, &append, &f.ticket), ST_OK);
    assert_int_equal(fixture_settle(&f), ST_OK);
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 2);
    fixture_close(&f);
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.hard_state.vote, 2);
    assert_int_equal(f.recovered.hard_state.commit, 5);
    fixture_deinit(&f);
}

/* A roll is an ordinary commit: as many durable writes as batches, and no sync by the writer. */
static void test_wal_roll_adds_no_flush(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    for (raft_index i = 1; i <= 40; i++) {
        fixture_step_preparer(&f);
        struct fake_disk_stat before, after;
        fake_disk_get_stat(f.disk, &before);
        assert_int_equal(fixture_stage(&f, 1, i, i, 0), ST_OK);
        assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
        assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_OK);
        assert_int_equal(f.durable_ticket, f.ticket);
        fake_disk_get_stat(f.disk, &after);
        assert_int_equal(after.durable_writes_count, before.durable_writes_count + 1);
        assert_int_equal(after.calls_count, before.calls_count + 1);
    }
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_true(stat.segments_count >= 5);
    fixture_check(&f, 1, 40, term_is_one);
    fixture_deinit(&f);
}

static void test_wal_takes_an_entry_larger_than_a_segment(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    fixture_open(&f, /* create= */ true);
    fixture_append(&f, 1, 1, 1);
    size_t len = 12 << 20;
    assert_int_equal(fixture_stage_len(&f, 1, 2, len), ST_OK);
    assert_int_equal(fixture_settle(&f), ST_OK);
    fixture_append(&f, 1, 3, 3);
    fixture_close(&f);
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, 3);
    struct raft_entry entries[3];
    uint32_t count;
    assert_int_equal(wal_read(f.wal, 1, 3, UINT64_MAX, entries, &count), ST_OK);
    assert_int_equal(count, 3);
    struct raft_payload *expected = entry_payload(1, 2, len);
    assert_true(slice_eq(raft_payload_slice(entries[1].payload), raft_payload_slice(expected)));
    raft_payload_unref(expected);
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(entries[i].payload);
    fixture_deinit(&f);
}

static void test_wal_splits_what_is_over_a_mebibyte(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 4 << 20);
    fixture_open(&f, /* create= */ true);
    for (raft_index i = 1; i <= 5; i++)
        assert_int_equal(fixture_stage_len(&f, 1, i, 400 << 10), ST_OK);
    assert_int_equal(fixture_settle(&f), ST_OK);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 3);
    fixture_deinit(&f);
}

static void test_wal_releases_and_recycles_segments(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    for (raft_index i = 1; i <= 200; i++) {
        fixture_step_preparer(&f);
        fixture_append(&f, 1, i, i);
        wal_release(f.wal, i > 5 ? i - 5 : 1);
    }
    fixture_step_preparer(&f);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_in_range(stat.segments_count, 5, 7);
    assert_in_range(stat.spares_count, 1, 2);
    assert_true(stat.first_index > 150);
    struct raft_entry entry;
    uint32_t count;
    assert_int_equal(wal_read(f.wal, 1, 1, 100, &entry, &count), ST_COMPACTED);
    fixture_check(&f, stat.first_index, 200, term_is_one);
    fixture_close(&f);
    f.options.store_mark = (struct raft_log_id){.index = 195, .term = 1};
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, 200);
    assert_int_equal(f.recovered.first_index, stat.first_index);
    fixture_check(&f, stat.first_index, 200, term_is_one);
    fixture_deinit(&f);
}

static struct raft_snapshot_meta snapshot_at(raft_index index, raft_term term)
{
    struct raft_snapshot_meta meta = {.last = {.index = index, .term = term}};
    meta.conf_state.voters[0] = 7;
    meta.conf_state.voters_count = 1;
    meta.conf_state.learners[0] = 9;
    meta.conf_state.learners_count = 1;
    return meta;
}

static void test_wal_snapshot_replaces_the_log_and_outlives_its_segment(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    fixture_append(&f, 1, 1, 10);
    struct raft_snapshot_meta meta = snapshot_at(100, 1);
    struct wal_append append = {.snapshot = &meta};
    assert_int_equal(wal_append(f.wal, &append, &f.ticket), ST_OK);
    assert_int_equal(fixture_settle(&f), ST_OK);
    struct raft_entry entry;
    uint32_t count;
    assert_int_equal(wal_read(f.wal, 5, 5, 100, &entry, &count), ST_COMPACTED);
    for (raft_index i = 101; i <= 300; i++) {
        fixture_append(&f, 1, i, i);
        wal_release(f.wal, i);
        fixture_step_preparer(&f);
    }
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_true(stat.first_index > 150);
    fixture_close(&f);
    f.options.store_mark = (struct raft_log_id){.index = 300, .term = 1};
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.snapshot.last.index, 100);
    assert_int_equal(f.recovered.snapshot.conf_state.voters[0], 7);
    assert_int_equal(f.recovered.snapshot.conf_state.learners[0], 9);
    assert_int_equal(f.recovered.last_index, 300);
    fixture_deinit(&f);
}

static void test_wal_closes_the_last_batch_when_idle(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    fixture_open(&f, /* create= */ true);
    assert_int_equal(wal_idle(f.wal, f.now_ns), UINT64_MAX);
    fixture_append(&f, 1, 1, 5);
    uint64_t due_ns = wal_idle(f.wal, f.now_ns);
    assert_in_range(due_ns, f.now_ns + NS_PER_S - 10 * NS_PER_MS, f.now_ns + NS_PER_S);
    f.now_ns = due_ns;
    assert_int_equal(wal_idle(f.wal, f.now_ns), UINT64_MAX);
    assert_int_equal(fixture_settle(&f), ST_OK);
    struct wal_stat stat;
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 2);
    assert_int_equal(wal_idle(f.wal, f.now_ns + NS_PER_S * 100), UINT64_MAX);
    assert_int_equal(wal_finish(f.wal), ST_OK);
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 2);
    assert_int_equal(fixture_stage(&f, 1, 6, 6, 0), ST_OK);
    assert_int_equal(wal_finish(f.wal), ST_OK);
    wal_get_stat(f.wal, &stat);
    assert_int_equal(stat.batches_count, 4);
    fixture_deinit(&f);
}

static void test_wal_open_says_what_is_wrong(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 64 << 10);
    uint64_t life_id = 0;
    assert_int_equal(fixture_try_open(&f, /* create= */ false), ST_NOT_FOUND);
    assert_non_null(strstr(f.report.text, "does not exist"));
    assert_int_equal(wal_find_life(fake_disk_base(f.disk), DIR, &life_id), ST_NOT_FOUND);
    fixture_open(&f, /* create= */ true);
    fixture_close(&f);
    fixture_open(&f, /* create= */ true); /* nothing was written: the first start was interrupted */
    fixture_append(&f, 1, 1, 5);
    fixture_close(&f);
    assert_int_equal(fixture_try_open(&f, /* create= */ true), ST_EXISTS);
    assert_int_equal(wal_find_life(fake_disk_base(f.disk), DIR, &life_id), ST_OK);
    assert_true(life_id == LIFE_ID);
    f.options.life_id = 99;
    assert_int_equal(fixture_try_open(&f, /* create= */ false), ST_INVALID);
    assert_non_null(strstr(f.report.text, "belongs to another log"));
    f.options.life_id = LIFE_ID;
    f.options.store_mark = (struct raft_log_id){.index = 9, .term = 1};
    assert_int_equal(fixture_try_open(&f, /* create= */ false), ST_CORRUPT);
    assert_non_null(strstr(f.report.text, "Entries 6 to 9 "));
    f.options.store_mark = (struct raft_log_id){.index = 5, .term = 2};
    assert_int_equal(fixture_try_open(&f, /* create= */ false), ST_CORRUPT);
    assert_non_null(strstr(f.report.text, "different histories"));
    f.options.store_mark = (struct raft_log_id){0};
    fake_disk_put(f.disk, DIR "/0000000000000000-0000000000000000.wal", SLICE("etcd"));
    assert_int_equal(fixture_try_open(&f, /* create= */ false), ST_INVALID);
    assert_non_null(strstr(f.report.text, "another program's"));
    fixture_deinit(&f);
}

static void test_wal_waits_out_a_full_disk(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    fake_disk_set_capacity(f.disk, 100 << 10);
    enum status st = ST_OK;
    raft_index last = 0;
    while (st == ST_OK) {
        last++;
        assert_int_equal(fixture_stage(&f, 1, last, last, 0), ST_OK);
        st = fixture_settle(&f);
    }
    assert_int_equal(st, ST_NO_SPACE);
    assert_in_range(last, 15, 25);
    f.now_ns += 2 * NS_PER_S;
    wal_preparer_step(f.wal, f.now_ns);
    assert_int_equal(wal_poll(f.wal, &f.durable_ticket), ST_NO_SPACE);
    assert_int_equal(f.durable_ticket, f.ticket - 1);
    fake_disk_set_capacity(f.disk, 1 << 20);
    f.now_ns += 2 * NS_PER_S;
    fixture_step_preparer(&f);
    assert_int_equal(fixture_settle(&f), ST_OK);
    fixture_close(&f);
    fixture_open(&f, /* create= */ false);
    assert_int_equal(f.recovered.last_index, last);
    fixture_check(&f, 1, last, term_is_one);
    fixture_deinit(&f);
}

/* With the disk full, what the store no longer needs is enough to go on with. */
static void test_wal_recycles_what_followers_might_want_when_the_disk_is_full(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 1, 32 << 10);
    fixture_open(&f, /* create= */ true);
    fake_disk_set_capacity(f.disk, 100 << 10);
    for (raft_index i = 1; i <= 100; i++) {
        assert_int_equal(fixture_stage(&f, 1, i, i, 0), ST_OK);
        enum status st = fixture_settle(&f);
        if (st == ST_NO_SPACE) /* the first to hear of it: the next poll gives up what is kept */
            st = fixture_settle(&f);
        assert_int_equal(st, ST_OK);
        wal_release(f.wal, i);
    }
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wal_keeps_entries_over_a_restart),
        cmocka_unit_test(test_wal_truncates_from_a_lower_index),
        cmocka_unit_test(test_wal_commits_everything_staged_in_one_batch),
        cmocka_unit_test(test_wal_writes_nothing_for_a_commit_index),
        cmocka_unit_test(test_wal_roll_adds_no_flush),
        cmocka_unit_test(test_wal_takes_an_entry_larger_than_a_segment),
        cmocka_unit_test(test_wal_splits_what_is_over_a_mebibyte),
        cmocka_unit_test(test_wal_releases_and_recycles_segments),
        cmocka_unit_test(test_wal_snapshot_replaces_the_log_and_outlives_its_segment),
        cmocka_unit_test(test_wal_closes_the_last_batch_when_idle),
        cmocka_unit_test(test_wal_open_says_what_is_wrong),
        cmocka_unit_test(test_wal_waits_out_a_full_disk),
        cmocka_unit_test(test_wal_recycles_what_followers_might_want_when_the_disk_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
