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
 * So upkeep asks its caller to open new snapshots after a complete checkpoint. */
#include "storage/backend.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/list.h"
#include "base/minmax.h"
#include "storage/backend_private.h"
#include "storage/limits.h"
#include "storage/revision.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x636c6561 /* "clea" */
#define SUB_BITS 20
#define SQL_BYTES_MAX 256
#define PAGE_BYTES 4096U
#define PRIVATE_TABLE BUCKETS_COUNT
#define TABLES_COUNT (BUCKETS_COUNT + 1)

/* Statements of a connection, prepared at their first use. */
enum statement {
    GET,         /* of each table; BUCKET_KEY: of a packed revision */
    PUT,         /* likewise */
    DELETE,      /* likewise */
    KINDS_COUNT, /* the three above are indexed by kind and table */
};
enum wide_statement { WIDE_GET, WIDE_PUT, WIDE_DELETE, WIDE_COUNT };

struct connection {
    struct list_node node; /* in the pool */
    sqlite3 *db;
    sqlite3_stmt *table[KINDS_COUNT][TABLES_COUNT];
    sqlite3_stmt *wide[WIDE_COUNT];
};

struct sqlite_backend {
    struct backend base;
    char *path, *wal_path; /* owned */
    bool read_only, writing;
    uint64_t page_count_max; /* 0: none */
    struct connection *writer;
    struct list_node pool; /* idle connections for snapshots */
    struct buf sealed;     /* scratch: a value with its checksum */
    uint64_t mark_index;
    uint64_t wal_pages;    /* as of the newest commit */
    bool checkpoint_tried; /* since the newest commit */
    bool drained;          /* since then all of the WAL is in the database */
    bool reopened;         /* and the snapshots before that are closed */
    _Atomic uint64_t commits_count, syncs_count, in_use_bytes; /* relaxed: figures */
};

struct sqlite_snapshot {
    struct backend_snapshot base;
    struct connection *connection;
};

struct sqlite_cursor {
    struct backend_cursor base;
    enum bucket bucket;
    sqlite3_stmt *rows;               /* of the bucket's table, in order */
    sqlite3_stmt *wide;               /* BUCKET_KEY: of the other one */
    bool rows_ready, wide_ready;      /* stands on a row not given yet or being given */
    sqlite3_stmt *given;              /* the statement whose row was given last, or NULL */
    uint8_t key[TOMBSTONE_KEY_BYTES]; /* BUCKET_KEY: of that row */
};

static struct sqlite_backend *sqlite_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct sqlite_backend, base);
}

static const char *table_name(size_t table)
{
    return table == PRIVATE_TABLE ? PRIVATE_BUCKET_NAME : backend_bucket_name((enum bucket)table);
}

static enum status status_from_sqlite(sqlite3 *db, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ST_OK;
    case SQLITE_FULL:
        return ST_NO_SPACE;
    case SQLITE_NOMEM:
        return ST_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ST_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* an append of what is there: the store is beside the log */
        return ST_CORRUPT;
    case SQLITE_IOERR: {
        if (rc == SQLITE_IOERR_NOMEM)
            return ST_NO_MEMORY;
        if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
            return ST_IO; /* whatever the reason: a failed sync is not tried again */
        int error = db == NULL ? 0 : sqlite3_system_errno(db);
        return error == ENOSPC || error == EDQUOT ? ST_NO_SPACE : ST_IO;
    }
    default:
        return ST_IO;
    }
}

/* ---- connections ---- */

static void connection_free(struct connection *connection)
{
    if (connection == NULL)
        return;
    for (size_t kind = 0; kind < KINDS_COUNT; kind++) {
        for (size_t table = 0; table < TABLES_COUNT; table++)
            sqlite3_finalize(connection->table[kind][table]);
    }
    for (size_t i = 0; i < WIDE_COUNT; i++)
        sqlite3_finalize(connection->wide[i]);
    int rc = sqlite3_close(connection->db);
    ASSERT(rc == SQLITE_OK); /* else a cursor is still open */
    free(connection);
}

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* *out is set unless memory is short, also on an error, so that the caller can ask what it was. */
static int connection_new(const struct sqlite_backend *sqlite, struct connection **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return SQLITE_NOMEM;
    list_init(&(*out)->node);
    int flags = SQLITE_OPEN_NOMUTEX;
    flags |= sqlite->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    /* Read-only means no lock file either; the caller holds the data directory. */
    int rc =
        sqlite3_open_v2(sqlite->path, &(*out)->db, flags, sqlite->read_only ? "unix-none" : NULL);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_extended_result_codes((*out)->db, 1);
    sqlite3_busy_timeout((*out)->db, SQLITE_BUSY_MS);
    return SQLITE_OK;
}

static int configure(const struct sqlite_backend *sqlite, sqlite3 *db)
{
    /* A stop must not wait for a checkpoint; the next start reads the WAL. */
    int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (rc == SQLITE_OK && sqlite->read_only) /* no -shm file: nothing beside the store changes */
        return run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA query_only=1");
    if (rc == SQLITE_OK)
        rc = run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cell_size_check=1;"
                     "PRAGMA wal_autocheckpoint=0");
    if (rc == SQLITE_OK && sqlite->page_count_max > 0) {
        char sql[SQL_BYTES_MAX];
        snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%llu",
                 (unsigned long long)sqlite->page_count_max);
        rc = run(db, sql);
    }
    return rc;
}

static int prepare(sqlite3 *db, sqlite3_stmt **statement, const char *sql)
{
    if (*statement != NULL) {
        sqlite3_reset(*statement); /* its result says again what its step said */
        return SQLITE_OK;
    }
    return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
}

static int prepare_table(struct connection *connection, enum statement kind, size_t table)
{
    static const char *const small[KINDS_COUNT] = {
        [GET] = "SELECT value FROM \"%s\" WHERE name=?1",
        [PUT] = "INSERT OR REPLACE INTO \"%s\"(name, value) VALUES(?1, ?2)",
        [DELETE] = "DELETE FROM \"%s\" WHERE name=?1",
    };
    static const char *const key[KINDS_COUNT] = {
        [GET] = "SELECT record, tombstone FROM \"%s\" WHERE revision=?1",
        [PUT] = "INSERT INTO \"%s\"(revision, record, tombstone) VALUES(?1, ?2, ?3)",
        [DELETE] = "DELETE FROM \"%s\" WHERE revision=?1 AND tombstone=?3",
    };
    char sql[SQL_BYTES_MAX];
    const char *form = table == BUCKET_KEY ? key[kind] : small[kind];
    sqlite3_snprintf(sizeof(sql), sql, form, table_name(table));
    return prepare(connection->db, &connection->table[kind][table], sql);
}

static int prepare_wide(struct connection *connection, enum wide_statement kind)
{
    static const char *const sql[WIDE_COUNT] = {
        [WIDE_GET] = "SELECT record, tombstone FROM key_wide WHERE main=?1 AND sub=?4",
        [WIDE_PUT] = "INSERT INTO key_wide(main, record, tombstone, sub) VALUES(?1, ?2, ?3, ?4)",
        [WIDE_DELETE] = "DELETE FROM key_wide WHERE main=?1 AND tombstone=?3 AND sub=?4",
    };
    return prepare(connection->db, &connection->wide[kind], sql[kind]);
}

/* ---- revisions ---- */

static bool revision_is_wide(struct revision revision)
{
    return revision.sub >> SUB_BITS != 0 || revision.main >> (63 - SUB_BITS) != 0;
}

static int64_t revision_pack(struct revision revision)
{
    ASSERT(!revision_is_wide(revision));
    return revision.main << SUB_BITS | revision.sub;
}

static struct revision revision_unpack(int64_t packed)
{
    return (struct revision){packed >> SUB_BITS, packed & ((1 << SUB_BITS) - 1)};
}

/* Prepares the statement of this kind for the revision and binds all but the record. */
static int bind_revision(struct connection *connection, enum statement kind,
                         struct revision revision, bool tombstone, sqlite3_stmt **out)
{
    bool wide = revision_is_wide(revision);
    int rc = wide ? prepare_wide(connection, (enum wide_statement)kind)
                  : prepare_table(connection, kind, BUCKET_KEY);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_stmt *statement = wide ? connection->wide[kind] : connection->table[kind][BUCKET_KEY];
    sqlite3_bind_int64(statement, 1, wide ? revision.main : revision_pack(revision));
    if (kind != GET)
        sqlite3_bind_int(statement, 3, tombstone);
    if (wide)
        sqlite3_bind_int64(statement, 4, revision.sub);
    *out = statement;
    return SQLITE_OK;
}

static int bind_name(struct connection *connection, enum statement kind, size_t table,
                     struct slice name, sqlite3_stmt **out)
{
    int rc = prepare_table(connection, kind, table);
    if (rc != SQLITE_OK)
        return rc;
    *out = connection->table[kind][table];
    return sqlite3_bind_blob64(*out, 1, name.data == NULL ? (const void *)"" : name.data, name.len,
                               SQLITE_STATIC);
}

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
        rc = bind_revision(sqlite->writer, kind, revision, tombstone, &statement);
    } else {
        rc = bind_name(sqlite->writer, kind, table, key, &statement);
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
        run(sqlite->writer->db, "ROLLBACK");
    sqlite->writing = false;
}

static enum status begin(struct sqlite_backend *sqlite)
{
    if (sqlite->writing)
        return ST_OK;
    int rc = run(sqlite->writer->db, "BEGIN IMMEDIATE");
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
    return st;
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
    return status_from_sqlite(sqlite->writer->db, rc);
}

static enum status end_transaction(struct sqlite_backend *sqlite, const struct store_mark *mark)
{
    enum status st = mark == NULL ? ST_OK : put_mark(sqlite, mark);
    if (st == ST_OK)
        st = status_from_sqlite(sqlite->writer->db, run(sqlite->writer->db, "COMMIT"));
    if (st != ST_OK) {
        sqlite_abort(&sqlite->base);
        return st;
    }
    sqlite->writing = false;
    sqlite->drained = sqlite->checkpoint_tried = false;
    if (mark != NULL)
        sqlite->mark_index = mark->index;
    atomic_fetch_add_explicit(&sqlite->commits_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&sqlite->syncs_count, 1, memory_order_relaxed); /* of the WAL */
    return note_pages_in_use(sqlite);
}

static enum status sqlite_commit(struct backend *backend, const struct store_mark *mark, bool full,
                                 uint64_t *durable_out)
{
    (void)full; /* every commit is */
    struct sqlite_backend *sqlite = sqlite_of(backend);
    enum status st = mark != NULL ? begin(sqlite) : ST_OK;
    if (st == ST_OK && sqlite->writing)
        st = end_transaction(sqlite, mark);
    *durable_out = sqlite->mark_index;
    return st;
}

/* ---- reading ---- */

static struct slice column_slice(sqlite3_stmt *statement, int column)
{
    const void *data = sqlite3_column_blob(statement, column); /* before its size: SQLite's rule */
    return slice_make(data, (size_t)sqlite3_column_bytes(statement, column));
}

/* Steps a GET of one row; the value is borrowed until the statement is used again. */
static enum status get_row(struct connection *connection, sqlite3_stmt *statement, struct slice key,
                           struct slice *value_out)
{
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE)
        return ST_NOT_FOUND;
    if (rc != SQLITE_ROW)
        return status_from_sqlite(connection->db, rc);
    return value_unseal(key, column_slice(statement, 0), value_out);
}

static enum status get_small(struct connection *connection, size_t table, struct slice name,
                             struct slice *value_out)
{
    sqlite3_stmt *statement;
    int rc = bind_name(connection, GET, table, name, &statement);
    if (rc != SQLITE_OK)
        return status_from_sqlite(connection->db, rc);
    return get_row(connection, statement, name, value_out);
}

static enum status get_revision(struct connection *connection, struct slice key,
                                struct slice *value_out)
{
    struct revision revision;
    bool tombstone;
    if (revision_key_decode(key, &revision, &tombstone) != ST_OK)
        return ST_NOT_FOUND;
    sqlite3_stmt *statement;
    int rc = bind_revision(connection, GET, revision, tombstone, &statement);
    if (rc != SQLITE_OK)
        return status_from_sqlite(connection->db, rc);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_DONE)
        return ST_NOT_FOUND;
    if (rc != SQLITE_ROW)
        return status_from_sqlite(connection->db, rc);
    if ((sqlite3_column_int(statement, 1) != 0) != tombstone)
        return ST_NOT_FOUND;
    return value_unseal(key, column_slice(statement, 0), value_out);
}

static enum status sqlite_mark(struct backend *backend, struct store_mark *out,
                               struct buf *conf_state)
{
    struct connection *connection = sqlite_of(backend)->writer;
    *out = (struct store_mark){0};
    struct slice payload;
    enum status st = get_small(connection, PRIVATE_TABLE, MARK_KEY, &payload);
    if (st == ST_NOT_FOUND) {
        sqlite3_reset(connection->table[GET][PRIVATE_TABLE]);
        return ST_OK; /* a fresh store */
    }
    if (st == ST_OK)
        st = mark_decode(payload, out);
    if (st == ST_OK) {
        size_t start = conf_state->len;
        st = buf_append(conf_state, out->conf_state);
        out->conf_state = slice_make(conf_state->data + start, conf_state->len - start);
    }
    sqlite3_reset(connection->table[GET][PRIVATE_TABLE]); /* ends its read transaction */
    return st;
}

static int begin_read(struct connection *connection)
{
    int rc = run(connection->db, "BEGIN");
    /* The snapshot is taken by the first read. */
    return rc == SQLITE_OK ? run(connection->db, "SELECT 1 FROM \"" PRIVATE_BUCKET_NAME "\"") : rc;
}

static enum status sqlite_snapshot_open(struct backend *backend, struct backend_snapshot **out)
{
    *out = NULL;
    struct sqlite_backend *sqlite = sqlite_of(backend);
    struct sqlite_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL)
        return ST_NO_MEMORY;
    struct list_node *idle = list_pop_front(&sqlite->pool);
    int rc = SQLITE_OK;
    if (idle != NULL)
        snapshot->connection = CONTAINER_OF(idle, struct connection, node);
    else
        rc = connection_new(sqlite, &snapshot->connection);
    if (rc == SQLITE_OK && idle == NULL)
        rc = configure(sqlite, snapshot->connection->db);
    if (rc == SQLITE_OK)
        rc = begin_read(snapshot->connection);
    if (rc != SQLITE_OK) {
        enum status st =
            status_from_sqlite(snapshot->connection == NULL ? NULL : snapshot->connection->db, rc);
        connection_free(snapshot->connection);
        free(snapshot);
        return st;
    }
    snapshot->base.backend = backend;
    *out = &snapshot->base;
    return ST_OK;
}

static void sqlite_snapshot_close(struct backend_snapshot *base)
{
    if (base == NULL)
        return;
    struct sqlite_snapshot *snapshot = CONTAINER_OF(base, struct sqlite_snapshot, base);
    struct connection *connection = snapshot->connection;
    for (size_t table = 0; table < TABLES_COUNT; table++)
        sqlite3_reset(connection->table[GET][table]);
    sqlite3_reset(connection->wide[WIDE_GET]);
    if (run(connection->db, "ROLLBACK") == SQLITE_OK)
        list_push_back(&sqlite_of(base->backend)->pool, &connection->node);
    else
        connection_free(connection);
    free(snapshot);
}

static enum status sqlite_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                              struct slice *value_out)
{
    struct connection *connection = CONTAINER_OF(base, struct sqlite_snapshot, base)->connection;
    return bucket == BUCKET_KEY ? get_revision(connection, key, value_out)
                                : get_small(connection, bucket, key, value_out);
}

/* ---- cursors ---- */

static sqlite3 *cursor_db(const struct sqlite_cursor *cursor)
{
    return CONTAINER_OF(cursor->base.snapshot, struct sqlite_snapshot, base)->connection->db;
}

static enum status sqlite_cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
                                      struct backend_cursor **out)
{
    *out = NULL;
    struct sqlite_cursor *cursor = calloc(1, sizeof(*cursor));
    if (cursor == NULL)
        return ST_NO_MEMORY;
    cursor->base.snapshot = snapshot;
    cursor->bucket = bucket;
    *out = &cursor->base;
    return ST_OK;
}

static void forget_rows(struct sqlite_cursor *cursor)
{
    sqlite3_finalize(cursor->rows);
    sqlite3_finalize(cursor->wide);
    cursor->rows = cursor->wide = cursor->given = NULL;
    cursor->rows_ready = cursor->wide_ready = false;
}

static void sqlite_cursor_close(struct backend_cursor *base)
{
    if (base == NULL)
        return;
    struct sqlite_cursor *cursor = CONTAINER_OF(base, struct sqlite_cursor, base);
    forget_rows(cursor);
    free(cursor);
}

static int step_rows(sqlite3_stmt *statement, bool *ready_out)
{
    int rc = sqlite3_step(statement);
    *ready_out = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static struct revision row_revision(const struct sqlite_cursor *cursor, sqlite3_stmt *statement)
{
    int64_t first = sqlite3_column_int64(statement, 0);
    if (statement == cursor->rows)
        return revision_unpack(first);
    return (struct revision){first, sqlite3_column_int64(statement, 3)};
}

/* Gives the row of a statement of BUCKET_KEY. */
static enum status give_revision(struct sqlite_cursor *cursor, sqlite3_stmt *statement,
                                 struct slice *key_out, struct slice *value_out)
{
    struct revision revision = row_revision(cursor, statement);
    if (revision.main < 0 || revision.sub < 0)
        return ST_CORRUPT;
    bool tombstone = sqlite3_column_int(statement, 1) != 0;
    cursor->given = statement;
    size_t size = revision_key_encode(revision, tombstone, cursor->key);
    *key_out = slice_make(cursor->key, size);
    return value_unseal(*key_out, column_slice(statement, 2), value_out);
}

/* Gives the lower of the two tables' rows (last: the higher). */
static enum status give(struct sqlite_cursor *cursor, bool last, struct slice *key_out,
                        struct slice *value_out)
{
    cursor->given = NULL;
    if (!cursor->rows_ready && !cursor->wide_ready)
        return ST_NOT_FOUND;
    if (cursor->bucket != BUCKET_KEY) {
        cursor->given = cursor->rows;
        *key_out = column_slice(cursor->rows, 0);
        return value_unseal(*key_out, column_slice(cursor->rows, 1), value_out);
    }
    sqlite3_stmt *chosen = cursor->rows_ready ? cursor->rows : cursor->wide;
    if (cursor->rows_ready && cursor->wide_ready) {
        int order =
            revision_cmp(row_revision(cursor, cursor->wide), row_revision(cursor, cursor->rows));
        if ((order < 0) != last)
            chosen = cursor->wide;
    }
    return give_revision(cursor, chosen, key_out, value_out);
}

/* Prepares both statements; form holds the table's name, the clause is the same for all. */
static int select_rows(struct sqlite_cursor *cursor, const char *where_rows, const char *where_wide)
{
    forget_rows(cursor);
    char sql[SQL_BYTES_MAX];
    bool key = cursor->bucket == BUCKET_KEY;
    sqlite3_snprintf(sizeof(sql), sql,
                     key ? "SELECT revision, tombstone, record FROM \"%s\" %s"
                         : "SELECT name, value FROM \"%s\" %s",
                     table_name(cursor->bucket), where_rows);
    int rc = sqlite3_prepare_v2(cursor_db(cursor), sql, -1, &cursor->rows, NULL);
    if (rc != SQLITE_OK || !key)
        return rc;
    sqlite3_snprintf(sizeof(sql), sql, "SELECT main, tombstone, record, sub FROM key_wide %s",
                     where_wide);
    return sqlite3_prepare_v2(cursor_db(cursor), sql, -1, &cursor->wide, NULL);
}

static int first_rows(struct sqlite_cursor *cursor)
{
    int rc = step_rows(cursor->rows, &cursor->rows_ready);
    if (rc == SQLITE_OK && cursor->wide != NULL)
        rc = step_rows(cursor->wide, &cursor->wide_ready);
    return rc;
}

static enum status sqlite_cursor_next(struct backend_cursor *base, struct slice *key_out,
                                      struct slice *value_out)
{
    struct sqlite_cursor *cursor = CONTAINER_OF(base, struct sqlite_cursor, base);
    if (cursor->given == NULL)
        return ST_NOT_FOUND;
    sqlite3_stmt *statement = cursor->given;
    cursor->given = NULL; /* after an error there is no next: SQLite would begin again */
    int rc =
        step_rows(statement, statement == cursor->rows ? &cursor->rows_ready : &cursor->wide_ready);
    if (rc != SQLITE_OK)
        return status_from_sqlite(cursor_db(cursor), rc);
    return give(cursor, /* last= */ false, key_out, value_out);
}

/* The smallest packed revision at or above revision; false when none is. */
static bool pack_at_or_above(struct revision revision, int64_t *out)
{
    if (revision.main >> (63 - SUB_BITS) != 0)
        return false;
    if (revision.sub >> SUB_BITS == 0) {
        *out = revision_pack(revision);
        return true;
    }
    revision = (struct revision){revision.main + 1, 0};
    if (revision_is_wide(revision))
        return false;
    *out = revision_pack(revision);
    return true;
}

static enum status seek_revision(struct sqlite_cursor *cursor, struct slice wanted,
                                 struct slice *key_out, struct slice *value_out)
{
    struct revision revision = {0, 0};
    bool tombstone = false;
    if (wanted.len > 0 && revision_key_decode(wanted, &revision, &tombstone) != ST_OK)
        return ST_INVALID;
    int rc = select_rows(cursor, "WHERE revision>=?1 ORDER BY revision",
                         "WHERE (main, sub)>=(?1, ?2) ORDER BY main, sub");
    if (rc != SQLITE_OK)
        return status_from_sqlite(cursor_db(cursor), rc);
    int64_t packed;
    if (pack_at_or_above(revision, &packed)) {
        sqlite3_bind_int64(cursor->rows, 1, packed);
        rc = step_rows(cursor->rows, &cursor->rows_ready);
    }
    sqlite3_bind_int64(cursor->wide, 1, revision.main);
    sqlite3_bind_int64(cursor->wide, 2, revision.sub);
    if (rc == SQLITE_OK)
        rc = step_rows(cursor->wide, &cursor->wide_ready);
    if (rc != SQLITE_OK)
        return status_from_sqlite(cursor_db(cursor), rc);
    enum status st = give(cursor, /* last= */ false, key_out, value_out);
    /* A tombstone's key lies just above the plain one of its revision. */
    if (st == ST_OK && slice_cmp(*key_out, wanted) < 0)
        st = sqlite_cursor_next(&cursor->base, key_out, value_out);
    return st;
}

static enum status sqlite_cursor_seek(struct backend_cursor *base, struct slice wanted,
                                      struct slice *key_out, struct slice *value_out)
{
    struct sqlite_cursor *cursor = CONTAINER_OF(base, struct sqlite_cursor, base);
    if (cursor->bucket == BUCKET_KEY)
        return seek_revision(cursor, wanted, key_out, value_out);
    int rc = select_rows(cursor, "WHERE name>=?1 ORDER BY name", NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob64(cursor->rows, 1,
                                 wanted.data == NULL ? (const void *)"" : wanted.data, wanted.len,
                                 SQLITE_TRANSIENT);
    if (rc == SQLITE_OK)
        rc = first_rows(cursor);
    if (rc != SQLITE_OK)
        return status_from_sqlite(cursor_db(cursor), rc);
    return give(cursor, /* last= */ false, key_out, value_out);
}

static enum status sqlite_cursor_last(struct backend_cursor *base, struct slice *key_out,
                                      struct slice *value_out)
{
    struct sqlite_cursor *cursor = CONTAINER_OF(base, struct sqlite_cursor, base);
    int rc = select_rows(cursor,
                         cursor->bucket == BUCKET_KEY ? "ORDER BY revision DESC LIMIT 1"
                                                      : "ORDER BY name DESC LIMIT 1",
                         "ORDER BY main DESC, sub DESC LIMIT 1");
    if (rc == SQLITE_OK)
        rc = first_rows(cursor);
    if (rc != SQLITE_OK)
        return status_from_sqlite(cursor_db(cursor), rc);
    enum status st = give(cursor, /* last= */ true, key_out, value_out);
    cursor->given = NULL; /* nothing comes after it */
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

static uint64_t file_bytes(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 ? (uint64_t)file.st_size : 0;
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

static enum status sqlite_upkeep(struct backend *backend, bool *reopen_out)
{
    *reopen_out = false;
    struct sqlite_backend *sqlite = sqlite_of(backend);
    if (sqlite->drained && sqlite->reopened)
        return ST_OK;
    if (sqlite->drained) {
        sqlite->reopened = true;
        bool large = file_bytes(sqlite->wal_path) >= SQLITE_WAL_BYTES_MAX;
        return large ? truncate_wal(sqlite) : ST_OK;
    }
    if (sqlite->checkpoint_tried || sqlite->wal_pages * PAGE_BYTES < SQLITE_CHECKPOINT_BYTES)
        return ST_OK;
    sqlite->checkpoint_tried = true; /* once after a commit: what an old snapshot held back waits */
    int in_wal = 0, copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(sqlite->writer->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_wal,
                                       &copied);
    atomic_fetch_add_explicit(&sqlite->syncs_count, 2, memory_order_relaxed); /* WAL, database */
    enum status st = status_from_sqlite(sqlite->writer->db, rc);
    if (st != ST_OK)
        return st == ST_BUSY ? ST_OK : st;
    sqlite->drained = in_wal == copied;
    sqlite->reopened = false;
    *reopen_out = sqlite->drained;
    return ST_OK;
}

static enum status sqlite_stat(struct backend *backend, struct backend_stat *out)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    uint64_t in_use_bytes = atomic_load_explicit(&sqlite->in_use_bytes, memory_order_relaxed);
    uint64_t size_bytes = file_bytes(sqlite->path) + file_bytes(sqlite->wal_path);
    *out = (struct backend_stat){
        .size_bytes = size_bytes,
        /* Committed pages may be in the WAL alone, several times or not yet grown into the file. */
        .in_use_bytes = min_u64(in_use_bytes, size_bytes),
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
        if (st != ST_OK)
            fault_add(report, "bucket %s: record %llu: checksum does not match",
                      backend_bucket_name(bucket), (unsigned long long)number);
        st = sqlite_cursor_next(base, &key, &value);
    }
    if (st != ST_NOT_FOUND)
        fault_add(report, "bucket %s: record %llu: %s", backend_bucket_name(bucket),
                  (unsigned long long)number, sqlite3_errmsg(cursor_db(cursor)));
    sqlite_cursor_close(base);
}

static enum status sqlite_check(struct backend *backend, struct buf *out)
{
    struct sqlite_backend *sqlite = sqlite_of(backend);
    struct fault_report report = {.out = out};
    int rc = sqlite3_exec(sqlite->writer->db, "PRAGMA integrity_check(100)", take_integrity_row,
                          &report, NULL);
    if (rc != SQLITE_OK)
        fault_add(&report, "sqlite: %s", sqlite3_errmsg(sqlite->writer->db));
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
        st = get_small(connection, PRIVATE_TABLE, slice_from_str(names[i]), &value);
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
        connection_free(CONTAINER_OF(node, struct connection, node));
    connection_free(sqlite->writer);
    buf_deinit(&sqlite->sealed);
    free(sqlite->path);
    free(sqlite->wal_path);
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
        return open_fails(options, status_from_errno(errno), "%s", strerror(errno));
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
    int rc = run(db, "CREATE TABLE \"key\"(revision INTEGER PRIMARY KEY, tombstone INTEGER NOT "
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
                         table_name(table));
        rc = run(db, sql);
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
    int rc = run(db, sql);
    if (rc == SQLITE_OK)
        rc = create_tables(db);
    uint8_t header[HEADER_BYTES];
    header_encode(options->life_id, header);
    enum status st = seal(sqlite, HEADER_KEY, slice_make(header, sizeof(header)));
    if (rc == SQLITE_OK && st == ST_OK)
        rc = write_one(sqlite, PRIVATE_TABLE, PUT, HEADER_KEY);
    if (rc == SQLITE_OK && st == ST_OK)
        rc = run(db, "COMMIT");
    if (st == ST_OK)
        st = status_from_sqlite(db, rc);
    if (st == ST_OK)
        st = sync_parent(options->path);
    return st == ST_OK ? st : open_fails(options, st, "cannot create: %s", sqlite3_errmsg(db));
}

static enum status recognise(struct sqlite_backend *sqlite, const struct backend_options *options)
{
    struct slice header;
    enum status st = get_small(sqlite->writer, PRIVATE_TABLE, HEADER_KEY, &header);
    if (st == ST_OK)
        st = header_check(header, options->life_id);
    if (st == ST_IO && (sqlite3_errcode(sqlite->writer->db) & 0xff) == SQLITE_ERROR)
        st = ST_CORRUPT; /* no such table */
    sqlite3_reset(sqlite->writer->table[GET][PRIVATE_TABLE]);
    return header_verdict(options, st);
}

static enum status open_writer(struct sqlite_backend *sqlite, const struct backend_options *options,
                               bool fresh)
{
    int rc = connection_new(sqlite, &sqlite->writer);
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
    rc = configure(sqlite, db);
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
    sqlite->page_count_max = options->map_bytes_max / PAGE_BYTES;
    list_init(&sqlite->pool);
    buf_init(&sqlite->sealed, SQLITE_VALUE_BYTES_MAX);
    sqlite->path = strdup(options->path);
    if (sqlite->path == NULL || asprintf(&sqlite->wal_path, "%s-wal", options->path) < 0)
        st = ST_NO_MEMORY;
    if (st == ST_OK)
        st = open_writer(sqlite, options, fresh);
    if (st == ST_OK)
        st = load_state(sqlite, options);
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
