#include "tools/client/caller_private.h"

#include "base/clock.h"
#include "tests/client/echo_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#define RANGE "/etcdserverpb.KV/Range" /* may be repeated */
#define PUT "/etcdserverpb.KV/Put"     /* may not */

struct fixture {
    struct echo_server *server, *other;
    struct caller *caller;
    struct arena arena;
    uint32_t failures, token_failures, last_attempt;
    char error[512], target[64], message[256];
    uint32_t ends;
    volatile sig_atomic_t stop;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->server = echo_server_start();
    f->other = echo_server_start();
    arena_init(&f->arena, CALLER_ARENA_BYTES_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    caller_close(f->caller);
    echo_server_stop(f->server);
    if (f->other != NULL)
        echo_server_stop(f->other);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

static void on_failed(void *context, const struct caller_failure *failure)
{
    struct fixture *f = context;
    if (failure->token)
        f->token_failures++;
    else
        f->failures++;
    f->last_attempt = failure->attempt;
    snprintf(f->error, sizeof(f->error), "%.*s", (int)failure->error.len,
             (const char *)failure->error.data);
    snprintf(f->target, sizeof(f->target), "%s", failure->target);
}

static struct client_reply open_as(struct fixture *f, const char *endpoints, const char *user,
                                   const char *password)
{
    struct caller_options options = {.client = {.endpoints = endpoints},
                                     .user = user,
                                     .password = password,
                                     .dial_timeout_ms = 5000,
                                     .failed = on_failed,
                                     .context = f,
                                     .stop = &f->stop};
    struct client_reply reply;
    assert_int_equal(caller_open(&options, &f->arena, &reply, &f->caller), ST_OK);
    return reply;
}

static struct client_reply call(struct fixture *f, const char *method, uint64_t timeout_ms)
{
    struct client_request request = {
        .method = method, .body = SLICE("x"), .timeout_ms = timeout_ms};
    struct client_reply reply;
    assert_int_equal(caller_call(f->caller, &request, &f->arena, &reply), ST_OK);
    return reply;
}

static void test_caller_goes_to_whom_it_can_reach(void **state)
{
    struct fixture *f = *state;
    char endpoints[128];
    snprintf(endpoints, sizeof(endpoints), "127.0.0.1:1,127.0.0.1:2,%s",
             echo_server_endpoint(f->server));
    open_as(f, endpoints, NULL, NULL);
    assert_int_equal(call(f, PUT, 10000).code, CLIENT_OK);
    assert_int_equal(call(f, PUT, 10000).code, CLIENT_OK);
    assert_int_equal(f->failures, 0);
}

static void test_caller_moves_on_when_a_server_goes(void **state)
{
    struct fixture *f = *state;
    char endpoints[128];
    snprintf(endpoints, sizeof(endpoints), "%s,%s", echo_server_endpoint(f->other),
             echo_server_endpoint(f->server));
    open_as(f, endpoints, NULL, NULL);
    assert_int_equal(call(f, RANGE, 10000).code, CLIENT_OK);
    echo_server_stop(f->other);
    f->other = NULL;
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(call(f, RANGE, 10000).code, CLIENT_OK);
    assert_true(echo_server_calls_count(f->server) > 0);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static void test_caller_waits_for_a_server_until_the_deadline(void **state)
{
    struct fixture *f = *state;
    open_as(f, "http://127.0.0.1:1", NULL, NULL);
    uint64_t began = now_ms();
    struct client_reply reply = call(f, PUT, 300);
    assert_true(now_ms() - began >= 300);
    assert_int_equal(reply.code, CLIENT_DEADLINE_EXCEEDED);
    assert_string_equal(caller_error_text(&reply, &f->arena), "context deadline exceeded");
    assert_int_equal(f->failures, 1);
    assert_string_equal(f->target, "127.0.0.1:1");
    assert_string_equal(f->error,
                        "rpc error: code = DeadlineExceeded desc = latest balancer error: last "
                        "connection error: connection error: desc = \"transport: Error while "
                        "dialing: dial tcp 127.0.0.1:1: connect: connection refused\"");
}

static void test_caller_says_that_the_deadline_passed(void **state)
{
    struct fixture *f = *state;
    open_as(f, echo_server_endpoint(f->server), NULL, NULL);
    struct client_reply reply = call(f, "/hang", 50);
    assert_int_equal(reply.code, CLIENT_DEADLINE_EXCEEDED);
    assert_string_equal(f->error,
                        "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
}

static void test_caller_repeats_only_what_may_be_repeated(void **state)
{
    struct fixture *f = *state;
    open_as(f, echo_server_endpoint(f->server), NULL, NULL);
    echo_server_fail_next(f->server, 3, CLIENT_UNAVAILABLE, "etcdserver: no leader");
    assert_int_equal(call(f, RANGE, 10000).code, CLIENT_OK);
    assert_int_equal(f->failures, 3);
    assert_int_equal(f->last_attempt, 2);
    assert_string_equal(f->error, "rpc error: code = Unavailable desc = etcdserver: no leader");

    echo_server_fail_next(f->server, 1, CLIENT_UNAVAILABLE, "etcdserver: no leader");
    struct client_reply reply = call(f, PUT, 10000);
    assert_string_equal(caller_error_text(&reply, &f->arena), "etcdserver: no leader");
    assert_int_equal(f->failures, 4);

    echo_server_fail_next(f->server, 1, CLIENT_OUT_OF_RANGE, "etcdserver: mvcc: x");
    assert_int_equal(call(f, RANGE, 10000).code, CLIENT_OUT_OF_RANGE);
    assert_int_equal(f->failures, 5);
}

static void test_caller_gives_up_after_its_attempts(void **state)
{
    struct fixture *f = *state;
    char endpoints[256] = "";
    /* Many endpoints: fewer pauses. */
    for (uint32_t i = 0; i < 8; i++)
        snprintf(endpoints + strlen(endpoints), 64, "%s%s", i == 0 ? "" : ",",
                 echo_server_address(f->server));
    open_as(f, endpoints, NULL, NULL);
    echo_server_fail_next(f->server, 1000, CLIENT_UNAVAILABLE, "etcdserver: no leader");
    assert_int_equal(call(f, RANGE, 60000).code, CLIENT_UNAVAILABLE);
    assert_int_equal(f->failures, CALLER_ATTEMPTS_MAX);
}

static void test_caller_sends_and_renews_a_users_token(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(open_as(f, echo_server_endpoint(f->server), "root", "secret").code, CLIENT_OK);
    assert_true(slice_eq(call(f, PUT, 10000).body, SLICE("token=t1\n")));
    assert_true(slice_eq(call(f, PUT, 10000).body, SLICE("token=t1\n")));
    echo_server_fail_next(f->server, 1, CLIENT_UNAUTHENTICATED, "etcdserver: invalid auth token");
    assert_true(slice_eq(call(f, PUT, 10000).body, SLICE("token=t2\n")));
    assert_int_equal(f->failures, 1);
}

static void test_caller_open_says_why_a_user_is_refused(void **state)
{
    struct fixture *f = *state;
    struct client_reply reply = open_as(f, echo_server_endpoint(f->server), "root", "wrong");
    assert_null(f->caller);
    assert_string_equal(caller_error_text(&reply, &f->arena),
                        "etcdserver: authentication failed, invalid user ID or password");
    assert_int_equal(f->failures, 1);
    assert_int_equal(open_as(f, echo_server_endpoint(f->server), "root", "strange").code,
                     CLIENT_INTERNAL);
    assert_null(f->caller);
    /* Without a password nobody is asked. */
    assert_int_equal(open_as(f, "127.0.0.1:1", "root", "").code, CLIENT_OK);
}

static void on_message(void *context, struct slice body)
{
    struct fixture *f = context;
    snprintf(f->message, sizeof(f->message), "%.*s", (int)body.len, (const char *)body.data);
}

static void on_ended(void *context, const struct client_reply *reply)
{
    struct fixture *f = context;
    (void)reply;
    f->ends++;
}

static void test_caller_stream_carries_metadata_and_a_new_token(void **state)
{
    struct fixture *f = *state;
    open_as(f, echo_server_endpoint(f->server), "root", "secret");
    const struct client_metadata leader = {SLICE("hasleader"), SLICE("true")};
    struct client_request request = {
        .method = "/metadata", .timeout_ms = 10000, .metadata = &leader, .metadata_count = 1};
    struct client_stream_events events = {on_message, on_ended, f};
    struct client_reply reply;
    struct client_stream *stream;
    assert_int_equal(caller_stream(f->caller, &request, 0, &events, &f->arena, &reply, &stream),
                     ST_OK);
    assert_int_equal(reply.code, CLIENT_OK);
    assert_int_equal(client_stream_send(stream, SLICE("x")), ST_OK);
    while (f->ends == 0)
        client_poll(caller_client(f->caller), 1000);
    assert_string_equal(f->message, "hasleader=true\ntoken=t2\n");
}

static void test_caller_stream_waits_for_a_server_until_the_deadline(void **state)
{
    struct fixture *f = *state;
    open_as(f, "127.0.0.1:1", NULL, NULL);
    struct client_request request = {.method = "/stream", .timeout_ms = 50};
    struct client_stream_events events = {on_message, on_ended, f};
    struct client_reply reply;
    struct client_stream *stream;
    assert_int_equal(caller_stream(f->caller, &request, 0, &events, &f->arena, &reply, &stream),
                     ST_OK);
    assert_null(stream);
    assert_int_equal(reply.code, CLIENT_DEADLINE_EXCEEDED);
}

static void test_caller_stops_when_told_so(void **state)
{
    struct fixture *f = *state;
    open_as(f, echo_server_endpoint(f->server), NULL, NULL);
    f->stop = 1;
    struct client_reply reply = call(f, "/hang", 0);
    assert_int_equal(reply.code, CLIENT_CANCELED);
    assert_string_equal(caller_error_text(&reply, &f->arena), "context canceled");
    f->stop = 0; /* and then goes on */
    assert_int_equal(call(f, PUT, 10000).code, CLIENT_OK);
}

static void test_caller_refuses_to_send_what_is_too_large(void **state)
{
    struct fixture *f = *state;
    open_as(f, echo_server_endpoint(f->server), NULL, NULL);
    size_t len = CALLER_SEND_BYTES_MAX + 1;
    uint8_t *bytes = calloc(1, len);
    struct client_request request = {.method = PUT, .body = slice_make(bytes, len)};
    struct client_reply reply;
    assert_int_equal(caller_call(f->caller, &request, &f->arena, &reply), ST_OK);
    assert_string_equal(caller_error_text(&reply, &f->arena),
                        "rpc error: code = ResourceExhausted desc = trying to send message larger "
                        "than max (2097153 vs. 2097152)");
    free(bytes);
}

static void test_caller_error_text_is_etcdctls(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint32_t code;
        const char *text, *expected;
    } cases[] = {
        {CLIENT_NOT_FOUND, "etcdserver: member not found", "etcdserver: member not found"},
        {CLIENT_INVALID_ARGUMENT, "etcdserver: permission not given",
         "rpc error: code = InvalidArgument desc = etcdserver: permission not given"},
        {CLIENT_UNKNOWN, "auth: permission denied",
         "rpc error: code = Unknown desc = auth: permission denied"},
        {CLIENT_CANCELED, "Received RST_STREAM",
         "rpc error: code = Canceled desc = Received RST_STREAM"},
        {CLIENT_UNKNOWN, "etcdserver: too many requests", "etcdserver: too many requests"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client_reply reply = {.code = cases[i].code, .text = slice_from_str(cases[i].text)};
        assert_string_equal(caller_error_text(&reply, &f->arena), cases[i].expected);
    }
}

static void test_caller_explains_why_nobody_could_be_reached(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:79: Failed to "
         "connect to remote host: Connection refused",
         "transport: Error while dialing: dial tcp [::1]:79: connect: connection refused"},
        {"DNS resolution failed for a.b:1: C-ares status is not ARES_SUCCESS: Domain name not "
         "found",
         "transport: Error while dialing: dial tcp: lookup a.b: no such host"},
        {"failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:5: Ssl handshake "
         "failed: SSL_ERROR_SSL: error:0A000086:SSL routines::certificate verify failed",
         "transport: authentication handshake failed: tls: failed to verify certificate: x509: "
         "certificate signed by unknown authority, or out of date"},
        {"failed to connect to all addresses; last error: UNAVAILABLE: ipv4:1.2.3.4:5: Socket "
         "closed",
         "error reading server preface: EOF"},
        {"failed to connect to all addresses; last error: UNKNOWN: unix:/a b: No such file or "
         "directory",
         "transport: Error while dialing: dial unix /a b: connect: no such file or directory"},
        {"", "error reading server preface: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[512];
        snprintf(expected, sizeof(expected),
                 "latest balancer error: last connection error: connection error: desc = \"%s\"",
                 cases[i].expected);
        assert_string_equal(
            caller_connect_error_text(slice_from_str(cases[i].text), "a.b:1", &f->arena), expected);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_caller_goes_to_whom_it_can_reach),
        TEST(test_caller_moves_on_when_a_server_goes),
        TEST(test_caller_waits_for_a_server_until_the_deadline),
        TEST(test_caller_says_that_the_deadline_passed),
        TEST(test_caller_repeats_only_what_may_be_repeated),
        TEST(test_caller_gives_up_after_its_attempts),
        TEST(test_caller_sends_and_renews_a_users_token),
        TEST(test_caller_open_says_why_a_user_is_refused),
        TEST(test_caller_stream_carries_metadata_and_a_new_token),
        TEST(test_caller_stream_waits_for_a_server_until_the_deadline),
        TEST(test_caller_stops_when_told_so),
        TEST(test_caller_refuses_to_send_what_is_too_large),
        TEST(test_caller_error_text_is_etcdctls),
        TEST(test_caller_explains_why_nobody_could_be_reached),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
