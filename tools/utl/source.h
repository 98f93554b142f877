/* tools/utl/source.h - one way to open whatever an operator may have: a Cleat data directory, of a
 * stopped member or of a running one; an etcd data directory, of a stopped member; a snapshot file
 * or an etcd db file. Nothing is changed but, of a running member or one that left its lock file
 * behind, the library's lock file.
 *
 * The state is the store's, with the committed tail of the log applied over it in memory. One
 * thread. */
#ifndef TOOLS_UTL_SOURCE_H
#define TOOLS_UTL_SOURCE_H
#include "base/buf.h"
#include "raft/types.h"
#include "storage/backend.h"
#include "storage/datadir/datadir.h"
#include "tools/utl/etcd_wal.h"
#include "tools/utl/progress.h"
#include "wal/wal.h"

#include <limits.h>

enum utl_source_kind {
    UTL_SOURCE_CLEAT, /* a data directory of ours */
    UTL_SOURCE_ETCD,  /* a data directory of etcd's */
    UTL_SOURCE_FILE,  /* a db file; a snapshot, when it has a digest */
};

struct utl_source_options {
    const char *path;
    const char *wal_dir; /* of a directory whose log is apart; "" or NULL: none */
    bool without_log;    /* the store as it is: nothing of the log is read */
    bool whole_log; /* what the log holds above its known commit is applied too: after a disaster
                       it counts, as with --force-new-cluster, for it may be acknowledged */
    bool touched_alone; /* the key space knows the keys alone that the log's tail touches, enough to
                           apply it: for what reads the records, which are all there */
    bool even_without_format; /* of our directories: see lost_format.h */
    bool without_index; /* neither key space nor state machine: for what reads the backend alone */
};

struct utl_source {
    enum utl_source_kind kind;
    bool is_running;                         /* another process has the directory */
    const char *backend_name;                /* "lmdb", "sqlite", "dbfile" */
    char store_path[PATH_MAX];               /* the file that was opened */
    uint64_t life_id, cluster_id, member_id; /* 0: not known */
    struct store_mark mark; /* where the store stands; conf_state borrowed from the store */
    struct backend_stat stat;

    bool has_log;
    char log_path[PATH_MAX];
    raft_index log_first, log_last; /* entries that can be read; last < first: none */
    struct raft_hard_state hard_state;
    struct raft_log_id snapshot; /* the log's newest; index 0: none */
    enum status log_verdict;     /* ST_CORRUPT: only what comes before the damage can be read */
    bool torn_tail;
    raft_index damage_first, damage_last;
    struct buf format_text;   /* why FORMAT was not taken; "" when it was */
    struct buf log_text;      /* about damage or a torn tail; "" when all is well */
    struct buf snap_text;     /* about .snap files of etcd's that are damaged; "" when none is */
    raft_index committed;     /* up to where the log is known to be committed */
    raft_index applied;       /* up to where it is applied here */
    struct buf apply_text;    /* why that is not all; "" when it is */
    enum status apply_status; /* ST_UNSUPPORTED: what follows is not damaged, but unknown here */

    struct disk *disk;
    struct lock *lock;
    struct store *store;
    struct mvcc *mvcc;       /* NULL without_index */
    struct machine *machine; /* likewise */

    /* private */
    struct utl_source_options options;
    struct datadir datadir;
    struct backend_watch store_watch, index_watch;
    struct progress progress; /* of what they watch */
    const char *progress_of;  /* NULL: of nothing */
    uint64_t progress_bytes;
    struct wal *wal;
    struct etcd_wal etcd_wal;
    struct utl_touched *touched; /* NULL unless touched_alone */
    struct buf conf_state;       /* the mark's, where the db of an older etcd has none */
    struct buf *why;
};

#define UTL_SOURCE_READER 0U /* the slot for mvcc_read() and views */

/* Opens what is at options->path. Errors, with a sentence in why: ST_NOT_FOUND, ST_INVALID (nothing
 * of a member's, somebody else's, or in use by an etcd), ST_CORRUPT, ST_UNSUPPORTED, ST_BUSY (a
 * running member changed it faster than it could be read), ST_NO_MEMORY, ST_IO. *out is owned by
 * the caller, ended by utl_source_close(); NULL on an error. */
CHECKED enum status utl_source_open(const struct utl_source_options *options, struct buf *why,
                                    struct utl_source **out);
void utl_source_close(struct utl_source *source); /* NULL is fine */

/* What open and the calls below show of their progress is taken away, so that other lines may
 * follow; also after mvcc's walks over all of the key space. */
void utl_source_end_progress(struct utl_source *source);
/* The backend's own check. Faults are described in *report, a line each. ST_CORRUPT when there are
 * any. */
CHECKED enum status utl_source_check_store(struct utl_source *source, struct buf *report);

/* Gives fn the log's entries [first, last] in order; the payload is borrowed for the call. Stops at
 * the first status other than ST_OK and returns it. Errors: wal_read()'s. */
typedef enum status (*utl_entry_fn)(void *context, const struct raft_entry *entry);
CHECKED enum status utl_source_entries(struct utl_source *source, raft_index first, raft_index last,
                                       utl_entry_fn fn, void *context);

/* ---- source_touched.c ---- */
/* Makes touched of the entries above the mark. */
CHECKED enum status utl_source_find_touched(struct utl_source *source);

/* ---- source_members.c ---- */
/* Makes the member table of an etcd's directory what its v2 store says, as of the mark. */
CHECKED enum status utl_source_find_members(struct utl_source *source);

/* ---- source_tail.c ---- */
/* FORMAT alone says which member it is, unless there is only one to be: then sets member_id. */
CHECKED enum status utl_source_guess_member(struct utl_source *source);
/* Sets committed: what the log says, and of a lone voter, who commits by writing, all it holds. */
CHECKED enum status utl_source_find_committed(struct utl_source *source);
/* Applies (mark, committed]; what cannot be applied ends it, with apply_text. */
CHECKED enum status utl_source_apply_tail(struct utl_source *source);
#endif
