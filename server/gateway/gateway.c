#include "server/gateway/gateway_private.h"

#include "base/assert.h"
#include "server/gateway/answers.h"
#include "server/gateway/decode.h"
#include "server/gateway/encode.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* White space and names may take as much as a small message. */
#define BODY_BYTES_MIN (64U << 10)
#define SERVER_BUSY_TEXT "too many bytes are under way through the JSON gateway"

/* ---- the routes ---- */

static const struct rpc_method *find_method(const struct gateway_options *options, const char *path,
                                            void **service_out)
{
    for (uint32_t i = 0; i < options->services_count; i++) {
        const struct rpc_service *service = &options->services[i];
        for (uint32_t j = 0; j < service->methods_count; j++) {
            if (strcmp(service->methods[j].path, path) == 0) {
                *service_out = service->service;
                return &service->methods[j];
            }
        }
    }
    return NULL;
}

/* Only of methods that are served. */
static void fill_routes(struct gateway *gateway, const struct route *routes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct gateway_route *to = &gateway->routes[gateway->routes_count];
        to->route = routes[i];
        ASSERT(gateway_knows(routes[i].messages->input) &&
               gateway_knows(routes[i].messages->output));
        to->method = find_method(&gateway->options, routes[i].method, &to->service);
        if (to->method == NULL)
            continue;
        rpc_stats_init(&to->stats, to->method, gateway->options.shows_times);
        gateway->routes_count++;
    }
}

enum status gateway_new(const struct gateway_options *options, struct gateway **out)
{
    *out = NULL;
    uint32_t count = routes_fill(NULL);
    struct gateway *gateway = calloc(1, sizeof(*gateway));
    struct route *routes = calloc(count, sizeof(routes[0]));
    if (gateway != NULL)
        gateway->routes = calloc(count, sizeof(gateway->routes[0]));
    if (gateway == NULL || routes == NULL || gateway->routes == NULL) {
        free(routes);
        if (gateway != NULL)
            free(gateway->routes);
        free(gateway);
        return ST_NO_MEMORY;
    }
    gateway->options = *options;
    rpc_versions_init(&gateway->versions);
    routes_fill(routes);
    fill_routes(gateway, routes, count);
    free(routes);
    *out = gateway;
    return ST_OK;
}

void gateway_free(struct gateway *gateway)
{
    if (gateway == NULL)
        return;
    ASSERT(atomic_load(&gateway->calls) == 0);
    rpc_versions_deinit(&gateway->versions);
    free(gateway->routes);
    free(gateway);
}

const struct gateway_route *gateway_find(const struct gateway *gateway, const char *path)
{
    for (uint32_t i = 0; i < gateway->routes_count; i++) {
        if (strcmp(gateway->routes[i].route.path, path) == 0)
            return &gateway->routes[i];
    }
    return NULL;
}

bool gateway_route_is_unary(const struct gateway_route *route)
{
    return !route->method->client_streams && !route->method->server_streams;
}

/* ---- a request comes in ---- */

enum status gateway_call_new(struct gateway *gateway, const struct gateway_route *route,
                             const char *peer, const struct gateway_events *events,
                             struct gateway_call **out)
{
    *out = NULL;
    if (atomic_fetch_add(&gateway->calls, 1) >= GATEWAY_CALLS_MAX) {
        atomic_fetch_sub(&gateway->calls, 1);
        return ST_BUSY;
    }
    struct gateway_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        atomic_fetch_sub(&gateway->calls, 1);
        return ST_NO_MEMORY;
    }
    call->gateway = gateway;
    call->route = route;
    call->events = *events;
    atomic_init(&call->refs, 1);
    atomic_init(&call->flags, 0);
    arena_init(&call->arena, GATEWAY_ARENA_BYTES_MAX);
    size_t request_bytes_max = gateway->options.request_bytes_max;
    buf_init(&call->body, request_bytes_max * GATEWAY_JSON_FACTOR + BODY_BYTES_MIN);
    buf_init(&call->wire,
             SIZE_MAX); /* three times the JSON at most, where every byte is no UTF-8 */
    buf_init(&call->message_out, SIZE_MAX);
    buf_init(&call->json, GATEWAY_ANSWER_BYTES_MAX);
    buf_init(&call->error_json, GATEWAY_ANSWER_BYTES_MAX);
    snprintf(call->peer, sizeof(call->peer), "%s", peer);
    call->call = (struct rpc_call){.transport = &gateway_transport,
                                   .method = route->method,
                                   .service = route->service,
                                   .arena = &call->arena,
                                   .metadata = call->metadata,
                                   .poller = gateway->options.poller,
                                   .deadline_ns = UINT64_MAX,
                                   .started_ns = clock_monotonic_ns(gateway->options.clock)};
    *out = call;
    return ST_OK;
}

/* Errors that leave the piece of metadata out: no memory, or too much of it. */
static void add_metadata(struct gateway_call *call, const char *prefix, const char *name,
                         const char *value)
{
    size_t prefix_bytes = strlen(prefix), name_bytes = strlen(name), value_bytes = strlen(value);
    uint8_t *text = NULL;
    if (call->call.metadata_count < GATEWAY_METADATA_MAX)
        text = arena_alloc_raw(&call->arena, prefix_bytes + name_bytes + value_bytes + 1);
    if (text == NULL)
        return;
    memcpy(text, prefix, prefix_bytes);
    for (size_t i = 0; i < name_bytes; i++)
        text[prefix_bytes + i] = (uint8_t)tolower((unsigned char)name[i]);
    uint8_t *value_text = text + prefix_bytes + name_bytes;
    memcpy(value_text, value, value_bytes);
    call->metadata[call->call.metadata_count++] =
        (struct rpc_metadata){.key = slice_make(text, prefix_bytes + name_bytes),
                              .value = slice_make(value_text, value_bytes)};
}

/* "500m": a number and its unit. */
static bool read_timeout(const char *value, uint64_t *ns_out)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'H', 3600 * NS_PER_S}, {'M', 60 * NS_PER_S}, {'S', NS_PER_S},
                 {'m', NS_PER_MS},       {'u', NS_PER_US},     {'n', 1}};
    uint64_t number = 0;
    const char *c = value;
    for (; isdigit((unsigned char)*c); c++) {
        number = number * 10 + (uint64_t)(*c - '0');
        if (number > UINT32_MAX)
            return false; /* over a century in hours; nobody waits so long */
    }
    for (size_t i = 0; c != value && i < sizeof(units) / sizeof(units[0]); i++) {
        if (*c == units[i].unit && c[1] == '\0') {
            *ns_out = number * units[i].ns;
            return true;
        }
    }
    return false;
}

static void refuse(struct gateway_call *call, enum rpc_code code, const char *text)
{
    if (call->is_refused)
        return;
    call->is_refused = true;
    call->refused_code = code;
    snprintf(call->refused_text, sizeof(call->refused_text), "%s", text);
}

static void set_timeout(struct gateway_call *call, const char *value)
{
    uint64_t ns;
    if (!read_timeout(value, &ns)) {
        char text[GATEWAY_TEXT_BYTES];
        snprintf(text, sizeof(text), "invalid grpc-timeout: %s", value);
        refuse(call, RPC_INVALID_ARGUMENT, text);
        return;
    }
    if (ns != 0)
        call->call.deadline_ns = call->call.started_ns + ns;
}

/* What etcd's gateway hands on of a browser's own headers; the others are not the services'. */
static bool is_handed_on(const char *name)
{
    static const char *const names[] = {"accept", "authorization", "cookie",    "host",
                                        "origin", "referer",       "user-agent"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

void gateway_call_header(struct gateway_call *call, const char *name, const char *value)
{
    static const char prefix[] = "grpc-metadata-";
    if (strcasecmp(name, "authorization") == 0)
        add_metadata(call, "", name, value);
    if (strcasecmp(name, "grpc-timeout") == 0)
        set_timeout(call, value);
    else if (strncasecmp(name, prefix, sizeof(prefix) - 1) == 0)
        add_metadata(call, "", name + sizeof(prefix) - 1, value);
    else if (is_handed_on(name))
        add_metadata(call, "grpcgateway-", name, value);
}

void gateway_call_body(struct gateway_call *call, struct slice piece)
{
    struct gateway *gateway = call->gateway;
    if (call->is_refused)
        return;
    call->body_bytes += piece.len;
    if (atomic_fetch_add(&gateway->bodies_bytes, piece.len) + piece.len >
        GATEWAY_BODIES_BYTES_MAX) {
        refuse(call, RPC_UNAVAILABLE, SERVER_BUSY_TEXT);
        return;
    }
    enum status st = buf_append(&call->body, piece);
    if (st != ST_OK)
        refuse(call, RPC_RESOURCE_EXHAUSTED,
               st == ST_TOO_BIG ? "http: request body too large" : status_str(st));
}

/* ---- and is given to its method ---- */

/* Takes the next message of the body. Errors: ST_NOT_FOUND (there is none), ST_INVALID, ST_TOO_BIG;
 * error says why. */
static enum status next_message(struct gateway_call *call, struct json_error *error)
{
    if (call->body.len == 0)
        return ST_NOT_FOUND;
    struct slice rest = slice_make(call->body.data + call->body_at, call->body.len - call->body_at);
    struct slice value;
    size_t size;
    enum status st = json_scan_next(rest, &value, &size, error);
    if (st != ST_OK)
        return st;
    call->body_at += size;
    buf_reset(&call->wire);
    st = gateway_decode(value, call->route->route.messages->input, &call->wire, error);
    if (st != ST_OK)
        return st;
    uint32_t bytes_max = call->gateway->options.request_bytes_max;
    if (call->wire.len > bytes_max) {
        snprintf(error->text, sizeof(error->text),
                 "grpc: received message larger than max (%zu vs. %u)", call->wire.len, bytes_max);
        return ST_TOO_BIG;
    }
    rpc_stats_received(&call->route->stats, call->wire.len);
    return ST_OK;
}

/* An empty message has data. */
static struct slice message_of(const struct gateway_call *call)
{
    static const uint8_t nothing;
    return call->wire.len == 0 ? slice_make(&nothing, 0) : buf_slice(&call->wire);
}

static void begin(struct gateway_call *call)
{
    metrics_child_add(call->route->stats.started, 1);
    rpc_versions_count(&call->gateway->versions, &call->call);
    call->began_ns = clock_monotonic_ns(call->gateway->options.clock);
    call->is_started = true;
    atomic_fetch_add(&call->refs, 1); /* the service's */
}

static bool is_finishing(const struct gateway_call *call)
{
    return (atomic_load(&call->flags) & CALL_FINISHING) != 0;
}

static enum rpc_code code_of(enum status st, enum rpc_code invalid)
{
    return st == ST_INVALID ? invalid : RPC_RESOURCE_EXHAUSTED;
}

static const char *text_of(enum status st, const struct json_error *error)
{
    return st == ST_INVALID || st == ST_TOO_BIG ? error->text : status_str(st);
}

/* Gives the method one message after another, until it holds the call. */
static void deliver(struct gateway_call *call)
{
    struct json_error ignored;
    while (!is_finishing(call)) {
        if (!call->has_message)
            call->is_last = next_message(call, &ignored) != ST_OK;
        call->has_message = true;
        call->route->method->on_message(&call->call,
                                        call->is_last ? SLICE_EMPTY : message_of(call));
        if (call->call.held)
            return;
        call->has_message = false;
        if (call->is_last || call->is_cancelled)
            break;
    }
    buf_deinit(&call->body);
    buf_deinit(&call->wire);
}

/* Several messages may follow one another. A bad one ends them: the first is an error, later ones
 * are as if the client had said no more. */
static void start_messages(struct gateway_call *call)
{
    struct json_error error;
    enum status st = next_message(call, &error);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        refuse(call, code_of(st, RPC_UNKNOWN), text_of(st, &error));
        return;
    }
    call->has_message = true;
    call->is_last = st == ST_NOT_FOUND;
    begin(call);
    if (call->route->method->on_open != NULL)
        call->route->method->on_open(&call->call);
    deliver(call);
}

static void start_single(struct gateway_call *call)
{
    struct json_error error;
    enum status st = next_message(call, &error);
    if (st != ST_OK && st != ST_NOT_FOUND) {
        refuse(call, code_of(st, RPC_INVALID_ARGUMENT), text_of(st, &error));
        return;
    }
    buf_deinit(&call->body);
    call->call.message = message_of(call);
    begin(call);
    call->route->method->on_call(&call->call);
}

/* A call that was held is given to its method once more. */
static void repeat(struct gateway_call *call)
{
    if ((atomic_load(&call->flags) & CALL_AGAIN) == 0)
        return;
    atomic_fetch_and(&call->flags, ~(unsigned)CALL_AGAIN);
    call->call.held = false;
    call->call.repeated = true;
    if (call->route->method->client_streams)
        deliver(call);
    else
        call->route->method->on_call(&call->call);
    gateway_call_unref(call); /* the hold's */
}

void gateway_call_start(struct gateway_call *call)
{
    ASSERT(!call->is_started);
    if (call->call.deadline_ns <= clock_monotonic_ns(call->gateway->options.clock))
        gateway_call_expire(call);
    if (call->is_refused)
        return;
    struct slice accept;
    if (rpc_metadata_get(&call->call, "grpcgateway-accept", &accept) != ST_OK)
        add_metadata(call, "grpcgateway-", "accept", "*/*"); /* by it a call is known as ours */
    if (call->route->method->client_streams)
        start_messages(call);
    else
        start_single(call);
}

/* ---- what it ends with ---- */

static void cancel(struct gateway_call *call)
{
    if (!call->is_started || call->is_cancelled)
        return;
    call->is_cancelled = true;
    atomic_store(&call->call.canceled, true);
    if (!is_finishing(call) && call->route->method->on_cancel != NULL)
        call->route->method->on_cancel(&call->call);
}

uint64_t gateway_call_deadline_ns(const struct gateway_call *call)
{
    return call->is_refused ? UINT64_MAX : call->call.deadline_ns;
}

void gateway_call_expire(struct gateway_call *call)
{
    refuse(call, RPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    cancel(call);
}

void gateway_call_close(struct gateway_call *call)
{
    if (call == NULL)
        return;
    const struct gateway_options *options = &call->gateway->options;
    if (options->ended != NULL && !is_stream(call) && is_finishing(call))
        options->ended(options->ended_context, &call->call, call->code, call->answer.len);
    cancel(call);
    /* What was to be repeated already can be so here. */
    unsigned before = atomic_fetch_or(&call->flags, CALL_CLOSED);
    if ((before & CALL_AGAIN) != 0)
        repeat(call);
    gateway_call_unref(call);
}

void gateway_call_adopt(struct gateway_call *call, uint32_t poller)
{
    call->call.poller = poller;
    repeat(call);
}

/* The code and the text that the client is told; false: it is still open. */
static bool outcome(const struct gateway_call *call, enum rpc_code *code, const char **text)
{
    bool has_finished = is_finishing(call);
    *code = RPC_OK;
    *text = NULL;
    if (call->is_refused) {
        *code = call->refused_code;
        *text = call->refused_text;
    } else if (has_finished) {
        *code = call->code;
        *text = call->text;
    }
    return call->is_refused || has_finished;
}

static bool fill_error(struct gateway_call *call, enum rpc_code code, const char *text,
                       struct gateway_head *out)
{
    const char *name;
    out->http_status = gateway_http_status(code, &name);
    buf_reset(&call->error_json);
    if (gateway_put_error(code, text, &call->error_json) == ST_OK)
        out->body = buf_slice(&call->error_json);
    return true;
}

bool gateway_call_head(struct gateway_call *call, struct gateway_head *out)
{
    *out = (struct gateway_head){.http_status = 200};
    repeat(call);
    enum rpc_code code;
    const char *text, *name;
    bool has_ended = outcome(call, &code, &text);
    bool has_message = (atomic_load(&call->flags) & CALL_READY) != 0;
    if (!is_stream(call) || (call->is_refused && !has_message)) {
        if (!has_ended)
            return false; /* json may be another thread's at the moment */
        if (!call->is_refused && !call->is_encoded) {
            gateway_encode_answer(call);
            (void)outcome(call, &code, &text);
        }
        if (code != RPC_OK)
            return fill_error(call, code, text, out);
        out->has_metadata = true;
        out->body = buf_slice(&call->json);
        return true;
    }
    out->is_stream = true;
    out->has_metadata = has_message;
    if (!out->has_metadata && has_ended)
        out->http_status = gateway_http_status(code, &name);
    return out->has_metadata || has_ended;
}

/* ---- the body of a stream ---- */

/* {"result":...} and a line's end. */
static enum status encode_message(struct gateway_call *call)
{
    buf_reset(&call->json);
    enum status st = buf_append(&call->json, SLICE("{\"result\":"));
    if (st == ST_OK)
        st = gateway_encode(buf_slice(&call->message_out), call->route->route.messages->output,
                            &call->json);
    return st == ST_OK ? buf_append(&call->json, SLICE("}\n")) : st;
}

/* The message that was read out is gone; the next one may come. */
static void message_left(struct gateway_call *call)
{
    call->has_begun = false;
    unsigned before = atomic_fetch_and(&call->flags, ~(unsigned)(CALL_SENDING | CALL_READY));
    if ((before & CALL_FINISHING) == 0 && !call->is_cancelled &&
        call->route->method->on_sent != NULL)
        call->route->method->on_sent(&call->call);
}

/* Puts what comes next into json. */
static enum gateway_read next_piece(struct gateway_call *call)
{
    call->read_at = 0;
    if ((atomic_load(&call->flags) & CALL_READY) != 0) {
        call->has_begun = true;
        return encode_message(call) == ST_OK ? GATEWAY_BYTES : GATEWAY_BROKEN;
    }
    enum rpc_code code;
    const char *text;
    if (!outcome(call, &code, &text))
        return GATEWAY_WAIT;
    if (code == RPC_OK)
        return GATEWAY_END;
    call->has_ended = true;
    buf_reset(&call->json);
    enum status st = gateway_put_stream_error(code, text, &call->json);
    return st == ST_OK ? GATEWAY_BYTES : GATEWAY_BROKEN;
}

enum gateway_read gateway_call_read(struct gateway_call *call, uint8_t *to, size_t size,
                                    size_t *size_out)
{
    ASSERT(is_stream(call) && size > 0);
    repeat(call);
    if (call->read_at == call->json.len) {
        if (call->has_begun)
            message_left(call);
        if (call->has_ended)
            return GATEWAY_END;
        enum gateway_read what = next_piece(call);
        if (what != GATEWAY_BYTES) {
            buf_reset(&call->json);
            return what;
        }
    }
    size_t left = call->json.len - call->read_at;
    *size_out = left < size ? left : size;
    memcpy(to, call->json.data + call->read_at, *size_out);
    call->read_at += *size_out;
    return GATEWAY_BYTES;
}
