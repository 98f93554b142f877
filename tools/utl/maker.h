/* tools/utl/maker.h - makes a member's whole data directory: store, log and FORMAT. Everything is
 * made aside, as <data-dir>/member.new, synced, and put in place by one rename at the end. Whatever
 * happens before that leaves a part which the next try removes, and nothing else; a maker that is
 * closed unfinished removes it itself.
 *
 *     maker_begin -> maker_load or maker_copy -> maker_set_members, maker_raise_revision
 *                 -> maker_finish -> maker_close
 *
 * After an error only maker_close() may be called. One thread. Nothing here logs. */
#ifndef TOOLS_UTL_MAKER_H
#define TOOLS_UTL_MAKER_H
#include "base/buf.h"
#include "base/clock.h"
#include "base/disk.h"
#include "base/status.h"
#include "raft/types.h"
#include "server/state/members.h"
#include "storage/dbfile/writer.h"

struct maker;
struct progress;

struct maker_options {
    const char *data_dir; /* absent, empty, or holding nothing but an unfinished try */
    const char *wal_dir;  /* "": inside data_dir. Absent, empty, or left by an unfinished try */
    const char *backend;  /* "lmdb" or "sqlite" */
    uint64_t cluster_id;
    raft_id member_id;
    const struct clock *clock;
    struct progress *progress; /* of the filling; NULL: none */
};

/* What was filled in. */
struct maker_content {
    int64_t revision;         /* the newest, at least 1 */
    int64_t compact_revision; /* -1: never compacted */
    struct raft_log_id mark;  /* what the source said; {0, 0}: nothing */
};

/* Looks whether maker_begin() would find a place, and changes nothing: for --dry-run, and to refuse
 * before anything long. Options are borrowed for the call. Errors, with etcd's sentence in why:
 * ST_EXISTS (data_dir is not empty, wal_dir exists), ST_BUSY (a process has it), ST_INVALID. */
CHECKED enum status maker_check(const struct maker_options *options, struct buf *why);

/* Locks data_dir (made if it is not there) and makes the part. Options and why are borrowed until
 * maker_close(); why gets a sentence about any failure from here on. Errors: as above, ST_NO_SPACE,
 * ST_NO_MEMORY, ST_IO. */
CHECKED enum status maker_begin(const struct maker_options *options, struct buf *why,
                                struct maker **out);
void maker_close(struct maker *maker); /* NULL is fine */

/* Fills the store with all of an etcd db file: its digest is not looked at. Errors: the loader's.
 */
CHECKED enum status maker_load(struct maker *maker, struct disk_file *file);
/* The same with records in the order of a db file; a mark among them is taken off. Errors: the
 * source's and the backend's. */
CHECKED enum status maker_copy(struct maker *maker, const struct dbfile_source *source);
/* Once it is filled. */
struct maker_content maker_content(const struct maker *maker);

/* From now on these are the members, and those the ones that were once removed. Errors: ST_TOO_BIG,
 * ST_NO_MEMORY, and those of a commit. */
CHECKED enum status maker_set_members(struct maker *maker, const struct member_row *rows,
                                      uint32_t count, const raft_id *removed,
                                      uint32_t removed_count);
/* Raises the revision by amount and schedules a compaction there, as etcdutl does: every revision
 * below is gone for clients, and none will be given to two different changes. *revision_out is the
 * new one. Errors: ST_INVALID (beyond what a store can count), and those of a commit. */
CHECKED enum status maker_raise_revision(struct maker *maker, uint64_t amount,
                                         int64_t *revision_out);

/* The log to begin with: what the store ends at, and what comes after it. */
struct maker_log {
    struct raft_snapshot_meta snapshot; /* last.index 0: the store is empty of entries */
    struct raft_hard_state hard_state;
    const struct raft_entry *entries; /* consecutive, from snapshot.last.index + 1 */
    uint32_t entries_count;
};
/* Writes the mark, the log and FORMAT and puts the directory in place; durable on return. Errors:
 * the log's and the backend's, ST_IO. */
CHECKED enum status maker_finish(struct maker *maker, const struct maker_log *log);
#endif
