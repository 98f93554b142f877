#include "base/minmax.h"
#include "server/loops/snapshots.h"

enum status pinned_file_take(struct pinned_file *file, struct loops *loops, uint32_t reader)
{
    const struct loops_options *options = &loops->options;
    int64_t compact;
    *file = (struct pinned_file){.loops = loops};
    enum status st = store_pin(options->store, &file->pin);
    if (st != ST_OK)
        return st;
    mvcc_revisions(options->mvcc, &file->revision, &compact);
    const struct dbfile_pin_options pinned = {.store = options->store,
                                              .lock = options->snapshots.store->lock,
                                              .reader = reader,
                                              .pin = file->pin,
                                              .revision = file->revision};
    st = dbfile_pin_source_init(&file->records, &pinned);
    if (st != ST_OK)
        return st;
    struct dbfile_source records = dbfile_pin_source(&file->records);
    return dbfile_writer_new(&records, DBFILE_PAGE_BYTES, &file->writer);
}

void pinned_file_free(struct pinned_file *file)
{
    dbfile_writer_free(file->writer);
    if (file->pin == NULL)
        return;
    dbfile_pin_source_deinit(&file->records);
    store_unpin(file->loops->options.store, file->pin);
}

enum status pinned_file_read(struct pinned_file *file, size_t bytes_max, struct slice *out)
{
    *out = SLICE_EMPTY;
    while (file->pending.len == 0) {
        enum status st = dbfile_writer_next(file->writer, &file->pending);
        if (st != ST_OK) {
            file->pending = SLICE_EMPTY;
            return st == ST_NOT_FOUND ? ST_OK : st;
        }
    }
    size_t len = min_size(bytes_max, file->pending.len);
    *out = slice_make(file->pending.data, len);
    file->pending = slice_make(file->pending.data + len, file->pending.len - len);
    return ST_OK;
}
