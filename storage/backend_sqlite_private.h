/* storage/backend_sqlite_private.h - the two halves of the SQLite backend: backend_sqlite_read.c
 * has connections, statements and all reading, backend_sqlite.c writing, upkeep and opening. */
#ifndef STORAGE_BACKEND_SQLITE_PRIVATE_H
#define STORAGE_BACKEND_SQLITE_PRIVATE_H
#include "base/buf.h"
#include "base/list.h"
#include "storage/backend.h"
#include "storage/backend_sqlite_room.h"
#include "storage/revision.h"

#include <sqlite3.h>
#include <stdatomic.h>

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
    const char *path; /* of room */
    struct sqlite_room room;
    int bulk_file; /* descriptor of a store that is filled; -1: an ordinary one */
    bool read_only, shared, writing;
    const struct backend_watch *watch; /* borrowed, or NULL */
    uint64_t page_count_max;           /* 0: none */
    struct connection *writer;
    struct list_node pool; /* idle connections for snapshots */
    struct buf sealed;     /* scratch: a value with its checksum */
    uint64_t mark_index;
    uint64_t wal_pages;    /* as of the newest commit; at first a guess */
    bool checkpoint_tried; /* since the newest commit */
    bool drained;          /* since then all of the WAL is in the database */
    bool reopened;         /* and the snapshots before that are closed */
    bool refused;          /* a transaction found no room; a checkpoint may help */
    /* Relaxed: figures. */
    _Atomic uint64_t commits_count, syncs_count, in_use_bytes, free_bytes;
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
static inline struct sqlite_backend *sqlite_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct sqlite_backend, base);
}

/* Functions that give an int give SQLite's own result codes. */
const char *sqlite_table_name(size_t table);
enum status status_from_sqlite(sqlite3 *db, int rc);
void sqlite_connection_free(struct connection *connection);
int sqlite_run(sqlite3 *db, const char *sql);
int sqlite_connection_new(const struct sqlite_backend *sqlite, struct connection **out);
int sqlite_connection_configure(const struct sqlite_backend *sqlite, sqlite3 *db);
int sqlite_bind_revision(struct connection *connection, enum statement kind,
                         struct revision revision, bool tombstone, sqlite3_stmt **out);
int sqlite_bind_name(struct connection *connection, enum statement kind, size_t table,
                     struct slice name, sqlite3_stmt **out);
enum status sqlite_get_small(struct connection *connection, size_t table, struct slice name,
                             struct slice *value_out);
enum status sqlite_mark(struct backend *backend, struct store_mark *out, struct buf *conf_state);
enum status sqlite_snapshot_open(struct backend *backend, struct backend_snapshot **out);
void sqlite_snapshot_close(struct backend_snapshot *base);
enum status sqlite_get(struct backend_snapshot *base, enum bucket bucket, struct slice key,
                       struct slice *value_out);
sqlite3 *sqlite_cursor_db(const struct sqlite_cursor *cursor);
enum status sqlite_cursor_open(struct backend_snapshot *snapshot, enum bucket bucket,
                               struct backend_cursor **out);
void sqlite_cursor_close(struct backend_cursor *base);
enum status sqlite_cursor_next(struct backend_cursor *base, struct slice *key_out,
                               struct slice *value_out);
enum status sqlite_cursor_seek(struct backend_cursor *base, struct slice wanted,
                               struct slice *key_out, struct slice *value_out);
enum status sqlite_cursor_last(struct backend_cursor *base, struct slice *key_out,
                               struct slice *value_out);
#endif
