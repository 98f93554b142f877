/* storage/index_private.h - the tree's nodes, shared by index.c, index_tree.c and index_check.c. */
#ifndef STORAGE_INDEX_PRIVATE_H
#define STORAGE_INDEX_PRIVATE_H
#include "storage/index.h"

#define NODE_KEYS 64U        /* 1 KiB leaves: a memmove costs less than one miss to memory */
#define NODE_MERGE_BELOW 24U /* a node with fewer looks for a neighbour to join */

/* keys[] are packed records: in a leaf the keys themselves, in an inner node lower bounds of the
 * children (a record that is a key and nothing else). Keys of a node share prefix_bytes bytes;
 * slices[] holds the eight after them, big-endian, so that most comparisons touch no key. An inner
 * node's first key bounds nothing more than the node itself and is left out of prefix and search.
 */
struct index_node {
    uint8_t *keys[NODE_KEYS]; /* owned */
    uint64_t slices[NODE_KEYS];
    uint32_t prefix_bytes;
    uint16_t count;
    bool leaf;
};

struct index_inner {
    struct index_node node;
    struct index_node *children[NODE_KEYS]; /* owned */
    uint64_t live[NODE_KEYS];               /* live keys below each child */
};

struct index {
    struct index_node *root;
    struct history history;
    uint64_t keys_count, live_count;
    uint64_t bytes; /* nodes and records */
};

static inline struct index_inner *inner_of(const struct index_node *node)
{
    return (struct index_inner *)(void *)node; /* node heads it, and !node->leaf */
}

/* First slot that search and prefix cover. */
static inline uint32_t node_low(const struct index_node *node)
{
    return node->leaf ? 0 : 1;
}

/* What a block of size bytes takes from malloc. */
static inline uint64_t heap_bytes(size_t size)
{
    size_t block = (size + sizeof(size_t) + 15) & ~(size_t)15;
    return block < 32 ? 32 : block;
}

uint64_t tree_slice(struct slice key, uint32_t prefix_bytes);
/* First slot in [node_low, count) whose key is >= key (> key with after_equal); *equal_out tells
 * whether that slot's key is equal. */
uint32_t tree_search(const struct index_node *node, struct slice key, bool after_equal,
                     bool *equal_out);
/* Fills path down to the leaf slot of the first key >= key; the slot may be the leaf's count. True
 * when it is key itself. */
bool tree_descend(const struct index *index, struct slice key, struct index_path *path);
/* The same, splitting full nodes on the way, so that the leaf has room. Errors: ST_NO_MEMORY; the
 * tree is then as sound as before. */
CHECKED enum status tree_descend_for_insert(struct index *index, struct slice key,
                                            struct index_path *path, bool *found_out);
void tree_insert(struct index *index, const struct index_path *path, uint8_t *packed);
void tree_replace(const struct index_path *path, uint8_t *packed);
/* Takes the record at path out of the tree (and gives it to the caller) and mends what is left. */
uint8_t *tree_remove(struct index *index, struct index_path *path);
void tree_count_live(struct index *index, const struct index_path *path, int change);
void tree_free(struct index_node *node);
struct index_node *tree_new_leaf(struct index *index);
#endif
