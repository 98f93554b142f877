/* tests/raft/cluster.h - members in one process over the bare core: each with a disk that answers
 * late and forgets what was not synced when the process dies, between them a network that loses,
 * repeats and reorders. Every step of it is checked against what consensus promises. */
#ifndef TESTS_RAFT_CLUSTER_H
#define TESTS_RAFT_CLUSTER_H
#include "base/rng.h"
#include "raft/raft.h"

#define CLUSTER_NODES_MAX 8U
#define CLUSTER_INDEX_MAX 20000U
#define CLUSTER_TERM_MAX 20000U
#define CLUSTER_FLIGHT_MAX 4096U
#define CLUSTER_WORKS_MAX 512U
#define CLUSTER_READS_MAX 65536U

struct cluster_work {
    struct raft_ready *ready;
    bool append_due, apply_due;
};

struct cluster_node {
    struct raft *raft; /* NULL: the process is dead */
    struct raft_config config;
    struct rng rng;
    bool stalled; /* the disk completes nothing */

    /* The disk. disk[i] is valid for disk_before.index < i <= disk_last; references are held. */
    struct raft_log_id disk_before;
    struct raft_entry *disk;
    raft_index disk_last;
    struct raft_hard_state disk_hard_state;

    /* The store on disk, and the state machine in memory. */
    raft_index store_applied;
    struct raft_conf_state store_conf_state;
    struct raft_log_id applied;
    struct raft_conf_state conf_state;
    struct raft_log_id durable; /* as apply was told */

    /* Batches with work to do, in order. */
    struct cluster_work works[CLUSTER_WORKS_MAX];
    uint32_t works_count;
    struct raft_fetch fetches[64];
    uint32_t fetches_count;

    raft_index seen_commit;
    raft_term seen_term;
    raft_index seen_last; /* while it leads in seen_leading_term */
    raft_term seen_leading_term;
};

struct cluster_options {
    uint32_t voters;
    bool pre_vote, check_quorum, apply_unstable;
    uint64_t message_bytes_max, inflight_bytes_max, apply_bytes_max, uncommitted_bytes_max;
    uint32_t inflight_messages_max, stall_ticks_max, window_entries_max;
    /* The weather: how often each thing happens, relative to the others, and messages in a hundred
     * that are lost. */
    uint32_t deliveries, readies, appends, applies, ticks, proposals, disturbances, loss_percent;
};

struct cluster {
    struct rng rng;
    struct cluster_options options;
    struct cluster_node nodes[CLUSTER_NODES_MAX]; /* of id i + 1 */
    uint32_t nodes_count;
    bool cut[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX]; /* from, to */
    struct raft_message flight[CLUSTER_FLIGHT_MAX]; /* everything they point to is theirs */
    uint32_t flight_count;

    /* What the cluster once said, for all time. By index: the term of the committed entry, a hash
     * of the entry, and of the conf state after it; by term: its leader, and each member's vote. */
    raft_term committed_terms[CLUSTER_INDEX_MAX];
    uint64_t applied_hashes[CLUSTER_INDEX_MAX], conf_hashes[CLUSTER_INDEX_MAX];
    raft_index committed;
    raft_id leaders[CLUSTER_TERM_MAX];
    raft_id votes[CLUSTER_NODES_MAX][CLUSTER_TERM_MAX];

    uint64_t proposals; /* made so far; each has its number as its bytes */
    bool *refused;      /* by number: its proposer was told that it is not in the log */
    raft_index read_floors[CLUSTER_READS_MAX]; /* committed anywhere when the read began */
    uint32_t reads;

    /* How much of what happened. */
    uint64_t elections, truncations, commits, restarts, snapshots, reads_answered, transfers,
        log_reads;
};

struct cluster *cluster_new(uint64_t seed, const struct cluster_options *options);
void cluster_free(struct cluster *cluster);

/* One random thing happens, chaos included; then everything is checked. */
void cluster_step(struct cluster *cluster);
/* Everyone lives, the network and the disks work: after at most `ticks` ticks of everyone there is
 * a leader and all members agree on everything. Aborts otherwise. */
void cluster_calm(struct cluster *cluster, uint32_t ticks);
#endif
