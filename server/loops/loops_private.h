/* server/loops/loops_private.h - what the actors share with each other only. */
#ifndef SERVER_LOOPS_LOOPS_PRIVATE_H
#define SERVER_LOOPS_LOOPS_PRIVATE_H
#include "base/inbox.h"
#include "base/list.h"
#include "server/loops/apply_metrics.h"
#include "server/loops/forwarded.h"
#include "server/loops/limits.h"
#include "server/loops/loops.h"
#include "server/loops/transport.h"
#include "server/loops/waves.h"

#include <limits.h>
#include <stdatomic.h>

/* One ready batch on its way: to the log and to apply. The consensus actor makes it and, when both
 * are done with it, releases it; in between the applier only reads it. */
struct work {
    struct inbox_node node;         /* in the applier's inbox, then in consensus' applied inbox */
    struct list_node appending;     /* consensus: among the works the log has not finished */
    struct raft_ready *ready;       /* NULL once only the log has to finish */
    struct raft_message *responses; /* owned copies: what then is left of ready */
    uint32_t responses_count;
    struct request **waiting; /* parallel to ready->apply.entries; NULL where nobody here waits */
    uint32_t waiting_count;
    struct install *install;  /* of the snapshot in ready->append, or NULL */
    struct inbox_node *reads; /* chain of read_request, each with its index */
    struct raft_log_id durable;
    uint64_t ticket;       /* the log's: durable when it is */
    raft_index last_index; /* of the entries it takes to the log; 0: none */
    bool to_apply, applied, appended;
};

/* A conf change entry stops apply until the core has said what the configuration is (design:
 * barriers). */
struct barrier {
    struct inbox_node node;
    enum raft_entry_type type;
    struct slice change; /* borrowed from the entry */
    bool refused;        /* by the state machine: the core is told so */
    struct raft_conf_state conf_state;
    atomic_bool answered;
};

/* Since when a member is known to be out of reach; for the text of a timeout. */
struct neighbour {
    raft_id id;
    uint64_t lost_ns; /* when messages to it were last lost; 0: never */
};

/* When our own log had which entries, for the last batches. */
#define TIMELINE_LOGGED_MAX 64U
struct timeline {
    struct logged {
        raft_index index; /* and all before it */
        uint64_t at_ns;
    } logged[TIMELINE_LOGGED_MAX];
    uint32_t logged_next;
    raft_id acknowledged_by; /* the last one to say that it has more of the log */
};

struct consensus {
    struct loops *loops;
    uint64_t now_ns; /* when this step began */
    struct timeline timeline;
    struct raft *raft;
    struct wal *wal;
    struct inbox requests; /* struct request */
    struct inbox applied;  /* struct work, back from the applier */
    struct inbox barriers; /* struct barrier */
    struct inbox messages; /* struct peer_message */
    struct inbox reports;  /* struct peer_report */
    struct inbox answers;  /* struct job, back from the snapshots actor */

    struct list_node offers;  /* struct snapshot_send whose MsgSnap the core is about to make */
    struct install *prepared; /* its MsgSnap was stepped; the core has not said yet */
    bool installing;          /* from the arrival of a snapshot to its end */

    struct waves waves;
    struct list_node urgent; /* proposals to be proposed, these first */
    struct list_node queue;
    uint64_t queue_count, queue_termed_count;         /* all of them, and those with an only_term */
    struct raft_payload *payloads[PROPOSE_BATCH_MAX]; /* one batch of the queue */
    struct list_node changes;                         /* conf proposals to be proposed */
    struct list_node proposed;                        /* requests in the log, by index */
    struct forwarded forwarded;                       /* proposals somewhere, by id */
    struct list_node transfers;                       /* struct transfer_request */
    struct list_node reads;                           /* reads waiting for a round */
    struct list_node rounds;                          /* struct read_round */
    uint64_t round_next;                              /* context of the next one */

    struct list_node appending; /* struct work, in the log's order */
    uint64_t ticket_last;
    uint64_t expire_any_ns; /* when all that wait are looked at next */
    uint64_t next_tick_ns;
    uint64_t commit_seen, batches_seen;
    bool campaign_wanted;
    struct raft_log_id durable_sent;     /* the newest that was given to apply */
    raft_id leader_seen, leader_known;   /* now; the last one there was */
    uint64_t leader_since_ns;            /* when leader_known was first seen; 0: none yet */
    raft_id transferee;                  /* leadership is on its way to it; 0: no */
    struct inbox_node *held, **held_end; /* forwarded to us meanwhile: for whoever leads then */
    uint64_t held_until_ns;
    bool was_leader;
    bool quarantined, removed;

    struct members *members; /* counted; what the transport was told */
    struct neighbour neighbours[RAFT_MEMBERS_MAX];
    uint32_t neighbours_count;
};

struct applier {
    struct loops *loops;
    struct inbox inbox;       /* struct work */
    struct inbox_node *works; /* taken, not begun */
    struct work *current;
    bool answer_now;              /* few wait for the current work */
    uint32_t next_entry;          /* of current */
    struct barrier barrier;       /* for the conf change at next_entry */
    enum api_error barrier_error; /* what the state machine refused it for */
    bool at_barrier;
    struct inbox pins;            /* struct job: each wants a pin */
    struct inbox installs;        /* struct install, one at a time */
    struct install *install;      /* to be switched to when all that was given before is applied */
    bool switching;               /* the writer is at it; apply waits */
    struct list_node reads;       /* applied index not reached yet, by index */
    struct list_node compactions; /* proposals of physical compactions, until they are done */
    uint64_t next_seal_ns;
    uint64_t full_since_ns;                /* apply stands still, the store is full; 0: no */
    uint64_t full_began_ns, full_ended_ns; /* the last time it did */
    struct apply_metrics metrics;
    uint64_t compaction_began_ns; /* whose deletions are being scheduled; 0: none */
    bool unsealed; /* something was applied since the generation was last found empty */
};

/* Work that may take the disk's time, done in small steps: entries read back from the log,
 * snapshots made and received. */
struct snapshots {
    struct loops *loops;
    struct inbox inbox;       /* struct job */
    struct list_node jobs;    /* struct job, in turn */
    struct inbox events;      /* struct export_event */
    struct list_node exports; /* struct export_work that hold a pin */
};

/* The backend writer's: at most one compact copy is under way; others wait for their turn. */
struct defragments {
    struct inbox inbox;      /* struct defragment_request */
    struct list_node queue;  /* of struct defragment_request, in order */
    struct store_copy *copy; /* for the first of the queue */
    bool begun;              /* it is the first's turn */
    char path[PATH_MAX];     /* of the copy */
    uint64_t began_ns, next_ns;
    uint64_t pending_seen, progress_ns; /* of scheduled deletions */
};

/* Counts the leases' time while this member leads. */
struct leases {
    struct loops *loops;
    raft_term term; /* in which it began to count; with the lessor's lock */
    uint64_t next_ns;
    uint32_t open_count;   /* revocations proposed and not answered */
    struct inbox answered; /* of struct revocation */
    struct read_request check;
    atomic_int check_state; /* whether it still leads: asked, answered */
};

struct reader {
    struct loops *loops;
    struct inbox inbox; /* struct read_request */
    uint32_t slot;
};

struct loops {
    struct loops_options options;
    struct consensus consensus;
    struct applier applier;
    struct snapshots snapshots;
    struct defragments defragments;
    struct leases leases;
    struct reader readers[READERS_MAX];
    atomic_uint next_reader;
    atomic_uint_fast64_t next_id;

    /* Written by one actor, read by anyone; each value stands for itself. */
    _Atomic uint64_t leader, term, commit, applied_index, applied_bytes;
    _Atomic uint64_t leader_lost_ns; /* while leader is 0: since when; 0: there was none */
    _Atomic uint64_t led_term;       /* in which this member leads; 0: it does not */
    _Atomic uint64_t applied_term;   /* of the last entry that was applied here since the start */
    _Atomic uint64_t commit_ns;      /* median of the log's commits */
    _Atomic uint64_t write_since_ns; /* of the log, in flight; 0: none */
    _Atomic uint64_t log_busy_since_ns;                /* a follower's; 0: no write in flight */
    _Atomic uint64_t writer_sync_ns, preparer_sync_ns; /* when each last waited for the disk */
    uint64_t checkpoint_bytes; /* the backend writer's: applied_bytes at the last one */
    atomic_bool is_leader, is_learner, ready, stopping, failed, seal_wanted, log_full, room_short;
    atomic_bool quarantined, removed_wanted;
    atomic_bool finish_wanted, finished;
    _Atomic(struct install *) adopt_wanted; /* for the writer, from apply, which waits */
    atomic_uint snapshot_slots;             /* bits: taken */
    atomic_uint exports_count;
    enum status finish_status; /* valid once finished */

    atomic_uint_fast64_t proposals_open, inbox_calls, inbox_bytes, reads_waiting;
    atomic_uint_fast64_t messages_count, messages_bytes; /* of members, not stepped yet */
};

void consensus_init(struct consensus *consensus, struct loops *loops, uint64_t now_ns);
void consensus_deinit(struct consensus *consensus); /* answers what it holds */
uint64_t consensus_step(struct consensus *consensus, uint64_t now_ns);

void applier_init(struct applier *applier, struct loops *loops);
void applier_deinit(struct applier *applier);
uint64_t applier_step(struct applier *applier, uint64_t now_ns);

uint64_t reader_step(struct reader *reader);
/* Spreads a chain of reads over the readers; few of them go to one, so that few are woken. */
void readers_give(struct loops *loops, struct inbox_node *chain);

/* The log, or the store by its own account, is short of room on its disk. */
static inline bool loops_is_short(const struct loops *loops)
{
    return atomic_load_explicit(&loops->log_full, memory_order_relaxed) ||
           atomic_load_explicit(&loops->room_short, memory_order_relaxed);
}

static inline uint64_t loops_election_ns(const struct loops *loops)
{
    return loops->options.election_ticks * loops->options.tick_ns;
}

/* When a request came in, by its deadline. */
static inline uint64_t loops_began_ns(const struct loops *loops, const struct request *request)
{
    uint64_t limit_ns = 5 * NS_PER_S + 2 * loops_election_ns(loops);
    return request->deadline_ns > limit_ns ? request->deadline_ns - limit_ns : 0;
}

/* Whether what waits for an apply here is to be answered with an error: its time is up, or it has
 * waited for a while and the disk hangs. A leader gives a follower little before that answers, so
 * it learns late, or not at all, what is committed; its callers can ask another member. */
bool loops_gives_up(const struct loops *loops, const struct request *request, uint64_t now_ns);

/* ---- defragments.c: writer ---- */
void defragments_init(struct loops *loops);
void defragments_deinit(struct loops *loops);
/* A chunk of what is asked for; when to go on. */
uint64_t defragments_step(struct loops *loops, uint64_t now_ns);
/* Another store is about to take the place of this one: the copy begins again with that. */
void defragments_begin_again(struct loops *loops);

/* ---- leases.c: leases ---- */
void leases_init(struct loops *loops);
void leases_deinit(struct loops *loops); /* after those that answer proposals and reads */
uint64_t leases_step(struct loops *loops, uint64_t now_ns);
/* Applier: a lease that was granted begins to count. Errors: ST_NO_MEMORY. */
struct machine_result;
CHECKED enum status leases_note_applied(struct loops *loops, const struct machine_result *result,
                                        uint64_t now_ns);

uint64_t writer_step(struct loops *loops, uint64_t now_ns);
uint64_t preparer_step(struct loops *loops, uint64_t now_ns);

/* The one end of every proposal and every change that was let in. */
void loops_request_done(struct loops *loops, struct request *request, enum api_error error,
                        struct slice response);
void loops_wake(struct loops *loops, uint32_t actor);
void loops_fail(struct loops *loops, enum status st, const char *what);
#endif
