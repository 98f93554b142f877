/* storage/dbfile/loader.h - fills a fresh store from a db file: what a lagging member received, or
 * a snapshot that is restored. The half-made store is nothing until the caller names it (a SNAPSHOT
 * record of the log, or FORMAT); after any error, close the loader and remove the file.
 *
 * Work comes in bounded steps. One thread at a time. Nothing here logs. */
#ifndef STORAGE_DBFILE_LOADER_H
#define STORAGE_DBFILE_LOADER_H
#include "base/disk.h"
#include "base/status.h"
#include "storage/backend.h"

#include <stdbool.h>
#include <stdint.h>

struct dbfile_load_options {
    struct disk_file *file; /* borrowed until the loader is closed */
    const struct backend_ops *backend;
    struct backend_options target; /* create must be set, and nothing be at path; borrowed for open.
                                      target.why gets a sentence about any failure, the file's too,
                                      and is borrowed until the loader is closed */
    /* What the file must hold, from the message that brought it: its index must be the file's, and
     * its term where the file has one; its configuration is the one that counts. NULL: the file's
     * own mark. Borrowed until the loader is closed. */
    const struct store_mark *expected;
};

struct dbfile_loaded {
    struct store_mark mark;   /* as committed; conf_state is borrowed from the loader. Index 0: the
                                 file says nothing */
    int64_t revision;         /* the newest, at least 1 */
    int64_t compact_revision; /* -1: never */
    uint64_t records_count;   /* of all buckets */
    uint64_t size_bytes;      /* of the file's pages */
};

struct dbfile_loader;

/* Errors: the reader's, the backend's, ST_EXISTS (something is at the path). */
CHECKED enum status dbfile_loader_open(const struct dbfile_load_options *options,
                                       struct dbfile_loader **out);
/* A step; *done_out: the store holds everything with its mark, is closed, and file and directory
 * are durable. Errors: ST_CORRUPT (the file, also what is no record of etcd's in it), ST_INVALID
 * (not what was expected), ST_UNSUPPORTED (a bucket that is not etcd's), ST_NO_SPACE, ST_NO_MEMORY,
 * ST_IO. None is for trying again. */
CHECKED enum status dbfile_loader_step(struct dbfile_loader *loader, bool *done_out);
/* Of the records loaded so far, for whoever shows how far it is; the file is a little larger. */
uint64_t dbfile_loader_loaded_bytes(const struct dbfile_loader *loader);
struct dbfile_loaded dbfile_loader_result(const struct dbfile_loader *loader); /* once done */
void dbfile_loader_close(struct dbfile_loader *loader);                        /* NULL is fine */
#endif
