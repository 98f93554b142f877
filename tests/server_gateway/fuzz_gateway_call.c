/* Whole calls through the gateway: the first line is the path, headers follow to an empty line, the
 * rest is the body, which comes in two pieces. Behind it stand services for every method, that
 * hold, send, refuse and answer as the bytes of the message ask them to. A call must end, with an
 * HTTP status, whatever came. */
#include "base/assert.h"
#include "server/gateway/gateway.h"
#include "server/gateway/routes.h"
#include "server/metrics/metrics.h"

#include <stdlib.h>

#define METHODS_MAX 64U
#define MESSAGES_MAX 8U /* a stream's */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t released_count;
static struct rpc_call *held;

static uint64_t now(void *context)
{
    (void)context;
    return 1;
}
static const struct clock clock_of_fuzz = {.monotonic_ns = now, .wall_ns = now};

/* The sum of its bytes decides what is done with a message. */
static uint32_t wish_of(struct slice message)
{
    uint32_t wish = 0;
    for (size_t i = 0; i < message.len; i++)
        wish += message.data[i];
    return wish;
}

/* Whether the client has gone, and the call with it. */
static bool give_up(struct rpc_call *call)
{
    if (!atomic_load(&call->canceled))
        return false;
    rpc_finish(call, RPC_CANCELLED, NULL, SLICE_EMPTY);
    return true;
}

static bool hold(struct rpc_call *call, uint32_t wish)
{
    if (wish % 3 != 0 || call->repeated)
        return false;
    rpc_hold(call);
    held = call;
    return true;
}

static void on_call(struct rpc_call *call)
{
    uint32_t wish = wish_of(call->message);
    if (give_up(call) || hold(call, wish))
        return;
    if (call->method->server_streams && wish % 2 == 0)
        (void)!rpc_send(call, call->message);
    if (wish % 5 == 0)
        rpc_finish(call, (enum rpc_code)(wish % RPC_CODES_COUNT), "<a text>", SLICE_EMPTY);
    else
        rpc_finish_later(call, RPC_OK, NULL, call->message);
}

static void on_message(struct rpc_call *call, struct slice message)
{
    if (message.data == NULL) {
        rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
        return;
    }
    uint32_t wish = wish_of(message);
    if (give_up(call) || hold(call, wish))
        return;
    enum status st = rpc_send(call, message);
    ASSERT(st == ST_OK || st == ST_BUSY || st == ST_CANCELED);
    if (wish % 7 == 0)
        rpc_finish(call, RPC_DATA_LOSS, "", SLICE_EMPTY);
}

/* One that is held is given up when it comes again. */
static void on_cancel(struct rpc_call *call)
{
    if (!call->held)
        (void)give_up(call);
}

static void wake(void *context)
{
    (void)context;
}

static void released(void *context)
{
    (void)context;
    released_count++;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t len = strlen(text), suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

static struct gateway *make_gateway(void)
{
    static struct route routes[METHODS_MAX];
    static struct rpc_method methods[METHODS_MAX];
    static struct rpc_service service = {.methods = methods};
    service.methods_count = routes_fill(NULL);
    ASSERT(service.methods_count <= METHODS_MAX);
    routes_fill(routes);
    for (uint32_t i = 0; i < service.methods_count; i++) {
        bool is_bidi = has_suffix(routes[i].method, "/Watch") ||
                       has_suffix(routes[i].method, "/LeaseKeepAlive");
        bool streams = is_bidi || has_suffix(routes[i].method, "/Snapshot") ||
                       has_suffix(routes[i].method, "/Observe");
        methods[i] = (struct rpc_method){.path = routes[i].method,
                                         .client_streams = is_bidi,
                                         .server_streams = streams,
                                         .on_call = is_bidi ? NULL : on_call,
                                         .on_message = is_bidi ? on_message : NULL,
                                         .on_cancel = on_cancel};
    }
    struct gateway_options options = {.services = &service,
                                      .services_count = 1,
                                      .clock = &clock_of_fuzz,
                                      .request_bytes_max = 512};
    struct gateway *gateway;
    ASSERT(gateway_new(&options, &gateway) == ST_OK);
    return gateway;
}

/* The next line of *in as a text, without its end. */
static char *take_line(struct slice *in)
{
    const uint8_t *end = in->len == 0 ? NULL : memchr(in->data, '\n', in->len);
    size_t len = end == NULL ? in->len : (size_t)(end - in->data);
    char *line = calloc(1, len + 1);
    ASSERT(line != NULL);
    if (len > 0)
        memcpy(line, in->data, len);
    size_t used = end == NULL ? len : len + 1;
    *in = slice_make(in->data + used, in->len - used);
    return line;
}

static void take_headers(struct gateway_call *call, struct slice *in)
{
    while (in->len > 0) {
        char *line = take_line(in);
        char *colon = strchr(line, ':');
        bool is_last = line[0] == '\0';
        if (colon != NULL) {
            *colon = '\0';
            gateway_call_header(call, line, colon + 1);
        }
        free(line);
        if (is_last)
            return;
    }
}

static void repeat_held(void)
{
    struct rpc_call *call = held;
    held = NULL;
    if (call != NULL)
        rpc_again(call);
}

static void read_stream(struct gateway_call *call, size_t piece_bytes)
{
    uint8_t piece[256];
    size_t got;
    enum gateway_read what = GATEWAY_BYTES;
    while (what == GATEWAY_BYTES)
        what = gateway_call_read(call, piece, piece_bytes, &got);
    /* What waits is a call that is held; repeated it may wait once more, but not for ever. */
    for (uint32_t i = 0; what == GATEWAY_WAIT && held != NULL && i < MESSAGES_MAX; i++) {
        repeat_held();
        while ((what = gateway_call_read(call, piece, piece_bytes, &got)) == GATEWAY_BYTES)
            ;
    }
}

static void finish_call(struct gateway_call *call, size_t piece_bytes)
{
    struct gateway_head head;
    bool has_head = gateway_call_head(call, &head);
    if (!has_head) {
        ASSERT(held != NULL);
        if (piece_bytes % 2 == 0) /* the client goes */
            return;
        repeat_held();
        has_head = gateway_call_head(call, &head);
    }
    if (!has_head)
        return;
    ASSERT(head.http_status >= 200 && head.http_status < 600);
    if (head.is_stream)
        read_stream(call, piece_bytes);
    else
        ASSERT(head.body.len > 0);
}

static void orphan(void *context)
{
    gateway_call_adopt(*(struct gateway_call **)context, /* poller= */ 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gateway *gateway;
    if (gateway == NULL)
        gateway = make_gateway();
    struct slice in = slice_make(data, size);
    char *path = take_line(&in);
    const struct gateway_route *route = gateway_find(gateway, path);
    free(path);
    if (route == NULL)
        return 0;
    struct gateway_call *call;
    struct gateway_events events = {
        .wake = wake, .orphan = orphan, .released = released, .context = &call};
    uint32_t before = released_count;
    ASSERT(gateway_call_new(gateway, route, "peer", &events, &call) == ST_OK);
    take_headers(call, &in);
    size_t cut = in.len / 3;
    gateway_call_body(call, slice_make(in.data, cut));
    gateway_call_body(call, slice_make(in.data + cut, in.len - cut));
    gateway_call_start(call);
    finish_call(call, in.len % 255 + 1);
    gateway_call_close(call);
    while (held != NULL)
        repeat_held();
    ASSERT(released_count == before + 1);
    return 0;
}
