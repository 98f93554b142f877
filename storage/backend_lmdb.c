/* The backend on LMDB 0.9: one file per store, one named database per bucket, and
 * PRIVATE_BUCKET_NAME with the header and the mark.
 *
 * Sync policy: MDB_NOMETASYNC. A commit flushes its pages, then writes the page that names them
 * without a flush of its own; a power cut may lose the newest commit, whole, and the flush of the
 * next one makes it sure. MDB_NOSYNC and MDB_MAPASYNC are never used on a store that is a store:
 * they let that page overtake what it names, which corrupted the tree in simulated power cuts. (One
 * that is filled in bulk is none before it is flushed as a whole.) MDB_WRITEMAP is not used either:
 * a stray pointer would reach the file, and a full disk would be a signal.
 *
 * Keys of LONG_KEY_BYTES_MIN bytes and more are stored under a prefix and a hash
 * (backend_private.h), so that LMDB's order is right between stored keys that differ in their first
 * LONG_KEY_HEAD_BYTES bytes and arbitrary between those that do not. A cursor that comes to such a
 * neighbourhood (all stored keys with one prefix of that length) loads and sorts it by whole keys.
 */
#include "storage/backend.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/list.h"
#include "base/minmax.h"
#include "storage/backend_lmdb_pages.h"
#include "storage/backend_lmdb_room.h"
#include "storage/backend_private.h"
#include "storage/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_DBI BUCKETS_COUNT
#define LOOKS_WHILE_SHARED 3    /* before a fault counts that a running writer may explain */
#define FAULTS_BYTES_MAX 65536U /* of a report, REPORT_LINES_MAX lines */

struct lmdb_backend {
    struct backend base;
    MDB_env *env;
    MDB_dbi dbis[BUCKETS_COUNT + 1];
    MDB_txn *txn;                      /* the open write transaction, or NULL */
    char *path;                        /* owned */
    struct lmdb_room room;             /* of the file, for the open transaction */
    struct list_node snapshots;        /* open ones, oldest first */
    const struct backend_watch *watch; /* borrowed, or NULL */
    uint64_t mark_index, durable_index;
    struct buf mark_bytes;                       /* scratch */
    _Atomic uint64_t commits_count, syncs_count; /* relaxed: figures */
};

struct lmdb_snapshot {
    struct backend_snapshot base;
    struct list_node node; /* in snapshots */
    MDB_txn *txn;
};

struct record {
    struct slice key, value; /* in the map: valid as long as the snapshot */
};

struct lmdb_cursor {
    struct backend_cursor base;
    MDB_cursor *cursor;
    /* The neighbourhood being walked; the LMDB cursor then stands on the record behind it. */
    struct record *group;
    size_t group_count, group_capacity, group_at;
    bool behind; /* there is a record behind the group */
    bool placed; /* stands on a record; LMDB would take a next from nowhere as the first */
};

static struct lmdb_backend *lmdb_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct lmdb_backend, base);
}

static enum status status_from_lmdb(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return ST_OK;
    case MDB_NOTFOUND:
        return ST_NOT_FOUND;
    case MDB_MAP_FULL:
    case EFBIG:
        return ST_NO_SPACE;
    case MDB_READERS_FULL: /* snapshots come back; then there is room again */
        return ST_NO_MEMORY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_KEYEXIST: /* of an append: the store is beside the log */
        return ST_CORRUPT;
    case MDB_VERSION_MISMATCH:
        return ST_UNSUPPORTED;
    default:
        return rc > 0 ? status_from_errno(rc) : ST_IO;
    }
}

static MDB_val val_from(struct slice s)
{
    return (MDB_val){.mv_size = s.len, .mv_data = (void *)s.data};
}

static struct slice slice_from(const MDB_val *val)
{
    return slice_make(val->mv_data, val->mv_size);
}

/* ---- writing ---- */

/* Puts head, key and value (either may be empty) with their checksum; stored is the stored key. */
static int put_sealed(struct lmdb_backend *lmdb, MDB_dbi dbi, struct slice stored,
                      struct slice value, unsigned flags)
{
    MDB_val key = val_from(stored), data = {.mv_size = value.len + CHECKSUM_BYTES};
    int rc = mdb_put(lmdb->txn, dbi, &key, &data, flags | MDB_RESERVE);
    if (rc == MDB_SUCCESS)
        value_seal(stored, value, data.mv_data);
    return rc;
}

static int put_long(struct lmdb_backend *lmdb, const struct backend_op *op)
{
    uint8_t stored[LONG_KEY_BYTES_MIN];
    long_key_encode(op->key, stored);
    size_t size = 4 + op->key.len + op->value.len;
    uint8_t *payload = malloc(size);
    if (payload == NULL)
        return ENOMEM;
    put_le32(payload, (uint32_t)op->key.len);
    memcpy(payload + 4, op->key.data, op->key.len);
    if (op->value.len > 0)
        memcpy(payload + 4 + op->key.len, op->value.data, op->value.len);
    int rc = put_sealed(lmdb, lmdb->dbis[op->bucket], slice_make(stored, sizeof(stored)),
                        slice_make(payload, size), 0);
    free(payload);
    return rc;
}

static int delete_key(struct lmdb_backend *lmdb, const struct backend_op *op)
{
    uint8_t stored[LONG_KEY_BYTES_MIN];
    MDB_val key = val_from(op->key);
    if (key_is_long(op->key.len)) {
        long_key_encode(op->key, stored);
        key = (MDB_val){.mv_size = sizeof(stored), .mv_data = stored};
    }
    int rc = mdb_del(lmdb->txn, lmdb->dbis[op->bucket], &key, NULL);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

static enum status apply_one(struct lmdb_backend *lmdb, const struct backend_op *op)
{
    if (!op_is_legal(op))
        return ST_INVALID;
    if (op->kind == BACKEND_DELETE)
        return status_from_lmdb(delete_key(lmdb, op));
    if (key_is_long(op->key.len))
        return status_from_lmdb(put_long(lmdb, op));
    ASSERT(op->kind != BACKEND_APPEND || op->bucket == BUCKET_KEY);
    unsigned flags = op->kind == BACKEND_APPEND ? MDB_APPEND : 0;
    return status_from_lmdb(put_sealed(lmdb, lmdb->dbis[op->bucket], op->key, op->value, flags));
}

static void lmdb_abort(struct backend *backend)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    mdb_txn_abort(lmdb->txn); /* NULL is fine */
    lmdb->txn = NULL;
}

static enum status count_pages(struct lmdb_backend *lmdb, struct lmdb_pages *out)
{
    return lmdb_pages_count(lmdb->txn, lmdb->dbis, BUCKETS_COUNT + 1, out);
}

static enum status begin(struct lmdb_backend *lmdb)
{
    if (lmdb->txn != NULL)
        return ST_OK;
    enum status st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, 0, &lmdb->txn));
    if (st != ST_OK)
        return st;
    struct lmdb_pages pages = {0};
    if (lmdb->dbis[PRIVATE_DBI] != 0) /* else its founding is under way */
        st = count_pages(lmdb, &pages);
    if (st != ST_OK)
        lmdb_abort(&lmdb->base);
    lmdb_room_begin(&lmdb->room, &pages);
    return st;
}

static enum status lmdb_apply(struct backend *backend, const struct backend_op *ops, size_t count)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    enum status st = begin(lmdb);
    for (size_t i = 0; i < count && st == ST_OK; i++)
        st = apply_one(lmdb, &ops[i]);
    for (size_t i = 0; i < count; i++)
        lmdb_room_add(&lmdb->room, &ops[i]);
    if (st != ST_OK)
        lmdb_abort(backend);
    return st;
}

static enum status put_mark(struct lmdb_backend *lmdb, const struct store_mark *mark)
{
    buf_reset(&lmdb->mark_bytes);
    enum status st = mark_encode(mark, &lmdb->mark_bytes);
    if (st != ST_OK)
        return st;
    return status_from_lmdb(
        put_sealed(lmdb, lmdb->dbis[PRIVATE_DBI], MARK_KEY, buf_slice(&lmdb->mark_bytes), 0));
}

static enum status sync_all(struct lmdb_backend *lmdb)
{
    int rc = mdb_env_sync(lmdb->env, /* force= */ 1);
    if (rc != MDB_SUCCESS)
        return ST_IO; /* whatever it says: a sync that failed is not tried again */
    atomic_fetch_add_explicit(&lmdb->syncs_count, 1, memory_order_relaxed);
    lmdb->durable_index = lmdb->mark_index;
    return ST_OK;
}

static enum status reserve_room(struct lmdb_backend *lmdb)
{
    uint64_t oldest = UINT64_MAX;
    if (!list_is_empty(&lmdb->snapshots))
        oldest = mdb_txn_id(CONTAINER_OF(lmdb->snapshots.next, struct lmdb_snapshot, node)->txn);
    struct lmdb_pages pages;
    enum status st = count_pages(lmdb, &pages);
    return st == ST_OK ? lmdb_room_reserve(&lmdb->room, lmdb->txn, &pages, oldest) : st;
}

/* A commit that had its room failed for another reason, and an unsynced page of the transaction
 * before may be lost. */
static enum status status_from_commit(const struct lmdb_backend *lmdb, int rc)
{
    if (rc <= 0 || rc == ENOMEM)
        return status_from_lmdb(rc);
    bool is_full = rc == EIO || rc == ENOSPC || rc == EDQUOT;
    return is_full && lmdb->room.tight ? ST_NO_SPACE : ST_IO;
}

static enum status end_transaction(struct lmdb_backend *lmdb, const struct store_mark *mark)
{
    enum status st = mark == NULL ? ST_OK : put_mark(lmdb, mark);
    if (st == ST_OK)
        st = reserve_room(lmdb);
    if (st != ST_OK) {
        lmdb_abort(&lmdb->base);
        return st;
    }
    int rc = mdb_txn_commit(lmdb->txn);
    lmdb->txn = NULL; /* gone in any case */
    if (rc != MDB_SUCCESS)
        return status_from_commit(lmdb, rc);
    atomic_fetch_add_explicit(&lmdb->commits_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&lmdb->syncs_count, 1, memory_order_relaxed);
    lmdb->durable_index = lmdb->mark_index; /* what this commit's flush made sure of */
    if (mark != NULL)
        lmdb->mark_index = mark->index;
    return ST_OK;
}

static enum status lmdb_commit(struct backend *backend, const struct store_mark *mark, bool full,
                               uint64_t *durable_out)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    enum status st = mark != NULL ? begin(lmdb) : ST_OK;
    if (st == ST_OK && lmdb->txn != NULL)
        st = end_transaction(lmdb, mark);
    if (st == ST_OK && full)
        st = sync_all(lmdb);
    *durable_out = lmdb->durable_index;
    return st;
}

/* ---- reading ---- */

/* Finds a sealed payload by its stored key. */
static enum status get_sealed(MDB_txn *txn, MDB_dbi dbi, struct slice stored, struct slice *out)
{
    MDB_val key = val_from(stored), data;
    int rc = mdb_get(txn, dbi, &key, &data);
    if (rc != MDB_SUCCESS)
        return status_from_lmdb(rc);
    return value_unseal(stored, slice_from(&data), out);
}

static enum status lmdb_mark(struct backend *backend, struct store_mark *out,
                             struct buf *conf_state)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    MDB_txn *txn;
    enum status st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn));
    if (st != ST_OK)
        return st;
    *out = (struct store_mark){0};
    struct slice payload;
    st = get_sealed(txn, lmdb->dbis[PRIVATE_DBI], MARK_KEY, &payload);
    if (st == ST_NOT_FOUND) {
        st = ST_OK; /* a fresh store */
        goto out;
    }
    if (st == ST_OK)
        st = mark_decode(payload, out);
    if (st == ST_OK) {
        size_t start = conf_state->len;
        st = buf_append(conf_state, out->conf_state);
        out->conf_state = slice_make(conf_state->data + start, conf_state->len - start);
    }
out:
    mdb_txn_abort(txn);
    return st;
}

static enum status lmdb_snapshot_open(struct backend *backend, struct backend_snapshot **out)
{
    *out = NULL;
    struct lmdb_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL)
        return ST_NO_MEMORY;
    snapshot->base.backend = backend;
    int rc = mdb_txn_begin(lmdb_of(backend)->env, NULL, MDB_RDONLY, &snapshot->txn);
    if (rc != MDB_SUCCESS) {
        free(snapshot);
        return status_from_lmdb(rc);
    }
    list_push_back(&lmdb_of(backend)->snapshots, &snapshot->node);
    *out = &snapshot->base;
    return ST_OK;
}

static void lmdb_snapshot_close(struct backend_snapshot *base)
{
    if (base == NULL)
        return;
    struct lmdb_snapshot *snapshot = CONTAINER_OF(base, struct lmdb_snapshot, base);
    mdb_txn_abort(snapshot->txn);
    list_remove(&snapshot->node);
    free(snapshot);
}

/* Takes a stored record apart: checksum, and the long form of keys. */
static enum status record_decode(struct slice stored, struct slice data, struct record *out)
{
    struct slice payload;
    enum status st = value_unseal(stored, data, &payload);
    if (st != ST_OK)
        return st;
    if (key_is_long(stored.len))
        return long_value_decode(stored, payload, &out->key, &out->value);
    *out = (struct record){.key = stored, .value = payload};
    return ST_OK;
}

static enum status lmdb_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                            struct slice *value_out)
{
    MDB_txn *txn = CONTAINER_OF(base, struct lmdb_snapshot, base)->txn;
    MDB_dbi dbi = lmdb_of(base->backend)->dbis[bucket];
    if (key.len == 0)
        return ST_NOT_FOUND;
    if (!key_is_long(key.len))
        return get_sealed(txn, dbi, key, value_out);
    uint8_t bytes[LONG_KEY_BYTES_MIN];
    long_key_encode(key, bytes);
    struct slice stored = slice_make(bytes, sizeof(bytes)), payload;
    enum status st = get_sealed(txn, dbi, stored, &payload);
    struct slice found;
    if (st == ST_OK)
        st = long_value_decode(stored, payload, &found, value_out);
    return st;
}

/* ---- cursors ---- */

static enum status lmdb_cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
                                    struct backend_cursor **out)
{
    *out = NULL;
    struct lmdb_cursor *cursor = calloc(1, sizeof(*cursor));
    if (cursor == NULL)
        return ST_NO_MEMORY;
    cursor->base.snapshot = snapshot;
    int rc = mdb_cursor_open(CONTAINER_OF(snapshot, struct lmdb_snapshot, base)->txn,
                             lmdb_of(snapshot->backend)->dbis[bucket], &cursor->cursor);
    if (rc != MDB_SUCCESS) {
        free(cursor);
        return status_from_lmdb(rc);
    }
    *out = &cursor->base;
    return ST_OK;
}

static void lmdb_cursor_close(struct backend_cursor *base)
{
    if (base == NULL)
        return;
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    mdb_cursor_close(cursor->cursor);
    free(cursor->group);
    free(cursor);
}

static enum status group_add(struct lmdb_cursor *cursor, struct slice stored, struct slice data)
{
    if (cursor->group_count == cursor->group_capacity) {
        size_t capacity = max_size(16, cursor->group_capacity * 2);
        struct record *grown = reallocarray(cursor->group, capacity, sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        cursor->group = grown;
        cursor->group_capacity = capacity;
    }
    return record_decode(stored, data, &cursor->group[cursor->group_count++]);
}

static int compare_records(const void *a, const void *b)
{
    return slice_cmp(((const struct record *)a)->key, ((const struct record *)b)->key);
}

/* Loads the neighbourhood of head (borrowed from the map or the caller), sorted; leaves the LMDB
 * cursor on the record behind it. The group may be empty. */
static enum status group_load(struct lmdb_cursor *cursor, struct slice head)
{
    ASSERT(head.len == LONG_KEY_HEAD_BYTES);
    cursor->group_count = cursor->group_at = 0;
    MDB_val key = val_from(head), data;
    int rc = mdb_cursor_get(cursor->cursor, &key, &data, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS && slice_has_prefix(slice_from(&key), head)) {
        enum status st = group_add(cursor, slice_from(&key), slice_from(&data));
        if (st != ST_OK)
            return st;
        rc = mdb_cursor_get(cursor->cursor, &key, &data, MDB_NEXT);
    }
    cursor->behind = rc == MDB_SUCCESS;
    if (cursor->group_count > 1)
        qsort(cursor->group, cursor->group_count, sizeof(*cursor->group), compare_records);
    return rc == MDB_NOTFOUND ? ST_OK : status_from_lmdb(rc);
}

static enum status group_gives(struct lmdb_cursor *cursor, struct slice *key_out,
                               struct slice *value_out)
{
    ASSERT(cursor->group_at < cursor->group_count);
    *key_out = cursor->group[cursor->group_at].key;
    *value_out = cursor->group[cursor->group_at].value;
    return ST_OK;
}

/* Gives the record the LMDB cursor has come to; where order needs it, by way of its neighbourhood.
 */
static enum status settle(struct lmdb_cursor *cursor, int rc, const MDB_val *key,
                          const MDB_val *data, bool at_end, struct slice *key_out,
                          struct slice *value_out)
{
    cursor->group_count = cursor->group_at = 0;
    cursor->placed = rc == MDB_SUCCESS;
    if (rc != MDB_SUCCESS)
        return status_from_lmdb(rc);
    if (key->mv_size >= LONG_KEY_HEAD_BYTES) {
        enum status st = group_load(cursor, slice_make(key->mv_data, LONG_KEY_HEAD_BYTES));
        if (st != ST_OK)
            return st;
        cursor->group_at = at_end ? cursor->group_count - 1 : 0;
        return group_gives(cursor, key_out, value_out);
    }
    struct record record;
    enum status st = record_decode(slice_from(key), slice_from(data), &record);
    *key_out = record.key;
    *value_out = record.value;
    return st;
}

static enum status step_behind_group(struct lmdb_cursor *cursor, struct slice *key_out,
                                     struct slice *value_out)
{
    MDB_val key, data;
    int rc = cursor->behind ? mdb_cursor_get(cursor->cursor, &key, &data, MDB_GET_CURRENT)
                            : MDB_NOTFOUND;
    return settle(cursor, rc, &key, &data, /* at_end= */ false, key_out, value_out);
}

static enum status seek_in_group(struct lmdb_cursor *cursor, struct slice wanted,
                                 struct slice *key_out, struct slice *value_out)
{
    enum status st = group_load(cursor, slice_make(wanted.data, LONG_KEY_HEAD_BYTES));
    if (st != ST_OK)
        return st;
    while (cursor->group_at < cursor->group_count &&
           slice_cmp(cursor->group[cursor->group_at].key, wanted) < 0)
        cursor->group_at++;
    cursor->placed = true;
    if (cursor->group_at < cursor->group_count)
        return group_gives(cursor, key_out, value_out);
    return step_behind_group(cursor, key_out, value_out);
}

static enum status lmdb_cursor_seek(struct backend_cursor *base, struct slice wanted,
                                    struct slice *key_out, struct slice *value_out)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    if (wanted.len > LONG_KEY_HEAD_BYTES)
        return seek_in_group(cursor, wanted, key_out, value_out);
    MDB_val key = val_from(wanted), data;
    int rc =
        mdb_cursor_get(cursor->cursor, &key, &data, wanted.len == 0 ? MDB_FIRST : MDB_SET_RANGE);
    return settle(cursor, rc, &key, &data, /* at_end= */ false, key_out, value_out);
}

static enum status lmdb_cursor_next(struct backend_cursor *base, struct slice *key_out,
                                    struct slice *value_out)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    if (!cursor->placed)
        return ST_NOT_FOUND;
    if (cursor->group_count > 0) {
        if (++cursor->group_at < cursor->group_count)
            return group_gives(cursor, key_out, value_out);
        return step_behind_group(cursor, key_out, value_out);
    }
    MDB_val key, data;
    int rc = mdb_cursor_get(cursor->cursor, &key, &data, MDB_NEXT);
    return settle(cursor, rc, &key, &data, /* at_end= */ false, key_out, value_out);
}

static enum status lmdb_cursor_last(struct backend_cursor *base, struct slice *key_out,
                                    struct slice *value_out)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    MDB_val key, data;
    int rc = mdb_cursor_get(cursor->cursor, &key, &data, MDB_LAST);
    return settle(cursor, rc, &key, &data, /* at_end= */ true, key_out, value_out);
}

/* ---- upkeep ---- */

static enum status lmdb_stat(struct backend *backend, struct backend_stat *out)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    MDB_txn *txn;
    enum status st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn));
    if (st != ST_OK)
        return st;
    MDB_envinfo info;
    MDB_stat pages;
    uint64_t free_count = 0;
    mdb_env_info(lmdb->env, &info);
    mdb_env_stat(lmdb->env, &pages);
    st = lmdb_free_pages_count(txn, UINT64_MAX, &free_count);
    mdb_txn_abort(txn);
    uint64_t all_count = (uint64_t)info.me_last_pgno + 1;
    free_count = min_u64(free_count, all_count);
    *out = (struct backend_stat){
        .size_bytes = all_count * pages.ms_psize, /* the file may be allocated ahead of it */
        .in_use_bytes = (all_count - free_count) * pages.ms_psize,
        .free_bytes = free_count * pages.ms_psize,
        /* Some free pages are not to be had yet, or not in the runs that are wanted. */
        .room_bytes = lmdb_room_on_disk(lmdb->env, all_count * pages.ms_psize) +
                      free_count / 2 * pages.ms_psize,
        .commits_count = atomic_load_explicit(&lmdb->commits_count, memory_order_relaxed),
        .syncs_count = atomic_load_explicit(&lmdb->syncs_count, memory_order_relaxed)};
    return st;
}

static void check_bucket(MDB_txn *txn, MDB_dbi dbi, const char *name, struct fault_report *report)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        fault_add(report, "bucket %s: cannot be read: %s", name, mdb_strerror(rc));
        return;
    }
    MDB_val key, data;
    uint64_t number = 0;
    while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == MDB_SUCCESS) {
        struct record record;
        number++;
        fault_report_went_on(report, key.mv_size + data.mv_size);
        if (record_decode(slice_from(&key), slice_from(&data), &record) != ST_OK)
            fault_add(report, "bucket %s: record %llu: checksum does not match", name,
                      (unsigned long long)number);
    }
    if (rc != MDB_NOTFOUND)
        fault_add(report, "bucket %s: after record %llu: %s", name, (unsigned long long)number,
                  mdb_strerror(rc));
    mdb_cursor_close(cursor);
}

/* Up to the last page that is used. */
static uint64_t in_use_bytes(struct lmdb_backend *lmdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    bool known = mdb_env_info(lmdb->env, &info) == MDB_SUCCESS &&
                 mdb_env_stat(lmdb->env, &stat) == MDB_SUCCESS;
    return known ? ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize : 0;
}

/* Twice: the pages, then the records. */
static enum status lmdb_check(struct backend *backend, struct buf *out)
{
    struct lmdb_backend *lmdb = lmdb_of(backend);
    struct fault_report report = {
        .out = out, .watch = lmdb->watch, .total_bytes = 2 * in_use_bytes(lmdb)};
    MDB_txn *txn;
    mdb_filehandle_t fd;
    if (mdb_env_get_fd(lmdb->env, &fd) != MDB_SUCCESS)
        return ST_IO;
    enum status st = lmdb_file_check(fd, &report);
    if (st != ST_OK) /* LMDB itself would follow what is wrong there */
        return st == ST_CORRUPT ? fault_result(&report) : st;
    st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn));
    if (st != ST_OK)
        return st;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
        check_bucket(txn, lmdb->dbis[bucket], backend_bucket_name(bucket), &report);
    check_bucket(txn, lmdb->dbis[PRIVATE_DBI], PRIVATE_BUCKET_NAME, &report);
    mdb_txn_abort(txn);
    return fault_result(&report);
}

static enum status lmdb_remove(const char *path)
{
    size_t size = strlen(path) + sizeof("-lock");
    char *lock_path = malloc(size);
    if (lock_path == NULL)
        return ST_NO_MEMORY;
    snprintf(lock_path, size, "%s-lock", path);
    enum status st = remove_file(lock_path);
    free(lock_path);
    enum status removed = remove_file(path);
    return st != ST_OK ? st : removed;
}

/* ---- opening ---- */

static void lmdb_close(struct backend *backend)
{
    if (backend == NULL)
        return;
    struct lmdb_backend *lmdb = lmdb_of(backend);
    lmdb_abort(backend);
    if (lmdb->env != NULL)
        mdb_env_close(lmdb->env);
    buf_deinit(&lmdb->mark_bytes);
    free(lmdb->path);
    free(lmdb);
}

/* One try with one size of the map. The file never outgrows the map; the map costs address space
 * alone. */
static int open_env(struct lmdb_backend *lmdb, const struct backend_options *options,
                    uint64_t map_bytes)
{
    int rc = mdb_env_create(&lmdb->env);
    if (rc != MDB_SUCCESS)
        return rc;
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD;
    flags |= options->read_only ? MDB_RDONLY : MDB_NOMETASYNC;
    flags |= options->read_only && !options->shared ? MDB_NOLOCK : 0;
    flags |= options->bulk ? MDB_NOSYNC : 0;
    mdb_env_set_maxdbs(lmdb->env, BUCKETS_COUNT + 1);
    mdb_env_set_maxreaders(lmdb->env, LMDB_READERS_MAX);
    mdb_env_set_mapsize(lmdb->env, (size_t)map_bytes);
    rc = mdb_env_open(lmdb->env, options->path, flags, 0600);
    if (rc == MDB_SUCCESS)
        return rc;
    mdb_env_close(lmdb->env);
    lmdb->env = NULL;
    return rc;
}

/* Halves the map while the address space (ulimit -v, small machines) does not hold it. */
static int open_env_in_some_map(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    uint64_t limit = options->map_bytes_max == 0 ? LMDB_MAP_BYTES_DEFAULT : options->map_bytes_max;
    uint64_t map_bytes = max_u64(limit & ~(LMDB_MAP_BYTES_UNIT - 1), LMDB_MAP_BYTES_UNIT);
    int rc = open_env(lmdb, options, map_bytes);
    while (rc == ENOMEM && map_bytes / 2 >= LMDB_MAP_BYTES_MIN) {
        map_bytes = map_bytes / 2 & ~(LMDB_MAP_BYTES_UNIT - 1);
        rc = open_env(lmdb, options, map_bytes);
    }
    return rc;
}

static int open_dbis(struct lmdb_backend *lmdb, MDB_txn *txn, unsigned flags)
{
    int rc = MDB_SUCCESS;
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && rc == MDB_SUCCESS; bucket++)
        rc = mdb_dbi_open(txn, backend_bucket_name(bucket), flags, &lmdb->dbis[bucket]);
    if (rc == MDB_SUCCESS)
        rc = mdb_dbi_open(txn, PRIVATE_BUCKET_NAME, flags, &lmdb->dbis[PRIVATE_DBI]);
    return rc;
}

/* The first transaction of a new file: its databases and header, durable with their directory. */
static enum status found(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    if (options->read_only || !options->create)
        return open_fails(options, ST_CORRUPT, "holds no finished store");
    enum status st = begin(lmdb);
    if (st != ST_OK)
        return open_fails(options, st, "cannot begin: %s", status_str(st));
    int rc = open_dbis(lmdb, lmdb->txn, MDB_CREATE);
    if (rc == MDB_SUCCESS) {
        uint8_t header[HEADER_BYTES];
        header_encode(options->life_id, header);
        rc = put_sealed(lmdb, lmdb->dbis[PRIVATE_DBI], HEADER_KEY,
                        slice_make(header, sizeof(header)), 0);
    }
    if (rc != MDB_SUCCESS) {
        lmdb_abort(&lmdb->base);
        return open_fails(options, status_from_lmdb(rc), "cannot create: %s", mdb_strerror(rc));
    }
    uint64_t durable;
    st = lmdb_commit(&lmdb->base, NULL, /* full= */ true, &durable);
    if (st == ST_OK)
        st = sync_parent(options->path);
    return st == ST_OK ? st : open_fails(options, st, "cannot write: %s", status_str(st));
}

static enum status recognise(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (rc == MDB_SUCCESS) {
        rc = open_dbis(lmdb, txn, 0);
        if (rc != MDB_SUCCESS)
            mdb_txn_abort(txn);
        else
            rc = mdb_txn_commit(txn); /* keeps the handles */
    }
    if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
        return open_fails(options, ST_CORRUPT, "is an LMDB file of another program");
    if (rc != MDB_SUCCESS)
        return open_fails(options, status_from_lmdb(rc), "cannot be read: %s", mdb_strerror(rc));
    enum status st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn));
    if (st != ST_OK)
        return open_fails(options, st, "cannot be read: %s", status_str(st));
    struct slice header;
    st = get_sealed(txn, lmdb->dbis[PRIVATE_DBI], HEADER_KEY, &header);
    if (st == ST_OK)
        st = header_recognise(header, options);
    mdb_txn_abort(txn);
    return header_verdict(options, st);
}

static enum status load_mark_index(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    struct buf conf_state;
    buf_init(&conf_state, CONF_STATE_BYTES_MAX);
    struct store_mark mark;
    enum status st = lmdb_mark(&lmdb->base, &mark, &conf_state);
    buf_deinit(&conf_state);
    if (st != ST_OK)
        return open_fails(options, st, "its mark cannot be read: %s", status_str(st));
    lmdb->mark_index = mark.index;
    return ST_OK;
}

static size_t first_line_bytes(const struct buf *text)
{
    const uint8_t *end = text->len == 0 ? NULL : memchr(text->data, '\n', text->len);
    return end == NULL ? text->len : (size_t)(end - text->data);
}

/* Looks at what opening follows without LMDB, which trusts its file. */
static enum status look_at_head(const struct backend_options *options)
{
    int fd = open(options->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return open_fails(options, status_from_errno(errno), "%s", strerror(errno));
    struct buf faults;
    buf_init(&faults, FAULTS_BYTES_MAX);
    struct fault_report report = {.out = &faults};
    enum status st = lmdb_file_check_head(fd, PRIVATE_BUCKET_NAME, &report);
    close(fd);
    if (st == ST_CORRUPT)
        st = open_fails(options, st, "is not an LMDB file, or is damaged: %.*s",
                        (int)first_line_bytes(&faults), (const char *)faults.data);
    else if (st != ST_OK)
        st = open_fails(options, st, "cannot be read: %s", status_str(st));
    buf_deinit(&faults);
    return st;
}

/* The same of the whole file, with a snapshot open: no page that the newest commit or a later one
 * names is used again meanwhile. A member that runs may be writing the head itself just then. */
static enum status look_at_all(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    struct buf faults;
    buf_init(&faults, FAULTS_BYTES_MAX);
    enum status st = ST_CORRUPT;
    for (int tries = options->shared ? LOOKS_WHILE_SHARED : 1; tries > 0 && st == ST_CORRUPT;
         tries--) {
        buf_reset(&faults);
        struct fault_report report = {
            .out = &faults, .watch = options->watch, .total_bytes = in_use_bytes(lmdb)};
        MDB_txn *txn;
        mdb_filehandle_t fd;
        st = status_from_lmdb(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn));
        if (st != ST_OK)
            break;
        st = mdb_env_get_fd(lmdb->env, &fd) == MDB_SUCCESS ? lmdb_file_check(fd, &report) : ST_IO;
        mdb_txn_abort(txn);
    }
    if (st == ST_CORRUPT)
        st = open_fails(options, st, "is damaged: %.*s", (int)first_line_bytes(&faults),
                        (const char *)faults.data);
    else if (st != ST_OK)
        st = open_fails(options, st, "cannot be read: %s", status_str(st));
    buf_deinit(&faults);
    return st;
}

static enum status open_file(struct lmdb_backend *lmdb, const struct backend_options *options)
{
    struct stat file;
    if (stat(options->path, &file) != 0) {
        if (errno != ENOENT)
            return open_fails(options, ST_IO, "%s", strerror(errno));
        if (!options->create || options->read_only)
            return open_fails(options, ST_NOT_FOUND, "does not exist");
    } else if (!S_ISREG(file.st_mode)) {
        return open_fails(options, ST_CORRUPT, "is not a file");
    } else if (options->read_only && file.st_size == 0) {
        return open_fails(options, ST_CORRUPT, "is empty");
    } else {
        enum status st = look_at_head(options);
        if (st != ST_OK)
            return st;
    }
    int rc = open_env_in_some_map(lmdb, options);
    if (rc == MDB_INVALID)
        return open_fails(options, ST_CORRUPT, "is not an LMDB file, or its head is damaged");
    if (rc != MDB_SUCCESS)
        return open_fails(options, status_from_lmdb(rc), "cannot be opened: %s", mdb_strerror(rc));
    int dead;
    if (!options->read_only)
        mdb_reader_check(lmdb->env, &dead); /* slots of a process that died */
    MDB_stat pages;
    mdb_env_stat(lmdb->env, &pages);
    lmdb->room.page_bytes = pages.ms_psize;
    MDB_envinfo info;
    mdb_env_info(lmdb->env, &info);
    if (info.me_last_txnid == 0)
        return found(lmdb, options);
    enum status st = options->read_only ? look_at_all(lmdb, options) : ST_OK;
    return st == ST_OK ? recognise(lmdb, options) : st;
}

static enum status lmdb_open(const struct backend_options *options, struct backend **out)
{
    *out = NULL;
    struct lmdb_backend *lmdb = calloc(1, sizeof(*lmdb));
    if (lmdb == NULL)
        return ST_NO_MEMORY;
    lmdb->watch = options->watch;
    lmdb->base.ops = backend_lmdb();
    list_init(&lmdb->snapshots);
    buf_init(&lmdb->mark_bytes, CONF_STATE_BYTES_MAX + MARK_BYTES_MIN);
    lmdb->path = strdup(options->path);
    enum status st = lmdb->path == NULL ? ST_NO_MEMORY : open_file(lmdb, options);
    if (st == ST_OK)
        st = load_mark_index(lmdb, options);
    if (st != ST_OK) {
        lmdb_close(&lmdb->base);
        return st;
    }
    *out = &lmdb->base;
    return ST_OK;
}

const struct backend_ops *backend_lmdb(void)
{
    static const struct backend_ops ops = {
        .name = "lmdb",
        .suffix = ".lmdb",
        .values_are_stable = true,
        .open = lmdb_open,
        .close = lmdb_close,
        .apply = lmdb_apply,
        .commit = lmdb_commit,
        .abort = lmdb_abort,
        .mark = lmdb_mark,
        .snapshot_open = lmdb_snapshot_open,
        .snapshot_close = lmdb_snapshot_close,
        .get = lmdb_get,
        .cursor_open = lmdb_cursor_open,
        .cursor_seek = lmdb_cursor_seek,
        .cursor_next = lmdb_cursor_next,
        .cursor_last = lmdb_cursor_last,
        .cursor_close = lmdb_cursor_close,
        .stat = lmdb_stat,
        .check = lmdb_check,
        .remove = lmdb_remove,
    };
    return &ops;
}
