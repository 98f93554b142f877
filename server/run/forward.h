/* server/run/forward.h - passes promotions of learners on to the leader, over its peer port. */
#ifndef SERVER_RUN_FORWARD_H
#define SERVER_RUN_FORWARD_H
#include "base/inbox.h"
#include "server/run/thread.h"

struct loops;
struct machine;
struct promotion_forward;

struct forwarder {
    struct thread thread;
    struct inbox inbox; /* struct promotion_forward */
    struct loops *loops;
    struct machine *machine;
};

/* Starts the thread; everything is borrowed. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status forwarder_start(struct forwarder *forwarder, struct loops *loops,
                                    struct machine *machine);
void forwarder_give(struct forwarder *forwarder,
                    struct promotion_forward *forward); /* any thread */
void forwarder_stop(struct forwarder *forwarder);       /* answers what waits; zeroed is fine */
#endif
