/* raft/raft.h - consensus as a pure state machine (Ongaro and Ousterhout, "In Search of an
 * Understandable Consensus Algorithm"; Ongaro's thesis; etcd's additions). Inputs go in by calls,
 * effects come out in a `ready` batch. No I/O, no clock, no thread, no lock; the only randomness is
 * handed in. Deterministic: the same calls give the same batches. Not thread-safe: one actor owns
 * it.
 *
 * Storage is asynchronous: a batch holds append work and apply work, each with messages to be
 * stepped or sent when that work is done; any number of batches may be outstanding. No call is made
 * back into the caller.
 *
 * How to drive it
 *
 * Start.  raft_new() with what the log and the store hold; on a new cluster then raft_bootstrap().
 * A lone voter (raft_status.is_lone_voter) need not wait for a timeout: call raft_campaign() at
 * once and, on ST_BUSY (a committed change of the configuration waits to be applied) or ST_DROPPED
 * (not a member before its founding entry is applied), again after each apply response that was
 *   stepped, until the role is no longer RAFT_FOLLOWER.
 * Loop.   Put in whatever came (messages, proposals, reads, ticks, finished work), then, while
 *   raft_has_ready(), take raft_ready() and do with the batch, in this order:
 *   1. send `messages` now; answer `reads_lost` with an error at once;
 *   2. submit `append` (if present) to the log, behind all append work taken before it;
 *   3. hand `durable` and then `apply.entries` to apply, in one queue, in the order of the batches;
 *      `durable` may be all there is in a batch, and may be lower than the one before it;
 *   4. each of `read_states` is answered once applied >= its index.
 *   Nothing waits for the disk here: the next batch may be taken at once.
 * Append done.  Works finish in order, each only when everything it carried, and all work before
 * it, is durable; work without entries and without must_sync is done as soon as the work before it
 * is. Then walk `responses` in order: those with to == our id are given to raft_step(), the others
 *   sent. Their order matters: the own acknowledgement comes before the STORAGE_APPEND_RESP that
 *   moves `durable`. Nothing in `responses` may leave earlier, nor be left out.
 * Apply done.  When apply.entries are applied, in order: raft_step(&apply.response). For each conf
 *   change entry among them raft_apply_conf_change() was called before that. Apply need not be
 *   durable.
 * Release.  raft_ready_release() when append and apply work of the batch are both done and stepped,
 *   on the thread that owns the core. On shutdown release the rest, then raft_free().
 * Ticks.  raft_tick() every tick interval (the heartbeat interval), never held up by the disk.
 *   After a pause give the missed ticks one by one only up to election_ticks - 1, so that a stalled
 *   process does not depose its leader.
 *
 * Every call that may fail with ST_NO_MEMORY leaves the state as it was and may be repeated; after
 * ST_CORRUPT every call fails so: the member is to be taken out of service. */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H
#include "base/buf.h"
#include "base/rng.h"
#include "base/status.h"
#include "raft/types.h"

#include <stdbool.h>
#include <stdint.h>

struct raft;
struct raft_memory;

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* Numbers are raftpb's. */
enum raft_message_type {
    RAFT_MSG_HUP = 0,
    RAFT_MSG_BEAT,
    RAFT_MSG_PROP,
    RAFT_MSG_APP,
    RAFT_MSG_APP_RESP,
    RAFT_MSG_VOTE,
    RAFT_MSG_VOTE_RESP,
    RAFT_MSG_SNAP,
    RAFT_MSG_HEARTBEAT,
    RAFT_MSG_HEARTBEAT_RESP,
    RAFT_MSG_UNREACHABLE,
    RAFT_MSG_SNAP_STATUS,
    RAFT_MSG_CHECK_QUORUM,
    RAFT_MSG_TRANSFER_LEADER,
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSG_READ_INDEX,
    RAFT_MSG_READ_INDEX_RESP,
    RAFT_MSG_PRE_VOTE,
    RAFT_MSG_PRE_VOTE_RESP,
    RAFT_MSG_STORAGE_APPEND,
    RAFT_MSG_STORAGE_APPEND_RESP,
    RAFT_MSG_STORAGE_APPLY,
    RAFT_MSG_STORAGE_APPLY_RESP,
    RAFT_MSG_FORGET_LEADER,
};

/* A message. In a ready batch everything belongs to the batch; given to raft_step() it is borrowed
 * for the call. */
struct raft_message {
    enum raft_message_type type;
    raft_id to, from;
    raft_term term, log_term;
    raft_index index, commit;
    const struct raft_entry *entries;
    uint32_t entries_count;
    const struct raft_snapshot_meta *snapshot; /* NULL: none */
    bool reject;
    raft_index reject_hint;
    struct slice context;
};

struct raft_config {
    raft_id id;
    uint32_t election_ticks, heartbeat_ticks; /* 10 and 1 */
    uint64_t message_bytes_max;               /* of entries in one MsgApp; 1 MiB */
    uint32_t inflight_messages_max;           /* per peer; 512 */
    uint64_t inflight_bytes_max;              /* per peer; 0: none */
    uint64_t apply_bytes_max;                 /* outstanding apply work; 0: message_bytes_max */
    uint64_t uncommitted_bytes_max;           /* leader's uncommitted payload; 0: none */
    uint32_t window_entries_max; /* kept in memory below the store's mark, for followers: 5000 */
    uint64_t window_bytes_max;   /* 64 MiB; whichever is less */
    bool check_quorum, pre_vote, step_down_on_removal, apply_unstable;
    struct rng *rng;                  /* borrowed */
    const struct raft_memory *memory; /* borrowed; NULL: the system's (raft/memory.h) */
};

/* What the log and the store held at start. The entries are those above the store's mark and as
 * many below as the window wants (references are taken). */
struct raft_start {
    struct raft_hard_state hard_state;
    struct raft_conf_state conf_state; /* the store's, at applied */
    struct raft_log_id before_first;   /* the entry before entries[0]: {0,0} on an empty log */
    const struct raft_entry *entries;
    uint32_t entries_count;
    raft_index applied; /* the store's mark */
};

/* Errors: ST_CORRUPT (what was found contradicts itself), ST_INVALID (config), ST_NO_MEMORY. */
CHECKED enum status raft_new(const struct raft_config *config, const struct raft_start *start,
                             struct raft **out);
void raft_free(struct raft *raft); /* NULL is fine; batches must have been released */

/* The founding of a cluster, on an empty log and an empty conf state, before anything else: appends
 * one ConfChange AddNode entry (conf_change_encode_v1()) per founding member, index 1 on, term 1,
 * committed. They come out of the first ready like any others and are applied by
 * raft_apply_conf_change(). Every founding member must give the same bytes in the same order.
 * Errors: ST_INVALID, ST_NO_MEMORY (nothing changed). */
CHECKED enum status raft_bootstrap(struct raft *raft, struct raft_payload *const *changes,
                                   uint32_t count);

void raft_tick(struct raft *raft); /* one that finds no memory is lost, as if it came late */
/* Takes a message: of a peer, or of finished work. Errors: ST_INVALID (not what a peer sends),
 * ST_NOT_FOUND (an answer of someone who is no member: ignore it), ST_DROPPED (a forwarded
 * proposal), ST_NO_MEMORY (state unchanged), ST_CORRUPT (the log lacks or contradicts what was
 * committed: the member must be quarantined). */
CHECKED enum status raft_step(struct raft *raft, const struct raft_message *message);
/* Appends (leader) or forwards (follower) proposals as one batch, all or none; the core takes
 * references of its own. On a leader *first_out is the index of the first, else 0. Errors:
 * ST_DROPPED (no leader, quota, removed: never in the log), ST_NO_MEMORY. */
CHECKED enum status raft_propose(struct raft *raft, struct raft_payload *const *payloads,
                                 uint32_t count, raft_index *first_out);
/* A configuration change, its encoded ConfChange/ConfChangeV2 as payload (context included; NULL:
 * an empty ConfChangeV2). One that comes at the wrong time (another is not applied yet) enters the
 * log as an empty normal entry at that index. Errors: as raft_propose(), and ST_INVALID (bad
 * bytes).
 */
CHECKED enum status raft_propose_conf_change(struct raft *raft, enum raft_entry_type type,
                                             struct raft_payload *payload, raft_index *index_out);
/* Tells the core what a conf change entry decided; called once per such entry, in order, before the
 * response of its apply work is stepped. change NULL: refused by the state machine; empty bytes are
 * a change (the end of a joint configuration). *out is the conf state to store with the entry.
 * Errors: ST_CORRUPT (not the bytes of a change), ST_INVALID (an impossible change; nothing
 * changed), ST_NO_MEMORY (nothing changed). */
CHECKED enum status raft_apply_conf_change(struct raft *raft, enum raft_entry_type type,
                                           const struct slice *change, struct raft_conf_state *out);
/* A linearizable read as leader: one round for all reads that wait together is cheapest. The answer
 * comes in a ready's read_states with the same context, or in reads_lost when leadership goes
 * first. While nothing of the leader's own term is committed it waits for that. Errors: ST_DROPPED
 * (not leader), ST_NO_MEMORY. */
CHECKED enum status raft_read_index(struct raft *raft, uint64_t context);
/* Errors: ST_DROPPED (leader already, or not a voter), ST_BUSY (a committed change of the
 * configuration is not applied yet), ST_NO_MEMORY. */
CHECKED enum status raft_campaign(struct raft *raft);

/* A follower lets go of its leader without a new term, so that it can grant votes at once; no-op in
 * other roles. Errors: ST_NO_MEMORY. */
CHECKED enum status raft_forget_leader(struct raft *raft);
/* The transport lost messages to a member: the leader probes it again. */
void raft_report_unreachable(struct raft *raft, raft_id id);

struct raft_read_state {
    raft_index index;
    uint64_t context;
};

struct raft_append_work {
    bool present;
    const struct raft_entry *entries; /* truncating everything at or above entries[0].index */
    uint32_t entries_count;
    bool has_hard_state;
    struct raft_hard_state hard_state;
    const struct raft_snapshot_meta *snapshot; /* NULL: none */
    bool must_sync;
    /* When durable: those addressed to self are stepped, in order, the others sent. */
    const struct raft_message *responses;
    uint32_t responses_count;
};

struct raft_apply_work {
    const struct raft_entry *entries; /* committed, in order */
    uint32_t entries_count;
    struct raft_message response; /* stepped when they are applied */
};

struct raft_ready {
    bool has_soft_state;
    raft_id leader;
    enum raft_role role;
    const struct raft_message *messages; /* may leave at once */
    uint32_t messages_count;
    struct raft_append_work append;
    struct raft_apply_work apply;
    const struct raft_read_state *read_states;
    uint32_t read_states_count;
    /* Reads dropped because leadership was lost, to be answered at once. */
    const uint64_t *reads_lost;
    uint32_t reads_lost_count;
    struct raft_log_id durable; /* the store rule's; see step 3 above */
};

bool raft_has_ready(const struct raft *raft);
/* Errors: ST_NO_MEMORY (state unchanged). The batch is owned by the caller until
 * raft_ready_release(). */
CHECKED enum status raft_ready(struct raft *raft, struct raft_ready **out);
void raft_ready_release(struct raft_ready *ready);

/* The store's durable mark is at index: entries up to it may leave the window. Those that the
 * window may still hold (window_entries_max, window_bytes_max) stay. */
void raft_compact(struct raft *raft, raft_index index);

struct raft_status {
    raft_id id, leader;
    enum raft_role role;
    bool is_learner, is_lone_voter; /* lone: its own vote is a majority */
    struct raft_hard_state hard_state;
    raft_index applied, last_index, window_first;
    struct raft_log_id durable;
    uint64_t window_bytes, unstable_bytes;
};
void raft_get_status(const struct raft *raft, struct raft_status *out);
const struct raft_conf_state *
raft_conf_state(const struct raft *raft); /* borrowed until the next apply of a change */
/* Asserts every invariant of one member; debug and simulation builds. */
void raft_check(const struct raft *raft);
#endif
