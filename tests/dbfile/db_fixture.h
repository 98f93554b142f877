/* tests/dbfile/db_fixture.h - records in memory as the source of a db file, and what to compare it
 * with. Every failure ends the test. */
#ifndef TESTS_DBFILE_DB_FIXTURE_H
#define TESTS_DBFILE_DB_FIXTURE_H
#include "base/buf.h"
#include "base/rng.h"
#include "storage/dbfile/reader.h"
#include "storage/dbfile/writer.h"
#include "tests/fakes/fake_disk.h"

struct db_record {
    struct slice key, value; /* owned by the model */
};

struct db_model {
    struct db_record *records[BUCKETS_COUNT]; /* in key order */
    size_t count[BUCKETS_COUNT];
    size_t share; /* records given in one read; 0: no limit */
    bool busy;    /* every other read gives ST_BUSY first */
    uint32_t reads_count;
};

void db_model_deinit(struct db_model *model);
/* Adds a record above the bucket's last one; the bytes are copied. */
void db_model_add(struct db_model *model, enum bucket bucket, struct slice key, struct slice value);
/* Adds count records of increasing keys with the given sizes. */
void db_model_fill(struct db_model *model, enum bucket bucket, size_t count, size_t key_bytes,
                   size_t value_bytes);
/* A bit of everything, from a seed. */
void db_model_random(struct db_model *model, struct rng *rng, size_t records_max);
struct dbfile_source db_model_source(struct db_model *model);

/* Writes the whole file into out, which the caller has initialised; checks the promised size. */
void db_write(const struct dbfile_source *source, uint32_t page_bytes, struct buf *out);
/* The file's records are the model's. */
void db_expect(struct slice file, const struct db_model *model);

/* A file in a disk of its own. */
struct db_open {
    struct fake_disk *disk;
    struct disk_file *file;
    struct buf why;
    uint64_t visited_pages_count; /* by db_read() */
};
void db_open(struct db_open *open, struct slice bytes);
void db_open_deinit(struct db_open *open);
/* Reads all there is; counts what it gives. */
enum status db_read(struct db_open *open, uint64_t *items_out);
#endif
