#include "server/watch/watch_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/metrics/metrics.h"

#include <stdlib.h>

/* ---- by id ---- */

static uint64_t hash_of(const struct watch_stream *stream, int64_t id)
{
    uint64_t hash = (uint64_t)(uintptr_t)stream ^ (uint64_t)id * 0x9e3779b97f4a7c15U;
    hash ^= hash >> 32;
    return hash * 0xd6e8feb86659fd93U ^ hash >> 29;
}

static struct watcher *find(const struct watch_hub *hub, const struct watch_stream *stream,
                            int64_t id)
{
    struct table_link *link = table_find(&hub->watchers, hash_of(stream, id));
    for (; link != NULL; link = table_find_next(link)) {
        struct watcher *watcher = CONTAINER_OF(link, struct watcher, by_id);
        if (watcher->stream == stream && watcher->id == id)
            return watcher;
    }
    return NULL;
}

/* ---- states ---- */

/* For whom history can be read now: what was read before has left. */
static void note_behind(struct watch_hub *hub, struct watcher *watcher)
{
    if (watcher->state == WATCHER_BEHIND && watcher->pending == 0 &&
        list_is_empty(&watcher->behind))
        list_push_back(&hub->behind, &watcher->behind);
}

static void set_state(struct watcher *watcher, enum watcher_state state)
{
    bool was_synced = watcher->state == WATCHER_SYNCED, is_synced = state == WATCHER_SYNCED;
    list_remove(&watcher->behind);
    watcher->state = state;
    if (was_synced == is_synced)
        return;
    watcher->stream->unsynced_count += is_synced ? UINT32_MAX : 1;
    metrics_add(METRIC_SLOW_WATCHERS, is_synced ? -1 : 1);
}

void watcher_go_on(struct watch_hub *hub, struct watcher *watcher, int64_t next)
{
    watcher->next = next;
    set_state(watcher, next > hub->position ? WATCHER_SYNCED : WATCHER_BEHIND);
    note_behind(hub, watcher);
}

void watcher_fall_behind(struct watch_hub *hub, struct watcher *watcher)
{
    ASSERT(watcher->state == WATCHER_SYNCED);
    int64_t given = watch_given(hub, watcher->group);
    watcher->next = max_i64(watcher->next, given + 1);
    set_state(watcher, WATCHER_BEHIND);
    note_behind(hub, watcher);
}

void watcher_sent(struct watch_hub *hub, struct watcher *watcher)
{
    if (watcher->stream != NULL)
        note_behind(hub, watcher);
}

void watcher_end_compacted(struct watch_hub *hub, struct watcher *watcher, int64_t compact)
{
    set_state(watcher, WATCHER_COMPACTED);
    const struct watch_message answer = {
        .watch_id = watcher->id, .canceled = true, .compact_revision = compact};
    stream_answer(hub, watcher->stream, &answer);
}

/* ---- life ---- */

void watcher_unref(struct watcher *watcher)
{
    if (--watcher->refs > 0)
        return;
    watch_group_unref(watcher->group);
    free(watcher);
}

/* A watcher in no state yet. NULL: no memory. */
static struct watcher *watcher_new(struct watch_hub *hub, struct watch_stream *stream,
                                   const struct watch_create *create, int64_t id)
{
    struct watcher *watcher = calloc(1, sizeof(*watcher));
    if (watcher == NULL)
        return NULL;
    enum status st = watch_groups_take(&hub->groups, create->key, create->range_end, create->kinds,
                                       &watcher->group);
    if (st != ST_OK) {
        free(watcher);
        return NULL;
    }
    list_push_back(&watcher->group->watchers, &watcher->in_group);
    watcher->stream = stream;
    watcher->id = id;
    watcher->refs = 1;
    watcher->progress = create->progress_notify;
    watcher->fragment = create->fragment;
    watcher->idle = true;
    list_init(&watcher->behind);
    list_push_back(&stream->watchers, &watcher->in_stream);
    return watcher;
}

static void leave_group(struct watch_hub *hub, struct watcher *watcher)
{
    list_remove(&watcher->in_group);
    if (list_is_empty(&watcher->group->watchers))
        watch_groups_unlink(&hub->groups, watcher->group);
}

void watcher_remove(struct watch_hub *hub, struct watcher *watcher)
{
    struct watch_stream *stream = watcher->stream;
    set_state(watcher, WATCHER_SYNCED);
    table_remove(&hub->watchers, &watcher->by_id);
    list_remove(&watcher->in_stream);
    leave_group(hub, watcher);
    watcher->stream = NULL;
    stream->watchers_count--;
    stream->progress_count -= watcher->progress;
    stream->values_count -= watch_group_form(watcher->group) == WATCH_WITH_VALUES;
    progress_note(hub, stream);
    metrics_add(METRIC_WATCHERS, -1);
    if (--hub->watchers_count == 0)
        atomic_store(&hub->listening, false);
    watcher_unref(watcher);
}

/* ---- requests ---- */

static void refuse(struct watch_hub *hub, struct watch_stream *stream, const char *reason)
{
    const struct watch_message answer = {.watch_id = -1,
                                         .revision = watch_current_revision(hub),
                                         .created = true,
                                         .canceled = true,
                                         .cancel_reason = reason};
    stream_answer(hub, stream, &answer);
}

static bool is_empty_range(const struct watch_create *create)
{
    struct slice end = create->range_end;
    bool is_open = end.len == 1 && end.data[0] == 0;
    return end.len > 0 && !is_open && slice_cmp(create->key, end) >= 0;
}

/* The next one that is free; the counter only grows. */
static int64_t assign_id(const struct watch_hub *hub, struct watch_stream *stream)
{
    while (find(hub, stream, stream->next_id) != NULL)
        stream->next_id++;
    return stream->next_id++;
}

/* From the first watcher on apply hands over what it does. */
static int64_t begin_listening(struct watch_hub *hub)
{
    bool is_first = hub->watchers_count++ == 0;
    if (is_first)
        atomic_store(&hub->listening, true);
    int64_t current = watch_current_revision(hub);
    if (is_first)
        hub->position = max_i64(hub->position, current);
    return current;
}

static void start(struct watch_hub *hub, struct watcher *watcher, int64_t start_revision)
{
    struct watch_stream *stream = watcher->stream;
    int64_t current = begin_listening(hub), current_too, compact;
    stream->watchers_count++;
    stream->progress_count += watcher->progress;
    stream->values_count += watch_group_form(watcher->group) == WATCH_WITH_VALUES;
    progress_note(hub, stream);
    metrics_add(METRIC_WATCHERS, 1);
    const struct watch_message answer = {
        .watch_id = watcher->id, .created = true, .revision = current};
    stream_answer(hub, stream, &answer);
    watcher_go_on(hub, watcher, start_revision != 0 ? start_revision : current + 1);
    mvcc_revisions(hub->options.mvcc, &current_too, &compact);
    if (watcher->state == WATCHER_BEHIND && watcher->next < compact)
        watcher_end_compacted(hub, watcher, compact);
}

void watcher_create(struct watch_hub *hub, struct watch_stream *stream,
                    const struct watch_create *create)
{
    if (create->refusal != NULL) {
        refuse(hub, stream, create->refusal);
        return;
    }
    if (is_empty_range(create)) {
        refuse(hub, stream, "mvcc: watcher range is empty");
        return;
    }
    int64_t id = create->watch_id;
    if (id == 0) {
        id = assign_id(hub, stream);
    } else if (find(hub, stream, id) != NULL) {
        refuse(hub, stream, "mvcc: duplicate watch ID provided on the WatchStream");
        return;
    }
    struct watcher *watcher = watcher_new(hub, stream, create, id);
    if (watcher == NULL) {
        stream_end(hub, stream, WATCH_END_NO_MEMORY);
        return;
    }
    if (table_add(&hub->watchers, &watcher->by_id, hash_of(stream, id)) != ST_OK) {
        list_remove(&watcher->in_stream);
        leave_group(hub, watcher);
        watcher_unref(watcher);
        stream_end(hub, stream, WATCH_END_NO_MEMORY);
        return;
    }
    start(hub, watcher, create->start_revision);
}

void watcher_cancel(struct watch_hub *hub, struct watch_stream *stream, int64_t id)
{
    struct watcher *watcher = find(hub, stream, id);
    if (watcher == NULL)
        return;
    watcher_remove(hub, watcher);
    const struct watch_message answer = {
        .watch_id = id, .canceled = true, .revision = watch_current_revision(hub)};
    stream_answer(hub, stream, &answer);
}
