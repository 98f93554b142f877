/* storage/dbfile/format.h - the bytes of etcd's db file: bbolt's format, version 2. Everything is
 * little-endian. The file is an array of pages of one size (a power of two, 512 bytes to 64 KiB);
 * a page's id is its place in the array.
 *
 * A page, and a run of pages that holds one node:
 *   0    8  id
 *   8    2  flags: 1 branch, 2 leaf, 4 meta, 16 free list
 *   10   2  count of elements (0 on a meta page)
 *   12   4  overflow: pages that follow and belong to it
 *   16      elements, 16 bytes each, then their keys and values in order
 * An element of a branch; its key is at most the first key below it:
 *   0    4  position of the key, from the element's own first byte
 *   4    4  size of the key
 *   8    8  page below
 * An element of a leaf; the value stands right behind the key:
 *   0    4  flags: 1 the value is a bucket
 *   4    4  position of the key, as above
 *   8    4  size of the key
 *   12   4  size of the value
 * A bucket:
 *   0    8  page of its root; 0: the bucket is inline
 *   8    8  sequence, unused by etcd
 *   16      inline: a leaf, with a page head of id 0
 * Pages 0 and 1 are metas; the valid one of the higher transaction counts:
 *   16   4  0xED0CDAED
 *   20   4  version, 2
 *   24   4  page size
 *   28   4  flags, 0
 *   32   8  page of the root bucket's tree, whose records are the buckets
 *   40   8  sequence of the root bucket
 *   48   8  page of the free list; all ones: not kept
 *   56   8  pages in use: no id is as high. The file may be longer
 *   64   8  transaction
 *   72   8  FNV-1a of bytes 16 to 71
 * Free pages are those that no tree reaches. */
#ifndef STORAGE_DBFILE_FORMAT_H
#define STORAGE_DBFILE_FORMAT_H
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define DBFILE_PAGE_HEAD_BYTES 16U
#define DBFILE_ELEMENT_BYTES 16U
#define DBFILE_BUCKET_BYTES 16U
#define DBFILE_META_BYTES 80U /* with the page head */
#define DBFILE_METAS_COUNT 2U
#define DBFILE_NO_FREE_LIST UINT64_MAX

enum dbfile_page_flags {
    DBFILE_BRANCH = 1,
    DBFILE_LEAF = 2,
    DBFILE_META = 4,
    DBFILE_FREE_LIST = 16,
};
#define DBFILE_LEAF_IS_BUCKET 1U

struct dbfile_page_head {
    uint64_t id;
    uint16_t flags, count;
    uint32_t overflow;
};

struct dbfile_meta {
    uint32_t page_bytes;
    uint64_t root, free_list, pages_count, transaction;
};

/* An element of either kind, as far as it is known without looking at the rest of the page. */
struct dbfile_element {
    uint32_t flags;    /* of a leaf */
    uint32_t position; /* of the key, from the element's first byte */
    uint32_t key_bytes;
    uint32_t value_bytes; /* of a leaf */
    uint64_t child;       /* of a branch */
};

static inline bool dbfile_page_bytes_are_legal(uint32_t page_bytes)
{
    return page_bytes >= 512 && page_bytes <= 65536 && (page_bytes & (page_bytes - 1)) == 0;
}

void dbfile_page_head_encode(const struct dbfile_page_head *head,
                             uint8_t out[DBFILE_PAGE_HEAD_BYTES]);
void dbfile_page_head_decode(const uint8_t in[DBFILE_PAGE_HEAD_BYTES],
                             struct dbfile_page_head *out);
/* A whole meta page up to its checksum; id is 0 or 1. */
void dbfile_meta_encode(const struct dbfile_meta *meta, uint64_t id,
                        uint8_t out[DBFILE_META_BYTES]);
/* Errors: ST_CORRUPT (magic, checksum, page size), ST_UNSUPPORTED (another version). */
CHECKED enum status dbfile_meta_decode(const uint8_t in[DBFILE_META_BYTES],
                                       struct dbfile_meta *out);
void dbfile_branch_element_encode(const struct dbfile_element *element,
                                  uint8_t out[DBFILE_ELEMENT_BYTES]);
void dbfile_branch_element_decode(const uint8_t in[DBFILE_ELEMENT_BYTES],
                                  struct dbfile_element *out);
void dbfile_leaf_element_encode(const struct dbfile_element *element,
                                uint8_t out[DBFILE_ELEMENT_BYTES]);
void dbfile_leaf_element_decode(const uint8_t in[DBFILE_ELEMENT_BYTES], struct dbfile_element *out);
#endif
