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
#include "server/state/kv_request.h"
#include "server/watch/watch.h"
#include "tests/fakes/fake_disk.h"
#include "tests/sim/network.h"

#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_MEMBERS_MAX NETWORK_MEMBERS_MAX
#define CLUSTER_WATCH (ACTOR_READER_FIRST + 1U) /* the watch hub, behind one reader */
#define CLUSTER_ACTORS (CLUSTER_WATCH + 1U)

struct cluster_options {
    uint64_t seed;
    uint32_t members_count;            /* founding ones */
    uint64_t sync_ns_min, sync_ns_max; /* of each member, to begin with */
    uint32_t window_entries_max;       /* of the log in memory; 0: 100 */
    uint64_t lease_checkpoint_ns;      /* 0: none are told */
    bool persist_checkpoints;
    const struct backend_ops *backend; /* NULL: the one in memory. A real one keeps what it had
                                          written when the power fails */
    const char *backend_dir;           /* of a real one's files; borrowed */
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
    uint64_t deadline_ns, life; /* by the member's clock; its life */
    struct proposal put;
    struct read_request read;
    struct conf_proposal change;
    struct transfer_request transfer;
    struct operation *next; /* older */
};

/* What a member said to others and must still know after a crash. */
struct cluster_promises {
    raft_term term, vote_term, acked_term;
    raft_id vote;
    struct raft_log_id acked; /* the newest entry acknowledged in acked_term */
    struct raft_log_id last;  /* of its log, when it asked for votes in asked_term */
    raft_term asked_term;
};

/* A member's clocks: they run at their own rate, the wall's also jumps. */
struct cluster_clock {
    uint64_t base_ns, base_local_ns; /* cluster's and member's time when the rate was set */
    int64_t rate_ppm;                /* faster than the cluster's */
    int64_t wall_ahead_ns;
};

/* What a member led and how far it had committed, after its last step. */
struct cluster_lead {
    bool is_leader;
    raft_term term;
    raft_index commit;
    struct raft_conf_state conf_state;
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
    struct watch_hub *watch;
    struct cluster_read {
        struct read_request request;
        struct watch_read *read;
    } watch_reads[WATCH_READS_MAX];
    struct rng rng;
    struct store_options store_options;
    struct mvcc_options mvcc_options;
    char store_path[128];
    char made_path[128]; /* of the newest store made of a snapshot; it may not be in use */
    uint64_t snapshots_received, installs_count;
    uint32_t copies_count; /* compact ones that were begun */
    struct defragment_request copy;
    bool is_copying; /* copy is not answered yet */
    uint64_t life_id;
    struct cluster_clock time;
    struct cluster_promises promises;
    bool exists, running, removed, quarantined;
    bool fatal;    /* it stopped itself; it is gone with the next step */
    bool may_fail; /* its disks were made to */
    bool woken[CLUSTER_ACTORS];
    uint64_t due_ns[CLUSTER_ACTORS]; /* by its own clock */
    uint64_t sync_ns_min, sync_ns_max;
    uint64_t sync_due_ns;     /* of the write in flight; 0: none */
    uint64_t stall_until_ns;  /* no write completes before */
    uint64_t paused_until_ns; /* no actor takes a step before */
    uint64_t last_paused_ns;  /* when the newest pause was to end */
    struct raft_log_id applied_seen;
    struct auth_view *auth_seen; /* counted: users and roles after its last step */
    uint64_t auth_hash;          /* of them */
    raft_index auth_upto;        /* they are those of this index */
    uint64_t committed_seen;     /* the store's */
    raft_index durable_seen;     /* the log's, also while the member is down */
    struct cluster_lead lead;    /* before the step under way */
    uint64_t lives_count;
};

/* One entry as it was seen in a message or a log: nobody may ever have another of this term at this
 * index, nor one that follows another. */
struct cluster_entry {
    struct cluster_entry *next;
    raft_term term, term_before;
    uint64_t hash;
};

/* One change of one key, as the first member to apply it made it. */
struct cluster_event {
    uint64_t hash; /* of the record */
    uint64_t key_hash;
    bool is_delete;
    uint64_t value; /* the number in front of a space; 0: deleted, or none */
    int64_t revision;
    uint64_t auth_stretch; /* when it was first applied */
};

/* Who led, what was written and what was applied, for all time. */
struct cluster_history {
    raft_id *leader_of_term;
    raft_term terms_count;
    raft_term *term_of_index; /* of what was applied */
    raft_index indexes_count;
    struct raft_log_id applied_max;
    raft_index commit_max;   /* known to any member */
    uint64_t *conf_of_index; /* hash of the configuration in force after this entry */
    raft_index confs_count;
    uint64_t *auth_of_index; /* hash of users and roles after this entry */
    raft_index auths_count;
    raft_index auth_index;          /* the highest that any member was seen at, and */
    uint64_t auth_revision;         /* the revision of users and roles there */
    struct cluster_entry **entries; /* by index */
    raft_index entries_count;
    struct cluster_event *events; /* in order */
    uint64_t events_count, events_capacity;
    uint64_t *event_of_value; /* counted from 1 */
    uint64_t values_count;
    uint64_t *event_of_revision; /* its first one, counted from 1 */
    uint64_t revisions_count;
};

/* What is certain of auth by the answers to those who switch it: it is on, or off, from the answer
 * until the next one asks for something else. A time in which it is so has a number. */
struct cluster_auth {
    uint64_t stretch; /* 0: nothing is certain */
    bool is_on;
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
    uint64_t hash; /* of everything that happened */
    void (*on_removed)(struct cluster *cluster, uint32_t member);
    /* A change of a key, when the first member applies it; NULL: nobody asks. */
    void (*on_change)(void *context, struct slice key, bool tombstone, int64_t revision);
    void *on_change_context;
    int64_t *others_revisions; /* ascending: made by those whom the history does not know */
    uint64_t others_count, others_capacity;
    struct cluster_auth auth;
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
/* Only its process dies: what it wrote is there, what was in flight may be. */
void cluster_kill(struct cluster *cluster, uint32_t member);
/* It stops in order: what is open is completed or refused, the log is closed. */
void cluster_stop(struct cluster *cluster, uint32_t member);
/* False: it cannot start now, its disk is full. */
bool cluster_try_start(struct cluster *cluster, uint32_t member);
void cluster_start(struct cluster *cluster, uint32_t member);
/* No write of this member completes for so long. */
void cluster_stall_disk(struct cluster *cluster, uint32_t member, uint64_t for_ns);
/* The process is not scheduled for so long; the disk and the network go on. */
void cluster_pause(struct cluster *cluster, uint32_t member, uint64_t for_ns);
/* A compact copy takes the place of its store, beside everything else. */
void cluster_defragment(struct cluster *cluster, uint32_t member);
void cluster_set_clock_rate(struct cluster *cluster, uint32_t member, int64_t rate_ppm);
/* Time by the member's own clock. */
uint64_t cluster_local_ns(const struct cluster_member *member);
/* Mixes a fact into the hash of the run. */
void cluster_note(struct cluster *cluster, uint64_t fact);
/* An empty member that waits to be told by the leader what happened so far. It must be added to the
 * configuration by a client. */
void cluster_join(struct cluster *cluster, uint32_t member);

/* The running member that leads in the highest term, or CLUSTER_MEMBERS_MAX. */
uint32_t cluster_leader(struct cluster *cluster);
void cluster_wait_for_leader(struct cluster *cluster);
/* On whose behalf a client of this member proposes, as it would if it had just logged in as root:
 * nobody's while auth is off by what the member knows. And one who may nothing while auth is on. */
struct auth_caller cluster_root(const struct cluster_member *member);
struct auth_caller cluster_guest(const struct cluster_member *member);
/* An answer to one who may not, or not any more. */
bool cluster_is_refusal(enum api_error error);
/* A put by a client of this member, as root. */
struct operation *cluster_put(struct cluster *cluster, uint32_t member);
/* A linearizable read of all keys: it must see every put that was acknowledged before it began. */
struct operation *cluster_read(struct cluster *cluster, uint32_t member);
/* By a client of this member: adds `member` as a voter or as a learner,
 * makes a voter of a learner, or removes it. */
struct operation *cluster_add(struct cluster *cluster, uint32_t through, uint32_t member);
struct operation *cluster_add_learner(struct cluster *cluster, uint32_t through, uint32_t member);
struct operation *cluster_promote(struct cluster *cluster, uint32_t through, uint32_t member);
struct operation *cluster_remove(struct cluster *cluster, uint32_t through, uint32_t member);
/* Hands leadership from this member to another. */
struct operation *cluster_hand_over(struct cluster *cluster, uint32_t from, uint32_t to);
bool cluster_is_done(struct cluster *cluster, void *operation); /* for cluster_until() */

/* The test fails: prints the seed and what is wrong. */
_Noreturn void cluster_fail(const struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The change that wrote this value, and the newest one of a key at a revision; NULL: none. */
const struct cluster_event *cluster_event_of_value(const struct cluster *cluster, uint64_t value);
const struct cluster_event *cluster_event_at(const struct cluster *cluster, struct slice key,
                                             int64_t revision);
/* A revision as if nobody but those in the history had made any. */
int64_t cluster_own_revision(const struct cluster *cluster, int64_t revision);
/* Running, and a member by the word of the leader. */
bool cluster_takes_part(struct cluster *cluster, uint32_t member);

/* Heals everything: links, disks, clocks; starts everyone. */
void cluster_heal(struct cluster *cluster);
/* Heals everything, starts everyone, waits until a put through each member is acknowledged and all
 * have applied the same; then compares their states and looks for what was acknowledged. */
void cluster_settle(struct cluster *cluster);
#endif
