/* Leadership handed over: by an operator, and by a leader whose disk does not answer; and reads
 * that followers ask of the leader. */
#include "tests/raft/peers.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void tick(struct member *m, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        raft_tick(m->raft);
    raft_check(m->raft);
}

/* ---- transfer ---- */

static void test_transfer_to_a_member_up_to_date_goes_at_once(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    m->outbox_count = 0;
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
    assert_int_equal(member_status(m).transferee, 2);
    member_settle(m);
    assert_non_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_BUSY);
    struct raft_payload *change = add_node(4);
    assert_int_equal(raft_propose_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, change, &index),
                     ST_BUSY);
    raft_payload_unref(change);
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK); /* the same again: once is enough */
    m->outbox_count = 0;
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    member_free(m);
}

static void test_transfer_waits_until_the_member_caught_up(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_settle(m);
    m->outbox_count = 0;
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    acknowledge(m, 3, index);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 3));
    acknowledge(m, 2, index);
    member_settle(m);
    assert_non_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 2));
    member_free(m);
}

static void test_transfer_is_told_from_other_losses_of_leadership(void **state)
{
    (void)state;
    for (raft_id winner = 2; winner <= 3; winner++) {
        struct member *m = settled_leader();
        assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
        member_settle(m);
        struct raft_message request = vote_request(winner, 2, (struct raft_log_id){1, 1});
        request.context = SLICE("CampaignTransfer");
        receive(m, request);
        assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
        assert_true(member_take_ready(m));
        assert_int_equal(m->handed_over, winner == 2);
        heartbeat(m, 2, 1);
        assert_true(member_take_ready(m));
        assert_false(m->handed_over); /* it is said once */
        member_free(m);
    }
}

static void test_transfer_is_given_up_after_an_election_timeout(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    tick(m, 5); /* the time counts from the transfer, not from the last check */
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
    tick(m, m->config.election_ticks - 1);
    assert_int_equal(member_status(m).transferee, 2);
    acknowledge(m, 3, 1);
    tick(m, 1);
    assert_int_equal(member_status(m).transferee, 0);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    member_free(m);
}

static void test_transfer_to_no_voter_is_refused(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.pre_vote = false;
    struct member *m = member_new(&config, /* seed= */ 1);
    m->store_conf_state = (struct raft_conf_state){
        .voters = {1}, .voters_count = 1, .learners = {4}, .learners_count = 1};
    assert_int_equal(member_start(m), ST_OK);
    member_lead(m);
    assert_int_equal(raft_transfer_leader(m->raft, 4), ST_NOT_FOUND);
    assert_int_equal(raft_transfer_leader(m->raft, 9), ST_NOT_FOUND);
    assert_int_equal(raft_transfer_leader(m->raft, 1), ST_INVALID);
    assert_int_equal(member_status(m).transferee, 0);
    member_free(m);
}

static void test_transfer_newer_wish_replaces_the_older(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
    assert_int_equal(raft_transfer_leader(m->raft, 3), ST_OK);
    assert_int_equal(member_status(m).transferee, 3);
    assert_int_equal(raft_transfer_leader(m->raft, 1), ST_INVALID);
    assert_int_equal(member_status(m).transferee, 0);
    member_free(m);
}

static void test_transfer_ends_when_the_member_is_removed(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    assert_int_equal(raft_transfer_leader(m->raft, 2), ST_OK);
    struct conf_change_single change = {.type = CONF_CHANGE_REMOVE_NODE, .node_id = 2};
    struct raft_payload *payload = conf_change_encode_v1(1, change, SLICE_EMPTY);
    struct slice bytes = raft_payload_slice(payload);
    struct raft_conf_state conf_state;
    assert_int_equal(raft_apply_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, &bytes, &conf_state),
                     ST_OK);
    assert_int_equal(member_status(m).transferee, 0);
    raft_payload_unref(payload);
    member_free(m);
}

static void test_transfer_asked_of_a_follower_goes_to_the_leader(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    assert_int_equal(raft_transfer_leader(m->raft, 3), ST_DROPPED);
    heartbeat(m, 1, 0);
    assert_int_equal(raft_transfer_leader(m->raft, 3), ST_OK);
    member_settle(m);
    const struct raft_message *sent = member_sent(m, RAFT_MSG_TRANSFER_LEADER, 2);
    assert_non_null(sent);
    assert_int_equal(sent->from, 3); /* in the name of the one that is to lead */
    assert_int_equal(sent->term, 1);
    member_free(m);

    m = settled_leader();
    receive(m, (struct raft_message){.type = RAFT_MSG_TRANSFER_LEADER, .from = 3, .term = 1});
    assert_int_equal(member_status(m).transferee, 3);
    receive(m, (struct raft_message){.type = RAFT_MSG_TRANSFER_LEADER, .from = 9, .term = 1});
    assert_int_equal(member_status(m).transferee, 3);
    member_free(m);
}

static void timeout_now(struct member *m)
{
    receive(m, (struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 1});
    m->outbox_count = 0;
    member_settle(m);
}

static void test_timeout_now_campaigns_without_asking_first(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    timeout_now(m);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    const struct raft_message *sent = member_sent(m, RAFT_MSG_VOTE, 2);
    assert_non_null(sent);
    assert_int_equal(sent->term, 2);
    assert_int_equal(sent->context.len, strlen("CampaignTransfer"));
    assert_null(member_sent(m, RAFT_MSG_PRE_VOTE, 2));
    member_free(m);
}

static void test_timeout_now_is_for_voters_that_follow(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = member_new(&config, /* seed= */ 1);
    m->store_conf_state = (struct raft_conf_state){
        .voters = {2, 3}, .voters_count = 2, .learners = {1}, .learners_count = 1};
    m->disk_hard_state.term = 1;
    assert_int_equal(member_start(m), ST_OK);
    timeout_now(m);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    assert_int_equal(member_status(m).hard_state.term, 1);
    member_free(m);

    m = follower((raft_term[]){1}, 1);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    timeout_now(m);
    assert_int_equal(member_status(m).role, RAFT_PRE_CANDIDATE);
    member_free(m);
}

static void test_vote_asked_for_by_a_transfer_passes_the_lease(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    heartbeat(m, 1, 0);
    member_settle(m);
    struct raft_message request = vote_request(3, 2, (struct raft_log_id){1, 1});
    request.context = SLICE("CampaignTransfe_");
    receive(m, request);
    assert_int_equal(member_status(m).hard_state.term, 1);
    request.context = SLICE("CampaignTransfer");
    receive(m, request);
    assert_int_equal(member_status(m).hard_state.vote, 3);
    member_free(m);
}

/* ---- the stall rule ---- */

/* A leader with entry 2 under way to a disk that does not answer; 2 and 3 have it. */
static struct member *stalled_leader(uint32_t stall_ticks)
{
    struct raft_config config = member_config(1);
    config.stall_ticks_max = stall_ticks;
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 2, 1);
    acknowledge(m, 3, 1);
    member_settle(m);
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_true(member_take_ready(m));
    m->outbox_count = 0;
    return m;
}

/* The others answer in every tick. */
static void tick_with_answers(struct member *m, uint32_t times, raft_index index)
{
    for (uint32_t i = 0; i < times; i++) {
        raft_tick(m->raft);
        if (member_status(m).role == RAFT_LEADER) {
            acknowledge(m, 2, index);
            acknowledge(m, 3, index);
        }
        while (member_take_ready(m))
            continue;
        while (member_finish_apply(m))
            continue;
        m->outbox_count = m->outbox_count < 20 ? m->outbox_count : 0;
    }
}

static void test_stall_hands_over_and_the_rest_goes_on(void **state)
{
    (void)state;
    struct member *m = stalled_leader(/* stall_ticks= */ 50);
    tick_with_answers(m, 49, 2);
    assert_int_equal(m->applied, 2); /* the others committed it, calls are answered */
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    assert_int_equal(member_status(m).transferee, 0);
    assert_int_equal(member_status(m).append_ticks, 49);
    raft_index index;
    assert_int_equal(member_propose(m, "b", &index), ST_OK);
    acknowledge(m, 3, index); /* 3 is ahead of 2 */
    m->outbox_count = 0;
    raft_tick(m->raft);
    assert_true(member_status(m).is_stalled);
    assert_int_equal(member_status(m).transferee, 3);
    assert_int_equal(member_propose(m, "c", &index), ST_BUSY);
    while (member_take_ready(m))
        continue;
    assert_non_null(member_sent(m, RAFT_MSG_TIMEOUT_NOW, 3));
    member_free(m);
}

static void test_stall_shorter_changes_nothing(void **state)
{
    (void)state;
    struct member *m = stalled_leader(/* stall_ticks= */ 50);
    tick_with_answers(m, 45, 2);
    member_settle(m);
    assert_int_equal(member_status(m).append_ticks, 0);
    raft_index index;
    assert_int_equal(member_propose(m, "b", &index), ST_OK);
    assert_true(member_take_ready(m));
    tick_with_answers(m, 49, 3);
    assert_int_equal(member_status(m).transferee, 0);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    member_free(m);
}

static void test_stall_that_nobody_takes_over_ends_leadership(void **state)
{
    (void)state;
    struct member *m = stalled_leader(/* stall_ticks= */ 50);
    tick_with_answers(m, 50, 2);
    assert_int_equal(member_status(m).transferee, 2);
    tick_with_answers(m, m->config.election_ticks - 1, 2);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    tick_with_answers(m, 1, 2);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    assert_int_equal(member_status(m).leader, 0);
    /* It does not come back before its disk does. */
    tick(m, 100);
    assert_int_equal(member_status(m).role, RAFT_FOLLOWER);
    assert_int_equal(raft_campaign(m->raft), ST_BUSY);
    member_settle(m);
    tick(m, 2 * m->config.election_ticks);
    assert_int_equal(member_status(m).role, RAFT_CANDIDATE);
    member_free(m);
}

static void test_stall_successor_must_have_what_is_committed(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.stall_ticks_max = 15;
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 3, 1);
    member_settle(m); /* committed by 1 and 3; 2 has nothing */
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_true(member_take_ready(m));
    for (uint32_t i = 0; i < 15; i++) { /* 3 is not heard of again */
        raft_tick(m->raft);
        receive(m, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1});
    }
    assert_true(member_status(m).is_stalled);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    assert_int_equal(member_status(m).transferee, 0);
    acknowledge(m, 3, 1);
    raft_tick(m->raft);
    assert_int_equal(member_status(m).transferee, 3);
    member_free(m);
}

static void test_stall_by_bytes(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.stall_bytes_max = 100;
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 2, 1);
    acknowledge(m, 3, 1);
    member_settle(m);
    char text[100] = {0};
    memset(text, 'x', 99);
    raft_index index;
    assert_int_equal(member_propose(m, text, &index), ST_OK);
    tick(m, 1);
    assert_int_equal(member_status(m).transferee, 0);
    assert_int_equal(member_propose(m, "x", &index), ST_OK);
    tick(m, 1);
    assert_int_not_equal(member_status(m).transferee, 0);
    member_free(m);
}

static void test_stall_never_moves_a_lone_voter(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.stall_ticks_max = 20;
    struct member *m = member_new(&config, /* seed= */ 1);
    member_found(m, (raft_id[]){1}, 1);
    member_lead(m);
    raft_index index;
    assert_int_equal(member_propose(m, "a", &index), ST_OK);
    assert_true(member_take_ready(m));
    tick(m, 200);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    assert_int_equal(member_propose(m, "b", &index), ST_OK);
    member_free(m);
}

static void test_follower_with_too_much_not_durable_drops_appends(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.follower_bytes_max = 10;
    struct member *m = one_of_three(&config, (raft_term[]){1}, 1);
    struct raft_payload *payload = raft_payload_copy(SLICE("0123456789"));
    struct raft_entry entries[2] = {{.term = 1, .index = 2, .payload = payload},
                                    {.term = 1, .index = 3, .payload = payload}};
    struct raft_message append = {.type = RAFT_MSG_APP,
                                  .from = 2,
                                  .term = 1,
                                  .index = 1,
                                  .log_term = 1,
                                  .entries = entries,
                                  .entries_count = 1};
    receive(m, append);
    assert_int_equal(member_status(m).last_index, 2);
    append.index = 2;
    append.entries = entries + 1;
    receive(m, append);
    assert_int_equal(member_status(m).last_index, 2);
    assert_int_equal(member_status(m).leader, 2); /* but it is a sign of life */
    member_settle(m);
    receive(m, append);
    assert_int_equal(member_status(m).last_index, 3);
    raft_payload_unref(payload);
    member_free(m);
}

/* ---- reads of followers ---- */

static struct raft_entry context_entry(uint64_t context)
{
    struct raft_entry entry = {.payload = raft_payload_new(8)};
    put_le64(entry.payload->data, context);
    return entry;
}

static void receive_read(struct member *m, raft_id from, uint64_t context)
{
    struct raft_entry entry = context_entry(context);
    receive(m,
            (struct raft_message){
                .type = RAFT_MSG_READ_INDEX, .from = from, .entries = &entry, .entries_count = 1});
    raft_payload_unref(entry.payload);
}

static void confirm(struct member *m, raft_id from, uint64_t position)
{
    uint8_t context[8];
    put_le64(context, position);
    receive(m, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP,
                                     .from = from,
                                     .term = 1,
                                     .context = slice_make(context, 8)});
    member_settle(m);
}

static void test_read_of_a_follower_asks_the_leader(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    assert_int_equal(raft_read_index(m->raft, 77), ST_DROPPED); /* there is no leader */
    heartbeat(m, 1, 0);
    assert_int_equal(raft_read_index(m->raft, 77), ST_OK);
    member_settle(m);
    const struct raft_message *sent = member_sent(m, RAFT_MSG_READ_INDEX, 2);
    assert_non_null(sent);
    assert_int_equal(sent->term, 0);
    assert_int_equal(sent->entries_count, 1);
    struct raft_entry entry = context_entry(77);
    receive(m, (struct raft_message){.type = RAFT_MSG_READ_INDEX_RESP,
                                     .from = 2,
                                     .term = 1,
                                     .index = 5,
                                     .entries = &entry,
                                     .entries_count = 1});
    raft_payload_unref(entry.payload);
    member_settle(m);
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(m->reads[0].context, 77);
    assert_int_equal(m->reads[0].index, 5);
    struct raft_message empty = {
        .type = RAFT_MSG_READ_INDEX_RESP, .from = 2, .to = 1, .term = 1, .index = 5};
    assert_int_equal(raft_step(m->raft, &empty), ST_INVALID);
    member_free(m);
}

static void test_read_for_a_follower_is_confirmed_and_answered(void **state)
{
    (void)state;
    struct member *m = settled_leader();
    m->outbox_count = 0;
    receive_read(m, 3, 77);
    assert_int_equal(raft_read_index(m->raft, 78), ST_OK);
    member_settle(m);
    assert_null(member_sent(m, RAFT_MSG_READ_INDEX_RESP, 3));
    confirm(m, 2, 1);
    const struct raft_message *sent = member_sent(m, RAFT_MSG_READ_INDEX_RESP, 3);
    assert_non_null(sent);
    assert_int_equal(sent->index, 1);
    assert_int_equal(sent->term, 1);
    assert_int_equal(m->reads_count, 0); /* the own one came later */
    confirm(m, 3, 2);
    assert_int_equal(m->reads_count, 1);
    member_free(m);
}

static void test_read_for_a_follower_is_dropped_elsewhere_and_when_leadership_is_lost(void **state)
{
    (void)state;
    struct member *m = follower((raft_term[]){1}, 1);
    struct raft_entry entry = context_entry(77);
    struct raft_message read = {
        .type = RAFT_MSG_READ_INDEX, .from = 3, .to = 1, .entries = &entry, .entries_count = 1};
    assert_int_equal(raft_step(m->raft, &read), ST_DROPPED);
    read.entries_count = 0;
    assert_int_equal(raft_step(m->raft, &read), ST_INVALID);
    raft_payload_unref(entry.payload);
    member_free(m);

    m = settled_leader();
    receive_read(m, 3, 77);
    assert_int_equal(raft_read_index(m->raft, 78), ST_OK);
    heartbeat(m, 5, 0);
    member_settle(m);
    assert_int_equal(m->reads_lost_count, 1); /* the own one; the follower sees it by itself */
    assert_int_equal(m->reads_lost[0], 78);
    member_free(m);
}

static void test_read_waits_for_the_first_commit_of_the_term(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    struct member *m = leader_of_three(&config, NULL, 0);
    assert_int_equal(raft_read_index(m->raft, 78), ST_OK);
    member_settle(m);
    confirm(m, 2, 1);
    assert_int_equal(m->reads_count, 0);
    acknowledge(m, 2, 1);
    member_settle(m);
    assert_int_equal(m->reads_count, 0);
    confirm(m, 2, 1);
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(m->reads[0].index, 1);
    member_free(m);
}

static void test_read_by_lease_is_answered_at_once(void **state)
{
    (void)state;
    struct raft_config config = member_config(1);
    config.lease_reads = true;
    struct member *m = leader_of_three(&config, NULL, 0);
    assert_int_equal(raft_read_index(m->raft, 77), ST_OK);
    member_settle(m);
    assert_int_equal(m->reads_count, 0); /* not before the first commit of the term */
    acknowledge(m, 2, 1);
    confirm(m, 2, 1);
    assert_int_equal(m->reads_count, 1);
    assert_int_equal(raft_read_index(m->raft, 78), ST_OK);
    member_settle(m);
    assert_int_equal(m->reads_count, 2);
    member_free(m);

    config.check_quorum = false;
    m = member_new(&config, 1);
    assert_int_equal(member_start(m), ST_INVALID);
    member_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfer_to_a_member_up_to_date_goes_at_once),
        cmocka_unit_test(test_transfer_waits_until_the_member_caught_up),
        cmocka_unit_test(test_transfer_is_told_from_other_losses_of_leadership),
        cmocka_unit_test(test_transfer_is_given_up_after_an_election_timeout),
        cmocka_unit_test(test_transfer_to_no_voter_is_refused),
        cmocka_unit_test(test_transfer_newer_wish_replaces_the_older),
        cmocka_unit_test(test_transfer_ends_when_the_member_is_removed),
        cmocka_unit_test(test_transfer_asked_of_a_follower_goes_to_the_leader),
        cmocka_unit_test(test_timeout_now_campaigns_without_asking_first),
        cmocka_unit_test(test_timeout_now_is_for_voters_that_follow),
        cmocka_unit_test(test_vote_asked_for_by_a_transfer_passes_the_lease),
        cmocka_unit_test(test_stall_hands_over_and_the_rest_goes_on),
        cmocka_unit_test(test_stall_shorter_changes_nothing),
        cmocka_unit_test(test_stall_that_nobody_takes_over_ends_leadership),
        cmocka_unit_test(test_stall_successor_must_have_what_is_committed),
        cmocka_unit_test(test_stall_by_bytes),
        cmocka_unit_test(test_stall_never_moves_a_lone_voter),
        cmocka_unit_test(test_follower_with_too_much_not_durable_drops_appends),
        cmocka_unit_test(test_read_of_a_follower_asks_the_leader),
        cmocka_unit_test(test_read_for_a_follower_is_confirmed_and_answered),
        cmocka_unit_test(test_read_for_a_follower_is_dropped_elsewhere_and_when_leadership_is_lost),
        cmocka_unit_test(test_read_waits_for_the_first_commit_of_the_term),
        cmocka_unit_test(test_read_by_lease_is_answered_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
