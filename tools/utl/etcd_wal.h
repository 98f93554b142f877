/* tools/utl/etcd_wal.h - reads the log of an etcd member (member/wal) by etcd's own rules, and
 * changes nothing: where etcd would repair a torn tail by cutting the file, reading just ends.
 *
 * A file is named <seq>-<index>.wal and holds frames:
 *   0    8  le: length of the record in the low 56 bits; the top byte is 0x80 | pad, or 0
 *   8       record: walpb.Record{type=1, crc=2, data=3}, then pad bytes of 0
 * crc is the CRC-32C of all data so far, over file ends: each file begins with a record of type 4
 * that carries it on. A length of 0 or the end of the file ends a file. In the last file a record
 * that does not check, or is cut off, is a torn tail if the file ends within it or one of its
 * 512-byte sectors is all zeros; else it is damage. */
#ifndef TOOLS_UTL_ETCD_WAL_H
#define TOOLS_UTL_ETCD_WAL_H
#include "base/buf.h"
#include "base/disk.h"
#include "raft/types.h"

#define ETCD_WAL_SNAPSHOTS_MAX 1024U

struct etcd_wal {
    uint64_t node_id, cluster_id; /* 0: no metadata record */
    struct raft_hard_state hard_state;
    raft_index first_index, last_index; /* of the entries held; last < first: none */
    struct raft_entry *entries;         /* owned, with their payloads */
    uint32_t entries_count, entries_capacity;
    struct raft_log_id snapshots[ETCD_WAL_SNAPSHOTS_MAX]; /* the newest records, in order */
    uint32_t snapshots_count;
    uint32_t files_count;
    bool torn_tail;
    enum status verdict; /* ST_OK, or ST_CORRUPT: what is held comes before the damage */
    struct buf text;     /* what and where, about damage or the torn tail */
};

/* Reads all files in dir; entries at or below after are passed over. Damage is the log's verdict,
 * not an error. Errors, with a sentence in why: ST_NOT_FOUND (no directory, no log in it), ST_IO,
 * ST_NO_MEMORY. etcd_wal_deinit() in every case. */
CHECKED enum status etcd_wal_read(struct disk *disk, const char *dir, raft_index after,
                                  struct etcd_wal *out, struct buf *why);
void etcd_wal_deinit(struct etcd_wal *wal);

/* The newest snapshot record that counts: its index is committed. Index 0: none but the first. */
struct raft_log_id etcd_wal_snapshot(const struct etcd_wal *wal);
#endif
