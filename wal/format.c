/* wal/format.c
 *
 * A segment is a file of whole 4 KiB blocks: block 0, then batches. Integers are little-endian.
 *
 * Block 0, written and synced before the file gets its number:
 *      0   8  magic "CLEATWAL"
 *      8   4  version, 1
 *     12   4  zero
 *     16   8  life id: this log's, also in the store and in FORMAT
 *     24   8  seq: the number in the file's name
 *     32   8  seed: random, drawn at each use of the file; keys every hash below
 *     40      zero
 *   4088   8  XXH3-64 of bytes 0..4088
 *
 * Batch: one group commit, at the next block boundary after the batch before:
 *      0   8  header hash: XXH3-64 (seed) of bytes 8..120, so that the length can be trusted
 *      8  16  chain: XXH3-128 (seed) of bytes 24.. to the end of the padding
 *     24   4  magic "CBAT"
 *     28   4  length: header and records, without the padding
 *     32   8  life id
 *     40   8  batch_no: dense over the whole log, from 1
 *     48   8  durable_no: the highest batch known durable when this one was built
 *     56   8  first index: of the first ENTRY, 0 without one
 *     64  24  hard state: term, vote, commit
 *     88   8  previous batch: seq of its segment
 *     96   8  previous batch: where it ended there, padding included
 *    104  16  previous batch: its chain
 *    120      records, then zeros up to a multiple of 4096
 *
 * Record:
 *      0   8  XXH3-64 of bytes 8.. to the end of the record
 *      8   4  length of the payload
 *     12   1  type: 1 ENTRY, 2 SNAPSHOT
 *     13   1  ENTRY: raft's entry type; SNAPSHOT: 1 when restated
 *     14   2  zero
 *     16   8  index
 *     24   8  term
 *     32      payload: the entry's bytes; SNAPSHOT: conf state
 *
 * Conf state: u8 auto_leave, then voters, learners, outgoing voters, next learners, each u32 count
 * and that many u64 ids.
 *
 * Why stale bytes never pass: a recycled file has another seed, so old headers fail their hash; a
 * batch abandoned by a crash lies where its successor's `previous` says that the segment had ended.
 * Inside a batch the entries are consecutive; a SNAPSHOT comes before them. A batch whose first
 * index is at or below the last held truncates from there. */
#include "wal/format.h"

#include "base/assert.h"
#include "base/bytes.h"

#define SEGMENT_MAGIC "CLEATWAL"
#define SEGMENT_VERSION 1U
#define SEGMENT_HASH_AT (WAL_BLOCK_BYTES - 8U)
#define BATCH_MAGIC 0x54414243U /* "CBAT" */
#define BATCH_HEADER_HASHED_AT 8U
#define BATCH_CHAINED_AT 24U

_Static_assert(WAL_RECORD_HEADER_BYTES == 32, "the table above");
_Static_assert(WAL_BATCH_HEADER_BYTES < WAL_BLOCK_BYTES, "a header lies in one block");

void wal_segment_header_encode(const struct wal_segment_header *header,
                               uint8_t block[WAL_BLOCK_BYTES])
{
    memset(block, 0, WAL_BLOCK_BYTES);
    memcpy(block, SEGMENT_MAGIC, 8);
    put_le32(block + 8, SEGMENT_VERSION);
    put_le64(block + 16, header->life_id);
    put_le64(block + 24, header->seq);
    put_le64(block + 32, header->seed);
    put_le64(block + SEGMENT_HASH_AT, hash64(slice_make(block, SEGMENT_HASH_AT)));
}

enum status wal_segment_header_decode(struct slice block, struct wal_segment_header *out)
{
    if (block.len < WAL_BLOCK_BYTES)
        return ST_TRUNCATED;
    bool sound =
        get_le64(block.data + SEGMENT_HASH_AT) == hash64(slice_make(block.data, SEGMENT_HASH_AT));
    if (memcmp(block.data, SEGMENT_MAGIC, 8) != 0)
        return sound ? ST_CORRUPT : ST_INVALID;
    if (!sound)
        return ST_CORRUPT;
    if (get_le32(block.data + 8) != SEGMENT_VERSION)
        return ST_UNSUPPORTED;
    out->life_id = get_le64(block.data + 16);
    out->seq = get_le64(block.data + 24);
    out->seed = get_le64(block.data + 32);
    return ST_OK;
}

static struct hash128 get_hash128(const uint8_t *p)
{
    return (struct hash128){get_le64(p), get_le64(p + 8)};
}

static void put_hash128(uint8_t *p, struct hash128 hash)
{
    put_le64(p, hash.low);
    put_le64(p + 8, hash.high);
}

static struct hash128 batch_chain(struct slice padded, uint64_t seed)
{
    return hash128_seeded(slice_make(padded.data + BATCH_CHAINED_AT, padded.len - BATCH_CHAINED_AT),
                          seed);
}

static uint64_t batch_header_hash(const uint8_t *bytes, uint64_t seed)
{
    return hash64_seeded(
        slice_make(bytes + BATCH_HEADER_HASHED_AT, WAL_BATCH_HEADER_BYTES - BATCH_HEADER_HASHED_AT),
        seed);
}

void wal_batch_seal(struct wal_batch_header *header, uint64_t seed, uint8_t *bytes)
{
    ASSERT(header->len >= WAL_BATCH_HEADER_BYTES);
    ASSERT(header->durable_no < header->batch_no);
    ASSERT(header->previous.batch_no + 1 == header->batch_no);
    size_t padded_len = (size_t)wal_padded(header->len);
    memset(bytes + header->len, 0, padded_len - header->len);
    put_le32(bytes + 24, BATCH_MAGIC);
    put_le32(bytes + 28, header->len);
    put_le64(bytes + 32, header->life_id);
    put_le64(bytes + 40, header->batch_no);
    put_le64(bytes + 48, header->durable_no);
    put_le64(bytes + 56, header->first_index);
    put_le64(bytes + 64, header->hard_state.term);
    put_le64(bytes + 72, header->hard_state.vote);
    put_le64(bytes + 80, header->hard_state.commit);
    put_le64(bytes + 88, header->previous.seq);
    put_le64(bytes + 96, header->previous.offset);
    put_hash128(bytes + 104, header->previous.chain);
    header->chain = batch_chain(slice_make(bytes, padded_len), seed);
    put_hash128(bytes + 8, header->chain);
    put_le64(bytes, batch_header_hash(bytes, seed));
}

enum status wal_batch_header_decode(struct slice bytes, uint64_t seed, struct wal_batch_header *out)
{
    if (bytes.len < WAL_BATCH_HEADER_BYTES)
        return ST_TRUNCATED;
    const uint8_t *p = bytes.data;
    if (get_le32(p + 24) != BATCH_MAGIC || get_le64(p) != batch_header_hash(p, seed))
        return ST_CORRUPT;
    *out = (struct wal_batch_header){
        .life_id = get_le64(p + 32),
        .len = get_le32(p + 28),
        .batch_no = get_le64(p + 40),
        .durable_no = get_le64(p + 48),
        .first_index = get_le64(p + 56),
        .hard_state = {get_le64(p + 64), get_le64(p + 72), get_le64(p + 80)},
        .chain = get_hash128(p + 8),
    };
    if (out->len < WAL_BATCH_HEADER_BYTES || out->durable_no >= out->batch_no)
        return ST_CORRUPT;
    out->previous = (struct wal_position){get_le64(p + 88), get_le64(p + 96), out->batch_no - 1,
                                          get_hash128(p + 104)};
    return ST_OK;
}

enum status wal_batch_verify(struct slice padded, uint64_t seed,
                             const struct wal_batch_header *header)
{
    if (padded.len != wal_padded(header->len))
        return ST_CORRUPT;
    return hash128_eq(batch_chain(padded, seed), header->chain) ? ST_OK : ST_CORRUPT;
}

void wal_record_encode(const struct wal_record *record, uint8_t *out)
{
    ASSERT(record->payload.len <= UINT32_MAX);
    put_le32(out + 8, (uint32_t)record->payload.len);
    out[12] = (uint8_t)record->type;
    out[13] = record->flags;
    put_le16(out + 14, 0);
    put_le64(out + 16, record->id.index);
    put_le64(out + 24, record->id.term);
    if (record->payload.len > 0)
        memcpy(out + WAL_RECORD_HEADER_BYTES, record->payload.data, record->payload.len);
    put_le64(out, hash64(slice_make(out + 8, WAL_RECORD_HEADER_BYTES - 8 + record->payload.len)));
}

enum status wal_record_take(struct slice *in, struct wal_record *out)
{
    const uint8_t *p = in->data;
    if (in->len < WAL_RECORD_HEADER_BYTES)
        return ST_TRUNCATED;
    size_t len = get_le32(p + 8);
    if (in->len - WAL_RECORD_HEADER_BYTES < len)
        return ST_TRUNCATED;
    size_t bytes = WAL_RECORD_HEADER_BYTES + len;
    if (get_le64(p) != hash64(slice_make(p + 8, bytes - 8)))
        return ST_CORRUPT;
    uint8_t type = p[12], flags = p[13];
    bool known = (type == WAL_RECORD_ENTRY && flags <= RAFT_ENTRY_CONF_CHANGE_V2) ||
                 (type == WAL_RECORD_SNAPSHOT && flags <= WAL_RECORD_RESTATED);
    if (!known)
        return ST_CORRUPT;
    *out = (struct wal_record){
        .type = (enum wal_record_type)type,
        .flags = flags,
        .id = {.index = get_le64(p + 16), .term = get_le64(p + 24)},
        .payload = slice_make(p + WAL_RECORD_HEADER_BYTES, len),
    };
    *in = slice_make(p + bytes, in->len - bytes);
    return ST_OK;
}

static size_t put_ids(uint8_t *out, const raft_id *ids, uint32_t count)
{
    ASSERT(count <= RAFT_MEMBERS_MAX);
    put_le32(out, count);
    for (uint32_t i = 0; i < count; i++)
        put_le64(out + 4 + 8 * (size_t)i, ids[i]);
    return 4 + 8 * (size_t)count;
}

size_t wal_conf_state_encode(const struct raft_conf_state *conf_state, uint8_t *out)
{
    out[0] = conf_state->auto_leave;
    size_t len = 1;
    len += put_ids(out + len, conf_state->voters, conf_state->voters_count);
    len += put_ids(out + len, conf_state->learners, conf_state->learners_count);
    len += put_ids(out + len, conf_state->voters_outgoing, conf_state->voters_outgoing_count);
    len += put_ids(out + len, conf_state->learners_next, conf_state->learners_next_count);
    ASSERT(len <= WAL_CONF_STATE_BYTES_MAX);
    return len;
}

static enum status take_ids(struct slice *in, raft_id *ids, uint32_t *count_out)
{
    if (in->len < 4)
        return ST_CORRUPT;
    uint32_t count = get_le32(in->data);
    if (count > RAFT_MEMBERS_MAX || in->len - 4 < 8 * (size_t)count)
        return ST_CORRUPT;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = get_le64(in->data + 4 + 8 * (size_t)i);
    *count_out = count;
    size_t taken = 4 + 8 * (size_t)count;
    *in = slice_make(in->data + taken, in->len - taken);
    return ST_OK;
}

enum status wal_conf_state_decode(struct slice in, struct raft_conf_state *out)
{
    memset(out, 0, sizeof(*out));
    if (in.len < 1 || in.data[0] > 1)
        return ST_CORRUPT;
    out->auto_leave = in.data[0] == 1;
    in = slice_make(in.data + 1, in.len - 1);
    enum status st = take_ids(&in, out->voters, &out->voters_count);
    if (st == ST_OK)
        st = take_ids(&in, out->learners, &out->learners_count);
    if (st == ST_OK)
        st = take_ids(&in, out->voters_outgoing, &out->voters_outgoing_count);
    if (st == ST_OK)
        st = take_ids(&in, out->learners_next, &out->learners_next_count);
    if (st == ST_OK && in.len != 0)
        st = ST_CORRUPT;
    return st;
}
