#include "tests/raft/peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct member *one_of_three(const struct raft_config *config, const raft_term *terms,
                            uint32_t count)
{
    struct member *m = member_new(config, /* seed= */ 1);
    for (uint32_t i = 0; i < count; i++)
        m->disk[m->disk_last++] = (struct raft_entry){.term = terms[i], .index = i + 1};
    m->disk_hard_state.term = count > 0 ? terms[count - 1] : 0;
    m->store_conf_state = (struct raft_conf_state){.voters = {1, 2, 3}, .voters_count = 3};
    assert_int_equal(member_start(m), ST_OK);
    return m;
}

struct member *follower(const raft_term *terms, uint32_t count)
{
    struct raft_config config = member_config(1);
    return one_of_three(&config, terms, count);
}

void receive(struct member *m, struct raft_message message)
{
    message.to = 1;
    assert_int_equal(raft_step(m->raft, &message), ST_OK);
    raft_check(m->raft);
}

struct raft_message answer_of(struct member *m)
{
    m->last_sent = (struct raft_message){0};
    member_settle(m);
    return m->last_sent;
}

void receive_vote(struct member *m, raft_id from, bool pre)
{
    raft_term term = member_status(m).hard_state.term + (pre ? 1 : 0);
    receive(m, (struct raft_message){.type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
                                     .from = from,
                                     .term = term});
}

void acknowledge(struct member *m, raft_id from, raft_index index)
{
    receive(m, (struct raft_message){.type = RAFT_MSG_APP_RESP,
                                     .from = from,
                                     .term = member_status(m).hard_state.term,
                                     .index = index});
}

struct member *leader_of_three(struct raft_config *config, const raft_term *terms, uint32_t count)
{
    config->pre_vote = false;
    struct member *m = one_of_three(config, terms, count);
    assert_int_equal(raft_campaign(m->raft), ST_OK);
    member_settle(m);
    receive_vote(m, 2, /* pre= */ false);
    assert_int_equal(member_status(m).role, RAFT_LEADER);
    member_settle(m);
    return m;
}

struct member *settled_leader(void)
{
    struct raft_config config = member_config(1);
    struct member *m = leader_of_three(&config, NULL, 0);
    acknowledge(m, 2, 1);
    acknowledge(m, 3, 1);
    member_settle(m);
    assert_int_equal(m->applied, 1);
    return m;
}

struct raft_message vote_request(raft_id from, raft_term term, struct raft_log_id last)
{
    return (struct raft_message){.type = RAFT_MSG_VOTE,
                                 .from = from,
                                 .term = term,
                                 .index = last.index,
                                 .log_term = last.term};
}

void heartbeat(struct member *m, raft_term term, raft_index commit)
{
    receive(m, (struct raft_message){
                   .type = RAFT_MSG_HEARTBEAT, .from = 2, .term = term, .commit = commit});
}

void append_from(struct member *m, raft_id from, raft_term term, struct raft_log_id prev,
                 const raft_term *terms, uint32_t count, raft_index commit)
{
    struct raft_entry entries[8];
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct raft_entry){.term = terms[i], .index = prev.index + 1 + i};
    receive(m, (struct raft_message){.type = RAFT_MSG_APP,
                                     .from = from,
                                     .term = term,
                                     .index = prev.index,
                                     .log_term = prev.term,
                                     .entries = entries,
                                     .entries_count = count,
                                     .commit = commit});
}

struct raft_payload *add_node(raft_id id)
{
    struct conf_change_single change = {.type = CONF_CHANGE_ADD_NODE, .node_id = id};
    struct raft_payload *payload = conf_change_encode_v1(1, change, SLICE_EMPTY);
    assert_non_null(payload);
    return payload;
}

raft_index propose_node(struct member *m, raft_id id)
{
    struct raft_payload *payload = add_node(id);
    raft_index index;
    assert_int_equal(raft_propose_conf_change(m->raft, RAFT_ENTRY_CONF_CHANGE, payload, &index),
                     ST_OK);
    raft_payload_unref(payload);
    return index;
}
