#include "storage/dbfile/loader.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "storage/backend_private.h"
#include "storage/dbfile/conf_json.h"
#include "storage/dbfile/limits.h"
#include "storage/dbfile/meta_keys.h"
#include "storage/dbfile/reader.h"
#include "storage/index.h"
#include "storage/mvcc.h"

#include <inttypes.h>
#include <stdarg.h>

struct dbfile_loader {
    struct dbfile_load_options options;
    char *path; /* of the store; owned */
    struct dbfile_reader *reader;
    struct backend *target;
    enum bucket bucket;   /* being read */
    struct revision last; /* newest so far */
    size_t uncommitted_bytes;
    uint64_t loaded_bytes;
    bool has_term;         /* the file names one */
    struct buf conf_state; /* the file's */
    struct dbfile_loaded result;
    bool done;
};

static enum status fail(struct dbfile_loader *loader, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status fail(struct dbfile_loader *loader, enum status st, const char *format, ...)
{
    ASSERT(st != ST_OK);
    if (loader->options.target.why == NULL)
        return st;
    char line[DBFILE_WHY_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    enum status said = buf_printf(loader->options.target.why, "%s", line);
    (void)said; /* the status is what counts */
    return st;
}

static enum status target_fails(struct dbfile_loader *loader, enum status st)
{
    return fail(loader, st, "store '%s': cannot be filled: %s", loader->path, status_str(st));
}

/* ---- opening ---- */

/* Nothing may be at the path: a store is made, never added to. */
static enum status open_target(struct dbfile_loader *loader)
{
    const struct backend_ops *ops = loader->options.backend;
    struct backend_options options = loader->options.target;
    options.create = false;
    options.why = NULL;
    enum status st = ops->open(&options, &loader->target);
    if (st == ST_NOT_FOUND)
        return ops->open(&loader->options.target, &loader->target);
    if (st == ST_OK) {
        ops->close(loader->target);
        loader->target = NULL;
    }
    st = st == ST_NO_MEMORY || st == ST_IO ? st : ST_EXISTS;
    return fail(loader, st, "store '%s': %s", loader->path, status_str(st));
}

enum status dbfile_loader_open(const struct dbfile_load_options *options,
                               struct dbfile_loader **out)
{
    ASSERT(options->target.create);
    *out = NULL;
    struct dbfile_loader *loader = calloc(1, sizeof(*loader));
    if (loader == NULL)
        return ST_NO_MEMORY;
    loader->options = *options;
    loader->result.compact_revision = -1;
    loader->last = (struct revision){-1, -1};
    buf_init(&loader->conf_state, DBFILE_META_VALUE_BYTES_MAX);
    loader->path = strdup(options->target.path);
    enum status st = loader->path == NULL ? ST_NO_MEMORY : ST_OK;
    if (st == ST_OK)
        st = dbfile_reader_open(options->file, options->target.why, &loader->reader);
    if (st == ST_OK)
        st = open_target(loader);
    if (st != ST_OK) {
        dbfile_loader_close(loader);
        return st;
    }
    loader->result.size_bytes = dbfile_reader_info(loader->reader).size_bytes;
    *out = loader;
    return ST_OK;
}

void dbfile_loader_close(struct dbfile_loader *loader)
{
    if (loader == NULL)
        return;
    if (loader->target != NULL)
        loader->options.backend->close(loader->target);
    dbfile_reader_close(loader->reader);
    buf_deinit(&loader->conf_state);
    free(loader->path);
    free(loader);
}

struct dbfile_loaded dbfile_loader_result(const struct dbfile_loader *loader)
{
    ASSERT(loader->done);
    return loader->result;
}

uint64_t dbfile_loader_loaded_bytes(const struct dbfile_loader *loader)
{
    return loader->loaded_bytes;
}

/* ---- records ---- */

static enum status find_bucket(struct slice name, enum bucket *out)
{
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        if (slice_eq(name, slice_from_str(backend_bucket_name(bucket)))) {
            *out = bucket;
            return ST_OK;
        }
    }
    return ST_NOT_FOUND;
}

static enum status put(struct dbfile_loader *loader, enum backend_op_kind kind,
                       const struct dbfile_item *item)
{
    struct backend_op op = {
        .kind = kind, .bucket = loader->bucket, .key = item->key, .value = item->value};
    enum status st = loader->options.backend->apply(loader->target, &op, 1);
    if (st != ST_OK)
        return target_fails(loader, st);
    loader->uncommitted_bytes += item->key.len + item->value.len;
    loader->loaded_bytes += item->key.len + item->value.len;
    return ST_OK;
}

static enum status load_revision(struct dbfile_loader *loader, const struct dbfile_item *item)
{
    struct revision revision;
    bool tombstone;
    if (revision_key_decode(item->key, &revision, &tombstone) != ST_OK)
        return fail(loader, ST_CORRUPT,
                    "db file: bucket 'key' has a key of %zu bytes behind revision %" PRId64
                    " that is no revision",
                    item->key.len, loader->last.main);
    struct mvcc_kv kv;
    if (revision_cmp(loader->last, revision) >= 0 || revision.main > INDEX_MAIN_MAX ||
        revision.sub > INDEX_SUB_MAX ||
        mvcc_record_decode(item->value, revision, tombstone, &kv) != ST_OK)
        return fail(loader, ST_CORRUPT,
                    "db file: revision %" PRId64 ".%" PRId64 " holds no record of that revision",
                    revision.main, revision.sub);
    loader->last = revision;
    return put(loader, BACKEND_APPEND, item);
}

static enum status load_compact_revision(struct dbfile_loader *loader,
                                         const struct dbfile_item *item)
{
    struct revision revision;
    bool tombstone;
    if (revision_key_decode(item->value, &revision, &tombstone) != ST_OK || tombstone ||
        revision.main > INDEX_MAIN_MAX)
        return fail(loader, ST_CORRUPT, "db file: bucket 'meta': '%.*s' is no revision",
                    (int)item->key.len, (const char *)item->key.data);
    loader->result.compact_revision = max_i64(loader->result.compact_revision, revision.main);
    return put(loader, BACKEND_PUT, item);
}

static enum status load_number(struct dbfile_loader *loader, const struct dbfile_item *item,
                               uint64_t *out)
{
    if (item->value.len != 8)
        return fail(loader, ST_CORRUPT, "db file: bucket 'meta': '%.*s' has %zu bytes, not 8",
                    (int)item->key.len, (const char *)item->key.data, item->value.len);
    *out = get_be64(item->value.data);
    return ST_OK;
}

/* The mark's records become the mark; it is their only form in our stores. */
static enum status load_meta(struct dbfile_loader *loader, const struct dbfile_item *item)
{
    if (slice_eq(item->key, META_INDEX))
        return load_number(loader, item, &loader->result.mark.index);
    if (slice_eq(item->key, META_TERM)) {
        enum status st = load_number(loader, item, &loader->result.mark.term);
        loader->has_term = loader->result.mark.term > 0;
        return st;
    }
    if (slice_eq(item->key, META_CONF_STATE)) {
        enum status st = dbfile_conf_from_json(item->value, &loader->conf_state);
        if (st == ST_NO_MEMORY)
            return st;
        return st == ST_OK ? ST_OK
                           : fail(loader, ST_CORRUPT,
                                  "db file: bucket 'meta': 'confState' is no configuration");
    }
    if (slice_eq(item->key, META_SCHEDULED) || slice_eq(item->key, META_FINISHED))
        return load_compact_revision(loader, item);
    return put(loader, BACKEND_PUT, item);
}

static enum status load_item(struct dbfile_loader *loader, const struct dbfile_item *item)
{
    if (item->kind == DBFILE_ITEM_BUCKET) {
        if (find_bucket(item->key, &loader->bucket) != ST_OK)
            return fail(loader, ST_UNSUPPORTED, "db file: bucket '%.*s' is not one of etcd's",
                        (int)min_size(item->key.len, 64), (const char *)item->key.data);
        return ST_OK;
    }
    loader->result.records_count++;
    if (loader->bucket == BUCKET_KEY)
        return load_revision(loader, item);
    if (loader->bucket == BUCKET_META)
        return load_meta(loader, item);
    return put(loader, BACKEND_PUT, item);
}

/* ---- the end ---- */

static enum status decide_mark(struct dbfile_loader *loader)
{
    struct store_mark *mark = &loader->result.mark;
    const struct store_mark *expected = loader->options.expected;
    mark->conf_state = buf_slice(&loader->conf_state);
    if (expected == NULL)
        return ST_OK;
    if (mark->index != expected->index || (loader->has_term && mark->term != expected->term))
        return fail(loader, ST_INVALID,
                    "db file: stands at entry %" PRIu64 " of term %" PRIu64 ", not at %" PRIu64
                    " of term %" PRIu64,
                    mark->index, mark->term, expected->index, expected->term);
    *mark = *expected;
    return ST_OK;
}

static enum status finish(struct dbfile_loader *loader)
{
    enum status st = decide_mark(loader);
    if (st != ST_OK)
        return st;
    struct dbfile_loaded *result = &loader->result;
    result->revision = max_i64(max_i64(loader->last.main, result->compact_revision), 1);
    const struct backend_ops *ops = loader->options.backend;
    uint64_t durable;
    st = ops->commit(loader->target, result->mark.index > 0 ? &result->mark : NULL,
                     /* full= */ true, &durable);
    if (st == ST_OK) {
        ops->close(loader->target);
        loader->target = NULL;
        st = sync_parent(loader->path);
    }
    loader->done = st == ST_OK;
    return st == ST_OK ? ST_OK : target_fails(loader, st);
}

/* Ends a transaction that has grown large, so that no library holds all of it in memory. */
static enum status commit_some(struct dbfile_loader *loader)
{
    if (loader->uncommitted_bytes < DBFILE_LOAD_COMMIT_BYTES)
        return ST_OK;
    loader->uncommitted_bytes = 0;
    const struct backend_ops *ops = loader->options.backend;
    uint64_t durable;
    bool reopen; /* no snapshot is open */
    enum status st = ops->commit(loader->target, NULL, /* full= */ false, &durable);
    if (st == ST_OK && ops->upkeep != NULL)
        st = ops->upkeep(loader->target, &reopen);
    return st == ST_OK ? ST_OK : target_fails(loader, st);
}

enum status dbfile_loader_step(struct dbfile_loader *loader, bool *done_out)
{
    ASSERT(!loader->done);
    *done_out = false;
    size_t bytes = 0;
    enum status st = ST_OK;
    while (st == ST_OK && bytes < DBFILE_LOAD_STEP_BYTES) {
        struct dbfile_item item;
        st = dbfile_reader_next(loader->reader, &item);
        if (st == ST_NOT_FOUND) {
            st = finish(loader);
            *done_out = st == ST_OK;
            return st;
        }
        if (st == ST_OK) {
            bytes += DBFILE_LOAD_ITEM_BYTES + item.key.len + item.value.len;
            st = load_item(loader, &item);
        }
    }
    return st == ST_OK ? commit_some(loader) : st;
}
