/* server/loops/loops.h - the actors of one member and how they hang together:
 *
 *   services --requests--> consensus --work--> applier --reads--> readers
 *                             ^  ^                |  ^
 *                             |  +----applied-----+  |
 *                            log                 backend writer
 *
 * Each actor owns its state alone and is advanced by its step function, which does all that can be
 * done now without waiting and returns when it wants to be stepped again at the latest. In
 * production each has a thread that sleeps until then or until its wake function is called
 * (server/run/); in the simulator one scheduler steps them all. */
#ifndef SERVER_LOOPS_LOOPS_H
#define SERVER_LOOPS_LOOPS_H
#include "base/clock.h"
#include "base/rng.h"
#include "base/status.h"
#include "raft/raft.h"
#include "server/loops/request.h"
#include "storage/mvcc.h"
#include "storage/store.h"
#include "wal/wal.h"

#include <stdbool.h>
#include <stdint.h>

struct loops;
struct machine;
struct transport;

enum actor {
    ACTOR_CONSENSUS,
    ACTOR_APPLIER,
    ACTOR_WRITER,
    ACTOR_PREPARER,
    ACTOR_SNAPSHOTS,
    ACTOR_LEASES,
    ACTOR_READER_FIRST
};

#define LOOPS_SENDS_MAX 2U   /* snapshots being sent to members at a time */
#define LOOPS_EXPORTS_MAX 4U /* and given to clients; they share the snapshots actor's slot */
#define LOOPS_SNAPSHOT_SLOTS (LOOPS_SENDS_MAX + 1U) /* of the store's readers */

/* What is needed to receive a snapshot and to make a store of it. All borrowed; outlives the loops.
 */
struct snapshot_options {
    struct disk *disk;                 /* opens and removes what peer_message names */
    const struct store_options *store; /* as the store was opened, but for the path */
    const struct mvcc_options *mvcc;   /* likewise */
    /* Where the store of this index goes: <data-dir>/member/store/<index>.<suffix>. */
    void (*store_path)(void *context, raft_index index, char *out, size_t out_bytes);
    /* Where a compact copy of the store goes that ends at this index: no file is there, and
     * store_path() gives another. */
    void (*copy_path)(void *context, raft_index index, char *out, size_t out_bytes);
    /* The store at path, whole and durable, takes the place of the one before at once: the next
     * start opens it. Writer actor; may wait for the disk. */
    enum status (*store_chosen)(void *context, const char *path);
    /* One could not be made into a store; the sender sends again. Snapshots actor. */
    void (*failed)(void *context, raft_index index, enum status st, const char *why);
};

struct loops_options {
    const struct clock *clock; /* everything here is borrowed and outlives the loops */
    struct raft *raft;
    struct wal *wal;
    struct store *store;
    struct mvcc *mvcc;
    struct machine *machine;
    struct transport *transport; /* NULL: a member alone, in production never */
    raft_index applied;          /* the store's mark */
    raft_id member_id;
    uint64_t id_start; /* random in each life: request ids and reads' contexts count up from here,
                          so that an answer to an earlier life fits no question of this */
    uint64_t tick_ns;  /* heartbeat interval */
    uint32_t readers_count;       /* reader actors: loops_read_long(), loops_read_whole() */
    uint32_t reader_slot_first;   /* store slot of reader actor 0; smaller ones are the pollers' */
    uint32_t snapshot_slot_first; /* LOOPS_SNAPSHOT_SLOTS store slots */
    struct snapshot_options snapshots;
    uint32_t election_ticks;
    /* How often the others are told what is left of long leases; 0: never. */
    uint64_t lease_checkpoint_ns;
    uint64_t slow_apply_ns; /* an entry that takes longer counts as slow; 0: none does */
    bool waves;             /* hold waves on a slow disk; false only for measurements */
    /* Wakes the thread of an actor; any thread. NULL in the simulator. */
    void (*wake)(void *context, uint32_t actor);
    /* Something is broken for good: the member must stop and must not acknowledge anything more.
     * Any actor. In production it does not return. */
    void (*fatal)(void *context, enum status st, const char *what);
    /* This member is no longer in the cluster: it should stop in order. Once; consensus actor. */
    void (*removed)(void *context);
    /* Consensus found that what this member promised is gone: it takes no part any more, answers
     * every call with an error and stays up to tell why. Once; consensus actor. */
    void (*quarantined)(void *context, const char *why);
    void *context;
};

/* transport: what it was given to send must be closed before loops_free(). */
CHECKED enum status loops_new(const struct loops_options *options, struct loops **out);
void loops_free(
    struct loops *loops); /* threads have ended; requests still held are answered; NULL is fine */

/* Does what can be done now; returns the monotonic time to be stepped again at the latest. */
uint64_t loops_step(struct loops *loops, uint32_t actor, uint64_t now_ns);

/* New requests are answered with "server stopped"; those in the log are still completed. Any
 * thread. */
void loops_stop_requests(struct loops *loops);
/* True when nothing is waiting any more: no proposal, no read, everything committed is applied. Any
 * thread. */
bool loops_is_idle(const struct loops *loops);
/* True while the log waits for space on its disk, and with it every write. Any thread. */
bool loops_log_is_full(const struct loops *loops);
/* How long the log's write in flight has been waiting for its disk; 0: there is none. Any thread.
 */
uint64_t loops_log_waits_ns(const struct loops *loops, uint64_t now_ns);
/* While the disk is short of room the store commits at once what it has, and the log keeps nothing
 * that only followers might ask for. Any thread. */
void loops_set_room_short(struct loops *loops, bool is_short);
/* Asks the consensus actor, which the log belongs to, to write what is staged and the closing
 * batch; after it the actor does nothing more. The preparer must have been stepped for the last
 * time. Any thread. */
void loops_finish_log(struct loops *loops);
/* True when that is done, with how it went. */
bool loops_log_is_finished(const struct loops *loops, enum status *out);
/* Seals the active generation at the next entry boundary so that a stopping member leaves little to
 * replay. */
void loops_seal(struct loops *loops);
#endif
