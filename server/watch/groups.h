/* server/watch/groups.h - which watchers a key concerns. Watchers of the same range and the same
 * kinds of events form a group: what they get is the same bytes. Groups of one key are found by its
 * hash, groups of a range in an interval tree (a treap whose nodes know where the farthest range
 * below them ends). */
#ifndef SERVER_WATCH_GROUPS_H
#define SERVER_WATCH_GROUPS_H
#include "base/list.h"
#include "base/rng.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/watch/table.h"

#include <stdbool.h>
#include <stdint.h>

/* [first, end): indexes of changes. */
struct watch_run {
    uint32_t first, end;
};
struct watch_runs {
    struct watch_run *list; /* owned */
    uint32_t count, capacity;
    bool failed; /* no memory for all of them */
};
/* Adds an index above all before. */
void watch_runs_add(struct watch_runs *runs, uint32_t index);
void watch_runs_deinit(struct watch_runs *runs);

enum watch_range_kind {
    WATCH_RANGE_KEY,  /* begin alone */
    WATCH_RANGE_HALF, /* [begin, end) */
    WATCH_RANGE_OPEN, /* from begin on */
};

struct watch_group {
    struct slice begin, end; /* behind the group */
    enum watch_range_kind range;
    unsigned kinds; /* WATCH_NO_PUT, ... */
    uint32_t refs;  /* watchers in memory, and what waits */
    struct list_node watchers;
    struct list_node waiting; /* struct watch_share: for values before changes, in order */
    bool linked;              /* can be found */
    /* Of a single key. */
    struct table_link same_key;
    /* Of a range. */
    struct watch_group *left, *right;
    const struct watch_group *farthest; /* of those below and this one, the one that ends last */
    uint64_t priority;
    /* While a revision is looked at. */
    struct list_node touched;
    struct watch_runs runs;
};

struct watch_groups {
    struct table keys;
    struct watch_group *root;
    struct rng rng;
    uint64_t seed; /* of the hash: clients choose keys */
};

/* Finds or makes the group of a range as requests have it (end empty: one key; "\0": from key on);
 * takes a reference. Errors: ST_NO_MEMORY. */
CHECKED enum status watch_groups_take(struct watch_groups *groups, struct slice begin,
                                      struct slice end, unsigned kinds, struct watch_group **out);
/* It is not to be found any more; whoever holds it may still look at it. */
void watch_groups_unlink(struct watch_groups *groups, struct watch_group *group);
void watch_group_unref(struct watch_group *group);
bool watch_group_has(const struct watch_group *group, struct slice key);
/* Calls fn for every group with key in its range. */
void watch_groups_find(const struct watch_groups *groups, struct slice key,
                       void (*fn)(void *context, struct watch_group *group), void *context);
#endif
