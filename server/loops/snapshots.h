/* server/loops/snapshots.h - what members need beyond the log in memory: entries read back from the
 * disk, snapshots sent and received. Consensus asks, the snapshots actor works in small steps, the
 * answers come back into consensus' inbox.
 *
 * A snapshot sent:     fetch -> pin (apply) -> measured (snapshots) -> offered to the core ->
 *                      MsgSnap -> read by the transport's thread, which closes it.
 * A snapshot received: file -> store and index beside the ones in use (snapshots) -> the core takes
 *                      the MsgSnap -> its record is durable in the log -> apply waits, the writer
 *                      switches, apply reads the state machine again -> the answer leaves. */
#ifndef SERVER_LOOPS_SNAPSHOTS_H
#define SERVER_LOOPS_SNAPSHOTS_H
#include "server/loops/export.h"
#include "server/loops/loops_private.h"
#include "server/state/limits.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/loader.h"
#include "storage/dbfile/pin_source.h"
#include "storage/dbfile/writer.h"

#include <limits.h>

enum job_kind { JOB_ENTRIES, JOB_SEND, JOB_EXPORT, JOB_INSTALL, JOB_DISCARD };

struct job {
    struct inbox_node node;
    struct list_node turn;
    enum job_kind kind;
    enum status status; /* how it ended */
};

struct entries_fetch {
    struct job job;
    raft_id peer;
    raft_index first, last;
    uint64_t bytes_max;
    uint32_t count;
    struct raft_entry entries[FETCH_ENTRIES_MAX + 1];
};

/* A pinned moment as a db file that is made while it is read. */
struct pinned_file {
    struct loops *loops;
    struct store_pin *pin;
    int64_t revision; /* when it was pinned */
    struct dbfile_pin_source records;
    struct dbfile_writer *writer;
    struct slice pending; /* of the writer's last bytes, not given yet */
};

struct snapshot_send {
    struct snapshot_source source; /* what the transport sees */
    struct job job;
    struct loops *loops;
    raft_id peer;
    uint32_t slot;
    struct pinned_file file;
    struct raft_snapshot_meta meta;
    struct buf members; /* what an etcd takes its member list from: v2_store.h */
};

/* How far a hash has come. */
struct export_hash {
    enum bucket bucket;
    bool named;             /* the bucket's name is in it */
    struct buf after, last; /* keys of the last record, before this step and now */
    uint32_t crc;
};

/* The actors' side of an export, which ends with it or, when that is canceled before it was
 * pinned, after it. */
struct export_work {
    struct job job;
    struct loops *loops;
    struct list_node node;         /* in the snapshots actor's exports, once it is pinned */
    struct export_request *export; /* NULL: nobody waits any more */
    struct pinned_file file;
    uint64_t deadline_ns;
    bool measured;
    bool waiting; /* for the next part to be asked for */
    bool resting; /* so that clients feel little of it, until due_ns */
    uint64_t due_ns;
    uint64_t next_ns; /* when the limit on its speed lets the next part go */
    struct export_hash hash;
};

enum install_state {
    INSTALL_LOADED, /* from LOGGED on the log may name the new store: it stays whatever happens */
    INSTALL_LOGGED,
    INSTALL_SWITCHING,
    INSTALL_ADOPTED,
    INSTALL_DONE,
};

struct install {
    struct job job;
    struct inbox_node node; /* in the applier's inbox */
    struct loops *loops;
    struct peer_message *message; /* owned */
    struct raft_snapshot_meta meta;
    char path[PATH_MAX]; /* of the store that it becomes */
    struct buf conf_state, why;
    struct store_mark expected;
    struct disk_file *file;
    struct dbfile_loader *loader;
    struct store *store;
    struct mvcc *mvcc;
    atomic_int state; /* enum install_state; consensus, apply, writer, apply: each hands it on */
};

/* ---- pinned_file.c ---- */
/* Apply, between two entries; reader is the slot of the thread that will read it. Must be freed
 * also after an error. */
CHECKED enum status pinned_file_take(struct pinned_file *file, struct loops *loops,
                                     uint32_t reader);
void pinned_file_free(struct pinned_file *file);
/* Up to bytes_max next bytes, borrowed until the next call; none at the end. */
CHECKED enum status pinned_file_read(struct pinned_file *file, size_t bytes_max, struct slice *out);

/* ---- export_hash.c ---- */
/* CRC-32C of each bucket's name and records, in order, without those that say how far the log is
 * applied. Some records more; *done_out: those were the last. Errors: the source's. */
CHECKED enum status export_hash_step(struct export_hash *hash, const struct dbfile_source *records,
                                     bool *done_out);

/* ---- exports.c ---- */
void export_pin(struct applier *a, struct export_work *work);
/* As the steps below; once it is done the work is gone. */
enum status export_step(struct export_work *work);
void export_work_free(struct export_work *work); /* tells whoever waits that the member stops */
void exports_init(struct snapshots *s);
void exports_deinit(struct snapshots *s);
/* What was said to exports meanwhile, those that have rested, and those whose time is up. */
void exports_look(struct snapshots *s, uint64_t now_ns);
uint64_t exports_due_ns(const struct snapshots *s); /* when to look again */

/* ---- fetch.c: consensus and apply ---- */
void fetch_start(struct consensus *c, const struct raft_fetch *fetch);
CHECKED enum status fetch_answer(struct consensus *c, struct job *job);
void fetch_pin(struct applier *a, struct snapshot_send *send);
void snapshot_send_free(struct snapshot_send *send);
/* The source offered for this MsgSnap, taken out of the offers; NULL: there is none. */
struct snapshot_send *fetch_take_offer(struct consensus *c, const struct raft_message *message);
void fetch_drop_offers(struct consensus *c);

/* ---- install.c ---- */
/* A MsgSnap came in. Takes message. */
void install_begin(struct consensus *c, struct peer_message *message);
CHECKED enum status install_answer(struct consensus *c, struct install *install);
/* The core did not want it, or is done with it. */
void install_drop_unwanted(struct consensus *c);
/* Its record is durable in the log: hands it to apply; true once it is all done. */
bool install_is_done(struct consensus *c, struct install *install);
/* Apply, before it looks for works: consensus gives this one after all that goes before it. */
void install_take(struct applier *a);
/* Apply, when those works are done: true while it has to wait. */
CHECKED enum status install_step_apply(struct applier *a, bool *waits_out);
/* Writer: does the switch that apply waits for. */
CHECKED enum status install_step_writer(struct loops *loops);
void install_free(struct install *install);

/* ---- the actor: snapshots.c, and the steps of each kind ---- */
/* ST_OK: done; ST_BUSY: later; ST_CANCELED: more to do now; others: it failed. */
enum status entries_fetch_step(struct loops *loops, struct entries_fetch *fetch);
enum status snapshot_send_step(struct snapshot_send *send);
enum status install_step(struct install *install);
void job_free(struct job *job);
void snapshots_init(struct snapshots *snapshots, struct loops *loops);
void snapshots_deinit(struct snapshots *snapshots);
uint64_t snapshots_step(struct snapshots *snapshots, uint64_t now_ns);
/* ---- consensus ---- */
void consensus_let_go(struct loops *loops, struct peer_message *message);
#endif
