/* server/run/propose.h - entries that a member proposes for itself, waited for: by threads that
 * have time. */
#ifndef SERVER_RUN_PROPOSE_H
#define SERVER_RUN_PROPOSE_H
#include "server/state/error.h"

#include <stdint.h>

struct loops;
struct raft_payload;

/* Proposes payload (taken; NULL is ST_NO_MEMORY's error), whose header.ID is id, before what
 * clients write, and waits until it is applied here or has failed. The loops run. */
enum api_error propose_and_wait(struct loops *loops, struct raft_payload *payload, uint64_t id,
                                uint64_t timeout_ns);
#endif
