#include "tools/client/caller_private.h"

#include "base/clock.h"
#include "base/minmax.h"
#include "base/rng.h"
#include "proto/rpc.pb-c.h"
#include "tools/client/client_private.h"

#include <stdlib.h>
#include <time.h>

#define BACKOFF_US 25000U /* between rounds over the endpoints, give or take a tenth */
#define POLL_MS_MAX 20U   /* how late a stop or a new connection may be noticed */
#define TOKEN_BYTES_MAX 4096U

struct caller {
    struct client *client;
    uint32_t endpoints_count, preferred;
    char target[300]; /* the first endpoint */
    char *user, *password;
    char token[TOKEN_BYTES_MAX]; /* "" is none */
    uint64_t dial_timeout_ms;
    void (*failed)(void *context, const struct caller_failure *failure);
    void *context;
    const volatile sig_atomic_t *stop;
    struct rng rng;
};

#define FOREVER UINT64_MAX

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t deadline_after(uint64_t timeout_ms)
{
    return timeout_ms == 0 ? FOREVER : now_ns() + timeout_ms * NS_PER_MS;
}

/* Rounded up, so that a call never gets the 0 that means for ever. */
static uint64_t left_ms(uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    if (deadline_ns == FOREVER)
        return 0;
    return now >= deadline_ns ? 1 : (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
}

bool caller_is_stopped(const struct caller *caller)
{
    return caller->stop != NULL && *caller->stop != 0;
}

struct client *caller_client(struct caller *caller)
{
    return caller->client;
}

void caller_next_endpoint(struct caller *caller)
{
    caller->preferred = (caller->preferred + 1) % caller->endpoints_count;
}

static void set_reply(struct client_reply *reply, uint32_t code, const char *text)
{
    *reply = (struct client_reply){.code = code, .text = slice_from_str(text)};
}

static void tell_failure(struct caller *caller, bool token, uint32_t attempt,
                         const struct client_reply *reply, struct arena *arena)
{
    if (caller->failed == NULL)
        return;
    struct caller_failure failure = {.token = token,
                                     .attempt = attempt,
                                     .target = caller->target,
                                     .error = slice_from_str(caller_rpc_error_text(reply, arena))};
    caller->failed(caller->context, &failure);
}

/* ---- one attempt ---- */

/* Sends request on its connection and waits. */
static enum status attempt(struct caller *caller, const struct client_request *request,
                           struct arena *arena, struct client_reply *out)
{
    *out = (struct client_reply){.code = CLIENT_UNKNOWN};
    struct client_waiter waiter = {.arena = arena, .out = out};
    enum status st = client_start(caller->client, request, client_take_reply, &waiter);
    if (st != ST_OK)
        return st;
    while (!waiter.done) {
        if (caller_is_stopped(caller))
            client_cancel_calls(caller->client);
        client_poll(caller->client, POLL_MS_MAX);
    }
    if (out->code == CLIENT_DEADLINE_EXCEEDED && slice_eq(out->text, SLICE("Deadline Exceeded")))
        set_reply(out, CLIENT_DEADLINE_EXCEEDED, "context deadline exceeded");
    if (out->code == CLIENT_CANCELED && caller_is_stopped(caller))
        set_reply(out, CLIENT_CANCELED, "context canceled");
    return waiter.status;
}

/* ---- which endpoint ---- */

/* Why the preferred endpoint cannot be reached: a call that does not wait fails with the reason.
 * The method is one that nobody minds, should the connection have come up just now. */
static void explain_no_connection(struct caller *caller, struct arena *arena,
                                  struct client_reply *out)
{
    struct client_request request = {.method = "/grpc.health.v1.Health/Check",
                                     .timeout_ms = POLL_MS_MAX,
                                     .connection = caller->preferred};
    struct client_reply reply;
    set_reply(out, CLIENT_DEADLINE_EXCEEDED, "context deadline exceeded");
    if (client_call(caller->client, &request, arena, &reply) == ST_OK &&
        reply.code == CLIENT_UNAVAILABLE)
        out->text = slice_from_str(caller_connect_error_text(reply.text, caller->target, arena));
}

/* Waits for a connection to some endpoint, the preferred one first. False: *out says why not. */
static bool await_connection(struct caller *caller, uint64_t deadline_ns, struct arena *arena,
                             struct client_reply *out)
{
    uint64_t began_ns = now_ns();
    for (;;) {
        for (uint32_t i = 0; i < caller->endpoints_count; i++) {
            uint32_t candidate = (caller->preferred + i) % caller->endpoints_count;
            if (client_is_connected(caller->client, candidate)) {
                caller->preferred = candidate;
                return true;
            }
        }
        uint64_t now = now_ns();
        if (caller_is_stopped(caller)) {
            set_reply(out, CLIENT_CANCELED, "context canceled");
            return false;
        }
        if (now >= deadline_ns) {
            explain_no_connection(caller, arena, out);
            return false;
        }
        client_wait(caller->client, now - began_ns < 100 * NS_PER_MS ? 1 : POLL_MS_MAX);
    }
}

/* gRPC has only now found out that the connection is gone, and has sent nothing. */
static bool was_not_sent(const struct client_reply *reply)
{
    return reply->code == CLIENT_UNAVAILABLE &&
           (slice_has_prefix(reply->text, SLICE("failed to connect to all addresses")) ||
            slice_has_prefix(reply->text, SLICE("connections to all backends failing")) ||
            slice_has_prefix(reply->text, SLICE("DNS resolution failed")));
}

/* The next endpoint after a failure: at once, but after a round over a majority of them a pause. */
static void back_off(struct caller *caller, uint32_t attempt_number, uint64_t deadline_ns)
{
    caller_next_endpoint(caller);
    if (attempt_number % (caller->endpoints_count / 2 + 1) != 0)
        return;
    uint64_t pause_us = BACKOFF_US * (900 + rng_below(&caller->rng, 200)) / 1000;
    uint64_t until = min_u64(now_ns() + pause_us * NS_PER_US, deadline_ns);
    for (uint64_t now = now_ns(); now < until && !caller_is_stopped(caller); now = now_ns())
        client_wait(caller->client, (until - now) / NS_PER_MS + 1);
}

/* Adds the token to what the request has of metadata. */
static void add_token(const struct caller *caller, struct client_request *request,
                      struct client_metadata room[static CLIENT_METADATA_MAX])
{
    if (caller->token[0] == '\0' || request->metadata_count >= CLIENT_METADATA_MAX)
        return;
    for (uint32_t i = 0; i < request->metadata_count; i++)
        room[i] = request->metadata[i];
    room[request->metadata_count++] =
        (struct client_metadata){SLICE("token"), slice_from_str(caller->token)};
    request->metadata = room;
}

/* One attempt on an endpoint that is connected. */
static enum status attempt_somewhere(struct caller *caller, const struct client_request *request,
                                     uint64_t deadline_ns, struct arena *arena,
                                     struct client_reply *out)
{
    for (;;) {
        if (!await_connection(caller, deadline_ns, arena, out))
            return ST_OK;
        struct client_request sent = *request;
        struct client_metadata metadata[CLIENT_METADATA_MAX];
        add_token(caller, &sent, metadata);
        sent.connection = caller->preferred;
        sent.timeout_ms = left_ms(deadline_ns);
        enum status st = attempt(caller, &sent, arena, out);
        if (st != ST_OK || !was_not_sent(out))
            return st;
    }
}

/* ---- users ---- */

/* gRPC takes nothing else as metadata. */
static bool is_token(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~')
            return false;
    }
    return len < TOKEN_BYTES_MAX;
}

static enum status fetch_token(struct caller *caller, uint64_t deadline_ns, struct arena *arena,
                               struct client_reply *out)
{
    Etcdserverpb__AuthenticateRequest message = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
    message.name = caller->user;
    message.password = caller->password;
    size_t len = etcdserverpb__authenticate_request__get_packed_size(&message);
    uint8_t *bytes = arena_alloc(arena, len);
    if (bytes == NULL)
        return ST_NO_MEMORY;
    etcdserverpb__authenticate_request__pack(&message, bytes);
    struct client_request request = {.method = "/etcdserverpb.Auth/Authenticate",
                                     .body = slice_make(bytes, len)};
    enum status st = attempt_somewhere(caller, &request, deadline_ns, arena, out);
    if (st != ST_OK)
        return st;
    if (out->code != CLIENT_OK) {
        tell_failure(caller, /* token= */ false, 0, out, arena);
        /* Without authentication nobody needs a token. */
        if (slice_eq(out->text, SLICE("etcdserver: authentication is not enabled"))) {
            caller->token[0] = '\0';
            set_reply(out, CLIENT_OK, "");
        }
        return ST_OK;
    }
    Etcdserverpb__AuthenticateResponse *response =
        etcdserverpb__authenticate_response__unpack(NULL, out->body.len, out->body.data);
    if (response == NULL || !is_token(response->token))
        set_reply(out, CLIENT_INTERNAL, "the server's token cannot be read");
    else
        memcpy(caller->token, response->token, strlen(response->token) + 1);
    if (response != NULL)
        etcdserverpb__authenticate_response__free_unpacked(response, NULL);
    return ST_OK;
}

static bool wants_new_token(const struct caller *caller, const struct client_reply *reply)
{
    return caller->user != NULL &&
           (slice_eq(reply->text, SLICE("etcdserver: invalid auth token")) ||
            slice_eq(reply->text, SLICE("etcdserver: revision of auth store is old")) ||
            slice_eq(reply->text, SLICE("etcdserver: user name is empty")));
}

/* ---- calls ---- */

/* What does no harm when done twice. Writes are not here: a lost answer does not say that they were
 * not done. */
static bool is_repeatable(const char *method)
{
    static const char *const methods[] = {
        "KV/Range",           "Lease/LeaseTimeToLive",  "Lease/LeaseLeases",
        "Lease/LeaseGrant",   "Lease/LeaseRevoke",      "Cluster/MemberList",
        "Maintenance/Alarm",  "Maintenance/Status",     "Maintenance/Hash",
        "Maintenance/HashKV", "Maintenance/MoveLeader", "Auth/UserList",
        "Auth/UserGet",       "Auth/RoleGet",           "Auth/RoleList",
    };
    static const char package[] = "/etcdserverpb.";
    if (strncmp(method, package, sizeof(package) - 1) != 0)
        return false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(method + sizeof(package) - 1, methods[i]) == 0)
            return true;
    }
    return false;
}

static bool may_repeat(const struct caller *caller, const struct client_request *request,
                       const struct client_reply *reply)
{
    if (reply->code != CLIENT_UNAVAILABLE)
        return false;
    return is_repeatable(request->method) ||
           (caller->endpoints_count > 1 &&
            slice_eq(reply->text, SLICE("etcdserver: rpc not supported for learner")));
}

static bool is_over_size(const struct client_request *request, struct arena *arena,
                         struct client_reply *out)
{
    if (request->body.len <= CALLER_SEND_BYTES_MAX)
        return false;
    char *text = arena_alloc(arena, 128);
    if (text != NULL)
        snprintf(text, 128, "trying to send message larger than max (%zu vs. %u)",
                 request->body.len, CALLER_SEND_BYTES_MAX);
    set_reply(out, CLIENT_RESOURCE_EXHAUSTED, text != NULL ? text : "message too large");
    return true;
}

enum status caller_call(struct caller *caller, const struct client_request *request,
                        struct arena *arena, struct client_reply *out)
{
    uint64_t deadline_ns = deadline_after(request->timeout_ms);
    for (uint32_t number = 0; number < CALLER_ATTEMPTS_MAX; number++) {
        if (number > 0)
            back_off(caller, number, deadline_ns);
        if (!is_over_size(request, arena, out)) {
            enum status st = attempt_somewhere(caller, request, deadline_ns, arena, out);
            if (st != ST_OK || out->code == CLIENT_OK)
                return st;
        }
        tell_failure(caller, /* token= */ false, number, out, arena);
        if (wants_new_token(caller, out)) {
            struct client_reply token_reply;
            caller->token[0] = '\0';
            enum status st = fetch_token(caller, deadline_ns, arena, &token_reply);
            if (st != ST_OK)
                return st;
            if (token_reply.code != CLIENT_OK) {
                tell_failure(caller, /* token= */ true, number, &token_reply, arena);
                *out = token_reply;
                return ST_OK;
            }
        } else if (!may_repeat(caller, request, out)) {
            return ST_OK;
        }
    }
    return ST_OK;
}

enum status caller_start(struct caller *caller, const struct client_request *request,
                         client_done_fn done, void *context)
{
    struct client_request sent = *request;
    struct client_metadata metadata[CLIENT_METADATA_MAX];
    add_token(caller, &sent, metadata);
    if (!client_is_connected(caller->client, sent.connection))
        sent.connection += caller->preferred - sent.connection % caller->endpoints_count;
    return client_start(caller->client, &sent, done, context);
}

enum status caller_stream(struct caller *caller, const struct client_request *request,
                          uint64_t connect_timeout_ms, const struct client_stream_events *events,
                          struct arena *arena, struct client_reply *reply_out,
                          struct client_stream **out)
{
    uint64_t deadline_ns = deadline_after(request->timeout_ms);
    uint64_t connect_ns = min_u64(deadline_ns, deadline_after(connect_timeout_ms));
    *out = NULL;
    set_reply(reply_out, CLIENT_OK, "");
    if (!await_connection(caller, connect_ns, arena, reply_out))
        return ST_OK;
    /* A stream cannot be repeated once begun: it gets a token that is new for certain. That takes
     * the time of a password hash, however short the wait for a connection. */
    if (caller->user != NULL) {
        uint64_t token_ns = min_u64(deadline_ns, deadline_after(caller->dial_timeout_ms));
        enum status st = fetch_token(caller, token_ns, arena, reply_out);
        if (st != ST_OK || reply_out->code != CLIENT_OK)
            return st;
    }
    struct client_request sent = *request;
    struct client_metadata metadata[CLIENT_METADATA_MAX];
    add_token(caller, &sent, metadata);
    sent.connection = caller->preferred;
    sent.timeout_ms = left_ms(deadline_ns);
    return client_stream_open(caller->client, &sent, events, out);
}

/* ---- open and close ---- */

static enum status copy_options(struct caller *caller, const struct caller_options *options)
{
    const char *first = caller_target(options->client.endpoints);
    snprintf(caller->target, sizeof(caller->target), "%.*s", (int)strcspn(first, ","), first);
    caller->dial_timeout_ms = options->dial_timeout_ms;
    caller->failed = options->failed;
    caller->context = options->context;
    caller->stop = options->stop;
    bool has_user = options->user != NULL && options->user[0] != '\0' &&
                    options->password != NULL && options->password[0] != '\0';
    if (!has_user)
        return ST_OK;
    caller->user = strdup(options->user);
    caller->password = strdup(options->password);
    return caller->user != NULL && caller->password != NULL ? ST_OK : ST_NO_MEMORY;
}

enum status caller_open(const struct caller_options *options, struct arena *arena,
                        struct client_reply *reply_out, struct caller **out)
{
    *out = NULL;
    set_reply(reply_out, CLIENT_OK, "");
    struct caller *caller = calloc(1, sizeof(*caller));
    if (caller == NULL)
        return ST_NO_MEMORY;
    struct client_options client_options = options->client;
    client_options.wait_for_ready = false;
    rng_seed(&caller->rng, now_ns());
    enum status st = copy_options(caller, options);
    if (st == ST_OK)
        st = client_open(&client_options, &caller->client);
    if (st == ST_OK) {
        caller->endpoints_count = client_connections_count(caller->client) /
                                  max_u32(client_options.connections_per_endpoint, 1);
        if (caller->user != NULL)
            st = fetch_token(caller, deadline_after(caller->dial_timeout_ms), arena, reply_out);
    }
    if (st == ST_OK && reply_out->code == CLIENT_OK) {
        *out = caller;
        return ST_OK;
    }
    caller_close(caller);
    return st;
}

void caller_close(struct caller *caller)
{
    if (caller == NULL)
        return;
    client_close(caller->client);
    free(caller->user);
    if (caller->password != NULL)
        explicit_bzero(caller->password, strlen(caller->password));
    free(caller->password);
    free(caller);
}
