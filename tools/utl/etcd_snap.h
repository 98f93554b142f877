/* tools/utl/etcd_snap.h - reads what lies beside an etcd's db, member/snap/<term>-<index>.snap: a
 * raft snapshot whose data is the v2 store as JSON. Of that 3.4 and 3.5 still take their members,
 * and write it whole, where the db may lack names, client URLs and promotions. Any bytes may come.
 */
#ifndef TOOLS_UTL_ETCD_SNAP_H
#define TOOLS_UTL_ETCD_SNAP_H
#include "base/arena.h"
#include "base/buf.h"
#include "base/disk.h"
#include "raft/types.h"
#include "server/state/members.h"

struct etcd_snap {
    struct arena arena;      /* everything below */
    struct raft_log_id last; /* where it was taken; index 0: there is none */
    struct member_row rows[MEMBERS_MAX];
    uint32_t rows_count;
    raft_id *removed;
    uint32_t removed_count, removed_capacity;
    struct buf text; /* about those that were passed over, being damaged; "" when all is well */
};

/* The newest sound one in dir that was taken at index_max or before it. None is fine, and so is a
 * damaged one. Errors, with a sentence in why: ST_IO (the directory cannot be read), ST_NO_MEMORY.
 * etcd_snap_deinit() in every case. */
CHECKED enum status etcd_snap_read(struct disk *disk, const char *dir, raft_index index_max,
                                   struct etcd_snap *out, struct buf *why);
void etcd_snap_deinit(struct etcd_snap *snap);

/* The bytes of one file into an initialised *out. Errors: ST_CORRUPT (checksum, or not such a
 * message), ST_INVALID (not such JSON), ST_TOO_BIG (limits.h, the arena), ST_NO_MEMORY. */
void etcd_snap_init(struct etcd_snap *out);
CHECKED enum status etcd_snap_decode(struct slice file, struct etcd_snap *out);
#endif
