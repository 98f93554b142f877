#include "wal/segment.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "wal/limits.h"

#include <inttypes.h>

#define NAME_DIGITS 16U

struct wal_segment *wal_segment_new(void)
{
    struct wal_segment *segment = calloc(1, sizeof(*segment));
    if (segment != NULL)
        list_init(&segment->link);
    return segment;
}

void wal_segment_free(struct wal_segment *segment)
{
    if (segment == NULL)
        return;
    disk_close(segment->file);
    free(segment);
}

void wal_name_segment(char name[WAL_NAME_BYTES], uint64_t seq)
{
    snprintf(name, WAL_NAME_BYTES, "%016" PRIx64 ".wal", seq);
}

void wal_name_spare(char name[WAL_NAME_BYTES], uint64_t number)
{
    snprintf(name, WAL_NAME_BYTES, "spare-%016" PRIx64 ".wal", number);
}

void wal_name_part(char name[WAL_NAME_BYTES], uint64_t number)
{
    snprintf(name, WAL_NAME_BYTES, "spare-%016" PRIx64 ".part", number);
}

static bool parse_number(const char *text, const char *suffix, uint64_t *out)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < NAME_DIGITS; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9')
            number = number << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = number;
    return strcmp(text + NAME_DIGITS, suffix) == 0;
}

enum wal_name_kind wal_name_parse(const char *name, uint64_t *number_out)
{
    if (parse_number(name, ".wal", number_out))
        return WAL_NAME_SEGMENT;
    if (strncmp(name, "spare-", 6) == 0 && parse_number(name + 6, ".wal", number_out))
        return WAL_NAME_SPARE;
    if (strncmp(name, "spare-", 6) == 0 && parse_number(name + 6, ".part", number_out))
        return WAL_NAME_PART;
    size_t len = strlen(name);
    bool is_log = len > 4 && strcmp(name + len - 4, ".wal") == 0;
    return is_log ? WAL_NAME_FOREIGN : WAL_NAME_OTHER;
}

void wal_reader_init(struct wal_reader *reader)
{
    memset(reader, 0, sizeof(*reader));
}

void wal_reader_deinit(struct wal_reader *reader)
{
    free(reader->bytes);
    memset(reader, 0, sizeof(*reader));
}

enum status wal_reader_open(struct wal_reader *reader, const struct wal_segment *segment)
{
    reader->segment = segment;
    reader->len = 0;
    reader->offset = 0;
    return disk_size(segment->file, &reader->file_bytes);
}

static enum status reserve(struct wal_reader *reader, size_t bytes)
{
    if (bytes <= reader->capacity)
        return ST_OK;
    uint8_t *grown = aligned_alloc(WAL_BLOCK_BYTES, bytes);
    if (grown == NULL)
        return ST_NO_MEMORY;
    free(reader->bytes);
    reader->bytes = grown;
    reader->capacity = bytes;
    reader->len = 0;
    return ST_OK;
}

enum status wal_reader_view(struct wal_reader *reader, uint64_t offset, size_t len,
                            struct slice *out)
{
    ASSERT(offset % WAL_BLOCK_BYTES == 0);
    if (offset > reader->file_bytes || reader->file_bytes - offset < len)
        return ST_TRUNCATED;
    bool held = offset >= reader->offset && offset - reader->offset <= reader->len &&
                reader->len - (offset - reader->offset) >= len;
    if (!held) {
        size_t piece = (size_t)min_u64(WAL_READ_BYTES, reader->file_bytes - offset);
        size_t wanted = (size_t)wal_padded(max_size(len, piece));
        enum status st = reserve(reader, wanted);
        if (st != ST_OK)
            return st;
        reader->len = 0;
        size_t got = 0;
        st = disk_read(reader->segment->file, offset, reader->bytes, wanted, &got);
        if (st != ST_OK)
            return status_is_fatal(st) || st == ST_NO_MEMORY ? st : ST_IO;
        reader->offset = offset;
        reader->len = got;
        if (got < len)
            return ST_TRUNCATED;
    }
    *out = slice_make(reader->bytes + (offset - reader->offset), len);
    return ST_OK;
}

enum status wal_reader_header(struct wal_reader *reader, uint64_t offset,
                              struct wal_batch_header *header_out)
{
    header_out->len = 0;
    struct slice bytes;
    enum status st = wal_reader_view(reader, offset, WAL_BATCH_HEADER_BYTES, &bytes);
    if (st == ST_OK)
        st = wal_batch_header_decode(bytes, reader->segment->seed, header_out);
    if (st == ST_CORRUPT)
        header_out->len = 0;
    return st == ST_TRUNCATED ? ST_CORRUPT : st;
}

enum status wal_reader_batch(struct wal_reader *reader, uint64_t offset,
                             struct wal_batch_header *header_out, struct slice *records_out)
{
    enum status st = wal_reader_header(reader, offset, header_out);
    if (st != ST_OK)
        return st;
    struct slice padded;
    st = wal_reader_view(reader, offset, (size_t)wal_padded(header_out->len), &padded);
    if (st != ST_OK)
        return st == ST_TRUNCATED ? ST_CORRUPT : st;
    st = wal_batch_verify(padded, reader->segment->seed, header_out);
    if (st != ST_OK)
        return st;
    *records_out =
        slice_make(padded.data + WAL_BATCH_HEADER_BYTES, header_out->len - WAL_BATCH_HEADER_BYTES);
    return ST_OK;
}
