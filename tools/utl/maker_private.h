/* tools/utl/maker_private.h - what maker.c (the directory) and maker_fill.c (its store) share. */
#ifndef TOOLS_UTL_MAKER_PRIVATE_H
#define TOOLS_UTL_MAKER_PRIVATE_H
#include "storage/backend.h"
#include "storage/datadir/datadir.h"
#include "tools/utl/maker.h"

#define MAKER_MAP_BYTES_MAX (64ULL << 30) /* as the server opens it: address space alone */

struct maker {
    struct maker_options options;
    struct buf *why; /* borrowed */
    struct datadir datadir;
    const struct backend_ops *ops;
    uint64_t life_id;
    struct backend *store; /* open once it is filled; owned */
    struct maker_content content;
    size_t found_len; /* of data_dir's path, as far as it was there before */
    bool made_wal;    /* the log directory was not there before */
    bool finished;
};

/* Appends a sentence to *why and gives st back. */
enum status maker_fail(struct buf *why, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum status maker_explain(struct buf *why, enum status st, const char *data_dir);
/* The store's file; valid until the next call. */
void maker_store_path(const struct maker *maker, char path[PATH_MAX]);
#endif
