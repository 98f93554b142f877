/* server/run/cluster_watch.h - what a leader looks at from time to time: the versions of the
 * members, by which it sets the cluster's. Asking them waits, so it has a thread. */
#ifndef SERVER_RUN_CLUSTER_WATCH_H
#define SERVER_RUN_CLUSTER_WATCH_H
#include "base/status.h"
#include "server/loops/request.h"
#include "server/run/thread.h"
#include "server/state/machine.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cluster_watch {
    struct thread thread;
    struct proposal proposal; /* the one under way */
    struct loops *loops;
    struct machine *machine;
    raft_id member_id;
    uint64_t timeout_ns;
    atomic_bool is_proposing;
    bool was_leader; /* from here on of whoever looks */
    bool auth_seen;  /* enabled in the store */
    raft_id leader_seen;
    char version_seen[VERSION_TEXT_BYTES];
};

/* Starts the thread. loops, machine, member_id and timeout_ns are set; everything is borrowed.
 * Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status cluster_watch_start(struct cluster_watch *watch);
/* Cheap, to be called often, by one thread: one that has become the leader looks at once. */
void cluster_watch_look(struct cluster_watch *watch);
/* The proposal may still be under way: the loops must be freed before the watch's memory. */
void cluster_watch_stop(struct cluster_watch *watch); /* zeroed is fine */
#endif
