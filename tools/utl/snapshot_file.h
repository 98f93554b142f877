/* tools/utl/snapshot_file.h - a state machine that nothing changes any more, written as etcd's db
 * file: what `snapshot save` downloads, and what etcd's own tools take. */
#ifndef TOOLS_UTL_SNAPSHOT_FILE_H
#define TOOLS_UTL_SNAPSHOT_FILE_H
#include "base/buf.h"
#include "base/status.h"
#include "storage/dbfile/pin_source.h"
#include "storage/mvcc.h"
#include "storage/store.h"

struct progress;

/* A moment of a state machine as the records of a db file. */
struct state_records {
    struct store *store; /* borrowed */
    struct store_pin *pin;
    struct dbfile_pin_source pinned;
    struct dbfile_source source; /* what to read */
};

/* lock is the store's; reader one of its slots, which nobody else uses. Errors: ST_NO_MEMORY,
 * ST_IO, ST_CORRUPT. state_records_deinit() in every case. */
CHECKED enum status state_records_init(struct state_records *records, struct store *store,
                                       struct mvcc *mvcc, struct lock *lock, uint32_t reader);
void state_records_deinit(struct state_records *records);

struct snapshot_file_options {
    const char *path;          /* must not exist; written as <path>.part, which is replaced */
    bool with_digest;          /* a snapshot has its SHA-256 behind it, a member's db has none */
    struct progress *progress; /* NULL: none. Begun by the caller */
};

/* Durable on return; *bytes_out is the size of the file. After an error there is no file of either
 * name. Errors, with a sentence in why: ST_EXISTS, ST_NO_SPACE, ST_IO, and the source's. */
CHECKED enum status snapshot_file_write(const struct snapshot_file_options *options,
                                        const struct dbfile_source *source, struct buf *why,
                                        uint64_t *bytes_out);
#endif
