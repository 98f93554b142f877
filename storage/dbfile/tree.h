/* storage/dbfile/tree.h - looks things up in one tree of a db file: by descents of checked pages.
 * Each node is checked whole when it is read, and its keys against those of the branch that led to
 * it, so what is walked is in order whatever the file holds, and a walk ends. Private to this room.
 *
 * Memory: a node for each level. One thread at a time. */
#ifndef STORAGE_DBFILE_TREE_H
#define STORAGE_DBFILE_TREE_H
#include "storage/dbfile/limits.h"
#include "storage/dbfile/pages.h"

/* Where a tree is: at a page, or, root 0, within a bucket's value. */
struct dbfile_tree {
    bool exists;        /* false: a tree without records */
    uint64_t root;      /* page; 0: inline */
    struct slice bytes; /* of the inline node, borrowed */
    uint64_t page;      /* that it lies in */
    bool holds_buckets; /* the root bucket's: its values are buckets, others' never are */
};

struct dbfile_level {
    struct buf own; /* the page's bytes */
    struct dbfile_node node;
    uint64_t page; /* in own; 0: none */
    uint32_t at;
    struct slice upper; /* keys are below it, where has_upper; in the bytes of a level above */
    bool has_upper;
};

struct dbfile_walk {
    const struct dbfile_pages *pages; /* borrowed */
    struct dbfile_tree tree;
    struct dbfile_level levels[DBFILE_LEVELS_MAX];
    uint32_t depth; /* 0: not on a record */
};

void dbfile_walk_init(struct dbfile_walk *walk, const struct dbfile_pages *pages,
                      const struct dbfile_tree *tree);
void dbfile_walk_deinit(struct dbfile_walk *walk);

/* First record at or above key (empty: the first), the next one, the last one. The slices are
 * borrowed until the walk's next call. Errors: ST_NOT_FOUND (past the end, and from then on),
 * ST_CORRUPT, ST_TOO_BIG, ST_NO_MEMORY, ST_IO. */
CHECKED enum status dbfile_walk_seek(struct dbfile_walk *walk, struct slice key,
                                     struct slice *key_out, struct slice *value_out);
CHECKED enum status dbfile_walk_next(struct dbfile_walk *walk, struct slice *key_out,
                                     struct slice *value_out);
CHECKED enum status dbfile_walk_last(struct dbfile_walk *walk, struct slice *key_out,
                                     struct slice *value_out);

/* Makes the tree of a bucket from its value in the root bucket's tree; value is borrowed as long as
 * the tree is used, if it is inline. page is the one that it lies in. ST_CORRUPT. */
CHECKED enum status dbfile_tree_of_bucket(struct slice value, uint64_t page,
                                          struct dbfile_tree *out);
#endif
