/* One message of a stream is in flight at a time: that is the flow control. Whether one is, the
 * hub and whoever says watch_stream_sent() agree on by the stream's flags. */
#include "server/watch/watch_private.h"

#include "base/assert.h"
#include "server/metrics/metrics.h"

#include <stdlib.h>

enum {
    STREAM_SENDING = 1U, /* a message is in flight */
    STREAM_WAITING = 2U, /* and the hub wants to know when it has left */
    STREAM_NOTED = 4U,   /* the note that says so is on its way */
    STREAM_GONE = 8U,    /* its receiver has */
};

/* ---- what is not answered ---- */

bool watch_stream_is_full(struct watch_stream *stream)
{
    return atomic_load(&stream->unanswered) >= WATCH_UNANSWERED_MAX && !atomic_load(&stream->ended);
}

static void read_on(struct watch_stream *stream)
{
    if (atomic_load(&stream->waits) && !watch_stream_is_full(stream) &&
        atomic_exchange(&stream->waits, false))
        stream->sink->room(stream);
}

void watch_stream_wait(struct watch_stream *stream)
{
    atomic_store(&stream->waits, true);
    read_on(stream);
}

void stream_answered(struct watch_stream *stream, uint32_t count)
{
    atomic_fetch_sub(&stream->unanswered, count);
    read_on(stream);
}

/* ---- entries ---- */

void stream_note_ready(struct watch_hub *hub, struct watch_stream *stream)
{
    if (list_is_empty(&stream->ready))
        list_push_back(&hub->ready, &stream->ready);
}

static struct watch_entry *entry_new(struct watch_stream *stream)
{
    struct watch_entry *entry = calloc(1, sizeof(*entry));
    if (entry != NULL)
        list_push_back(&stream->entries, &entry->node);
    return entry;
}

static uint32_t events_of(const struct watch_entry *entry)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < entry->delivery->runs_count; i++) {
        const struct watch_run *run = &entry->delivery->runs[i];
        uint32_t first = run->first > entry->first ? run->first : entry->first;
        count += run->end > first ? run->end - first : 0;
    }
    return count;
}

static void entry_free(struct watch_hub *hub, struct watch_stream *stream,
                       struct watch_entry *entry)
{
    list_remove(&entry->node);
    if (entry->watcher != NULL) {
        entry->watcher->pending--;
        metrics_add(METRIC_PENDING_EVENTS, -(int64_t)events_of(entry));
        watcher_sent(hub, entry->watcher);
        watcher_unref(entry->watcher);
    } else {
        stream->controls_count--;
        stream_answered(stream, 1);
    }
    watch_delivery_unref(entry->delivery);
    free(entry);
}

void stream_answer(struct watch_hub *hub, struct watch_stream *stream,
                   const struct watch_message *answer)
{
    if (stream->ended)
        return;
    struct watch_entry *entry =
        stream->controls_count >= WATCH_CONTROLS_MAX ? NULL : entry_new(stream);
    stream_note_ready(hub, stream);
    if (entry == NULL) {
        stream->failed = true;
        return;
    }
    entry->answer = *answer;
    stream->controls_count++;
    atomic_fetch_add(&stream->unanswered, 1);
}

bool stream_add(struct watch_hub *hub, struct watcher *watcher, struct watch_delivery *delivery,
                uint32_t first)
{
    struct watch_entry *entry = entry_new(watcher->stream);
    if (entry == NULL)
        return false;
    entry->watcher = watcher;
    entry->delivery = delivery;
    entry->first = first;
    watcher->refs++;
    watcher->pending++;
    watcher->idle = false;
    delivery->refs++;
    metrics_add(METRIC_PENDING_EVENTS, (int64_t)events_of(entry));
    stream_note_ready(hub, watcher->stream);
    return true;
}

/* ---- messages ---- */

/* What goes into the next message of a watcher. */
struct gathering {
    struct watch_hub *hub;
    size_t pieces_count, bytes;
    size_t bytes_max; /* of a fragment; SIZE_MAX: it is not split */
    uint32_t events;
    bool is_full, failed;
};

static void add_piece(struct gathering *g, struct watch_block *block, struct slice bytes,
                      uint32_t events)
{
    struct watch_hub *hub = g->hub;
    if (g->pieces_count + 1 >= hub->pieces_capacity) {
        size_t capacity = hub->pieces_capacity == 0 ? 16 : hub->pieces_capacity * 2;
        struct rpc_piece *grown = realloc(hub->pieces, capacity * sizeof(*grown));
        if (grown == NULL) {
            g->failed = true;
            return;
        }
        hub->pieces = grown;
        hub->pieces_capacity = capacity;
    }
    hub->pieces[++g->pieces_count] = (struct rpc_piece){bytes, &block->shared};
    g->bytes += bytes.len;
    g->events += events;
}

/* How many events of [first, end) fit into the fragment; the first of a message always does. */
static uint32_t fitting(const struct gathering *g, const struct watch_block *block, uint32_t first,
                        uint32_t end)
{
    uint32_t fit = first;
    while (fit < end && (g->bytes + watch_block_events(block, first, fit + 1).len < g->bytes_max ||
                         (g->events == 0 && fit == first)))
        fit++;
    return fit;
}

static void add_run(struct gathering *g, struct watch_entry *entry, uint32_t first, uint32_t end)
{
    struct watch_block *block = entry->delivery->block;
    uint32_t fit = g->bytes_max == SIZE_MAX ? end : fitting(g, block, first, end);
    if (fit > first)
        add_piece(g, block, watch_block_events(block, first, fit), fit - first);
    entry->first = fit;
    g->is_full = fit < end;
}

/* Takes of the entry what fits, and moves its first beyond. */
static void add_entry(struct gathering *g, struct watch_entry *entry)
{
    const struct watch_delivery *delivery = entry->delivery;
    for (uint32_t i = 0; i < delivery->runs_count && !g->is_full && !g->failed; i++) {
        const struct watch_run *run = &delivery->runs[i];
        if (run->end > entry->first)
            add_run(g, entry, run->first > entry->first ? run->first : entry->first, run->end);
    }
}

static size_t bytes_of(const struct watch_entry *entry)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < entry->delivery->runs_count; i++) {
        const struct watch_run *run = &entry->delivery->runs[i];
        uint32_t first = run->first > entry->first ? run->first : entry->first;
        if (run->end > first)
            bytes += watch_block_events(entry->delivery->block, first, run->end).len;
    }
    return bytes;
}

/* The next entry behind this one of the same watcher. No event overtakes an answer: what is told
 * of progress would be less than what its client has seen. */
static struct watch_entry *next_of_same(struct watch_stream *stream, struct watch_entry *entry)
{
    for (struct list_node *node = entry->node.next; node != &stream->entries; node = node->next) {
        struct watch_entry *other = CONTAINER_OF(node, struct watch_entry, node);
        if (other->watcher == NULL)
            return NULL;
        if (other->watcher == entry->watcher)
            return other;
    }
    return NULL;
}

/* A watcher that is more than one message behind gets what waits for it in one. */
static int64_t gather(struct gathering *g, struct watch_stream *stream, struct watch_entry *entry)
{
    const struct watcher *watcher = entry->watcher;
    int64_t revision = entry->delivery->revision;
    add_entry(g, entry);
    if (watcher->fragment || watcher->pending <= 2)
        return revision;
    struct watch_entry *next = next_of_same(stream, entry);
    for (uint32_t i = 1; i < watcher->pending && next != NULL && !g->failed; i++) {
        if (g->bytes + bytes_of(next) > WATCH_BATCH_BYTES ||
            g->events + events_of(next) > WATCH_BATCH_REVISIONS)
            break;
        revision = next->delivery->revision;
        add_entry(g, next);
        next = next_of_same(stream, next);
    }
    return revision;
}

static bool is_sent_out(const struct watch_entry *entry)
{
    const struct watch_delivery *delivery = entry->delivery;
    return delivery->runs[delivery->runs_count - 1].end <= entry->first;
}

/* Those of the watcher that were gathered whole. */
static void drop_sent(struct watch_hub *hub, struct watch_stream *stream, struct watch_entry *entry)
{
    while (entry != NULL && is_sent_out(entry)) {
        struct watch_entry *next = entry->watcher->pending > 1 ? next_of_same(stream, entry) : NULL;
        entry_free(hub, stream, entry);
        entry = next;
    }
}

/* ---- sending ---- */

static enum status send_message(struct watch_stream *stream, const struct watch_message *message)
{
    atomic_fetch_or(&stream->flags, STREAM_SENDING);
    enum status st = stream->sink->send(stream, message);
    if (st != ST_OK)
        atomic_fetch_or(&stream->flags, STREAM_GONE);
    return st;
}

static enum status send_events(struct watch_hub *hub, struct watch_stream *stream,
                               struct watch_entry *entry)
{
    const struct watcher *watcher = entry->watcher;
    bool split = watcher->fragment && bytes_of(entry) >= hub->options.message_bytes_max;
    struct gathering g = {.hub = hub,
                          .bytes_max = split ? hub->options.message_bytes_max : SIZE_MAX};
    int64_t revision = gather(&g, stream, entry);
    if (g.failed)
        return ST_NO_MEMORY;
    const struct watch_message message = {.watch_id = watcher->id,
                                          .revision = revision,
                                          .fragment = split && !is_sent_out(entry),
                                          .pieces = hub->pieces + 1,
                                          .pieces_count = (uint32_t)g.pieces_count,
                                          .burst = &hub->burst};
    enum status st = send_message(stream, &message);
    metrics_add(METRIC_WATCH_EVENTS, g.events);
    metrics_add(METRIC_PENDING_EVENTS, -(int64_t)g.events);
    drop_sent(hub, stream, entry);
    return st;
}

static enum status send_front(struct watch_hub *hub, struct watch_stream *stream)
{
    struct watch_entry *entry = CONTAINER_OF(stream->entries.next, struct watch_entry, node);
    if (entry->watcher != NULL)
        return send_events(hub, stream, entry);
    struct watch_message answer = entry->answer;
    answer.burst = &hub->burst;
    entry_free(hub, stream, entry);
    return send_message(stream, &answer);
}

static void flush(struct watch_hub *hub, struct watch_stream *stream)
{
    enum status st = stream->failed ? ST_NO_MEMORY : ST_OK;
    while (st == ST_OK && !list_is_empty(&stream->entries)) {
        /* Either we see that nothing is in flight, or whoever ends that sees that we wait. */
        unsigned before = atomic_fetch_or(&stream->flags, STREAM_WAITING);
        if (before & (STREAM_SENDING | STREAM_GONE))
            return;
        atomic_fetch_and(&stream->flags, ~(unsigned)STREAM_WAITING);
        st = send_front(hub, stream);
    }
    if (st == ST_NO_MEMORY)
        stream_end(hub, stream, WATCH_END_NO_MEMORY);
}

void stream_take_sent(struct watch_hub *hub, struct watch_stream *stream)
{
    atomic_fetch_and(&stream->flags, ~(unsigned)STREAM_NOTED);
    if (!stream->ended)
        stream_note_ready(hub, stream);
}

void streams_flush(struct watch_hub *hub)
{
    while (!list_is_empty(&hub->ready)) {
        struct watch_stream *stream =
            CONTAINER_OF(list_pop_front(&hub->ready), struct watch_stream, ready);
        flush(hub, stream);
        if (hub->burst.count >= WATCH_BURST_MESSAGES)
            rpc_burst_end(&hub->burst);
    }
    rpc_burst_end(&hub->burst);
}

/* ---- life ---- */

void stream_open(struct watch_hub *hub, struct watch_stream *stream)
{
    stream->sink->ref(stream);
    list_push_back(&hub->streams, &stream->node);
    uint64_t interval_ns = hub->options.progress_interval_ns;
    stream->interval_ns = interval_ns + rng_below(&hub->rng, interval_ns / 10 + 1);
    if (stream->sink->send != NULL)
        metrics_add(METRIC_WATCH_STREAMS, 1);
}

void stream_end(struct watch_hub *hub, struct watch_stream *stream, enum watch_end why)
{
    if (stream->ended)
        return;
    atomic_store(&stream->ended, true);
    while (!list_is_empty(&stream->entries))
        entry_free(hub, stream, CONTAINER_OF(stream->entries.next, struct watch_entry, node));
    while (!list_is_empty(&stream->watchers))
        watcher_remove(hub, CONTAINER_OF(stream->watchers.next, struct watcher, in_stream));
    list_remove(&stream->node);
    list_remove(&stream->ready);
    list_remove(&stream->asking);
    heap_remove(&hub->ticks, &stream->tick);
    if (stream->sink->send != NULL)
        metrics_add(METRIC_WATCH_STREAMS, -1);
    read_on(stream);
    stream->sink->end(stream, why);
    stream->sink->unref(stream);
}

/* ---- what is said from outside ---- */

static void say(struct watch_stream *stream, struct watch_note *note, enum watch_note_kind kind)
{
    note->stream = stream;
    note->kind = kind;
    stream->sink->ref(stream);
    inbox_push(&stream->hub->notes, &note->node);
}

void watch_stream_open(struct watch_hub *hub, struct watch_stream *stream,
                       const struct watch_sink *sink, bool wants_leader)
{
    *stream = (struct watch_stream){.sink = sink, .hub = hub, .wants_leader = wants_leader};
    list_init(&stream->node);
    list_init(&stream->ready);
    list_init(&stream->asking);
    list_init(&stream->watchers);
    list_init(&stream->entries);
    heap_node_init(&stream->tick);
    say(stream, &stream->opening, WATCH_NOTE_OPEN);
}

static enum status ask(struct watch_stream *stream, const struct watch_request *like)
{
    const struct watch_create *create = &like->create;
    size_t size = sizeof(*like) + create->key.len + create->range_end.len;
    struct watch_request *request = malloc(size);
    if (request == NULL)
        return ST_NO_MEMORY;
    *request = *like;
    uint8_t *bytes = (uint8_t *)(request + 1);
    if (create->key.len > 0)
        memcpy(bytes, create->key.data, create->key.len);
    if (create->range_end.len > 0)
        memcpy(bytes + create->key.len, create->range_end.data, create->range_end.len);
    request->create.key = slice_make(bytes, create->key.len);
    request->create.range_end = slice_make(bytes + create->key.len, create->range_end.len);
    atomic_fetch_add(&stream->unanswered, 1);
    say(stream, &request->note, WATCH_NOTE_REQUEST);
    return ST_OK;
}

enum status watch_stream_create(struct watch_stream *stream, const struct watch_create *create)
{
    struct watch_request request = {.kind = WATCH_REQUEST_CREATE, .create = *create};
    if (create->key.len == 0)
        request.create.key = SLICE("\0"); /* from the first key on, with an open end */
    return ask(stream, &request);
}

enum status watch_stream_cancel(struct watch_stream *stream, int64_t watch_id)
{
    const struct watch_request request = {.kind = WATCH_REQUEST_CANCEL, .watch_id = watch_id};
    return ask(stream, &request);
}

enum status watch_stream_ask_progress(struct watch_stream *stream)
{
    const struct watch_request request = {.kind = WATCH_REQUEST_PROGRESS};
    return ask(stream, &request);
}

void watch_stream_sent(struct watch_stream *stream)
{
    unsigned before = atomic_fetch_and(&stream->flags, ~(unsigned)STREAM_SENDING);
    ASSERT(before & STREAM_SENDING);
    if ((before & STREAM_WAITING) == 0)
        return;
    if ((atomic_fetch_or(&stream->flags, STREAM_NOTED) & STREAM_NOTED) == 0)
        say(stream, &stream->sent, WATCH_NOTE_SENT);
}

void watch_stream_close(struct watch_stream *stream)
{
    say(stream, &stream->closing, WATCH_NOTE_CLOSE);
}
