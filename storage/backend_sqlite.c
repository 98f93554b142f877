/* The backend on SQLite: a file that every tool opens. Tables, in one database in WAL mode:
 *   "key"(revision INTEGER PRIMARY KEY, tombstone, record)   revision = main << 20 | sub
 *   "key_wide"(main, sub, tombstone, record)                 revisions that do not fit there
 *   one "<bucket>"(name BLOB PRIMARY KEY, value) WITHOUT ROWID for each small bucket, and one named
 *   PRIVATE_BUCKET_NAME with the header and the mark
 * A revision has one record: its key says whether it is a tombstone. The rowid table is 1.2 to 1.6
 * times as fast as keys of 17 bytes, and smaller.
 *
 * Sync policy: synchronous=FULL, so a commit is durable when it returns. No checkpoint happens in a
 * commit; sqlite_upkeep() makes them between commits. Every snapshot is a read transaction on a
 * connection of its own, kept in a pool.
 *
 * How the WAL comes to its end although snapshots are always open: a checkpoint copies everything
 * into the database when no snapshot is older than the newest commit; snapshots opened after that
 * read the database alone, and once the ones before are closed the next commit starts the WAL over.
 * So upkeep asks its caller to open new snapshots after a complete checkpoint.
 *
 * On a full disk even a deletion needs room first, in the WAL. So a transaction that makes the
 * database larger takes the room for that before it is committed: a checkpoint never needs any, and
 * can always empty the WAL, whose file keeps enough to do the work (backend_sqlite_room.h). */
#include "storage/backend.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"
#include "storage/backend_private.h"
#include "storage/backend_sqlite_private.h"
#include "storage/backend_sqlite_room.h"
#include "storage/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#define INTEGRITY_STEPS 20000     /* of SQLite's machine between two words on how far it has come */
#define APPLICATION_ID 0x636c6561 /* "clea" */

/* ---- writing ---- */

static int step_write(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    ASSERT(rc != SQLITE_ROW);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement); /* they borrow the caller's bytes */
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static enum status seal(struct sqlite_backend *sqlite, struct slice key, struct slice value)
{
    buf_reset(&sqlite->sealed);
    uint8_t *room;
    enum status st = buf_extend(&sqlite->sealed, value.len + CHECKSUM_BYTES, &room);
    if (st == ST_OK)
        value_seal(key, value, room);
    return st == ST_TOO_BIG ? ST_INVALID : st;
}

static int write_one(struct sqlite_backend *sqlite, size_t table, enum statement kind,
                     struct slice key)
{
    sqlite3_stmt *statement = NULL;
    int rc;
    if (table == BUCKET_KEY) {
        struct revision revision;
        bool tombstone;
        enum status st = revision_key_decode(key, &revision, &tombstone);
        ASSERT(st == ST_OK); /* op_is_legal() */
        rc = sqlite_bind_revision(sqlite->writer, kind, revision, tombstone, &statement);
    } else {
        rc = sqlite_bind_name(sqlite->writer, kind, table, key, &statement);
    }
    if (rc == SQLITE_OK && kind == PUT)
        rc = sqlite3_bind_blob64(statement, 2, sqlite->sealed.data, sqlite->sealed.len,
                                 SQLITE_STATIC);
    return rc == SQLITE_OK ? step_write(statement) : rc;
}

static enum status apply_one(struct sqlite_backend *sqlite, const struct backend_op *op)
{
    if (!op_is_legal(op))
        return ST_INVALID;
    enum statement kind = op->kind == BACKEND_DELETE ? DELETE : PUT;
    enum status st = ST_OK;
    if (kind == PUT)
        st = seal(sqlite, op->key, op->value);
    if (st != ST_OK)
        return st;
    /* In BUCKET_KEY a put is an insert, as an append is: what is there already must go first. */
    int rc = SQLITE_OK;
    if (op->kind == BACKEND_PUT && op->bucket == BUCKET_KEY)
        rc = write_one(sqlite, op->bucket, DELETE, op->key);
    if (rc == SQLITE_OK)
        rc = write_one(sqlite, op->bucket, kind, op->key);
    return status_from_sqlite(sqlite->writer->db, rc);
}

static void sqlite_abort(struct backend *backend)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    /* A full disk may have rolled it back already. */
    if (sqlite->writing && sqlite3_get_autocommit(sqlite->writer->db) == 0)
        sqlite_run(sqlite->writer->db, "ROLLBACK");
    sqlite->writing = false;
}

/* The WAL may hold the room that misses: upkeep empties it. */
static enum status note_refusal(struct sqlite_backend *sqlite, enum status st)
{
    if (st == ST_NO_SPACE) {
        sqlite->refused = true;
        sqlite->checkpoint_tried = false;
    }
    return st;
}

static enum status begin(struct sqlite_backend *sqlite)
{
    if (sqlite->writing)
        return ST_OK;
    int rc = sqlite_run(sqlite->writer->db, "BEGIN IMMEDIATE");
    sqlite->writing = rc == SQLITE_OK;
    return status_from_sqlite(sqlite->writer->db, rc);
}

static enum status sqlite_apply(struct backend *backend, const struct backend_op *ops, size_t count)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    enum status st = begin(sqlite);
    for (size_t i = 0; i < count && st == ST_OK; i++)
        st = apply_one(sqlite, &ops[i]);
    if (st != ST_OK)
        sqlite_abort(backend);
    return note_refusal(sqlite, st);
}

static enum status put_mark(struct sqlite_backend *sqlite, const struct store_mark *mark)
{
    struct buf payload;
    buf_init(&payload, CONF_STATE_BYTES_MAX + MARK_BYTES_MIN);
    enum status st = mark_encode(mark, &payload);
    if (st == ST_OK)
        st = seal(sqlite, MARK_KEY, buf_slice(&payload));
    buf_deinit(&payload);
    if (st != ST_OK)
        return st;
    return status_from_sqlite(sqlite->writer->db, write_one(sqlite, PRIVATE_TABLE, PUT, MARK_KEY));
}

static int query_number(sqlite3 *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(statement, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return rc;
}

static enum status note_pages_in_use(struct sqlite_backend *sqlite)
{
    int64_t all = 0, unused = 0;
    int rc = query_number(sqlite->writer->db, "PRAGMA page_count", &all);
    if (rc == SQLITE_OK)
        rc = query_number(sqlite->writer->db, "PRAGMA freelist_count", &unused);
    if (rc == SQLITE_OK)
        atomic_store_explicit(&sqlite->in_use_bytes, (uint64_t)(all - unused) * PAGE_BYTES,
                              memory_order_relaxed);
    if (rc == SQLITE_OK)
        atomic_store_explicit(&sqlite->free_bytes, (uint64_t)unused * PAGE_BYTES,
                              memory_order_relaxed);
    return status_from_sqlite(sqlite->writer->db, rc);
}

/* Room in the database's file for all of its pages as they are now, in the transaction. */
static enum status reserve_room(struct sqlite_backend *sqlite)
{
    int64_t pages = 0;
    int rc = query_number(sqlite->writer->db, "PRAGMA page_count", &pages);
    if (rc != SQLITE_OK)
        return status_from_sqlite(sqlite->writer->db, rc);
    return sqlite_room_take(&sqlite->room, (uint64_t)pages * PAGE_BYTES);
}

static enum status end_transaction(struct sqlite_backend *sqlite, const struct store_mark *mark)
{
    enum status st = mark == NULL ? ST_OK : put_mark(sqlite, mark);
    if (st == ST_OK && sqlite->bulk_file < 0)
        st = reserve_room(sqlite);
    if (st == ST_OK)
        st = status_from_sqlite(sqlite->writer->db, sqlite_run(sqlite->writer->db, "COMMIT"));
    if (st != ST_OK) {
        sqlite_abort(&sqlite->base);
        return note_refusal(sqlite, st);
    }
    sqlite->writing = false;
    sqlite->drained = sqlite->checkpoint_tried = sqlite->refused = false;
    if (mark != NULL)
        sqlite->mark_index = mark->index;
    atomic_fetch_add_explicit(&sqlite->commits_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&sqlite->syncs_count, 1, memory_order_relaxed); /* of the WAL */
    return note_pages_in_use(sqlite);
}

/* What was committed of a store that is filled begins its way to the disk at once: the sync at the
 * end then has little to wait for. */
static enum status write_out(int fd, bool full)
{
    if (full)
        return fsync(fd) == 0 ? ST_OK : ST_IO;
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* errors stay for the sync */
    return ST_OK;
}

static enum status sqlite_commit(struct backend *backend, const struct store_mark *mark, bool full,
                                 uint64_t *durable_out)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    enum status st = mark != NULL ? begin(sqlite) : ST_OK;
    if (st == ST_OK && sqlite->writing)
        st = end_transaction(sqlite, mark);
    /* But in a store that is filled every commit is a full one. */
    if (st == ST_OK && sqlite->bulk_file >= 0)
        st = write_out(sqlite->bulk_file, full);
    *durable_out = sqlite->mark_index;
    return st;
}
/* ---- upkeep ---- */

static int note_wal_pages(void *context, sqlite3 *db, const char *name, int pages)
{
    struct sqlite_backend *sqlite = context;
    (void)db;
    (void)name;
    sqlite->wal_pages = (uint64_t)pages;
    return SQLITE_OK;
}

/* Cuts the WAL's file down. Only waits for nobody: a tool that reads meanwhile puts it off. */
static enum status truncate_wal(struct sqlite_backend *sqlite)
{
    sqlite3_busy_timeout(sqlite->writer->db, 0);
    int rc =
        sqlite3_wal_checkpoint_v2(sqlite->writer->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(sqlite->writer->db, SQLITE_BUSY_MS);
    enum status st = status_from_sqlite(sqlite->writer->db, rc);
    return st == ST_BUSY ? ST_OK : st;
}

static bool checkpoint_is_due(const struct sqlite_backend *sqlite)
{
    uint64_t wal_bytes = sqlite->wal_pages * PAGE_BYTES;
    if (wal_bytes >= SQLITE_CHECKPOINT_BYTES || sqlite->refused)
        return true;
    return wal_bytes >= SQLITE_CHECKPOINT_BYTES_SHORT &&
           wal_bytes > sqlite_room_available(&sqlite->room) / 2;
}

static enum status sqlite_upkeep(struct backend *backend, bool *reopen_out)
{
    *reopen_out = false;
    struct sqlite_backend *sqlite = sqlite_of(backend);
    if (sqlite->bulk_file >= 0)
        return ST_OK;
    if (sqlite->drained && sqlite->reopened && !sqlite->refused)
        return ST_OK;
    if (sqlite->drained) {
        /* What was refused may have made the WAL's file larger, and miss that room now. */
        bool large =
            sqlite->refused || sqlite_room_wal_bytes(&sqlite->room) >= SQLITE_WAL_BYTES_MAX;
        sqlite->reopened = true;
        sqlite->refused = false;
        enum status st = large ? truncate_wal(sqlite) : ST_OK;
        if (st == ST_OK)
            sqlite_room_keep_wal(&sqlite->room);
        return st;
    }
    if (sqlite->checkpoint_tried || !checkpoint_is_due(sqlite))
        return ST_OK;
    sqlite->checkpoint_tried = true; /* once after a commit: what an old snapshot held back waits */
    int in_wal = 0, copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(sqlite->writer->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_wal,
                                       &copied);
    atomic_fetch_add_explicit(&sqlite->syncs_count, 2, memory_order_relaxed); /* WAL, database */
    enum status st = status_from_sqlite(sqlite->writer->db, rc);
    if (st == ST_NO_SPACE)
        sqlite->checkpoint_tried = false; /* no commit may work before this does */
    if (st != ST_OK)
        return st == ST_BUSY ? ST_OK : st;
    sqlite->drained = in_wal == copied;
    sqlite_room_forget(&sqlite->room); /* SQLite has cut the file behind its last page */
    sqlite->reopened = false;
    *reopen_out = sqlite->drained;
    return ST_OK;
}

static enum status sqlite_stat(struct backend *backend, struct backend_stat *out)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    uint64_t in_use_bytes = atomic_load_explicit(&sqlite->in_use_bytes, memory_order_relaxed);
    uint64_t size_bytes = sqlite_room_file_bytes(&sqlite->room);
    *out = (struct backend_stat){
        .size_bytes = size_bytes,
        /* Committed pages may be in the WAL alone, several times or not yet grown into the file. */
        .in_use_bytes = min_u64(in_use_bytes, size_bytes),
        .free_bytes = atomic_load_explicit(&sqlite->free_bytes, memory_order_relaxed),
        .room_bytes = sqlite_room_left(&sqlite->room, in_use_bytes),
        .commits_count = atomic_load_explicit(&sqlite->commits_count, memory_order_relaxed),
        .syncs_count = atomic_load_explicit(&sqlite->syncs_count, memory_order_relaxed)};
    return ST_OK;
}

/* One fault of PRAGMA integrity_check a row; a single "ok" means none. */
static int take_integrity_row(void *context, int columns, char **texts, char **names)
{
    (void)columns;
    (void)names;
    struct fault_report *report = context;
    if (texts[0] != NULL && strcmp(texts[0], "ok") != 0)
        fault_add(report, "sqlite: %s", texts[0]);
    return 0;
}

static void check_bucket(struct backend_snapshot *snapshot, enum bucket bucket,
                         struct fault_report *report)
{
    struct backend_cursor *base;
    if (sqlite_cursor_open(snapshot, bucket, &base) != ST_OK) {
        fault_add(report, "bucket %s: no memory to read it", backend_bucket_name(bucket));
        return;
    }
    struct sqlite_cursor *cursor = CONTAINER_OF(base, struct sqlite_cursor, base);
    struct slice key, value;
    uint64_t number = 1;
    enum status st = sqlite_cursor_seek(base, SLICE_EMPTY, &key, &value);
    for (; st == ST_OK || cursor->given != NULL; number++) {
        fault_report_went_on(report, st == ST_OK ? key.len + value.len : 0);
        if (st != ST_OK)
            fault_add(report, "bucket %s: record %llu: checksum does not match",
                      backend_bucket_name(bucket), (unsigned long long)number);
        st = sqlite_cursor_next(base, &key, &value);
    }
    if (st != ST_NOT_FOUND)
        fault_add(report, "bucket %s: record %llu: %s", backend_bucket_name(bucket),
                  (unsigned long long)number, sqlite3_errmsg(sqlite_cursor_db(cursor)));
    sqlite_cursor_close(base);
}

struct integrity {
    sqlite3 *db;
    struct fault_report *report;
};

/* SQLite calls while it looks at rows; while it looks at pages, before that, only newer versions
 * do. */
static int note_integrity(void *context)
{
    struct integrity *integrity = context;
    int misses = 0, highest = 0;
    sqlite3_db_status(integrity->db, SQLITE_DBSTATUS_CACHE_MISS, &misses, &highest, 0);
    integrity->report->done_bytes = (uint64_t)misses * PAGE_BYTES;
    fault_report_went_on(integrity->report, 0);
    return 0;
}

static void check_integrity(sqlite3 *db, struct fault_report *report)
{
    struct integrity integrity = {.db = db, .report = report};
    sqlite3_progress_handler(db, INTEGRITY_STEPS, note_integrity, &integrity);
    int rc = sqlite3_exec(db, "PRAGMA integrity_check(100)", take_integrity_row, report, NULL);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    if (rc != SQLITE_OK)
        fault_add(report, "sqlite: %s", sqlite3_errmsg(db));
    (void)note_integrity(&integrity);
}

/* Three times: SQLite's own check of the pages, and of the rows, then our records. */
static enum status sqlite_check(struct backend *backend, struct buf *out)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    uint64_t bytes = atomic_load_explicit(&sqlite->in_use_bytes, memory_order_relaxed);
    struct fault_report report = {.out = out, .watch = sqlite->watch, .total_bytes = 3 * bytes};
    check_integrity(sqlite->writer->db, &report);
    struct backend_snapshot *snapshot;
    enum status st = sqlite_snapshot_open(backend, &snapshot);
    if (st != ST_OK) {
        fault_add(&report, "no snapshot can be opened: %s", status_str(st));
        return fault_result(&report);
    }
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT; bucket++)
        check_bucket(snapshot, bucket, &report);
    static const char *const names[] = {"header", "mark"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct connection *connection =
            CONTAINER_OF(snapshot, struct sqlite_snapshot, base)->connection;
        struct slice value;
        st = sqlite_get_small(connection, PRIVATE_TABLE, slice_from_str(names[i]), &value);
        if (st != ST_OK && st != ST_NOT_FOUND)
            fault_add(&report, "%s: %s", names[i], status_str(st));
    }
    sqlite_snapshot_close(snapshot);
    return fault_result(&report);
}

static enum status sqlite_remove(const char *path)
{
    static const char *const suffixes[] = {"-journal", "-shm", "-wal", ""}; /* itself last */
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char *full = NULL;
        if (asprintf(&full, "%s%s", path, suffixes[i]) < 0)
            return ST_NO_MEMORY;
        enum status st = remove_file(full);
        free(full);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

/* ---- opening ---- */

static void sqlite_close_backend(struct backend *backend)
{
    if (backend == NULL)
        return;
    struct sqlite_backend *sqlite = sqlite_of(backend);
    if (sqlite->writer != NULL)
        sqlite_abort(backend);
    for (struct list_node *node = list_pop_front(&sqlite->pool); node != NULL;
         node = list_pop_front(&sqlite->pool))
        sqlite_connection_free(CONTAINER_OF(node, struct connection, node));
    sqlite_connection_free(sqlite->writer);
    sqlite_room_deinit(&sqlite->room); /* after the last connection */
    if (sqlite->bulk_file >= 0)
        close(sqlite->bulk_file); /* likewise */
    buf_deinit(&sqlite->sealed);
    free(sqlite);
}

/* Looks at the file without SQLite, which would change one of another program by its very first
 * statements. *fresh_out: there is nothing in it yet. */
static enum status look_at_file(const struct backend_options *options, bool *fresh_out)
{
    static const char magic[16] = "SQLite format 3";
    uint8_t head[100];
    bool may_create = options->create && !options->read_only;
    int flags = may_create ? O_RDWR | O_CREAT : O_RDONLY;
    int fd = open(options->path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return open_fails(options, errno == EISDIR ? ST_CORRUPT : status_from_errno(errno), "%s",
                          strerror(errno));
    ssize_t size = pread(fd, head, sizeof(head), 0);
    int error = errno;
    close(fd);
    if (size < 0)
        return open_fails(options, error == EISDIR ? ST_CORRUPT : ST_IO, "%s", strerror(error));
    *fresh_out = size == 0;
    if (size == 0)
        return may_create ? ST_OK : open_fails(options, ST_CORRUPT, "holds no finished store");
    if (size < (ssize_t)sizeof(head) || memcmp(head, magic, sizeof(magic)) != 0)
        return open_fails(options, ST_CORRUPT, "is not an SQLite file, or its head is damaged");
    if (get_be32(head + 68) != APPLICATION_ID)
        return open_fails(options, ST_CORRUPT, "is an SQLite file of another program");
    return ST_OK;
}

static int create_tables(sqlite3 *db)
{
    int rc = sqlite_run(
        db, "CREATE TABLE \"key\"(revision INTEGER PRIMARY KEY, tombstone INTEGER NOT "
            "NULL, record BLOB NOT NULL);"
            "CREATE TABLE key_wide(main INTEGER, sub INTEGER, tombstone INTEGER NOT NULL, "
            "record BLOB NOT NULL, PRIMARY KEY(main, sub)) WITHOUT ROWID");
    for (size_t table = 0; table < TABLES_COUNT && rc == SQLITE_OK; table++) {
        if (table == BUCKET_KEY)
            continue;
        char sql[SQL_BYTES_MAX];
        sqlite3_snprintf(sizeof(sql), sql,
                         "CREATE TABLE \"%s\"(name BLOB PRIMARY KEY, value BLOB NOT NULL) "
                         "WITHOUT ROWID",
                         sqlite_table_name(table));
        rc = sqlite_run(db, sql);
    }
    return rc;
}

/* Makes the store in one transaction of the old journal mode, so that afterwards the file itself,
 * not a WAL beside it, says what it is. */
static enum status found(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    sqlite3 *db = sqlite->writer->db;
    char sql[SQL_BYTES_MAX];
    snprintf(sql, sizeof(sql), "PRAGMA page_size=%u; BEGIN EXCLUSIVE; PRAGMA application_id=%d",
             PAGE_BYTES, APPLICATION_ID);
    int rc = sqlite_run(db, sql);
    if (rc == SQLITE_OK)
        rc = create_tables(db);
    uint8_t header[HEADER_BYTES];
    header_encode(options->life_id, header);
    enum status st = seal(sqlite, HEADER_KEY, slice_make(header, sizeof(header)));
    if (rc == SQLITE_OK && st == ST_OK)
        rc = write_one(sqlite, PRIVATE_TABLE, PUT, HEADER_KEY);
    if (rc == SQLITE_OK && st == ST_OK)
        rc = sqlite_run(db, "COMMIT");
    if (st == ST_OK)
        st = status_from_sqlite(db, rc);
    if (st == ST_OK)
        st = sync_parent(options->path);
    return st == ST_OK ? st : open_fails(options, st, "cannot create: %s", sqlite3_errmsg(db));
}

static enum status recognise(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    struct slice header;
    enum status st = sqlite_get_small(sqlite->writer, PRIVATE_TABLE, HEADER_KEY, &header);
    if (st == ST_OK)
        st = header_recognise(header, options);
    if (st == ST_IO && (sqlite3_errcode(sqlite->writer->db) & 0xff) == SQLITE_ERROR)
        st = ST_CORRUPT; /* no such table */
    sqlite3_reset(sqlite->writer->table[GET][PRIVATE_TABLE]);
    return header_verdict(options, st);
}

/* No page is written twice, and none is synced before the end. */
static const char bulk_settings[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF;"
                                    "PRAGMA synchronous=OFF; PRAGMA cell_size_check=1";

static enum status open_bulk(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    sqlite->bulk_file = open(options->path, O_RDWR | O_CLOEXEC);
    return sqlite->bulk_file >= 0
               ? ST_OK
               : open_fails(options, ST_IO, "cannot be opened: %s", strerror(errno));
}

static enum status open_writer(struct sqlite_backend *sqlite, const struct backend_options *options,
                               bool fresh)
{
    int rc = sqlite_connection_new(sqlite, &sqlite->writer);
    if (sqlite->writer == NULL)
        return ST_NO_MEMORY;
    sqlite3 *db = sqlite->writer->db;
    enum status st = status_from_sqlite(db, rc);
    /* A hot journal of a creation that was cut short leaves an empty database behind. */
    if (st == ST_OK && !fresh && options->create && !options->read_only) {
        sqlite3_stmt *tables = NULL;
        rc = sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master", -1, &tables, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(tables);
        fresh = rc == SQLITE_DONE;
        st = status_from_sqlite(db, rc);
        sqlite3_finalize(tables);
    }
    if (st != ST_OK)
        return open_fails(options, st, "cannot be opened: %s", sqlite3_errmsg(db));
    st = fresh ? found(sqlite, options) : ST_OK;
    if (st != ST_OK)
        return st;
    rc = options->bulk ? sqlite_run(db, bulk_settings) : sqlite_connection_configure(sqlite, db);
    if (rc != SQLITE_OK)
        return open_fails(options, status_from_sqlite(db, rc), "cannot be opened: %s",
                          sqlite3_errmsg(db));
    sqlite3_wal_hook(db, note_wal_pages, sqlite);
    return recognise(sqlite, options);
}

static enum status load_state(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    struct buf conf_state;
    buf_init(&conf_state, CONF_STATE_BYTES_MAX);
    struct store_mark mark;
    enum status st = sqlite_mark(&sqlite->base, &mark, &conf_state);
    buf_deinit(&conf_state);
    if (st != ST_OK)
        return open_fails(options, st, "its mark cannot be read: %s", status_str(st));
    sqlite->mark_index = mark.index;
    return note_pages_in_use(sqlite);
}

static enum status open_room(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    enum status st = sqlite_room_open(&sqlite->room);
    sqlite->wal_pages = sqlite_room_wal_bytes(&sqlite->room) / PAGE_BYTES; /* at most */
    return st == ST_OK ? st : open_fails(options, st, "cannot be opened for its room");
}

static enum status sqlite_open_backend(const struct backend_options *options, struct backend **out)
{
    *out = NULL;
    bool fresh = false;
    enum status st = look_at_file(options, &fresh);
    if (st != ST_OK)
        return st;
    struct sqlite_backend *sqlite = calloc(1, sizeof(*sqlite));
    if (sqlite == NULL)
        return ST_NO_MEMORY;
    sqlite->base.ops = backend_sqlite();
    sqlite->read_only = options->read_only;
    sqlite->shared = options->shared;
    sqlite->watch = options->watch;
    sqlite->bulk_file = -1;
    sqlite->page_count_max = options->map_bytes_max / PAGE_BYTES;
    list_init(&sqlite->pool);
    buf_init(&sqlite->sealed, SQLITE_VALUE_BYTES_MAX);
    st = sqlite_room_init(&sqlite->room, options->path);
    sqlite->path = sqlite->room.path;
    if (st == ST_OK)
        st = open_writer(sqlite, options, fresh);
    if (st == ST_OK)
        st = load_state(sqlite, options);
    if (st == ST_OK && options->bulk)
        st = open_bulk(sqlite, options);
    else if (st == ST_OK && !options->read_only)
        st = open_room(sqlite, options);
    if (st != ST_OK) {
        sqlite_close_backend(&sqlite->base);
        return st;
    }
    *out = &sqlite->base;
    return ST_OK;
}

const struct backend_ops *backend_sqlite(void)
{
    static const struct backend_ops ops = {
        .name = "sqlite",
        .suffix = ".sqlite",
        .values_are_stable = false,
        .open = sqlite_open_backend,
        .close = sqlite_close_backend,
        .apply = sqlite_apply,
        .commit = sqlite_commit,
        .abort = sqlite_abort,
        .mark = sqlite_mark,
        .snapshot_open = sqlite_snapshot_open,
        .snapshot_close = sqlite_snapshot_close,
        .get = sqlite_get,
        .cursor_open = sqlite_cursor_open,
        .cursor_seek = sqlite_cursor_seek,
        .cursor_next = sqlite_cursor_next,
        .cursor_last = sqlite_cursor_last,
        .cursor_close = sqlite_cursor_close,
        .upkeep = sqlite_upkeep,
        .stat = sqlite_stat,
        .check = sqlite_check,
        .remove = sqlite_remove,
    };
    return &ops;
}
