/* server/run/member_private.h - what the files that make, open and run a member share. */
#ifndef SERVER_RUN_MEMBER_PRIVATE_H
#define SERVER_RUN_MEMBER_PRIVATE_H
#include "base/lock.h"
#include "base/rng.h"
#include "server/run/auto_compaction.h"
#include "server/run/bootstrap.h"
#include "server/run/cluster_watch.h"
#include "server/run/corruption_watch.h"
#include "server/run/forward.h"
#include "server/run/leader_posts.h"
#include "server/run/member.h"
#include "server/run/publish.h"
#include "server/run/quota.h"
#include "server/run/space.h"
#include "server/run/stall.h"
#include "server/run/thread.h"
#include "server/run/watching.h"
#include "server/run/workers.h"
#include "storage/backend.h"
#include "storage/datadir/datadir.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "wal/wal.h"

#define ACTORS_MAX (ACTOR_READER_FIRST + 16U)

struct member {
    struct member_options options;
    struct datadir datadir;
    struct rng rng;
    struct bootstrap bootstrap; /* of a member that is made, or that joins still */
    raft_id member_id;
    uint64_t cluster_id;
    struct disk *disk;
    struct lock *lock;
    char store_path[PATH_MAX], checkpoint_path[PATH_MAX]; /* as opened; a snapshot changes it */
    struct store_options store_options;
    struct mvcc_options mvcc_options;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct wal *wal;
    struct raft *raft;
    struct loops *loops;
    struct services *services;
    struct peer_port *peer_port;
    struct publisher publisher;
    struct forwarder forwarder;
    struct leader_posts leader_posts;
    struct workers workers;
    struct cluster_watch cluster_watch;
    struct corruption_watch corruption_watch;
    struct auto_compaction auto_compaction;
    struct quota_watch quota;
    struct space_watch space;
    struct stall_watch stall;
    struct watching watching;
    bool services_left; /* some call cannot end: what it uses stays */
    bool log_is_empty;  /* it has joined and not heard of the leader yet */
    atomic_bool is_removed;
    struct transfer_request hand_over; /* at the end */
    enum api_error hand_over_error;
    atomic_bool is_handed_over;
    uint32_t threads_count;
    struct member_thread {
        struct thread thread;
        struct member *member;
        uint32_t actor;
    } threads[ACTORS_MAX];
};

/* Says what could not be done, with errno's reason if there is one; returns st. */
enum status member_explain(enum status st, char *why, size_t why_bytes, const char *what,
                           const char *where);
uint64_t member_request_timeout_ns(const struct member *member); /* 5 s + 2 election timeouts */
void member_wake_actor(void *context, uint32_t actor);

/* ---- making.c: a data directory for a member that was not there ---- */

CHECKED enum status member_make(struct member *member, char *why, size_t why_bytes);

/* ---- opening.c: what is in the data directory ---- */

CHECKED enum status member_open_disk(struct member *member, char *why, size_t why_bytes);
/* Store, log, state machine, and consensus on them. */
CHECKED enum status member_open_data(struct member *member, char *why, size_t why_bytes);
struct wal_options member_log_options(struct member *member, bool create, struct raft_log_id mark);
/* path is the caller's, as long as the options are used. */
struct store_options member_store_options(struct member *member, char *path, size_t path_bytes,
                                          bool create);
/* Appends and waits until it is durable: only for a log that nobody else uses yet. */
CHECKED enum status member_append_durably(struct wal *wal, const struct wal_append *append);
#endif
