/* tests/e2e/watch_fan.c - many watchers of one prefix while it is written to, whatever happens to
 * the members meanwhile.
 *
 *   watch_fan --endpoints URL,... [--watchers N] [--streams N] [--rate N] [--seconds N]
 *
 * The watchers share the streams, which are spread over the endpoints and resume elsewhere when one
 * breaks. Every watcher must see the same events in the same order, each once, and every
 * acknowledged write among them at the revision of its answer. Prints one JSON object; exit code 0
 * when that holds. */
#include "base/minmax.h"
#include "bench/flags.h"
#include "tools/client/watches.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PREFIX "/registry/fan/"
#define PREFIX_END "/registry/fan0"
#define KEYS_COUNT 500U
#define DELETE_EACH 10U /* one write in so many is a delete */
#define IN_FLIGHT_MAX 64U
#define WATCHERS_MAX 1000U
#define STREAMS_MAX 50U
#define WRITES_MAX (1U << 20)
#define CALL_TIMEOUT_MS 3000U
#define RETRY_MS 20U
#define CATCH_UP_S 60U /* after the last write */

struct fan;

/* What a write did, by the number in its value. A delete has a number, too, but nobody sees it. */
struct write {
    struct fan *fan;
    bool is_delete;
    uint32_t key;
    int64_t revision; /* of an acknowledged one that changed something */
};

struct event {
    int64_t revision;
    uint32_t key;
    uint64_t number; /* in the value; 0: a delete */
};

struct fan_watcher {
    struct fan *fan;
    uint32_t seen; /* events */
};

struct fan {
    const char *endpoints;
    uint64_t watchers_count, streams_count, rate, seconds;
    struct caller *caller;
    struct watches *streams[STREAMS_MAX];
    struct fan_watcher watchers[WATCHERS_MAX];
    struct write *writes;
    struct event *events; /* as whoever was first saw them */
    uint32_t writes_count, events_count, in_flight;
    uint64_t acked, unknown, not_before_ns, responses;
    uint32_t connection;
    uint32_t rng;
    char why[300]; /* the first contradiction */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void complain(struct fan *fan, const char *what, const struct event *event, uint32_t at)
{
    if (fan->why[0] != '\0')
        return;
    snprintf(fan->why, sizeof(fan->why),
             "%s: event %u, revision %" PRId64 ", key %u, write %" PRIu64, what, at,
             event->revision, event->key, event->number);
}

/* ---- watchers ---- */

/* "<number>" after the prefix of a key or as a value; UINT64_MAX: none. */
static uint64_t number_of(ProtobufCBinaryData data, size_t skip)
{
    uint64_t number = 0;
    if (data.len <= skip)
        return UINT64_MAX;
    for (size_t i = skip; i < data.len; i++) {
        if (data.data[i] < '0' || data.data[i] > '9')
            return UINT64_MAX;
        number = number * 10 + (uint64_t)(data.data[i] - '0');
    }
    return number;
}

static void take_event(struct fan_watcher *watcher, const Mvccpb__Event *e)
{
    struct fan *fan = watcher->fan;
    uint32_t at = watcher->seen++;
    bool is_delete = e->type == MVCCPB__EVENT__EVENT_TYPE__DELETE;
    struct event event = {.revision = e->kv->mod_revision,
                          .key = (uint32_t)number_of(e->kv->key, sizeof(PREFIX) - 1),
                          .number = is_delete ? 0 : number_of(e->kv->value, 0)};
    if (at < fan->events_count) {
        const struct event *first = &fan->events[at];
        if (first->revision != event.revision || first->key != event.key ||
            first->number != event.number)
            complain(fan, "two watchers differ", &event, at);
        return;
    }
    if (fan->events_count == WRITES_MAX)
        return complain(fan, "more events than writes", &event, at);
    if (at > 0 && fan->events[at - 1].revision >= event.revision)
        complain(fan, "out of order", &event, at);
    if (event.number > fan->writes_count || (is_delete && e->kv->value.len > 0) ||
        (!is_delete && fan->writes[event.number].key != event.key))
        complain(fan, "nobody wrote it", &event, at);
    fan->events[fan->events_count++] = event;
}

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct fan_watcher *watcher = context;
    watcher->fan->responses++;
    for (size_t i = 0; i < response->n_events; i++)
        if (response->events[i]->kv != NULL)
            take_event(watcher, response->events[i]);
}

static void on_ended(void *context, const char *error)
{
    struct fan *fan = ((struct fan_watcher *)context)->fan;
    if (fan->why[0] == '\0')
        snprintf(fan->why, sizeof(fan->why), "a watcher ended: %s", error == NULL ? "" : error);
}

/* Streams go to one endpoint after another; watchers to one stream after another. */
static enum status add_watchers(struct fan *fan)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < fan->streams_count && st == ST_OK; i++) {
        fan->streams[i] = watches_new(fan->caller, /* require_leader= */ false);
        if (fan->streams[i] == NULL)
            return ST_NO_MEMORY;
        for (uint64_t w = i; w < fan->watchers_count && st == ST_OK; w += fan->streams_count) {
            fan->watchers[w].fan = fan;
            struct watcher_options options = {
                .key = SLICE(PREFIX), .range_end = SLICE(PREFIX_END), .prev_kv = w % 2 == 0};
            struct watcher_events events = {on_response, on_ended, &fan->watchers[w]};
            struct watcher *watcher;
            st = watches_add(fan->streams[i], &options, &events, &watcher);
        }
        if (st == ST_OK)
            st = watches_step(fan->streams[i]);
        caller_next_endpoint(fan->caller);
    }
    return st;
}

static enum status turn(struct fan *fan)
{
    client_poll(caller_client(fan->caller), /* timeout_ms= */ 1);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < fan->streams_count && st == ST_OK; i++)
        st = watches_step(fan->streams[i]);
    return st;
}

static bool all_confirmed(const struct fan *fan)
{
    for (uint32_t i = 0; i < fan->streams_count; i++)
        if (!watches_are_confirmed(fan->streams[i]))
            return false;
    return true;
}

/* ---- writers ---- */

static void on_written(void *context, const struct client_reply *reply)
{
    struct write *write = context;
    struct fan *fan = write->fan;
    fan->in_flight--;
    if (reply->code != CLIENT_OK) { /* it may have happened, or happen yet */
        fan->unknown++;
        fan->connection++;
        fan->not_before_ns = now_ns() + RETRY_MS * 1000000U;
        return;
    }
    fan->acked++;
    /* Both answers begin with the header, and a delete's second field says how many. */
    Etcdserverpb__DeleteRangeResponse *r =
        etcdserverpb__delete_range_response__unpack(NULL, reply->body.len, reply->body.data);
    if (r == NULL || r->header == NULL)
        snprintf(fan->why, sizeof(fan->why), "an answer that does not decode");
    else if (!write->is_delete || r->deleted > 0)
        write->revision = r->header->revision;
    etcdserverpb__delete_range_response__free_unpacked(r, NULL);
}

static enum status start_write(struct fan *fan)
{
    fan->rng = fan->rng * 1664525U + 1013904223U;
    uint32_t number = ++fan->writes_count;
    struct write *write = &fan->writes[number];
    *write = (struct write){.fan = fan,
                            .is_delete = (fan->rng >> 8) % DELETE_EACH == 0,
                            .key = (fan->rng >> 16) % KEYS_COUNT};
    char key[64], value[32];
    uint8_t body[256];
    ProtobufCBinaryData key_data = {.data = (uint8_t *)key};
    key_data.len = (size_t)snprintf(key, sizeof(key), PREFIX "%06u", write->key);
    struct client_request request = {.method = "/etcdserverpb.KV/Put",
                                     .timeout_ms = CALL_TIMEOUT_MS,
                                     .connection = fan->connection};
    size_t size;
    if (write->is_delete) {
        Etcdserverpb__DeleteRangeRequest delete = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
        delete.key = key_data;
        size = etcdserverpb__delete_range_request__pack(&delete, body);
        request.method = "/etcdserverpb.KV/DeleteRange";
    } else {
        Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
        put.key = key_data;
        put.value.data = (uint8_t *)value;
        put.value.len = (size_t)snprintf(value, sizeof(value), "%u", number);
        size = etcdserverpb__put_request__pack(&put, body);
    }
    request.body = slice_make(body, size);
    fan->in_flight++;
    return caller_start(fan->caller, &request, on_written, write);
}

static enum status write_for(struct fan *fan)
{
    uint64_t began = now_ns(), end = began + fan->seconds * 1000000000U;
    enum status st = ST_OK;
    for (uint64_t now = began; st == ST_OK && now < end; now = now_ns()) {
        uint64_t allowed = (now - began) / 1000 * fan->rate / 1000000;
        while (st == ST_OK && fan->writes_count < allowed && fan->in_flight < IN_FLIGHT_MAX &&
               fan->writes_count < WRITES_MAX - 2 && now >= fan->not_before_ns)
            st = start_write(fan);
        if (st == ST_OK)
            st = turn(fan);
    }
    while (st == ST_OK && fan->in_flight > 0)
        st = turn(fan);
    return st;
}

/* Puts until one is acknowledged: all that was unknown lies before it or never happens, for it is
 * of the same member or its leader lost. Waits until every watcher has seen it. */
static enum status catch_up(struct fan *fan)
{
    enum status st = ST_OK;
    struct write *last = NULL;
    while (st == ST_OK && (last == NULL || last->revision == 0)) {
        do
            st = start_write(fan);
        while (st == ST_OK && fan->writes[fan->writes_count].is_delete);
        last = &fan->writes[fan->writes_count];
        while (st == ST_OK && fan->in_flight > 0)
            st = turn(fan);
    }
    uint64_t end = now_ns() + CATCH_UP_S * 1000000000ULL;
    for (uint64_t behind = 1; st == ST_OK && behind > 0 && now_ns() < end;) {
        st = turn(fan);
        behind =
            fan->events_count == 0 || fan->events[fan->events_count - 1].revision < last->revision;
        for (uint32_t i = 0; i < fan->watchers_count; i++)
            behind += fan->watchers[i].seen < fan->events_count;
    }
    return st;
}

/* ---- the end ---- */

static int by_revision(const void *key, const void *element)
{
    const int64_t *revision = key;
    const struct event *event = element;
    return *revision < event->revision ? -1 : *revision > event->revision;
}

static void judge(struct fan *fan)
{
    for (uint32_t i = 1; i <= fan->writes_count; i++) {
        const struct write *write = &fan->writes[i];
        if (write->revision == 0)
            continue;
        const struct event *event = bsearch(&write->revision, fan->events, fan->events_count,
                                            sizeof(*fan->events), by_revision);
        struct event expected = {write->revision, write->key, write->is_delete ? 0 : i};
        if (event == NULL)
            complain(fan, "acknowledged, and nobody saw it", &expected, 0);
        else if (event->key != expected.key || event->number != expected.number)
            complain(fan, "acknowledged as something else", &expected, 0);
    }
    for (uint32_t i = 0; i < fan->watchers_count; i++)
        if (fan->watchers[i].seen != fan->events_count && fan->why[0] == '\0')
            snprintf(fan->why, sizeof(fan->why), "watcher %u saw %u of %u events", i,
                     fan->watchers[i].seen, fan->events_count);
}

static int run(struct fan *fan)
{
    struct arena arena;
    arena_init(&arena, CALLER_ARENA_BYTES_MAX);
    struct caller_options options = {.client = {.endpoints = fan->endpoints}};
    struct client_reply reply;
    enum status st = caller_open(&options, &arena, &reply, &fan->caller);
    if (st == ST_OK)
        st = add_watchers(fan);
    while (st == ST_OK && !all_confirmed(fan))
        st = turn(fan);
    uint64_t began = now_ns();
    if (st == ST_OK)
        st = write_for(fan);
    uint64_t wrote = now_ns();
    if (st == ST_OK)
        st = catch_up(fan);
    if (st == ST_OK)
        judge(fan);
    else
        snprintf(fan->why, sizeof(fan->why), "%s", status_str(st));
    printf("{\"why\": \"%s\", \"events\": %u, \"acked\": %" PRIu64 ", \"unknown\": %" PRIu64
           ", \"watchers\": %" PRIu64 ", \"responses\": %" PRIu64
           ", \"seconds\": %.3f, \"caught_up_s\": %.3f}\n",
           fan->why, fan->events_count, fan->acked, fan->unknown, fan->watchers_count,
           fan->responses, (double)(wrote - began) / 1e9, (double)(now_ns() - wrote) / 1e9);
    for (uint32_t i = 0; i < fan->streams_count; i++)
        watches_free(fan->streams[i]);
    caller_close(fan->caller);
    arena_deinit(&arena);
    return fan->why[0] == '\0' ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct fan fan = {
        .watchers_count = 50, .streams_count = 10, .rate = 1000, .seconds = 3, .rng = 7};
    const struct flag flags[] = {
        {"endpoints", FLAG_TEXT, &fan.endpoints, "URL,...", "of the cluster"},
        {"watchers", FLAG_NUMBER, &fan.watchers_count, "N", "of one prefix"},
        {"streams", FLAG_NUMBER, &fan.streams_count, "N", "that carry them"},
        {"rate", FLAG_NUMBER, &fan.rate, "N", "writes a second"},
        {"seconds", FLAG_NUMBER, &fan.seconds, "N", "of writing"},
    };
    int positional = 0;
    if (flags_parse(flags, sizeof(flags) / sizeof(flags[0]), argc - 1, argv + 1, &positional) !=
            ST_OK ||
        positional != 0 || fan.endpoints == NULL || fan.watchers_count > WATCHERS_MAX ||
        fan.streams_count > STREAMS_MAX || fan.streams_count == 0)
        return 2;
    fan.writes = calloc(WRITES_MAX, sizeof(*fan.writes));
    fan.events = calloc(WRITES_MAX, sizeof(*fan.events));
    int code = fan.writes == NULL || fan.events == NULL ? 2 : run(&fan);
    free(fan.writes);
    free(fan.events);
    return code;
}
