/* server/run/member.h - one member as a process runs it: data directory, log, store, state machine,
 * consensus and the threads that step the actors. Everything that can refuse to start refuses here,
 * with a sentence. */
#ifndef SERVER_RUN_MEMBER_H
#define SERVER_RUN_MEMBER_H
#include "base/status.h"
#include "server/loops/loops.h"
#include "server/services/services.h"
#include "wal/disks.h"

#include <stdbool.h>
#include <stdint.h>

/* etcd's: what a message may be larger than the request in it. */
#define REQUEST_OVERHEAD_BYTES (512U << 10)

struct machine;
struct member;
struct services;

struct member_options {
    const char *data_dir, *wal_dir; /* wal_dir "" : <data-dir>/member/wal */
    const char *backend;            /* "lmdb", "sqlite", or "" for what is there (lmdb when new) */
    enum disk_kind disk;
    const char *name;
    const char *const *peer_urls; /* advertised; sorted */
    uint32_t peer_urls_count;
    const char *const *client_urls; /* advertised; published to the cluster */
    uint32_t client_urls_count;
    const int *peer_listeners; /* bound, not listening yet; taken, whatever happens */
    uint32_t peer_listeners_count;
    const char *initial_cluster, *cluster_token;
    bool initial_cluster_exists; /* --initial-cluster-state=existing */
    bool force_new_cluster;
    bool check_corruption_first;         /* --experimental-initial-corrupt-check */
    uint64_t check_corruption_every_ns;  /* 0: never */
    uint64_t check_compactions_every_ns; /* --experimental-compact-hash-check-*; 0: never */
    uint64_t watch_progress_every_ns;    /* --experimental-watch-progress-notify-interval */
    bool pre_vote, strict_reconfig;
    bool lease_checkpoint, lease_checkpoint_persist;
    uint32_t heartbeat_ms, election_ms;
    uint64_t request_bytes_max;
    uint32_t txn_ops_max;
    uint64_t quota_bytes;                             /* UINT64_MAX: none */
    uint32_t quota_warn_percent, quota_clear_percent; /* 0: not */
    uint64_t warning_apply_ns; /* what takes longer to apply or to read is slow */
    bool compact_by_revision;
    uint64_t compact_retention; /* revisions or nanoseconds; 0: never */
    uint32_t pollers_count; /* reader slots kept for the rpc pollers, before the reader threads' */
    uint32_t readers_count;
    bool waves;
    struct services_auth auth; /* but for who does the work; the key is borrowed */
};

/* Opens or makes the member and starts its threads; a lone one campaigns at once. why (at least
 * 1024 bytes) gets the reason on an error. Errors: ST_BUSY, ST_INVALID, ST_CORRUPT, ST_NO_SPACE,
 * ST_UNSUPPORTED, ST_IO, ST_NO_MEMORY. */
CHECKED enum status member_open(const struct member_options *options, struct member **out,
                                char *why, size_t why_bytes);
/* Blocks until this member's own publish entry is applied, or until it had no leader for 5 s: then
 * it serves what it can on its own. Or until it should stop. */
void member_wait_ready(struct member *member);
/* What is to be looked at now and then: the disk's room, the cluster's version. To be called every
 * quarter of a second or so, by the thread that waited until ready. False: it should stop, since it
 * is no longer in the cluster. */
bool member_watch(struct member *member);
/* A leader gives its leadership to another voter, if there is one, and waits for that; at most an
 * election timeout. */
void member_hand_over(struct member *member);
/* Ends all watches, and those that are opened from now on: they would last for ever. */
void member_end_watches(struct member *member);
/* Clean stop: requests in the log complete, the log and the store are flushed. NULL is fine. */
void member_close(struct member *member);

struct loops *member_loops(struct member *member);
struct machine *member_machine(struct member *member);
struct mvcc *member_mvcc(struct member *member);
struct store *member_store(struct member *member);
struct services *member_services(struct member *member);
/* The services are still used by calls that cannot end: their memory stays. */
void member_leave_services(struct member *member);
const char *member_disk_name(const struct member *member); /* how the log is written */
/* Reader slots of the client port's HTTP thread and its keeper, and of the metrics' ports'. */
uint32_t member_http_slot(const struct member *member);
uint32_t member_keeper_slot(const struct member *member);
uint32_t member_metrics_slot(const struct member *member);
#endif
