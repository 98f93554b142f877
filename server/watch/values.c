/* Values before changes that are not in memory: a reader fetches them and encodes the events, batch
 * by batch. The hub keeps a batch until each group that wants its values was given its share, and
 * does not touch the changes meanwhile. A group is given its shares in order, whatever others wait
 * for: a batch is read when it is due for some group, and its events are kept for the others. The
 * values of many changes have a read of their own, so that nobody else waits for it. */
#include "server/watch/watch_private.h"

#include "base/assert.h"

#include <stdlib.h>

void watch_values_init(struct watch_hub *hub)
{
    list_init(&hub->waiting);
    list_init(&hub->due);
    list_init(&hub->due_long);
}

/* ---- what waits ---- */

static struct watch_share *first_share(const struct watch_group *group)
{
    return list_is_empty(&group->waiting)
               ? NULL
               : CONTAINER_OF(group->waiting.next, struct watch_share, in_group);
}

static void drop_batch(struct watch_hub *hub, struct watch_batch *batch)
{
    list_remove(&batch->waiting);
    list_remove(&batch->due);
    hub->waiting_bytes -= batch->size;
    watch_batch_free(hub, batch);
}

static void drop_share(struct watch_hub *hub, struct watch_share *share)
{
    struct watch_batch *batch = share->batch;
    list_remove(&share->in_batch);
    list_remove(&share->in_group);
    watch_runs_deinit(&share->runs);
    watch_group_unref(share->group);
    free(share);
    if (list_is_empty(&batch->shares) && !batch->is_held)
        drop_batch(hub, batch);
}

static void drop_all(struct watch_hub *hub)
{
    while (!list_is_empty(&hub->waiting)) {
        struct watch_batch *batch = CONTAINER_OF(hub->waiting.next, struct watch_batch, waiting);
        drop_share(hub, CONTAINER_OF(batch->shares.next, struct watch_share, in_batch));
    }
}

static bool is_reading(const struct watch_hub *hub)
{
    return hub->read_slots[WATCH_VALUES_READ].busy || hub->read_slots[WATCH_LONG_READ].busy;
}

void watch_values_deinit(struct watch_hub *hub)
{
    ASSERT(!is_reading(hub));
    drop_all(hub);
}

static void add_bytes(struct watch_hub *hub, struct watch_batch *batch, size_t bytes)
{
    batch->size += bytes;
    hub->waiting_bytes += bytes;
    atomic_fetch_add_explicit(&hub->backlog_bytes, bytes, memory_order_relaxed);
}

static void note_due(struct watch_hub *hub, struct watch_batch *batch)
{
    if (batch->is_read || batch->was_due)
        return;
    batch->was_due = true;
    bool is_long = batch->changes.count > WATCH_HUB_CHANGES;
    list_push_back(is_long ? &hub->due_long : &hub->due, &batch->due);
}

static size_t share_size(const struct watch_group *group)
{
    return sizeof(struct watch_share) + group->runs.capacity * sizeof(struct watch_run);
}

static bool add_share(struct watch_hub *hub, struct watch_batch *batch, struct watch_group *group)
{
    struct watch_share *share = malloc(sizeof(*share));
    if (share == NULL)
        return false;
    *share = (struct watch_share){.batch = batch, .group = group, .runs = group->runs};
    add_bytes(hub, batch, share_size(group));
    group->runs = (struct watch_runs){0};
    group->refs++;
    list_push_back(&batch->shares, &share->in_batch);
    list_push_back(&group->waiting, &share->in_group);
    if (first_share(group) == share)
        note_due(hub, batch);
    return true;
}

/* Takes the block for those who are to be given it later, or has it made once more then. */
static void keep(struct watch_hub *hub, struct watch_batch *batch, struct watch_block *block)
{
    batch->is_read = hub->waiting_bytes + block->bytes.len <= WATCH_KEPT_BYTES;
    batch->block = batch->is_read ? block : NULL;
    if (batch->is_read) {
        add_bytes(hub, batch, block->bytes.len);
    } else {
        batch->was_due = false;
        watch_block_unref(block);
    }
}

static bool is_too_much(const struct watch_hub *hub, const struct watch_batch *batch)
{
    size_t bytes = batch->size;
    LIST_FOREACH(node, &hub->touched[WATCH_WITH_VALUES])
    {
        bytes += share_size(CONTAINER_OF(node, struct watch_group, touched));
    }
    return hub->waiting_bytes + bytes > WATCH_WAITING_BYTES;
}

bool watch_values_wait(struct watch_hub *hub, struct watch_batch *batch, struct watch_block *block)
{
    size_t size = batch->size;
    if (!list_is_empty(&hub->waiting) && is_too_much(hub, batch))
        return false;
    list_init(&batch->due);
    list_init(&batch->shares);
    struct watch_group *group;
    while ((group = watch_next_touched(hub, WATCH_WITH_VALUES)) != NULL) {
        if (!add_share(hub, batch, group)) {
            list_push_front(&hub->touched[WATCH_WITH_VALUES], &group->touched);
            break;
        }
    }
    if (list_is_empty(&batch->shares))
        return false;
    hub->waiting_bytes += size;
    list_push_back(&hub->waiting, &batch->waiting);
    if (block != NULL)
        keep(hub, batch, block);
    return true;
}

/* ---- reading ---- */

/* What follows for the same groups will be due when this one is read. */
static void note_next(struct watch_hub *hub, struct watch_batch *batch)
{
    LIST_FOREACH(node, &batch->shares)
    {
        struct watch_share *share = CONTAINER_OF(node, struct watch_share, in_batch);
        struct list_node *next = share->in_group.next;
        if (next != &share->group->waiting)
            note_due(hub, CONTAINER_OF(next, struct watch_share, in_group)->batch);
    }
}

static void start(struct watch_hub *hub, uint32_t number, struct list_node *due)
{
    struct watch_read *read = &hub->read_slots[number];
    if (read->busy)
        return;
    while (!list_is_empty(due) && read->batches_count < WATCH_READ_BATCHES) {
        struct watch_batch *batch = CONTAINER_OF(list_pop_front(due), struct watch_batch, due);
        read->batches[read->batches_count++].batch = batch;
        if (number != WATCH_LONG_READ)
            note_next(hub, batch);
    }
    read->busy = read->batches_count > 0;
    if (read->busy)
        hub->options.read(hub->options.context, read, number);
}

void watch_values_start(struct watch_hub *hub)
{
    if (hub->watchers_count == 0 && !is_reading(hub))
        drop_all(hub);
    start(hub, WATCH_VALUES_READ, &hub->due);
    start(hub, WATCH_LONG_READ, &hub->due_long);
}

void watch_values_run(struct watch_read *read, uint32_t reader_slot)
{
    const struct watch_values values = {read->hub->options.mvcc, reader_slot,
                                        /* in_memory= */ false};
    size_t bytes = 0;
    while (read->made_count < read->batches_count && bytes < WATCH_BATCH_BYTES) {
        uint32_t i = read->made_count++;
        enum status st =
            watch_block_new(&read->batches[i].batch->changes, &values, &read->batches[i].block);
        if (st == ST_OK)
            bytes += read->batches[i].block->bytes.len;
    }
}

/* ---- what was read ---- */

/* Gives the group what it waits for, as far as that is read. */
static void go_on(struct watch_hub *hub, struct watch_group *group)
{
    struct watch_share *share;
    group->refs++;
    while ((share = first_share(group)) != NULL && share->batch->is_read) {
        watch_deliver(hub, group, &share->runs, share->batch->block, share->batch->revision);
        drop_share(hub, share);
    }
    if (share != NULL)
        note_due(hub, share->batch);
    watch_group_unref(group);
}

/* Takes the block; NULL: they read it from history. */
static void take(struct watch_hub *hub, struct watch_batch *batch, struct watch_block *block)
{
    batch->is_read = batch->is_held = true;
    batch->block = block;
    for (struct list_node *node = batch->shares.next, *next; node != &batch->shares; node = next) {
        next = node->next;
        go_on(hub, CONTAINER_OF(node, struct watch_share, in_batch)->group);
    }
    batch->is_held = false;
    if (list_is_empty(&batch->shares))
        drop_batch(hub, batch);
    else if (block != NULL)
        keep(hub, batch, block);
}

void watch_values_take(struct watch_hub *hub, struct watch_read *read)
{
    struct list_node *due = read->number == WATCH_LONG_READ ? &hub->due_long : &hub->due;
    for (uint32_t i = read->batches_count; i > read->made_count; i--)
        list_push_front(due, &read->batches[i - 1].batch->due);
    for (uint32_t i = 0; i < read->made_count; i++)
        take(hub, read->batches[i].batch, read->batches[i].block);
    read->made_count = 0; /* the blocks are taken */
    watch_read_reset(read);
}
