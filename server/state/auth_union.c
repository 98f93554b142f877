/* Which keys permissions come to: sorted, merged where they touch or overlap. */
#include "server/state/auth_private.h"

#include <stdlib.h>

/* An empty end lies behind everything. */
int auth_compare_ends(struct slice a, struct slice b)
{
    if (a.len == 0 || b.len == 0)
        return (a.len == 0) - (b.len == 0);
    return slice_cmp(a, b);
}

static int compare_begins(const void *a, const void *b)
{
    const struct auth_interval *x = a, *y = b;
    return slice_cmp(x->begin, y->begin);
}

static bool is_open_end(struct slice range_end)
{
    return range_end.len == 1 && range_end.data[0] == 0;
}

bool auth_union_covers(const struct auth_union *of, struct slice key, struct slice range_end)
{
    uint32_t low = 0, high = of->count; /* the first that begins above key */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_cmp(of->items[middle].begin, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    struct slice end = of->items[low - 1].end;
    if (end.len > 0 && slice_cmp(key, end) >= 0)
        return false;
    if (range_end.len == 0)
        return true;
    if (!is_open_end(range_end) && slice_cmp(key, range_end) >= 0)
        return auth_tree_covers(&of->tree, key, range_end);
    return auth_compare_ends(end, is_open_end(range_end) ? SLICE_EMPTY : range_end) >= 0;
}

static bool gives(const struct auth_permission *permission, enum auth_access access)
{
    switch (permission->type) {
    case AUTH_PERMISSION_READ:
        return access == AUTH_READ;
    case AUTH_PERMISSION_WRITE:
        return access == AUTH_WRITE;
    case AUTH_PERMISSION_READWRITE:
        return true;
    default:
        return false;
    }
}

/* A single key is all from itself to the key behind it. */
static enum status end_of(const struct auth_permission *permission, struct arena *arena,
                          struct slice *out)
{
    *out = is_open_end(permission->range_end) ? SLICE_EMPTY : permission->range_end;
    if (permission->range_end.len > 0)
        return ST_OK;
    uint8_t *next = arena_alloc(arena, permission->key.len + 1);
    if (next == NULL)
        return ST_TOO_BIG;
    memcpy(next, permission->key.data, permission->key.len);
    *out = slice_make(next, permission->key.len + 1);
    return ST_OK;
}

static uint32_t merge(struct auth_interval *items, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct auth_interval *last = kept == 0 ? NULL : &items[kept - 1];
        if (last == NULL || auth_compare_ends(last->end, items[i].begin) < 0)
            items[kept++] = items[i];
        else if (auth_compare_ends(items[i].end, last->end) > 0)
            last->end = items[i].end;
    }
    return kept;
}

enum status auth_union_make(const struct auth_permission *const *permissions, uint32_t count,
                            enum auth_access access, struct arena *arena, struct auth_union *out)
{
    *out = (struct auth_union){0};
    struct auth_interval *items = ARENA_ARRAY(arena, struct auth_interval, count);
    if (items == NULL)
        return ST_TOO_BIG;
    uint32_t all = 0, used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!gives(permissions[i], access))
            continue;
        items[all].begin = permissions[i]->key;
        enum status st = end_of(permissions[i], arena, &items[all++].end);
        if (st != ST_OK)
            return st;
    }
    enum status st = auth_tree_make(items, all, arena, &out->tree);
    if (st != ST_OK)
        return st;
    /* What an older etcd stored without a key begins behind every key, and gives none either. */
    for (uint32_t i = 0; i < all; i++) {
        if (auth_compare_ends(items[i].begin, items[i].end) < 0)
            items[used++] = items[i];
    }
    qsort(items, used, sizeof(items[0]), compare_begins);
    out->items = items;
    out->count = merge(items, used);
    return ST_OK;
}
