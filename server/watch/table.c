#include "server/watch/table.h"

#include "base/assert.h"

#include <stdlib.h>

#define BUCKETS_MIN 16U

void table_deinit(struct table *table)
{
    free(table->buckets);
    *table = (struct table){0};
}

static struct table_link **bucket_of(const struct table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->buckets_count - 1)];
}

/* A table that cannot grow is slower, no more. */
static void grow(struct table *table)
{
    struct table bigger = {.buckets_count =
                               table->buckets_count == 0 ? BUCKETS_MIN : table->buckets_count * 2};
    bigger.buckets = calloc(bigger.buckets_count, sizeof(*bigger.buckets));
    if (bigger.buckets == NULL)
        return;
    bigger.count = table->count;
    for (size_t i = 0; i < table->buckets_count; i++) {
        for (struct table_link *link = table->buckets[i], *next; link != NULL; link = next) {
            next = link->next;
            struct table_link **bucket = bucket_of(&bigger, link->hash);
            link->next = *bucket;
            *bucket = link;
        }
    }
    free(table->buckets);
    *table = bigger;
}

enum status table_add(struct table *table, struct table_link *link, uint64_t hash)
{
    if (table->count >= table->buckets_count)
        grow(table);
    if (table->buckets_count == 0)
        return ST_NO_MEMORY;
    struct table_link **bucket = bucket_of(table, hash);
    *link = (struct table_link){.next = *bucket, .hash = hash};
    *bucket = link;
    table->count++;
    return ST_OK;
}

void table_remove(struct table *table, struct table_link *link)
{
    struct table_link **at = bucket_of(table, link->hash);
    while (*at != link) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = link->next;
    table->count--;
}

static struct table_link *same_from(struct table_link *link, uint64_t hash)
{
    while (link != NULL && link->hash != hash)
        link = link->next;
    return link;
}

struct table_link *table_find(const struct table *table, uint64_t hash)
{
    return table->buckets_count == 0 ? NULL : same_from(*bucket_of(table, hash), hash);
}

struct table_link *table_find_next(const struct table_link *link)
{
    return same_from(link->next, link->hash);
}
