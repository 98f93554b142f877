/* tests/e2e/crash_tree.h - the file tree of the power-cut disk: what is, and what would survive.
 *
 * All is in memory. A file has pages in two versions, the newest and the durable one, and so has
 * its size; a directory has its names and the list of changes to them that no sync has covered. A
 * cut decides by seed what of the rest reached the platters:
 *   - a page that was written and not synced is old, new, or a mix of both by sectors of 512 bytes;
 *   - of a directory's changes not synced a prefix was kept, since file systems keep their order;
 *   - a size that was not synced is old or new.
 * What was synced stays. A file's sync does not make its name durable; only its directory's does.
 * Inodes are numbers that are never used twice. Not thread-safe: crashfs.c holds a lock. */
#ifndef TESTS_E2E_CRASH_TREE_H
#define TESTS_E2E_CRASH_TREE_H
#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define TREE_PAGE_BYTES 4096U
#define TREE_SECTOR_BYTES 512U
#define TREE_NAME_BYTES_MAX 255U
#define TREE_ROOT 1U /* FUSE's number for it, too */

struct tree_page {
    uint8_t *now, *durable; /* owned; NULL: zeros; one and the same while not dirty */
    bool dirty;
};

struct tree_name {
    char text[TREE_NAME_BYTES_MAX + 1];
    uint64_t inode;
};

struct tree_names {
    struct tree_name *names; /* owned */
    size_t count, capacity;
};

/* One change of a directory: what each of up to two names now stands for; 0: nothing. */
struct tree_change {
    struct tree_name set[2];
};

struct tree_inode {
    mode_t mode;
    uint64_t number;
    struct timespec changed;
    /* a file */
    struct tree_page *pages; /* owned */
    size_t pages_count;
    uint64_t size, durable_size;
    /* a directory */
    struct tree_names names, durable_names;
    struct tree_change *changes; /* owned; not synced yet, oldest first */
    size_t changes_count, changes_capacity;
};

struct tree {
    struct tree_inode **inodes; /* by number; NULL: gone */
    size_t count, capacity;
};

enum tree_mood {
    TREE_MIX,  /* every page and directory by itself */
    TREE_DROP, /* nothing that was not synced is left */
    TREE_KEEP, /* all of it is left */
};

struct tree_cut_report {
    uint64_t pages_dropped, pages_kept, pages_torn, changes_dropped, changes_kept;
};

/* Each ends the process when memory ends: this is a test's disk. */
void tree_init(struct tree *tree);
struct tree_inode *tree_get(const struct tree *tree, uint64_t number); /* NULL: gone */
struct tree_inode *tree_new(struct tree *tree, mode_t mode);

uint64_t tree_lookup(const struct tree_inode *directory, const char *name); /* 0: no such name */
void tree_change(struct tree_inode *directory, const struct tree_change *change);
void tree_sync_directory(struct tree_inode *directory);

size_t tree_read(const struct tree_inode *file, uint64_t offset, size_t size, uint8_t *out);
void tree_write(struct tree_inode *file, uint64_t offset, const uint8_t *data, size_t size);
void tree_resize(struct tree_inode *file, uint64_t size);
void tree_sync_range(struct tree_inode *file, uint64_t offset, uint64_t size);

/* Nothing of it would be lost. */
bool tree_is_synced(const struct tree_inode *inode);

/* The moment after power came back: the durable state, and the newest state is the same. */
void tree_cut(struct tree *tree, enum tree_mood mood, struct rng *rng, struct tree_cut_report *out);
#endif
