/* server/services/election_private.h - what election.c and observe.c share. */
#ifndef SERVER_SERVICES_ELECTION_PRIVATE_H
#define SERVER_SERVICES_ELECTION_PRIVATE_H
#include "server/services/contend.h"

/* A LeaderResponse; header is its bytes. */
void election_answer_leader(struct wire_out *out, struct slice header, const struct mvcc_kv *kv);
/* The prefix of the keys of the election that a LeaderRequest names. Errors: ST_INVALID, ST_TOO_BIG
 * (the arena's cap), ST_NO_MEMORY. */
CHECKED enum status election_prefix(struct rpc_call *call, struct slice *out);

void on_observe(struct rpc_call *call);
void on_observe_cancel(struct rpc_call *call);
void on_observe_sent(struct rpc_call *call);
#endif
