/* storage/backend_lmdb_room.h - room for an LMDB transaction, made sure of before it is committed.
 *
 * LMDB reports a write that a full disk cut short as an i/o error, and that is fatal: it looks like
 * any other. So the file is allocated first, for the most that the transaction can add. Where the
 * disk refuses that, free pages inside the file may still do, but whether they do only LMDB finds
 * out: readers hold some back, and a large value needs a run of them. Such a transaction is
 * *tight*: everything before it is made durable first. Then its failure, of a write or of the sync
 * alike, costs nothing: what it wrote is named by no durable page, and the next try writes all of
 * it again. So it means "no space" and is tried again later. */
#ifndef STORAGE_BACKEND_LMDB_ROOM_H
#define STORAGE_BACKEND_LMDB_ROOM_H
#include "storage/backend.h"

#include <lmdb.h>

struct lmdb_room {
    uint64_t page_bytes;
    uint64_t allocated_bytes; /* of the file, surely with blocks behind them */
    /* Of the open transaction. */
    uint64_t record_bytes;    /* its records may add */
    uint64_t overflow_pages;  /* of them, of values with pages of their own */
    uint64_t paths_count;     /* operations that copy the pages from the root to a record */
    uint64_t overflow_before; /* pages at its begin */
    bool deletions_only;
    bool tight;
};

/* Pages of the databases as the transaction sees them. */
struct lmdb_pages {
    uint64_t tree, overflow;
};
CHECKED enum status lmdb_pages_count(MDB_txn *txn, const MDB_dbi *dbis, size_t count,
                                     struct lmdb_pages *out);

/* A transaction begins on these pages. */
void lmdb_room_begin(struct lmdb_room *room, const struct lmdb_pages *pages);
void lmdb_room_add(struct lmdb_room *room, const struct backend_op *op);
/* Before the commit. oldest: the least id among open snapshots, or UINT64_MAX; pages: as they are
 * now. On ST_OK room->tight says how a failed commit is to be understood. ST_NO_SPACE, ST_IO,
 * ST_CORRUPT. */
CHECKED enum status lmdb_room_reserve(struct lmdb_room *room, MDB_txn *txn,
                                      const struct lmdb_pages *pages, uint64_t oldest);
/* In a read transaction: free pages in the lists of transactions before `before`: those a writer
 * may take when that is the least id that anyone reads. */
CHECKED enum status lmdb_free_pages_count(MDB_txn *txn, uint64_t before, uint64_t *out);
/* What the file may still grow by, by taking disk. Any thread. */
uint64_t lmdb_room_on_disk(MDB_env *env, uint64_t end_bytes);
#endif
