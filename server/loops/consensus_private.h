/* server/loops/consensus_private.h - the consensus actor's inside: what its files share. */
#ifndef SERVER_LOOPS_CONSENSUS_PRIVATE_H
#define SERVER_LOOPS_CONSENSUS_PRIVATE_H
#include "server/loops/loops_private.h"

/* ---- requests.c: proposals, changes, hand-overs ---- */
void requests_take(struct consensus *c);
/* Answers those whose time is up. */
void requests_expire(struct consensus *c, uint64_t now_ns);
/* Proposes what may be proposed now; returns when to ask again at the latest. */
uint64_t requests_propose(struct consensus *c, uint64_t now_ns);
/* Begins hand-overs and ends those that are over. */
void requests_hand_over(struct consensus *c);
/* Gives each committed entry the request that waits for it here. */
CHECKED enum status requests_match(struct consensus *c, struct work *work);
void requests_fail(struct consensus *c, struct request *request, enum api_error error);
void requests_fail_all(struct consensus *c, enum api_error error); /* reads and hand-overs too */
/* Leadership of this member ended. orderly: it was handed over, so what is in the log completes. */
void requests_leader_lost(struct consensus *c, bool orderly);
/* The leader is another one than when they were forwarded: they may be lost. */
void requests_leader_moved(struct consensus *c, uint64_t now_ns);
/* etcd's three texts. */
enum api_error requests_timeout_error(const struct consensus *c, const struct request *request);

/* ---- timeline.c: where a request's time goes ---- */
void timeline_logged(struct consensus *c, raft_index index); /* our own log has it */
void timeline_acknowledged(struct consensus *c, const struct raft_message *message);
void timeline_committed(struct consensus *c, struct request *request, raft_index index);

/* ---- rounds.c: linearizable reads ---- */
void rounds_fail_reads(struct consensus *c, struct list_node *reads, enum api_error error);
void rounds_fail(struct consensus *c, enum api_error error);
void rounds_expire(struct consensus *c, uint64_t now_ns);
/* Begins a round for the reads that wait, and again those whose leader does not answer. Returns
 * when to ask again at the latest. */
uint64_t rounds_start(struct consensus *c, uint64_t now_ns);
/* There is another leader to ask. */
void rounds_leader_moved(struct consensus *c);
/* This member's core lost them with its leadership: they are asked again. */
void rounds_lost(struct consensus *c, const struct raft_ready *ready);
/* This member leads no more. Reads wait for the next leader, an election timeout at most: who is
 * cut off says so, and its callers ask another member. */
void rounds_leader_lost(struct consensus *c, uint64_t now_ns);
/* Turns confirmed rounds into a chain of reads for the applier, each with the index it must see;
 * those whose index is applied already go to the readers at once. */
struct inbox_node *rounds_take_confirmed(struct consensus *c, const struct raft_ready *ready);

/* ---- neighbours.c: the other members ---- */
CHECKED enum status neighbours_receive(struct consensus *c, uint64_t now_ns);
void neighbours_send(struct consensus *c, const struct raft_message *messages, uint32_t count);
/* Tells the transport what changed in the member table since the last time. */
void neighbours_update(struct consensus *c);
/* Messages to it were lost since then. */
bool neighbours_was_lost_since(const struct consensus *c, raft_id id, uint64_t since_ns);
/* No majority was in reach all the time since then. */
bool neighbours_lost_quorum_since(const struct consensus *c, uint64_t since_ns);
void neighbours_drop(struct consensus *c); /* what came in and was not looked at */
#endif
