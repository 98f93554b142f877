#include "tools/client/keepalive.h"

#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

#define REOPEN_MS 500U

struct keepalive {
    struct caller *caller;
    int64_t lease;
    keepalive_renewed_fn renewed;
    void *context;
    struct client_stream *stream;
    struct arena arena;
    uint64_t next_ns;     /* when to renew */
    uint64_t deadline_ns; /* when it has expired, as far as we know */
    uint64_t reopen_ns;
    bool is_asked; /* an answer is to come */
    bool is_over;
    char refusal[256]; /* "" is none */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct keepalive *keepalive_new(struct caller *caller, int64_t lease, uint64_t first_timeout_ms,
                                keepalive_renewed_fn renewed, void *context)
{
    struct keepalive *keepalive = calloc(1, sizeof(*keepalive));
    if (keepalive == NULL)
        return NULL;
    keepalive->caller = caller;
    keepalive->lease = lease;
    keepalive->renewed = renewed;
    keepalive->context = context;
    keepalive->deadline_ns = now_ns() + first_timeout_ms * NS_PER_MS;
    arena_init(&keepalive->arena, CALLER_ARENA_BYTES_MAX);
    return keepalive;
}

void keepalive_free(struct keepalive *keepalive)
{
    if (keepalive == NULL)
        return;
    if (keepalive->stream != NULL)
        client_stream_cancel(keepalive->stream);
    while (keepalive->stream != NULL)
        client_poll(caller_client(keepalive->caller), KEEPALIVE_STEP_MS);
    arena_deinit(&keepalive->arena);
    free(keepalive);
}

const char *keepalive_refusal(const struct keepalive *keepalive)
{
    return keepalive->refusal[0] == '\0' ? NULL : keepalive->refusal;
}

bool keepalive_is_over(const struct keepalive *keepalive)
{
    return keepalive->is_over;
}

static void on_message(void *context, struct slice body)
{
    struct keepalive *keepalive = context;
    Etcdserverpb__LeaseKeepAliveResponse *response =
        etcdserverpb__lease_keep_alive_response__unpack(NULL, body.len, body.data);
    keepalive->is_asked = false;
    if (response == NULL) {
        client_stream_cancel(keepalive->stream);
        return;
    }
    if (response->ttl <= 0) {
        keepalive->is_over = true;
    } else if (!keepalive->is_over) {
        uint64_t ttl_ns = (uint64_t)response->ttl * NS_PER_S;
        keepalive->next_ns = now_ns() + ttl_ns / 3;
        keepalive->deadline_ns = now_ns() + ttl_ns;
        if (keepalive->renewed != NULL)
            keepalive->renewed(keepalive->context, response);
    }
    etcdserverpb__lease_keep_alive_response__free_unpacked(response, NULL);
}

static void note_refusal(struct keepalive *keepalive, const struct client_reply *reply)
{
    bool may_come_back = reply->code == CLIENT_UNAVAILABLE || reply->code == CLIENT_INTERNAL ||
                         reply->code == CLIENT_CANCELED ||
                         reply->code == CLIENT_DEADLINE_EXCEEDED || reply->code == CLIENT_OK;
    snprintf(keepalive->refusal, sizeof(keepalive->refusal), "%s",
             may_come_back ? "" : caller_error_text(reply, &keepalive->arena));
}

/* Whatever it was, the next stream may fare better while the lease lives. */
static void on_ended(void *context, const struct client_reply *reply)
{
    struct keepalive *keepalive = context;
    note_refusal(keepalive, reply);
    keepalive->stream = NULL;
    keepalive->is_asked = false;
    keepalive->reopen_ns = now_ns() + REOPEN_MS * NS_PER_MS;
    caller_next_endpoint(keepalive->caller);
}

static enum status open_stream(struct keepalive *keepalive)
{
    static const struct client_metadata leader = {SLICE("hasleader"), SLICE("true")};
    struct client_request request = {
        .method = "/etcdserverpb.Lease/LeaseKeepAlive", .metadata = &leader, .metadata_count = 1};
    struct client_stream_events events = {on_message, on_ended, keepalive};
    struct client_reply reply;
    enum status st = caller_stream(keepalive->caller, &request, KEEPALIVE_STEP_MS, &events,
                                   &keepalive->arena, &reply, &keepalive->stream);
    if (st == ST_OK)
        note_refusal(keepalive, &reply);
    if (st == ST_OK && keepalive->stream == NULL)
        keepalive->reopen_ns = now_ns() + REOPEN_MS * NS_PER_MS;
    arena_reset(&keepalive->arena);
    return st;
}

static enum status send_renewal(struct keepalive *keepalive)
{
    Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    uint8_t bytes[16];
    request.id = keepalive->lease;
    size_t len = etcdserverpb__lease_keep_alive_request__pack(&request, bytes);
    keepalive->is_asked = true;
    return client_stream_send(keepalive->stream, slice_make(bytes, len));
}

enum status keepalive_step(struct keepalive *keepalive)
{
    uint64_t now = now_ns();
    if (now >= keepalive->deadline_ns)
        keepalive->is_over = true;
    if (keepalive->is_over || keepalive->is_asked || now < keepalive->next_ns)
        return ST_OK;
    if (keepalive->stream == NULL) {
        if (now < keepalive->reopen_ns)
            return ST_OK;
        enum status st = open_stream(keepalive);
        if (st != ST_OK || keepalive->stream == NULL)
            return st;
    }
    return send_renewal(keepalive);
}
