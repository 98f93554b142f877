#include "tools/client/client.h"

#include "tests/client/echo_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
    struct echo_server *server;
    struct client *client;
    struct client_stream *stream;
    uint32_t messages, wrong, ends, code;
    size_t bytes, bytes_each;
    bool cancels; /* at its third message */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->server = echo_server_start();
    struct client_options options = {.endpoints = echo_server_endpoint(f->server)};
    assert_int_equal(client_open(&options, &f->client), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(f->client);
    echo_server_stop(f->server);
    free(f);
    return 0;
}

/* Counts; a message's bytes have all to be its number. */
static void on_message(void *context, struct slice body)
{
    struct fixture *f = context;
    for (size_t i = 0; i < body.len; i++)
        f->wrong += body.data[i] != (uint8_t)f->messages;
    f->wrong += body.len != f->bytes_each;
    f->messages++;
    f->bytes += body.len;
    if (f->cancels && f->messages == 3)
        client_stream_cancel(f->stream);
}

static void on_ended(void *context, const struct client_reply *reply)
{
    struct fixture *f = context;
    f->ends++;
    f->code = reply->code;
    f->stream = NULL;
}

static void open_stream(struct fixture *f, const char *method, uint64_t timeout_ms)
{
    struct client_request request = {.method = method, .timeout_ms = timeout_ms};
    struct client_stream_events events = {on_message, on_ended, f};
    assert_int_equal(client_stream_open(f->client, &request, &events, &f->stream), ST_OK);
    assert_non_null(f->stream);
}

static void run_to_the_end(struct fixture *f)
{
    for (uint32_t i = 0; i < 1000 && f->ends == 0; i++)
        client_poll(f->client, 1000);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->wrong, 0);
    assert_int_equal(client_poll(f->client, 1000), 0);
}

static void test_stream_returns_every_message_in_order(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/stream", 30000);
    f->bytes_each = 100;
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t bytes[100];
        memset(bytes, (int)i, sizeof(bytes));
        assert_int_equal(client_stream_send(f->stream, slice_make(bytes, sizeof(bytes))), ST_OK);
    }
    client_stream_finish(f->stream);
    assert_int_equal(client_stream_send(f->stream, SLICE("late")), ST_INVALID);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_OK);
    assert_int_equal(f->messages, 200);
}

/* As a watcher does: send, wait for the answer, send again. */
static void test_stream_goes_back_and_forth(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/stream", 30000);
    f->bytes_each = 1;
    for (uint8_t i = 0; i < 20; i++) {
        assert_int_equal(client_stream_send(f->stream, slice_make(&i, 1)), ST_OK);
        while (f->messages <= i)
            client_poll(f->client, 1000);
    }
    client_stream_cancel(f->stream);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_CANCELED);
}

/* What a snapshot is: one request, then messages larger than gRPC's usual limit of 4 MiB. */
static void test_stream_receives_large_messages(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/many", 30000);
    f->bytes_each = 6U << 20;
    assert_int_equal(client_stream_send(f->stream, SLICE("5 6291456")), ST_OK);
    client_stream_finish(f->stream);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_OK);
    assert_int_equal(f->messages, 5);
    assert_int_equal(f->bytes, 30U << 20);
}

static void test_stream_ends_when_canceled_at_a_message(void **state)
{
    struct fixture *f = *state;
    f->cancels = true;
    f->bytes_each = 10;
    open_stream(f, "/many", 30000);
    assert_int_equal(client_stream_send(f->stream, SLICE("100000 10")), ST_OK);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_CANCELED);
    assert_in_range(f->messages, 3, 5);
}

static void test_stream_ends_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/stream", 50);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_DEADLINE_EXCEEDED);
}

static void test_stream_ends_with_the_servers_status(void **state)
{
    struct fixture *f = *state;
    echo_server_fail_next(f->server, 1, CLIENT_UNAVAILABLE, "etcdserver: no leader");
    open_stream(f, "/many", 30000);
    assert_int_equal(client_stream_send(f->stream, SLICE("1 1")), ST_OK);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_UNAVAILABLE);
}

static void test_stream_to_nobody_is_unavailable(void **state)
{
    struct fixture *f = *state;
    client_close(f->client);
    struct client_options options = {.endpoints = "127.0.0.1:1"};
    assert_int_equal(client_open(&options, &f->client), ST_OK);
    open_stream(f, "/stream", 30000);
    assert_int_equal(client_stream_send(f->stream, SLICE("x")), ST_OK);
    assert_int_equal(client_stream_send(f->stream, SLICE("y")), ST_OK);
    run_to_the_end(f);
    assert_int_equal(f->code, CLIENT_UNAVAILABLE);
}

static void test_stream_is_canceled_when_the_client_closes(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/stream", 0);
    assert_int_equal(client_stream_send(f->stream, SLICE("x")), ST_OK);
    client_close(f->client);
    f->client = NULL;
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->code, CLIENT_CANCELED);
}

/* A reader that never comes back must not let the queue grow for ever. */
static void test_stream_send_has_a_limit(void **state)
{
    struct fixture *f = *state;
    open_stream(f, "/hang", 0);
    size_t len = 8U << 20;
    uint8_t *bytes = calloc(1, len);
    enum status st = ST_OK;
    uint32_t sent = 0;
    for (; st == ST_OK && sent < 100; sent++)
        st = client_stream_send(f->stream, slice_make(bytes, len));
    assert_int_equal(st, ST_TOO_BIG);
    assert_int_equal(sent, CLIENT_STREAM_UNSENT_MAX / len + 1);
    free(bytes);
    client_stream_cancel(f->stream);
    run_to_the_end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stream_returns_every_message_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stream_goes_back_and_forth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_receives_large_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_ends_when_canceled_at_a_message, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stream_ends_at_its_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_ends_with_the_servers_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_to_nobody_is_unavailable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_is_canceled_when_the_client_closes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stream_send_has_a_limit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
