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
 *   1. send `messages` now; answer `reads_lost` with an error at once; start what `fetches` ask
 * for;
 *   2. submit `append` (if present) to the log, behind all append work taken before it. With a
 *      `snapshot` it is an installation: see below;
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
 * Catching up.  A peer that needs entries below the window waits, paused, for an answer to its
 * fetch: raft_entries_read() with entries read from the log on disk, or none: then a fetch of a
 * snapshot follows, answered by raft_snapshot_offer(). A MsgSnap is sent together with the bytes of
 * the snapshot that was offered, and ends in one raft_report_snapshot(). Answers may be late or
 * come twice: one that no longer fits is ignored. A leader that is deposed forgets its fetches.
 * Installing.  A received MsgSnap goes to raft_step() once the bytes are whole and durable here;
 *   then raft_ready() is taken. If its append.snapshot is not this one, it was not wanted: drop the
 *   bytes. Else: write its record to the log, which drops the entries there, and sync, whatever
 *   must_sync says; let apply finish what it was given before and switch the state machine to the
 *   snapshot; then the work is done. No apply work comes meanwhile, and `durable` is {0, 0}.
 * Release.  raft_ready_release() when append and apply work of the batch are both done and stepped,
 *   on the thread that owns the core. On shutdown release the rest, then raft_free().
 * Ticks.  raft_tick() every tick interval (the heartbeat interval), never held up by the disk.
 *   After a pause give the missed ticks one by one only up to election_ticks - 1, so that a stalled
 *   process does not depose its leader.
 *
 * A stalled disk.  From stall_ticks_max ticks without a completed append, or stall_bytes_max bytes
 *   not durable, a leader hands over to a voter that has all that is committed, and when none takes
 *   it within an election timeout it steps down; it does not campaign again until an append
 *   completes. Everything else goes on: a stall alone delays nobody. A lone voter has nobody to
 * hand over to and stays.
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

/* What a member does is told as text, in etcd's words; for the log of the server only. The hook
 * must not call the core. */
enum raft_log_level {
    RAFT_LOG_DEBUG,
    RAFT_LOG_ROUTINE, /* etcd says it as INFO, but with asynchronous writes it happens all day */
    RAFT_LOG_INFO,
    RAFT_LOG_WARN,
    RAFT_LOG_ERROR
};
typedef void (*raft_log_hook)(void *context, enum raft_log_level level, const char *text);

struct raft_config {
    raft_id id;
    uint32_t election_ticks, heartbeat_ticks; /* 10 and 1 */
    uint64_t message_bytes_max;               /* of entries in one MsgApp; 1 MiB */
    uint32_t inflight_messages_max;           /* per peer; 512 */
    uint64_t inflight_bytes_max;              /* per peer; 0: none */
    uint64_t apply_bytes_max;                 /* outstanding apply work; 0: message_bytes_max */
    uint64_t uncommitted_bytes_max;           /* leader's uncommitted payload; 0: none */
    uint32_t window_entries_max;   /* kept in memory below the store's mark, for followers: 5000 */
    uint64_t window_bytes_max;     /* 64 MiB; whichever is less */
    uint32_t stall_ticks_max;      /* max(5 election timeouts, 5 s); 0: no stall rule */
    uint64_t stall_bytes_max;      /* 32 MiB; 0: no limit */
    uint64_t follower_bytes_max;   /* not durable; above it appends are dropped; 64 MiB; 0: none */
    uint32_t election_delay_ticks; /* added to the timeout of a member that should rarely lead */
    bool check_quorum, pre_vote, apply_unstable;
    /* A leader that applies its own removal hands over to a voter, and leads on until one takes it:
     * those that stay may not know of the removal yet and need its vote, which it gives to a log as
     * long as its own. step_down_at_once: etcd's way, without handing over. */
    bool step_down_on_removal, step_down_at_once;
    bool lease_reads; /* trust clocks instead of asking a majority; needs check_quorum */
    bool no_proposal_forwarding, no_conf_change_validation;
    raft_log_hook log; /* NULL: silent */
    void *log_context;
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
 * proposal or read), ST_NO_MEMORY (state unchanged), ST_CORRUPT (this member is quarantined, see
 * raft_status). */
CHECKED enum status raft_step(struct raft *raft, const struct raft_message *message);
/* Appends (leader) or forwards (follower) proposals as one batch, all or none; the core takes
 * references of its own. On a leader *first_out is the index of the first, else 0. Errors, none of
 * which left anything in the log: ST_DROPPED (no leader known, or removed), ST_BUSY (leadership is
 * being handed over), ST_TOO_BIG (uncommitted_bytes_max), ST_NO_MEMORY. */
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
/* A linearizable read: one round for all reads that wait together is cheapest. The answer comes in
 * a ready's read_states with the same context. On a leader it comes in reads_lost when leadership
 * goes first; while nothing of its own term is committed it waits for that. A follower asks the
 * leader, and the answer may never come: begin again, with another context, when the leader changes
 * or after a while. Errors: ST_DROPPED (no leader known, or too many wait), ST_NO_MEMORY. */
CHECKED enum status raft_read_index(struct raft *raft, uint64_t context);
/* Errors: ST_DROPPED (leader already, not a voter, or a snapshot is being installed), ST_BUSY (a
 * committed change of the configuration is not applied yet, or the disk is stalled), ST_NO_MEMORY.
 */
CHECKED enum status raft_campaign(struct raft *raft);

/* Hands leadership to a voter: it is brought up to date, then told to campaign at once. Proposals
 * give ST_BUSY meanwhile; raft_status.transferee falls to 0 and the leader stays if that takes an
 * election timeout. A follower asks its leader to do it. Errors: ST_NOT_FOUND (no voter),
 * ST_INVALID (to itself), ST_DROPPED (no leader known), ST_NO_MEMORY. */
CHECKED enum status raft_transfer_leader(struct raft *raft, raft_id to);
/* A follower lets go of its leader without a new term, so that it can grant votes at once; no-op in
 * other roles. Errors: ST_INVALID (lease_reads: the leader counts on it), ST_NO_MEMORY. */
CHECKED enum status raft_forget_leader(struct raft *raft);
/* The transport lost messages to a member: the leader probes it again. */
void raft_report_unreachable(struct raft *raft, raft_id id);
/* The process of a member has surely ended: its host says that nobody listens there. A follower of
 * it lets go of it, so that it can grant votes at once, and campaigns within half an election
 * timeout instead of one to two. Where that is wrong the next heartbeat mends it: others who hear
 * the leader refuse the pre-vote. No-op in all other cases, with lease_reads, and without memory.
 */
void raft_report_gone(struct raft *raft, raft_id id);
/* The MsgSnap to a member was delivered with its bytes, or was not. */
void raft_report_snapshot(struct raft *raft, raft_id id, bool delivered);

/* ---- what a member lacks that is not in memory ---- */

enum raft_fetch_kind { RAFT_FETCH_ENTRIES, RAFT_FETCH_SNAPSHOT };

/* For the member `peer`: entries from `first` on of at most bytes_max together (one at least), and
 * the term of the entry before; or a snapshot of the state, no older than now. */
struct raft_fetch {
    raft_id peer;
    enum raft_fetch_kind kind;
    raft_index first;
    uint64_t bytes_max;
};

/* Entries of this member's log right after `before`, borrowed for the call. None: they are gone, or
 * so many that a snapshot is shorter; a fetch of a snapshot follows. Errors: ST_INVALID (not
 * consecutive; as if none), ST_NO_MEMORY (state unchanged). */
CHECKED enum status raft_entries_read(struct raft *raft, raft_id peer, struct raft_log_id before,
                                      const struct raft_entry *entries, uint32_t count);
/* A snapshot of the applied state, borrowed for the call: a MsgSnap with it is in the next ready
 * (unless the answer is late: look there). NULL: there is none now, the fetch comes again. Errors:
 * ST_INVALID (it is empty, not committed, or does not know the peer as a member: as NULL),
 * ST_NO_MEMORY (state unchanged). */
CHECKED enum status raft_snapshot_offer(struct raft *raft, raft_id peer,
                                        const struct raft_snapshot_meta *snapshot);

/* ---- effects out ---- */

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
    const struct raft_snapshot_meta *snapshot; /* to install; then there are no entries */
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
    /* Leadership was lost to the member it was handed to: that one has the whole log, so what was
     * proposed here completes. In any other loss its fate is open. */
    bool handed_over;
    const struct raft_message *messages; /* may leave at once */
    uint32_t messages_count;
    struct raft_append_work append;
    struct raft_apply_work apply;
    const struct raft_read_state *read_states;
    uint32_t read_states_count;
    /* Reads dropped because leadership was lost, to be answered at once. */
    const uint64_t *reads_lost;
    uint32_t reads_lost_count;
    const struct raft_fetch *fetches;
    uint32_t fetches_count;
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

/* Why a member must neither vote nor acknowledge again, ever: what it promised is gone. */
enum raft_quarantine {
    RAFT_QUARANTINE_NONE,
    RAFT_QUARANTINE_LOG_LOST,        /* a leader knows entries as held here that are not */
    RAFT_QUARANTINE_BAD_CONF_CHANGE, /* a committed change of the configuration is unreadable */
};
const char *raft_quarantine_text(enum raft_quarantine quarantine); /* static */

struct raft_status {
    raft_id id, leader;
    raft_id transferee; /* leadership is being handed to it; 0: no */
    enum raft_role role;
    bool is_learner, is_lone_voter; /* lone: its own vote is a majority */
    bool is_promotable;             /* may campaign; false also while a snapshot is installed */
    bool is_installing;             /* a snapshot */
    bool is_stalled;                /* the disk, by the rule above */
    uint32_t append_ticks;          /* since an append completed, while one is under way */
    enum raft_quarantine quarantine;
    struct raft_hard_state hard_state;
    raft_index applied, last_index, window_first;
    struct raft_log_id durable;
    uint64_t window_bytes, unstable_bytes;
};
void raft_get_status(const struct raft *raft, struct raft_status *out);

enum raft_progress_state { RAFT_PROGRESS_PROBE, RAFT_PROGRESS_REPLICATE, RAFT_PROGRESS_SNAPSHOT };

/* The leader's view of a member. A learner is ready to be promoted when its match is near the
 * leader's own. */
struct raft_progress {
    raft_id id;
    raft_index match, next;
    enum raft_progress_state state;
    raft_index pending_snapshot; /* sent and not acknowledged; 0: none */
    bool is_learner, recent_active, is_paused;
    uint32_t inflight_count; /* messages not acknowledged */
};
/* Errors: ST_NOT_FOUND (not a member), ST_DROPPED (not the leader). */
CHECKED enum status raft_get_progress(const struct raft *raft, raft_id id,
                                      struct raft_progress *out);
const struct raft_conf_state *
raft_conf_state(const struct raft *raft); /* borrowed until the next apply of a change */
/* Asserts every invariant of one member; debug and simulation builds. */
void raft_check(const struct raft *raft);
#endif
