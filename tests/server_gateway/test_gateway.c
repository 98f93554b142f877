/* The gateway as a transport: services that do as they are told, and no HTTP. */
#include "server/gateway/gateway.h"
#include "server/gateway/limits.h"
#include "server/metrics/metrics.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* PutResponse with revision 7 in its header, and what it is as JSON. */
#define PUT_ANSWER SLICE("\x0a\x02\x18\x07")
#define PUT_JSON "{\"header\":{\"revision\":\"7\"}}"
/* LeaseKeepAliveResponse with ID 7. */
#define ALIVE SLICE("\x10\x07")
#define ALIVE_JSON "{\"result\":{\"ID\":\"7\"}}\n"

static struct {
    struct gateway *gateway;
    uint64_t now_ns;
    atomic_uint wakes, orphans, released;
    uint32_t ended;        /* unary calls */
    struct rpc_call *call; /* the last one that came to a service */
    uint32_t messages, half_closes, cancels, sents;
    bool hold;    /* the next message */
    bool refuses; /* streams that open */
    uint8_t message[256];
    size_t message_bytes;
} t;

static uint64_t now(void *context)
{
    (void)context;
    return t.now_ns;
}
static const struct clock clock_of_test = {.monotonic_ns = now, .wall_ns = now};

static void on_call(struct rpc_call *call)
{
    t.call = call;
    if (t.hold) {
        t.hold = false;
        rpc_hold(call);
        return;
    }
    t.messages++;
    assert_true(call->message.len <= sizeof(t.message));
    memcpy(t.message, call->message.data, call->message.len);
    t.message_bytes = call->message.len;
}

static void on_open(struct rpc_call *call)
{
    call->state = &t;
    if (t.refuses)
        rpc_finish(call, RPC_UNAVAILABLE, "etcdserver: no leader", SLICE_EMPTY);
}

static void on_message(struct rpc_call *call, struct slice message)
{
    assert_ptr_equal(call->state, &t);
    t.call = call;
    if (t.hold) {
        t.hold = false;
        rpc_hold(call);
        return;
    }
    if (message.data == NULL)
        t.half_closes++;
    else
        t.messages++;
}

static void on_cancel(struct rpc_call *call)
{
    assert_true(atomic_load(&call->canceled));
    t.cancels++;
}

static void on_sent(struct rpc_call *call)
{
    (void)call;
    t.sents++;
}

static void wake(void *context)
{
    assert_ptr_equal(context, &t);
    atomic_fetch_add(&t.wakes, 1);
}

static void orphan(void *context)
{
    assert_ptr_equal(context, &t);
    atomic_fetch_add(&t.orphans, 1);
}

static void released(void *context)
{
    assert_ptr_equal(context, &t);
    atomic_fetch_add(&t.released, 1);
}

static void ended(void *context, struct rpc_call *call, enum rpc_code code, size_t answer_bytes)
{
    assert_ptr_equal(context, &t);
    assert_ptr_equal(call, t.call);
    assert_true(code != RPC_OK || answer_bytes > 0);
    t.ended++;
}

static int open_gateway(bool shows_times)
{
    static const struct rpc_method methods[] = {
        {.path = "/etcdserverpb.KV/Put", .on_call = on_call, .on_cancel = on_cancel},
        {.path = "/etcdserverpb.Maintenance/Snapshot",
         .server_streams = true,
         .on_call = on_call,
         .on_cancel = on_cancel,
         .on_sent = on_sent},
        {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
         .client_streams = true,
         .server_streams = true,
         .on_open = on_open,
         .on_message = on_message,
         .on_cancel = on_cancel,
         .on_sent = on_sent},
    };
    static const struct rpc_service service = {.methods = methods, .methods_count = 3};
    memset(&t, 0, sizeof(t));
    metrics_reset();
    struct gateway_options options = {.services = &service,
                                      .services_count = 1,
                                      .clock = &clock_of_test,
                                      .poller = 3,
                                      .request_bytes_max = 64,
                                      .shows_times = shows_times,
                                      .ended = ended,
                                      .ended_context = &t};
    return gateway_new(&options, &t.gateway) == ST_OK ? 0 : 1;
}

static int setup(void **state)
{
    (void)state;
    return open_gateway(/* shows_times= */ false);
}

static int setup_with_times(void **state)
{
    (void)state;
    return open_gateway(/* shows_times= */ true);
}

static int teardown(void **state)
{
    (void)state;
    gateway_free(t.gateway);
    return 0;
}

static struct gateway_call *call_new(const char *path)
{
    struct gateway_events events = {
        .wake = wake, .orphan = orphan, .released = released, .context = &t};
    const struct gateway_route *route = gateway_find(t.gateway, path);
    assert_non_null(route);
    struct gateway_call *call;
    assert_int_equal(gateway_call_new(t.gateway, route, "127.0.0.1:1", &events, &call), ST_OK);
    return call;
}

static struct gateway_call *call_start(const char *path, const char *body)
{
    struct gateway_call *call = call_new(path);
    gateway_call_body(call, slice_from_str(body));
    gateway_call_start(call);
    return call;
}

static void expect_head(struct gateway_call *call, uint32_t http_status, const char *body)
{
    struct gateway_head head;
    assert_true(gateway_call_head(call, &head));
    assert_int_equal(head.http_status, http_status);
    assert_int_equal(head.is_stream, body == NULL);
    if (body != NULL)
        assert_true(slice_eq(head.body, slice_from_str(body)));
}

static void expect_no_head(struct gateway_call *call)
{
    struct gateway_head head;
    assert_false(gateway_call_head(call, &head));
}

/* A stream's next bytes, in pieces of three. */
static enum gateway_read read_piece(struct gateway_call *call, const char *wanted)
{
    char text[512];
    size_t len = 0, wanted_len = strlen(wanted);
    enum gateway_read what = GATEWAY_BYTES;
    while (len < wanted_len && what == GATEWAY_BYTES) {
        size_t got = 0;
        what = gateway_call_read(call, (uint8_t *)text + len, 3, &got);
        len += what == GATEWAY_BYTES ? got : 0;
    }
    assert_int_equal(len, wanted_len);
    assert_memory_equal(text, wanted, wanted_len);
    size_t ignored;
    return gateway_call_read(call, (uint8_t *)text, sizeof(text), &ignored);
}

static void test_gateway_unary_call(void **state)
{
    (void)state;
    struct gateway_call *call = call_new("/v3/kv/put");
    gateway_call_header(call, "Authorization", "token");
    gateway_call_header(call, "grpc-metadata-HasLeader", "true");
    gateway_call_header(call, "X-Other", "no");
    gateway_call_body(call, SLICE("{\"key\":"));
    gateway_call_body(call, SLICE("\"aw==\"} and what follows is nobody's business"));
    gateway_call_start(call);
    expect_no_head(call);
    assert_int_equal(t.message_bytes, 3);
    assert_memory_equal(t.message, "\x0a\x01k", 3);
    assert_int_equal(t.call->poller, 3);
    struct slice value;
    assert_int_equal(rpc_metadata_get(t.call, "authorization", &value), ST_OK);
    assert_true(slice_eq(value, SLICE("token")));
    assert_int_equal(rpc_metadata_get(t.call, "hasleader", &value), ST_OK);
    assert_int_equal(rpc_metadata_get(t.call, "grpcgateway-accept", &value), ST_OK);
    assert_int_equal(rpc_metadata_get(t.call, "x-other", &value), ST_NOT_FOUND);
    assert_string_equal(rpc_peer(t.call), "127.0.0.1:1");
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    assert_int_equal(atomic_load(&t.wakes), 1);
    expect_head(call, 200, PUT_JSON);
    assert_int_equal(atomic_load(&t.released), 0);
    gateway_call_close(call);
    assert_int_equal(atomic_load(&t.released), 1);
    assert_int_equal(t.cancels, 0);
    assert_int_equal(t.ended, 1);
}

/* Whether what is shown has these words in it. */
static bool shows(const char *words)
{
    struct buf text;
    buf_init(&text, 1U << 20);
    assert_int_equal(metrics_render(&text), ST_OK);
    bool found = memmem(text.data, text.len, words, strlen(words)) != NULL;
    buf_deinit(&text);
    return found;
}

/* How long the client takes to say what it wants is not the method's time. */
static void test_gateway_times_a_call_from_its_start_to_its_finish(void **state)
{
    (void)state;
    struct gateway_call *call = call_new("/v3/kv/put");
    t.now_ns += NS_PER_S;
    gateway_call_start(call);
    t.now_ns += 7 * NS_PER_MS;
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    gateway_call_close(call);
    call = call_start("/v3/kv/put", "{"); /* comes to no method */
    gateway_call_close(call);
#define PUT_LABELS "{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\""
    assert_true(shows("grpc_server_handling_seconds_bucket" PUT_LABELS ",le=\"0.005\"} 0\n"));
    assert_true(shows("grpc_server_handling_seconds_bucket" PUT_LABELS ",le=\"0.01\"} 1\n"));
    assert_true(shows("grpc_server_handling_seconds_count" PUT_LABELS "} 1\n"));
}

static void test_gateway_shows_no_times_unless_asked_to(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/kv/put", "");
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    gateway_call_close(call);
    assert_true(shows("grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\""));
    assert_false(shows("grpc_server_handling_seconds"));
}

static void test_gateway_unary_error(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/kv/put", "");
    rpc_finish_later(t.call, RPC_NOT_FOUND, "etcdserver: <none>", SLICE_EMPTY);
    expect_head(call, 404,
                "{\"error\":\"etcdserver: \\u003cnone\\u003e\",\"code\":5,"
                "\"message\":\"etcdserver: \\u003cnone\\u003e\"}");
    gateway_call_close(call);
    call = call_start("/v3/kv/put", "");
    rpc_finish_later(t.call, RPC_OK, NULL, PUT_ANSWER);
    expect_head(call, 200, PUT_JSON);
    gateway_call_close(call);
    call = call_start("/v3/kv/put", "");
    rpc_finish(t.call, RPC_OK, NULL, SLICE("\x0a"));
    expect_head(call, 500,
                "{\"error\":\"the answer is no valid message\",\"code\":13,"
                "\"message\":\"the answer is no valid message\"}");
    gateway_call_close(call);
}

static void test_gateway_refuses_bad_bodies(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/kv/put", "{");
    expect_head(call, 400,
                "{\"error\":\"unexpected EOF\",\"code\":3,\"message\":\"unexpected EOF\"}");
    gateway_call_close(call);
    call = call_start("/v3/lease/keepalive", "{");
    expect_head(call, 500,
                "{\"error\":\"unexpected EOF\",\"code\":2,\"message\":\"unexpected EOF\"}");
    gateway_call_close(call);
    char text[256]; /* 66 bytes in base64 */
    snprintf(text, sizeof(text), "{\"value\":\"%088d\"}", 0);
    call = call_start("/v3/kv/put", text);
    expect_head(call, 429,
                "{\"error\":\"grpc: received message larger than max (68 vs. 64)\",\"code\":8,"
                "\"message\":\"grpc: received message larger than max (68 vs. 64)\"}");
    gateway_call_close(call);
    call = call_new("/v3/kv/put");
    static uint8_t space[100000];
    memset(space, ' ', sizeof(space));
    gateway_call_body(call, slice_make(space, sizeof(space)));
    gateway_call_body(call, slice_make(space, sizeof(space)));
    gateway_call_start(call);
    expect_head(call, 429,
                "{\"error\":\"http: request body too large\",\"code\":8,"
                "\"message\":\"http: request body too large\"}");
    gateway_call_close(call);
    assert_int_equal(t.messages, 0);
    assert_int_equal(atomic_load(&t.released), 4);
}

static void test_gateway_server_stream(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/maintenance/snapshot", "{}");
    expect_no_head(call);
    assert_int_equal(rpc_send(t.call, SLICE("\x10\x05")), ST_OK);
    assert_int_equal(rpc_send(t.call, SLICE("\x10\x06")), ST_BUSY);
    expect_head(call, 200, NULL);
    assert_int_equal(read_piece(call, "{\"result\":{\"remaining_bytes\":\"5\"}}\n"), GATEWAY_WAIT);
    assert_int_equal(t.sents, 1);
    assert_int_equal(rpc_send(t.call, SLICE_EMPTY), ST_OK);
    rpc_finish(t.call, RPC_OK, NULL, SLICE_EMPTY);
    assert_int_equal(read_piece(call, "{\"result\":{}}\n"), GATEWAY_END);
    assert_int_equal(t.sents, 1);
    gateway_call_close(call);
    assert_int_equal(atomic_load(&t.released), 1);
}

static void test_gateway_stream_error(void **state)
{
    (void)state;
    static const char error[] = "{\"error\":{\"grpc_code\":8,\"http_code\":429,\"message\":\"no\","
                                "\"http_status\":\"Too Many Requests\"}}";
    struct gateway_call *call = call_start("/v3/maintenance/snapshot", "");
    rpc_finish(t.call, RPC_RESOURCE_EXHAUSTED, "no", SLICE_EMPTY);
    expect_head(call, 429, NULL);
    assert_int_equal(read_piece(call, error), GATEWAY_END);
    gateway_call_close(call);
    call = call_start("/v3/maintenance/snapshot", "");
    assert_int_equal(rpc_send(t.call, SLICE("\x10\x05")), ST_OK);
    rpc_finish(t.call, RPC_RESOURCE_EXHAUSTED, "no", SLICE_EMPTY);
    expect_head(call, 200, NULL);
    char both[512];
    snprintf(both, sizeof(both), "{\"result\":{\"remaining_bytes\":\"5\"}}\n%s", error);
    assert_int_equal(read_piece(call, both), GATEWAY_END);
    gateway_call_close(call);
}

static void test_gateway_bidirectional_stream(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/lease/keepalive", "{\"ID\":7} {\"ID\":8}{}");
    assert_int_equal(t.messages, 3);
    assert_int_equal(t.half_closes, 1);
    assert_int_equal(rpc_send(t.call, ALIVE), ST_OK);
    expect_head(call, 200, NULL);
    assert_int_equal(read_piece(call, ALIVE_JSON), GATEWAY_WAIT);
    rpc_finish(t.call, RPC_OK, NULL, SLICE_EMPTY);
    assert_int_equal(read_piece(call, ""), GATEWAY_END);
    gateway_call_close(call);
    /* A later bad message is the end of what the client has to say. */
    call = call_start("/v3/lease/keepalive", "{\"ID\":7}{\"ID\":x");
    assert_int_equal(t.messages, 4);
    assert_int_equal(t.half_closes, 2);
    rpc_finish(t.call, RPC_OK, NULL, SLICE_EMPTY);
    expect_head(call, 200, NULL);
    assert_int_equal(read_piece(call, ""), GATEWAY_END);
    gateway_call_close(call);
}

static void test_gateway_stream_may_be_refused_when_it_opens(void **state)
{
    (void)state;
    t.refuses = true;
    struct gateway_call *call = call_start("/v3/lease/keepalive", "{\"ID\":7}");
    assert_int_equal(t.messages + t.half_closes, 0);
    expect_head(call, 503, NULL);
    gateway_call_close(call);
    assert_int_equal(t.cancels, 0);
    assert_int_equal(atomic_load(&t.released), 1);
}

static void test_gateway_cancels_when_the_client_has_gone(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/kv/put", "{}");
    gateway_call_close(call);
    assert_int_equal(t.cancels, 1);
    assert_int_equal(atomic_load(&t.released), 0);
    rpc_ref(t.call);
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    assert_int_equal(atomic_load(&t.released), 0);
    rpc_unref(t.call);
    assert_int_equal(atomic_load(&t.released), 1);
    call = call_start("/v3/lease/keepalive", "{}");
    gateway_call_close(call);
    assert_int_equal(rpc_send(t.call, ALIVE), ST_CANCELED);
    rpc_finish(t.call, RPC_CANCELLED, NULL, SLICE_EMPTY);
    assert_int_equal(atomic_load(&t.released), 2);
    call = call_new("/v3/kv/put"); /* it never began */
    gateway_call_close(call);
    assert_int_equal(atomic_load(&t.released), 3);
    assert_int_equal(t.cancels, 2);
}

static void test_gateway_repeats_what_was_held(void **state)
{
    (void)state;
    t.hold = true;
    struct gateway_call *call = call_start("/v3/kv/put", "{\"key\":\"aw==\"}");
    expect_no_head(call);
    assert_int_equal(t.messages, 0);
    rpc_again(t.call);
    assert_int_equal(atomic_load(&t.wakes), 1);
    expect_no_head(call);
    assert_int_equal(t.messages, 1);
    assert_memory_equal(t.message, "\x0a\x01k", 3);
    assert_true(t.call->repeated);
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    expect_head(call, 200, PUT_JSON);
    gateway_call_close(call);
    t.hold = true;
    call = call_start("/v3/lease/keepalive", "{\"ID\":7}{\"ID\":8}");
    assert_int_equal(t.messages, 1);
    rpc_again(t.call);
    expect_no_head(call);
    assert_int_equal(t.messages, 3);
    assert_int_equal(t.half_closes, 1);
    rpc_finish(t.call, RPC_OK, NULL, SLICE_EMPTY);
    gateway_call_close(call);
    assert_int_equal(atomic_load(&t.released), 2);
}

/* A client goes away while its call is held: the method still has it to end. */
static void test_gateway_gives_away_a_held_call(void **state)
{
    (void)state;
    t.hold = true;
    struct gateway_call *call = call_start("/v3/kv/put", "{}");
    gateway_call_close(call);
    assert_int_equal(t.cancels, 1);
    rpc_again(t.call);
    assert_int_equal(atomic_load(&t.orphans), 1);
    assert_int_equal(t.messages, 0);
    gateway_call_adopt(call, /* poller= */ 5);
    assert_int_equal(t.messages, 1);
    assert_int_equal(t.call->poller, 5);
    assert_int_equal(atomic_load(&t.released), 0);
    rpc_finish(t.call, RPC_CANCELLED, NULL, SLICE_EMPTY);
    assert_int_equal(atomic_load(&t.released), 1);
    t.hold = true; /* it was repeated before the client went, and nobody had looked yet */
    call = call_start("/v3/lease/keepalive", "{}{}");
    rpc_again(t.call);
    gateway_call_close(call);
    assert_int_equal(t.messages, 2);
    rpc_finish(t.call, RPC_CANCELLED, NULL, SLICE_EMPTY);
    assert_int_equal(atomic_load(&t.released), 2);
    assert_int_equal(atomic_load(&t.orphans), 1);
}

static void test_gateway_deadline(void **state)
{
    (void)state;
    static const char late[] = "{\"error\":\"context deadline exceeded\",\"code\":4,"
                               "\"message\":\"context deadline exceeded\"}";
    struct gateway_call *call = call_new("/v3/kv/put");
    gateway_call_header(call, "Grpc-Timeout", "500m");
    gateway_call_start(call);
    assert_int_equal(gateway_call_deadline_ns(call), 500 * NS_PER_MS);
    expect_no_head(call);
    gateway_call_expire(call);
    assert_int_equal(t.cancels, 1);
    expect_head(call, 504, late);
    rpc_finish(t.call, RPC_OK, NULL, PUT_ANSWER);
    gateway_call_close(call);
    static const char *const bad[] = {"", "1", "m", "1zz", "-1S", "1S ", "99999999999S", " 1S"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char wanted[256];
        snprintf(wanted, sizeof(wanted),
                 "{\"error\":\"invalid grpc-timeout: %s\",\"code\":3,"
                 "\"message\":\"invalid grpc-timeout: %s\"}",
                 bad[i], bad[i]);
        call = call_new("/v3/kv/put");
        gateway_call_header(call, "Grpc-Timeout", bad[i]);
        gateway_call_start(call);
        expect_head(call, 400, wanted);
        gateway_call_close(call);
    }
    call = call_new("/v3/kv/put");
    gateway_call_header(call, "Grpc-Timeout", "1n");
    t.now_ns = 1;
    gateway_call_start(call);
    expect_head(call, 504, late);
    gateway_call_close(call);
}

static void test_gateway_bounds_calls(void **state)
{
    (void)state;
    struct gateway_call *calls[GATEWAY_CALLS_MAX], *one_more;
    for (uint32_t i = 0; i < GATEWAY_CALLS_MAX; i++)
        calls[i] = call_new("/v3/kv/put");
    struct gateway_events events = {
        .wake = wake, .orphan = orphan, .released = released, .context = &t};
    assert_int_equal(
        gateway_call_new(t.gateway, gateway_find(t.gateway, "/v3/kv/put"), "", &events, &one_more),
        ST_BUSY);
    for (uint32_t i = 0; i < GATEWAY_CALLS_MAX; i++)
        gateway_call_close(calls[i]);
    gateway_call_close(call_new("/v3/kv/put"));
}

static void test_gateway_knows_its_paths(void **state)
{
    (void)state;
    static const char *const unknown[] = {"/v3/kv/put/", "/v3/kv", "", "/v3/kv/range",
                                          "/v3/KV/put"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_null(gateway_find(t.gateway, unknown[i]));
    assert_true(gateway_route_is_unary(gateway_find(t.gateway, "/v3/kv/put")));
    assert_false(gateway_route_is_unary(gateway_find(t.gateway, "/v3/maintenance/snapshot")));
}

/* Sends and finishes on a thread of its own, as fast as the reader lets it. */
static void *send_many(void *context)
{
    struct rpc_call *call = context;
    for (uint32_t sent = 0; sent < 50;) {
        enum status st = rpc_send(call, ALIVE);
        if (st == ST_OK)
            sent++;
        else
            sched_yield(); /* ST_BUSY: it is still being read */
    }
    rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
    return NULL;
}

static void test_gateway_stream_from_another_thread(void **state)
{
    (void)state;
    struct gateway_call *call = call_start("/v3/lease/keepalive", "{}");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_many, t.call), 0);
    size_t bytes = 0, got;
    uint8_t piece[64];
    enum gateway_read what;
    while ((what = gateway_call_read(call, piece, sizeof(piece), &got)) != GATEWAY_END)
        bytes += what == GATEWAY_BYTES ? got : 0;
    pthread_join(thread, NULL);
    assert_int_equal(bytes, 50 * strlen(ALIVE_JSON));
    gateway_call_close(call);
    assert_int_equal(atomic_load(&t.released), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gateway_unary_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_times_a_call_from_its_start_to_its_finish,
                                        setup_with_times, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_shows_no_times_unless_asked_to, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_gateway_unary_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_refuses_bad_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_server_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_stream_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_bidirectional_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_stream_may_be_refused_when_it_opens, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_gateway_cancels_when_the_client_has_gone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_gateway_repeats_what_was_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_gives_away_a_held_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_bounds_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_knows_its_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gateway_stream_from_another_thread, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
