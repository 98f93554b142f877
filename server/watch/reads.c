/* Reading history for those who are behind. A read serves watchers that want about the same
 * revisions: it walks the store once, keeps the records that concern one of them, and encodes them
 * once; each then gets its part of that. It runs on a reader thread, the hub only starts it and
 * takes what it found. */
#include "server/watch/watch_private.h"

#include "base/assert.h"
#include "base/minmax.h"

#include <stdlib.h>

static void wake_hub(void *context)
{
    struct watch_hub *hub = context;
    if (hub->options.wake != NULL)
        hub->options.wake(hub->options.context);
}

void watch_reads_init(struct watch_hub *hub)
{
    inbox_init(&hub->reads, wake_hub, hub);
    list_init(&hub->behind);
    for (uint32_t i = 0; i < WATCH_READS_MAX; i++) {
        struct watch_read *read = &hub->read_slots[i];
        read->hub = hub;
        read->number = i;
        buf_init(&read->records, SIZE_MAX);
    }
}

/* ---- on the reader ---- */

static enum status keep(struct watch_read *read, struct revision revision, bool tombstone,
                        struct slice record)
{
    if (read->list_count == read->list_capacity) {
        size_t capacity = max_size(read->list_capacity * 2, 64);
        struct watch_change *grown = realloc(read->list, capacity * sizeof(*grown));
        if (grown == NULL)
            return ST_NO_MEMORY;
        read->list = grown;
        read->list_capacity = capacity;
    }
    read->list[read->list_count] = (struct watch_change){.revision = revision.main,
                                                         .offset = read->records.len,
                                                         .len = (uint32_t)record.len,
                                                         .tombstone = tombstone,
                                                         .wanted = (uint8_t)(1U << read->form)};
    enum status st = buf_append(&read->records, record);
    read->list_count += st == ST_OK;
    read->revisions += read->last_kept != revision.main;
    read->last_kept = revision.main;
    return st;
}

static bool is_full(const struct watch_read *read)
{
    return read->revisions >= WATCH_BATCH_REVISIONS || read->records.len >= WATCH_BATCH_BYTES ||
           read->looked >= WATCH_READ_CHANGES;
}

/* ST_EXISTS ends the walk between two revisions. */
static enum status take_change(void *context, struct revision revision, bool tombstone,
                               struct slice record)
{
    struct watch_read *read = context;
    if (revision.main != read->last_seen && is_full(read)) {
        read->through = revision.main - 1;
        return ST_EXISTS;
    }
    read->last_seen = revision.main;
    read->looked++;
    struct slice key = watch_record_key(record);
    unsigned unwanted = tombstone ? WATCH_NO_DELETE : WATCH_NO_PUT;
    bool wanted = false;
    for (uint32_t i = 0; i < read->groups_count; i++) {
        struct watch_read_group *group = &read->groups[i];
        if ((group->group->kinds & unwanted) != 0 || !watch_group_has(group->group, key))
            continue;
        watch_runs_add(&group->runs, (uint32_t)read->list_count);
        wanted = true;
    }
    return wanted ? keep(read, revision, tombstone, record) : ST_OK;
}

static enum status make_deliveries(struct watch_read *read, uint32_t reader_slot)
{
    const struct watch_changes changes = {
        .bytes = read->records.data, .list = read->list, .count = (uint32_t)read->list_count};
    if (changes.count == 0)
        return ST_OK;
    const struct watch_values values = {read->hub->options.mvcc, reader_slot,
                                        /* in_memory= */ false};
    enum status st =
        watch_block_new(&changes, read->form == WATCH_WITH_VALUES ? &values : NULL, &read->block);
    for (uint32_t i = 0; i < read->groups_count && st == ST_OK; i++) {
        struct watch_read_group *group = &read->groups[i];
        if (group->runs.count == 0)
            continue;
        group->delivery = watch_delivery_new(read->block, &group->runs, read->current);
        if (group->delivery == NULL || group->runs.failed)
            st = ST_NO_MEMORY;
    }
    return st;
}

static void run_history(struct watch_read *read, uint32_t reader_slot)
{
    struct watch_hub *hub = read->hub;
    read->last_seen = read->last_kept = INT64_MIN;
    read->looked = read->revisions = 0;
    enum status st = mvcc_history(hub->options.mvcc, reader_slot, read->from, take_change, read,
                                  &read->current, &read->compact);
    if (st == ST_OK)
        read->through = read->current;
    if (st == ST_OK || st == ST_EXISTS)
        st = make_deliveries(read, reader_slot);
    read->status = st;
}

void watch_read_run(struct watch_read *read, uint32_t reader_slot)
{
    if (read->number >= WATCH_VALUES_READ)
        watch_values_run(read, reader_slot);
    else
        run_history(read, reader_slot);
    inbox_push(&read->hub->reads, &read->node);
}

/* ---- what was found ---- */

void watch_read_reset(struct watch_read *read)
{
    for (uint32_t i = 0; i < read->watchers_count; i++)
        watcher_unref(read->watchers[i].watcher);
    for (uint32_t i = 0; i < read->groups_count; i++) {
        watch_runs_deinit(&read->groups[i].runs);
        watch_delivery_unref(read->groups[i].delivery);
    }
    for (uint32_t i = 0; i < read->made_count; i++)
        watch_block_unref(read->batches[i].block);
    watch_block_unref(read->block);
    buf_deinit(&read->records);
    free(read->list);
    *read = (struct watch_read){.hub = read->hub, .number = read->number};
    buf_init(&read->records, SIZE_MAX);
}

void watch_reads_deinit(struct watch_hub *hub)
{
    watch_reads_take(hub);
    for (uint32_t i = 0; i < WATCH_READS_MAX; i++)
        ASSERT(!hub->read_slots[i].busy);
}

/* Whether the delivery holds anything at or behind this event. */
static bool holds(const struct watch_delivery *delivery, uint32_t first)
{
    return delivery != NULL && delivery->runs[delivery->runs_count - 1].end > first;
}

static void give(struct watch_hub *hub, struct watch_read *read, uint32_t number)
{
    struct watcher *watcher = read->watchers[number].watcher;
    int64_t next = read->watchers[number].next;
    if (watcher->stream == NULL)
        return;
    ASSERT(watcher->state == WATCHER_READING);
    if (read->through < next) {
        watcher_go_on(hub, watcher, next);
        return;
    }
    struct watch_delivery *delivery = read->groups[read->watchers[number].group].delivery;
    uint32_t first = delivery == NULL ? 0 : watch_block_first_at(read->block, next);
    if (holds(delivery, first) && !stream_add(hub, watcher, delivery, first)) {
        stream_end(hub, watcher->stream, WATCH_END_NO_MEMORY);
        return;
    }
    watcher_go_on(hub, watcher, read->through + 1);
}

/* Compacted, for some of them, or another state took the place of the one that was read. */
static void begin_again(struct watch_hub *hub, struct watcher *watcher, int64_t next)
{
    int64_t current, compact;
    mvcc_revisions(hub->options.mvcc, &current, &compact);
    if (next < compact)
        watcher_end_compacted(hub, watcher, compact);
    else
        watcher_go_on(hub, watcher, next);
}

static void take_history(struct watch_hub *hub, struct watch_read *read)
{
    bool found = read->status == ST_OK || read->status == ST_EXISTS;
    for (uint32_t i = 0; i < read->watchers_count; i++) {
        struct watcher *watcher = read->watchers[i].watcher;
        if (watcher->stream == NULL)
            continue;
        if (found)
            give(hub, read, i);
        else if (read->status == ST_COMPACTED)
            begin_again(hub, watcher, read->watchers[i].next);
        else
            stream_end(hub, watcher->stream,
                       read->status == ST_NO_MEMORY ? WATCH_END_NO_MEMORY : WATCH_END_BROKEN);
    }
    watch_read_reset(read);
}

void watch_reads_take(struct watch_hub *hub)
{
    for (struct inbox_node *node = inbox_take(&hub->reads), *next; node != NULL; node = next) {
        next = node->next;
        struct watch_read *read = CONTAINER_OF(node, struct watch_read, node);
        if (read->number >= WATCH_VALUES_READ)
            watch_values_take(hub, read);
        else
            take_history(hub, read);
    }
}

/* ---- starting ---- */

static uint32_t group_of(struct watch_read *read, struct watch_group *group)
{
    uint32_t i = 0;
    while (i < read->groups_count && read->groups[i].group != group)
        i++;
    if (i == read->groups_count)
        read->groups[read->groups_count++] = (struct watch_read_group){.group = group};
    return i;
}

static void add(struct watch_read *read, struct watcher *watcher)
{
    uint32_t number = read->watchers_count++;
    list_remove(&watcher->behind);
    watcher->state = WATCHER_READING;
    watcher->refs++;
    read->watchers[number].watcher = watcher;
    read->watchers[number].next = watcher->next;
    read->watchers[number].group = group_of(read, watcher->group);
    read->from = min_i64(read->from, watcher->next);
}

/* The one that has waited longest, and others whose history is about the same. */
static void fill(struct watch_hub *hub, struct watch_read *read)
{
    struct watcher *first = CONTAINER_OF(hub->behind.next, struct watcher, behind);
    read->busy = true;
    read->from = first->next;
    read->form = watch_group_form(first->group);
    add(read, first);
    struct list_node *node = hub->behind.next;
    for (uint32_t i = 0;
         i < WATCH_READ_LOOK && node != &hub->behind && read->watchers_count < WATCH_READ_WATCHERS;
         i++) {
        struct watcher *watcher = CONTAINER_OF(node, struct watcher, behind);
        node = node->next;
        int64_t away = watcher->next - first->next;
        if (watch_group_form(watcher->group) == read->form && away >= 0 &&
            away < (int64_t)WATCH_BATCH_REVISIONS)
            add(read, watcher);
    }
}

void watch_reads_start(struct watch_hub *hub)
{
    for (uint32_t i = 0; i < WATCH_VALUES_READ && !list_is_empty(&hub->behind); i++) {
        struct watch_read *read = &hub->read_slots[i];
        if (read->busy)
            continue;
        fill(hub, read);
        hub->options.read(hub->options.context, read, i);
    }
}
