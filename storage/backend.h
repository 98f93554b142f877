/* storage/backend.h - an ordered store of bytes in buckets: one writer, snapshot readers.
 * Implemented by backend_lmdb.c and backend_sqlite.c; the test double is tests/fakes/backend_mem.c.
 * Durability comes from the Raft log, so commits are rare; what a backend promises is that after
 * any crash it holds exactly some committed transaction, whole, and that the mark in it says which.
 *
 * Threads: all on one thread at a time (the backend writer), but for stat (any thread) and the
 * reading of a snapshot, by one thread at a time; it may move between threads, and opens and closes
 * on the writer's. Nothing here logs.
 *
 * Values are stored with an 8-byte checksum of key and value behind them, added and checked here;
 * callers never see it. Keys are 1 to BACKEND_KEY_BYTES_MAX bytes long whatever the library below
 * allows; those of BUCKET_KEY are revision keys (storage/revision.h). */
#ifndef STORAGE_BACKEND_H
#define STORAGE_BACKEND_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define BACKEND_KEY_BYTES_MAX 32768U /* bbolt's limit, so that every store fits etcd's db file */

/* etcd's buckets; the names on disk are etcd's (backend_bucket_name). */
enum bucket {
    BUCKET_ALARM,
    BUCKET_AUTH,
    BUCKET_AUTH_ROLES,
    BUCKET_AUTH_USERS,
    BUCKET_CLUSTER,
    BUCKET_KEY,
    BUCKET_LEASE,
    BUCKET_MEMBERS,
    BUCKET_MEMBERS_REMOVED,
    BUCKET_META,
    BUCKETS_COUNT
};
const char *backend_bucket_name(enum bucket bucket);

/* What a committed transaction contains: the last entry applied in it, and the configuration then
 * in force (encoded raftpb.ConfState; opaque here). */
struct store_mark {
    uint64_t index;
    uint64_t term;
    struct slice conf_state;
};

enum backend_op_kind {
    BACKEND_PUT,
    BACKEND_APPEND, /* a put whose key is above every key of the bucket; BUCKET_KEY only */
    BACKEND_DELETE, /* an absent key is fine */
};

struct backend_op {
    enum backend_op_kind kind;
    enum bucket bucket;
    struct slice key, value; /* borrowed for the call */
};

struct disk;

/* Told, on the thread that works, how far a walk over all of a store has come. */
struct backend_watch {
    void (*at)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* 0: not known */
    void *context;
};
static inline void backend_watch_tell(const struct backend_watch *watch, uint64_t done_bytes,
                                      uint64_t total_bytes)
{
    if (watch != NULL)
        watch->at(watch->context, done_bytes, total_bytes);
}

struct backend_options {
    const char *path; /* the store's file, e.g. <data-dir>/member/store/0000000000000000.lmdb */
    uint64_t life_id; /* written into a new store, compared with an old one's: ST_INVALID if it
                         differs */
    uint64_t map_bytes_max; /* the file never grows beyond it: then ST_NO_SPACE */
    bool create;            /* false: ST_NOT_FOUND when absent */
    bool bulk;      /* with create: a store that is filled aside. Nothing of it is durable before a
                       full commit, and after an error it is of no use; it has no snapshots and no
                       stat. Open it anew to go on */
    bool read_only; /* tools; never creates, never changes a byte. The whole structure is looked at
                       first, so that damage gives ST_CORRUPT and never a signal. Without shared, no
                       other process may have the store open for writing */
    bool shared;    /* with read_only: a member may be running on it. The library's lock file beside
                       the store is used as by any reader, and is all that changes */
    uint64_t *life_id_out; /* with read_only: NULL, or a store of any life is opened and this gets
                              its life id, whatever life_id says */
    struct disk *disk;     /* backend_dbfile() alone: reads the file; borrowed until it closes */
    const struct backend_watch *watch; /* of open, where that looks at everything, and of check;
                                          NULL: nobody. Borrowed until it closes */
    struct buf
        *why; /* NULL, or gets a sentence for people when open fails; borrowed for the call */
};

struct backend;
struct backend_snapshot;
struct backend_cursor;

struct backend_stat {
    uint64_t size_bytes;    /* of the file(s) */
    uint64_t in_use_bytes;  /* without free pages */
    uint64_t free_bytes;    /* of free pages: what a copy would not have */
    uint64_t room_bytes;    /* that may still be added, at a guess: the disk's and free pages */
    uint64_t commits_count; /* since open */
    uint64_t syncs_count;   /* flushes asked of the disk since open */
};

struct backend_ops {
    const char *name;       /* "lmdb", "sqlite", "mem" */
    const char *suffix;     /* of a store's file name, with its dot */
    bool values_are_stable; /* what get gives is borrowed until the snapshot closes */
    /* Errors: ST_NOT_FOUND (absent, not to be created), ST_INVALID (another life's store),
     * ST_UNSUPPORTED (a newer format), ST_CORRUPT (foreign or damaged), ST_NO_SPACE, ST_IO. */
    enum status (*open)(const struct backend_options *options, struct backend **out);
    void (*close)(struct backend *backend);
    /* Adds ops to the open write transaction, in order; begins one when none is open. Not visible,
     * not durable yet. After any error the transaction is gone, nothing of it happened. Errors:
     * ST_INVALID (a key no store may hold), ST_NO_SPACE, ST_NO_MEMORY, ST_IO. */
    enum status (*apply)(struct backend *backend, const struct backend_op *ops, size_t count);
    /* Ends the transaction with the mark in it (NULL mark: as it was). On ST_OK everything is
     * visible to new snapshots; *durable_out is the index of the newest mark that surely survives a
     * power cut (LMDB with NOMETASYNC: the one before). full: flush everything, so that it is this
     * one. Errors as above; after ST_NO_SPACE the same ops may be applied and committed again
     * later. */
    enum status (*commit)(struct backend *backend, const struct store_mark *mark, bool full,
                          uint64_t *durable_out);
    void (*abort)(struct backend *backend);
    /* The newest committed mark; index 0 on a fresh store. conf_state is appended to *conf_state.
     */
    enum status (*mark)(struct backend *backend, struct store_mark *out, struct buf *conf_state);
    enum status (*snapshot_open)(struct backend *backend, struct backend_snapshot **out);
    void (*snapshot_close)(struct backend_snapshot *snapshot); /* NULL is fine */
    /* *value_out is borrowed from the snapshot until its next call. ST_NOT_FOUND, ST_CORRUPT,
     * ST_IO. */
    enum status (*get)(struct backend_snapshot *snapshot, enum bucket bucket, struct slice key,
                       struct slice *value_out);
    enum status (*cursor_open)(struct backend_snapshot *snapshot, enum bucket bucket,
                               struct backend_cursor **out);
    /* First record with key >= key; an empty key is the lowest. ST_NOT_FOUND past the end, and from
     * then on. Both slices are borrowed until the next call. */
    enum status (*cursor_seek)(struct backend_cursor *cursor, struct slice key,
                               struct slice *key_out, struct slice *value_out);
    enum status (*cursor_next)(struct backend_cursor *cursor, struct slice *key_out,
                               struct slice *value_out);
    /* Last record of the bucket. */
    enum status (*cursor_last)(struct backend_cursor *cursor, struct slice *key_out,
                               struct slice *value_out);
    void (*cursor_close)(struct backend_cursor *cursor); /* NULL is fine */
    /* Work between commits, on the writer's thread, when only the newest snapshots are open; NULL:
     * none. *reopen_out: opening new ones and closing those lets the library free space. Errors:
     * ST_NO_SPACE, ST_CORRUPT, ST_IO. */
    enum status (*upkeep)(struct backend *backend, bool *reopen_out);
    /* Any thread. */
    enum status (*stat)(struct backend *backend, struct backend_stat *out);
    /* Walks everything: the library's own structure, every checksum. Faults are described in
     * *report, a line each. ST_CORRUPT when there are any. */
    enum status (*check)(struct backend *backend, struct buf *report);
    /* Removes a closed store: its file and whatever the library keeps beside it. Absent is fine. */
    enum status (*remove)(const char *path);
};

struct backend {
    const struct backend_ops *ops;
};
struct backend_snapshot {
    struct backend *backend; /* heads every implementation's snapshot */
};
struct backend_cursor {
    struct backend_snapshot *snapshot; /* heads every implementation's cursor */
};

const struct backend_ops *backend_lmdb(void);
const struct backend_ops *backend_sqlite(void);
#endif
