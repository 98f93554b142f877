#include "storage/dbfile/pin_source.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/lock.h"
#include "storage/dbfile/conf_json.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/meta_keys.h"

enum status dbfile_pin_source_init(struct dbfile_pin_source *source,
                                   const struct dbfile_pin_options *options)
{
    *source = (struct dbfile_pin_source){.options = *options};
    buf_init(&source->conf_state, DBFILE_META_VALUE_BYTES_MAX);
    struct store_mark mark = store_pin_mark(options->pin);
    put_be64(source->index, mark.index);
    put_be64(source->term, mark.term);
    return dbfile_conf_to_json(mark.conf_state, &source->conf_state);
}

void dbfile_pin_source_deinit(struct dbfile_pin_source *source)
{
    buf_deinit(&source->conf_state);
}

/* One call of read. */
struct reading {
    struct slice after;
    dbfile_record_fn fn;
    void *fn_context;
    uint32_t records_count;
    size_t bytes;
    bool paused; /* the call has given its share */
};

/* Gives one record unless the call has given its share. */
static enum status give(struct reading *reading, struct slice key, struct slice value)
{
    if (reading->records_count >= DBFILE_STEP_RECORDS || reading->bytes >= DBFILE_STEP_BYTES) {
        reading->paused = true;
        return ST_BUSY;
    }
    reading->records_count++;
    reading->bytes += key.len + value.len;
    return reading->fn(reading->fn_context, key, value);
}

/* ---- revisions ---- */

struct revisions {
    struct reading reading;
    int64_t last_main; /* the pin's */
    bool passed;       /* everything up to it was given */
};

static enum status give_revision(void *context, struct revision revision, bool tombstone,
                                 struct slice record)
{
    struct revisions *r = context;
    if (revision.main > r->last_main) {
        r->passed = true;
        return ST_BUSY;
    }
    uint8_t key[TOMBSTONE_KEY_BYTES];
    size_t size = revision_key_encode(revision, tombstone, key);
    return give(&r->reading, slice_make(key, size), record);
}

static enum status read_revisions(struct dbfile_pin_source *source, const struct reading *reading,
                                  bool *end_out)
{
    const struct dbfile_pin_options *options = &source->options;
    struct revisions r = {.reading = *reading, .last_main = options->revision};
    struct revision from = {0, 0};
    if (reading->after.len > 0) {
        bool tombstone;
        enum status st = revision_key_decode(reading->after, &from, &tombstone);
        ASSERT(st == ST_OK); /* it is one of ours */
        from.sub++;
    }
    lock_acquire(options->lock);
    struct store_view *view = NULL;
    if (store_pin_is_current(options->store, options->pin))
        view = store_view_acquire(options->store, options->reader);
    lock_release(options->lock);
    if (view == NULL)
        return ST_COMPACTED;
    enum status st = store_view_each(view, from, give_revision, &r);
    store_view_release(view);
    *end_out = st == ST_OK || r.passed;
    return r.passed || r.reading.paused ? ST_OK : st;
}

/* ---- small buckets ---- */

static enum status give_small(void *context, struct slice key, struct slice value)
{
    struct reading *reading = context;
    return slice_cmp(key, reading->after) > 0 ? give(reading, key, value) : ST_OK;
}

static enum status read_small(const struct dbfile_pin_source *source, struct reading *reading,
                              enum bucket bucket, bool *end_out)
{
    enum status st = store_pin_each(source->options.pin, bucket, give_small, reading);
    *end_out = st == ST_OK;
    return reading->paused ? ST_OK : st;
}

/* ---- meta: the store's own records, and the mark among them ---- */

#define MARK_RECORDS_COUNT 3U

struct meta_merge {
    struct reading *reading;
    struct {
        struct slice key, value;
    } mark[MARK_RECORDS_COUNT]; /* in key order */
    size_t next;                /* of mark */
};

/* The mark's records below key; an empty key: all that are left. */
static enum status give_mark_below(struct meta_merge *merge, struct slice key)
{
    enum status st = ST_OK;
    while (st == ST_OK && merge->next < MARK_RECORDS_COUNT &&
           (key.len == 0 || slice_cmp(merge->mark[merge->next].key, key) < 0)) {
        st = give_small(merge->reading, merge->mark[merge->next].key,
                        merge->mark[merge->next].value);
        merge->next++;
    }
    return st;
}

static enum status merge_meta(void *context, struct slice key, struct slice value)
{
    struct meta_merge *merge = context;
    enum status st = give_mark_below(merge, key);
    return st == ST_OK ? give_small(merge->reading, key, value) : st;
}

static enum status read_meta(const struct dbfile_pin_source *source, struct reading *reading,
                             bool *end_out)
{
    struct meta_merge merge = {
        .reading = reading,
        .mark = {{META_CONF_STATE, buf_slice(&source->conf_state)},
                 {META_INDEX, slice_make(source->index, sizeof(source->index))},
                 {META_TERM, slice_make(source->term, sizeof(source->term))}},
    };
    enum status st = store_pin_each(source->options.pin, BUCKET_META, merge_meta, &merge);
    if (st == ST_OK)
        st = give_mark_below(&merge, SLICE_EMPTY);
    *end_out = st == ST_OK;
    return reading->paused ? ST_OK : st;
}

static enum status read_bucket(void *context, enum bucket bucket, struct slice after,
                               dbfile_record_fn fn, void *fn_context, bool *end_out)
{
    struct dbfile_pin_source *source = context;
    struct reading reading = {.after = after, .fn = fn, .fn_context = fn_context};
    *end_out = false;
    if (!store_is_settled(source->options.store))
        return ST_BUSY;
    if (bucket == BUCKET_KEY)
        return read_revisions(source, &reading, end_out);
    if (bucket == BUCKET_META)
        return read_meta(source, &reading, end_out);
    return read_small(source, &reading, bucket, end_out);
}

struct dbfile_source dbfile_pin_source(struct dbfile_pin_source *source)
{
    return (struct dbfile_source){.read = read_bucket, .context = source};
}
