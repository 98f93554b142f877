/* wal/format.h - the bytes of the log: the segment's block 0, batches and records. Pure functions
 * over memory; format.c heads with the byte tables. */
#ifndef WAL_FORMAT_H
#define WAL_FORMAT_H
#include "base/disk.h"
#include "base/hash.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

#include <stdbool.h>
#include <stdint.h>

#define WAL_BLOCK_BYTES DISK_BLOCK_BYTES
#define WAL_BATCH_HEADER_BYTES 120U
#define WAL_RECORD_HEADER_BYTES 32U
#define WAL_CONF_STATE_BYTES_MAX (1U + 4U * (4U + 8U * RAFT_MEMBERS_MAX))

/* Bytes of a batch on disk: padded to whole blocks. */
static inline uint64_t wal_padded(uint64_t len)
{
    return (len + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}

struct wal_segment_header {
    uint64_t life_id, seq;
    uint64_t seed; /* random, drawn anew at each use of the file */
};

void wal_segment_header_encode(const struct wal_segment_header *header,
                               uint8_t block[WAL_BLOCK_BYTES]);
/* Errors: ST_TRUNCATED (less than a block), ST_INVALID (not a segment of ours), ST_UNSUPPORTED (a
 * later version), ST_CORRUPT. */
CHECKED enum status wal_segment_header_decode(struct slice block, struct wal_segment_header *out);

/* Where a batch ended: what the next one is chained to. All zero before the first batch. */
struct wal_position {
    uint64_t seq, offset, batch_no;
    struct hash128 chain;
};

struct wal_batch_header {
    uint64_t life_id;
    uint32_t len; /* header and records, without the padding */
    uint64_t batch_no, durable_no;
    raft_index first_index; /* of the first ENTRY, 0 without one */
    struct raft_hard_state hard_state;
    struct wal_position previous; /* batch_no is always one less than this batch's */
    struct hash128 chain;         /* of this batch; set by wal_batch_seal() */
};

/* Finishes a batch whose records stand at bytes[WAL_BATCH_HEADER_BYTES..header->len): zeroes the
 * padding, hashes, writes the header. bytes has room for wal_padded(header->len). */
void wal_batch_seal(struct wal_batch_header *header, uint64_t seed, uint8_t *bytes);
/* Checks and reads the header at the front of bytes; the rest of the batch is not looked at.
 * Errors: ST_TRUNCATED, ST_CORRUPT (no header of this segment). */
CHECKED enum status wal_batch_header_decode(struct slice bytes, uint64_t seed,
                                            struct wal_batch_header *out);
/* Checks the whole padded batch against its header. Errors: ST_CORRUPT. */
CHECKED enum status wal_batch_verify(struct slice padded, uint64_t seed,
                                     const struct wal_batch_header *header);

enum wal_record_type {
    WAL_RECORD_ENTRY = 1,
    WAL_RECORD_SNAPSHOT = 2,
};

/* A SNAPSHOT said again, so that the segment that held it can go: the log is left as it is. */
#define WAL_RECORD_RESTATED 1U

struct wal_record {
    enum wal_record_type type;
    uint8_t flags; /* ENTRY: enum raft_entry_type; SNAPSHOT: WAL_RECORD_RESTATED or 0 */
    struct raft_log_id id;
    struct slice
        payload; /* ENTRY: the entry's; SNAPSHOT: the conf state. Borrowed from the batch */
};

static inline uint64_t wal_record_bytes(size_t payload_len)
{
    return WAL_RECORD_HEADER_BYTES + (uint64_t)payload_len;
}
/* Writes wal_record_bytes(record->payload.len) bytes. */
void wal_record_encode(const struct wal_record *record, uint8_t *out);
/* Takes one record off the front of *in. Errors: ST_TRUNCATED, ST_CORRUPT; *in is then unchanged.
 */
CHECKED enum status wal_record_take(struct slice *in, struct wal_record *out);

/* Writes at most WAL_CONF_STATE_BYTES_MAX bytes and returns how many. */
size_t wal_conf_state_encode(const struct raft_conf_state *conf_state, uint8_t *out);
CHECKED enum status wal_conf_state_decode(struct slice in, struct raft_conf_state *out);
#endif
