/* storage/dbfile/writer.h - writes etcd's db file as a stream, front to back, from records in key
 * order. Two passes over the source: the first only counts, since the head of the file names the
 * root and the protocols want the size before the first byte; the second gives the bytes. Pages are
 * numbered in the order in which they become full, a branch right after the last page below it, so
 * that both passes hold one page for each level of a tree and nothing else.
 *
 * Work comes in bounded steps, done by whoever calls; not calling is the back-pressure. One thread
 * at a time. Nothing here logs. */
#ifndef STORAGE_DBFILE_WRITER_H
#define STORAGE_DBFILE_WRITER_H
#include "base/slice.h"
#include "base/status.h"
#include "storage/backend.h"

#include <stdbool.h>
#include <stdint.h>

/* Takes one record, borrowed for the call. ST_BUSY: it was taken, and the reading shall end here;
 * any other status than ST_OK: it was not. */
typedef enum status (*dbfile_record_fn)(void *context, struct slice key, struct slice value);

/* Where the records come from. A call stands for itself, so that it can use a read transaction of
 * its own, however long ago the last one was. */
struct dbfile_source {
    /* Gives fn the records of bucket whose keys are above `after` (empty: all) in key order, a
     * bounded number of them; *end_out: there are no more. Stops at the first status of fn other
     * than ST_OK and returns it; *end_out is then false. Must give the same records in both passes.
     * Errors: its own; ST_BUSY: it cannot read now and gave nothing. */
    enum status (*read)(void *context, enum bucket bucket, struct slice after, dbfile_record_fn fn,
                        void *fn_context, bool *end_out);
    void *context;
};

struct dbfile_writer;

/* The source is copied, its context borrowed until the writer is freed. page_bytes: a power of two,
 * 512 to 65536; DBFILE_PAGE_BYTES is etcd's. Errors: ST_NO_MEMORY. */
CHECKED enum status dbfile_writer_new(const struct dbfile_source *source, uint32_t page_bytes,
                                      struct dbfile_writer **out);
void dbfile_writer_free(struct dbfile_writer *writer); /* NULL is fine */

/* A step of the first pass; *done_out: it was the last. Errors: the source's, ST_NO_MEMORY,
 * ST_INVALID (keys out of order, or what no db file can hold), ST_TOO_BIG (the whole). After
 * ST_BUSY, the source's, the step is to be done again later; after any other error of a step the
 * writer is of no use. */
CHECKED enum status dbfile_writer_measure(struct dbfile_writer *writer, bool *done_out);
/* The size of the file in bytes. After the first pass. */
uint64_t dbfile_writer_size(const struct dbfile_writer *writer);
/* A step of the second pass: the next bytes of the file, borrowed until the next call; they may be
 * none. ST_NOT_FOUND: all were given. Errors: as above; ST_INVALID also when the source does not
 * give what it gave before: what was given out is then of no use. */
CHECKED enum status dbfile_writer_next(struct dbfile_writer *writer, struct slice *bytes_out);
#endif
