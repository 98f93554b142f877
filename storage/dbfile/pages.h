/* storage/dbfile/pages.h - the pages of a db file and the nodes in them, with every id, offset and
 * size checked before it is used. What is found wrong is said in a sentence. Private to the readers
 * of this room: reader.c walks a file whole, backend_dbfile.c looks things up in it. */
#ifndef STORAGE_DBFILE_PAGES_H
#define STORAGE_DBFILE_PAGES_H
#include "base/buf.h"
#include "base/disk.h"
#include "storage/dbfile/format.h"

#define DBFILE_KEY_BYTES_MAX 32768U /* bbolt's */

/* What was read beyond the bytes that were asked for, since those before had been asked for, too.
 */
struct dbfile_window {
    uint8_t *bytes; /* DBFILE_AHEAD_BYTES; owned by whoever made it */
    uint64_t offset;
    size_t len;
    uint64_t next; /* the end of what was asked for last */
};

struct dbfile_pages {
    struct disk_file *file;       /* borrowed */
    struct dbfile_window *window; /* borrowed, of one thread; NULL: nothing is read ahead */
    struct buf *why;              /* borrowed, or NULL */
    struct dbfile_meta meta;
    uint32_t valid_metas_count;
};

/* Finds the meta page that counts. Errors: ST_CORRUPT (foreign, damaged, cut off), ST_UNSUPPORTED,
 * ST_TOO_BIG, ST_IO. */
CHECKED enum status dbfile_pages_open(struct disk_file *file, struct buf *why,
                                      struct dbfile_pages *out);
/* Says what is wrong, where there is a why, and gives st back. */
enum status dbfile_fail(const struct dbfile_pages *pages, enum status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
CHECKED enum status dbfile_read_exactly(const struct dbfile_pages *pages, uint64_t offset,
                                        uint8_t *out, size_t len);
/* Reads the run of pages that begins at page into *out (reset first). Errors: ST_CORRUPT (not
 * within the file, another page's), ST_TOO_BIG, ST_NO_MEMORY, ST_IO. */
CHECKED enum status dbfile_read_run(const struct dbfile_pages *pages, uint64_t page,
                                    struct buf *out, struct dbfile_page_head *head_out);

/* A node whose bytes are all in memory; elements are taken one after the other. */
struct dbfile_node {
    struct slice bytes; /* borrowed */
    uint64_t page;      /* that the bytes are in */
    bool is_inline;
    bool is_leaf;
    uint32_t count, next; /* elements; the next one to look at */
    uint64_t data_at;     /* keys and values before it are used */
};

/* Begins a node. An empty one is in place only as the root of a tree without keys. ST_CORRUPT. */
CHECKED enum status dbfile_node_begin(const struct dbfile_pages *pages, struct slice bytes,
                                      uint64_t page, bool is_root, struct dbfile_node *out);
/* The node within a bucket's value, behind its head, on this page. ST_CORRUPT. */
CHECKED enum status dbfile_node_begin_inline(const struct dbfile_pages *pages, struct slice bytes,
                                             uint64_t page, struct dbfile_node *out);
/* Decodes the next element and checks that it lies in the node, right behind the one before as
 * bbolt packs them: a count of elements that is too low shows as a gap in front of the first. The
 * caller moves on by raising next. ST_CORRUPT. */
CHECKED enum status dbfile_node_take(const struct dbfile_pages *pages, struct dbfile_node *node,
                                     struct dbfile_element *element, struct slice *key_out,
                                     struct slice *value_out);
/* An element that was taken before without an error. */
void dbfile_node_at(const struct dbfile_node *node, uint32_t index, struct dbfile_element *element,
                    struct slice *key_out, struct slice *value_out);
/* Says what is wrong with the element at next, or with the node itself when there is none. */
enum status dbfile_fail_at(const struct dbfile_pages *pages, const struct dbfile_node *node,
                           const char *what);
#endif
