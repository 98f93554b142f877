/* The reading half of the SQLite backend; backend_sqlite.c says how it works. */
#include "base/assert.h"
#include "storage/backend_private.h"
#include "storage/backend_sqlite_private.h"
#include "storage/limits.h"

#include <errno.h>

#define SUB_BITS 20

const char *sqlite_table_name(size_t table)
{
    return table == PRIVATE_TABLE ? PRIVATE_BUCKET_NAME : backend_bucket_name((enum bucket)table);
}

enum status status_from_sqlite(sqlite3 *db, int rc)
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
            /* Whatever the reason. ext4, xfs and btrfs reserve space when a page is written, and
             * refuse there; "no space" from a sync comes from a thin volume or a server behind the
             * file system, after the page was dropped. Then nobody knows which pages are lost, and
             * a second sync would succeed without them. The log makes good what is missing. */
            return ST_IO;
        int error = db == NULL ? 0 : sqlite3_system_errno(db);
        return error == ENOSPC || error == EDQUOT ? ST_NO_SPACE : ST_IO;
    }
    default:
        return ST_IO;
    }
}
/* ---- connections ---- */

void sqlite_connection_free(struct connection *connection)
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

int sqlite_run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* *out is set unless memory is short, also on an error, so that the caller can ask what it was. */
int sqlite_connection_new(const struct sqlite_backend *sqlite, struct connection **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL)
        return SQLITE_NOMEM;
    list_init(&(*out)->node);
    int flags = SQLITE_OPEN_NOMUTEX;
    flags |= sqlite->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    /* Read-only and alone means no lock file either. */
    bool alone = sqlite->read_only && !sqlite->shared;
    int rc = sqlite3_open_v2(sqlite->path, &(*out)->db, flags, alone ? "unix-none" : NULL);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_extended_result_codes((*out)->db, 1);
    sqlite3_busy_timeout((*out)->db, SQLITE_BUSY_MS);
    return SQLITE_OK;
}

int sqlite_connection_configure(const struct sqlite_backend *sqlite, sqlite3 *db)
{
    /* A stop must not wait for a checkpoint; the next start reads the WAL. */
    int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (rc == SQLITE_OK && sqlite->read_only)
        rc = sqlite_run(db, "PRAGMA cell_size_check=1; PRAGMA query_only=1");
    if (rc == SQLITE_OK && sqlite->read_only && !sqlite->shared)
        rc = sqlite_run(db, "PRAGMA locking_mode=EXCLUSIVE"); /* no -shm file */
    if (rc == SQLITE_OK && sqlite->read_only)
        return rc;
    if (rc == SQLITE_OK)
        rc = sqlite_run(
            db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cell_size_check=1;"
                "PRAGMA wal_autocheckpoint=0");
    if (rc == SQLITE_OK && sqlite->page_count_max > 0) {
        char sql[SQL_BYTES_MAX];
        snprintf(sql, sizeof(sql), "PRAGMA max_page_count=%llu",
                 (unsigned long long)sqlite->page_count_max);
        rc = sqlite_run(db, sql);
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
    sqlite3_snprintf(sizeof(sql), sql, form, sqlite_table_name(table));
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
int sqlite_bind_revision(struct connection *connection, enum statement kind,
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

int sqlite_bind_name(struct connection *connection, enum statement kind, size_t table,
                     struct slice name, sqlite3_stmt **out)
{
    int rc = prepare_table(connection, kind, table);
    if (rc != SQLITE_OK)
        return rc;
    *out = connection->table[kind][table];
    return sqlite3_bind_blob64(*out, 1, name.data == NULL ? (const void *)"" : name.data, name.len,
                               SQLITE_STATIC);
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

enum status sqlite_get_small(struct connection *connection, size_t table, struct slice name,
                             struct slice *value_out)
{
    sqlite3_stmt *statement;
    int rc = sqlite_bind_name(connection, GET, table, name, &statement);
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
    int rc = sqlite_bind_revision(connection, GET, revision, tombstone, &statement);
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

enum status sqlite_mark(struct backend *backend, struct store_mark *out, struct buf *conf_state)
{
    struct connection *connection = sqlite_of(backend)->writer;
    *out = (struct store_mark){0};
    struct slice payload;
    enum status st = sqlite_get_small(connection, PRIVATE_TABLE, MARK_KEY, &payload);
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
    int rc = sqlite_run(connection->db, "BEGIN");
    /* The snapshot is taken by the first read. */
    return rc == SQLITE_OK ? sqlite_run(connection->db, "SELECT 1 FROM \"" PRIVATE_BUCKET_NAME "\"")
                           : rc;
}

enum status sqlite_snapshot_open(struct backend *backend, struct backend_snapshot **out)
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
        rc = sqlite_connection_new(sqlite, &snapshot->connection);
    if (rc == SQLITE_OK && idle == NULL)
        rc = sqlite_connection_configure(sqlite, snapshot->connection->db);
    if (rc == SQLITE_OK)
        rc = begin_read(snapshot->connection);
    if (rc != SQLITE_OK) {
        enum status st =
            status_from_sqlite(snapshot->connection == NULL ? NULL : snapshot->connection->db, rc);
        sqlite_connection_free(snapshot->connection);
        free(snapshot);
        return st;
    }
    snapshot->base.backend = backend;
    *out = &snapshot->base;
    return ST_OK;
}

void sqlite_snapshot_close(struct backend_snapshot *base)
{
    if (base == NULL)
        return;
    struct sqlite_snapshot *snapshot = CONTAINER_OF(base, struct sqlite_snapshot, base);
    struct connection *connection = snapshot->connection;
    for (size_t table = 0; table < TABLES_COUNT; table++)
        sqlite3_reset(connection->table[GET][table]);
    sqlite3_reset(connection->wide[WIDE_GET]);
    if (sqlite_run(connection->db, "ROLLBACK") == SQLITE_OK)
        list_push_back(&sqlite_of(base->backend)->pool, &connection->node);
    else
        sqlite_connection_free(connection);
    free(snapshot);
}

enum status sqlite_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                       struct slice *value_out)
{
    struct connection *connection = CONTAINER_OF(base, struct sqlite_snapshot, base)->connection;
    return bucket == BUCKET_KEY ? get_revision(connection, key, value_out)
                                : sqlite_get_small(connection, bucket, key, value_out);
}

/* ---- cursors ---- */

sqlite3 *sqlite_cursor_db(const struct sqlite_cursor *cursor)
{
    return CONTAINER_OF(cursor->base.snapshot, struct sqlite_snapshot, base)->connection->db;
}

enum status sqlite_cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
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

void sqlite_cursor_close(struct backend_cursor *base)
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
                     sqlite_table_name(cursor->bucket), where_rows);
    int rc = sqlite3_prepare_v2(sqlite_cursor_db(cursor), sql, -1, &cursor->rows, NULL);
    if (rc != SQLITE_OK || !key)
        return rc;
    sqlite3_snprintf(sizeof(sql), sql, "SELECT main, tombstone, record, sub FROM key_wide %s",
                     where_wide);
    return sqlite3_prepare_v2(sqlite_cursor_db(cursor), sql, -1, &cursor->wide, NULL);
}

static int first_rows(struct sqlite_cursor *cursor)
{
    int rc = step_rows(cursor->rows, &cursor->rows_ready);
    if (rc == SQLITE_OK && cursor->wide != NULL)
        rc = step_rows(cursor->wide, &cursor->wide_ready);
    return rc;
}

enum status sqlite_cursor_next(struct backend_cursor *base, struct slice *key_out,
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
        return status_from_sqlite(sqlite_cursor_db(cursor), rc);
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
        return status_from_sqlite(sqlite_cursor_db(cursor), rc);
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
        return status_from_sqlite(sqlite_cursor_db(cursor), rc);
    enum status st = give(cursor, /* last= */ false, key_out, value_out);
    /* A tombstone's key lies just above the plain one of its revision. */
    if (st == ST_OK && slice_cmp(*key_out, wanted) < 0)
        st = sqlite_cursor_next(&cursor->base, key_out, value_out);
    return st;
}

enum status sqlite_cursor_seek(struct backend_cursor *base, struct slice wanted,
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
        return status_from_sqlite(sqlite_cursor_db(cursor), rc);
    return give(cursor, /* last= */ false, key_out, value_out);
}

enum status sqlite_cursor_last(struct backend_cursor *base, struct slice *key_out,
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
        return status_from_sqlite(sqlite_cursor_db(cursor), rc);
    enum status st = give(cursor, /* last= */ true, key_out, value_out);
    cursor->given = NULL; /* nothing comes after it */
    return st;
}
