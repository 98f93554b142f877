/* server/watch/table.h - a hash table of links that lie in the things themselves; the caller knows
 * the hash and compares. */
#ifndef SERVER_WATCH_TABLE_H
#define SERVER_WATCH_TABLE_H
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct table_link {
    struct table_link *next;
    uint64_t hash;
};

struct table {
    struct table_link **buckets;
    size_t buckets_count, count;
};

void table_deinit(struct table *table); /* frees the buckets; a zeroed table is fine */
/* Errors: ST_NO_MEMORY, and nothing is added. */
CHECKED enum status table_add(struct table *table, struct table_link *link, uint64_t hash);
void table_remove(struct table *table, struct table_link *link); /* one that is in it */
/* The first with this hash, and the next after link; NULL: no more. */
struct table_link *table_find(const struct table *table, uint64_t hash);
struct table_link *table_find_next(const struct table_link *link);
#endif
