#include "server/watch/watch_private.h"

#include "base/minmax.h"

/* ---- asked for ---- */

/* The answer names a revision that is at least what the client can have seen elsewhere: so it waits
 * until the hub has come there, which is at once, or with what apply is handing over now. */
void progress_ask(struct watch_hub *hub, struct watch_stream *stream)
{
    stream->progress_asked++;
    atomic_fetch_add(&stream->unanswered, 1);
    stream->progress_revision = watch_current_revision(hub);
    if (list_is_empty(&stream->asking))
        list_push_back(&hub->asking, &stream->asking);
}

/* Everything up to it was given to those watchers of the stream that are synced. */
static int64_t given_to(const struct watch_hub *hub, const struct watch_stream *stream)
{
    int64_t given = hub->position;
    if (stream->values_count == 0 || list_is_empty(&hub->waiting))
        return given;
    LIST_FOREACH(node, &stream->watchers)
    {
        const struct watcher *watcher = CONTAINER_OF(node, struct watcher, in_stream);
        given = min_i64(given, watch_given(hub, watcher->group));
    }
    return given;
}

static void answer_asked(struct watch_hub *hub, struct watch_stream *stream)
{
    const struct watch_message answer = {.watch_id = -1, .revision = given_to(hub, stream)};
    bool synced = stream->watchers_count > 0 && stream->unsynced_count == 0;
    uint32_t asked = stream->progress_asked;
    stream->progress_asked = 0;
    for (uint32_t i = 0; i < asked && synced; i++)
        stream_answer(hub, stream, &answer);
    stream_answered(stream, asked);
}

void progress_answer(struct watch_hub *hub)
{
    for (struct list_node *node = hub->asking.next, *next; node != &hub->asking; node = next) {
        next = node->next;
        struct watch_stream *stream = CONTAINER_OF(node, struct watch_stream, asking);
        if (stream->watchers_count > 0 && given_to(hub, stream) < stream->progress_revision)
            continue;
        list_remove(&stream->asking);
        answer_asked(hub, stream);
    }
}

/* ---- told now and then ---- */

void progress_note(struct watch_hub *hub, struct watch_stream *stream)
{
    bool is_in = stream->tick.position != HEAP_NOT_IN;
    if (stream->progress_count == 0) {
        heap_remove(&hub->ticks, &stream->tick);
    } else if (!is_in) {
        enum status st = heap_push(&hub->ticks, &stream->tick, hub->now_ns + stream->interval_ns);
        (void)st; /* without memory nobody is told, until a watcher comes or goes */
    }
}

/* A synced watcher may have more from history than was given to others of its group. */
static int64_t given_to_watcher(const struct watch_hub *hub, const struct watcher *watcher)
{
    int64_t given = watch_given(hub, watcher->group);
    return max_i64(given, min_i64(watcher->next - 1, hub->position));
}

static void tell_idle(struct watch_hub *hub, struct watch_stream *stream)
{
    LIST_FOREACH(node, &stream->watchers)
    {
        struct watcher *watcher = CONTAINER_OF(node, struct watcher, in_stream);
        if (!watcher->progress)
            continue;
        const struct watch_message answer = {.watch_id = watcher->id,
                                             .revision = given_to_watcher(hub, watcher)};
        bool was_idle = watcher->idle;
        watcher->idle = true;
        if (was_idle && watcher->state == WATCHER_SYNCED &&
            stream->controls_count < WATCH_CONTROLS_MAX / 2)
            stream_answer(hub, stream, &answer);
    }
}

static void look_for_leader(struct watch_hub *hub)
{
    if (hub->now_ns < hub->next_look_ns)
        return;
    hub->next_look_ns = hub->now_ns + hub->options.election_ns;
    bool has_leader =
        hub->options.has_leader == NULL || hub->options.has_leader(hub->options.context);
    for (struct list_node *node = hub->streams.next, *next; node != &hub->streams; node = next) {
        next = node->next;
        struct watch_stream *stream = CONTAINER_OF(node, struct watch_stream, node);
        stream->looks_without_leader = has_leader ? 0 : stream->looks_without_leader + 1;
        if (stream->wants_leader && stream->looks_without_leader >= WATCH_LEADERLESS_LOOKS)
            stream_end(hub, stream, WATCH_END_NO_LEADER);
    }
}

uint64_t progress_tick(struct watch_hub *hub)
{
    struct heap_node *first = heap_peek(&hub->ticks);
    for (; first != NULL && first->key <= hub->now_ns; first = heap_peek(&hub->ticks)) {
        struct watch_stream *stream = CONTAINER_OF(first, struct watch_stream, tick);
        heap_remove(&hub->ticks, first);
        progress_note(hub, stream);
        tell_idle(hub, stream);
    }
    look_for_leader(hub);
    uint64_t due_ns = list_is_empty(&hub->streams) ? UINT64_MAX : hub->next_look_ns;
    return first == NULL ? due_ns : min_u64(due_ns, first->key);
}
