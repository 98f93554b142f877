/* Apply's side runs inside mvcc_write_end(): it copies the changes once and goes on; when nobody
 * watches it looks at one flag.
 *
 * No change is lost between a first watcher and apply: apply makes a revision readable before it
 * looks at `listening`, the hub sets `listening` before it looks at the revision. So either apply
 * hands the revision over, or the hub sees that it was there before. */
#include "server/watch/watch_private.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdlib.h>

/* ---- apply ---- */

/* The watchers read it from history. */
static void note_missed(struct watch_hub *hub, int64_t revision)
{
    atomic_store(&hub->missed, revision);
    if (hub->options.wake != NULL)
        hub->options.wake(hub->options.context);
}

static struct watch_batch *batch_new(const struct mvcc_changes *changes)
{
    size_t list_bytes = changes->count * sizeof(struct watch_change);
    size_t size = sizeof(struct watch_batch) + list_bytes + changes->bytes.len;
    struct watch_batch *batch = malloc(size);
    if (batch == NULL)
        return NULL;
    struct watch_change *list = (struct watch_change *)(batch + 1);
    uint8_t *bytes = (uint8_t *)(list + changes->count);
    for (size_t i = 0; i < changes->count; i++)
        list[i] = (struct watch_change){.revision = changes->revision,
                                        .offset = changes->list[i].offset,
                                        .len = (uint32_t)changes->list[i].len,
                                        .tombstone = changes->list[i].tombstone};
    memcpy(bytes, changes->bytes.data, changes->bytes.len);
    *batch = (struct watch_batch){
        .revision = changes->revision,
        .size = size,
        .changes = {.bytes = bytes, .list = list, .count = (uint32_t)changes->count}};
    return batch;
}

static void publish(void *context, const struct mvcc_changes *changes)
{
    struct watch_hub *hub = context;
    if (!atomic_load(&hub->listening))
        return;
    struct watch_batch *batch = NULL;
    if (changes->count > 0 &&
        atomic_load_explicit(&hub->backlog_bytes, memory_order_relaxed) <= WATCH_BACKLOG_BYTES)
        batch = batch_new(changes);
    if (batch == NULL) {
        note_missed(hub, changes->revision);
        return;
    }
    atomic_fetch_add_explicit(&hub->backlog_bytes, batch->size, memory_order_relaxed);
    inbox_push(&hub->batches, &batch->node);
}

static void wake_hub(void *context)
{
    struct watch_hub *hub = context;
    if (hub->options.wake != NULL)
        hub->options.wake(hub->options.context);
}

void watch_batch_free(struct watch_hub *hub, struct watch_batch *batch)
{
    atomic_fetch_sub_explicit(&hub->backlog_bytes, batch->size, memory_order_relaxed);
    watch_block_unref(batch->block);
    free(batch);
}

void watch_publish_init(struct watch_hub *hub)
{
    inbox_init(&hub->batches, wake_hub, hub);
    mvcc_set_changes_sink(hub->options.mvcc, publish, hub);
}

void watch_publish_deinit(struct watch_hub *hub)
{
    mvcc_set_changes_sink(hub->options.mvcc, NULL, NULL);
    for (struct inbox_node *node = inbox_take(&hub->batches), *next; node != NULL; node = next) {
        next = node->next;
        watch_batch_free(hub, CONTAINER_OF(node, struct watch_batch, node));
    }
}

/* ---- the hub ---- */

/* What lies between the position and `to` was not handed over. */
static void skip_to(struct watch_hub *hub, int64_t to)
{
    if (to <= hub->position)
        return;
    LIST_FOREACH(s, &hub->streams)
    {
        struct watch_stream *stream = CONTAINER_OF(s, struct watch_stream, node);
        LIST_FOREACH(w, &stream->watchers)
        {
            struct watcher *watcher = CONTAINER_OF(w, struct watcher, in_stream);
            if (watcher->state == WATCHER_SYNCED && watcher->next <= to)
                watcher_fall_behind(hub, watcher);
        }
    }
    hub->position = to;
}

static void touch(void *context, struct watch_group *group)
{
    struct watch_hub *hub = context;
    struct watch_change *change = hub->change;
    enum watch_form form = watch_group_form(group);
    if ((group->kinds & (change->tombstone ? WATCH_NO_DELETE : WATCH_NO_PUT)) != 0)
        return;
    if (list_is_empty(&group->touched))
        list_push_back(&hub->touched[form], &group->touched);
    watch_runs_add(&group->runs, hub->change_index);
    change->wanted |= (uint8_t)(1U << form);
}

static void find_groups(struct watch_hub *hub, const struct watch_changes *changes)
{
    for (uint32_t i = 0; i < changes->count; i++) {
        hub->change = &changes->list[i];
        hub->change_index = i;
        watch_groups_find(&hub->groups, watch_record_key(watch_change_record(changes, i)), touch,
                          hub);
    }
}

/* Without memory for it they read it from history. Who asked for progress is told of what he has
 * seen, too. */
void watch_deliver(struct watch_hub *hub, struct watch_group *group, const struct watch_runs *runs,
                   struct watch_block *block, int64_t revision)
{
    struct watch_delivery *delivery = NULL;
    if (block != NULL && !runs->failed)
        delivery = watch_delivery_new(block, runs, revision);
    LIST_FOREACH(node, &group->watchers)
    {
        struct watcher *watcher = CONTAINER_OF(node, struct watcher, in_group);
        if (watcher->state != WATCHER_SYNCED || watcher->next > revision)
            continue;
        if (delivery == NULL || watcher->pending >= WATCH_PENDING_MAX ||
            !stream_add(hub, watcher, delivery, delivery->runs[0].first))
            watcher_fall_behind(hub, watcher);
        else
            watcher->stream->progress_revision =
                max_i64(watcher->stream->progress_revision, revision);
    }
    watch_delivery_unref(delivery);
}

static void forget_runs(struct watch_group *group)
{
    group->runs.count = 0;
    if (group->runs.capacity > WATCH_RUNS_KEPT || group->runs.failed)
        watch_runs_deinit(&group->runs);
}

struct watch_group *watch_next_touched(struct watch_hub *hub, enum watch_form form)
{
    struct list_node *node = list_pop_front(&hub->touched[form]);
    return node == NULL ? NULL : CONTAINER_OF(node, struct watch_group, touched);
}

static void deliver_to_touched(struct watch_hub *hub, enum watch_form form,
                               struct watch_block *block, int64_t revision)
{
    struct watch_group *group;
    while ((group = watch_next_touched(hub, form)) != NULL) {
        watch_deliver(hub, group, &group->runs, block, revision);
        forget_runs(group);
    }
}

/* To those who want no values. */
static void give_plain(struct watch_hub *hub, struct watch_batch *batch)
{
    struct watch_block *block = NULL;
    if (list_is_empty(&hub->touched[WATCH_PLAIN]))
        return;
    enum status st = watch_block_new(&batch->changes, /* values= */ NULL, &block);
    (void)st; /* without memory for it they read it from history */
    deliver_to_touched(hub, WATCH_PLAIN, block, batch->revision);
    watch_block_unref(block);
}

/* Leaves those touched who wait for something before. */
static void deliver_to_free(struct watch_hub *hub, struct watch_block *block, int64_t revision)
{
    struct list_node *touched = &hub->touched[WATCH_WITH_VALUES];
    for (struct list_node *node = touched->next, *next; node != touched; node = next) {
        next = node->next;
        struct watch_group *group = CONTAINER_OF(node, struct watch_group, touched);
        if (!list_is_empty(&group->waiting))
            continue;
        list_remove(&group->touched);
        watch_deliver(hub, group, &group->runs, block, revision);
        forget_runs(group);
    }
}

static bool has_free(const struct watch_hub *hub)
{
    LIST_FOREACH(node, &hub->touched[WATCH_WITH_VALUES])
    {
        if (list_is_empty(&CONTAINER_OF(node, struct watch_group, touched)->waiting))
            return true;
    }
    return false;
}

/* To those who want values, as far as these are in memory and nothing before is waited for; without
 * memory for the block, or when the store cannot be read, the readers of history see what is the
 * matter. True: the batch waits and is not the caller's any more. */
static bool give_or_wait(struct watch_hub *hub, struct watch_batch *batch)
{
    const struct watch_values values = {hub->options.mvcc, hub->options.reader_slot,
                                        /* in_memory= */ true};
    struct watch_block *block = NULL;
    enum status st = ST_BUSY;
    if (batch->changes.count <= WATCH_HUB_CHANGES && has_free(hub))
        st = watch_block_new(&batch->changes, &values, &block);
    if (st != ST_BUSY)
        deliver_to_free(hub, block, batch->revision);
    bool waits =
        !list_is_empty(&hub->touched[WATCH_WITH_VALUES]) && watch_values_wait(hub, batch, block);
    deliver_to_touched(hub, WATCH_WITH_VALUES, /* block= */ NULL, batch->revision);
    if (!waits)
        watch_block_unref(block);
    return waits;
}

/* Likewise. */
static bool dispatch(struct watch_hub *hub, struct watch_batch *batch)
{
    find_groups(hub, &batch->changes);
    give_plain(hub, batch);
    return give_or_wait(hub, batch);
}

void watch_take_batches(struct watch_hub *hub)
{
    /* Looked at first: what was handed over before it is then in the inbox. */
    int64_t missed = atomic_load(&hub->missed);
    for (struct inbox_node *node = inbox_take(&hub->batches), *next; node != NULL; node = next) {
        next = node->next;
        struct watch_batch *batch = CONTAINER_OF(node, struct watch_batch, node);
        bool waits = false;
        if (batch->revision > hub->position) {
            skip_to(hub, batch->revision - 1);
            waits = dispatch(hub, batch);
            hub->position = batch->revision;
        }
        if (!waits)
            watch_batch_free(hub, batch);
    }
    if (hub->watchers_count > 0)
        skip_to(hub, missed);
}
