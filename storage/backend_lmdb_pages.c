/* The format of LMDB 0.9, little-endian, W bytes a word (the machine's size_t: 8, or 4 on a 32-bit
 * one). A file is pages of one size; pages 0 and 1 are heads, of which the one with the higher
 * transaction counts. A page:
 *   0    W  its number
 *   W    2  unused here
 *   W+2  2  kind: 1 branch, 2 leaf, 4 overflow, 8 head; further bits never reach the file
 *   W+4  2  lower: end of the table of nodes        overflow: 4, number of pages in the run
 *   W+6  2  upper: start of the nodes, which fill the page from there to its end
 *   W+8     table: 2 bytes a node, its offset in the page, in the order of keys
 * A node, at an even offset:
 *   0    4  leaf: size of the data                  branch: page number, low
 *   4    2  leaf: 1 data is elsewhere, 2 a database        page number, high (W = 8)
 *   6    2  size of the key
 *   8       key, then data; elsewhere: the number of the first page of an overflow run
 * A database (its name is a key of the main one, this its data):
 *   0    4  free pages' database: page size         others: unused
 *   4    2  flags
 *   6    2  depth of its tree
 *   8    5W pages of branches, of leaves, of overflow runs, entries, root page (all ones: empty)
 * A head, behind its page's 16 (12) bytes:
 *   0    4  0xbeefc0de
 *   4    4  version of the format: 1
 *   8    2W unused here, size of the map
 *   8+2W    databases: free pages, main
 *   ...  2W last page in use, transaction
 * Free pages are listed by the transaction that freed them: key W, data count and numbers, each W,
 * descending. */
#include "storage/backend_lmdb_pages.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define W sizeof(size_t)
#define PAGE_HEAD_BYTES (W + 8)
#define NODE_HEAD_BYTES 8U
#define DATABASE_BYTES (8 + 5 * W)
#define HEAD_BYTES (8 + 2 * W + 2 * DATABASE_BYTES + 2 * W)
#define HEADS_COUNT 2U
#define HEAD_MAGIC 0xbeefc0deU
#define HEAD_VERSION 1U
#define PAGE_BYTES_MIN 512U /* LMDB takes the machine's, at most 32 KiB */
#define PAGE_BYTES_MAX 65536U
#define KEY_BYTES_MAX 511U
#define DEPTH_MAX 32U /* of LMDB's own stack */
#define EMPTY SIZE_MAX

enum page_kind { BRANCH = 1, LEAF = 2, OVERFLOW = 4, HEAD = 8 };
enum node_flags { ELSEWHERE = 1, DATABASE = 2 };
enum database_flags { INTEGER_KEYS = 0x08, ONE_FILE = 0x4000 /* how it was opened */ };

struct database {
    uint32_t page_bytes;
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
};

struct head {
    uint64_t transaction, last_page, map_bytes;
    struct database free_pages, names;
};

struct node {
    struct slice key, data; /* data: empty where it is elsewhere */
    uint32_t data_bytes;    /* of a leaf's */
    uint16_t flags;         /* of a leaf's */
    uint64_t page;          /* child, or first page of the run elsewhere */
};

enum tree_kind { FREE_PAGES, NAMES, RECORDS };

/* The walk of one tree. */
struct tree {
    enum tree_kind kind;
    const char *name;
    struct database counted; /* as found */
    uint16_t depth;
    uint8_t bound[KEY_BYTES_MAX]; /* the next key is above it, or equal to it */
    size_t bound_bytes;
    bool bounded, may_equal;
};

struct file_check {
    int fd;
    uint32_t page_bytes;
    uint64_t pages_count; /* whole ones in the file */
    struct head head;
    uint8_t *used;                 /* owned: a bit a page */
    uint8_t *pages[DEPTH_MAX + 1]; /* owned, one a level of the databases' tree or of another */
    uint8_t *name_pages[DEPTH_MAX + 1];
    const char *only; /* the one named database to walk, or NULL: all */
    struct fault_report *report;
    enum status st; /* ST_IO, ST_NO_MEMORY: ends the walk */
};

/* ---- words ---- */

static uint64_t word_at(const uint8_t *at)
{
    return W == 8 ? get_le64(at) : get_le32(at);
}

static struct database database_at(const uint8_t *at)
{
    return (struct database){.page_bytes = get_le32(at),
                             .flags = get_le16(at + 4),
                             .depth = get_le16(at + 6),
                             .branches = word_at(at + 8),
                             .leaves = word_at(at + 8 + W),
                             .overflows = word_at(at + 8 + 2 * W),
                             .entries = word_at(at + 8 + 3 * W),
                             .root = word_at(at + 8 + 4 * W)};
}

/* ---- reading ---- */

/* False when the bytes are not there, or the disk fails: then c->st says so. */
static bool read_bytes(struct file_check *c, uint64_t offset, uint8_t *out, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(c->fd, out + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            c->st = ST_IO;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static void fault(struct file_check *c, const struct tree *tree, uint64_t page, const char *what)
{
    fault_add(c->report, "page %llu (%s): %s", (unsigned long long)page,
              tree == NULL ? "head" : tree->name, what);
}

/* Claims a run of pages for the tree: in the file, in use by its head, and nobody else's. */
static bool claim(struct file_check *c, const struct tree *tree, uint64_t from, uint64_t first,
                  uint64_t count)
{
    uint64_t end = min_u64(c->pages_count, c->head.last_page + 1);
    if (first < HEADS_COUNT || first >= end || count > end - first) {
        fault(c, tree, from, "names a page that is not in the file");
        return false;
    }
    for (uint64_t page = first; page < first + count; page++) {
        if ((c->used[page / 8] >> (page % 8) & 1) != 0) {
            fault(c, tree, from, "names a page that is in use elsewhere");
            return false;
        }
        c->used[page / 8] |= (uint8_t)(1U << (page % 8));
    }
    fault_report_went_on(c->report, count * c->page_bytes);
    return true;
}

/* ---- nodes ---- */

/* False when the node does not lie in the page, behind its table. */
static bool node_at(const struct file_check *c, const uint8_t *page, uint32_t i, bool leaf,
                    struct node *out)
{
    uint32_t upper = get_le16(page + W + 6), offset = get_le16(page + PAGE_HEAD_BYTES + 2 * i);
    if (offset < upper || offset % 2 != 0 || offset + NODE_HEAD_BYTES > c->page_bytes)
        return false;
    const uint8_t *at = page + offset;
    uint32_t room = c->page_bytes - offset - NODE_HEAD_BYTES, key_bytes = get_le16(at + 6);
    *out = (struct node){.flags = get_le16(at + 4), .data_bytes = get_le32(at)};
    if (key_bytes > KEY_BYTES_MAX || key_bytes > room)
        return false;
    out->key = slice_make(at + NODE_HEAD_BYTES, key_bytes);
    const uint8_t *data = at + NODE_HEAD_BYTES + key_bytes;
    if (!leaf) {
        out->page = get_le32(at) | (W == 8 ? (uint64_t)get_le16(at + 4) << 32 : 0);
        return true;
    }
    if (key_bytes == 0)
        return false;
    if (out->flags == ELSEWHERE) {
        if (W > room - key_bytes)
            return false;
        out->page = word_at(data);
        return true;
    }
    if (out->data_bytes > room - key_bytes)
        return false;
    out->data = slice_make(data, out->data_bytes);
    return true;
}

static uint32_t node_bytes(const struct node *node, bool leaf)
{
    size_t data = !leaf ? 0 : node->flags == ELSEWHERE ? W : node->data_bytes;
    return (uint32_t)((NODE_HEAD_BYTES + node->key.len + data + 1) & ~(size_t)1);
}

/* Integers of the machine's for free pages, else bytes. */
static int compare_keys(const struct tree *tree, struct slice a, struct slice b)
{
    if (tree->kind != FREE_PAGES)
        return slice_cmp(a, b);
    uint64_t left = word_at(a.data), right = word_at(b.data);
    return left < right ? -1 : left > right;
}

static bool advance(struct tree *tree, struct slice key, bool next_may_equal)
{
    if (tree->kind == FREE_PAGES && key.len != W)
        return false;
    if (tree->bounded) {
        int order = compare_keys(tree, key, slice_make(tree->bound, tree->bound_bytes));
        if (order < 0 || (order == 0 && !tree->may_equal))
            return false;
    }
    memcpy(tree->bound, key.data, key.len);
    tree->bound_bytes = key.len;
    tree->bounded = true;
    tree->may_equal = next_may_equal;
    return true;
}

/* ---- data of leaves ---- */

static bool free_list_is_sound(const struct file_check *c, const uint8_t *data, uint64_t size)
{
    if (size < W || size % W != 0 || word_at(data) != size / W - 1)
        return false;
    uint64_t above = c->head.last_page + 1;
    for (uint64_t at = W; at < size; at += W) {
        uint64_t page = word_at(data + at);
        if (page < HEADS_COUNT || page >= above)
            return false;
        if (page < c->pages_count) { /* those behind were freed before they were ever written */
            if ((c->used[page / 8] >> (page % 8) & 1) != 0)
                return false;
            c->used[page / 8] |= (uint8_t)(1U << (page % 8));
        }
        above = page;
    }
    return true;
}

static void check_free_list(struct file_check *c, struct tree *tree, uint64_t page,
                            const struct node *node)
{
    const uint8_t *data = node->data.data;
    uint8_t *copy = NULL;
    if (node->flags == ELSEWHERE) {
        copy = malloc(max_size(node->data_bytes, 1));
        if (copy == NULL) {
            c->st = ST_NO_MEMORY;
            return;
        }
        uint64_t offset = node->page * c->page_bytes + PAGE_HEAD_BYTES;
        if (!read_bytes(c, offset, copy, node->data_bytes)) {
            free(copy);
            return;
        }
        data = copy;
    }
    if (!free_list_is_sound(c, data, node->data_bytes))
        fault(c, tree, page, "lists free pages that cannot be");
    free(copy);
}

/* The run of pages that holds one value. */
static bool check_run(struct file_check *c, struct tree *tree, uint64_t from,
                      const struct node *node)
{
    uint64_t needed = (PAGE_HEAD_BYTES + node->data_bytes - 1) / c->page_bytes + 1;
    uint8_t head[W + 8];
    if (node->page >= c->pages_count ||
        !read_bytes(c, node->page * c->page_bytes, head, sizeof(head))) {
        fault(c, tree, from, "names a page that is not in the file");
        return false;
    }
    uint64_t count = get_le32(head + W + 4);
    if (word_at(head) != node->page || get_le16(head + W + 2) != OVERFLOW || count < needed) {
        fault(c, tree, node->page, "is not the head of the value it should hold");
        return false;
    }
    tree->counted.overflows += count;
    return claim(c, tree, from, node->page, count);
}

static void walk_named(struct file_check *c, uint64_t page, const struct node *node);

static void check_leaf_node(struct file_check *c, struct tree *tree, uint64_t page,
                            const struct node *node)
{
    tree->counted.entries++;
    uint16_t allowed = tree->kind == NAMES ? DATABASE : ELSEWHERE;
    if (node->flags != allowed && (node->flags != 0 || tree->kind == NAMES)) {
        fault(c, tree, page, "has a node of a kind that does not belong there");
        return;
    }
    if (node->flags == ELSEWHERE && !check_run(c, tree, page, node))
        return;
    if (tree->kind == NAMES)
        walk_named(c, page, node);
    if (tree->kind == FREE_PAGES)
        check_free_list(c, tree, page, node);
}

/* ---- trees ---- */

static bool page_is_sound(struct file_check *c, const struct tree *tree, uint64_t number,
                          const uint8_t *page, uint16_t level)
{
    uint16_t kind = level == tree->depth ? LEAF : BRANCH;
    uint32_t lower = get_le16(page + W + 4), upper = get_le16(page + W + 6);
    if (word_at(page) != number || get_le16(page + W + 2) != kind) {
        fault(c, tree, number, "is not the page it should be");
        return false;
    }
    uint32_t least = kind == BRANCH && tree->kind != FREE_PAGES ? 2 : 1; /* LMDB insists */
    if (lower < PAGE_HEAD_BYTES + 2 * least || lower % 2 != 0 || lower > upper ||
        upper > c->page_bytes) {
        fault(c, tree, number, "has bounds that cannot be");
        return false;
    }
    return true;
}

static uint32_t nodes_count(const uint8_t *page)
{
    return (uint32_t)(get_le16(page + W + 4) - PAGE_HEAD_BYTES) / 2;
}

/* All of a page's nodes lie in it and fill it: no two can overlap unseen. */
static bool nodes_are_sound(struct file_check *c, const struct tree *tree, uint64_t number,
                            const uint8_t *page, bool leaf)
{
    uint32_t bytes = 0, count = nodes_count(page);
    for (uint32_t i = 0; i < count; i++) {
        struct node node;
        if (!node_at(c, page, i, leaf, &node)) {
            fault(c, tree, number, "has a node that does not lie in it");
            return false;
        }
        bytes += node_bytes(&node, leaf);
    }
    if (bytes == c->page_bytes - get_le16(page + W + 6))
        return true;
    fault(c, tree, number, "has nodes that do not fill it");
    return false;
}

static uint8_t *page_buffer(struct file_check *c, uint8_t **buffer)
{
    if (*buffer == NULL)
        *buffer = malloc(c->page_bytes);
    if (*buffer == NULL)
        c->st = ST_NO_MEMORY;
    return *buffer;
}

/* Recursion is as deep as the tree: DEPTH_MAX at most. */
static void walk_page(struct file_check *c, struct tree *tree, uint64_t from, uint64_t number,
                      uint16_t level)
{
    uint8_t **buffers = tree->kind == NAMES ? c->name_pages : c->pages;
    uint8_t *page = page_buffer(c, &buffers[level]);
    if (page == NULL || !claim(c, tree, from, number, 1))
        return;
    bool leaf = level == tree->depth;
    if (!read_bytes(c, number * c->page_bytes, page, c->page_bytes)) {
        fault(c, tree, number, "cannot be read");
        return;
    }
    if (!page_is_sound(c, tree, number, page, level) ||
        !nodes_are_sound(c, tree, number, page, leaf))
        return;
    *(leaf ? &tree->counted.leaves : &tree->counted.branches) += 1;
    uint32_t count = nodes_count(page);
    for (uint32_t i = 0; i < count && c->st == ST_OK; i++) {
        struct node node;
        bool sound = node_at(c, page, i, leaf, &node);
        ASSERT(sound); /* nodes_are_sound() */
        /* The first key of a branch stands for everything below the second and is not looked at. */
        if ((leaf || i > 0) && !advance(tree, node.key, /* next_may_equal= */ !leaf)) {
            fault(c, tree, number, "has keys out of order");
            return;
        }
        if (leaf)
            check_leaf_node(c, tree, number, &node);
        else
            walk_page(c, tree, number, node.page, level + 1);
    }
}

static void check_counts(struct file_check *c, const struct tree *tree, uint64_t from,
                         const struct database *stored)
{
    const struct database *counted = &tree->counted;
    if (stored->branches != counted->branches || stored->leaves != counted->leaves ||
        stored->overflows != counted->overflows || stored->entries != counted->entries)
        fault(c, tree, from, "counts other pages or entries than there are");
}

static void walk_tree(struct file_check *c, enum tree_kind kind, const char *name, uint64_t from,
                      const struct database *database)
{
    struct tree tree = {.kind = kind, .name = name, .depth = database->depth};
    uint64_t faults_before = c->report->faults_count;
    uint16_t flags = database->flags;
    if (kind == FREE_PAGES)
        flags = (uint16_t)(flags & ~ONE_FILE);
    if (flags != (kind == FREE_PAGES ? INTEGER_KEYS : 0) || tree.depth > DEPTH_MAX ||
        (database->root == EMPTY) != (tree.depth == 0)) {
        fault(c, &tree, from, "describes a database that cannot be");
        return;
    }
    if (tree.depth > 0)
        walk_page(c, &tree, from, database->root, 1);
    /* What was not walked was not counted. */
    if (c->st == ST_OK && c->report->faults_count == faults_before)
        check_counts(c, &tree, from, database);
}

static void walk_named(struct file_check *c, uint64_t page, const struct node *node)
{
    char name[KEY_BYTES_MAX + 1];
    for (size_t i = 0; i < node->key.len; i++) /* for people */
        name[i] =
            node->key.data[i] >= ' ' && node->key.data[i] < 127 ? (char)node->key.data[i] : '?';
    name[node->key.len] = '\0';
    if (c->only != NULL && strcmp(name, c->only) != 0)
        return;
    if (node->data_bytes != DATABASE_BYTES) {
        fault_add(c->report, "page %llu: database '%s' has no description",
                  (unsigned long long)page, name);
        return;
    }
    struct database database = database_at(node->data.data);
    walk_tree(c, RECORDS, name, page, &database);
}

/* ---- the head ---- */

static bool read_head(struct file_check *c, uint64_t offset, struct head *out)
{
    uint8_t bytes[PAGE_HEAD_BYTES + HEAD_BYTES];
    const uint8_t *at = bytes + PAGE_HEAD_BYTES;
    if (!read_bytes(c, offset, bytes, sizeof(bytes)))
        return false;
    if ((get_le16(bytes + W + 2) & HEAD) == 0 || get_le32(at) != HEAD_MAGIC ||
        get_le32(at + 4) != HEAD_VERSION)
        return false;
    const uint8_t *databases = at + 8 + 2 * W, *end = databases + 2 * DATABASE_BYTES;
    *out = (struct head){.map_bytes = word_at(at + 8 + W),
                         .free_pages = database_at(databases),
                         .names = database_at(databases + DATABASE_BYTES),
                         .last_page = word_at(end),
                         .transaction = word_at(end + W)};
    uint32_t page_bytes = out->free_pages.page_bytes;
    return page_bytes >= PAGE_BYTES_MIN && page_bytes <= PAGE_BYTES_MAX &&
           (page_bytes & (page_bytes - 1)) == 0;
}

/* The heads take turns, so their transactions are neighbours; at first both are 0. */
static bool heads_agree(const struct head *a, const struct head *b)
{
    uint64_t apart = a->transaction > b->transaction ? a->transaction - b->transaction
                                                     : b->transaction - a->transaction;
    return a->free_pages.page_bytes == b->free_pages.page_bytes && apart <= 1;
}

static bool load_head(struct file_check *c, uint64_t file_bytes)
{
    struct head first, second;
    if (!read_head(c, 0, &first) || !read_head(c, first.free_pages.page_bytes, &second) ||
        !heads_agree(&first, &second))
        return false;
    c->head = second.transaction > first.transaction ? second : first;
    c->page_bytes = c->head.free_pages.page_bytes;
    c->pages_count = file_bytes / c->page_bytes;
    return c->head.last_page + 1 >= HEADS_COUNT && c->pages_count >= HEADS_COUNT &&
           c->head.last_page < c->head.map_bytes / c->page_bytes;
}

static void check_deinit(struct file_check *c)
{
    for (uint32_t i = 0; i <= DEPTH_MAX; i++) {
        free(c->pages[i]);
        free(c->name_pages[i]);
    }
    free(c->used);
}

/* only: the one named database that is needed, or NULL: everything. */
static enum status check_file(int fd, const char *only, struct fault_report *report)
{
    struct file_check c = {.fd = fd, .only = only, .report = report};
    struct stat file;
    if (fstat(fd, &file) != 0)
        return ST_IO;
    if (file.st_size == 0)
        return ST_OK;
    uint64_t faults_before = report->faults_count;
    if (!load_head(&c, (uint64_t)file.st_size)) {
        if (c.st == ST_OK)
            fault(&c, NULL, 0, "is damaged, or not LMDB's");
        return c.st != ST_OK ? c.st : ST_CORRUPT;
    }
    if (c.head.last_page >= c.pages_count)
        c.only = NULL;
    c.used = calloc(c.pages_count / 8 + 1, 1);
    if (c.used == NULL)
        return ST_NO_MEMORY;
    walk_tree(&c, NAMES, "names", 0, &c.head.names);
    if (c.only == NULL && c.st == ST_OK)
        walk_tree(&c, FREE_PAGES, "free pages", 0, &c.head.free_pages);
    check_deinit(&c);
    if (c.st != ST_OK)
        return c.st;
    return report->faults_count == faults_before ? ST_OK : ST_CORRUPT;
}

enum status lmdb_file_check_head(int fd, const char *name, struct fault_report *report)
{
    return check_file(fd, name, report);
}

enum status lmdb_file_check(int fd, struct fault_report *report)
{
    return check_file(fd, NULL, report);
}
