#include "server/watch/watch_private.h"

#include "base/assert.h"

#include <stdlib.h>

static void wake_hub(void *context)
{
    struct watch_hub *hub = context;
    if (hub->options.wake != NULL)
        hub->options.wake(hub->options.context);
}

enum status watch_hub_new(const struct watch_hub_options *options, struct watch_hub **out)
{
    *out = NULL;
    struct watch_hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL)
        return ST_NO_MEMORY;
    hub->options = *options;
    inbox_init(&hub->notes, wake_hub, hub);
    list_init(&hub->streams);
    list_init(&hub->ready);
    list_init(&hub->asking);
    for (uint32_t i = 0; i < WATCH_FORMS; i++)
        list_init(&hub->touched[i]);
    heap_init(&hub->ticks);
    rng_seed(&hub->rng, options->seed);
    rng_seed(&hub->groups.rng, rng_next(&hub->rng));
    hub->groups.seed = rng_next(&hub->rng);
    watch_reads_init(hub);
    watch_values_init(hub);
    watch_publish_init(hub);
    *out = hub;
    return ST_OK;
}

void watch_hub_free(struct watch_hub *hub)
{
    if (hub == NULL)
        return;
    watch_publish_deinit(hub);
    watch_step(hub, hub->now_ns); /* what was said last, and what was being read */
    watch_reads_deinit(hub);
    watch_values_deinit(hub);
    ASSERT(list_is_empty(&hub->streams) && hub->watchers_count == 0);
    table_deinit(&hub->groups.keys);
    table_deinit(&hub->watchers);
    heap_deinit(&hub->ticks);
    free(hub->pieces);
    free(hub);
}

void watch_hub_stop(struct watch_hub *hub)
{
    atomic_store(&hub->stopping, true);
    wake_hub(hub);
}

/* ---- what comes in ---- */

static void take_request(struct watch_hub *hub, struct watch_request *request)
{
    struct watch_stream *stream = request->note.stream;
    if (!stream->ended) {
        switch (request->kind) {
        case WATCH_REQUEST_CREATE:
            watcher_create(hub, stream, &request->create);
            break;
        case WATCH_REQUEST_CANCEL:
            watcher_cancel(hub, stream, request->watch_id);
            break;
        case WATCH_REQUEST_PROGRESS:
            progress_ask(hub, stream);
            break;
        }
    }
    free(request);
    stream_answered(stream, 1);
}

static void take_note(struct watch_hub *hub, struct watch_note *note)
{
    struct watch_stream *stream = note->stream;
    switch (note->kind) {
    case WATCH_NOTE_OPEN:
        stream_open(hub, stream);
        break;
    case WATCH_NOTE_REQUEST:
        take_request(hub, CONTAINER_OF(note, struct watch_request, note));
        break;
    case WATCH_NOTE_SENT:
        stream_take_sent(hub, stream);
        break;
    case WATCH_NOTE_CLOSE:
        stream_end(hub, stream, WATCH_END_CLOSED);
        break;
    }
    stream->sink->unref(stream);
}

static void take_notes(struct watch_hub *hub)
{
    for (struct inbox_node *node = inbox_take(&hub->notes), *next; node != NULL; node = next) {
        next = node->next;
        take_note(hub, CONTAINER_OF(node, struct watch_note, node));
    }
}

static void end_all(struct watch_hub *hub)
{
    while (!list_is_empty(&hub->streams))
        stream_end(hub, CONTAINER_OF(hub->streams.next, struct watch_stream, node),
                   WATCH_END_STOPPED);
}

uint64_t watch_step(struct watch_hub *hub, uint64_t now_ns)
{
    hub->now_ns = now_ns;
    take_notes(hub);
    if (atomic_load(&hub->stopping))
        end_all(hub);
    watch_reads_take(hub);
    watch_take_batches(hub);
    uint64_t due_ns = progress_tick(hub);
    progress_answer(hub);
    streams_flush(hub);
    watch_values_start(hub);
    watch_reads_start(hub);
    return due_ns;
}
