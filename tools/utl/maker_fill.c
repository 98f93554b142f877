#include "base/assert.h"
#include "base/minmax.h"
#include "storage/dbfile/loader.h"
#include "storage/dbfile/meta_keys.h"
#include "storage/index.h"
#include "tools/utl/maker_private.h"
#include "tools/utl/progress.h"

#include <inttypes.h>
#include <stdio.h>

/* A transaction that has grown so large is committed: no library holds more than that in memory. */
#define COMMIT_BYTES (16U << 20)
#define ITEM_BYTES 64U /* counted for each record besides its bytes */
#define MEMBER_KEY_BYTES 17U
#define OLD_KEYS_BYTES_MAX (64U << 20) /* of members that a file lists; one takes 17 */

static struct backend_options store_options(const struct maker *maker, const char *path)
{
    return (struct backend_options){.path = path,
                                    .life_id = maker->life_id,
                                    .map_bytes_max = MAKER_MAP_BYTES_MAX,
                                    .why = maker->why};
}

static enum status store_fails(const struct maker *maker, enum status st)
{
    char path[PATH_MAX];
    maker_store_path(maker, path);
    return maker_fail(maker->why, st, "store '%s' cannot be filled: %s", path, status_str(st));
}

/* ---- from a db file ---- */

static enum status open_filled(struct maker *maker)
{
    char path[PATH_MAX];
    maker_store_path(maker, path);
    struct backend_options options = store_options(maker, path);
    return maker->ops->open(&options, &maker->store);
}

enum status maker_load(struct maker *maker, struct disk_file *file)
{
    ASSERT(maker->store == NULL);
    char path[PATH_MAX];
    maker_store_path(maker, path);
    struct dbfile_load_options options = {
        .file = file, .backend = maker->ops, .target = store_options(maker, path)};
    options.target.create = options.target.bulk = true;
    struct dbfile_loader *loader;
    enum status st = dbfile_loader_open(&options, &loader);
    for (bool done = false; st == ST_OK && !done;) {
        st = dbfile_loader_step(loader, &done);
        if (st == ST_OK)
            progress_at(maker->options.progress, dbfile_loader_loaded_bytes(loader));
    }
    if (st == ST_OK) {
        struct dbfile_loaded loaded = dbfile_loader_result(loader);
        maker->content = (struct maker_content){.revision = loaded.revision,
                                                .compact_revision = loaded.compact_revision,
                                                .mark = {loaded.mark.index, loaded.mark.term}};
    }
    dbfile_loader_close(loader);
    if (st == ST_OK)
        st = open_filled(maker);
    return maker_explain(maker->why, st, maker->options.data_dir);
}

/* ---- from records ---- */

struct copying {
    struct maker *maker;
    enum bucket bucket;
    struct buf last_key; /* what the next read goes on behind */
    uint64_t bytes, uncommitted_bytes;
    int64_t last_main;
};

static bool is_of_mark(const struct copying *c, struct slice key)
{
    return c->bucket == BUCKET_META && (slice_eq(key, META_INDEX) || slice_eq(key, META_TERM) ||
                                        slice_eq(key, META_CONF_STATE));
}

/* The newest revision and the newest compaction, noted in passing. */
static enum status note_revision(struct copying *c, struct slice key, struct slice value)
{
    bool is_compaction =
        c->bucket == BUCKET_META && (slice_eq(key, META_SCHEDULED) || slice_eq(key, META_FINISHED));
    if (c->bucket != BUCKET_KEY && !is_compaction)
        return ST_OK;
    struct revision revision;
    bool tombstone;
    enum status st = revision_key_decode(is_compaction ? value : key, &revision, &tombstone);
    if (st != ST_OK)
        return st;
    struct maker_content *content = &c->maker->content;
    if (is_compaction)
        content->compact_revision = max_i64(content->compact_revision, revision.main);
    else
        c->last_main = revision.main;
    return ST_OK;
}

static enum status copy_record(void *context, struct slice key, struct slice value)
{
    struct copying *c = context;
    buf_reset(&c->last_key);
    enum status st = buf_append(&c->last_key, key);
    if (st == ST_OK)
        st = note_revision(c, key, value);
    if (st != ST_OK || is_of_mark(c, key))
        return st;
    struct backend_op op = {.kind = c->bucket == BUCKET_KEY ? BACKEND_APPEND : BACKEND_PUT,
                            .bucket = c->bucket,
                            .key = key,
                            .value = value};
    c->bytes += key.len + value.len;
    c->uncommitted_bytes += ITEM_BYTES + key.len + value.len;
    return c->maker->ops->apply(c->maker->store, &op, 1);
}

static enum status commit_some(struct copying *c, bool all)
{
    struct maker *maker = c->maker;
    if (!all && c->uncommitted_bytes < COMMIT_BYTES)
        return ST_OK;
    c->uncommitted_bytes = 0;
    uint64_t durable;
    bool reopen; /* no snapshot is open */
    enum status st = maker->ops->commit(maker->store, NULL, all, &durable);
    if (st == ST_OK && maker->ops->upkeep != NULL)
        st = maker->ops->upkeep(maker->store, &reopen);
    return st;
}

static enum status copy_bucket(struct copying *c, const struct dbfile_source *source)
{
    enum status st = ST_OK;
    struct buf after;
    buf_init(&after, BACKEND_KEY_BYTES_MAX);
    buf_reset(&c->last_key);
    for (bool end = false; st == ST_OK && !end;) {
        buf_reset(&after);
        st = buf_append(&after, buf_slice(&c->last_key));
        if (st == ST_OK)
            st = source->read(source->context, c->bucket, buf_slice(&after), copy_record, c, &end);
        if (st == ST_OK)
            st = commit_some(c, /* all= */ false);
        progress_at(c->maker->options.progress, c->bytes);
    }
    buf_deinit(&after);
    return st;
}

enum status maker_copy(struct maker *maker, const struct dbfile_source *source)
{
    ASSERT(maker->store == NULL);
    char path[PATH_MAX];
    maker_store_path(maker, path);
    struct backend_options options = store_options(maker, path);
    options.create = options.bulk = true;
    enum status st = maker->ops->open(&options, &maker->store);
    if (st != ST_OK)
        return maker_explain(maker->why, st, maker->options.data_dir);
    maker->content.compact_revision = -1;
    struct copying c = {.maker = maker};
    buf_init(&c.last_key, BACKEND_KEY_BYTES_MAX);
    for (c.bucket = 0; c.bucket < BUCKETS_COUNT && st == ST_OK; c.bucket++)
        st = copy_bucket(&c, source);
    if (st == ST_OK)
        st = commit_some(&c, /* all= */ true);
    buf_deinit(&c.last_key);
    maker->content.revision = max_i64(max_i64(c.last_main, maker->content.compact_revision), 1);
    if (st != ST_OK)
        return store_fails(maker, st);
    maker->ops->close(maker->store);
    maker->store = NULL;
    return maker_explain(maker->why, open_filled(maker), maker->options.data_dir);
}

/* ---- changes to what was filled in ---- */

static enum status apply(struct maker *maker, enum backend_op_kind kind, enum bucket bucket,
                         struct slice key, struct slice value)
{
    struct backend_op op = {.kind = kind, .bucket = bucket, .key = key, .value = value};
    return maker->ops->apply(maker->store, &op, 1);
}

/* The keys of a bucket one behind the other, each behind its length. */
static enum status collect_keys(struct maker *maker, struct backend_snapshot *snapshot,
                                enum bucket bucket, struct buf *out)
{
    const struct backend_ops *ops = maker->ops;
    struct backend_cursor *cursor;
    struct slice key, value;
    enum status st = ops->cursor_open(snapshot, bucket, &cursor);
    if (st != ST_OK)
        return st;
    st = ops->cursor_seek(cursor, SLICE_EMPTY, &key, &value);
    while (st == ST_OK) {
        uint32_t len = (uint32_t)key.len;
        st = buf_append(out, slice_make(&len, sizeof(len)));
        if (st == ST_OK)
            st = buf_append(out, key);
        if (st == ST_OK)
            st = ops->cursor_next(cursor, &key, &value);
    }
    ops->cursor_close(cursor);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status empty_bucket(struct maker *maker, enum bucket bucket)
{
    struct buf keys;
    struct backend_snapshot *snapshot;
    buf_init(&keys, OLD_KEYS_BYTES_MAX);
    enum status st = maker->ops->snapshot_open(maker->store, &snapshot);
    if (st == ST_OK) {
        st = collect_keys(maker, snapshot, bucket, &keys);
        maker->ops->snapshot_close(snapshot);
    }
    for (size_t at = 0; st == ST_OK && at < keys.len;) {
        uint32_t len;
        memcpy(&len, keys.data + at, sizeof(len));
        at += sizeof(len);
        st = apply(maker, BACKEND_DELETE, bucket, slice_make(keys.data + at, len), SLICE_EMPTY);
        at += len;
    }
    buf_deinit(&keys);
    return st;
}

static enum status put_id(struct maker *maker, enum bucket bucket, raft_id id, struct slice value)
{
    char key[MEMBER_KEY_BYTES];
    int len = snprintf(key, sizeof(key), "%" PRIx64, id);
    return apply(maker, BACKEND_PUT, bucket, slice_make(key, (size_t)len), value);
}

static enum status put_member(struct maker *maker, const struct member_row *row)
{
    struct buf json;
    buf_init(&json, UINT32_MAX);
    enum status st = member_json_encode(row, &json);
    if (st == ST_OK)
        st = put_id(maker, BUCKET_MEMBERS, row->id, buf_slice(&json));
    buf_deinit(&json);
    return st;
}

/* Not sure of a power cut until maker_finish(), which commits again. */
static enum status commit(struct maker *maker)
{
    uint64_t durable;
    return maker->ops->commit(maker->store, NULL, /* full= */ true, &durable);
}

enum status maker_set_members(struct maker *maker, const struct member_row *rows, uint32_t count,
                              const raft_id *removed, uint32_t removed_count)
{
    enum status st = empty_bucket(maker, BUCKET_MEMBERS);
    if (st == ST_OK)
        st = empty_bucket(maker, BUCKET_MEMBERS_REMOVED);
    for (uint32_t i = 0; i < count && st == ST_OK; i++)
        st = put_member(maker, &rows[i]);
    for (uint32_t i = 0; i < removed_count && st == ST_OK; i++)
        st = put_id(maker, BUCKET_MEMBERS_REMOVED, removed[i], SLICE("removed"));
    if (st == ST_OK)
        st = commit(maker);
    return st == ST_OK ? ST_OK : store_fails(maker, st);
}

enum status maker_raise_revision(struct maker *maker, uint64_t amount, int64_t *revision_out)
{
    /* Revision 1 is the empty store's: no record has it, and etcdutl counts from 0 there. */
    int64_t latest = maker->content.revision == 1 ? 0 : maker->content.revision;
    if (amount > (uint64_t)(INDEX_MAIN_MAX - latest))
        return maker_fail(maker->why, ST_INVALID,
                          "a revision of %" PRId64 " cannot be raised by %" PRIu64
                          ": the largest there can be is %" PRId64,
                          latest, amount, (int64_t)INDEX_MAIN_MAX);
    struct revision raised = {.main = latest + (int64_t)amount};
    uint8_t key[TOMBSTONE_KEY_BYTES];
    struct slice bytes = slice_make(key, revision_key_encode(raised, /* tombstone= */ false, key));
    enum status st = apply(maker, BACKEND_APPEND, BUCKET_KEY, bytes, SLICE_EMPTY);
    if (st == ST_OK)
        st = apply(maker, BACKEND_PUT, BUCKET_META, META_SCHEDULED, bytes);
    if (st == ST_OK)
        st = commit(maker);
    if (st != ST_OK)
        return store_fails(maker, st);
    maker->content.revision = maker->content.compact_revision = raised.main;
    *revision_out = raised.main;
    return ST_OK;
}
