/* storage/dbfile/reader.h - reads etcd's db file and believes nothing: every id, offset, size and
 * order is checked before it is used, and no page is used twice. bbolt has no checksums but the
 * metas'; what passes is well formed, not surely what was written.
 *
 * Memory: a page for each level of two trees, the largest record, and a bit for each page of the
 * file. One thread at a time. Nothing here logs. */
#ifndef STORAGE_DBFILE_READER_H
#define STORAGE_DBFILE_READER_H
#include "base/buf.h"
#include "base/disk.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct dbfile_reader;

/* Opens a db file; bytes behind its pages (a digest, room to grow) do not matter. file is borrowed
 * until the reader is closed; opened without DISK_DIRECT. why: NULL, or gets a sentence about what
 * is wrong, here and in dbfile_reader_next(); borrowed likewise. Errors: ST_CORRUPT (foreign or
 * damaged), ST_UNSUPPORTED (another version), ST_TOO_BIG, ST_NO_MEMORY, ST_IO. */
CHECKED enum status dbfile_reader_open(struct disk_file *file, struct buf *why,
                                       struct dbfile_reader **out);
void dbfile_reader_close(struct dbfile_reader *reader); /* NULL is fine */

enum dbfile_item_kind {
    DBFILE_ITEM_BUCKET, /* begins a bucket; key is its name */
    DBFILE_ITEM_RECORD, /* of the newest bucket */
};
struct dbfile_item {
    enum dbfile_item_kind kind;
    struct slice key, value; /* borrowed until the next call */
};

/* The next bucket or record: buckets in order of their names, records in key order. ST_NOT_FOUND at
 * the end; only then is the whole file known to be sound. Reads at most one path of pages. Errors:
 * ST_CORRUPT, ST_TOO_BIG (a record above 1 GiB), ST_NO_MEMORY, ST_IO; the reader is of no use after
 * any. */
CHECKED enum status dbfile_reader_next(struct dbfile_reader *reader, struct dbfile_item *out);

struct dbfile_info {
    uint32_t page_bytes;
    uint64_t size_bytes; /* of its pages: what a file sent between members has exactly */
    uint64_t transaction;
    uint32_t
        valid_metas_count; /* 1: the other is damaged or was being written; what counts then may
                              be the transaction before the last. A file made as a whole has 2 */
    uint64_t visited_pages_count; /* so far, the metas included; at the end, the others are free */
};
struct dbfile_info dbfile_reader_info(const struct dbfile_reader *reader);

/* Whether a file of this size ends in a digest: etcdutl goes by that alone. */
bool dbfile_size_has_digest(uint64_t size_bytes);
/* Compares the SHA-256 that a snapshot file carries behind its pages. ST_NOT_FOUND: it has none.
 * Reads the whole file. Errors: ST_CORRUPT (it differs; *why
 * says so), ST_NO_MEMORY, ST_UNSUPPORTED, ST_IO. */
CHECKED enum status dbfile_check_digest(struct disk_file *file, struct buf *why);
#endif
