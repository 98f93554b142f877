/* Values before changes that are not in memory: a reader fetches them and encodes the events, batch
 * by batch in order, at most one read at a time. The hub keeps the batches meanwhile and does not
 * touch them, and finds again who wants them now: whoever came later wants only what follows the
 * hub's position, so it gets nothing twice. */
#include "server/watch/watch_private.h"

#include "base/assert.h"

void watch_values_init(struct watch_hub *hub)
{
    list_init(&hub->waiting);
}

static struct watch_batch *first_waiting(const struct watch_hub *hub)
{
    return CONTAINER_OF(hub->waiting.next, struct watch_batch, waiting);
}

static void drop_first(struct watch_hub *hub)
{
    struct watch_batch *batch = first_waiting(hub);
    list_remove(&batch->waiting);
    hub->waiting_bytes -= batch->size;
    watch_batch_free(hub, batch);
}

static void drop_all(struct watch_hub *hub)
{
    while (!list_is_empty(&hub->waiting))
        drop_first(hub);
}

void watch_values_deinit(struct watch_hub *hub)
{
    ASSERT(!hub->read_slots[WATCH_VALUES_READ].busy);
    drop_all(hub);
}

bool watch_values_wait(struct watch_hub *hub, struct watch_batch *batch)
{
    if (!list_is_empty(&hub->waiting) && hub->waiting_bytes + batch->size > WATCH_WAITING_BYTES)
        return false;
    list_push_back(&hub->waiting, &batch->waiting);
    hub->waiting_bytes += batch->size;
    return true;
}

void watch_values_start(struct watch_hub *hub)
{
    struct watch_read *read = &hub->read_slots[WATCH_VALUES_READ];
    if (read->busy)
        return;
    if (hub->watchers_count == 0)
        drop_all(hub);
    LIST_FOREACH(node, &hub->waiting)
    {
        if (read->batches_count == WATCH_READ_BATCHES)
            break;
        read->batches[read->batches_count++].batch =
            CONTAINER_OF(node, struct watch_batch, waiting);
    }
    read->busy = read->batches_count > 0;
    if (read->busy)
        hub->options.read(hub->options.context, read, WATCH_VALUES_READ);
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

void watch_values_take(struct watch_hub *hub, struct watch_read *read)
{
    for (uint32_t i = 0; i < read->made_count; i++) {
        ASSERT(read->batches[i].batch == first_waiting(hub));
        watch_publish_values(hub, read->batches[i].batch, read->batches[i].block);
        drop_first(hub);
    }
    watch_read_reset(read);
}
