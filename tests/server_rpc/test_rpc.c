/* Calls through a real gRPC client. */
#include "tests/server_rpc/fixture.h"
#include "tests/server_rpc/grpc_client.h"

#include "base/assert.h"
#include "base/clock.h"
#include "server/metrics/metrics.h"
#include "server/rpc/limits.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct grpc_client *client;

static int setup(void **state)
{
    fixture_setup(state);
    client = grpc_client_new(fixture.port, false);
    /* Connected, so that short deadlines are not spent on that. */
    struct grpc_reply connected = {0};
    grpc_client_call(client, "/etcdserverpb.KV/Range", SLICE_EMPTY, 0, NULL, &connected);
    grpc_reply_free(&connected);
    return 0;
}

static int teardown(void **state)
{
    grpc_client_free(client);
    return fixture_teardown(state);
}

static struct grpc_reply reply;

static void call(const char *path, struct slice message)
{
    grpc_reply_free(&reply);
    grpc_client_call(client, path, message, 0, NULL, &reply);
}

static void assert_reply(enum rpc_code code, const char *text)
{
    assert_int_equal(reply.code, code);
    assert_string_equal(reply.text, text);
}

static void assert_echo(struct slice sent)
{
    assert_int_equal(reply.code, RPC_OK);
    assert_true(slice_eq(slice_make(reply.data, reply.len), sent));
}

static void test_rpc_answers_on_the_poller_and_from_an_actor(void **state)
{
    (void)state;
    call("/test.Echo/Call", SLICE("hello"));
    assert_echo(SLICE("hello"));
    call("/test.Echo/Later", SLICE("hello again"));
    assert_echo(SLICE("hello again"));
    call("/test.Echo/Call", SLICE_EMPTY);
    assert_echo(SLICE_EMPTY);
}

static void test_rpc_shows_peer_metadata_and_deadline(void **state)
{
    (void)state;
    const char *const version[] = {"client-api-version", "3.5"};
    grpc_client_call(client, "/test.Echo/Call", SLICE("x"), 5000, version, &reply);
    assert_echo(SLICE("x"));
    assert_int_equal(strncmp(fixture_seen().peer, "127.0.0.1:", 10), 0);
    assert_string_equal(fixture_seen().api_version, "3.5");
    /* gRPC rounds up, by its own cached idea of now. */
    assert_in_range(fixture_seen().time_left_ns, 3 * NS_PER_S, 6 * NS_PER_S);
    call("/test.Echo/Call", SLICE("x"));
    assert_true(fixture_seen().time_left_ns == UINT64_MAX);
}

static void test_rpc_passes_codes_and_texts_as_they_are(void **state)
{
    (void)state;
    call("/test.Echo/Fail", SLICE("\x0b"
                                  "etcdserver: mvcc: required revision has been compacted"));
    assert_reply(RPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
    call("/test.Echo/Fail", SLICE("\x03"
                                  "100 % \xc3\xa4\n"));
    assert_reply(RPC_INVALID_ARGUMENT, "100 % \xc3\xa4\n");
    call("/test.Echo/Fail", SLICE("\x10"));
    assert_reply(RPC_UNAUTHENTICATED, "");
    assert_null(reply.data);
}

static void test_rpc_names_what_it_does_not_know(void **state)
{
    (void)state;
    call("/test.Echo/Missing", SLICE("x"));
    assert_reply(RPC_UNIMPLEMENTED, "unknown method Missing for service test.Echo");
    call("/test.Nobody/Call", SLICE("x"));
    assert_reply(RPC_UNIMPLEMENTED, "unknown service test.Nobody");
    call("/test.Ech/Call", SLICE("x"));
    assert_reply(RPC_UNIMPLEMENTED, "unknown service test.Ech");
}

static void test_rpc_stream_may_be_refused_when_it_opens(void **state)
{
    (void)state;
    atomic_store(&fixture.refuses, true);
    struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Stream");
    grpc_stream_end(stream, &reply);
    assert_reply(RPC_UNAVAILABLE, "etcdserver: no leader");
    stream = grpc_stream_open(client, "/test.Echo/Stream");
    grpc_stream_write(stream, SLICE("x"));
    grpc_stream_end(stream, &reply);
    assert_reply(RPC_UNAVAILABLE, "etcdserver: no leader");
}

static void test_rpc_carries_large_messages_both_ways(void **state)
{
    (void)state;
    size_t size = REQUEST_BYTES_MAX;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i % 241);
    call("/test.Echo/Call", slice_make(bytes, size));
    assert_echo(slice_make(bytes, size));
    free(bytes);
    char wanted[16];
    snprintf(wanted, sizeof(wanted), "%u", 5 * REQUEST_BYTES_MAX);
    call("/test.Echo/Size", slice_from_str(wanted));
    assert_int_equal(reply.len, 5 * REQUEST_BYTES_MAX);
    for (size_t i = 0; i < reply.len; i++)
        assert_true(reply.data[i] == (uint8_t)(i % 251));
}

static void test_rpc_refuses_a_request_over_the_limit(void **state)
{
    (void)state;
    static uint8_t bytes[5 * REQUEST_BYTES_MAX]; /* 10 MiB */
    char expected[128];
    snprintf(expected, sizeof(expected), "grpc: received message larger than max (%u vs. %u)",
             REQUEST_BYTES_MAX + 1, REQUEST_BYTES_MAX);
    call("/test.Echo/Call", slice_make(bytes, REQUEST_BYTES_MAX + 1));
    assert_reply(RPC_RESOURCE_EXHAUSTED, expected);
    call("/test.Echo/Call", slice_make(bytes, sizeof(bytes)));
    assert_int_equal(reply.code, RPC_RESOURCE_EXHAUSTED);
    struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Stream");
    grpc_stream_write(stream, slice_make(bytes, REQUEST_BYTES_MAX + 1));
    grpc_stream_end(stream, &reply);
    assert_reply(RPC_RESOURCE_EXHAUSTED, expected);
    fixture_wait_cancels(1);
    call("/test.Echo/Call", SLICE("still here"));
    assert_echo(SLICE("still here"));
}

static void test_rpc_refuses_compressed_messages(void **state)
{
    (void)state;
    static uint8_t zeros[4096];
    struct grpc_client *compressing = grpc_client_new(fixture.port, true);
    grpc_client_call(compressing, "/test.Echo/Call", slice_make(zeros, sizeof(zeros)), 0, NULL,
                     &reply);
    assert_int_equal(reply.code, RPC_UNIMPLEMENTED);
    grpc_client_free(compressing);
}

static void test_rpc_deadline_cancels_the_call(void **state)
{
    (void)state;
    uint64_t start = fixture_now_ns();
    grpc_client_call(client, "/test.Echo/Wait", SLICE("x"), 300, NULL, &reply);
    assert_int_equal(reply.code, RPC_DEADLINE_EXCEEDED);
    assert_true(fixture_now_ns() - start >= 290 * NS_PER_MS);
    fixture_wait_cancels(1);
    struct rpc_call *late = fixture_wait_held();
    rpc_finish(late, RPC_OK, NULL, SLICE("nobody hears"));
    call("/test.Echo/Call", SLICE("x"));
    assert_echo(SLICE("x"));
}

/* What a service posts to an actor from on_cancel may be overtaken by the finish. */
static void test_rpc_ref_keeps_the_call_beyond_its_finish(void **state)
{
    (void)state;
    grpc_client_call(client, "/test.Echo/Wait", SLICE("remember"), 300, NULL, &reply);
    fixture_wait_cancels(1);
    struct rpc_call *held = fixture_wait_held();
    rpc_ref(held);
    struct slice message = held->message;
    rpc_finish_later(held, RPC_OK, NULL, SLICE_EMPTY);
    for (int i = 0; i < 50; i++)
        call("/test.Echo/Call", SLICE("someone else's"));
    assert_true(slice_eq(message, SLICE("remember")));
    rpc_unref(held);
}

static void test_rpc_stream_echoes_and_ends_after_the_half_close(void **state)
{
    (void)state;
    struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Stream");
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof(text), "message %d", i);
        assert_true(grpc_stream_write(stream, slice_from_str(text)));
        assert_true(grpc_stream_read(stream, &reply));
        assert_echo(slice_from_str(text));
        grpc_reply_free(&reply);
    }
    assert_true(grpc_stream_write(stream, SLICE_EMPTY)); /* empty is no half-close */
    assert_true(grpc_stream_read(stream, &reply));
    assert_int_equal(reply.len, 0);
    grpc_reply_free(&reply);
    assert_int_equal(fixture.half_closes, 0);
    grpc_stream_half_close(stream);
    assert_false(grpc_stream_read(stream, &reply));
    grpc_stream_end(stream, &reply);
    assert_reply(RPC_OK, "");
    assert_int_equal(fixture.half_closes, 1);
    assert_int_equal(fixture.cancels, 0);
}

static void test_rpc_again_delivers_once_more_what_was_held(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        call("/test.Echo/Later", SLICE("hold"));
        assert_echo(SLICE("hold"));
        grpc_reply_free(&reply);
        struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Stream");
        static const char *const texts[] = {"hold", "then", "hold"};
        for (int i = 0; i < 3; i++)
            assert_true(grpc_stream_write(stream, slice_from_str(texts[i])));
        for (int i = 0; i < 3; i++) {
            assert_true(grpc_stream_read(stream, &reply));
            assert_echo(slice_from_str(texts[i]));
            grpc_reply_free(&reply);
        }
        grpc_stream_half_close(stream);
        assert_false(grpc_stream_read(stream, &reply));
        grpc_stream_end(stream, &reply);
        assert_reply(RPC_OK, "");
    }
}

static void test_rpc_stream_finish_waits_for_the_message_in_flight(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Stream");
        assert_true(grpc_stream_write(stream, SLICE("last words")));
        grpc_stream_half_close(stream);
        assert_true(grpc_stream_read(stream, &reply));
        assert_echo(SLICE("last words"));
        grpc_reply_free(&reply);
        grpc_stream_end(stream, &reply);
        assert_reply(RPC_OK, "");
    }
}

static void test_rpc_server_stream_sends_and_ends_with_its_status(void **state)
{
    (void)state;
    struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Feed");
    assert_true(grpc_stream_write(stream, SLICE("hungry")));
    grpc_stream_half_close(stream);
    for (int i = 0; i < 10; i++) {
        assert_true(grpc_stream_read(stream, &reply));
        assert_echo(SLICE("food"));
        grpc_reply_free(&reply);
    }
    assert_false(grpc_stream_read(stream, &reply));
    grpc_stream_end(stream, &reply);
    assert_reply(RPC_OUT_OF_RANGE, "no more");
}

static void test_rpc_stream_cancel_is_no_half_close(void **state)
{
    (void)state;
    struct grpc_stream *stream = grpc_stream_open(client, "/test.Echo/Hold");
    assert_true(grpc_stream_write(stream, SLICE("x")));
    fixture_wait_held();
    grpc_stream_cancel(stream);
    grpc_stream_end(stream, &reply);
    fixture_wait_cancels(1);
    assert_int_equal(fixture.half_closes, 0);
}

#define BURST_STREAMS (RPC_BURST_PART_MAX + 20)

/* Opens streams and sends a message to all of them at once. */
static void send_burst(struct grpc_stream *streams[BURST_STREAMS],
                       struct rpc_call *calls[BURST_STREAMS])
{
    for (uint32_t i = 0; i < BURST_STREAMS; i++) {
        streams[i] = grpc_stream_open(client, "/test.Echo/Hold");
        assert_true(grpc_stream_write(streams[i], SLICE("x")));
        calls[i] = fixture_wait_held();
    }
    struct rpc_burst burst = {0};
    const struct rpc_piece piece = {.bytes = SLICE("to all")};
    for (uint32_t i = 0; i < BURST_STREAMS; i++)
        assert_int_equal(rpc_send_pieces(calls[i], &piece, 1, &burst), ST_OK);
    assert_int_equal(burst.count, BURST_STREAMS);
    rpc_burst_end(&burst);
}

static void test_rpc_burst_comes_to_every_stream(void **state)
{
    (void)state;
    struct grpc_stream *streams[BURST_STREAMS];
    struct rpc_call *calls[BURST_STREAMS];
    send_burst(streams, calls);
    call("/test.Echo/Later", SLICE("beside"));
    assert_echo(SLICE("beside"));
    for (uint32_t i = 0; i < BURST_STREAMS; i++) {
        assert_true(grpc_stream_read(streams[i], &reply));
        assert_int_equal(reply.len, 6);
        assert_memory_equal(reply.data, "to all", 6);
        rpc_finish(calls[i], RPC_OK, NULL, SLICE_EMPTY);
        assert_false(grpc_stream_read(streams[i], &reply));
        grpc_stream_end(streams[i], &reply);
        assert_int_equal(reply.code, RPC_OK);
    }
}

static void test_rpc_stop_cancels_streams_in_a_burst(void **state)
{
    (void)state;
    struct grpc_stream *streams[BURST_STREAMS];
    struct rpc_call *calls[BURST_STREAMS];
    send_burst(streams, calls);
    assert_int_equal(rpc_server_stop(fixture.server, 0, 60000), ST_OK);
    assert_int_equal(fixture.cancels, BURST_STREAMS);
    for (uint32_t i = 0; i < BURST_STREAMS; i++) {
        while (grpc_stream_read(streams[i], &reply)) {
            /* it was sent before the stop */
        }
        grpc_stream_end(streams[i], &reply);
    }
}

static void test_rpc_stop_cancels_what_does_not_end(void **state)
{
    (void)state;
    struct grpc_stream *streams[20];
    for (int i = 0; i < 20; i++) {
        streams[i] = grpc_stream_open(client, "/test.Echo/Hold");
        assert_true(grpc_stream_write(streams[i], SLICE("x")));
        fixture_wait_held();
    }
    uint64_t start = fixture_now_ns();
    assert_int_equal(rpc_server_stop(fixture.server, 50, 10000), ST_OK);
    assert_true(fixture_now_ns() - start < 5 * NS_PER_S);
    assert_int_equal(fixture.cancels, 20);
    for (int i = 0; i < 20; i++)
        grpc_stream_end(streams[i], &reply);
}

static void *call_wait(void *context)
{
    struct grpc_reply *out = context;
    grpc_client_call(client, "/test.Echo/Wait", SLICE("x"), 0, NULL, out);
    return NULL;
}

static void test_rpc_stop_says_when_a_service_holds_on(void **state)
{
    (void)state;
    pthread_t thread;
    struct grpc_reply late = {0};
    assert_int_equal(pthread_create(&thread, NULL, call_wait, &late), 0);
    struct rpc_call *held = fixture_wait_held();
    assert_int_equal(rpc_server_stop(fixture.server, 10, 10), ST_BUSY);
    fixture_wait_cancels(1);
    rpc_finish(held, RPC_UNAVAILABLE, "etcdserver: server stopped", SLICE_EMPTY);
    assert_int_equal(rpc_server_stop(fixture.server, 10, 10000), ST_OK);
    pthread_join(thread, NULL);
}

/* Calls under way when the stop begins still get their answers. */
static void test_rpc_stop_lets_calls_finish_within_the_grace(void **state)
{
    (void)state;
    pthread_t thread;
    struct grpc_reply late = {0};
    assert_int_equal(pthread_create(&thread, NULL, call_wait, &late), 0);
    struct rpc_call *held = fixture_wait_held();
    rpc_finish_later(held, RPC_OK, NULL, SLICE("made it"));
    assert_int_equal(rpc_server_stop(fixture.server, 10000, 10000), ST_OK);
    pthread_join(thread, NULL);
    assert_int_equal(late.code, RPC_OK);
    assert_string_equal((const char *)late.data, "made it");
    grpc_reply_free(&late);
}

static void *call_many(void *context)
{
    struct grpc_client *own = grpc_client_new(fixture.port, false);
    for (int i = 0; i < *(const int *)context; i++) {
        struct grpc_reply got = {0};
        grpc_client_call(own, i % 2 == 0 ? "/test.Echo/Later" : "/test.Echo/Call", SLICE("many"), 0,
                         NULL, &got);
        ASSERT(got.code == RPC_OK);
        grpc_reply_free(&got);
        if (i % 10 == 0) {
            grpc_client_call(own, "/test.Echo/Wait", SLICE("x"), 1, NULL, &got);
            grpc_reply_free(&got);
        }
    }
    grpc_client_free(own);
    return NULL;
}

static void *finish_held(void *context)
{
    atomic_bool *over = context;
    while (!atomic_load(over)) {
        struct rpc_call *held = fixture_take_held();
        if (held != NULL)
            rpc_finish(held, RPC_OK, NULL, SLICE("late"));
        sched_yield();
    }
    return NULL;
}

/* Answers, deadlines and finishes race on all threads; the sanitizers watch. */
static void test_rpc_survives_races_of_finish_and_cancel(void **state)
{
    (void)state;
    int calls = 200;
    pthread_t finisher, caller;
    atomic_bool over = false;
    assert_int_equal(pthread_create(&finisher, NULL, finish_held, &over), 0);
    assert_int_equal(pthread_create(&caller, NULL, call_many, &calls), 0);
    for (int i = 0; i < 200; i++) {
        call("/test.Echo/Later", SLICE("beside"));
        assert_echo(SLICE("beside"));
    }
    pthread_join(caller, NULL);
    atomic_store(&over, true);
    pthread_join(finisher, NULL);
    struct rpc_call *held;
    while ((held = fixture_take_held()) != NULL)
        rpc_finish(held, RPC_OK, NULL, SLICE_EMPTY);
}

static void test_rpc_counts_calls_as_etcd_does(void **state)
{
    (void)state;
    const char *const version[] = {"client-api-version", "3.4"};
    grpc_client_call(client, "/test.Echo/Call", SLICE("12345"), 0, version, &reply);
    call("/test.Echo/Fail", SLICE("\x05"));
    struct buf text;
    buf_init(&text, 1U << 20);
    assert_int_equal(metrics_render(&text), ST_OK);
    assert_int_equal(buf_append(&text, slice_make("", 1)), ST_OK);
    static const char *const lines[] = {
        "\ngrpc_server_started_total{grpc_method=\"Call\",grpc_service=\"test.Echo\",grpc_type="
        "\"unary\"} 1\n",
        "\ngrpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Call\",grpc_service=\"test."
        "Echo\",grpc_type=\"unary\"} 1\n",
        "\ngrpc_server_handled_total{grpc_code=\"NotFound\",grpc_method=\"Fail\",grpc_service="
        "\"test.Echo\",grpc_type=\"unary\"} 1\n",
        "\ngrpc_server_msg_received_total{grpc_method=\"Stream\",grpc_service=\"test.Echo\",grpc_"
        "type=\"bidi_stream\"} 0\n",
        "\ngrpc_server_handling_seconds_count{grpc_method=\"Call\",grpc_service=\"test.Echo\","
        "grpc_type=\"unary\"} 1\n",
        "\ngrpc_server_handling_seconds_count{grpc_method=\"Fail\",grpc_service=\"test.Echo\","
        "grpc_type=\"unary\"} 1\n",
        "\ngrpc_server_handling_seconds_count{grpc_method=\"Stream\",grpc_service=\"test.Echo\","
        "grpc_type=\"bidi_stream\"} 0\n",
        "\ngrpc_server_handling_seconds_bucket{grpc_method=\"Call\",grpc_service=\"test.Echo\","
        "grpc_type=\"unary\",le=\"10\"} 1\n",
        "\netcd_network_client_grpc_received_bytes_total 6\n",
        "\netcd_network_client_grpc_sent_bytes_total 5\n",
        "\netcd_server_client_requests_total{client_api_version=\"3.4\",type=\"unary\"} 1\n",
        "\netcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 2\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr((const char *)text.data, lines[i]) == NULL)
            fail_msg("no line %s", lines[i]);
    }
    buf_deinit(&text);
}

/* Runs it to its end; its exit status. */
static int run_etcdctl(const char *const words[])
{
    char endpoint[32];
    snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", fixture.port);
    const char *argv[8] = {"etcdctl", "--endpoints", endpoint};
    for (size_t i = 0; words[i] != NULL; i++)
        argv[3 + i] = words[i];
    char *const environment[] = {(char *)"ETCDCTL_API=3", NULL};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    int status = -1;
    assert_int_equal(
        posix_spawn(&pid, "/usr/bin/etcdctl", &files, NULL, (char *const *)argv, environment), 0);
    posix_spawn_file_actions_destroy(&files);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_rpc_serves_debians_etcdctl(void **state)
{
    (void)state;
    if (access("/usr/bin/etcdctl", X_OK) != 0)
        skip();
    const char *const put[] = {"put", "a", "b", NULL};
    const char *const get[] = {"get", "a", NULL};
    assert_int_equal(run_etcdctl(put), 0);
    assert_int_equal(run_etcdctl(get), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rpc_answers_on_the_poller_and_from_an_actor),
        TEST(test_rpc_shows_peer_metadata_and_deadline),
        TEST(test_rpc_passes_codes_and_texts_as_they_are),
        TEST(test_rpc_names_what_it_does_not_know),
        TEST(test_rpc_stream_may_be_refused_when_it_opens),
        TEST(test_rpc_carries_large_messages_both_ways),
        TEST(test_rpc_refuses_a_request_over_the_limit),
        TEST(test_rpc_refuses_compressed_messages),
        TEST(test_rpc_deadline_cancels_the_call),
        TEST(test_rpc_ref_keeps_the_call_beyond_its_finish),
        TEST(test_rpc_stream_echoes_and_ends_after_the_half_close),
        TEST(test_rpc_again_delivers_once_more_what_was_held),
        TEST(test_rpc_stream_finish_waits_for_the_message_in_flight),
        TEST(test_rpc_server_stream_sends_and_ends_with_its_status),
        TEST(test_rpc_stream_cancel_is_no_half_close),
        TEST(test_rpc_burst_comes_to_every_stream),
        TEST(test_rpc_stop_cancels_streams_in_a_burst),
        TEST(test_rpc_stop_cancels_what_does_not_end),
        TEST(test_rpc_stop_says_when_a_service_holds_on),
        TEST(test_rpc_stop_lets_calls_finish_within_the_grace),
        TEST(test_rpc_survives_races_of_finish_and_cancel),
        TEST(test_rpc_counts_calls_as_etcd_does),
        TEST(test_rpc_serves_debians_etcdctl),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    grpc_reply_free(&reply);
    return failed;
}
