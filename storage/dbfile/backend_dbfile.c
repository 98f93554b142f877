#include "storage/dbfile/backend_dbfile.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/list.h"
#include "storage/backend_private.h"
#include "storage/dbfile/conf_json.h"
#include "storage/dbfile/meta_keys.h"
#include "storage/dbfile/reader.h"
#include "storage/dbfile/tree.h"

#include <stdlib.h>

struct dbfile_backend {
    struct backend base;
    struct disk_file *file; /* owned */
    struct dbfile_pages pages;
    struct dbfile_tree trees[BUCKETS_COUNT];
    struct buf inline_bytes[BUCKETS_COUNT]; /* of trees within a bucket's value */
    struct store_mark mark;                 /* conf_state in the buffer */
    struct buf conf_state;
    const struct backend_watch *watch; /* borrowed, or NULL */
};

struct dbfile_snapshot {
    struct backend_snapshot base;
    struct dbfile_walk *walks[BUCKETS_COUNT]; /* of get; made when first needed */
};

struct dbfile_cursor {
    struct backend_cursor base;
    enum bucket bucket;
    struct dbfile_walk walk;
};

static struct dbfile_backend *dbfile_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct dbfile_backend, base);
}

/* What stands for our mark is not shown. */
static bool is_hidden(enum bucket bucket, struct slice key)
{
    return bucket == BUCKET_META && (slice_eq(key, META_INDEX) || slice_eq(key, META_TERM) ||
                                     slice_eq(key, META_CONF_STATE));
}

/* ---- snapshots: the file does not change, so all are the same ---- */

static enum status snapshot_open(struct backend *backend, struct backend_snapshot **out)
{
    *out = NULL;
    struct dbfile_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL)
        return ST_NO_MEMORY;
    snapshot->base.backend = backend;
    *out = &snapshot->base;
    return ST_OK;
}

static void snapshot_close(struct backend_snapshot *base)
{
    if (base == NULL)
        return;
    struct dbfile_snapshot *snapshot = CONTAINER_OF(base, struct dbfile_snapshot, base);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        if (snapshot->walks[bucket] != NULL)
            dbfile_walk_deinit(snapshot->walks[bucket]);
        free(snapshot->walks[bucket]);
    }
    free(snapshot);
}

static enum status snapshot_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                                struct slice *value_out)
{
    struct dbfile_snapshot *snapshot = CONTAINER_OF(base, struct dbfile_snapshot, base);
    struct dbfile_backend *dbfile = dbfile_of(base->backend);
    if (key.len == 0 || is_hidden(bucket, key))
        return ST_NOT_FOUND;
    if (snapshot->walks[bucket] == NULL) {
        snapshot->walks[bucket] = malloc(sizeof(struct dbfile_walk));
        if (snapshot->walks[bucket] == NULL)
            return ST_NO_MEMORY;
        dbfile_walk_init(snapshot->walks[bucket], &dbfile->pages, &dbfile->trees[bucket]);
    }
    struct slice found;
    enum status st = dbfile_walk_seek(snapshot->walks[bucket], key, &found, value_out);
    return st == ST_OK && !slice_eq(found, key) ? ST_NOT_FOUND : st;
}

/* ---- cursors ---- */

static enum status cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
                               struct backend_cursor **out)
{
    *out = NULL;
    struct dbfile_cursor *cursor = malloc(sizeof(*cursor));
    if (cursor == NULL)
        return ST_NO_MEMORY;
    struct dbfile_backend *dbfile = dbfile_of(snapshot->backend);
    cursor->base.snapshot = snapshot;
    cursor->bucket = bucket;
    dbfile_walk_init(&cursor->walk, &dbfile->pages, &dbfile->trees[bucket]);
    *out = &cursor->base;
    return ST_OK;
}

static void cursor_close(struct backend_cursor *base)
{
    if (base == NULL)
        return;
    struct dbfile_cursor *cursor = CONTAINER_OF(base, struct dbfile_cursor, base);
    dbfile_walk_deinit(&cursor->walk);
    free(cursor);
}

static enum status skip_hidden(struct dbfile_cursor *cursor, enum status st, struct slice *key_out,
                               struct slice *value_out)
{
    while (st == ST_OK && is_hidden(cursor->bucket, *key_out))
        st = dbfile_walk_next(&cursor->walk, key_out, value_out);
    return st;
}

static enum status cursor_seek(struct backend_cursor *base, struct slice key, struct slice *key_out,
                               struct slice *value_out)
{
    struct dbfile_cursor *cursor = CONTAINER_OF(base, struct dbfile_cursor, base);
    enum status st = dbfile_walk_seek(&cursor->walk, key, key_out, value_out);
    return skip_hidden(cursor, st, key_out, value_out);
}

static enum status cursor_next(struct backend_cursor *base, struct slice *key_out,
                               struct slice *value_out)
{
    struct dbfile_cursor *cursor = CONTAINER_OF(base, struct dbfile_cursor, base);
    enum status st = dbfile_walk_next(&cursor->walk, key_out, value_out);
    return skip_hidden(cursor, st, key_out, value_out);
}

/* Bucket meta ends in what is hidden: there the last one shown is looked for from the front. */
static enum status last_shown(struct dbfile_cursor *cursor, struct slice *key_out,
                              struct slice *value_out)
{
    struct buf last;
    buf_init(&last, DBFILE_KEY_BYTES_MAX);
    enum status st = cursor_seek(&cursor->base, SLICE_EMPTY, key_out, value_out);
    while (st == ST_OK) {
        buf_reset(&last);
        st = buf_append(&last, *key_out);
        if (st == ST_OK)
            st = cursor_next(&cursor->base, key_out, value_out);
    }
    if (st == ST_NOT_FOUND && last.len > 0)
        st = dbfile_walk_seek(&cursor->walk, buf_slice(&last), key_out, value_out);
    buf_deinit(&last);
    return st;
}

static enum status cursor_last(struct backend_cursor *base, struct slice *key_out,
                               struct slice *value_out)
{
    struct dbfile_cursor *cursor = CONTAINER_OF(base, struct dbfile_cursor, base);
    if (cursor->bucket == BUCKET_META)
        return last_shown(cursor, key_out, value_out);
    return dbfile_walk_last(&cursor->walk, key_out, value_out);
}

/* ---- what a backend that is only read does not do ---- */

static enum status refuse_apply(struct backend *backend, const struct backend_op *ops, size_t count)
{
    (void)backend, (void)ops, (void)count;
    return ST_UNSUPPORTED;
}

static enum status refuse_commit(struct backend *backend, const struct store_mark *mark, bool full,
                                 uint64_t *durable_out)
{
    (void)mark, (void)full;
    *durable_out = dbfile_of(backend)->mark.index;
    return ST_UNSUPPORTED;
}

static void abort_nothing(struct backend *backend)
{
    (void)backend;
}

static enum status refuse_remove(const char *path)
{
    (void)path;
    return ST_UNSUPPORTED;
}

/* ---- figures ---- */

static enum status dbfile_mark(struct backend *backend, struct store_mark *out,
                               struct buf *conf_state)
{
    const struct dbfile_backend *dbfile = dbfile_of(backend);
    size_t start = conf_state->len;
    *out = dbfile->mark;
    enum status st = buf_append(conf_state, buf_slice(&dbfile->conf_state));
    if (st == ST_OK)
        out->conf_state = slice_make(conf_state->data + start, conf_state->len - start);
    return st;
}

static enum status dbfile_stat(struct backend *backend, struct backend_stat *out)
{
    const struct dbfile_meta *meta = &dbfile_of(backend)->pages.meta;
    uint64_t size_bytes = meta->pages_count * meta->page_bytes;
    /* Which pages are free only a walk over all of them would tell. */
    *out = (struct backend_stat){.size_bytes = size_bytes, .in_use_bytes = size_bytes};
    return ST_OK;
}

static enum status dbfile_check(struct backend *backend, struct buf *report)
{
    struct dbfile_reader *reader;
    struct dbfile_item item;
    enum status st = dbfile_reader_open(dbfile_of(backend)->file, report, &reader);
    if (st != ST_OK)
        return st;
    while (st == ST_OK) {
        struct dbfile_info info = dbfile_reader_info(reader);
        backend_watch_tell(dbfile_of(backend)->watch, info.visited_pages_count * info.page_bytes,
                           info.size_bytes);
        st = dbfile_reader_next(reader, &item);
    }
    dbfile_reader_close(reader);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* ---- opening ---- */

static enum status note_bucket(struct dbfile_backend *dbfile, struct slice name, struct slice value,
                               uint64_t page)
{
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        if (!slice_eq(name, slice_from_str(backend_bucket_name(bucket))))
            continue;
        struct dbfile_tree *tree = &dbfile->trees[bucket];
        enum status st = dbfile_tree_of_bucket(value, page, tree);
        if (st == ST_CORRUPT)
            return dbfile_fail(&dbfile->pages, st, "bucket '%s' has no sound head",
                               backend_bucket_name(bucket));
        st = buf_append(&dbfile->inline_bytes[bucket], tree->bytes);
        tree->bytes = buf_slice(&dbfile->inline_bytes[bucket]);
        return st;
    }
    return ST_OK; /* not one of etcd's that we know; nothing in it is looked for */
}

static enum status find_buckets(struct dbfile_backend *dbfile)
{
    const struct dbfile_tree root = {
        .exists = true, .root = dbfile->pages.meta.root, .holds_buckets = true};
    struct dbfile_walk *walk = malloc(sizeof(*walk));
    if (walk == NULL)
        return ST_NO_MEMORY;
    dbfile_walk_init(walk, &dbfile->pages, &root);
    struct slice name, value;
    enum status st = root.root == 0 ? dbfile_fail(&dbfile->pages, ST_CORRUPT, "has no root")
                                    : dbfile_walk_seek(walk, SLICE_EMPTY, &name, &value);
    while (st == ST_OK) {
        st = note_bucket(dbfile, name, value, walk->levels[walk->depth - 1].page);
        if (st == ST_OK)
            st = dbfile_walk_next(walk, &name, &value);
    }
    dbfile_walk_deinit(walk);
    free(walk);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status take_number(struct dbfile_backend *dbfile, const char *name, struct slice value,
                               uint64_t *out)
{
    if (value.len != 8)
        return dbfile_fail(&dbfile->pages, ST_CORRUPT, "bucket 'meta': '%s' has %zu bytes, not 8",
                           name, value.len);
    *out = get_be64(value.data);
    return ST_OK;
}

static enum status take_meta(struct dbfile_backend *dbfile, struct slice key, struct slice value)
{
    if (slice_eq(key, META_INDEX))
        return take_number(dbfile, "consistent_index", value, &dbfile->mark.index);
    if (slice_eq(key, META_TERM))
        return take_number(dbfile, "term", value, &dbfile->mark.term);
    if (!slice_eq(key, META_CONF_STATE))
        return ST_OK;
    enum status st = dbfile_conf_from_json(value, &dbfile->conf_state);
    if (st == ST_OK || st == ST_NO_MEMORY)
        return st;
    return dbfile_fail(&dbfile->pages, ST_CORRUPT,
                       "bucket 'meta': 'confState' is no configuration");
}

static enum status find_mark(struct dbfile_backend *dbfile)
{
    struct dbfile_walk *walk = malloc(sizeof(*walk));
    if (walk == NULL)
        return ST_NO_MEMORY;
    dbfile_walk_init(walk, &dbfile->pages, &dbfile->trees[BUCKET_META]);
    struct slice key, value;
    enum status st = dbfile_walk_seek(walk, SLICE_EMPTY, &key, &value);
    while (st == ST_OK) {
        st = take_meta(dbfile, key, value);
        if (st == ST_OK)
            st = dbfile_walk_next(walk, &key, &value);
    }
    dbfile_walk_deinit(walk);
    free(walk);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static void dbfile_close(struct backend *backend)
{
    if (backend == NULL)
        return;
    struct dbfile_backend *dbfile = dbfile_of(backend);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
        buf_deinit(&dbfile->inline_bytes[bucket]);
    buf_deinit(&dbfile->conf_state);
    disk_close(dbfile->file);
    free(dbfile);
}

static enum status open_file(struct dbfile_backend *dbfile, const struct backend_options *options)
{
    enum status st = disk_open(options->disk, options->path, DISK_READ_ONLY, &dbfile->file);
    if (st != ST_OK)
        return open_fails(options, st, "cannot be opened: %s", status_str(st));
    st = dbfile_pages_open(dbfile->file, options->why, &dbfile->pages);
    if (st == ST_OK)
        st = find_buckets(dbfile);
    if (st == ST_OK)
        st = find_mark(dbfile);
    dbfile->pages.why = NULL; /* from here on check() has the words */
    return st;
}

static enum status dbfile_open(const struct backend_options *options, struct backend **out)
{
    *out = NULL;
    ASSERT(options->read_only);
    ASSERT(options->disk != NULL);
    struct dbfile_backend *dbfile = calloc(1, sizeof(*dbfile));
    if (dbfile == NULL)
        return ST_NO_MEMORY;
    dbfile->base.ops = backend_dbfile();
    dbfile->watch = options->watch;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
        buf_init(&dbfile->inline_bytes[bucket], DBFILE_VALUE_BYTES_MAX);
    buf_init(&dbfile->conf_state, DBFILE_META_VALUE_BYTES_MAX);
    enum status st = open_file(dbfile, options);
    if (st != ST_OK) {
        dbfile_close(&dbfile->base);
        return st;
    }
    *out = &dbfile->base;
    return ST_OK;
}

const struct backend_ops *backend_dbfile(void)
{
    static const struct backend_ops ops = {
        .name = "dbfile",
        .suffix = ".db",
        .values_are_stable = false,
        .open = dbfile_open,
        .close = dbfile_close,
        .apply = refuse_apply,
        .commit = refuse_commit,
        .abort = abort_nothing,
        .mark = dbfile_mark,
        .snapshot_open = snapshot_open,
        .snapshot_close = snapshot_close,
        .get = snapshot_get,
        .cursor_open = cursor_open,
        .cursor_seek = cursor_seek,
        .cursor_next = cursor_next,
        .cursor_last = cursor_last,
        .cursor_close = cursor_close,
        .stat = dbfile_stat,
        .check = dbfile_check,
        .remove = refuse_remove,
    };
    return &ops;
}
