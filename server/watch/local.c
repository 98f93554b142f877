/* Watches from within the server: a stream of its own each, whose messages are taken at once. */
#include "server/watch/watch_private.h"

#include "base/assert.h"
#include "base/wire.h"

static struct watch_local *local_of(struct watch_stream *stream)
{
    return CONTAINER_OF(stream, struct watch_local, stream);
}

/* ---- messages ---- */

enum { FIELD_TYPE = 1, FIELD_KV };

/* What the hub encoded is sound. */
static struct watch_event event_of(struct slice encoded, int64_t header_revision)
{
    struct watch_event event = {.header_revision = header_revision};
    struct mvcc_kv kv = {0};
    while (encoded.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&encoded, &field);
        ASSERT(st == ST_OK);
        if (field.number == FIELD_TYPE)
            event.is_delete = field.value != 0;
        if (field.number == FIELD_KV) {
            st = mvcc_kv_decode(field.bytes, &kv);
            ASSERT(st == ST_OK);
        }
    }
    event.key = kv.key;
    event.value = kv.value;
    event.create_revision = kv.create_revision;
    event.mod_revision = kv.mod_revision;
    event.version = kv.version;
    event.lease = kv.lease;
    return event;
}

static void give_events(struct watch_local *local, struct slice events, int64_t header_revision)
{
    while (events.len > 0 && !atomic_load(&local->stopping)) {
        struct wire_field field;
        enum status st = wire_next(&events, &field);
        ASSERT(st == ST_OK);
        struct watch_event event = event_of(field.bytes, header_revision);
        local->on_event(local, &event);
    }
}

static void stop_for(struct watch_local *local, enum status why)
{
    if (atomic_exchange(&local->stopping, true))
        return;
    local->why = why;
    watch_stream_close(&local->stream);
}

static enum status local_send(struct watch_stream *stream, const struct watch_message *message)
{
    struct watch_local *local = local_of(stream);
    for (uint32_t i = 0; i < message->pieces_count; i++)
        give_events(local, message->pieces[i].bytes, message->revision);
    if (message->canceled)
        stop_for(local, message->created ? ST_INVALID : ST_COMPACTED);
    watch_stream_sent(stream);
    return ST_OK;
}

/* ---- life ---- */

static enum status status_of(enum watch_end why)
{
    switch (why) {
    case WATCH_END_CLOSED:
        return ST_CANCELED;
    case WATCH_END_NO_LEADER:
        return ST_BUSY;
    case WATCH_END_STOPPED:
        return ST_DROPPED;
    case WATCH_END_NO_MEMORY:
        return ST_NO_MEMORY;
    case WATCH_END_BROKEN:
        break;
    }
    return ST_CORRUPT;
}

static void local_end(struct watch_stream *stream, enum watch_end why)
{
    struct watch_local *local = local_of(stream);
    if (local->why == ST_OK)
        local->why = status_of(why);
}

static void local_ref(struct watch_stream *stream)
{
    atomic_fetch_add(&local_of(stream)->refs, 1);
}

/* The last note is taken by the hub. */
static void local_unref(struct watch_stream *stream)
{
    struct watch_local *local = local_of(stream);
    if (atomic_fetch_sub(&local->refs, 1) == 1)
        local->on_end(local, local->why);
}

static const struct watch_sink local_sink = {
    .send = local_send, .end = local_end, .ref = local_ref, .unref = local_unref};

void watch_local_start(struct watch_hub *hub, struct watch_local *local)
{
    const struct watch_create create = {.key = local->key,
                                        .range_end = local->range_end,
                                        .start_revision = local->start_revision,
                                        .kinds = local->kinds & (WATCH_NO_PUT | WATCH_NO_DELETE)};
    local->why = ST_OK;
    atomic_init(&local->refs, 0);
    atomic_init(&local->stopping, false);
    watch_stream_open(hub, &local->stream, &local_sink, local->wants_leader);
    enum status st = watch_stream_create(&local->stream, &create);
    if (st != ST_OK)
        stop_for(local, st);
}

void watch_local_stop(struct watch_local *local)
{
    stop_for(local, ST_CANCELED);
}
