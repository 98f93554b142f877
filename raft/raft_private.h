/* raft/raft_private.h - one member's consensus, shared by the files of this folder. */
#ifndef RAFT_RAFT_PRIVATE_H
#define RAFT_RAFT_PRIVATE_H
#include "raft/batch.h"
#include "raft/conf_change.h"
#include "raft/log.h"
#include "raft/raft.h"
#include "raft/read_only.h"
#include "raft/tracker.h"

enum campaign { CAMPAIGN_TIMEOUT, CAMPAIGN_TRANSFER };

/* In the context of a vote request: the leader itself asked for this election. */
#define CAMPAIGN_TRANSFER_MARK "CampaignTransfer"

struct raft {
    struct raft_config config;
    const struct raft_memory *memory; /* borrowed */
    raft_id id;

    raft_term term; /* with vote and log.committed: the hard state */
    raft_id vote;
    struct raft_log log;

    enum raft_role role;
    raft_id leader; /* 0: none known */
    bool is_learner;
    enum raft_quarantine quarantine;              /* once set it stays, and every call fails */
    uint32_t election_elapsed, heartbeat_elapsed; /* ticks */
    uint32_t election_timeout;                    /* randomised at each reset */
    uint32_t append_elapsed; /* ticks since an append completed, while one is under way */
    struct raft_conf_state snapshot_conf_state; /* of the snapshot being installed, see log */

    struct tracker tracker;
    struct raft_conf_state conf_state; /* the tracker's, for the caller */

    /* Leader only. */
    raft_index pending_conf_index; /* no other conf change before this one is applied */
    uint64_t uncommitted_bytes;    /* of payloads; may count too little, never too much */
    struct read_only reads;
    raft_id transferee;      /* leadership is being handed to it; 0: to nobody */
    uint32_t stalled_ticks;  /* how long the hand-over of a stalled leader has been due */
    bool has_fetches_wanted; /* some progress wants something read */
    bool handed_over;        /* leadership went as planned, since the last ready */

    struct batch *building; /* what the next ready will hold; NULL until something needs it */
    struct batch_pool batches;
    /* As of the last ready. */
    struct raft_hard_state seen_hard_state;
    enum raft_role seen_role;
    raft_id seen_leader;
    struct raft_log_id seen_durable;
};

/* ---- raft.c: roles ---- */

void become_follower(struct raft *r, raft_term term, raft_id leader);
void become_pre_candidate(struct raft *r);
void become_candidate(struct raft *r);
void become_leader(struct raft *r); /* an entry's room must be reserved */
bool raft_is_promotable(const struct raft *r);
static inline bool raft_is_lone(const struct raft *r)
{
    return tracker_is_lone(&r->tracker, r->id);
}
struct raft_hard_state raft_hard_state_of(const struct raft *r);

/* What one call may add: entries to the log and, for each member, messages. Called first by every
 * input, so that nothing fails half-way. Errors: ST_NO_MEMORY (nothing changed), ST_CORRUPT
 * (quarantined). */
CHECKED enum status raft_reserve(struct raft *r, uint64_t entries_count, uint32_t terms_count);
/* Queues a message for now or for after persistence, by its type; from and term are filled in. One
 * that finds no memory is lost, as on a network. */
void raft_send(struct raft *r, struct raft_message message);
/* This member is out for good. */
CHECKED enum status raft_put_in_quarantine(struct raft *r, enum raft_quarantine why);
/* Builds the configuration of a conf state on an empty tracker. False: there is no such thing. */
CHECKED bool raft_restore_tracker(struct tracker *tracker, const struct raft_conf_state *conf_state,
                                  raft_index last_index);
/* Takes a working copy of the tracker into use. */
void raft_replace_tracker(struct raft *r, struct tracker *changed);

/* ---- election.c ---- */

/* Starts an election if this member may. ST_DROPPED: it leads, or is not promotable; ST_BUSY: a
 * committed change of the configuration is not applied yet. Room must be reserved. */
CHECKED enum status raft_hup(struct raft *r, enum campaign kind);
void raft_trace_vote_request(struct raft *r, const struct raft_message *m, const char *what,
                             const char *preposition);
void raft_handle_vote_request(struct raft *r, const struct raft_message *m);
void raft_handle_vote_response(struct raft *r, const struct raft_message *m);

/* ---- replication.c: the leader's side, and the follower's ---- */

/* Appends one entry of the current term as leader. Room must be reserved, the quota asked. */
void raft_append_own(struct raft *r, enum raft_entry_type type, struct raft_payload *payload);
/* After raft_append_own(): the own acknowledgement, to be stepped when durable, and the appends. */
void raft_finish_append(struct raft *r);
bool raft_maybe_commit(struct raft *r); /* true: the commit index rose */
void raft_broadcast_append(struct raft *r);
/* Sends what the member lacks; false: nothing was sent. */
bool raft_send_append(struct raft *r, struct progress *to, bool allow_empty);
/* The second half of sending: the copied entries of the message leave, and progress is noted. */
CHECKED enum status raft_copy_entries(struct raft *r, const struct raft_entry *entries,
                                      uint32_t count, struct raft_message *message,
                                      uint64_t *bytes_out);
void raft_sent_append(struct raft *r, struct progress *to, struct raft_message message,
                      uint64_t bytes);
void raft_broadcast_heartbeat(struct raft *r);
void raft_handle_append_response(struct raft *r, const struct raft_message *m);
void raft_handle_heartbeat_response(struct raft *r, const struct raft_message *m);
/* Errors: ST_INVALID (entries that are not consecutive), ST_CORRUPT (regressed). */
CHECKED enum status raft_handle_append(struct raft *r, const struct raft_message *m);
CHECKED enum status raft_handle_heartbeat(struct raft *r, const struct raft_message *m);

/* ---- snapshot.c: what is not in memory, on both sides ---- */

/* The member needs entries below the window: asks for them. */
void raft_want_fetch(struct raft *r, struct progress *to);
void raft_fill_fetches(struct raft *r, struct batch *batch);
/* Errors: ST_INVALID (no snapshot a leader sends). */
CHECKED enum status raft_handle_snapshot(struct raft *r, const struct raft_message *m);
void raft_snapshot_installed(struct raft *r, raft_index index);

/* ---- transfer.c ---- */

CHECKED enum status raft_handle_transfer(struct raft *r, const struct raft_message *m);
void raft_handle_timeout_now(struct raft *r, const struct raft_message *m);
/* The member acknowledged something: the hand-over may go on. */
void raft_transfer_caught_up(struct raft *r, const struct progress *from);
/* The disk answers too late or too little of what it was given, and there is another to take over.
 */
bool raft_is_stalled(const struct raft *r);
void raft_tick_stalled(struct raft *r); /* leader only */
void raft_tick_removed(struct raft *r); /* leader only: hands over if it is no voter any more */

/* ---- trace.c ---- */

void raft_trace(struct raft *r, enum raft_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Printed forms, NUL-terminated; cut when there is no room. */
const char *raft_print_configuration(const struct tracker *tracker, char *out, size_t capacity);
const char *raft_print_progress(const struct raft *r, const struct progress *p, char *out,
                                size_t capacity);
const char *raft_print_change(const struct conf_change *change, char *out, size_t capacity);
const char *raft_message_name(enum raft_message_type type);

/* ---- propose.c ---- */

CHECKED enum status raft_handle_proposal(struct raft *r, const struct raft_message *m);
/* Moves applied; a joint configuration that leaves by itself does so here. */
void raft_applied_to(struct raft *r, raft_index index, uint64_t bytes);

/* ---- reads.c ---- */

/* A follower's read, or the leader's answer to ours. Errors: ST_INVALID, ST_DROPPED, ST_NO_MEMORY.
 */
CHECKED enum status raft_handle_read(struct raft *r, const struct raft_message *m);
CHECKED enum status raft_handle_read_answer(struct raft *r, const struct raft_message *m);
/* The first commit of the term opens the queue; every later call is a no-op. */
void raft_reads_open(struct raft *r);
void raft_reads_drop(struct raft *r); /* leadership is lost */
/* This member confirms the leader up to position; answers what a majority has confirmed. */
void raft_reads_confirm(struct raft *r, struct progress *by, uint64_t position);
#endif
