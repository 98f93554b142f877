#include "tests/raft/member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const raft_id me = 7;

static struct member *lone_leader(const struct raft_config *config)
{
    struct member *m = member_new(config, /* seed= */ 1);
    member_found(m, &me, 1);
    member_lead(m);
    return m;
}

static struct member *default_leader(void)
{
    struct raft_config config = member_config(me);
    return lone_leader(&config);
}

static void test_lone_bootstrap_applies_its_own_membership(void **state)
{
    (void)state;
    struct raft_config config = member_config(me);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, &me, 1);
    assert_int_equal(raft_campaign(m->raft), ST_DROPPED); /* not a member yet */
    member_settle(m);
    assert_int_equal(m->disk_last, 1);
    assert_int_equal(m->disk[0].type, RAFT_ENTRY_CONF_CHANGE);
    assert_int_equal(m->disk[0].term, 1);
    assert_int_equal(m->conf_state.voters_count, 1);
    assert_int_equal(m->conf_state.voters[0], me);
    assert_true(member_status(m).is_lone_voter);
    member_free(m);
}

static void test_lone_leads_only_after_its_vote_is_durable(void **state)
{
    (void)state;
    struct raft_config config = member_config(me);
    config.pre_vote = false;
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, &me, 1);
    member_settle(m);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    assert_true(member_take_ready(m));
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    assert_int_equal(m->disk_hard_state.vote, 0);
    assert_true(member_finish_append(m));
    assert_int_equal(m->disk_hard_state.vote, me);
    assert_int_equal(m->disk_hard_state.term, 2);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    member_free(m);
}

static void test_lone_commits_only_what_is_durable(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_int_equal(index, 3);
    assert_true(member_take_ready(m));
    assert_int_equal(member_status(m).hard_state.commit, 2);
    assert_int_equal(member_status(m).durable.index, 2);
    member_finish_append(m);
    assert_int_equal(member_status(m).hard_state.commit, 3);
    assert_int_equal(member_status(m).durable.index, 3);
    member_settle(m);
    assert_int_equal(m->applied, 3);
    assert_int_equal(member_status(m).applied, 3);
    member_free(m);
}

static void test_lone_many_appends_may_be_outstanding(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(member_propose(m, "a", &index), ST_OK);
        assert_int_equal(index, 3 + i);
        assert_true(member_take_ready(m));
    }
    assert_int_equal(m->appends.count, 10);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(member_finish_append(m));
        assert_int_equal(member_status(m).hard_state.commit, 3 + i);
    }
    member_settle(m);
    assert_int_equal(m->applied, 12);
    member_free(m);
}

static void test_lone_restart_replays_what_the_store_lacks(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_settle(m);
    member_commit_store(m);
    assert_int_equal(m->store_applied, 7);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(member_propose(m, "b", &index), ST_OK);
    member_settle(m);
    member_crash(m);
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(member_status(m).applied, 7);
    member_lead(m);
    assert_int_equal(m->applied, 13); /* and the entry of the new term */
    assert_int_equal(member_status(m).hard_state.term, 3);
    member_free(m);
}

static void test_lone_restart_raises_commit_to_what_was_applied(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_settle(m);
    member_commit_store(m);
    m->disk_hard_state.commit = 1; /* saved without a sync: older than the store */
    member_crash(m);
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(member_status(m).hard_state.commit, 3);
    assert_false(raft_has_ready(m->raft));
    member_free(m);
}

static void test_read_waits_for_the_first_commit_of_the_term(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "acknowledged", &index), ST_OK);
    member_settle(m);
    member_crash(m);
    m->disk_hard_state.commit = 1; /* as if the last hint never reached the disk */
    assert_int_equal(member_start(m), ST_OK);
    member_settle(m);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    while (member_status(m).role != RAFT_LEADER) {
        member_take_ready(m);
        member_finish_append(m);
    }
    assert_int_equal(raft_read_index(m->raft, 41), ST_OK);
    assert_int_equal(raft_read_index(m->raft, 42), ST_OK);
    assert_true(member_take_ready(m));
    assert_int_equal(m->reads_count, 0);
    member_settle(m);
    assert_int_equal(m->reads_count, 2);
    assert_int_equal(m->reads[0].context, 41);
    assert_int_equal(m->reads[1].context, 42);
    assert_true(m->reads[0].index >= index);
    member_free(m);
}

static void test_read_of_a_lone_leader_needs_no_disk(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_true(member_take_ready(m));
    assert_int_equal(raft_read_index(m->raft, 9), ST_OK);
    assert_true(member_take_ready(m));
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(m->reads[0].index, 2); /* what is not committed does not count */
    member_free(m);
}

static void test_read_is_dropped_by_who_does_not_lead(void **state)
{
    (void)state;
    struct raft_config config = member_config(me);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, &me, 1);
    assert_int_equal(raft_read_index(m->raft, 1), ST_DROPPED);
    member_free(m);
}

static void test_propose_is_dropped_without_a_leader(void **state)
{
    (void)state;
    struct raft_config config = member_config(me);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, &me, 1);
    member_settle(m);
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_DROPPED);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    assert_int_equal(member_propose(m, "a", &index), ST_DROPPED);
    member_free(m);
}

static void test_campaign_waits_for_a_committed_conf_change(void **state)
{
    (void)state;
    struct member *m = default_leader();
    struct conf_change_single change = {.type = CONF_CHANGE_UPDATE_NODE, .node_id = me};
    struct raft_payload *payload = conf_change_encode_v1(1, change, SLICE_EMPTY);
    raft_index index;
    assert_int_equal(raft_propose_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, payload, &index),
                     ST_OK);
    raft_payload_unref(payload);
    member_settle(m);
    /* All but the change itself is in the store. */
    m->store_applied = index - 1;
    m->store_conf_state = m->conf_state;
    member_crash(m);
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(raft_campaign(m->raft), ST_BUSY);
    member_settle(m);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    member_free(m);
}

static struct raft_start sound_start(const struct raft_entry *entries, uint32_t count)
{
    return (struct raft_start){
        .hard_state = {.term = 3, .vote = me, .commit = 5},
        .conf_state = {.voters = {me}, .voters_count = 1},
        .before_first = {.index = 4, .term = 2},
        .entries = entries,
        .entries_count = count,
        .applied = 4,
    };
}

static enum status try_start(const struct raft_start *start)
{
    struct rng rng;
    rng_seed(&rng, /* seed= */ 1);
    struct raft_config config = member_config(me);
    config.rng = &rng;
    struct raft *raft;
    enum status st = raft_new(&config, start, &raft);
    raft_free(raft);
    return st;
}

static void test_start_refuses_what_contradicts_itself(void **state)
{
    (void)state;
    struct raft_entry entries[2] = {{.index = 5, .term = 2}, {.index = 6, .term = 3}};
    struct raft_start start = sound_start(entries, 2);
    assert_int_equal(try_start(&start), ST_OK);
    start.applied = 3; /* entry 4 is needed and not there */
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start.applied = 7; /* the store is ahead of the log */
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.hard_state.commit = 7;
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.hard_state.term = 2; /* holds an entry of a term it never promised */
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.before_first.index = 3; /* a gap */
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.before_first.term = 3; /* terms fall */
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.conf_state.learners[0] = me; /* voter and learner at once */
    start.conf_state.learners_count = 1;
    assert_int_equal(try_start(&start), ST_CORRUPT);
    start = sound_start(entries, 2);
    start.conf_state.voters_count = RAFT_MEMBERS_MAX + 1;
    assert_int_equal(try_start(&start), ST_CORRUPT);
}

static void test_start_refuses_a_configuration_without_sense(void **state)
{
    (void)state;
    struct raft_start start = sound_start(NULL, 0);
    start.hard_state.commit = 4;
    struct rng rng;
    rng_seed(&rng, /* seed= */ 1);
    struct raft_config config = member_config(me);
    struct raft *raft;
    assert_int_equal(raft_new(&config, &start, &raft), ST_INVALID); /* no randomness */
    config.rng = &rng;
    config.id = 0;
    assert_int_equal(raft_new(&config, &start, &raft), ST_INVALID);
    config.id = RAFT_ID_APPEND_THREAD;
    assert_int_equal(raft_new(&config, &start, &raft), ST_INVALID);
    config.id = me;
    config.heartbeat_ticks = config.election_ticks;
    assert_int_equal(raft_new(&config, &start, &raft), ST_INVALID);
    assert_null(raft);
}

static void test_compact_keeps_what_the_window_may_hold(void **state)
{
    (void)state;
    struct raft_config config = member_config(me);
    config.window_entries_max = 10;
    struct member *m = lone_leader(&config);
    raft_index index = 0;
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(member_propose(m, "0123456789", &index), ST_OK);
    member_settle(m);
    raft_compact(m->raft, 5);
    assert_int_equal(member_status(m).window_first, 6); /* the store has no more than that */
    raft_compact(m->raft, index);
    assert_int_equal(member_status(m).window_first, index - 9);
    assert_int_equal(member_status(m).window_bytes, 100);
    raft_check(m->raft);
    member_free(m);
}

static void test_joint_configuration_is_left_by_itself(void **state)
{
    (void)state;
    struct member *m = default_leader();
    /* AddLearner 8, AddLearner 9: two changes at once go by way of a joint configuration. */
    struct raft_payload *payload =
        raft_payload_copy(SLICE("\x12\x04\x08\x03\x10\x08\x12\x04\x08\x03\x10\x09"));
    raft_index index;
    assert_int_equal(raft_propose_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE_V2, payload, &index),
                     ST_OK);
    raft_payload_unref(payload);
    while (m->applied < index) {
        member_take_ready(m);
        member_finish_append(m);
        member_finish_apply(m);
    }
    assert_int_equal(m->conf_state.voters_outgoing_count, 1);
    assert_true(m->conf_state.auto_leave);
    member_settle(m);
    assert_int_equal(m->applied, index + 1);
    assert_int_equal(m->disk[index].type, RAFT_ENTRY_CONF_CHANGE_V2);
    assert_int_equal(m->conf_state.voters_outgoing_count, 0);
    assert_int_equal(m->conf_state.learners_count, 2);
    assert_int_equal(raft_conf_state(m->raft)->learners[1], 9);
    member_free(m);
}

static void test_batches_are_used_again(void **state)
{
    (void)state;
    struct member *m = default_leader();
    raft_index index;
    struct raft_ready *first = NULL, *second = NULL;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_int_equal(raft_ready(m->raft, &first), ST_OK);
    raft_ready_release(first);
    assert_int_equal(member_propose(m, "b", &index), ST_OK);
    assert_int_equal(raft_ready(m->raft, &second), ST_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(second->append.entries_count, 1);
    raft_ready_release(second);
    member_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lone_bootstrap_applies_its_own_membership),
        cmocka_unit_test(test_lone_leads_only_after_its_vote_is_durable),
        cmocka_unit_test(test_lone_commits_only_what_is_durable),
        cmocka_unit_test(test_lone_many_appends_may_be_outstanding),
        cmocka_unit_test(test_lone_restart_replays_what_the_store_lacks),
        cmocka_unit_test(test_lone_restart_raises_commit_to_what_was_applied),
        cmocka_unit_test(test_read_waits_for_the_first_commit_of_the_term),
        cmocka_unit_test(test_read_of_a_lone_leader_needs_no_disk),
        cmocka_unit_test(test_read_is_dropped_by_who_does_not_lead),
        cmocka_unit_test(test_propose_is_dropped_without_a_leader),
        cmocka_unit_test(test_campaign_waits_for_a_committed_conf_change),
        cmocka_unit_test(test_start_refuses_what_contradicts_itself),
        cmocka_unit_test(test_start_refuses_a_configuration_without_sense),
        cmocka_unit_test(test_compact_keeps_what_the_window_may_hold),
        cmocka_unit_test(test_joint_configuration_is_left_by_itself),
        cmocka_unit_test(test_batches_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
