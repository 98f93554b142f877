/* tools/utl/lost_format.h - what FORMAT said, where it is damaged, missing or of another member:
 * taken from what the log's segments and the store say of themselves. The ids of cluster and member
 * stood in FORMAT alone. */
#ifndef TOOLS_UTL_LOST_FORMAT_H
#define TOOLS_UTL_LOST_FORMAT_H
#include "base/disk.h"
#include "storage/datadir/datadir.h"

#define LOST_FORMAT_WHY_BYTES 1024U

struct lost_format {
    bool is_lost;                        /* or is not theirs; false: FORMAT counts */
    char why[LOST_FORMAT_WHY_BYTES];     /* a sentence, when it is lost */
    uint64_t log_life_id, store_life_id; /* of what is there; 0: not known */
    uint32_t stores_count;               /* files that may be a store */
    struct format format; /* when it is lost: the life is the store's, or else the log's; backend
                             and store_name "" without a store; ids 0 */
};

/* As datadir_look(), but a FORMAT that does not read as one is no error where the directory is
 * Cleat's; nor is one of another life than both the log and the store are of, which must be told
 * from a store or a log of another life. *datadir's format stays what FORMAT said. Of several
 * stores the one of the log's life that stands furthest is taken. Nothing is changed. Errors:
 * datadir_look()'s, and ST_NO_MEMORY. */
CHECKED enum status lost_format_look(const char *path, const char *wal_dir,
                                     struct datadir *datadir_out, enum datadir_kind *kind_out,
                                     bool *in_use_out, struct lost_format *out);

/* Whether a store must be read as beside a member that runs, or one that left its lock file: should
 * it start now, it will know of us. */
bool lost_format_is_shared(const char *store_path, const char *backend_name, bool is_running);
#endif
