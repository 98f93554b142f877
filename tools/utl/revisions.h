/* tools/utl/revisions.h - all revisions of a source in the order of their keys, in bounded memory:
 * one pass over the store sorts what is needed of each record, values are fetched when asked for.
 * One thread. */
#ifndef TOOLS_UTL_REVISIONS_H
#define TOOLS_UTL_REVISIONS_H
#include "storage/revision.h"
#include "tools/utl/source.h"

struct utl_revision {
    struct slice key; /* borrowed until the next one is taken */
    struct revision revision;
    bool tombstone;
    int64_t create_revision, version, lease;
    uint64_t value_bytes, record_bytes; /* record: the encoded KeyValue */
};

struct utl_revisions_options {
    struct slice prefix; /* only keys that begin so; borrowed for open */
    bool whole_key;      /* prefix is one key */
    int64_t revision;    /* only up to it; <= 0: all */
    size_t memory_bytes; /* for sorting; 0: 32 MiB */
};

struct utl_revisions;

/* Reads the whole store. Errors, with a sentence in why: ST_CORRUPT, ST_FUTURE, ST_COMPACTED (the
 * revision asked for), ST_NO_SPACE (for sorting), ST_IO, ST_NO_MEMORY. */
CHECKED enum status utl_revisions_open(struct utl_source *source,
                                       const struct utl_revisions_options *options, struct buf *why,
                                       struct utl_revisions **out);
void utl_revisions_close(struct utl_revisions *revisions); /* NULL is fine */

/* In order of keys, then of revisions. ST_NOT_FOUND: no more. */
CHECKED enum status utl_revisions_next(struct utl_revisions *revisions, struct utl_revision *out);
/* The same, but of each key only the newest revision, and none whose newest is a tombstone: what a
 * client would see. */
CHECKED enum status utl_revisions_next_live(struct utl_revisions *revisions,
                                            struct utl_revision *out);

/* The record of a revision: encoded mvccpb.KeyValue, borrowed until the next call. ST_NOT_FOUND,
 * ST_CORRUPT, ST_IO. */
CHECKED enum status utl_revisions_record(struct utl_revisions *revisions, struct revision revision,
                                         struct slice *out);

/* Of the whole store: the current revision (at least 1) and the compacted one (-1: never). */
int64_t utl_revisions_current(const struct utl_revisions *revisions);
int64_t utl_revisions_compacted(const struct utl_revisions *revisions);
#endif
