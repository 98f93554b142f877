/* The rules that golden scripts do not pin, one by one: a member among three, whose peers are
 * played by the test. */
#include "tests/raft/peers.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- votes ---- */

static void test_vote_is_given_once_a_term_even_after_a_restart(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    receive(m, vote_request(2, 5, (struct raft_log_id){1, 1}));
    assert_false(answer_of(m).reject);
    receive(m, vote_request(3, 5, (struct raft_log_id){1, 1}));
    assert_true(answer_of(m).reject);
    receive(m, vote_request(2, 5, (struct raft_log_id){1, 1}));
    assert_false(answer_of(m).reject);
    member_crash(m);
    assert_int_equal(member_start(m), ST_OK);
    receive(m, vote_request(3, 5, (struct raft_log_id){1, 1}));
    assert_true(answer_of(m).reject);
    member_free(m);
}

static void test_vote_leaves_only_when_durable(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    receive(m, vote_request(2, 5, (struct raft_log_id){1, 1}));
    assert_true(member_take_ready(m));
    assert_int_equal(m->sent_count, 0);
    member_finish_append(m);
    assert_int_equal(m->disk_hard_state.vote, 2);
    assert_int_equal(m->last_sent.type, RAFT_MSG_VOTE_RESP);
    member_free(m);
}

static void test_vote_is_refused_to_a_log_that_is_behind(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 2}, 2);
    receive(m, vote_request(2, 5, (struct raft_log_id){9, 1}));
    assert_true(answer_of(m).reject);
    receive(m, vote_request(3, 5, (struct raft_log_id){1, 2}));
    assert_true(answer_of(m).reject);
    receive(m, vote_request(3, 5, (struct raft_log_id){2, 2}));
    assert_false(answer_of(m).reject);
    member_free(m);
}

static void test_vote_granted_resets_the_election_timer(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.pre_vote = false;
    struct member *m = one_of_three(&config, NULL, 0);
    receive(m, vote_request(2, 5, (struct raft_log_id){0, 0}));
    for (uint32_t i = 0; i < config.election_ticks - 1; i++)
        raft_tick(m->raft);
    receive(m, vote_request(2, 5, (struct raft_log_id){0, 0}));
    for (uint32_t i = 0; i < config.election_ticks - 1; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    for (uint32_t i = 0; i < config.election_ticks + 1; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    member_free(m);
}

static void test_pre_vote_of_a_lower_term_is_refused_with_ours(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 7}, 2);
    receive(m, (struct raft_message){
                   .type = RAFT_MSG_PRE_VOTE, .from = 2, .term = 3, .index = 9, .log_term = 9});
    struct raft_message answer = answer_of(m);
    assert_int_equal(answer.type, RAFT_MSG_PRE_VOTE_RESP);
    assert_true(answer.reject);
    assert_int_equal(answer.term, 7);
    member_free(m);
}

static void test_pre_vote_changes_nothing_here(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    receive(m, (struct raft_message){
                   .type = RAFT_MSG_PRE_VOTE, .from = 2, .term = 9, .index = 1, .log_term = 1});
    struct raft_message answer = answer_of(m);
    assert_false(answer.reject);
    assert_int_equal(answer.term, 9);
    assert_int_equal(member_status(m).hard_state.term, 1);
    assert_int_equal(member_status(m).hard_state.vote, 0);
    member_free(m);
}

static void test_vote_request_in_lease_is_ignored(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    receive(m, vote_request(3, 8, (struct raft_log_id){5, 5}));
    assert_int_equal(answer_of(m).type, 0);
    assert_int_equal(member_status(m).hard_state.term, 1);
    for (uint32_t i = 0; i < m->config.election_ticks; i++)
        raft_tick(m->raft);
    receive(m, vote_request(3, 8, (struct raft_log_id){5, 5}));
    assert_int_equal(member_status(m).hard_state.vote, 3);
    member_free(m);
}

/* The leader's process is known to have ended: its lease is over at once, and an election comes
 * within half a timeout. */
static void test_leader_gone_is_succeeded_soon(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    raft_report_gone(m->raft, 3); /* another's end changes nothing */
    assert_int_equal(member_status(m).leader, 2);
    raft_report_gone(m->raft, 2);
    assert_int_equal(member_status(m).leader, 0);
    raft_tick(m->raft); /* the other follower is to notice, too */
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    for (uint32_t i = 0; i < m->config.election_ticks / 2; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_PRE_CANDIDATE);
    member_free(m);
}

static void test_leader_gone_gives_up_its_lease(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    raft_report_gone(m->raft, 2);
    receive(m, vote_request(3, 8, (struct raft_log_id){5, 5}));
    assert_int_equal(member_status(m).hard_state.vote, 3);
    member_free(m);
}

/* The hint was wrong: the leader speaks, and all is as before. */
static void test_leader_gone_that_lives_leads_on(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    raft_report_gone(m->raft, 2);
    heartbeat(m, 1, 0);
    member_settle(m);
    assert_int_equal(member_status(m).leader, 2);
    for (uint32_t i = 0; i < m->config.election_ticks - 1; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    member_free(m);
}

static void test_own_vote_of_an_earlier_term_does_not_count(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.pre_vote = false;
    struct member *m = one_of_three(&config, NULL, 0);
    assert_int_equal(raft_campaign(m->raft), ST_OK); /* term 1 */
    assert_true(member_take_ready(m));
    assert_int_equal(raft_campaign(m->raft), ST_OK); /* term 2, the vote of term 1 not durable */
    member_finish_append(m);
    receive_vote(m, 2, /* pre= */ false);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    member_settle(m);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    member_free(m);
}

static void test_election_in_a_joint_configuration_needs_both_halves(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.pre_vote = false;
    struct member *m = member_new(&config, /* seed= */ 1);
    m->store_conf_state = (struct raft_conf_state){
        .voters = {1, 2, 4},
        .voters_count = 3,
        .voters_outgoing = {1, 3, 5},
        .voters_outgoing_count = 3,
    };
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    member_settle(m);
    receive_vote(m, 2, /* pre= */ false);
    receive_vote(m, 4, /* pre= */ false);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    receive_vote(m, 5, /* pre= */ false);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    member_free(m);
}

static void test_pre_vote_comes_before_the_term_rises(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    member_settle(m);
    assert_int_equal(member_status(m).role, RAFT_PRE_CANDIDATE);
    assert_int_equal(member_status(m).hard_state.term, 1);
    receive_vote(m, 3, /* pre= */ true);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    assert_int_equal(member_status(m).hard_state.term, 2);
    member_free(m);
}

/* ---- the log ---- */

static void test_append_that_is_a_prefix_does_not_truncate(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1, 1}, 3);
    append_from(m, 2, 1, (struct raft_log_id){0, 0}, (raft_term[]){1}, 1, 0);
    assert_int_equal(member_status(m).last_index, 3);
    assert_int_equal(answer_of(m).index, 1); /* not what it holds beyond */
    member_free(m);
}

static void test_append_that_conflicts_truncates_and_lowers_durable(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1, 1, 1}, 4);
    assert_int_equal(member_status(m).durable.index, 4);
    append_from(m, 2, 2, (struct raft_log_id){1, 1}, (raft_term[]){2}, 1, 0);
    assert_int_equal(member_status(m).last_index, 2);
    assert_int_equal(member_status(m).durable.index, 1);
    member_settle(m);
    assert_int_equal(m->disk_last, 2);
    assert_int_equal(m->disk[1].term, 2);
    assert_int_equal(m->durable.index, 2);
    assert_int_equal(m->durable.term, 2);
    member_free(m);
}

static void test_append_answer_of_an_earlier_term_makes_nothing_durable(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    append_from(m, 2, 2, (struct raft_log_id){1, 1}, (raft_term[]){2}, 1, 0);
    assert_true(member_take_ready(m));
    append_from(m, 3, 3, (struct raft_log_id){1, 1}, (raft_term[]){3}, 1, 0);
    assert_true(member_take_ready(m));
    /* The leader of term 4 has the entry of term 2, so it comes back. */
    append_from(m, 2, 4, (struct raft_log_id){1, 1}, (raft_term[]){2}, 1, 0);
    assert_true(member_take_ready(m));
    assert_true(member_finish_append(m)); /* the first write: (2, term 2), soon overwritten */
    assert_int_equal(member_status(m).durable.index, 1);
    member_check_durable(m);
    assert_true(member_finish_append(m));
    assert_int_equal(member_status(m).durable.index, 1);
    assert_true(member_finish_append(m));
    assert_int_equal(member_status(m).durable.index, 2);
    member_free(m);
}

static void test_append_refused_hints_at_the_last_plausible_entry(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 2, 4, 4, 4}, 5);
    append_from(m, 2, 5, (struct raft_log_id){5, 3}, NULL, 0, 0);
    struct raft_message answer = answer_of(m);
    assert_true(answer.reject);
    assert_int_equal(answer.index, 5);
    assert_int_equal(answer.reject_hint, 2); /* all of term 4 is skipped */
    assert_int_equal(answer.log_term, 2);
    member_free(m);
}

static void test_append_with_a_gap_or_a_falling_term_is_invalid(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_entry gap = {.index = 3, .term = 2};
    struct raft_entry old = {.index = 2, .term = 0};
    struct raft_message message = {.type = RAFT_MSG_APP,
                                   .from = 2,
                                   .to = 1,
                                   .term = 2,
                                   .index = 1,
                                   .log_term = 1,
                                   .entries = &gap,
                                   .entries_count = 1};
    assert_int_equal(raft_step(m->raft, &message), ST_INVALID);
    message.entries = &old;
    assert_int_equal(raft_step(m->raft, &message), ST_INVALID);
    assert_int_equal(member_status(m).last_index, 1);
    member_free(m);
}

static void test_message_of_a_local_type_is_refused(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    static const enum raft_message_type types[] = {
        RAFT_MSG_HUP,
        RAFT_MSG_BEAT,
        RAFT_MSG_CHECK_QUORUM,
        RAFT_MSG_STORAGE_APPEND_RESP,
        RAFT_MSG_STORAGE_APPLY_RESP,
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct raft_message message = {.type = types[i], .from = 2, .to = 1};
        assert_int_equal(raft_step(m->raft, &message), ST_INVALID);
    }
    struct raft_message stranger = {.type = RAFT_MSG_APP_RESP, .from = 9, .to = 1, .term = 1};
    assert_int_equal(raft_step(m->raft, &stranger), ST_NOT_FOUND);
    member_free(m);
}

static void test_commit_beyond_the_log_takes_the_member_out(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_message beat = {
        .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 1, .commit = 5};
    assert_int_equal(raft_step(m->raft, &beat), ST_CORRUPT);
    /* It neither votes nor acknowledges again. */
    struct raft_message vote = vote_request(3, 9, (struct raft_log_id){9, 9});
    assert_int_equal(raft_step(m->raft, &vote), ST_CORRUPT);
    assert_false(raft_has_ready(m->raft));
    assert_int_equal(raft_campaign(m->raft), ST_CORRUPT);
    member_free(m);
}

static void test_lower_term_append_is_answered_with_ours(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 6}, 2);
    append_from(m, 2, 3, (struct raft_log_id){1, 1}, NULL, 0, 0);
    struct raft_message answer = answer_of(m);
    assert_int_equal(answer.type, RAFT_MSG_APP_RESP);
    assert_int_equal(answer.term, 6);
    assert_int_equal(answer.index, 0);
    member_free(m);
}

/* ---- commit ---- */

static void test_commit_never_counts_copies_of_an_earlier_term(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = leader_of_three(&config, (raft_term[]){1, 2}, 2);
    assert_int_equal(member_status(m).hard_state.term, 3);
    acknowledge(m, 2, 2); /* entry 2 of term 2 is on a majority */
    assert_int_equal(member_status(m).hard_state.commit, 0);
    acknowledge(m, 2, 3);
    assert_int_equal(member_status(m).hard_state.commit, 3);
    member_free(m);
}

static void test_commit_in_a_joint_configuration_needs_both_halves(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.pre_vote = false;
    struct member *m = member_new(&config, /* seed= */ 1);
    m->store_conf_state = (struct raft_conf_state){
        .voters = {1, 2, 4},
        .voters_count = 3,
        .voters_outgoing = {1, 3, 5},
        .voters_outgoing_count = 3,
    };
    assert_int_equal(member_start(m), ST_OK);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    member_settle(m);
    receive_vote(m, 2, /* pre= */ false);
    receive_vote(m, 5, /* pre= */ false);
    member_settle(m);
    acknowledge(m, 2, 1);
    acknowledge(m, 4, 1);
    assert_int_equal(member_status(m).hard_state.commit, 0);
    acknowledge(m, 3, 1);
    assert_int_equal(member_status(m).hard_state.commit, 1);
    member_free(m);
}

/* A leader's commit index says nothing about what this member holds beyond the leader's entries. */
static void test_commit_of_an_append_ends_with_its_entries(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1, 1, 1}, 3);
    append_from(m, 2, 2, (struct raft_log_id){1, 1}, (raft_term[]){1}, 1, 3);
    assert_int_equal(member_status(m).last_index, 3);
    assert_int_equal(member_status(m).hard_state.commit, 2); /* its entry 3 may be another */
    append_from(m, 2, 2, (struct raft_log_id){2, 1}, (raft_term[]){2}, 1, 3);
    member_settle(m);
    assert_int_equal(m->applied_ids[3].term, 2);
    member_free(m);
}

static void test_commit_stored_is_a_hint_older_than_what_was_applied(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct rng rng;
    rng_seed(&rng, /* seed= */ 1);
    config.rng = &rng;
    const struct raft_entry entries[] = {{.term = 1, .index = 1},
                                         {.term = 1, .index = 2},
                                         {.term = 1, .index = 3},
                                         {.term = 1, .index = 4}};
    struct raft_start start = {.hard_state = {.term = 1, .commit = 2},
                               .conf_state = {.voters = {1, 2, 3}, .voters_count = 3},
                               .entries = entries,
                               .entries_count = 4,
                               .applied = 3};
    struct raft *raft;
    assert_int_equal(raft_new(&config, &start, &raft), ST_OK);
    struct raft_status status;
    raft_get_status(raft, &status);
    assert_int_equal(status.hard_state.commit, 3);
    assert_int_equal(status.applied, 3);
    raft_check(raft);
    raft_free(raft);
}

/* The answer to the write of term 2 comes in term 3 and is ignored: the write of the hard state has
 * to make up for it. */
static void test_append_answer_comes_with_every_work(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    append_from(m, 2, 2, (struct raft_log_id){1, 1}, (raft_term[]){2}, 1, 0);
    assert_true(member_take_ready(m));
    heartbeat(m, 3, 0);
    assert_true(member_take_ready(m));
    assert_true(member_finish_append(m));
    assert_int_equal(member_status(m).durable.index, 1);
    assert_true(member_finish_append(m));
    assert_int_equal(member_status(m).durable.index, 2);
    member_free(m);
}

static void test_commit_does_not_wait_for_the_own_disk(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_true(member_take_ready(m)); /* the own write never completes here */
    acknowledge(m, 2, index);
    assert_int_equal(member_status(m).hard_state.commit, 1);
    acknowledge(m, 3, index);
    assert_int_equal(member_status(m).hard_state.commit, index);
    assert_true(member_take_ready(m));
    member_finish_apply(m);
    member_finish_apply(m);
    assert_int_equal(m->applied, index); /* apply_unstable */
    assert_int_equal(m->durable.index, 1);
    member_commit_store(m);
    assert_int_equal(m->store_applied, 0); /* but the store must wait */
    member_free(m);
}

static void test_heartbeat_never_tells_a_commit_beyond_match(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 2, 1);
    member_settle(m);
    assert_int_equal(member_status(m).hard_state.commit, 1);
    raft_tick(m->raft);
    struct raft_message beat = answer_of(m); /* the last one, to 3, which has answered nothing */
    assert_int_equal(beat.type, RAFT_MSG_HEARTBEAT);
    assert_int_equal(beat.to, 3);
    assert_int_equal(beat.commit, 0);
    member_free(m);
}

/* ---- leadership ---- */

static void test_leader_without_its_quorum_steps_down(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    for (uint32_t i = 0; i < m->config.election_ticks; i++)
        raft_tick(m->raft); /* both spoke before the first check */
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    for (uint32_t i = 0; i < m->config.election_ticks; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    assert_int_equal(member_status(m).leader, 0);
    member_free(m);
}

static void test_member_just_added_does_not_depose_the_leader(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, (raft_id[]){1}, 1);
    member_lead(m);
    propose_node(m, 2);
    member_settle(m);
    assert_int_equal(m->conf_state.voters_count, 2);
    for (uint32_t i = 0; i < config.election_ticks; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    for (uint32_t i = 0; i < config.election_ticks; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    member_free(m);
}

static void test_lone_voter_never_steps_down(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, (raft_id[]){1}, 1);
    member_lead(m);
    for (uint32_t i = 0; i < 100; i++)
        raft_tick(m->raft);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    assert_false(raft_has_ready(m->raft));
    member_free(m);
}

static void test_conf_change_waits_for_the_one_before_it(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    raft_index first = propose_node(m, 4), second = propose_node(m, 5);
    member_settle(m);
    assert_int_equal(second, first + 1);
    assert_int_equal(m->disk[first - 1].type, RAFT_ENTRY_CONF_CHANGE);
    assert_int_equal(m->disk[second - 1].type, RAFT_ENTRY_NORMAL); /* its index still resolves */
    assert_null(m->disk[second - 1].payload);
    member_free(m);
}

static void test_conf_change_waits_for_those_a_new_leader_inherits(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = leader_of_three(&config, (raft_term[]){1, 1}, 2);
    raft_index index = propose_node(m, 4);
    member_settle(m);
    assert_int_equal(m->disk[index - 1].type, RAFT_ENTRY_NORMAL);
    member_free(m);
}

static void apply_removal(struct member *m, raft_id id)
{
    struct conf_change_single change = {.type = CONF_CHANGE_REMOVE_NODE, .node_id = id};
    struct raft_payload *payload = conf_change_encode_v1(1, change, SLICE_EMPTY);
    assert_non_null(payload);
    struct slice bytes = raft_payload_slice(payload);
    assert_int_equal(
        raft_apply_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, &bytes, &m->conf_state), ST_OK);
    raft_payload_unref(payload);
    raft_check(m->raft);
}

static void test_leader_removed_steps_down_if_told_to(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.step_down_at_once = true;
    struct member *m = leader_of_three(&config, NULL, 0);
    assert_int_equal(raft_read_index(m->raft, 5), ST_OK);
    apply_removal(m, 1);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    assert_int_equal(member_status(m).leader, 0);
    member_settle(m);
    assert_int_equal(m->reads_lost_count, 1);
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_DROPPED);
    assert_int_equal(raft_campaign(m->raft), ST_DROPPED);
    member_free(m);
}

/* The others may not know that it is committed: stepping down at once it could leave them with a
 * quorum that needs its vote and a log too short to get it. */
static void test_leader_removed_hands_over(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_settle(m);
    m->outbox_count = 0;
    apply_removal(m, 1);
    acknowledge(m, 1, 2); /* its own answer, late */
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    assert_int_equal(member_status(m).transferee, 2);
    assert_int_equal(member_propose(m, "b", &index), ST_DROPPED);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    acknowledge(m, 2, 2);
    member_settle(m);
    assert_non_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    /* It is not taken, so another may have it: 3 is the one that still answers. */
    m->outbox_count = 0;
    for (uint32_t i = 0; i < 2 * m->config.election_ticks + 1; i++) {
        raft_tick(m->raft);
        acknowledge(m, 3, 2);
        if (i > m->config.election_ticks)
            continue;
        receive(m, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1});
    }
    member_settle(m);
    assert_true(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2) != NULL ||
                member_sent(m, RAFT_MSG_TIMEOUT_NOW, 3) != NULL);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    heartbeat(m, 2, 2);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    member_free(m);
}

static void test_member_removed_may_leave_a_quorum_that_has_it_all(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_int_equal(raft_read_index(m->raft, 5), ST_OK);
    member_settle(m);
    apply_removal(m, 3);
    assert_int_equal(member_status(m).hard_state.commit, 1); /* of 1 and 2, 2 still lacks it */
    apply_removal(m, 2);
    assert_int_equal(member_status(m).hard_state.commit, index);
    member_settle(m);
    assert_int_equal(m->reads_count, 1); /* nor is there anyone left to confirm the read */
    member_free(m);
}

static void test_conf_change_of_bad_bytes_is_refused(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    struct raft_payload *payload = raft_payload_copy(SLICE("\xff\xff"));
    raft_index index;
    assert_int_equal(raft_propose_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, payload, &index),
                     ST_INVALID);
    struct slice bytes = raft_payload_slice(payload);
    struct raft_conf_state conf_state;
    assert_int_equal(raft_apply_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, NULL, &conf_state),
                     ST_OK); /* refused by the state machine */
    assert_int_equal(conf_state.voters_count, 3);
    assert_int_equal(raft_apply_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, &bytes, &conf_state),
                     ST_CORRUPT);
    assert_int_equal(member_status(m).quarantine, RAFT_QUARANTINE_BAD_CONF_CHANGE);
    raft_payload_unref(payload);
    member_free(m);
}

/* ---- proposals ---- */

static void test_propose_over_the_quota_is_dropped_until_applied(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.uncommitted_bytes_max = 10;
    struct member *m = leader_of_three(&config, NULL, 0);
    raft_index index;
    assert_int_equal(member_propose(m, "more than ten bytes", &index),
                     ST_OK); /* the first goes in */
    assert_int_equal(member_propose(m, "a", &index), ST_TOO_BIG);
    assert_int_equal(member_propose(m, "", &index), ST_OK); /* empty ones always do */
    member_settle(m);
    acknowledge(m, 2, 3);
    member_settle(m);
    assert_int_equal(m->applied, 3);
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_free(m);
}

static void test_propose_on_a_follower_goes_to_the_leader(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    raft_index index = 77;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_int_equal(index, 0);
    struct raft_message sent = answer_of(m);
    assert_int_equal(sent.type, RAFT_MSG_PROP);
    assert_int_equal(sent.to, 2);
    assert_int_equal(sent.term, 0);
    assert_int_equal(sent.entries_count, 1);
    member_free(m);
}

static void test_propose_forwarded_is_appended(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    struct raft_entry entries[2] = {{.payload = raft_payload_copy(SLICE("a"))},
                                    {.payload = add_node(4), .type = RAFT_ENTRY_CONF_CHANGE}};
    receive(m, (struct raft_message){
                   .type = RAFT_MSG_PROP, .from = 2, .entries = entries, .entries_count = 2});
    member_settle(m);
    assert_int_equal(m->disk_last, 3);
    assert_int_equal(m->disk[2].type, RAFT_ENTRY_CONF_CHANGE);
    for (uint32_t i = 0; i < 2; i++)
        raft_payload_unref(entries[i].payload);
    member_free(m);
}

/* ---- apply ---- */

static void test_apply_is_cut_into_pages_by_bytes(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.apply_bytes_max = 250;
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, (raft_id[]){1}, 1);
    member_lead(m);
    char text[101] = {0};
    memset(text, 'x', 100);
    raft_index index, applied = m->applied;
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(member_propose(m, text, &index), ST_OK);
    assert_true(member_take_ready(m));
    member_finish_append(m); /* all five are committed */
    member_finish_apply(m);  /* the durable id alone */
    assert_true(member_take_ready(m));
    /* Two of about 110 bytes fit; the next batch waits for their answer, not just for room. */
    (void)member_take_ready(m);
    assert_false(raft_has_ready(m->raft));
    while (member_finish_apply(m))
        continue;
    assert_int_equal(m->applied, applied + 2);
    member_settle(m);
    assert_int_equal(m->applied, applied + 5);
    member_free(m);
}

/* ---- reads among three ---- */

static void confirm(struct member *m, raft_id from, uint64_t position)
{
    uint8_t context[8];
    put_le64(context, position);
    receive(m, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP,
                                     .from = from,
                                     .term = member_status(m).hard_state.term,
                                     .context = slice_make(context, 8)});
    member_settle(m);
}

static void test_read_is_confirmed_by_position(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    assert_int_equal(raft_read_index(m->raft, 100), ST_OK);
    assert_int_equal(raft_read_index(m->raft, 101), ST_OK);
    member_settle(m);
    assert_int_equal(m->reads_count, 0);
    confirm(m, 2, 1);
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(m->reads[0].context, 100);
    confirm(m, 2, 1); /* the same answer again says nothing about the second read */
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(raft_read_index(m->raft, 102), ST_OK);
    confirm(m, 3, 3); /* one round serves all that wait */
    assert_int_equal(m->reads_count, 3);
    assert_int_equal(m->reads[2].context, 102);
    member_free(m);
}

static void test_read_position_out_of_thin_air_confirms_no_later_read(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    assert_int_equal(raft_read_index(m->raft, 100), ST_OK);
    confirm(m, 2, UINT64_MAX);
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(raft_read_index(m->raft, 101), ST_OK);
    member_settle(m);
    assert_int_equal(m->reads_count, 1);
    member_free(m);
}

static void test_read_is_lost_with_leadership(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    assert_int_equal(raft_read_index(m->raft, 100), ST_OK);
    heartbeat(m, member_status(m).hard_state.term + 1, 0);
    member_settle(m);
    assert_int_equal(m->reads_count, 0);
    assert_int_equal(m->reads_lost_count, 1);
    assert_int_equal(m->reads_lost[0], 100);
    member_free(m);
}

/* ---- sending ---- */

static void test_append_to_a_member_is_limited_in_bytes(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.message_bytes_max = 250;
    config.inflight_bytes_max = 250;
    config.uncommitted_bytes_max = 0;
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 2, 1);
    member_settle(m);
    struct raft_payload *payloads[5];
    for (uint32_t i = 0; i < 5; i++) {
        payloads[i] = raft_payload_new(100);
        memset(payloads[i]->data, 0, 100);
    }
    raft_index first;
    assert_int_equal(raft_propose(m->raft, payloads, 5, &first), ST_OK);
    struct raft_message sent = answer_of(m);
    assert_int_equal(sent.to, 2); /* 3 is probed: its first append is unanswered */
    assert_int_equal(sent.index, first - 1);
    assert_int_equal(sent.entries_count, 2);
    acknowledge(m, 2, first + 1);
    sent = answer_of(m);
    assert_int_equal(sent.entries_count, 1); /* 200 bytes in flight are under the limit: one more */
    for (uint32_t i = 0; i < 5; i++)
        raft_payload_unref(payloads[i]);
    member_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vote_is_given_once_a_term_even_after_a_restart),
        cmocka_unit_test(test_vote_leaves_only_when_durable),
        cmocka_unit_test(test_vote_is_refused_to_a_log_that_is_behind),
        cmocka_unit_test(test_vote_granted_resets_the_election_timer),
        cmocka_unit_test(test_pre_vote_of_a_lower_term_is_refused_with_ours),
        cmocka_unit_test(test_pre_vote_changes_nothing_here),
        cmocka_unit_test(test_vote_request_in_lease_is_ignored),
        cmocka_unit_test(test_leader_gone_is_succeeded_soon),
        cmocka_unit_test(test_leader_gone_gives_up_its_lease),
        cmocka_unit_test(test_leader_gone_that_lives_leads_on),
        cmocka_unit_test(test_own_vote_of_an_earlier_term_does_not_count),
        cmocka_unit_test(test_election_in_a_joint_configuration_needs_both_halves),
        cmocka_unit_test(test_pre_vote_comes_before_the_term_rises),
        cmocka_unit_test(test_append_that_is_a_prefix_does_not_truncate),
        cmocka_unit_test(test_append_that_conflicts_truncates_and_lowers_durable),
        cmocka_unit_test(test_append_answer_of_an_earlier_term_makes_nothing_durable),
        cmocka_unit_test(test_append_refused_hints_at_the_last_plausible_entry),
        cmocka_unit_test(test_append_with_a_gap_or_a_falling_term_is_invalid),
        cmocka_unit_test(test_message_of_a_local_type_is_refused),
        cmocka_unit_test(test_commit_beyond_the_log_takes_the_member_out),
        cmocka_unit_test(test_lower_term_append_is_answered_with_ours),
        cmocka_unit_test(test_commit_never_counts_copies_of_an_earlier_term),
        cmocka_unit_test(test_commit_in_a_joint_configuration_needs_both_halves),
        cmocka_unit_test(test_commit_of_an_append_ends_with_its_entries),
        cmocka_unit_test(test_commit_stored_is_a_hint_older_than_what_was_applied),
        cmocka_unit_test(test_append_answer_comes_with_every_work),
        cmocka_unit_test(test_commit_does_not_wait_for_the_own_disk),
        cmocka_unit_test(test_heartbeat_never_tells_a_commit_beyond_match),
        cmocka_unit_test(test_leader_without_its_quorum_steps_down),
        cmocka_unit_test(test_member_just_added_does_not_depose_the_leader),
        cmocka_unit_test(test_lone_voter_never_steps_down),
        cmocka_unit_test(test_conf_change_waits_for_the_one_before_it),
        cmocka_unit_test(test_conf_change_waits_for_those_a_new_leader_inherits),
        cmocka_unit_test(test_leader_removed_steps_down_if_told_to),
        cmocka_unit_test(test_leader_removed_hands_over),
        cmocka_unit_test(test_member_removed_may_leave_a_quorum_that_has_it_all),
        cmocka_unit_test(test_conf_change_of_bad_bytes_is_refused),
        cmocka_unit_test(test_propose_over_the_quota_is_dropped_until_applied),
        cmocka_unit_test(test_propose_on_a_follower_goes_to_the_leader),
        cmocka_unit_test(test_propose_forwarded_is_appended),
        cmocka_unit_test(test_apply_is_cut_into_pages_by_bytes),
        cmocka_unit_test(test_read_is_confirmed_by_position),
        cmocka_unit_test(test_read_position_out_of_thin_air_confirms_no_later_read),
        cmocka_unit_test(test_read_is_lost_with_leadership),
        cmocka_unit_test(test_append_to_a_member_is_limited_in_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
