/* The gateway over real connections: services that do as they are told, behind an HTTP server. */
#include "base/clock.h"
#include "server/gateway/gateway.h"
#include "server/http/http.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define PUT_HEAD "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\n"
#define EMPTY_PUT PUT_HEAD "Content-Length: 2\r\n\r\n{}"
#define WATCH "POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
#define WAIT_MS 10000

static struct {
    struct gateway *gateway;
    struct http_server *server;
    _Atomic(struct rpc_call *) call; /* the last one */
    atomic_uint calls, cancels, sents;
    atomic_bool answers, holds; /* at once; the next one */
} t;

static uint64_t now(void *context)
{
    (void)context;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}
static const struct clock real_clock = {.monotonic_ns = now, .wall_ns = now};

static void begin(struct rpc_call *call)
{
    if (atomic_exchange(&t.holds, false))
        rpc_hold(call);
    atomic_store(&t.call, call);
    atomic_fetch_add(&t.calls, 1);
}

static void on_call(struct rpc_call *call)
{
    bool is_canceled = atomic_load(&call->canceled);
    begin(call);
    if (is_canceled)
        rpc_finish(call, RPC_CANCELLED, NULL, SLICE_EMPTY);
    else if (atomic_load(&t.answers))
        rpc_finish(call, RPC_OK, NULL, SLICE_EMPTY);
}

static void on_message(struct rpc_call *call, struct slice message)
{
    if (message.data != NULL)
        begin(call);
}

static void on_cancel(struct rpc_call *call)
{
    atomic_fetch_add(&t.cancels, 1);
    if (!call->held)
        rpc_finish(call, RPC_CANCELLED, NULL, SLICE_EMPTY);
}

static void on_sent(struct rpc_call *call)
{
    (void)call;
    atomic_fetch_add(&t.sents, 1);
}

static int setup(void **state)
{
    (void)state;
    static const struct rpc_method methods[] = {
        {.path = "/etcdserverpb.KV/Put", .on_call = on_call, .on_cancel = on_cancel},
        {.path = "/etcdserverpb.Watch/Watch",
         .client_streams = true,
         .server_streams = true,
         .on_message = on_message,
         .on_cancel = on_cancel,
         .on_sent = on_sent},
    };
    static const struct rpc_service service = {.methods = methods, .methods_count = 2};
    memset(&t, 0, sizeof(t));
    struct gateway_options gateway = {
        .services = &service, .services_count = 1, .clock = &real_clock, .request_bytes_max = 4096};
    assert_int_equal(gateway_new(&gateway, &t.gateway), ST_OK);
    struct http_options http = {.gateway = t.gateway, .keeper_poller = 9};
    return http_server_start(&http, &t.server) == ST_OK ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(http_server_stop(t.server, 0, WAIT_MS), ST_OK);
    http_server_free(t.server);
    gateway_free(t.gateway);
    return 0;
}

static int dial(void)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(4711), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    http_server_add_connection(t.server, pair[1], (struct sockaddr *)&address, sizeof(address));
    return pair[0];
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void wait_for(atomic_uint *count, uint32_t wanted)
{
    uint64_t end_ns = now(NULL) + WAIT_MS * NS_PER_MS;
    while (atomic_load(count) < wanted) {
        if (now(NULL) > end_ns)
            fail_msg("only %u of %u came", atomic_load(count), wanted);
        sched_yield();
    }
    assert_int_equal(atomic_load(count), wanted);
}

/* What comes until it ends in `end`. */
static const char *hear(int fd, const char *end)
{
    static char text[64 << 10];
    size_t len = 0, end_len = strlen(end);
    while (len < end_len || memcmp(text + len - end_len, end, end_len) != 0) {
        struct pollfd look = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&look, 1, WAIT_MS) == 1 ? recv(fd, text + len, 1, 0) : -1;
        if (n != 1)
            fail_msg("after '%.*s' nothing comes", (int)len, text);
        len++;
    }
    text[len] = '\0';
    return text;
}

static void expect(int fd, const char *status, const char *end)
{
    const char *answer = hear(fd, end);
    if (strncmp(answer, status, strlen(status)) != 0)
        fail_msg("'%s' instead of %s", answer, status);
}

static void test_rest_answers_from_another_thread(void **state)
{
    (void)state;
    int fd = dial();
    for (uint32_t i = 1; i <= 20; i++) { /* on one connection */
        say(fd, EMPTY_PUT);
        wait_for(&t.calls, i);
        rpc_finish(atomic_load(&t.call), RPC_OK, NULL, SLICE("\x0a\x02\x18\x07"));
        expect(fd, "HTTP/1.1 200 OK\r\n", "{\"header\":{\"revision\":\"7\"}}");
    }
    close(fd);
    assert_int_equal(atomic_load(&t.cancels), 0);
}

static void test_rest_tells_the_peer(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, EMPTY_PUT);
    wait_for(&t.calls, 1);
    assert_string_equal(rpc_peer(atomic_load(&t.call)), "127.0.0.1:4711");
    rpc_finish(atomic_load(&t.call), RPC_UNAUTHENTICATED, "who?", SLICE_EMPTY);
    expect(fd, "HTTP/1.1 401 ", "{\"error\":\"who?\",\"code\":16,\"message\":\"who?\"}");
    close(fd);
}

static void test_rest_cancels_for_a_client_that_goes(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, EMPTY_PUT);
    wait_for(&t.calls, 1);
    close(fd);
    wait_for(&t.cancels, 1);
    fd = dial();
    say(fd, WATCH);
    wait_for(&t.calls, 2);
    assert_int_equal(rpc_send(atomic_load(&t.call), SLICE_EMPTY), ST_OK);
    expect(fd, "HTTP/1.1 200 OK\r\n", "{\"result\":{}}\n\r\n");
    wait_for(&t.sents, 1);
    close(fd);
    wait_for(&t.cancels, 2);
}

static void test_rest_ends_a_call_whose_time_is_up(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, PUT_HEAD "Grpc-Timeout: 20m\r\n\r\n");
    expect(fd, "HTTP/1.1 504 ", "\"message\":\"context deadline exceeded\"}");
    wait_for(&t.cancels, 1);
    /* A second one, on the same connection, that is answered in time. */
    atomic_store(&t.answers, true);
    say(fd, PUT_HEAD "Grpc-Timeout: 20S\r\nContent-Length: 2\r\n\r\n{}");
    expect(fd, "HTTP/1.1 200 ", "{}");
    close(fd);
}

static void test_rest_goes_on_with_what_was_held(void **state)
{
    (void)state;
    atomic_store(&t.holds, true);
    int fd = dial();
    say(fd, EMPTY_PUT);
    wait_for(&t.calls, 1);
    rpc_again(atomic_load(&t.call));
    wait_for(&t.calls, 2);
    rpc_finish(atomic_load(&t.call), RPC_OK, NULL, SLICE_EMPTY);
    expect(fd, "HTTP/1.1 200 ", "{}");
    /* The client goes meanwhile: the keeper gives the call to its method. */
    atomic_store(&t.holds, true);
    say(fd, EMPTY_PUT);
    wait_for(&t.calls, 3);
    struct rpc_call *call = atomic_load(&t.call);
    rpc_ref(call);
    close(fd);
    wait_for(&t.cancels, 1);
    /* The HTTP thread is done with the one that went when it answers another. */
    atomic_store(&t.answers, true);
    fd = dial();
    say(fd, EMPTY_PUT);
    expect(fd, "HTTP/1.1 200 ", "{}");
    rpc_again(call);
    wait_for(&t.calls, 5);
    assert_int_equal(call->poller, 9);
    rpc_unref(call);
    close(fd);
}

static void test_rest_stops_with_calls_open(void **state)
{
    (void)state;
    int watching = dial(), putting = dial(), reading = dial();
    say(watching, WATCH);
    wait_for(&t.calls, 1);
    say(putting, EMPTY_PUT);
    wait_for(&t.calls, 2);
    say(reading, PUT_HEAD "Content-Length: 5\r\n\r\n{"); /* the rest never comes */
    assert_int_equal(http_server_stop(t.server, 0, WAIT_MS), ST_OK);
    assert_int_equal(atomic_load(&t.cancels), 2);
    http_server_free(t.server);
    t.server = NULL;
    close(watching);
    close(putting);
    close(reading);
}

static void *finish_soon(void *context)
{
    (void)context;
    wait_for(&t.calls, 1);
    rpc_finish(atomic_load(&t.call), RPC_OK, NULL, SLICE_EMPTY);
    return NULL;
}

static void test_rest_lets_a_unary_call_end_at_a_stop(void **state)
{
    (void)state;
    int fd = dial();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, finish_soon, NULL), 0);
    say(fd, EMPTY_PUT);
    wait_for(&t.calls, 1);
    assert_int_equal(http_server_stop(t.server, WAIT_MS, WAIT_MS), ST_OK);
    pthread_join(thread, NULL);
    expect(fd, "HTTP/1.1 200 ", "{}");
    assert_int_equal(atomic_load(&t.cancels), 0);
    http_server_free(t.server);
    t.server = NULL;
    close(fd);
}

/* A watcher that does not read holds up its own stream only. */
static void test_rest_bears_a_slow_reader(void **state)
{
    (void)state;
    int slow = dial(), fd = dial();
    say(slow, WATCH);
    wait_for(&t.calls, 1);
    struct rpc_call *call = atomic_load(&t.call);
    static uint8_t large[100000];
    large[0] = 0x32; /* cancel_reason, of 99996 bytes */
    large[1] = 0x9c, large[2] = 0x8d, large[3] = 0x06;
    memset(large + 4, 'x', sizeof(large) - 4);
    uint32_t sent = 0;
    for (uint64_t end_ns = now(NULL) + 200 * NS_PER_MS; now(NULL) < end_ns;) {
        enum status st = rpc_send(call, slice_make(large, sizeof(large)));
        assert_true(st == ST_OK || st == ST_BUSY);
        sent += st == ST_OK;
        sched_yield();
    }
    assert_in_range(sent, 1, 100); /* what the socket takes, and one */
    atomic_store(&t.answers, true);
    say(fd, EMPTY_PUT);
    expect(fd, "HTTP/1.1 200 ", "{}");
    close(slow);
    wait_for(&t.cancels, 1);
    close(fd);
}

static void test_rest_takes_chunked_and_odd_requests(void **state)
{
    (void)state;
    atomic_store(&t.answers, true);
    int fd = dial();
    say(fd, PUT_HEAD "Transfer-Encoding: chunked\r\n\r\n");
    say(fd, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
    expect(fd, "HTTP/1.1 200 ", "{}");
    say(fd, "POST /v3beta/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    expect(fd, "HTTP/1.1 200 ", "{}");
    say(fd, "PUT /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    expect(fd, "HTTP/1.1 405 ", "Method Not Allowed\n");
    say(fd, "POST /v3/kv/puts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    expect(fd, "HTTP/1.1 404 ", "Not Found\n");
    say(fd, PUT_HEAD "Content-Length: 1\r\n\r\n{");
    expect(fd, "HTTP/1.1 400 ", "\"message\":\"unexpected EOF\"}");
    close(fd);
    wait_for(&t.calls, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rest_answers_from_another_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_tells_the_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_cancels_for_a_client_that_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_ends_a_call_whose_time_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_goes_on_with_what_was_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_stops_with_calls_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_lets_a_unary_call_end_at_a_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_bears_a_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest_takes_chunked_and_odd_requests, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
