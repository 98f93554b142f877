#include "tools/client/client.h"

#include "tests/client/echo_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CALLS 500U

struct fixture {
    struct echo_server *server;
    struct client *client;
    struct arena arena;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->server = echo_server_start();
    arena_init(&f->arena, 32U << 20);
    struct client_options options = {.endpoints = echo_server_endpoint(f->server),
                                     .connections_per_endpoint = 3};
    assert_int_equal(client_open(&options, &f->client), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(f->client);
    echo_server_stop(f->server);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

static struct client_reply call(struct fixture *f, const char *method, struct slice body,
                                uint64_t timeout_ms)
{
    struct client_request request = {.method = method, .body = body, .timeout_ms = timeout_ms};
    struct client_reply reply;
    assert_int_equal(client_call(f->client, &request, &f->arena, &reply), ST_OK);
    return reply;
}

static void test_client_call_returns_the_body(void **state)
{
    struct fixture *f = *state;
    struct client_reply reply = call(f, "/echo", SLICE("hello"), 10000);
    assert_int_equal(reply.code, CLIENT_OK);
    assert_true(slice_eq(reply.body, SLICE("hello")));
    assert_int_equal(reply.text.len, 0);
}

/* Such a body arrives in many slices. */
static void test_client_call_returns_a_large_body_whole(void **state)
{
    struct fixture *f = *state;
    size_t len = 9U << 20;
    uint8_t *bytes = malloc(len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 4096);
    struct client_reply reply = call(f, "/echo", slice_make(bytes, len), 30000);
    assert_int_equal(reply.code, CLIENT_OK);
    assert_true(slice_eq(reply.body, slice_make(bytes, len)));
    free(bytes);
}

static void test_client_call_over_the_arena_is_too_big(void **state)
{
    struct fixture *f = *state;
    struct arena small;
    arena_init(&small, 4096);
    static uint8_t bytes[8192];
    struct client_request request = {
        .method = "/echo", .body = slice_make(bytes, sizeof(bytes)), .timeout_ms = 10000};
    struct client_reply reply;
    assert_int_equal(client_call(f->client, &request, &small, &reply), ST_TOO_BIG);
    arena_deinit(&small);
}

static void test_client_call_returns_code_and_text_of_an_error(void **state)
{
    struct fixture *f = *state;
    struct client_reply reply = call(f, "/fail", SLICE("etcdserver: key is not provided"), 10000);
    assert_int_equal(reply.code, CLIENT_INVALID_ARGUMENT);
    assert_true(slice_eq(reply.text, SLICE("etcdserver: key is not provided")));
    assert_int_equal(reply.body.len, 0);
    /* A text short enough to lie inside gRPC's slice itself. */
    reply = call(f, "/fail", SLICE("no"), 10000);
    assert_true(slice_eq(reply.text, SLICE("no")));
}

static void test_client_call_ends_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct client_reply reply = call(f, "/hang", SLICE("x"), 50);
    assert_int_equal(reply.code, CLIENT_DEADLINE_EXCEEDED);
}

static void test_client_call_carries_its_metadata(void **state)
{
    struct fixture *f = *state;
    const struct client_metadata metadata[] = {
        {SLICE("hasleader"), SLICE("true")},
        {SLICE("token"), SLICE("a-token-longer-than-a-slice-holds-in-itself.7")}};
    struct client_request request = {
        .method = "/metadata", .timeout_ms = 10000, .metadata = metadata, .metadata_count = 2};
    struct client_reply reply;
    assert_int_equal(client_call(f->client, &request, &f->arena, &reply), ST_OK);
    assert_int_equal(reply.code, CLIENT_OK);
    assert_true(
        slice_eq(reply.body,
                 SLICE("hasleader=true\ntoken=a-token-longer-than-a-slice-holds-in-itself.7\n")));
}

static void test_client_is_connected_once_it_has_waited(void **state)
{
    struct fixture *f = *state;
    bool connected = false;
    for (uint32_t i = 0; i < 5000 && !connected; i++) {
        connected = client_is_connected(f->client, 2);
        client_wait(f->client, 1);
    }
    assert_true(connected);
    struct client_options options = {.endpoints = "127.0.0.1:1"};
    struct client *client = NULL;
    assert_int_equal(client_open(&options, &client), ST_OK);
    for (uint32_t i = 0; i < 10; i++) {
        assert_false(client_is_connected(client, 0));
        client_wait(client, 1);
    }
    client_close(client);
}

static void test_client_call_to_a_closed_port_is_unavailable(void **state)
{
    struct fixture *f = *state;
    struct client_options options = {.endpoints = "127.0.0.1:1"};
    struct client *client = NULL;
    assert_int_equal(client_open(&options, &client), ST_OK);
    struct client_request request = {.method = "/echo", .body = SLICE("x"), .timeout_ms = 10000};
    struct client_reply reply;
    assert_int_equal(client_call(client, &request, &f->arena, &reply), ST_OK);
    assert_int_equal(reply.code, CLIENT_UNAVAILABLE);
    client_close(client);
}

struct counter {
    struct client *client;
    uint32_t to_start, done_count, wrong_count;
};

/* One of many chains of calls: each done starts the next and checks its own number. */
struct chain {
    struct counter *counter;
    uint32_t number;
};

static void next_call(void *context, const struct client_reply *reply)
{
    struct chain *chain = context;
    struct counter *counter = chain->counter;
    if (reply != NULL) {
        counter->done_count++;
        if (reply->code != CLIENT_OK ||
            !slice_eq(reply->body, slice_make(&chain->number, sizeof(chain->number))))
            counter->wrong_count++;
    }
    if (counter->to_start == 0)
        return;
    chain->number = counter->to_start--;
    struct client_request request = {.method = "/echo",
                                     .body = slice_make(&chain->number, sizeof(chain->number)),
                                     .timeout_ms = 30000,
                                     .connection = chain->number};
    assert_int_equal(client_start(counter->client, &request, next_call, chain), ST_OK);
}

static void test_client_start_keeps_many_calls_apart(void **state)
{
    struct fixture *f = *state;
    struct counter counter = {.client = f->client, .to_start = CALLS};
    struct chain chains[32];
    for (uint32_t i = 0; i < 32; i++) {
        chains[i] = (struct chain){.counter = &counter};
        next_call(&chains[i], NULL);
    }
    assert_int_equal(client_in_flight(f->client), 32);
    while (client_in_flight(f->client) > 0)
        client_poll(f->client, 1000);
    assert_int_equal(counter.done_count, CALLS);
    assert_int_equal(counter.wrong_count, 0);
    assert_int_equal(client_poll(f->client, 1000), 0);
}

/* The owner of a hanging call that, told of its end, tries to start another. */
static void count_canceled(void *context, const struct client_reply *reply)
{
    struct counter *counter = context;
    counter->done_count++;
    if (reply->code != CLIENT_CANCELED)
        counter->wrong_count++;
    struct client_request request = {.method = "/hang", .body = SLICE("x")};
    assert_int_equal(client_start(counter->client, &request, count_canceled, counter), ST_CANCELED);
}

static void test_client_close_cancels_what_is_in_flight(void **state)
{
    struct fixture *f = *state;
    struct counter counter = {.client = f->client};
    for (uint32_t i = 0; i < 10; i++) {
        struct client_request request = {.method = "/hang", .body = SLICE("x"), .connection = i};
        assert_int_equal(client_start(f->client, &request, count_canceled, &counter), ST_OK);
    }
    client_close(f->client);
    f->client = NULL;
    assert_int_equal(counter.done_count, 10);
    assert_int_equal(counter.wrong_count, 0);
}

static void test_client_open_refuses_what_it_cannot_use(void **state)
{
    (void)state;
    static const struct {
        const char *endpoints;
        uint32_t connections;
        enum status expected;
    } cases[] = {
        {"", 1, ST_INVALID},
        {"localhost", 1, ST_INVALID},
        {"http://", 1, ST_INVALID},
        {"127.0.0.1:1,", 1, ST_INVALID},
        {"https://", 1, ST_INVALID},
        {"unix://", 1, ST_INVALID},
        {"127.0.0.1:1", CLIENT_CONNECTIONS_MAX + 1, ST_TOO_BIG},
        {"127.0.0.1:1,127.0.0.1:2", CLIENT_CONNECTIONS_MAX / 2 + 1, ST_TOO_BIG},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client_options options = {.endpoints = cases[i].endpoints,
                                         .connections_per_endpoint = cases[i].connections};
        struct client *client = NULL;
        assert_int_equal(client_open(&options, &client), cases[i].expected);
        assert_null(client);
    }
    struct client *client = NULL;
    struct client_options options = {.endpoints = "http://127.0.0.1:1/,localhost:2,unix:///x",
                                     .connections_per_endpoint = 4};
    assert_int_equal(client_open(&options, &client), ST_OK);
    assert_int_equal(client_connections_count(client), 12);
    client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_client_call_returns_the_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_call_returns_a_large_body_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_client_call_over_the_arena_is_too_big, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_client_call_returns_code_and_text_of_an_error, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_client_call_ends_at_its_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_call_carries_its_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_is_connected_once_it_has_waited, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_client_call_to_a_closed_port_is_unavailable, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_client_start_keeps_many_calls_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_close_cancels_what_is_in_flight, setup,
                                        teardown),
        cmocka_unit_test(test_client_open_refuses_what_it_cannot_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
