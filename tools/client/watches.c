#include "tools/client/watches.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/minmax.h"

#include <stdlib.h>
#include <time.h>

#define NO_WATCH_ID (-1) /* of a response that is for every watcher of the stream */
#define REOPEN_MS_MIN 1U
#define REOPEN_MS_MAX 100U

struct watcher {
    struct list_node node;
    struct watcher_events events;
    uint8_t *key, *range_end;
    size_t key_len, range_end_len;
    int64_t next_revision; /* the first one not delivered; 0: whatever comes */
    bool prev_kv, progress_notify;
    bool is_registered; /* on the stream as it is now, under id */
    int64_t id;
};

struct watches {
    struct caller *caller;
    bool require_leader;
    struct list_node watchers; /* in the order of their creation */
    struct watcher *asked;     /* whose creation the server is to confirm next */
    struct client_stream *stream;
    bool stream_ended;
    struct client_reply end; /* its text is in arena */
    struct arena arena;
    bool is_unreadable; /* the server sent what is no response */
    uint64_t reopen_ns, reopen_ms;
    bool wants_progress;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct watcher *watcher_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct watcher, node);
}

/* ---- watchers ---- */

struct watches *watches_new(struct caller *caller, bool require_leader)
{
    struct watches *watches = calloc(1, sizeof(*watches));
    if (watches == NULL)
        return NULL;
    watches->caller = caller;
    watches->require_leader = require_leader;
    watches->reopen_ms = REOPEN_MS_MIN;
    list_init(&watches->watchers);
    arena_init(&watches->arena, CALLER_ARENA_BYTES_MAX);
    return watches;
}

static void watcher_free(struct watcher *watcher)
{
    list_remove(&watcher->node);
    free(watcher->key);
    free(watcher->range_end);
    free(watcher);
}

void watches_free(struct watches *watches)
{
    if (watches == NULL)
        return;
    if (watches->stream != NULL)
        client_stream_cancel(watches->stream);
    while (watches->stream != NULL)
        client_poll(caller_client(watches->caller), WATCHES_STEP_MS);
    while (!list_is_empty(&watches->watchers))
        watcher_free(watcher_of(watches->watchers.next));
    arena_deinit(&watches->arena);
    free(watches);
}

static uint8_t *copy_bytes(struct slice s)
{
    uint8_t *copy = malloc(s.len + 1);
    if (copy != NULL && s.len > 0)
        memcpy(copy, s.data, s.len);
    return copy;
}

enum status watches_add(struct watches *watches, const struct watcher_options *options,
                        const struct watcher_events *events, struct watcher **out)
{
    *out = NULL;
    struct watcher *watcher = calloc(1, sizeof(*watcher));
    if (watcher == NULL)
        return ST_NO_MEMORY;
    watcher->events = *events;
    watcher->key = copy_bytes(options->key);
    watcher->key_len = options->key.len;
    watcher->range_end = copy_bytes(options->range_end);
    watcher->range_end_len = options->range_end.len;
    watcher->next_revision = options->start_revision;
    watcher->prev_kv = options->prev_kv;
    watcher->progress_notify = options->progress_notify;
    list_push_back(&watches->watchers, &watcher->node);
    if (watcher->key == NULL || watcher->range_end == NULL) {
        watcher_free(watcher);
        return ST_NO_MEMORY;
    }
    *out = watcher;
    return ST_OK;
}

/* ---- the stream ---- */

static void on_response(struct watches *watches, const Etcdserverpb__WatchResponse *response);

/* A server's events each have their key, and a header above them. */
static bool is_sound(const Etcdserverpb__WatchResponse *response)
{
    for (size_t i = 0; i < response->n_events; i++) {
        if (response->events[i]->kv == NULL)
            return false;
    }
    return response->n_events == 0 || response->header != NULL;
}

static void on_message(void *context, struct slice body)
{
    struct watches *watches = context;
    Etcdserverpb__WatchResponse *response =
        etcdserverpb__watch_response__unpack(NULL, body.len, body.data);
    if (response == NULL || !is_sound(response)) {
        watches->is_unreadable = true;
        client_stream_cancel(watches->stream);
    } else {
        watches->reopen_ms = REOPEN_MS_MIN;
        on_response(watches, response);
    }
    if (response != NULL)
        etcdserverpb__watch_response__free_unpacked(response, NULL);
}

static void on_ended(void *context, const struct client_reply *reply)
{
    struct watches *watches = context;
    watches->stream = NULL;
    watches->stream_ended = true;
    watches->end = *reply;
    if (arena_copy(&watches->arena, reply->text, &watches->end.text) != ST_OK)
        watches->end.text = SLICE_EMPTY;
}

static enum status send_request(struct watches *watches, const Etcdserverpb__WatchRequest *request)
{
    size_t len = etcdserverpb__watch_request__get_packed_size(request);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL)
        return ST_NO_MEMORY;
    etcdserverpb__watch_request__pack(request, bytes);
    enum status st = client_stream_send(watches->stream, slice_make(bytes, len));
    free(bytes);
    return st;
}

static enum status send_create(struct watches *watches, struct watcher *watcher)
{
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    create.key.data = watcher->key;
    create.key.len = watcher->key_len;
    create.range_end.data = watcher->range_end;
    create.range_end.len = watcher->range_end_len;
    create.start_revision = watcher->next_revision;
    create.prev_kv = watcher->prev_kv;
    create.progress_notify = watcher->progress_notify;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    watches->asked = watcher;
    return send_request(watches, &request);
}

static enum status send_cancel(struct watches *watches, int64_t id)
{
    Etcdserverpb__WatchCancelRequest cancel = ETCDSERVERPB__WATCH_CANCEL_REQUEST__INIT;
    cancel.watch_id = id;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
    request.cancel_request = &cancel;
    return send_request(watches, &request);
}

static enum status send_progress(struct watches *watches)
{
    Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &progress;
    watches->wants_progress = false;
    return send_request(watches, &request);
}

void watches_remove(struct watches *watches, struct watcher *watcher)
{
    if (watches->stream != NULL && watcher->is_registered &&
        send_cancel(watches, watcher->id) != ST_OK)
        client_stream_cancel(watches->stream);
    if (watches->asked == watcher) {
        /* Nobody would know whom the confirmation is for. */
        watches->asked = NULL;
        if (watches->stream != NULL)
            client_stream_cancel(watches->stream);
    }
    watcher_free(watcher);
}

enum status watches_request_progress(struct watches *watches)
{
    if (watches->stream == NULL) {
        watches->wants_progress = true;
        return ST_OK;
    }
    return send_progress(watches);
}

bool watches_are_confirmed(const struct watches *watches)
{
    LIST_FOREACH(node, &watches->watchers)
    {
        if (!watcher_of(node)->is_registered)
            return false;
    }
    return true;
}

/* ---- what has come ---- */

static void end_watcher(struct watches *watches, struct watcher *watcher, const char *error)
{
    if (watches->asked == watcher)
        watches->asked = NULL;
    struct watcher_events events = watcher->events;
    watcher_free(watcher);
    events.ended(events.context, error);
}

static struct watcher *find_watcher(struct watches *watches, int64_t id)
{
    LIST_FOREACH(node, &watches->watchers)
    {
        struct watcher *watcher = watcher_of(node);
        if (watcher->is_registered && watcher->id == id)
            return watcher;
    }
    return NULL;
}

static void on_created(struct watches *watches, const Etcdserverpb__WatchResponse *response)
{
    struct watcher *watcher = watches->asked;
    watches->asked = NULL;
    if (watcher == NULL)
        return;
    if (response->watch_id == NO_WATCH_ID ||
        (response->canceled && response->cancel_reason[0] != '\0')) {
        end_watcher(watches, watcher, response->cancel_reason);
        return;
    }
    watcher->is_registered = true;
    watcher->id = response->watch_id;
    /* Should the stream break before the first event, nothing in between may be lost. */
    if (watcher->next_revision == 0 && response->header != NULL)
        watcher->next_revision = response->header->revision + 1;
}

static void deliver(struct watcher *watcher, const Etcdserverpb__WatchResponse *response)
{
    if (response->n_events > 0) {
        const Mvccpb__Event *last = response->events[response->n_events - 1];
        watcher->next_revision = last->kv->mod_revision + 1;
    } else if (response->header != NULL && !response->canceled) {
        watcher->next_revision = max_i64(watcher->next_revision, response->header->revision + 1);
    }
    watcher->events.response(watcher->events.context, response);
}

static void on_response(struct watches *watches, const Etcdserverpb__WatchResponse *response)
{
    if (response->created) {
        on_created(watches, response);
        return;
    }
    if (response->watch_id == NO_WATCH_ID && response->n_events == 0) {
        struct list_node *next;
        for (struct list_node *node = watches->watchers.next; node != &watches->watchers;
             node = next) {
            next = node->next; /* the watcher may go */
            if (watcher_of(node)->is_registered)
                deliver(watcher_of(node), response);
        }
        return;
    }
    struct watcher *watcher = find_watcher(watches, response->watch_id);
    if (watcher == NULL)
        return; /* removed a moment ago */
    if (response->canceled && response->compact_revision == 0) {
        end_watcher(watches, watcher, NULL);
        return;
    }
    deliver(watcher, response);
    if (response->canceled && find_watcher(watches, response->watch_id) == watcher)
        end_watcher(watches, watcher, NULL);
}

/* ---- its end and its next beginning ---- */

/* Whether there is no use in trying again. */
static bool is_final(const struct client_reply *reply)
{
    bool may_come_back = reply->code == CLIENT_UNAVAILABLE || reply->code == CLIENT_INTERNAL;
    return !may_come_back || slice_eq(reply->text, SLICE("etcdserver: no leader"));
}

static void end_all(struct watches *watches, const char *error)
{
    while (!list_is_empty(&watches->watchers))
        end_watcher(watches, watcher_of(watches->watchers.next), error);
}

static void on_stream_end(struct watches *watches)
{
    watches->stream_ended = false;
    watches->asked = NULL;
    LIST_FOREACH(node, &watches->watchers)
    watcher_of(node)->is_registered = false;
    if (watches->is_unreadable) {
        watches->is_unreadable = false;
        end_all(watches, "the server's response cannot be read");
    } else if (is_final(&watches->end)) {
        end_all(watches, caller_error_text(&watches->end, &watches->arena));
    } else {
        caller_next_endpoint(watches->caller);
        watches->reopen_ns = now_ns() + watches->reopen_ms * NS_PER_MS;
        watches->reopen_ms = min_u64(watches->reopen_ms * 5 / 4 + 1, REOPEN_MS_MAX);
    }
    arena_reset(&watches->arena);
}

static enum status open_stream(struct watches *watches)
{
    static const struct client_metadata leader = {SLICE("hasleader"), SLICE("true")};
    struct client_request request = {.method = "/etcdserverpb.Watch/Watch",
                                     .metadata = &leader,
                                     .metadata_count = watches->require_leader ? 1 : 0};
    struct client_stream_events events = {on_message, on_ended, watches};
    struct client_reply reply;
    enum status st = caller_stream(watches->caller, &request, WATCHES_STEP_MS, &events,
                                   &watches->arena, &reply, &watches->stream);
    if (st != ST_OK)
        return st;
    /* Nobody there is no reason to end: a watch waits. */
    if (watches->stream == NULL && reply.code != CLIENT_DEADLINE_EXCEEDED &&
        reply.code != CLIENT_CANCELED)
        end_all(watches, caller_error_text(&reply, &watches->arena));
    if (watches->stream == NULL)
        arena_reset(&watches->arena);
    return ST_OK;
}

/* One creation at a time, in order: the answers do not say whose they are. */
static enum status create_next(struct watches *watches)
{
    if (watches->asked != NULL)
        return ST_OK;
    LIST_FOREACH(node, &watches->watchers)
    {
        if (!watcher_of(node)->is_registered)
            return send_create(watches, watcher_of(node));
    }
    return ST_OK;
}

enum status watches_step(struct watches *watches)
{
    if (watches->stream_ended)
        on_stream_end(watches);
    if (list_is_empty(&watches->watchers))
        return ST_OK;
    if (watches->stream == NULL) {
        if (now_ns() < watches->reopen_ns)
            return ST_OK;
        enum status st = open_stream(watches);
        if (st != ST_OK || watches->stream == NULL)
            return st;
    }
    enum status st = create_next(watches);
    if (st == ST_OK && watches->wants_progress)
        st = send_progress(watches);
    return st;
}

enum status watches_poll(struct watches *watches, uint64_t timeout_ms)
{
    client_wait(caller_client(watches->caller), min_u64(timeout_ms, WATCHES_STEP_MS));
    return watches_step(watches);
}
