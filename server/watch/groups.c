#include "server/watch/groups.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/minmax.h"

#include <stdlib.h>

/* ---- runs ---- */

void watch_runs_add(struct watch_runs *runs, uint32_t index)
{
    if (runs->count > 0 && runs->list[runs->count - 1].end == index) {
        runs->list[runs->count - 1].end = index + 1;
        return;
    }
    if (runs->count == runs->capacity) {
        uint32_t capacity = max_u32(runs->capacity * 2, 1);
        struct watch_run *grown = realloc(runs->list, capacity * sizeof(*grown));
        if (grown == NULL) {
            runs->failed = true;
            return;
        }
        runs->list = grown;
        runs->capacity = capacity;
    }
    runs->list[runs->count++] = (struct watch_run){index, index + 1};
}

void watch_runs_deinit(struct watch_runs *runs)
{
    free(runs->list);
    *runs = (struct watch_runs){0};
}

/* ---- order ---- */

static int compare_ends(const struct watch_group *a, const struct watch_group *b)
{
    if (a->range != b->range)
        return a->range == WATCH_RANGE_OPEN ? 1 : -1;
    return slice_cmp(a->end, b->end);
}

static int compare(const struct watch_group *a, const struct watch_group *b)
{
    int order = slice_cmp(a->begin, b->begin);
    if (order == 0)
        order = compare_ends(a, b);
    if (order == 0 && a->kinds != b->kinds)
        order = a->kinds < b->kinds ? -1 : 1;
    return order;
}

static bool ends_after(const struct watch_group *group, struct slice key)
{
    return group->range == WATCH_RANGE_OPEN || slice_cmp(key, group->end) < 0;
}

bool watch_group_has(const struct watch_group *group, struct slice key)
{
    if (group->range == WATCH_RANGE_KEY)
        return slice_eq(group->begin, key);
    return slice_cmp(group->begin, key) <= 0 && ends_after(group, key);
}

/* ---- the tree ---- */

static void note_farthest(struct watch_group *node)
{
    const struct watch_group *farthest = node;
    if (node->left != NULL && compare_ends(node->left->farthest, farthest) > 0)
        farthest = node->left->farthest;
    if (node->right != NULL && compare_ends(node->right->farthest, farthest) > 0)
        farthest = node->right->farthest;
    node->farthest = farthest;
}

/* Everything in a comes before everything in b. */
static struct watch_group *join(struct watch_group *a, struct watch_group *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? b : a;
    struct watch_group *top;
    if (a->priority > b->priority) {
        top = a;
        top->right = join(a->right, b);
    } else {
        top = b;
        top->left = join(a, b->left);
    }
    note_farthest(top);
    return top;
}

static void split(struct watch_group *node, const struct watch_group *at, struct watch_group **less,
                  struct watch_group **more)
{
    if (node == NULL) {
        *less = *more = NULL;
    } else if (compare(node, at) < 0) {
        split(node->right, at, &node->right, more);
        note_farthest(node);
        *less = node;
    } else {
        split(node->left, at, less, &node->left);
        note_farthest(node);
        *more = node;
    }
}

static struct watch_group *insert(struct watch_group *node, struct watch_group *added)
{
    if (node == NULL || added->priority > node->priority) {
        split(node, added, &added->left, &added->right);
        note_farthest(added);
        return added;
    }
    if (compare(added, node) < 0)
        node->left = insert(node->left, added);
    else
        node->right = insert(node->right, added);
    note_farthest(node);
    return node;
}

static struct watch_group *without(struct watch_group *node, const struct watch_group *gone)
{
    ASSERT(node != NULL);
    if (node == gone)
        return join(node->left, node->right);
    if (compare(gone, node) < 0)
        node->left = without(node->left, gone);
    else
        node->right = without(node->right, gone);
    note_farthest(node);
    return node;
}

static struct watch_group *find_range(const struct watch_groups *groups,
                                      const struct watch_group *wanted)
{
    struct watch_group *node = groups->root;
    while (node != NULL) {
        int order = compare(wanted, node);
        if (order == 0)
            return node;
        node = order < 0 ? node->left : node->right;
    }
    return NULL;
}

static void visit(struct watch_group *node, struct slice key,
                  void (*fn)(void *context, struct watch_group *group), void *context)
{
    while (node != NULL && ends_after(node->farthest, key)) {
        visit(node->left, key, fn, context);
        if (slice_cmp(node->begin, key) > 0)
            return; /* and so do all to its right */
        if (ends_after(node, key))
            fn(context, node);
        node = node->right;
    }
}

/* ---- both ---- */

static struct watch_group *find_key(const struct watch_groups *groups, struct slice key,
                                    unsigned kinds, uint64_t hash)
{
    struct table_link *link = table_find(&groups->keys, hash);
    for (; link != NULL; link = table_find_next(link)) {
        struct watch_group *group = CONTAINER_OF(link, struct watch_group, same_key);
        if (group->kinds == kinds && slice_eq(group->begin, key))
            return group;
    }
    return NULL;
}

static struct watch_group *group_new(const struct watch_group *like)
{
    struct watch_group *group = calloc(1, sizeof(*group) + like->begin.len + like->end.len);
    if (group == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(group + 1);
    memcpy(bytes, like->begin.data, like->begin.len);
    if (like->end.len > 0)
        memcpy(bytes + like->begin.len, like->end.data, like->end.len);
    group->begin = slice_make(bytes, like->begin.len);
    group->end = slice_make(bytes + like->begin.len, like->end.len);
    group->range = like->range;
    group->kinds = like->kinds;
    list_init(&group->watchers);
    list_init(&group->waiting);
    list_init(&group->touched);
    return group;
}

static enum status link_new(struct watch_groups *groups, const struct watch_group *wanted,
                            uint64_t hash, struct watch_group **out)
{
    struct watch_group *group = group_new(wanted);
    if (group == NULL)
        return ST_NO_MEMORY;
    enum status st = ST_OK;
    if (group->range == WATCH_RANGE_KEY) {
        st = table_add(&groups->keys, &group->same_key, hash);
    } else {
        group->priority = rng_next(&groups->rng);
        groups->root = insert(groups->root, group);
    }
    if (st != ST_OK) {
        free(group);
        return st;
    }
    group->linked = true;
    *out = group;
    return ST_OK;
}

static enum watch_range_kind kind_of(struct slice end)
{
    if (end.len == 0)
        return WATCH_RANGE_KEY;
    return end.len == 1 && end.data[0] == 0 ? WATCH_RANGE_OPEN : WATCH_RANGE_HALF;
}

enum status watch_groups_take(struct watch_groups *groups, struct slice begin, struct slice end,
                              unsigned kinds, struct watch_group **out)
{
    const struct watch_group wanted = {
        .begin = begin, .end = end, .range = kind_of(end), .kinds = kinds};
    uint64_t hash = wanted.range == WATCH_RANGE_KEY ? hash64_seeded(begin, groups->seed) : 0;
    struct watch_group *group = wanted.range == WATCH_RANGE_KEY
                                    ? find_key(groups, begin, kinds, hash)
                                    : find_range(groups, &wanted);
    enum status st = group == NULL ? link_new(groups, &wanted, hash, &group) : ST_OK;
    if (st != ST_OK)
        return st;
    group->refs++;
    *out = group;
    return ST_OK;
}

void watch_groups_unlink(struct watch_groups *groups, struct watch_group *group)
{
    ASSERT(group->linked && list_is_empty(&group->touched));
    group->linked = false;
    if (group->range == WATCH_RANGE_KEY)
        table_remove(&groups->keys, &group->same_key);
    else
        groups->root = without(groups->root, group);
}

void watch_group_unref(struct watch_group *group)
{
    if (--group->refs > 0)
        return;
    ASSERT(!group->linked);
    watch_runs_deinit(&group->runs);
    free(group);
}

void watch_groups_find(const struct watch_groups *groups, struct slice key,
                       void (*fn)(void *context, struct watch_group *group), void *context)
{
    if (groups->keys.count > 0) {
        struct table_link *link = table_find(&groups->keys, hash64_seeded(key, groups->seed));
        for (; link != NULL; link = table_find_next(link)) {
            struct watch_group *group = CONTAINER_OF(link, struct watch_group, same_key);
            if (slice_eq(group->begin, key))
                fn(context, group);
        }
    }
    visit(groups->root, key, fn, context);
}
