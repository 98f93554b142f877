#include "tools/utl/etcd_wal.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/minmax.h"
#include "base/wire.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 38U /* <16 hex>-<16 hex>.wal and the NUL */
#define FILES_MAX 65536U
#define FRAME_HEAD_BYTES 8U
#define RECORD_BYTES_MAX (1U << 30)
#define SECTOR_BYTES 512U
#define TEXT_BYTES_MAX 4096U
#define PATH_BYTES 4096U
#define LOOK_BYTES (256U << 10)

enum record_type {
    RECORD_METADATA = 1,
    RECORD_ENTRY = 2,
    RECORD_STATE = 3,
    RECORD_CRC = 4,
    RECORD_SNAPSHOT = 5,
};

struct file_name {
    uint64_t seq, index;
};

struct reading {
    struct etcd_wal *wal;
    struct disk *disk;
    const char *dir;
    raft_index after;
    struct buf *why;
    struct file_name *names; /* owned; by seq */
    uint32_t count, capacity;
    enum status names_status;
    /* of the file being read */
    struct disk_file *file;
    char name[NAME_BYTES];
    uint64_t size, offset;
    bool is_last;
    uint32_t crc;
    struct buf record;
};

struct record {
    uint64_t type;
    uint32_t crc;
    struct slice data;
};

static enum status say(struct buf *text, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status say(struct buf *text, enum status st, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    enum status said = buf_printf(text, "%s", line);
    (void)said; /* the status is what counts */
    return st;
}

/* ---- names ---- */

static bool parse_name(const char *name, struct file_name *out)
{
    char again[NAME_BYTES];
    if (strlen(name) != NAME_BYTES - 1 ||
        sscanf(name, "%16" SCNx64 "-%16" SCNx64 ".wal", &out->seq, &out->index) != 2)
        return false;
    snprintf(again, sizeof(again), "%016" PRIx64 "-%016" PRIx64 ".wal", out->seq, out->index);
    return strcmp(name, again) == 0;
}

static void note_name(void *context, const char *name)
{
    struct reading *r = context;
    struct file_name found;
    if (!parse_name(name, &found) || r->names_status != ST_OK)
        return;
    if (r->count == r->capacity) {
        uint32_t capacity = max_u32(16, r->capacity * 2);
        struct file_name *grown =
            capacity > FILES_MAX ? NULL : realloc(r->names, capacity * sizeof(*grown));
        if (grown == NULL) {
            r->names_status = ST_NO_MEMORY;
            return;
        }
        r->names = grown;
        r->capacity = capacity;
    }
    r->names[r->count++] = found;
}

static int compare_names(const void *a, const void *b)
{
    const struct file_name *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static enum status list_files(struct reading *r)
{
    enum status st = disk_list(r->disk, r->dir, note_name, r);
    if (st == ST_OK)
        st = r->names_status;
    if (st != ST_OK)
        return say(r->why, st, "cannot list the log directory '%s': %s", r->dir, status_str(st));
    if (r->count == 0)
        return say(r->why, ST_NOT_FOUND, "there is no log of etcd's in '%s'", r->dir);
    qsort(r->names, r->count, sizeof(*r->names), compare_names);
    return ST_OK;
}

/* ---- verdicts ---- */

static enum status damaged(struct reading *r, const char *what)
{
    return say(&r->wal->text, ST_CORRUPT, "the log file '%s/%s' is damaged at byte %" PRIu64 ": %s",
               r->dir, r->name, r->offset, what);
}

/* The end of the log, if the last file may end so; ST_NOT_FOUND ends reading. */
static enum status torn_or_damaged(struct reading *r, bool may_be_torn, const char *what)
{
    if (!r->is_last || !may_be_torn)
        return damaged(r, what);
    r->wal->torn_tail = true;
    return say(&r->wal->text, ST_NOT_FOUND,
               "the log file '%s/%s' ends in a torn record at byte %" PRIu64
               " (%s); etcd would cut it there",
               r->dir, r->name, r->offset, what);
}

/* Whether a whole sector of the record was never written. */
static bool has_zero_sector(const struct reading *r, struct slice record)
{
    uint64_t at = r->offset + FRAME_HEAD_BYTES;
    while (record.len > 0) {
        size_t len = min_size((size_t)(SECTOR_BYTES - at % SECTOR_BYTES), record.len);
        bool zeros = true;
        for (size_t i = 0; i < len && zeros; i++)
            zeros = record.data[i] == 0;
        if (zeros)
            return true;
        record = slice_make(record.data + len, record.len - len);
        at += len;
    }
    return false;
}

/* ---- records ---- */

static enum status decode_record(struct slice bytes, struct record *out)
{
    *out = (struct record){0};
    while (bytes.len > 0) {
        struct wire_field field;
        if (wire_next(&bytes, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.number == 1 && field.type == WIRE_VARINT)
            out->type = field.value;
        else if (field.number == 2 && field.type == WIRE_VARINT)
            out->crc = (uint32_t)field.value;
        else if (field.number == 3 && field.type == WIRE_BYTES)
            out->data = field.bytes;
        else if (field.number <= 3)
            return ST_CORRUPT;
    }
    return ST_OK;
}

/* Up to four numbers of a flat message, and the bytes of field 4; others are passed over. */
static enum status decode_numbers(struct slice bytes, uint64_t out[4], struct slice *data_out)
{
    memset(out, 0, 4 * sizeof(out[0]));
    *data_out = SLICE_EMPTY;
    while (bytes.len > 0) {
        struct wire_field field;
        if (wire_next(&bytes, &field) != ST_OK)
            return ST_CORRUPT;
        if (field.type == WIRE_VARINT && field.number >= 1 && field.number <= 4)
            out[field.number - 1] = field.value;
        else if (field.type == WIRE_BYTES && field.number == 4)
            *data_out = field.bytes;
    }
    return ST_OK;
}

/* An entry takes the place of those that were read at its index and above: they were never
 * committed. */
static enum status take_entry(struct reading *r, struct slice bytes)
{
    struct etcd_wal *wal = r->wal;
    uint64_t numbers[4];
    struct slice data;
    if (decode_numbers(bytes, numbers, &data) != ST_OK || numbers[2] == 0 || numbers[0] > 2)
        return damaged(r, "its entry does not decode");
    raft_index index = numbers[2];
    if (index <= r->after)
        return ST_OK;
    if (wal->entries_count > 0 && (index > wal->last_index + 1 || index < wal->first_index))
        return damaged(r, "its entry does not follow the one before");
    if (wal->entries_count == 0)
        wal->first_index = index;
    while (wal->first_index + wal->entries_count > index)
        raft_payload_unref(wal->entries[--wal->entries_count].payload);
    if (wal->entries_count == wal->entries_capacity) {
        uint32_t capacity = max_u32(1024, wal->entries_capacity * 2);
        struct raft_entry *grown = reallocarray(wal->entries, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        wal->entries = grown;
        wal->entries_capacity = capacity;
    }
    struct raft_payload *payload = data.len > 0 ? raft_payload_copy(data) : NULL;
    if (payload == NULL && data.len > 0)
        return ST_NO_MEMORY;
    wal->entries[wal->entries_count++] =
        (struct raft_entry){.term = numbers[1],
                            .index = index,
                            .type = (enum raft_entry_type)numbers[0],
                            .payload = payload};
    wal->last_index = index;
    return ST_OK;
}

static enum status take_snapshot(struct reading *r, const uint64_t numbers[4])
{
    struct etcd_wal *wal = r->wal;
    if (wal->snapshots_count == ETCD_WAL_SNAPSHOTS_MAX) {
        wal->snapshots_count--;
        memmove(wal->snapshots, wal->snapshots + 1,
                wal->snapshots_count * sizeof(wal->snapshots[0]));
    }
    wal->snapshots[wal->snapshots_count++] =
        (struct raft_log_id){.index = numbers[0], .term = numbers[1]};
    return ST_OK;
}

static enum status take_metadata(struct reading *r, const uint64_t numbers[4])
{
    struct etcd_wal *wal = r->wal;
    bool is_first = wal->node_id == 0 && wal->cluster_id == 0;
    if (!is_first && (wal->node_id != numbers[0] || wal->cluster_id != numbers[1]))
        return damaged(r, "it belongs to another member than the records before");
    wal->node_id = numbers[0];
    wal->cluster_id = numbers[1];
    return ST_OK;
}

static enum status take(struct reading *r, const struct record *record)
{
    uint64_t numbers[4];
    struct slice unused;
    if (record->type == RECORD_ENTRY)
        return take_entry(r, record->data);
    if (record->type == RECORD_CRC)
        return ST_OK;
    if (decode_numbers(record->data, numbers, &unused) != ST_OK)
        return damaged(r, "its record does not decode");
    switch (record->type) {
    case RECORD_METADATA:
        return take_metadata(r, numbers);
    case RECORD_STATE:
        r->wal->hard_state =
            (struct raft_hard_state){.term = numbers[0], .vote = numbers[1], .commit = numbers[2]};
        return ST_OK;
    case RECORD_SNAPSHOT:
        return take_snapshot(r, numbers);
    default:
        return damaged(r, "its record is of an unknown type");
    }
}

/* A record of type 4 says what the checksum is; any other is checked by it. */
static bool checks(struct reading *r, const struct record *record)
{
    if (record->type == RECORD_CRC) {
        bool fits = r->crc == 0 || r->crc == record->crc;
        r->crc = record->crc;
        return fits;
    }
    uint32_t crc = crc32c(r->crc, record->data);
    if (crc != record->crc)
        return false;
    r->crc = crc;
    return true;
}

/* ---- files ---- */

static enum status read_bytes(struct reading *r, uint64_t offset, uint8_t *out, size_t len)
{
    size_t got = 0;
    enum status st = disk_read(r->file, offset, out, len, &got);
    if (st != ST_OK || got < len)
        return say(r->why, ST_IO, "cannot read '%s/%s' at byte %" PRIu64 ": %s", r->dir, r->name,
                   offset, st == ST_OK ? "it has become shorter" : status_str(st));
    return ST_OK;
}

/* A length of 0 ends a file, whatever follows; but what follows was written once, so a length may
 * have been lost. */
static enum status end_file(struct reading *r)
{
    uint8_t *room;
    for (uint64_t at = r->offset; at < r->size; at += LOOK_BYTES) {
        size_t len = (size_t)min_u64(LOOK_BYTES, r->size - at);
        buf_reset(&r->record);
        enum status st = buf_extend(&r->record, len, &room);
        if (st == ST_OK)
            st = read_bytes(r, at, room, len);
        if (st != ST_OK)
            return st;
        for (size_t i = 0; i < len; i++) {
            if (room[i] != 0)
                return torn_or_damaged(r, true, "its length is 0, but bytes follow");
        }
    }
    return ST_NOT_FOUND;
}

/* ST_NOT_FOUND: the file has no more records. */
static enum status read_record(struct reading *r)
{
    uint64_t left = r->size - r->offset;
    uint8_t head[FRAME_HEAD_BYTES], *room;
    if (left == 0)
        return ST_NOT_FOUND;
    if (left < sizeof(head))
        return torn_or_damaged(r, true, "the file ends within a length");
    enum status st = read_bytes(r, r->offset, head, sizeof(head));
    if (st != ST_OK)
        return st;
    uint64_t field = get_le64(head), len = field & 0x00ffffffffffffffU;
    uint64_t pad = field >> 63 ? field >> 56 & 7 : 0;
    if (field == 0)
        return end_file(r);
    if (len + pad > left - sizeof(head))
        return torn_or_damaged(r, true, "the file ends within it");
    if (len > RECORD_BYTES_MAX)
        return damaged(r, "its length is beyond any limit");
    buf_reset(&r->record);
    st = len > 0 ? buf_extend(&r->record, (size_t)len, &room) : ST_OK;
    if (st == ST_OK && len > 0)
        st = read_bytes(r, r->offset + sizeof(head), room, (size_t)len);
    if (st != ST_OK)
        return st;
    struct slice bytes = buf_slice(&r->record);
    struct record record;
    if (decode_record(bytes, &record) != ST_OK)
        return torn_or_damaged(r, has_zero_sector(r, bytes), "it does not decode");
    uint32_t crc = r->crc;
    if (!checks(r, &record)) {
        r->crc = crc;
        return torn_or_damaged(r, has_zero_sector(r, bytes), "its checksum does not match");
    }
    st = take(r, &record);
    r->offset += sizeof(head) + len + pad;
    return st;
}

static enum status read_file(struct reading *r, const struct file_name *name)
{
    char path[PATH_BYTES];
    snprintf(r->name, sizeof(r->name), "%016" PRIx64 "-%016" PRIx64 ".wal", name->seq, name->index);
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", r->dir, r->name) >= sizeof(path))
        return say(r->why, ST_INVALID, "the path of the log directory '%s' is too long", r->dir);
    enum status st = disk_open(r->disk, path, DISK_READ_ONLY, &r->file);
    if (st == ST_OK)
        st = disk_size(r->file, &r->size);
    if (st != ST_OK)
        return say(r->why, st, "cannot open '%s': %s", path, status_str(st));
    r->offset = 0;
    r->wal->files_count++;
    while (st == ST_OK)
        st = read_record(r);
    disk_close(r->file);
    r->file = NULL;
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status read_files(struct reading *r)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < r->count && st == ST_OK; i++) {
        r->is_last = i + 1 == r->count;
        if (i > 0 && r->names[i].seq != r->names[i - 1].seq + 1)
            return say(&r->wal->text, ST_CORRUPT,
                       "the log in '%s' is damaged: between the files %016" PRIx64
                       " and %016" PRIx64 " one is missing",
                       r->dir, r->names[i - 1].seq, r->names[i].seq);
        st = read_file(r, &r->names[i]);
    }
    return st;
}

enum status etcd_wal_read(struct disk *disk, const char *dir, raft_index after,
                          struct etcd_wal *out, struct buf *why)
{
    *out = (struct etcd_wal){.first_index = after + 1, .last_index = after};
    buf_init(&out->text, TEXT_BYTES_MAX);
    struct reading r = {.wal = out, .disk = disk, .dir = dir, .after = after, .why = why};
    buf_init(&r.record, RECORD_BYTES_MAX);
    enum status st = list_files(&r);
    if (st == ST_OK)
        st = read_files(&r);
    if (st == ST_CORRUPT) {
        out->verdict = ST_CORRUPT;
        st = ST_OK;
    }
    buf_deinit(&r.record);
    free(r.names);
    return st;
}

void etcd_wal_deinit(struct etcd_wal *wal)
{
    for (uint32_t i = 0; i < wal->entries_count; i++)
        raft_payload_unref(wal->entries[i].payload);
    free(wal->entries);
    buf_deinit(&wal->text);
    *wal = (struct etcd_wal){0};
}

struct raft_log_id etcd_wal_snapshot(const struct etcd_wal *wal)
{
    struct raft_log_id newest = {0};
    for (uint32_t i = 0; i < wal->snapshots_count; i++) {
        if (wal->snapshots[i].index <= wal->hard_state.commit &&
            wal->snapshots[i].index >= newest.index)
            newest = wal->snapshots[i];
    }
    return newest;
}
