/* tests/raft/member.h - a member without machinery: the core, a log on a pretended disk, a state
 * machine that notes what was applied, and the two queues of work between them. The test says when
 * work completes. */
#ifndef TESTS_RAFT_MEMBER_H
#define TESTS_RAFT_MEMBER_H
#include "base/rng.h"
#include "raft/conf_change.h"
#include "raft/memory.h"
#include "raft/raft.h"

#define MEMBER_WORKS_MAX 256U
#define MEMBER_ENTRIES_MAX 20000U
#define MEMBER_READS_MAX 4096U
#define MEMBER_OUTBOX_MAX 64U

struct work_queue {
    struct raft_ready *items[MEMBER_WORKS_MAX];
    uint32_t head, count;
};

struct member {
    struct raft *raft;
    struct raft_config config;
    struct rng rng;

    /* The disk: what a crash leaves. entries[i] has index i + 1; references are held. */
    struct raft_entry disk[MEMBER_ENTRIES_MAX];
    raft_index disk_last;
    struct raft_hard_state disk_hard_state;

    /* The store on disk: never ahead of the log on disk. */
    raft_index store_applied;
    struct raft_conf_state store_conf_state;

    /* The state machine in memory. */
    raft_index applied;
    struct raft_log_id applied_ids[MEMBER_ENTRIES_MAX]; /* by index */
    struct raft_conf_state conf_state;
    struct raft_log_id durable; /* as apply was told */

    struct work_queue appends, applies;
    struct {
        struct raft_ready *ready;
        uint32_t works;
    } held[MEMBER_WORKS_MAX];
    uint32_t held_count;

    /* Everything a ready said, for the test to look at. */
    struct raft_read_state reads[MEMBER_READS_MAX];
    uint32_t reads_count;
    uint64_t reads_lost[MEMBER_READS_MAX];
    uint32_t reads_lost_count;
    uint32_t must_sync_count, append_count, sent_count;
    struct raft_message last_sent; /* its pointers are not valid */
    bool handed_over;              /* as the last ready that was taken said */
    /* What was sent and asked for since the test last set the counts to 0; pointers are not valid.
     */
    struct raft_message outbox[MEMBER_OUTBOX_MAX];
    uint32_t outbox_count;
    struct raft_fetch fetches[MEMBER_OUTBOX_MAX];
    uint32_t fetches_count;
};

struct raft_config member_config(raft_id id);
struct member *member_new(const struct raft_config *config, uint64_t seed);
void member_free(struct member *member);
/* Starts the core on what the disk holds. */
enum status member_start(struct member *member);
/* The process dies: queued work is lost, the disk stays. */
void member_crash(struct member *member);
/* The same, but the oldest works had reached the disk when it died. */
void member_crash_after(struct member *member, uint32_t works);
/* Starts with a bootstrap entry that makes ids the voters. */
void member_found(struct member *member, const raft_id *ids, uint32_t count);

bool member_take_ready(struct member *member); /* false: there was none */
bool member_finish_append(struct member *member);
bool member_finish_apply(struct member *member);
void member_settle(struct member *member); /* all of it, until nothing is left */
void member_lead(struct member *member);   /* a lone voter becomes leader */
/* The store commits what the store rule allows. */
void member_commit_store(struct member *member);

/* Asserts that `durable` is on the disk and that no write under way will change it there. */
void member_check_durable(const struct member *member);

/* The newest message of the type to the member in the outbox; NULL: none. */
const struct raft_message *member_sent(const struct member *member, enum raft_message_type type,
                                       raft_id to);
enum status member_propose(struct member *member, const char *text, raft_index *index_out);
struct raft_status member_status(const struct member *member);
#endif
