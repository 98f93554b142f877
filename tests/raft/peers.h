/* tests/raft/peers.h - member 1 among three, whose peers are played by the test. */
#ifndef TESTS_RAFT_PEERS_H
#define TESTS_RAFT_PEERS_H
#include "tests/raft/member.h"

/* Member 1 of 1, 2, 3, with one entry of each given term in its log and the last as its own. */
struct member *one_of_three(const struct raft_config *config, const raft_term *terms,
                            uint32_t count);
struct member *follower(const raft_term *terms, uint32_t count);
/* Elected by 2; its first entry is not acknowledged by anyone else. */
struct member *leader_of_three(struct raft_config *config, const raft_term *terms, uint32_t count);
/* A leader whose first entry is committed and applied. */
struct member *settled_leader(void);

void receive(struct member *m, struct raft_message message); /* to is filled in */
/* Everything that is due leaves; the last message out. */
struct raft_message answer_of(struct member *m);
void receive_vote(struct member *m, raft_id from, bool pre);
void acknowledge(struct member *m, raft_id from, raft_index index);
struct raft_message vote_request(raft_id from, raft_term term, struct raft_log_id last);
void heartbeat(struct member *m, raft_term term, raft_index commit);
/* At most 8 entries of the given terms behind prev. */
void append_from(struct member *m, raft_id from, raft_term term, struct raft_log_id prev,
                 const raft_term *terms, uint32_t count, raft_index commit);
struct raft_payload *add_node(raft_id id);
raft_index propose_node(struct member *m, raft_id id);
#endif
