/* storage/dbfile/pin_source.h - a pinned moment of the state machine as the records of a db file:
 * all revisions up to the pin's, the pin's copies of the small buckets, and the mark as etcd keeps
 * it in its bucket meta (consistent_index, term, confState).
 *
 * Revisions are read through views, each held for a bounded number of records. */
#ifndef STORAGE_DBFILE_PIN_SOURCE_H
#define STORAGE_DBFILE_PIN_SOURCE_H
#include "base/buf.h"
#include "storage/dbfile/writer.h"
#include "storage/store.h"

struct dbfile_pin_options {
    struct store *store;         /* borrowed */
    struct lock *lock;           /* borrowed; the store's */
    uint32_t reader;             /* slot of the thread that will step the writer */
    const struct store_pin *pin; /* borrowed */
    int64_t revision; /* current one when the pin was taken (mvcc_revisions() by apply) */
};

struct dbfile_pin_source {
    struct dbfile_pin_options options;
    uint8_t index[8], term[8]; /* as bucket meta has them */
    struct buf conf_state;     /* JSON */
};

/* Errors: ST_CORRUPT (the mark's configuration), ST_NO_MEMORY. The source must be deinited also
 * then. */
CHECKED enum status dbfile_pin_source_init(struct dbfile_pin_source *source,
                                           const struct dbfile_pin_options *options);
void dbfile_pin_source_deinit(struct dbfile_pin_source *source);
/* For dbfile_writer_new(). Its read gives ST_BUSY as long as store_is_settled() is false. */
struct dbfile_source dbfile_pin_source(struct dbfile_pin_source *source);
#endif
