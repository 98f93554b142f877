/* server/loops/request.h - what a service hands to the consensus actor: a write or a change of the
 * configuration to be agreed on, a read that waits for its moment, a hand-over of leadership. All
 * live in their call's arena and are the actors' until their callback is called. */
#ifndef SERVER_LOOPS_REQUEST_H
#define SERVER_LOOPS_REQUEST_H
#include "base/inbox.h"
#include "base/list.h"
#include "base/slice.h"
#include "raft/types.h"
#include "server/state/error.h"

#include <stdint.h>

struct loops; /* the running actors; server/loops/loops.h */
struct rpc_call;

enum request_kind {
    REQUEST_PROPOSAL,
    REQUEST_READ,
    REQUEST_CONF_CHANGE,
    REQUEST_TRANSFER,
    REQUEST_PROGRESS,
};

/* When what happened to it, monotonic, as the actors' steps began; 0: it did not, or not here. For
 * whoever asks where the time went, once it is done. */
struct request_times {
    uint64_t taken_ns;     /* left the queue: proposed, forwarded, or asked for */
    uint64_t logged_ns;    /* a write: durable in this member's own log before it was committed */
    uint64_t committed_ns; /* or, of a read, confirmed */
    uint64_t full_ns;      /* how long apply stood still meanwhile, since the store was full */
    uint64_t began_ns, ended_ns; /* being applied, or read */
    raft_id committed_by;        /* whose acknowledgement made the majority; or the leader's */
    raft_id slowest;           /* the voter that had the least of the log then; 0: none lacked it */
    raft_index slowest_behind; /* by so many entries */
};

struct request {
    struct inbox_node node;
    enum request_kind kind;
    uint64_t deadline_ns; /* monotonic: the server's own limit (5 s + 2 election timeouts) */
    struct rpc_call *call;
    /* The actors' own from here on. */
    struct list_node waiting; /* in the queue, among the proposed or the forwarded, in a round */
    raft_index index;  /* a proposal's place in our log, 0: not known; a read's to be applied */
    raft_term term;    /* of that place */
    uint64_t until_ns; /* a forwarded one: not waited for beyond, the leader changed */
    struct request_times times;
};

/* A write. done is called exactly once, on the apply or the consensus actor, and must not block
 * (finish the call with rpc_finish_later). error API_OK: response holds the encoded answer, in
 * call->arena. */
struct proposal {
    struct request request;
    struct raft_payload *payload; /* encoded InternalRaftRequest; the reference is taken */
    uint64_t id;                  /* header.ID in the payload */
    bool urgent; /* an operator's or the member's own: neither refused nor kept waiting because of
                    all the data that is written */
    /* Proposed only while this member leads in this term, never forwarded; else it is answered with
     * API_NOT_PRIMARY_LESSOR. 0: whoever leads. */
    raft_term only_term;
    void (*done)(struct proposal *proposal, enum api_error error, struct slice response);
    bool answer_now; /* set for done: so few answers come together that handing them to the
                        responder  would cost more than sending them here */
    struct proposal *same_bucket; /* consensus': forwarded ones are found by id */
    enum api_error held_error;    /* the applier's: an answer that waits for a compaction's end */
    struct slice held_response;
};

/* A linearizable read. ready is called exactly once: with API_OK on a reader thread (slot in
 * reader), where it may read the store and must finish the call; or with an error on the consensus
 * actor. */
struct read_request;
typedef void (*read_ready_fn)(struct read_request *read, enum api_error error, uint32_t reader);
struct read_request {
    struct request request;
    read_ready_fn ready;
};

/* A change of the configuration, from any member: a follower's goes to the leader like any
 * proposal. done is called exactly once, as a proposal's: with API_OK when the change is applied
 * (the member table shows it), with what apply refused it for, or with what became of a proposal
 * that never was applied. The entry is recognised by the ConfChange.ID in it
 * (machine_result.request_id of machine_check_conf_change(), which is id here), never by its index
 * alone: a change that comes while another one is not applied yet enters the log as an empty normal
 * entry, and then done gets API_TIMEOUT at the deadline, as in etcd, or earlier if that is seen to
 * have happened. */
struct conf_proposal {
    struct request request;
    struct raft_payload *payload; /* encoded ConfChange (a RAFT_ENTRY_CONF_CHANGE entry); the
                                     reference is taken */
    uint64_t id;                  /* ConfChange.ID in the payload, from loops_next_id() */
    void (*done)(struct conf_proposal *proposal, enum api_error error);
};

/* Hands leadership to target, a voter (the caller has looked), or with 0 to the one that lacks
 * least (API_BAD_LEADER_TRANSFEREE: there is none). done is called exactly once, on the
 * consensus actor: API_OK when target is the leader (at once if it is already), API_NOT_LEADER when
 * this member does not lead, API_TIMEOUT_LEADER_TRANSFER at the deadline. */
struct transfer_request {
    struct request request;
    raft_id target;
    void (*done)(struct transfer_request *transfer, enum api_error error);
};

/* Asks how far the leader has brought a member (raft_get_progress()): whether a learner may become
 * a voter. done is called exactly once, on the consensus actor: API_OK with the match indexes of
 * the member and of the leader itself, API_NOT_LEADER when this member does not lead,
 * API_MEMBER_NOT_FOUND. */
struct progress_request {
    struct request request;
    raft_id id;
    void (*done)(struct progress_request *progress, enum api_error error, raft_index match,
                 raft_index leader_match);
};

/* A compact copy of this member's store takes its place, which gives free pages back to the disk.
 * One at a time: the others wait for their turn. Needs no leader, and goes on when its caller has
 * gone. done is called exactly once, on the backend writer: API_OK also when there was nothing to
 * gain, API_NO_ROOM_FOR_COPY, API_STOPPED, and what went wrong with the copy. */
struct defragment_request {
    struct inbox_node node;
    void (*done)(struct defragment_request *request, enum api_error error);
    /* The actors'. */
    struct list_node waiting;
};

/* Hands a request over; any thread. With the inbox at its limit the callback is called at once with
 * API_TOO_MANY_REQUESTS. kind and call are the caller's to set. */
void loops_propose(struct loops *loops, struct proposal *proposal);
void loops_propose_conf_change(struct loops *loops, struct conf_proposal *proposal);
void loops_transfer_leadership(struct loops *loops, struct transfer_request *transfer);
void loops_get_progress(struct loops *loops, struct progress_request *progress);
void loops_defragment(struct loops *loops, struct defragment_request *request);
void loops_read(struct loops *loops, struct read_request *read);
/* Runs ready on a reader thread without any consensus: serializable reads that are more than a
 * poller's work. */
void loops_read_local(struct loops *loops, struct read_request *read);
/* Likewise on the one reader that is there for what takes long, so that short reads never wait for
 * it; one after another. Also for a request whose ready was called by another reader. */
void loops_read_long(struct loops *loops, struct read_request *read);
/* Likewise on the one that is there for what goes through the whole store, such as a hash. */
void loops_read_whole(struct loops *loops, struct read_request *read);
/* Is it the slot of the reader for long reads? With one reader alone, all reads are its. */
bool loops_is_for_long_reads(const struct loops *loops, uint32_t reader);

/* A number for a proposal's header.ID: 16 bits of member id and 48 counting up from a random start.
 * Any thread. */
uint64_t loops_next_id(struct loops *loops);

/* What a status answer shows; a consistent enough copy, any thread, no lock. */
struct loops_status {
    raft_id leader;
    raft_term term;
    raft_index commit, applied;
    bool is_leaderless; /* for an election timeout; before that another is likely to come */
    bool is_leader, is_learner;
    bool is_quarantined; /* takes no part any more: what it promised is gone */
    bool ready;          /* this member's own publish entry is applied: client calls are served */
};
void loops_get_status(const struct loops *loops, struct loops_status *out);
#endif
