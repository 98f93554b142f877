/* Pins: a moment of the state machine, held still for work that takes long (snapshots, exports). */
#include "base/assert.h"
#include "storage/store_private.h"

struct pinned_record {
    struct slice key, value; /* in the pin's arena */
    struct pinned_record *next;
};

struct store_pin {
    struct arena arena;
    struct store_mark mark;
    uint64_t adoptions_count; /* of the store, when it was taken */
    struct pinned_record *first[BUCKETS_COUNT], **last[BUCKETS_COUNT];
};

struct pin_fill {
    struct store_pin *pin;
    enum bucket bucket;
};

static enum status pin_record(void *context, struct slice key, struct slice value)
{
    struct pin_fill *fill = context;
    struct store_pin *pin = fill->pin;
    struct pinned_record *record = ARENA_NEW(&pin->arena, struct pinned_record);
    if (record == NULL || arena_copy(&pin->arena, key, &record->key) != ST_OK ||
        arena_copy(&pin->arena, value, &record->value) != ST_OK)
        return ST_NO_MEMORY;
    *pin->last[fill->bucket] = record;
    pin->last[fill->bucket] = &record->next;
    return ST_OK;
}

enum status store_pin(struct store *store, struct store_pin **out)
{
    ASSERT(!store->in_entry);
    *out = NULL;
    struct store_pin *pin = calloc(1, sizeof(*pin));
    if (pin == NULL)
        return ST_NO_MEMORY;
    arena_init(&pin->arena, PIN_BYTES_MAX);
    /* Before anything is read: from here on no deletion begins. One that the writer has under way
     * is of a compaction that the mark already contains. */
    atomic_fetch_add(&store->pins_count, 1);
    pin->mark = store->applied;
    pin->adoptions_count = store->adoptions_count;
    enum status st = arena_copy(&pin->arena, store->applied.conf_state, &pin->mark.conf_state);
    for (enum bucket bucket = 0; bucket < BUCKETS_COUNT && st == ST_OK; bucket++) {
        pin->last[bucket] = &pin->first[bucket];
        struct pin_fill fill = {.pin = pin, .bucket = bucket};
        if (bucket != BUCKET_KEY)
            st = store_each(store, bucket, pin_record, &fill);
    }
    if (st != ST_OK) {
        store_unpin(store, pin);
        return st;
    }
    *out = pin;
    return ST_OK;
}

void store_unpin(struct store *store, struct store_pin *pin)
{
    if (pin == NULL)
        return;
    unsigned left = atomic_fetch_sub_explicit(&store->pins_count, 1, memory_order_acq_rel) - 1;
    arena_deinit(&pin->arena);
    free(pin);
    if (left == 0)
        store_wake_writer(store);
}

bool store_is_settled(const struct store *store)
{
    return !atomic_load(&store->deleting);
}

bool store_pin_is_current(const struct store *store, const struct store_pin *pin)
{
    return store->adoptions_count == pin->adoptions_count;
}

struct store_mark store_pin_mark(const struct store_pin *pin)
{
    return pin->mark;
}

enum status store_pin_each(const struct store_pin *pin, enum bucket bucket, store_each_fn fn,
                           void *context)
{
    ASSERT(bucket != BUCKET_KEY);
    enum status st = ST_OK;
    for (const struct pinned_record *record = pin->first[bucket]; record != NULL && st == ST_OK;
         record = record->next)
        st = fn(context, record->key, record->value);
    return st;
}
