/* tests/sim/cluster.h - whole members in one thread: consensus, log, apply and store as the server
 * has them, over disks, backends and a network that fake what real ones do at their worst, in
 * virtual time. What happens next is drawn among all that can happen now, and time moves on only
 * when nothing can; all of it follows from the seed. After every step what must always hold is
 * checked.
 *
 * The storage fakes keep files by path in one table: one cluster at a time. */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H
#include "base/clock.h"
#include "server/loops/loops.h"
#include "tests/fakes/fake_disk.h"
#include "tests/sim/network.h"

#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_MEMBERS_MAX 7U
#define CLUSTER_ACTORS 5U /* up to one reader */

struct cluster_options {
    uint64_t seed;
    uint32_t members_count; /* founding ones */
    uint64_t sync_ns_min, sync_ns_max;
    uint32_t window_entries_max; /* of the log in memory; 0: 100 */
};

/* A put of a key of its own, or a read of all keys, by a client of one member. Kept until the
 * cluster is freed. */
enum operation_state { OPERATION_OPEN, OPERATION_DONE, OPERATION_FAILED };
struct operation {
    struct cluster *cluster;
    uint64_t number; /* of a put, from 1: its key and its value; 0: a read */
    uint32_t member;
    enum operation_state state;
    enum api_error error; /* of one that failed */
    uint64_t began_ns, ended_ns;
    struct proposal put;
    struct read_request read;
    struct operation *next; /* older */
};

struct cluster_member {
    struct cluster *cluster;
    uint32_t number;
    raft_id id;
    struct clock clock;
    struct fake_disk *disk;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct wal *wal;
    struct raft *raft;
    struct loops *loops;
    struct rng rng;
    char store_path[32];
    uint64_t life_id;
    bool exists, running, fatal, removed, quarantined;
    bool woken[CLUSTER_ACTORS];
    uint64_t due_ns[CLUSTER_ACTORS];
    uint64_t sync_due_ns;    /* of the write in flight; 0: none */
    uint64_t stall_until_ns; /* no write completes before */
    struct raft_log_id applied_seen;
    uint64_t lives_count;
};

/* Who led and what was applied, for all time. */
struct cluster_history {
    raft_id *leader_of_term;
    raft_term terms_count;
    raft_term *term_of_index;
    raft_index indexes_count;
};

struct cluster {
    struct cluster_options options;
    struct rng rng;
    uint64_t now_ns;
    struct network *network;
    struct cluster_member members[CLUSTER_MEMBERS_MAX];
    struct cluster_history history;
    uint64_t sent, acknowledged, failed, reads_done;
    struct operation *operations;
    uint64_t steps_count;
};

/* The founding members exist and run; nobody leads yet. */
struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *cluster);

/* One thing happens: a step of an actor, a write that completes, a message that arrives; or time
 * moves to when one can, at most to until_ns. False: nothing happens before until_ns. */
bool cluster_step(struct cluster *cluster, uint64_t until_ns);
void cluster_run(struct cluster *cluster, uint64_t for_ns);
/* Steps until condition holds; fails the test when that takes more than limit_ns. */
void cluster_until(struct cluster *cluster,
                   bool (*condition)(struct cluster *cluster, void *context), void *context,
                   uint64_t limit_ns, const char *what);

/* The power of one member fails: its disk keeps what it must, and more by chance. */
void cluster_crash(struct cluster *cluster, uint32_t member);
void cluster_start(struct cluster *cluster, uint32_t member);
/* No write of this member completes for so long. */
void cluster_stall_disk(struct cluster *cluster, uint32_t member, uint64_t for_ns);
/* An empty member that waits to be told by the leader what happened so far. It must be added to the
 * configuration by a client. */
void cluster_join(struct cluster *cluster, uint32_t member);

/* The running member that leads in the highest term, or CLUSTER_MEMBERS_MAX. */
uint32_t cluster_leader(struct cluster *cluster);
void cluster_wait_for_leader(struct cluster *cluster);
/* A put by a client of this member. */
struct operation *cluster_put(struct cluster *cluster, uint32_t member);
/* A linearizable read of all keys: it must see every put that was acknowledged before it began. */
struct operation *cluster_read(struct cluster *cluster, uint32_t member);
bool cluster_is_done(struct cluster *cluster, void *operation); /* for cluster_until() */

/* Heals everything, starts everyone, waits until a put through each member is acknowledged and all
 * have applied the same; then compares their states and looks for what was acknowledged. */
void cluster_settle(struct cluster *cluster);
#endif
