/* tools/utl/scan.h - what one pass over an etcd db file (a snapshot, or a member's db) yields,
 * everything in it checked. */
#ifndef TOOLS_UTL_SCAN_H
#define TOOLS_UTL_SCAN_H
#include "base/buf.h"
#include "base/status.h"

#include <stdint.h>

struct utl_summary {
    uint32_t hash;          /* CRC-32C of every bucket's name, keys and values: etcdutl's */
    int64_t revision;       /* main one of the last record of bucket key; 0: none */
    uint64_t records_count; /* of all buckets */
    uint64_t size_bytes;    /* of the pages in use */
};

/* Errors: the reader's (storage/dbfile/reader.h) and ST_NOT_FOUND; *why gets a sentence. */
CHECKED enum status utl_summarise(const char *path, struct utl_summary *out, struct buf *why);
#endif
