/* The tree of intervals in which etcd keeps what a user may: red and black (Cormen et al., 13 and
 * 14.3), sorted by where intervals begin, equals to the right. Its search looks past whole branches
 * when a range is asked for that ends before it begins, so what is found there depends on the shape
 * of the tree, and that on the order of insertion. For such ranges alone the tree is asked here;
 * members of one cluster have to judge them alike. */
#include "server/state/auth_private.h"

enum { NONE = 0 }; /* the sentinel; nodes count from 1 */

struct builder {
    struct auth_tree_node *nodes; /* [0] is the sentinel */
    uint32_t *parents;
    bool *reds;
    uint32_t root;
};

static void replace_child(struct builder *b, uint32_t parent, uint32_t child, uint32_t with)
{
    if (parent == NONE)
        b->root = with;
    else if (b->nodes[parent].left == child)
        b->nodes[parent].left = with;
    else
        b->nodes[parent].right = with;
    b->parents[with] = parent;
}

/* x goes to the left of its right child. */
static void rotate_left(struct builder *b, uint32_t x)
{
    uint32_t y = b->nodes[x].right, inner = b->nodes[y].left;
    replace_child(b, b->parents[x], x, y);
    b->nodes[x].right = inner;
    if (inner != NONE)
        b->parents[inner] = x;
    b->nodes[y].left = x;
    b->parents[x] = y;
}

static void rotate_right(struct builder *b, uint32_t x)
{
    uint32_t y = b->nodes[x].left, inner = b->nodes[y].right;
    replace_child(b, b->parents[x], x, y);
    b->nodes[x].left = inner;
    if (inner != NONE)
        b->parents[inner] = x;
    b->nodes[y].right = x;
    b->parents[x] = y;
}

static void restore_colors(struct builder *b, uint32_t z)
{
    while (b->reds[b->parents[z]]) {
        uint32_t parent = b->parents[z], grand = b->parents[parent];
        bool is_left = parent == b->nodes[grand].left;
        uint32_t uncle = is_left ? b->nodes[grand].right : b->nodes[grand].left;
        if (b->reds[uncle]) {
            b->reds[uncle] = b->reds[parent] = false;
            b->reds[grand] = true;
            z = grand;
            continue;
        }
        if (is_left ? z == b->nodes[parent].right : z == b->nodes[parent].left) {
            z = parent;
            if (is_left)
                rotate_left(b, z);
            else
                rotate_right(b, z);
        }
        b->reds[b->parents[z]] = false;
        b->reds[grand] = true;
        if (is_left)
            rotate_right(b, grand);
        else
            rotate_left(b, grand);
    }
    b->reds[b->root] = false;
}

static void insert(struct builder *b, uint32_t z)
{
    uint32_t parent = NONE, x = b->root;
    bool is_left = false;
    while (x != NONE) {
        parent = x;
        is_left = auth_compare_ends(b->nodes[z].begin, b->nodes[x].begin) < 0;
        x = is_left ? b->nodes[x].left : b->nodes[x].right;
    }
    b->parents[z] = parent;
    if (parent == NONE)
        b->root = z;
    else if (is_left)
        b->nodes[parent].left = z;
    else
        b->nodes[parent].right = z;
    b->reds[z] = true;
    restore_colors(b, z);
}

/* Which node of the branch at x ends last. The depth is a logarithm. */
static uint32_t note_last(struct auth_tree_node *nodes, uint32_t x)
{
    uint32_t last = x;
    const uint32_t children[] = {nodes[x].left, nodes[x].right};
    for (int i = 0; i < 2; i++) {
        if (children[i] == NONE)
            continue;
        uint32_t below = note_last(nodes, children[i]);
        if (auth_compare_ends(nodes[below].end, nodes[last].end) > 0)
            last = below;
    }
    nodes[x].last = last;
    return last;
}

enum status auth_tree_make(const struct auth_interval *intervals, uint32_t count,
                           struct arena *arena, struct auth_tree *out)
{
    struct builder b = {.nodes = ARENA_ARRAY(arena, struct auth_tree_node, (size_t)count + 1),
                        .parents = ARENA_ARRAY(arena, uint32_t, (size_t)count + 1),
                        .reds = ARENA_ARRAY(arena, bool, (size_t)count + 1)};
    if (b.nodes == NULL || b.parents == NULL || b.reds == NULL)
        return ST_TOO_BIG;
    for (uint32_t i = 1; i <= count; i++) {
        b.nodes[i].begin = intervals[i - 1].begin;
        b.nodes[i].end = intervals[i - 1].end;
        insert(&b, i);
    }
    if (count > 0)
        note_last(b.nodes, b.root);
    *out = (struct auth_tree){.nodes = b.nodes, .count = count, .root = b.root};
    return ST_OK;
}

/* Left of the other, overlapping, or right of it, as etcd compares them. */
static int compare(struct slice begin, struct slice end, struct slice other_begin,
                   struct slice other_end)
{
    if (auth_compare_ends(begin, other_begin) < 0 && auth_compare_ends(end, other_begin) <= 0)
        return -1;
    return auth_compare_ends(begin, other_end) >= 0 ? 1 : 0;
}

struct walk {
    const struct auth_tree_node *nodes;
    struct slice begin, end; /* asked for */
    bool found, gap;
    struct slice first, last; /* from where to where what was found reaches */
};

static void meet(struct walk *walk, const struct auth_tree_node *node)
{
    if (!walk->found) {
        walk->found = true;
        walk->first = node->begin;
        walk->last = node->end;
    } else if (auth_compare_ends(walk->last, node->begin) < 0) {
        walk->gap = true;
    } else if (auth_compare_ends(node->end, walk->last) > 0) {
        walk->last = node->end;
    }
}

static void visit(struct walk *walk, uint32_t x)
{
    if (x == NONE || walk->gap)
        return;
    const struct auth_tree_node *node = &walk->nodes[x];
    int order = compare(walk->begin, walk->end, node->begin, node->end);
    /* Here it turns back where a branch lies beside a reversed range, whatever is below. */
    if (order > 0 && compare(node->begin, walk->nodes[node->last].end, walk->begin, walk->end) != 0)
        return;
    visit(walk, node->left);
    if (order == 0 && !walk->gap)
        meet(walk, node);
    if (order >= 0)
        visit(walk, node->right);
}

bool auth_tree_covers(const struct auth_tree *tree, struct slice begin, struct slice end)
{
    struct walk walk = {.nodes = tree->nodes, .begin = begin, .end = end};
    visit(&walk, tree->root);
    return walk.found && !walk.gap && auth_compare_ends(walk.last, end) >= 0 &&
           auth_compare_ends(walk.first, begin) <= 0;
}
