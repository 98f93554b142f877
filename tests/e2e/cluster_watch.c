#include "tests/e2e/cluster_watch.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/rng.h"
#include "tools/client/watches.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WATCHERS_MAX 64U
#define LEASES_MAX 64U
#define STREAMS_COUNT 3U
#define LEASE_KEYS 2U
#define LEASE_TTL_S 2 /* the shortest that etcd's defaults allow */
#define RENEW_MS 300U
#define RENEWING_MS_MAX 4000U
#define RETRY_MS 50U
#define CALL_TIMEOUT_MS 3000U
#define CONFIRM_TIMEOUT_MS 20000U
#define PROGRESS_MS 200U
#define CATCH_UP_MS 60000U
#define KEY_BYTES 64U
#define ARENA_BYTES (16U << 20)

struct cluster_watch;

struct seen {
    struct cluster_watch *watch;
    struct history_watcher history;
};

enum lease_state { LEASE_IDLE, LEASE_PUTS, LEASE_RENEWING, LEASE_ENDING };

struct lease_actor {
    struct cluster_watch *watch;
    uint32_t number, connection;
    enum lease_state state;
    uint64_t serial; /* of the lease; its keys carry it */
    struct history_lease life;
    uint32_t keys_asked;
    bool is_attached[LEASE_KEYS], is_gone[LEASE_KEYS];
    bool is_calling; /* a call or a renewal is on its way */
    uint64_t called_ns, not_before_ns, renew_until_ns;
    struct client_stream *stream; /* of renewals */
};

struct cluster_watch {
    struct cluster_watch_options options;
    struct caller *caller;
    struct watches *streams[STREAMS_COUNT];
    struct seen watchers[WATCHERS_MAX];
    struct lease_actor leases[LEASES_MAX];
    struct rng rng;
    bool is_stopping;
    uint64_t stopping_since_ns;
    enum status status; /* of a callback that could not go on */
    uint64_t leases_ended, renewals;
    char why[400]; /* the first contradiction of a lease, or how a watcher ended */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- watchers ---- */

/* Text of a key or value, cut and NUL-terminated. */
static const char *text_of(ProtobufCBinaryData data, char *text, size_t text_bytes)
{
    size_t len = data.len < text_bytes ? data.len : text_bytes - 1;
    memcpy(text, data.data, len);
    text[len] = '\0';
    return text;
}

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct seen *seen = context;
    char text[KEY_BYTES];
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__Event *e = response->events[i];
        struct history_event event = {.revision = e->kv->mod_revision};
        if (sscanf(text_of(e->kv->key, text, sizeof(text)), "hist/%*u/%" SCNu32, &event.key) != 1)
            event.key = UINT32_MAX; /* another's: the judge complains */
        if (e->type == MVCCPB__EVENT__EVENT_TYPE__PUT)
            event.value = strtoull(text_of(e->kv->value, text, sizeof(text)), NULL, 10);
        if (history_saw(&seen->history, &event) != ST_OK)
            seen->watch->status = ST_NO_MEMORY;
        history_saw_upto(&seen->history, event.revision - 1); /* it may go on in the next one */
    }
    if (response->n_events == 0 && !response->canceled && response->header != NULL)
        history_saw_upto(&seen->history, response->header->revision);
}

static void complain(struct cluster_watch *watch, const char *what, const char *more)
{
    if (watch->why[0] == '\0')
        snprintf(watch->why, sizeof(watch->why), "%s%s", what, more == NULL ? "" : more);
}

static void on_ended(void *context, const char *error)
{
    complain(((struct seen *)context)->watch, "a watcher ended: ", error);
}

static void on_leases_ended(void *context, const char *error)
{
    complain(context, "the watcher of leases ended: ", error);
}

/* A lease's key went. */
static void on_lease_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct cluster_watch *watch = context;
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__Event *e = response->events[i];
        char text[KEY_BYTES];
        uint64_t serial;
        uint32_t key;
        if (e->type != MVCCPB__EVENT__EVENT_TYPE__DELETE ||
            sscanf(text_of(e->kv->key, text, sizeof(text)), "lease/%*u/%" SCNu64 "/%" SCNu32,
                   &serial, &key) != 2)
            continue;
        struct lease_actor *a = &watch->leases[serial % watch->options.leases_count];
        if (a->serial != serial || key >= LEASE_KEYS || !a->is_attached[key] || a->is_gone[key])
            continue;
        a->is_gone[key] = true;
        a->life.gone_count++;
        a->life.gone_apart |=
            a->life.gone_revision != 0 && a->life.gone_revision != e->kv->mod_revision;
        if (a->life.gone_revision == 0)
            a->life.gone_at = now_ns();
        a->life.gone_revision = e->kv->mod_revision;
    }
}

static enum status add_watcher(struct cluster_watch *watch, uint32_t i, int64_t from)
{
    const struct cluster_watch_options *o = &watch->options;
    struct seen *seen = &watch->watchers[i];
    uint32_t pieces = o->watchers_count > 1 ? o->watchers_count - 1 : 1;
    uint32_t key = i == 0 ? 0 : (i - 1) * o->keys_count / pieces;
    uint32_t keys_end = i == 0 ? o->keys_count : i * o->keys_count / pieces;
    seen->watch = watch;
    history_watcher_init(&seen->history, key, keys_end, from);
    char first[KEY_BYTES], end[KEY_BYTES];
    snprintf(first, sizeof(first), "hist/%" PRIu64 "/%06u", o->seed, key);
    snprintf(end, sizeof(end), "hist/%" PRIu64 "/%06u", o->seed, keys_end);
    struct watcher_options options = {.key = slice_from_str(first),
                                      .range_end = slice_from_str(end),
                                      .start_revision = from,
                                      .prev_kv = i % 2 == 1};
    struct watcher_events events = {on_response, on_ended, seen};
    struct watcher *watcher;
    return watches_add(watch->streams[i % STREAMS_COUNT], &options, &events, &watcher);
}

static enum status add_lease_watcher(struct cluster_watch *watch, int64_t from)
{
    char first[KEY_BYTES], end[KEY_BYTES];
    snprintf(first, sizeof(first), "lease/%" PRIu64 "/", watch->options.seed);
    snprintf(end, sizeof(end), "lease/%" PRIu64 "0", watch->options.seed);
    struct watcher_options options = {
        .key = slice_from_str(first), .range_end = slice_from_str(end), .start_revision = from};
    struct watcher_events events = {on_lease_response, on_leases_ended, watch};
    struct watcher *watcher;
    return watches_add(watch->streams[0], &options, &events, &watcher);
}

/* ---- leases ---- */

static void lease_failed(struct lease_actor *a)
{
    a->not_before_ns = now_ns() + RETRY_MS * NS_PER_MS;
    a->connection++;
}

static void on_granted(void *context, const struct client_reply *reply)
{
    struct lease_actor *a = context;
    a->is_calling = false;
    Etcdserverpb__LeaseGrantResponse *r =
        reply->code != CLIENT_OK
            ? NULL
            : etcdserverpb__lease_grant_response__unpack(NULL, reply->body.len, reply->body.data);
    if (r == NULL)
        return lease_failed(a); /* it may be there, without keys */
    a->life.ttl = (uint64_t)r->ttl * NS_PER_S;
    a->life.renewed_call = a->called_ns;
    a->state = LEASE_PUTS;
    etcdserverpb__lease_grant_response__free_unpacked(r, NULL);
}

static void on_attached(void *context, const struct client_reply *reply)
{
    struct lease_actor *a = context;
    a->is_calling = false;
    if (reply->code == CLIENT_OK) {
        a->is_attached[a->keys_asked - 1] = true;
        a->life.keys_count++;
    } else {
        lease_failed(a);
    }
}

static void on_revoked(void *context, const struct client_reply *reply)
{
    struct lease_actor *a = context;
    a->is_calling = false;
    if (reply->code != CLIENT_OK)
        lease_failed(a);
}

static void on_renewed(void *context, struct slice body)
{
    struct lease_actor *a = context;
    Etcdserverpb__LeaseKeepAliveResponse *r =
        etcdserverpb__lease_keep_alive_response__unpack(NULL, body.len, body.data);
    if (r == NULL)
        return;
    if (a->is_calling && r->id == a->life.id && r->ttl > 0) {
        a->life.renewed_call = a->called_ns;
        a->life.ttl = (uint64_t)r->ttl * NS_PER_S;
        a->watch->renewals++;
    } else if (a->is_calling && r->id == a->life.id) {
        a->life.denied_end = now_ns();
    }
    a->is_calling = false;
    a->not_before_ns = now_ns() + RENEW_MS * NS_PER_MS;
    etcdserverpb__lease_keep_alive_response__free_unpacked(r, NULL);
}

static void on_renewals_ended(void *context, const struct client_reply *reply)
{
    (void)reply;
    struct lease_actor *a = context;
    a->stream = NULL;
    a->is_calling = false;
    lease_failed(a);
}

static enum status call(struct lease_actor *a, const char *method, const ProtobufCMessage *message,
                        client_done_fn done)
{
    uint8_t body[256];
    struct client_request request = {.method = method,
                                     .body =
                                         slice_make(body, protobuf_c_message_pack(message, body)),
                                     .timeout_ms = CALL_TIMEOUT_MS,
                                     .connection = a->connection};
    a->called_ns = now_ns();
    a->is_calling = true;
    return client_start(caller_client(a->watch->caller), &request, done, a);
}

static enum status grant(struct lease_actor *a)
{
    if (a->watch->is_stopping)
        return ST_OK;
    a->serial += a->watch->options.leases_count;
    a->life = (struct history_lease){
        .id = (int64_t)((a->watch->options.seed << 32 | a->serial) & INT64_MAX)};
    a->keys_asked = 0;
    memset(a->is_attached, 0, sizeof(a->is_attached));
    memset(a->is_gone, 0, sizeof(a->is_gone));
    a->renew_until_ns = now_ns() + rng_below(&a->watch->rng, RENEWING_MS_MAX) * NS_PER_MS;
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.id = a->life.id;
    request.ttl = LEASE_TTL_S;
    return call(a, "/etcdserverpb.Lease/LeaseGrant", &request.base, on_granted);
}

static enum status put(struct lease_actor *a)
{
    if (a->keys_asked == LEASE_KEYS) {
        a->state = LEASE_RENEWING;
        return ST_OK;
    }
    char key[KEY_BYTES];
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key.data = (uint8_t *)key;
    request.key.len = (size_t)snprintf(key, sizeof(key), "lease/%" PRIu64 "/%" PRIu64 "/%u",
                                       a->watch->options.seed, a->serial, a->keys_asked++);
    request.lease = a->life.id;
    return call(a, "/etcdserverpb.KV/Put", &request.base, on_attached);
}

/* Once for all renewals of a lease, or until the stream breaks. */
static enum status open_renewals(struct lease_actor *a)
{
    struct client_request request = {.method = "/etcdserverpb.Lease/LeaseKeepAlive",
                                     .connection = a->connection};
    struct client_stream_events events = {on_renewed, on_renewals_ended, a};
    return client_stream_open(caller_client(a->watch->caller), &request, &events, &a->stream);
}

static enum status renew(struct lease_actor *a, uint64_t now)
{
    if (a->watch->is_stopping || now >= a->renew_until_ns || a->life.denied_end != 0) {
        a->state = LEASE_ENDING;
        if (rng_below(&a->watch->rng, 4) != 0)
            return ST_OK;
        a->life.may_be_revoked = true;
        Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
        revoke.id = a->life.id;
        return call(a, "/etcdserverpb.Lease/LeaseRevoke", &revoke.base, on_revoked);
    }
    enum status st = a->stream == NULL ? open_renewals(a) : ST_OK;
    if (st != ST_OK)
        return st;
    uint8_t body[32];
    Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    request.id = a->life.id;
    size_t size = etcdserverpb__lease_keep_alive_request__pack(&request, body);
    a->called_ns = now;
    a->is_calling = true;
    return client_stream_send(a->stream, slice_make(body, size));
}

static void end(struct lease_actor *a, uint64_t now)
{
    /* Each new leader gives a lease its time again: while leaders are killed none may ever end. */
    bool is_over =
        a->watch->is_stopping && now - a->watch->stopping_since_ns > CATCH_UP_MS * NS_PER_MS;
    char why[300];
    if (history_check_lease(&a->life, is_over, why, sizeof(why)) != HISTORY_GOOD)
        complain(a->watch, why, NULL);
    if (a->life.gone_count == a->life.keys_count || is_over) {
        a->watch->leases_ended++;
        a->state = LEASE_IDLE;
    }
}

/* A renewal that nobody answers ends with its stream, as a call with its time. */
static void give_up_renewal(struct lease_actor *a, uint64_t now)
{
    if (a->state == LEASE_RENEWING && a->stream != NULL &&
        now - a->called_ns > CALL_TIMEOUT_MS * NS_PER_MS)
        client_stream_cancel(a->stream);
}

static enum status lease_step(struct lease_actor *a, uint64_t now)
{
    if (a->is_calling)
        give_up_renewal(a, now);
    if (a->is_calling || now < a->not_before_ns)
        return ST_OK;
    switch (a->state) {
    case LEASE_IDLE:
        return grant(a);
    case LEASE_PUTS:
        return put(a);
    case LEASE_RENEWING:
        return renew(a, now);
    case LEASE_ENDING:
        end(a, now);
    }
    return ST_OK;
}

/* ---- the whole ---- */

enum status cluster_watch_step(struct cluster_watch *watch)
{
    client_poll(caller_client(watch->caller), /* timeout_ms= */ 0);
    uint64_t now = now_ns();
    enum status st = watch->status;
    for (uint32_t i = 0; i < STREAMS_COUNT && st == ST_OK; i++)
        st = watches_step(watch->streams[i]);
    for (uint32_t i = 0; i < watch->options.leases_count && st == ST_OK; i++)
        st = lease_step(&watch->leases[i], now);
    return st;
}

static bool all_confirmed(const struct cluster_watch *watch)
{
    for (uint32_t i = 0; i < STREAMS_COUNT; i++)
        if (!watches_are_confirmed(watch->streams[i]))
            return false;
    return true;
}

/* The revision that all begin behind. */
static enum status read_revision(struct cluster_watch *watch, struct arena *arena, int64_t *out)
{
    uint8_t key[] = "hist/", body[32];
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key.data = key;
    range.key.len = sizeof(key) - 1;
    struct client_request request = {
        .method = "/etcdserverpb.KV/Range",
        .body = slice_make(body, etcdserverpb__range_request__pack(&range, body)),
        .timeout_ms = CONFIRM_TIMEOUT_MS};
    struct client_reply reply;
    enum status st = caller_call(watch->caller, &request, arena, &reply);
    if (st != ST_OK || reply.code != CLIENT_OK)
        return st != ST_OK ? st : ST_BUSY;
    Etcdserverpb__RangeResponse *r =
        etcdserverpb__range_response__unpack(NULL, reply.body.len, reply.body.data);
    *out = r == NULL || r->header == NULL ? 0 : r->header->revision;
    etcdserverpb__range_response__free_unpacked(r, NULL);
    return *out == 0 ? ST_BUSY : ST_OK;
}

static enum status begin(struct cluster_watch *watch, struct arena *arena)
{
    struct caller_options options = {.client = {.endpoints = watch->options.endpoints}};
    struct client_reply reply;
    int64_t revision = 0;
    enum status st = caller_open(&options, arena, &reply, &watch->caller);
    if (st == ST_OK)
        st = read_revision(watch, arena, &revision);
    for (uint32_t i = 0; i < STREAMS_COUNT && st == ST_OK; i++)
        if ((watch->streams[i] = watches_new(watch->caller, /* require_leader= */ false)) == NULL)
            st = ST_NO_MEMORY;
    for (uint32_t i = 0; i < watch->options.watchers_count && st == ST_OK; i++)
        st = add_watcher(watch, i, revision + 1);
    if (st == ST_OK)
        st = add_lease_watcher(watch, revision + 1);
    for (uint32_t i = 0; i < STREAMS_COUNT && st == ST_OK; i++) {
        st = watches_step(watch->streams[i]);
        caller_next_endpoint(watch->caller);
    }
    uint64_t end_ns = now_ns() + CONFIRM_TIMEOUT_MS * NS_PER_MS;
    while (st == ST_OK && !all_confirmed(watch)) {
        client_poll(caller_client(watch->caller), /* timeout_ms= */ 5);
        for (uint32_t i = 0; i < STREAMS_COUNT && st == ST_OK; i++)
            st = watches_step(watch->streams[i]);
        if (now_ns() > end_ns)
            st = ST_BUSY;
    }
    return st;
}

enum status cluster_watch_new(const struct cluster_watch_options *options,
                              struct cluster_watch **out)
{
    *out = NULL;
    if (options->watchers_count > WATCHERS_MAX || options->leases_count > LEASES_MAX)
        return ST_TOO_BIG;
    struct cluster_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return ST_NO_MEMORY;
    watch->options = *options;
    rng_seed(&watch->rng, options->seed + 1);
    for (uint32_t i = 0; i < options->leases_count; i++)
        watch->leases[i] =
            (struct lease_actor){.watch = watch, .number = i, .connection = i, .serial = i};
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    enum status st = begin(watch, &arena);
    arena_deinit(&arena);
    if (st != ST_OK)
        cluster_watch_free(watch);
    else
        *out = watch;
    return st;
}

void cluster_watch_free(struct cluster_watch *watch)
{
    if (watch == NULL)
        return;
    for (uint32_t i = 0; i < STREAMS_COUNT; i++)
        watches_free(watch->streams[i]);
    caller_close(watch->caller);
    for (uint32_t i = 0; i < watch->options.watchers_count; i++)
        history_watcher_deinit(&watch->watchers[i].history);
    free(watch);
}

static bool is_complete(const struct cluster_watch *watch, int64_t revision)
{
    for (uint32_t i = 0; i < watch->options.watchers_count; i++)
        if (watch->watchers[i].history.upto < revision)
            return false;
    for (uint32_t i = 0; i < watch->options.leases_count; i++)
        if (watch->leases[i].state != LEASE_IDLE || watch->leases[i].is_calling)
            return false;
    return true;
}

static enum status catch_up(struct cluster_watch *watch, int64_t revision)
{
    watch->is_stopping = true;
    watch->stopping_since_ns = now_ns();
    uint64_t end_ns = now_ns() + (CATCH_UP_MS + CALL_TIMEOUT_MS) * NS_PER_MS, ask_ns = 0;
    enum status st = ST_OK;
    while (st == ST_OK && !is_complete(watch, revision) && now_ns() < end_ns) {
        for (uint32_t i = 0; now_ns() > ask_ns && i < STREAMS_COUNT && st == ST_OK; i++)
            st = watches_request_progress(watch->streams[i]);
        if (now_ns() > ask_ns)
            ask_ns = now_ns() + PROGRESS_MS * NS_PER_MS;
        if (st == ST_OK)
            st = cluster_watch_step(watch);
        client_poll(caller_client(watch->caller), /* timeout_ms= */ 5);
    }
    return st;
}

enum status cluster_watch_judge(struct cluster_watch *watch, int64_t revision, enum verdict *out,
                                char *why, size_t why_bytes)
{
    static struct history_watcher watchers[WATCHERS_MAX];
    enum status st = catch_up(watch, revision);
    if (st != ST_OK)
        return st;
    for (uint32_t i = 0; i < watch->options.watchers_count; i++)
        watchers[i] = watch->watchers[i].history;
    st = history_check_watchers(watch->options.history, watchers, watch->options.watchers_count,
                                out, why, why_bytes);
    if (st == ST_OK && *out == HISTORY_GOOD && !is_complete(watch, revision))
        complain(watch, "a watcher did not catch up, or a lease did not end", NULL);
    if (st == ST_OK && *out == HISTORY_GOOD && watch->why[0] != '\0') {
        *out = HISTORY_BROKEN;
        snprintf(why, why_bytes, "%s", watch->why);
    }
    return st;
}

uint64_t cluster_watch_events(const struct cluster_watch *watch)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < watch->options.watchers_count; i++)
        count += watch->watchers[i].history.count;
    return count;
}

uint64_t cluster_watch_leases(const struct cluster_watch *watch)
{
    return watch->leases_ended;
}

uint64_t cluster_watch_renewals(const struct cluster_watch *watch)
{
    return watch->renewals;
}
