/* Two hash tables with chains: leases by id, attachments by key. An attachment is also on its
 * lease's list, so that dropping a lease costs what was attached to it. */
#include "server/state/lessor_private.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/list.h"

#include <stdlib.h>

#define BUCKETS_COUNT_MIN 64U

struct attachment {
    struct entry entry;
    struct list_node of_lease;
    struct lease_entry *lease;
    size_t key_bytes;
    uint8_t key[];
};

/* ---- tables ---- */

static struct entry **chain_of(const struct table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->buckets_count - 1)];
}

/* Doubles when there are more entries than chains. */
static enum status reserve_one(struct table *table)
{
    if (table->entries_count < table->buckets_count)
        return ST_OK;
    struct table grown = {.buckets_count = table->buckets_count * 2};
    if (grown.buckets_count < BUCKETS_COUNT_MIN)
        grown.buckets_count = BUCKETS_COUNT_MIN;
    grown.buckets = calloc(grown.buckets_count, sizeof(struct entry *));
    if (grown.buckets == NULL)
        return ST_NO_MEMORY;
    for (uint64_t i = 0; i < table->buckets_count; i++) {
        for (struct entry *e = table->buckets[i], *next; e != NULL; e = next) {
            next = e->next;
            struct entry **chain = chain_of(&grown, e->hash);
            e->next = *chain;
            *chain = e;
        }
    }
    grown.entries_count = table->entries_count;
    free(table->buckets);
    *table = grown;
    return ST_OK;
}

static void insert(struct table *table, struct entry *entry)
{
    struct entry **chain = chain_of(table, entry->hash);
    entry->next = *chain;
    *chain = entry;
    table->entries_count++;
}

static void take_out(struct table *table, struct entry *entry)
{
    struct entry **at = chain_of(table, entry->hash);
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    table->entries_count--;
}

static struct entry *first_of(const struct table *table, uint64_t hash)
{
    return table->buckets_count == 0 ? NULL : *chain_of(table, hash);
}

/* ---- leases ---- */

static uint64_t hash_of_id(lease_id id)
{
    return hash64(slice_make((const uint8_t *)&id, sizeof(id)));
}

struct lease_entry *lessor_entry(const struct lessor *lessor, lease_id id)
{
    for (struct entry *e = first_of(&lessor->leases, hash_of_id(id)); e != NULL; e = e->next) {
        struct lease_entry *lease = CONTAINER_OF(e, struct lease_entry, entry);
        if (lease->lease.id == id)
            return lease;
    }
    return NULL;
}

enum status lessor_new(struct lessor **out)
{
    *out = calloc(1, sizeof(**out));
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

uint64_t lessor_leases_count(const struct lessor *lessor)
{
    return lessor->leases.entries_count;
}

const struct lease *lessor_find(const struct lessor *lessor, lease_id id)
{
    const struct lease_entry *found = lessor_entry(lessor, id);
    return found == NULL ? NULL : &found->lease;
}

enum status lessor_grant(struct lessor *lessor, const struct lease *lease)
{
    ASSERT(lease->id != 0);
    if (lessor_entry(lessor, lease->id) != NULL)
        return ST_EXISTS;
    struct lease_entry *added = calloc(1, sizeof(*added));
    if (added == NULL || reserve_one(&lessor->leases) != ST_OK) {
        free(added);
        return ST_NO_MEMORY;
    }
    added->entry.hash = hash_of_id(lease->id);
    added->lease = *lease;
    added->lease.keys_count = 0;
    list_init(&added->attachments);
    list_init(&added->renewals);
    heap_node_init(&added->end);
    heap_node_init(&added->checkpoint);
    added->end_ns = UINT64_MAX;
    insert(&lessor->leases, &added->entry);
    return ST_OK;
}

bool lessor_checkpoint(struct lessor *lessor, lease_id id, int64_t remaining_s)
{
    struct lease_entry *found = lessor_entry(lessor, id);
    if (found == NULL)
        return false;
    found->lease.remaining_s = remaining_s;
    found->is_told = remaining_s > 0;
    return true;
}

/* ---- attachments ---- */

static struct slice key_of(const struct attachment *attachment)
{
    return slice_make(attachment->key, attachment->key_bytes);
}

static struct attachment *find_attachment(const struct lessor *lessor, struct slice key,
                                          uint64_t hash)
{
    for (struct entry *e = first_of(&lessor->attachments, hash); e != NULL; e = e->next) {
        struct attachment *found = CONTAINER_OF(e, struct attachment, entry);
        if (e->hash == hash && slice_eq(key_of(found), key))
            return found;
    }
    return NULL;
}

static void detach(struct lessor *lessor, struct attachment *attachment)
{
    take_out(&lessor->attachments, &attachment->entry);
    list_remove(&attachment->of_lease);
    attachment->lease->lease.keys_count--;
    free(attachment);
}

static void join(struct attachment *attachment, struct lease_entry *lease)
{
    attachment->lease = lease;
    lease->lease.keys_count++;
    list_push_back(&lease->attachments, &attachment->of_lease);
}

static enum status add_attachment(struct lessor *lessor, struct lease_entry *lease,
                                  struct slice key, uint64_t hash)
{
    struct attachment *added = calloc(1, sizeof(*added) + key.len);
    if (added == NULL || reserve_one(&lessor->attachments) != ST_OK) {
        free(added);
        return ST_NO_MEMORY;
    }
    added->entry.hash = hash;
    added->key_bytes = key.len;
    if (key.len > 0)
        memcpy(added->key, key.data, key.len);
    insert(&lessor->attachments, &added->entry);
    join(added, lease);
    return ST_OK;
}

enum status lessor_attach(struct lessor *lessor, lease_id id, struct slice key)
{
    struct lease_entry *lease = id == 0 ? NULL : lessor_entry(lessor, id);
    if (lease == NULL && lessor->attachments.entries_count == 0)
        return ST_OK;
    uint64_t hash = hash64(key);
    struct attachment *found = find_attachment(lessor, key, hash);
    if (found == NULL)
        return lease == NULL ? ST_OK : add_attachment(lessor, lease, key, hash);
    if (found->lease == lease)
        return ST_OK;
    if (lease == NULL) {
        detach(lessor, found);
        return ST_OK;
    }
    list_remove(&found->of_lease);
    found->lease->lease.keys_count--;
    join(found, lease);
    return ST_OK;
}

bool lessor_is_attached(const struct lessor *lessor, struct slice key)
{
    return lessor->attachments.entries_count > 0 &&
           find_attachment(lessor, key, hash64(key)) != NULL;
}

void lessor_drop(struct lessor *lessor, lease_id id, struct list_node *ended)
{
    struct lease_entry *lease = lessor_entry(lessor, id);
    if (lease == NULL)
        return;
    countdown_leave(lessor, lease, ended);
    while (!list_is_empty(&lease->attachments))
        detach(lessor, CONTAINER_OF(lease->attachments.next, struct attachment, of_lease));
    take_out(&lessor->leases, &lease->entry);
    free(lease);
}

enum status lessor_keys(const struct lessor *lessor, lease_id id, struct arena *arena,
                        struct slice **keys_out, uint64_t *count_out)
{
    const struct lease_entry *lease = lessor_entry(lessor, id);
    *keys_out = NULL;
    *count_out = 0;
    if (lease == NULL)
        return ST_NOT_FOUND;
    void *room;
    enum status st = arena_take(arena, lease->lease.keys_count * sizeof(struct slice), &room);
    struct slice *keys = room;
    uint64_t count = 0;
    LIST_FOREACH(node, &lease->attachments)
    {
        if (st != ST_OK)
            return st;
        st = arena_copy(arena, key_of(CONTAINER_OF(node, struct attachment, of_lease)),
                        &keys[count++]);
    }
    if (st != ST_OK)
        return st;
    *keys_out = keys;
    *count_out = count;
    return ST_OK;
}

enum status lessor_each_key(const struct lessor *lessor, lease_id id,
                            enum status (*fn)(void *context, struct slice key), void *context)
{
    const struct lease *lease = lessor_find(lessor, id);
    if (lease == NULL)
        return ST_OK;
    enum status st = ST_OK;
    LIST_FOREACH(node, &CONTAINER_OF(lease, const struct lease_entry, lease)->attachments)
    {
        if (st != ST_OK)
            break;
        st = fn(context, key_of(CONTAINER_OF(node, struct attachment, of_lease)));
    }
    return st;
}

void lessor_each(const struct lessor *lessor, void (*fn)(void *context, const struct lease *lease),
                 void *context)
{
    for (uint64_t i = 0; i < lessor->leases.buckets_count; i++) {
        for (struct entry *e = lessor->leases.buckets[i]; e != NULL; e = e->next)
            fn(context, &CONTAINER_OF(e, struct lease_entry, entry)->lease);
    }
}

void lessor_free(struct lessor *lessor)
{
    struct list_node ended;
    if (lessor == NULL)
        return;
    list_init(&ended);
    for (uint64_t i = 0; i < lessor->leases.buckets_count; i++) {
        while (lessor->leases.buckets[i] != NULL)
            lessor_drop(
                lessor,
                CONTAINER_OF(lessor->leases.buckets[i], struct lease_entry, entry)->lease.id,
                &ended);
    }
    ASSERT(list_is_empty(&ended));
    heap_deinit(&lessor->ends);
    heap_deinit(&lessor->checkpoints);
    free(lessor->leases.buckets);
    free(lessor->attachments.buckets);
    free(lessor);
}
