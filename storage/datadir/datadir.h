/* storage/datadir/datadir.h - the data directory: its lock, its layout, and the FORMAT file that
 * says whose it is. The server owns one; tools look into one.
 *
 *   <data-dir>/member/           made aside as member.new and renamed, so it is whole or absent
 *     FORMAT                     text, see datadir.c
 *     wal/                       segments (or --wal-dir)
 *     store/ <index>.lmdb | .sqlite, index.ckpt
 *     snap/                      snapshots being received
 */
#ifndef STORAGE_DATADIR_DATADIR_H
#define STORAGE_DATADIR_DATADIR_H
#include "base/status.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct format {
    uint32_t version;
    char backend[16]; /* "lmdb" or "sqlite" */
    uint64_t life_id; /* drawn once; the log and the store carry it too */
    uint64_t cluster_id, member_id;
    char store_name[64]; /* file below store/ */
};

struct datadir {
    int lock_fd; /* flock on the data directory, held until datadir_close() */
    bool exists; /* member/ is there and format was read; false: a new member is to be made */
    struct format format;
    char root[PATH_MAX];   /* <data-dir> */
    char member[PATH_MAX]; /* <data-dir>/member, or member.new while it is being made */
    char wal[PATH_MAX];
    char snap[PATH_MAX]; /* <data-dir>/member/snap */
    bool wal_is_apart;   /* --wal-dir */
};

/* Makes the directory if needed (mode 0700), locks it, recognises what is in it. why (at least 512
 * bytes) gets a sentence for the operator on an error, or a warning ("" if none). Errors: ST_BUSY
 * (another process has it), ST_INVALID (somebody else's directory, etcd's, or a damaged FORMAT),
 * ST_UNSUPPORTED (a later version's), ST_IO. */
CHECKED enum status datadir_open(const char *path, const char *wal_dir, struct datadir *out,
                                 char *why, size_t why_bytes);
void datadir_close(struct datadir *datadir);

enum datadir_kind {
    DATADIR_NOTHING,    /* an empty directory, or one without anything of a member in it */
    DATADIR_UNFINISHED, /* a first start that was cut short; nothing was acknowledged in it */
    DATADIR_CLEAT,
    DATADIR_ETCD,
};

/* For tools: recognises what is at path without making, locking or changing anything, so that a
 * running member's directory may be looked at. out->lock_fd is -1, nothing needs closing;
 * *in_use_out tells whether another process holds the directory. format is read for DATADIR_CLEAT
 * alone. Errors, each with a sentence in why (at least 512 bytes): ST_NOT_FOUND (nothing is at
 * path), ST_INVALID (no directory, or FORMAT is lost or damaged: *kind_out is then DATADIR_CLEAT
 * and the paths are set), ST_UNSUPPORTED (FORMAT is of a later version), ST_IO (likewise, where it
 * is FORMAT that cannot be read). */
CHECKED enum status datadir_look(const char *path, const char *wal_dir, struct datadir *out,
                                 enum datadir_kind *kind_out, bool *in_use_out, char *why,
                                 size_t why_bytes);

/* Begins a new member: makes member.new with its folders; what an interrupted try left behind is
 * removed. */
CHECKED enum status datadir_begin(struct datadir *datadir, const struct format *format, char *why,
                                  size_t why_bytes);
/* Ends it: FORMAT is written, everything is synced, member.new becomes member. */
CHECKED enum status datadir_commit(struct datadir *datadir, char *why, size_t why_bytes);

/* From now on the store is the file of this name below store/: FORMAT is replaced, durably. The
 * checkpoint of the index, which was that of another store, goes first. */
CHECKED enum status datadir_set_store(struct datadir *datadir, const char *store_name);
/* Removes the files of other stores and what was not received whole. */
void datadir_clean(const struct datadir *datadir);

void datadir_store_path(const struct datadir *datadir, char *out, size_t out_bytes);
void datadir_checkpoint_path(const struct datadir *datadir, char *out, size_t out_bytes);
#endif
