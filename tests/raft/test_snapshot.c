/* What is not in memory any more: the leader has it read or sends a snapshot; the other side puts a
 * snapshot in the place of its log. */
#include "tests/raft/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- the leader ---- */

/* A leader of term 2 whose window begins at 7: 1..5 of term 1, 6 its own, all committed. 3 has said
 * that it has nothing. */
static struct member *leader_past_its_window(void)
{
    struct raft_config config = member_config(1);
    config.window_entries_max = 0;
    struct member *m = leader_of_three(&config, (raft_term[]){1, 1, 1, 1, 1}, 5);
    acknowledge(m, 2, 6);
    member_settle(m);
    member_commit_store(m);
    raft_compact(m->raft, 6);
    assert_int_equal(member_status(m).window_first, 7);
    m->outbox_count = m->fetches_count = 0;
    receive(m, (struct raft_message){.type = RAFT_MSG_APP_RESP,
                                     .from = 3,
                                     .term = 2,
                                     .reject = true,
                                     .index = 5,
                                     .reject_hint = 0});
    member_settle(m);
    return m;
}

static struct raft_progress progress_of(struct member *m, raft_id id)
{
    struct raft_progress progress;
    assert_int_equal(raft_get_progress(m->raft, id, &progress), ST_OK);
    return progress;
}

static struct raft_snapshot_meta snapshot_at(raft_index index, raft_term term)
{
    return (struct raft_snapshot_meta){
        .last = {.index = index, .term = term},
        .conf_state = {.voters = {1, 2, 3}, .voters_count = 3},
    };
}

static void ask_for_snapshot(struct member *m)
{
    m->fetches_count = 0;
    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){0}, NULL, 0), ST_OK);
    member_settle(m);
    assert_int_equal(m->fetches_count, 1);
    assert_int_equal(m->fetches[0].kind, RAFT_FETCH_SNAPSHOT);
    assert_int_equal(m->fetches[0].peer, 3);
}

static void beat_answered(struct member *m, raft_id from)
{
    receive(m, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .from = from, .term = 2});
    member_settle(m);
}

static void test_entries_below_the_window_are_read_and_sent(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    assert_int_equal(m->fetches_count, 1);
    assert_int_equal(m->fetches[0].kind, RAFT_FETCH_ENTRIES);
    assert_int_equal(m->fetches[0].peer, 3);
    assert_int_equal(m->fetches[0].first, 1);
    assert_int_equal(m->fetches[0].bytes_max, m->config.message_bytes_max);
    assert_null(member_sent(m, RAFT_MSG_APP, 3));
    beat_answered(m, 3); /* asked once, however often it is heard of */
    assert_int_equal(m->fetches_count, 1);

    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){0}, m->disk, 3), ST_OK);
    member_settle(m);
    const struct raft_message *sent = member_sent(m, RAFT_MSG_APP, 3);
    assert_non_null(sent);
    assert_int_equal(sent->index, 0);
    assert_int_equal(sent->entries_count, 3);
    acknowledge(m, 3, 3);
    member_settle(m);
    assert_int_equal(m->fetches_count, 2);
    assert_int_equal(m->fetches[1].first, 4);
    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){3, 1}, m->disk + 3, 3),
                     ST_OK);
    member_settle(m);
    acknowledge(m, 3, 6);
    member_settle(m);
    assert_int_equal(m->fetches_count, 2); /* the rest is in memory */
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_REPLICATE);
    assert_int_equal(progress_of(m, 3).match, 6);
    member_free(m);
}

static void test_entries_read_too_late_are_ignored(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    acknowledge(m, 3, 4); /* it had them after all */
    member_settle(m);
    m->outbox_count = 0;
    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){0}, m->disk, 3), ST_OK);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_APP, 3));
    assert_int_equal(m->fetches[m->fetches_count - 1].first, 5); /* asked anew from there */
    member_free(m);
}

static void test_entries_read_that_do_not_follow_are_refused(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){0}, m->disk + 1, 2),
                     ST_INVALID);
    member_settle(m);
    assert_int_equal(m->fetches[1].kind, RAFT_FETCH_SNAPSHOT);
    member_free(m);
}

static void test_nothing_is_read_for_a_member_not_heard_of(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.window_entries_max = 0;
    struct member *m = leader_of_three(&config, (raft_term[]){1, 1}, 2);
    acknowledge(m, 2, 3);
    member_settle(m);
    member_commit_store(m);
    raft_compact(m->raft, 3);
    m->fetches_count = 0;
    raft_index index;
    raft_report_unreachable(m->raft, 3);
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    for (uint32_t i = 0; i < 5; i++)
        raft_tick(m->raft);
    member_settle(m);
    assert_int_equal(m->fetches_count, 0);
    beat_answered(m, 3);
    assert_int_equal(m->fetches_count, 1);
    member_free(m);
}

static void test_nothing_is_read_for_a_member_that_fell_silent(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    ask_for_snapshot(m);
    assert_int_equal(raft_snapshot_offer(m->raft, 3, NULL), ST_OK);
    for (uint32_t i = 0; i < m->config.election_ticks; i++)
        raft_tick(m->raft); /* the check of the quorum forgets who was heard of */
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    m->fetches_count = 0;
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_settle(m);
    assert_int_equal(m->fetches_count, 0);
    beat_answered(m, 3);
    assert_int_equal(m->fetches_count, 1);
    member_free(m);
}

static void test_snapshot_is_sent_and_ends_with_an_answer_that_reconnects(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    ask_for_snapshot(m);
    struct raft_snapshot_meta snapshot = snapshot_at(6, 2);
    assert_int_equal(raft_snapshot_offer(m->raft, 3, &snapshot), ST_OK);
    m->outbox_count = 0;
    member_settle(m);
    assert_non_null(member_sent(m, RAFT_MSG_SNAP, 3));
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_SNAPSHOT);
    assert_int_equal(progress_of(m, 3).pending_snapshot, 6);
    assert_true(progress_of(m, 3).is_paused);
    /* Nothing goes to it meanwhile. */
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    beat_answered(m, 3);
    assert_null(member_sent(m, RAFT_MSG_APP, 3));
    acknowledge(m, 3, 2); /* an old answer: that is not where the entries are */
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_SNAPSHOT);
    acknowledge(m, 3, 6);
    member_settle(m);
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_REPLICATE);
    assert_int_equal(member_sent(m, RAFT_MSG_APP, 3)->index, 6);
    member_free(m);
}

static void test_snapshot_reported_delivered_is_probed_behind(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    ask_for_snapshot(m);
    struct raft_snapshot_meta snapshot = snapshot_at(6, 2);
    assert_int_equal(raft_snapshot_offer(m->raft, 3, &snapshot), ST_OK);
    raft_report_snapshot(m->raft, 2, true); /* no snapshot to 2: nothing happens */
    assert_int_equal(progress_of(m, 2).state, RAFT_PROGRESS_REPLICATE);
    raft_report_snapshot(m->raft, 3, true);
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_PROBE);
    assert_int_equal(progress_of(m, 3).next, 7);
    assert_true(progress_of(m, 3).is_paused); /* it may still be installing */
    member_settle(m);
    m->outbox_count = 0;
    beat_answered(m, 3);
    assert_int_equal(member_sent(m, RAFT_MSG_APP, 3)->index, 6);
    member_free(m);
}

static void test_snapshot_reported_lost_is_begun_again(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    ask_for_snapshot(m);
    struct raft_snapshot_meta snapshot = snapshot_at(6, 2);
    assert_int_equal(raft_snapshot_offer(m->raft, 3, &snapshot), ST_OK);
    member_settle(m);
    raft_report_snapshot(m->raft, 3, false);
    assert_int_equal(progress_of(m, 3).state, RAFT_PROGRESS_PROBE);
    assert_int_equal(progress_of(m, 3).next, 1);
    assert_true(progress_of(m, 3).is_paused);
    m->fetches_count = 0;
    beat_answered(m, 3);
    assert_int_equal(m->fetches_count, 1);
    assert_int_equal(m->fetches[0].kind, RAFT_FETCH_ENTRIES);
    member_free(m);
}

static void test_snapshot_that_will_not_do_is_asked_for_again(void **state)
{
    (void)state;
    struct raft_snapshot_meta beyond = snapshot_at(7, 2), stranger = snapshot_at(6, 2), none = {0};
    stranger.conf_state.voters_count = 2;
    const struct raft_snapshot_meta *offers[] = {NULL, &beyond, &stranger, &none};
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        struct member *m = leader_past_its_window();
        ask_for_snapshot(m);
        assert_int_equal(raft_snapshot_offer(m->raft, 3, offers[i]),
                         offers[i] == NULL ? ST_OK : ST_INVALID);
        m->outbox_count = m->fetches_count = 0;
        member_settle(m);
        assert_null(member_sent(m, RAFT_MSG_SNAP, 3));
        assert_int_equal(m->fetches_count, 0);
        beat_answered(m, 3);
        assert_int_equal(m->fetches_count, 1);
        member_free(m);
    }
}

static void test_fetches_end_with_leadership(void **state)
{
    (void)state;
    struct member *m = leader_past_its_window();
    heartbeat(m, 9, 0);
    m->outbox_count = 0;
    assert_int_equal(raft_entries_read(m->raft, 3, (struct raft_log_id){0}, m->disk, 3), ST_OK);
    struct raft_snapshot_meta snapshot = snapshot_at(6, 2);
    assert_int_equal(raft_snapshot_offer(m->raft, 3, &snapshot), ST_OK);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_APP, 3));
    assert_null(member_sent(m, RAFT_MSG_SNAP, 3));
    struct raft_progress progress;
    assert_int_equal(raft_get_progress(m->raft, 3, &progress), ST_DROPPED);
    assert_int_equal(raft_get_progress(m->raft, 9, &progress), ST_NOT_FOUND);
    member_free(m);
}

/* ---- the member that receives one ---- */

static void receive_snapshot(struct member *m, raft_term term,
                             const struct raft_snapshot_meta *snapshot)
{
    receive(m, (struct raft_message){
                   .type = RAFT_MSG_SNAP, .from = 2, .term = term, .snapshot = snapshot});
}

static void test_snapshot_takes_the_place_of_the_log(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1}, 2);
    struct raft_snapshot_meta snapshot = snapshot_at(9, 3);
    snapshot.conf_state.learners[0] = 7;
    snapshot.conf_state.learners_count = 1;
    receive_snapshot(m, 4, &snapshot);
    assert_int_equal(member_status(m).last_index, 9);
    assert_int_equal(member_status(m).hard_state.commit, 9);
    assert_int_equal(member_status(m).durable.index, 0); /* what there was no longer counts */
    assert_true(member_status(m).is_installing);
    assert_int_equal(raft_conf_state(m->raft)->learners_count, 1);

    assert_true(member_take_ready(m));
    const struct raft_ready *ready = m->appends.items[m->appends.head];
    assert_non_null(ready->append.snapshot);
    assert_int_equal(ready->append.snapshot->last.index, 9);
    assert_int_equal(ready->append.entries_count, 0);
    assert_int_equal(ready->apply.entries_count, 0);
    assert_true(ready->append.has_hard_state);
    assert_null(member_sent(m, RAFT_MSG_APP_RESP, 2)); /* not before it is installed */
    assert_int_equal(raft_campaign(m->raft), ST_DROPPED);
    assert_false(member_status(m).is_promotable);

    assert_true(member_finish_append(m));
    assert_int_equal(member_sent(m, RAFT_MSG_APP_RESP, 2)->index, 9);
    assert_false(member_status(m).is_installing);
    assert_int_equal(member_status(m).applied, 9);
    assert_int_equal(member_status(m).durable.index, 9);
    assert_int_equal(member_status(m).durable.term, 3);
    append_from(m, 2, 4, (struct raft_log_id){9, 3}, (raft_term[]){4, 4}, 2, 11);
    member_settle(m);
    assert_int_equal(m->applied, 11);
    member_free(m);
}

static void test_snapshot_survives_a_restart_only_when_installed(void **state)
{
    (void)state;
    struct raft_snapshot_meta snapshot = snapshot_at(9, 3);
    for (uint32_t written = 0; written < 2; written++) {
        struct member *m = follower((raft_term[]){1, 1}, 2);
        receive_snapshot(m, 4, &snapshot);
        assert_true(member_take_ready(m));
        member_crash_after(m, written);
        assert_int_equal(member_start(m), ST_OK);
        assert_int_equal(member_status(m).last_index, written == 0 ? 2 : 9);
        assert_int_equal(member_status(m).hard_state.term, written == 0 ? 1 : 4);
        raft_check(m->raft);
        member_free(m);
    }
}

static void test_snapshot_of_what_is_known_is_ignored(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1, 1, 1}, 4);
    heartbeat(m, 1, 2);
    member_settle(m);
    struct raft_snapshot_meta snapshot = snapshot_at(2, 1);
    receive_snapshot(m, 1, &snapshot);
    assert_int_equal(answer_of(m).index, 2);
    assert_int_equal(member_status(m).last_index, 4);
    /* The log holds the very entry: nothing is thrown away. */
    snapshot = snapshot_at(3, 1);
    receive_snapshot(m, 1, &snapshot);
    assert_int_equal(answer_of(m).index, 3);
    assert_int_equal(member_status(m).hard_state.commit, 3);
    assert_int_equal(member_status(m).last_index, 4);
    assert_int_equal(m->applied, 3);
    member_free(m);
}

static void test_snapshot_of_what_left_the_window_is_ignored(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.window_entries_max = 0;
    struct member *m = one_of_three(&config, (raft_term[]){1, 1, 1, 1}, 4);
    heartbeat(m, 1, 4);
    member_settle(m);
    member_commit_store(m);
    raft_compact(m->raft, 4);
    struct raft_snapshot_meta snapshot = snapshot_at(2, 1);
    receive_snapshot(m, 1, &snapshot);
    assert_int_equal(answer_of(m).index, 4);
    assert_false(member_status(m).is_installing);
    member_free(m);
}

static void test_snapshot_without_this_member_is_ignored(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_snapshot_meta snapshot = snapshot_at(9, 1);
    snapshot.conf_state = (struct raft_conf_state){.voters = {2, 3}, .voters_count = 2};
    receive_snapshot(m, 1, &snapshot);
    assert_int_equal(answer_of(m).index, 0);
    assert_int_equal(member_status(m).last_index, 1);
    member_free(m);
}

static void test_snapshot_that_no_leader_sends_is_invalid(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_snapshot_meta future = snapshot_at(9, 5), twice = snapshot_at(9, 1),
                              empty = snapshot_at(0, 1), many = snapshot_at(9, 1);
    twice.conf_state.learners[0] = 2; /* a voter and a learner */
    twice.conf_state.learners_count = 1;
    many.conf_state.voters_count = RAFT_MEMBERS_MAX + 1;
    const struct raft_snapshot_meta *snapshots[] = {NULL, &future, &twice, &empty, &many};
    for (size_t i = 0; i < sizeof(snapshots) / sizeof(snapshots[0]); i++) {
        struct raft_message message = {
            .type = RAFT_MSG_SNAP, .from = 2, .to = 1, .term = 1, .snapshot = snapshots[i]};
        assert_int_equal(raft_step(m->raft, &message), ST_INVALID);
        assert_int_equal(member_status(m).last_index, 1);
    }
    member_free(m);
}

static void test_snapshot_goes_to_the_log_before_what_follows_it(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_snapshot_meta snapshot = snapshot_at(9, 1);
    receive_snapshot(m, 1, &snapshot);
    append_from(m, 2, 1, (struct raft_log_id){9, 1}, (raft_term[]){1}, 1, 9);
    assert_int_equal(member_status(m).last_index, 9); /* as if lost */
    assert_true(member_take_ready(m));
    append_from(m, 2, 1, (struct raft_log_id){9, 1}, (raft_term[]){1}, 1, 10);
    assert_true(member_take_ready(m));
    assert_int_equal(member_status(m).last_index, 10);
    assert_true(member_status(m).is_installing);
    assert_int_equal(m->applied, 0);
    member_settle(m);
    assert_int_equal(m->applied, 10);
    assert_int_equal(member_sent(m, RAFT_MSG_APP_RESP, 2)->index, 10);
    member_free(m);
}

static void test_snapshot_later_one_replaces_the_one_being_installed(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_snapshot_meta first = snapshot_at(9, 1), second = snapshot_at(12, 1);
    receive_snapshot(m, 1, &first);
    assert_true(member_take_ready(m));
    receive_snapshot(m, 1, &second);
    assert_true(member_take_ready(m));
    assert_true(member_finish_append(m));
    assert_true(member_status(m).is_installing); /* the second one still is */
    assert_int_equal(member_status(m).durable.index, 0);
    assert_true(member_finish_append(m));
    assert_false(member_status(m).is_installing);
    assert_int_equal(member_status(m).applied, 12);
    assert_int_equal(member_status(m).durable.index, 12);
    member_settle(m);
    member_free(m);
}

static void test_snapshot_overtakes_apply(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1, 1}, 3);
    heartbeat(m, 1, 2);
    assert_true(member_take_ready(m)); /* 1 and 2 are being applied */
    struct raft_snapshot_meta snapshot = snapshot_at(9, 2);
    receive_snapshot(m, 2, &snapshot);
    member_settle(m);
    assert_int_equal(m->applied, 9);
    assert_int_equal(member_status(m).applied, 9);
    member_free(m);
}

static void test_snapshot_waits_while_apply_decides_a_change(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, (raft_id[]){1, 2, 3}, 3);
    assert_true(member_take_ready(m)); /* the founding changes are being applied */
    while (member_finish_append(m))
        continue;
    struct raft_snapshot_meta snapshot = snapshot_at(9, 2);
    receive_snapshot(m, 2, &snapshot);
    assert_int_equal(member_status(m).last_index, 3);
    member_settle(m);
    assert_int_equal(m->applied, 3);
    receive_snapshot(m, 2, &snapshot);
    member_settle(m);
    assert_int_equal(m->applied, 9);
    member_free(m);
}

static void test_snapshot_of_a_joint_configuration_is_restored(void **state)
{
    (void)state;
    struct member *m = follower(NULL, 0);
    struct raft_snapshot_meta snapshot = {
        .last = {.index = 9, .term = 1},
        .conf_state = {.voters = {1, 2},
                       .voters_count = 2,
                       .voters_outgoing = {1, 3},
                       .voters_outgoing_count = 2,
                       .learners = {5},
                       .learners_count = 1,
                       .learners_next = {3},
                       .learners_next_count = 1,
                       .auto_leave = true},
    };
    receive_snapshot(m, 1, &snapshot);
    member_settle(m);
    const struct raft_conf_state *cs = raft_conf_state(m->raft);
    assert_int_equal(cs->voters_outgoing_count, 2);
    assert_int_equal(cs->learners_next_count, 1);
    assert_true(cs->auto_leave);
    member_crash(m);
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(raft_conf_state(m->raft)->voters_outgoing_count, 2);
    member_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_below_the_window_are_read_and_sent),
        cmocka_unit_test(test_entries_read_too_late_are_ignored),
        cmocka_unit_test(test_entries_read_that_do_not_follow_are_refused),
        cmocka_unit_test(test_nothing_is_read_for_a_member_not_heard_of),
        cmocka_unit_test(test_nothing_is_read_for_a_member_that_fell_silent),
        cmocka_unit_test(test_snapshot_is_sent_and_ends_with_an_answer_that_reconnects),
        cmocka_unit_test(test_snapshot_reported_delivered_is_probed_behind),
        cmocka_unit_test(test_snapshot_reported_lost_is_begun_again),
        cmocka_unit_test(test_snapshot_that_will_not_do_is_asked_for_again),
        cmocka_unit_test(test_fetches_end_with_leadership),
        cmocka_unit_test(test_snapshot_takes_the_place_of_the_log),
        cmocka_unit_test(test_snapshot_survives_a_restart_only_when_installed),
        cmocka_unit_test(test_snapshot_of_what_is_known_is_ignored),
        cmocka_unit_test(test_snapshot_of_what_left_the_window_is_ignored),
        cmocka_unit_test(test_snapshot_without_this_member_is_ignored),
        cmocka_unit_test(test_snapshot_that_no_leader_sends_is_invalid),
        cmocka_unit_test(test_snapshot_goes_to_the_log_before_what_follows_it),
        cmocka_unit_test(test_snapshot_later_one_replaces_the_one_being_installed),
        cmocka_unit_test(test_snapshot_overtakes_apply),
        cmocka_unit_test(test_snapshot_waits_while_apply_decides_a_change),
        cmocka_unit_test(test_snapshot_of_a_joint_configuration_is_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
