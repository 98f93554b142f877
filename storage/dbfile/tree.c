#include "storage/dbfile/tree.h"

#include "base/assert.h"
#include "base/bytes.h"

void dbfile_walk_init(struct dbfile_walk *walk, const struct dbfile_pages *pages,
                      const struct dbfile_tree *tree)
{
    *walk = (struct dbfile_walk){.pages = pages, .tree = *tree};
    for (uint32_t i = 0; i < DBFILE_LEVELS_MAX; i++)
        buf_init(&walk->levels[i].own, DBFILE_RUN_BYTES_MAX);
}

void dbfile_walk_deinit(struct dbfile_walk *walk)
{
    for (uint32_t i = 0; i < DBFILE_LEVELS_MAX; i++)
        buf_deinit(&walk->levels[i].own);
}

enum status dbfile_tree_of_bucket(struct slice value, uint64_t page, struct dbfile_tree *out)
{
    *out = (struct dbfile_tree){.exists = true, .page = page};
    if (value.len < DBFILE_BUCKET_BYTES)
        return ST_CORRUPT;
    out->root = get_le64(value.data);
    if (out->root != 0)
        return value.len == DBFILE_BUCKET_BYTES ? ST_OK : ST_CORRUPT;
    out->bytes = slice_make(value.data + DBFILE_BUCKET_BYTES, value.len - DBFILE_BUCKET_BYTES);
    return ST_OK;
}

/* ---- nodes ---- */

/* Everything in the node: bounds, order, and what its values may be. */
static enum status check_node(struct dbfile_walk *walk, struct dbfile_node *node)
{
    struct slice last = SLICE_EMPTY;
    uint32_t flags = walk->tree.holds_buckets ? DBFILE_LEAF_IS_BUCKET : 0;
    for (; node->next < node->count; node->next++) {
        struct dbfile_element element;
        struct slice key, value;
        enum status st = dbfile_node_take(walk->pages, node, &element, &key, &value);
        if (st != ST_OK)
            return st;
        if (slice_cmp(last, key) >= 0)
            return dbfile_fail_at(walk->pages, node, "its key is not above the one before");
        if (node->is_leaf && element.flags != flags)
            return dbfile_fail_at(walk->pages, node,
                                  walk->tree.holds_buckets
                                      ? "a record outside of any bucket"
                                      : "a bucket within a bucket, which etcd has not");
        last = key;
    }
    return ST_OK;
}

static struct slice key_at(const struct dbfile_node *node, uint32_t index, uint64_t *child_out)
{
    struct dbfile_element element;
    struct slice key, value;
    dbfile_node_at(node, index, &element, &key, &value);
    *child_out = element.child;
    return key;
}

/* A node's keys lie between the branch element that led to it and the one behind that. */
static enum status check_bounds(const struct dbfile_walk *walk, const struct dbfile_level *level,
                                struct slice lower)
{
    struct dbfile_node said = level->node; /* names the element at fault */
    uint64_t child;
    if (said.count == 0)
        return ST_OK;
    said.next = 0;
    if (slice_cmp(key_at(&level->node, 0, &child), lower) < 0)
        return dbfile_fail_at(walk->pages, &said, "its key is below that of the branch");
    said.next = said.count - 1;
    if (level->has_upper && slice_cmp(key_at(&level->node, said.next, &child), level->upper) >= 0)
        return dbfile_fail_at(walk->pages, &said, "its key is not below the next of the branch");
    return ST_OK;
}

static enum status load(struct dbfile_walk *walk, struct dbfile_level *level, uint64_t page,
                        bool is_root)
{
    if (level->page == page && page != 0)
        return ST_OK;
    level->page = 0;
    enum status st;
    if (page == 0) {
        st = dbfile_node_begin_inline(walk->pages, walk->tree.bytes, walk->tree.page, &level->node);
    } else {
        struct dbfile_page_head head;
        st = dbfile_read_run(walk->pages, page, &level->own, &head);
        if (st == ST_OK)
            st =
                dbfile_node_begin(walk->pages, buf_slice(&level->own), page, is_root, &level->node);
    }
    if (st == ST_OK)
        st = check_node(walk, &level->node);
    if (st == ST_OK)
        level->page = page;
    return st;
}

static enum status enter_root(struct dbfile_walk *walk)
{
    struct dbfile_level *level = &walk->levels[0];
    level->has_upper = false;
    enum status st = load(walk, level, walk->tree.root, /* is_root= */ true);
    walk->depth = st == ST_OK ? 1 : 0;
    return st;
}

/* Goes down by the deepest level's element `at`. */
static enum status enter_child(struct dbfile_walk *walk)
{
    struct dbfile_level *above = &walk->levels[walk->depth - 1];
    uint64_t child, other;
    struct slice lower = key_at(&above->node, above->at, &child);
    if (walk->depth == DBFILE_LEVELS_MAX || child == 0)
        return dbfile_fail_at(walk->pages, &above->node, "leads too deep, or nowhere");
    struct dbfile_level *level = &walk->levels[walk->depth];
    level->has_upper = above->has_upper;
    level->upper = above->upper;
    if (above->at + 1 < above->node.count) {
        level->has_upper = true;
        level->upper = key_at(&above->node, above->at + 1, &other);
    }
    enum status st = load(walk, level, child, /* is_root= */ false);
    if (st == ST_OK)
        st = check_bounds(walk, level, lower);
    if (st == ST_OK)
        walk->depth++;
    return st;
}

/* ---- walking ---- */

/* The number of elements whose keys are below key, or with_equal at it. */
static uint32_t count_below(const struct dbfile_node *node, struct slice key, bool with_equal)
{
    uint32_t low = 0, high = node->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t child;
        int order = slice_cmp(key_at(node, middle, &child), key);
        if (order < 0 || (with_equal && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum status stop(struct dbfile_walk *walk, enum status st)
{
    walk->depth = 0;
    return st;
}

static enum status give(struct dbfile_walk *walk, struct slice *key_out, struct slice *value_out)
{
    const struct dbfile_level *level = &walk->levels[walk->depth - 1];
    struct dbfile_element element;
    dbfile_node_at(&level->node, level->at, &element, key_out, value_out);
    return ST_OK;
}

/* From the deepest level down to the first record below it. */
static enum status descend_first(struct dbfile_walk *walk)
{
    enum status st = ST_OK;
    while (st == ST_OK && !walk->levels[walk->depth - 1].node.is_leaf) {
        st = enter_child(walk);
        if (st == ST_OK)
            walk->levels[walk->depth - 1].at = 0;
    }
    return st;
}

/* Leaves a leaf whose elements are used up. */
static enum status next_leaf(struct dbfile_walk *walk)
{
    while (walk->depth > 0) {
        struct dbfile_level *level = &walk->levels[walk->depth - 1];
        if (level->at < level->node.count && level->at + 1 < level->node.count &&
            !level->node.is_leaf) {
            level->at++;
            return descend_first(walk);
        }
        walk->depth--;
    }
    return ST_NOT_FOUND;
}

enum status dbfile_walk_seek(struct dbfile_walk *walk, struct slice key, struct slice *key_out,
                             struct slice *value_out)
{
    if (!walk->tree.exists)
        return ST_NOT_FOUND;
    enum status st = enter_root(walk);
    while (st == ST_OK && !walk->levels[walk->depth - 1].node.is_leaf) {
        struct dbfile_level *level = &walk->levels[walk->depth - 1];
        uint32_t below = count_below(&level->node, key, /* with_equal= */ true);
        level->at = below == 0 ? 0 : below - 1;
        st = enter_child(walk);
    }
    if (st != ST_OK)
        return stop(walk, st);
    struct dbfile_level *leaf = &walk->levels[walk->depth - 1];
    leaf->at = count_below(&leaf->node, key, /* with_equal= */ false);
    if (leaf->at == leaf->node.count)
        st = next_leaf(walk);
    return st == ST_OK ? give(walk, key_out, value_out) : stop(walk, st);
}

enum status dbfile_walk_next(struct dbfile_walk *walk, struct slice *key_out,
                             struct slice *value_out)
{
    if (walk->depth == 0)
        return ST_NOT_FOUND;
    struct dbfile_level *leaf = &walk->levels[walk->depth - 1];
    enum status st = ST_OK;
    if (++leaf->at >= leaf->node.count)
        st = next_leaf(walk);
    return st == ST_OK ? give(walk, key_out, value_out) : stop(walk, st);
}

enum status dbfile_walk_last(struct dbfile_walk *walk, struct slice *key_out,
                             struct slice *value_out)
{
    if (!walk->tree.exists)
        return ST_NOT_FOUND;
    enum status st = enter_root(walk);
    while (st == ST_OK && !walk->levels[walk->depth - 1].node.is_leaf) {
        struct dbfile_level *level = &walk->levels[walk->depth - 1];
        level->at = level->node.count - 1;
        st = enter_child(walk);
    }
    if (st != ST_OK)
        return stop(walk, st);
    struct dbfile_level *leaf = &walk->levels[walk->depth - 1];
    if (leaf->node.count == 0)
        return stop(walk, ST_NOT_FOUND);
    leaf->at = leaf->node.count - 1;
    return give(walk, key_out, value_out);
}
