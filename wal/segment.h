/* wal/segment.h - one segment file and reading batches out of it. */
#ifndef WAL_SEGMENT_H
#define WAL_SEGMENT_H
#include "base/disk.h"
#include "base/inbox.h"
#include "base/list.h"
#include "wal/format.h"

#define WAL_NAME_BYTES 40U

/* Owned by the writer while in its list, by the preparer while being prepared or recycled; it
 * travels between them by inbox. */
struct wal_segment {
    struct inbox_node node;
    struct list_node link;
    struct disk_file *file; /* owned, open for reading and writing */
    uint64_t seq, seed;
    uint64_t bytes;        /* written and synced: where batches may go */
    raft_index last_index; /* the highest ever written here, 0: none. Writer only */
    uint32_t readers;      /* under the log's lock: not recycled while above 0 */
    char name[WAL_NAME_BYTES];
};

struct wal_segment *wal_segment_new(void);          /* NULL without memory */
void wal_segment_free(struct wal_segment *segment); /* closes the file; NULL is fine */

enum wal_name_kind {
    WAL_NAME_SEGMENT,
    WAL_NAME_SPARE,
    WAL_NAME_PART,
    WAL_NAME_FOREIGN,
    WAL_NAME_OTHER
};
void wal_name_segment(char name[WAL_NAME_BYTES], uint64_t seq);
void wal_name_spare(char name[WAL_NAME_BYTES], uint64_t number);
void wal_name_part(char name[WAL_NAME_BYTES],
                   uint64_t number); /* a spare not yet written through */
/* FOREIGN: another program's log. *number_out is set for the first three. */
enum wal_name_kind wal_name_parse(const char *name, uint64_t *number_out);

/* Reads a segment front to back in large pieces. Views are borrowed until the next call. */
struct wal_reader {
    const struct wal_segment *segment; /* borrowed */
    uint64_t file_bytes;
    uint8_t *bytes; /* owned */
    size_t capacity, len;
    uint64_t offset; /* of bytes[0] */
};

void wal_reader_init(struct wal_reader *reader);
void wal_reader_deinit(struct wal_reader *reader);
/* Starts on a segment (its file's whole length is readable). Errors: ST_IO. */
CHECKED enum status wal_reader_open(struct wal_reader *reader, const struct wal_segment *segment);
/* Errors: ST_TRUNCATED (the file ends before), ST_NO_MEMORY, ST_IO. */
CHECKED enum status wal_reader_view(struct wal_reader *reader, uint64_t offset, size_t len,
                                    struct slice *out);
/* The batch at offset, checked but for its place in the chain. Errors: ST_CORRUPT (none, or a bad
 * one; *header_out is then set if at least its header is sound, else its len is 0), ST_NO_MEMORY,
 * ST_IO. */
CHECKED enum status wal_reader_batch(struct wal_reader *reader, uint64_t offset,
                                     struct wal_batch_header *header_out,
                                     struct slice *records_out);
/* Whether a sound header of this segment stands at offset: evidence of a later batch. */
CHECKED enum status wal_reader_header(struct wal_reader *reader, uint64_t offset,
                                      struct wal_batch_header *header_out);
#endif
