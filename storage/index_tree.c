#include "storage/index_private.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/minmax.h"

uint64_t tree_slice(struct slice key, uint32_t prefix_bytes)
{
    if (key.len >= (size_t)prefix_bytes + 8)
        return get_be64(key.data + prefix_bytes);
    uint64_t slice = 0;
    for (size_t i = prefix_bytes; i < key.len; i++)
        slice |= (uint64_t)key.data[i] << (56 - 8 * (i - prefix_bytes));
    return slice;
}

static size_t common_prefix(struct slice a, struct slice b)
{
    size_t most = min_size(a.len, b.len), i = 0;
    while (i < most && a.data[i] == b.data[i])
        i++;
    return i;
}

/* Sets prefix and slices after the keys changed. */
static void refresh(struct index_node *node)
{
    uint32_t low = node_low(node);
    node->prefix_bytes = 0;
    if (node->count <= low)
        return;
    struct slice first = index_record_key(node->keys[low]);
    struct slice last = index_record_key(node->keys[node->count - 1]);
    node->prefix_bytes = (uint32_t)common_prefix(first, last);
    for (uint32_t i = low; i < node->count; i++)
        node->slices[i] = tree_slice(index_record_key(node->keys[i]), node->prefix_bytes);
}

/* Order of key against the prefix that all keys of the node share: 0 when it has it too. */
static int compare_prefix(const struct index_node *node, struct slice key)
{
    if (node->prefix_bytes == 0)
        return 0;
    struct slice prefix = index_record_key(node->keys[node_low(node)]);
    prefix.len = node->prefix_bytes;
    if (slice_has_prefix(key, prefix))
        return 0;
    return slice_cmp(key, prefix);
}

uint32_t tree_search(const struct index_node *node, struct slice key, bool after_equal,
                     bool *equal_out)
{
    uint32_t low = node_low(node), high = node->count;
    *equal_out = false;
    if (low >= high)
        return high;
    int side = compare_prefix(node, key);
    if (side != 0)
        return side < 0 ? low : high;
    uint64_t slice = tree_slice(key, node->prefix_bytes);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = slice < node->slices[middle] ? -1 : slice > node->slices[middle];
        if (order == 0)
            order = slice_cmp(key, index_record_key(node->keys[middle]));
        if (order == 0)
            *equal_out = true;
        if (order > 0 || (order == 0 && after_equal))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void path_push(struct index_path *path, struct index_node *node, uint32_t slot)
{
    ASSERT(path->depth < INDEX_DEPTH_MAX);
    path->nodes[path->depth] = node;
    path->slots[path->depth] = (uint16_t)slot;
    path->depth++;
}

bool tree_descend(const struct index *index, struct slice key, struct index_path *path)
{
    bool equal;
    path->depth = 0;
    struct index_node *node = index->root;
    while (!node->leaf) {
        uint32_t slot = tree_search(node, key, /* after_equal= */ true, &equal) - 1;
        path_push(path, node, slot);
        node = inner_of(node)->children[slot];
    }
    path_push(path, node, tree_search(node, key, /* after_equal= */ false, &equal));
    return equal;
}

static struct index_node *new_node(struct index *index, bool leaf)
{
    size_t size = leaf ? sizeof(struct index_node) : sizeof(struct index_inner);
    struct index_node *node = calloc(1, size);
    if (node == NULL)
        return NULL;
    node->leaf = leaf;
    index->bytes += heap_bytes(size);
    return node;
}

struct index_node *tree_new_leaf(struct index *index)
{
    return new_node(index, /* leaf= */ true);
}

static void free_node(struct index *index, struct index_node *node)
{
    index->bytes -= heap_bytes(node->leaf ? sizeof(struct index_node) : sizeof(struct index_inner));
    free(node);
}

/* A lower bound: a record that is only its key. NULL without memory. */
static uint8_t *new_bound(struct index *index, struct slice key)
{
    struct index_record bound = {.key = key, .tombstone = true};
    size_t size = index_record_size(&bound);
    uint8_t *packed = malloc(size);
    if (packed == NULL)
        return NULL;
    index_record_pack(&bound, packed);
    index->bytes += heap_bytes(size);
    return packed;
}

static void free_bound(struct index *index, uint8_t *packed)
{
    struct index_record bound;
    index_record_unpack(packed, &bound);
    index->bytes -= heap_bytes(index_record_size(&bound));
    free(packed);
}

static uint64_t live_below(const struct index_node *node)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < node->count; i++)
        live += node->leaf ? index_record_is_live(node->keys[i]) : inner_of(node)->live[i];
    return live;
}

/* Moves the entries of from at [first, count) to the end of to. */
static void move_entries(struct index_node *from, uint32_t first, struct index_node *to)
{
    uint32_t moved = from->count - first;
    ASSERT(to->count + moved <= NODE_KEYS);
    ASSERT(from->leaf == to->leaf);
    memcpy(to->keys + to->count, from->keys + first, moved * sizeof(*to->keys));
    if (!from->leaf) {
        struct index_inner *source = inner_of(from), *target = inner_of(to);
        memcpy(target->children + to->count, source->children + first,
               moved * sizeof(*target->children));
        memcpy(target->live + to->count, source->live + first, moved * sizeof(*target->live));
    }
    to->count = (uint16_t)(to->count + moved);
    from->count = (uint16_t)first;
}

/* Opens a gap at slot of an inner node and puts a child there. */
static void insert_child(struct index_node *node, uint32_t slot, uint8_t *bound,
                         struct index_node *child)
{
    ASSERT(node->count < NODE_KEYS);
    struct index_inner *inner = inner_of(node);
    size_t behind = node->count - slot;
    memmove(node->keys + slot + 1, node->keys + slot, behind * sizeof(*node->keys));
    memmove(inner->children + slot + 1, inner->children + slot, behind * sizeof(*inner->children));
    memmove(inner->live + slot + 1, inner->live + slot, behind * sizeof(*inner->live));
    node->keys[slot] = bound;
    inner->children[slot] = child;
    inner->live[slot] = live_below(child);
    node->count++;
    refresh(node);
}

static void remove_child(struct index_node *node, uint32_t slot)
{
    struct index_inner *inner = inner_of(node);
    size_t behind = node->count - slot - 1U;
    memmove(node->keys + slot, node->keys + slot + 1, behind * sizeof(*node->keys));
    memmove(inner->children + slot, inner->children + slot + 1, behind * sizeof(*inner->children));
    memmove(inner->live + slot, inner->live + slot + 1, behind * sizeof(*inner->live));
    node->count--;
    refresh(node);
}

/* The shortest key that divides the two: all of left < it <= all of right. */
static struct slice divider(const struct index_node *child, uint32_t first_right)
{
    struct slice right = index_record_key(child->keys[first_right]);
    if (child->leaf) {
        struct slice left = index_record_key(child->keys[first_right - 1]);
        right.len = common_prefix(left, right) + 1;
    }
    return right;
}

/* Splits the full child at slot; parent has room. Ascending keys leave full leaves behind. */
static enum status split_child(struct index *index, struct index_node *parent, uint32_t slot,
                               struct slice key)
{
    struct index_inner *inner = inner_of(parent);
    struct index_node *child = inner->children[slot];
    bool ascending = slice_cmp(key, index_record_key(child->keys[child->count - 1])) > 0;
    uint32_t first_right = ascending && child->leaf ? child->count - 1U : child->count / 2U;
    struct index_node *right = new_node(index, child->leaf);
    if (right == NULL)
        return ST_NO_MEMORY;
    uint8_t *bound = new_bound(index, divider(child, first_right));
    if (bound == NULL) {
        free_node(index, right);
        return ST_NO_MEMORY;
    }
    move_entries(child, first_right, right);
    refresh(child);
    refresh(right);
    inner->live[slot] = live_below(child);
    insert_child(parent, slot + 1, bound, right);
    return ST_OK;
}

static enum status grow_root(struct index *index)
{
    struct index_node *root = new_node(index, /* leaf= */ false);
    if (root == NULL)
        return ST_NO_MEMORY;
    uint8_t *bound = new_bound(index, SLICE_EMPTY);
    if (bound == NULL) {
        free_node(index, root);
        return ST_NO_MEMORY;
    }
    insert_child(root, 0, bound, index->root);
    index->root = root;
    return ST_OK;
}

enum status tree_descend_for_insert(struct index *index, struct slice key, struct index_path *path,
                                    bool *found_out)
{
    *found_out = tree_descend(index, key, path);
    struct index_node *leaf = path->nodes[path->depth - 1];
    if (*found_out || leaf->count < NODE_KEYS)
        return ST_OK;
    if (index->root->count == NODE_KEYS) {
        enum status st = grow_root(index);
        if (st != ST_OK)
            return st;
    }
    bool equal;
    struct index_node *node = index->root;
    while (!node->leaf) {
        uint32_t slot = tree_search(node, key, /* after_equal= */ true, &equal) - 1;
        if (inner_of(node)->children[slot]->count == NODE_KEYS) {
            enum status st = split_child(index, node, slot, key);
            if (st != ST_OK)
                return st;
            slot = tree_search(node, key, /* after_equal= */ true, &equal) - 1;
        }
        node = inner_of(node)->children[slot];
    }
    *found_out = tree_descend(index, key, path);
    return ST_OK;
}

void tree_insert(struct index *index, const struct index_path *path, uint8_t *packed)
{
    struct index_node *leaf = path->nodes[path->depth - 1];
    uint32_t slot = path->slots[path->depth - 1];
    ASSERT(leaf->count < NODE_KEYS);
    struct slice key = index_record_key(packed);
    bool fits = leaf->count > 0 && compare_prefix(leaf, key) == 0;
    size_t behind = leaf->count - slot;
    memmove(leaf->keys + slot + 1, leaf->keys + slot, behind * sizeof(*leaf->keys));
    memmove(leaf->slices + slot + 1, leaf->slices + slot, behind * sizeof(*leaf->slices));
    leaf->keys[slot] = packed;
    leaf->count++;
    if (fits)
        leaf->slices[slot] = tree_slice(key, leaf->prefix_bytes);
    else
        refresh(leaf);
    index->keys_count++;
}

void tree_replace(const struct index_path *path, uint8_t *packed)
{
    path->nodes[path->depth - 1]->keys[path->slots[path->depth - 1]] = packed;
}

void tree_count_live(struct index *index, const struct index_path *path, int change)
{
    index->live_count += (uint64_t)(int64_t)change;
    for (uint32_t i = 0; i + 1 < path->depth; i++)
        inner_of(path->nodes[i])->live[path->slots[i]] += (uint64_t)(int64_t)change;
}

/* Joins the children at slot and slot + 1 when they fit one node. */
static bool merge_children(struct index *index, struct index_node *parent, uint32_t slot)
{
    struct index_inner *inner = inner_of(parent);
    struct index_node *left = inner->children[slot], *right = inner->children[slot + 1];
    if (left->count + right->count > NODE_KEYS)
        return false;
    move_entries(right, 0, left);
    refresh(left);
    free_node(index, right);
    inner->live[slot] += inner->live[slot + 1];
    free_bound(index, parent->keys[slot + 1]);
    remove_child(parent, slot + 1);
    return true;
}

/* Mends the node at path->nodes[level] after it lost an entry: joins it with a neighbour, or takes
 * it out when nothing is left of it. True when its parent lost an entry. */
static bool mend(struct index *index, struct index_path *path, uint32_t level)
{
    struct index_node *node = path->nodes[level], *parent = path->nodes[level - 1];
    uint32_t slot = path->slots[level - 1];
    if (node->count >= NODE_MERGE_BELOW)
        return false;
    if (slot > 0 && merge_children(index, parent, slot - 1))
        return true;
    return slot + 1U < parent->count && merge_children(index, parent, slot);
}

uint8_t *tree_remove(struct index *index, struct index_path *path)
{
    struct index_node *leaf = path->nodes[path->depth - 1];
    uint32_t slot = path->slots[path->depth - 1];
    uint8_t *packed = leaf->keys[slot];
    if (index_record_is_live(packed))
        tree_count_live(index, path, -1);
    size_t behind = leaf->count - slot - 1U;
    memmove(leaf->keys + slot, leaf->keys + slot + 1, behind * sizeof(*leaf->keys));
    memmove(leaf->slices + slot, leaf->slices + slot + 1, behind * sizeof(*leaf->slices));
    leaf->count--;
    if (leaf->count == 0)
        leaf->prefix_bytes = 0;
    index->keys_count--;
    for (uint32_t level = path->depth - 1; level > 0 && mend(index, path, level); level--)
        ;
    while (!index->root->leaf && index->root->count == 1) {
        struct index_node *root = index->root;
        index->root = inner_of(root)->children[0];
        free_bound(index, root->keys[0]);
        free_node(index, root);
    }
    return packed;
}

void tree_free(struct index_node *node)
{
    if (node == NULL)
        return;
    for (uint32_t i = 0; i < node->count; i++) {
        free(node->keys[i]);
        if (!node->leaf)
            tree_free(inner_of(node)->children[i]);
    }
    free(node);
}
