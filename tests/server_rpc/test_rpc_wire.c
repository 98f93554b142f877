/* What comes over the wire when the client is broken, hostile or gone: raw bytes, no library. After
 * each of them the server must still answer. */
#include "tests/server_rpc/fixture.h"
#include "tests/server_rpc/grpc_client.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/listener.h"

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum frame_type {
    DATA = 0,
    HEADERS = 1,
    RST_STREAM = 3,
    SETTINGS = 4,
    PING = 6,
    GOAWAY = 7,
    WINDOW_UPDATE = 8
};
enum { END_STREAM = 1, END_HEADERS = 4 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static void put(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server has had enough */
        at += n;
        len -= (size_t)n;
    }
}

static void put_frame(int fd, enum frame_type type, uint8_t flags, uint32_t stream,
                      struct slice payload)
{
    uint8_t head[9] = {(uint8_t)(payload.len >> 16), (uint8_t)(payload.len >> 8),
                       (uint8_t)payload.len, (uint8_t)type, flags};
    put_be32(head + 5, stream);
    put(fd, head, sizeof(head));
    put(fd, payload.data, payload.len);
}

/* Literal headers without indexing or Huffman coding (RFC 7541, 6.2.2). */
static void put_headers(int fd, uint32_t stream, const char *path, const char *content_type)
{
    const char *const pairs[] = {":method",      "POST",       ":scheme",    "http",
                                 ":path",        path,         "te",         "trailers",
                                 "content-type", content_type, ":authority", "x"};
    static const size_t order[] = {0, 2, 4, 10, 6, 8};
    uint8_t block[512];
    size_t len = 0;
    for (size_t i = 0; i < 6; i++) {
        block[len++] = 0;
        for (size_t part = 0; part < 2; part++) {
            size_t size = strlen(pairs[order[i] + part]);
            block[len++] = (uint8_t)size;
            memcpy(block + len, pairs[order[i] + part], size);
            len += size;
        }
    }
    put_frame(fd, HEADERS, END_HEADERS, stream, slice_make(block, len));
}

static int dial_http2(void)
{
    int fd = fixture_dial();
    put(fd, PREFACE, strlen(PREFACE));
    put_frame(fd, SETTINGS, 0, 0, SLICE_EMPTY);
    return fd;
}

static bool take(int fd, uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, out, len, 0);
        if (n <= 0)
            return false;
        out += n;
        len -= (size_t)n;
    }
    return true;
}

struct frame {
    uint8_t type, flags;
    uint32_t stream;
    uint8_t payload[64 << 10];
    size_t len;
};

static bool await_any_frame(int fd, struct frame *out)
{
    uint8_t head[9];
    if (!take(fd, head, sizeof(head)))
        return false;
    out->len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    out->type = head[3];
    out->flags = head[4];
    out->stream = get_be32(head + 5);
    return out->len <= sizeof(out->payload) && take(fd, out->payload, out->len);
}

/* Reads frames until one of the type; false when the connection ends first. */
static bool await_frame(int fd, enum frame_type type, struct frame *out)
{
    while (await_any_frame(fd, out)) {
        if (out->type == type)
            return true;
    }
    return false;
}

static void assert_alive(void)
{
    struct grpc_client *client = grpc_client_new(fixture.port, false);
    struct grpc_reply reply = {0};
    grpc_client_call(client, "/test.Echo/Call", SLICE("alive?"), 0, NULL, &reply);
    assert_int_equal(reply.code, RPC_OK);
    grpc_reply_free(&reply);
    grpc_client_free(client);
}

/* The call ends with a status that is not 0, and the connection may live on. */
static void assert_call_fails(const char *content_type, struct slice data, uint8_t flags)
{
    int fd = dial_http2();
    put_headers(fd, 1, "/test.Echo/Call", content_type);
    put_frame(fd, DATA, flags, 1, data);
    struct frame frame = {0};
    while (await_frame(fd, HEADERS, &frame) && (frame.flags & END_STREAM) == 0)
        ;
    assert_null(memmem(frame.payload, frame.len,
                       "grpc-status\x01"
                       "0",
                       13));
    close(fd);
    assert_alive();
}

static void test_wire_answers_malformed_messages_with_an_error(void **state)
{
    (void)state;
    /* A message announced, never sent. */
    assert_call_fails("application/grpc", SLICE("\0\0\0\1\0abc"), END_STREAM);
    /* Half a message head; no message at all. */
    assert_call_fails("application/grpc", SLICE("\0\0"), END_STREAM);
    assert_call_fails("application/grpc", SLICE_EMPTY, END_STREAM);
}

static void test_wire_answers_wrong_content_types(void **state)
{
    (void)state;
    static const char *const types[] = {"text/html", "application/json", "x"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        int fd = dial_http2();
        put_headers(fd, 1, "/test.Echo/Call", types[i]);
        put_frame(fd, DATA, END_STREAM, 1, SLICE("<html>"));
        put_frame(fd, PING, 0, 0, SLICE("12345678"));
        struct frame frame;
        assert_true(await_frame(fd, PING, &frame) || frame.type == GOAWAY);
        close(fd);
        assert_alive();
    }
}

static void test_wire_lives_on_after_broken_http2(void **state)
{
    (void)state;
    uint8_t noise[4096];
    uint64_t seed = 88172645463325252U;
    for (int round = 0; round < 50; round++) {
        int fd = round % 2 == 0 ? dial_http2() : fixture_dial();
        if (round % 2 != 0)
            put(fd, PREFACE, strlen(PREFACE) - (size_t)(round % 7));
        for (size_t i = 0; i < sizeof(noise); i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            noise[i] = (uint8_t)seed;
        }
        put(fd, noise, sizeof(noise));
        shutdown(fd, SHUT_WR);
        struct frame frame;
        while (await_frame(fd, GOAWAY, &frame))
            ;
        close(fd);
    }
    int fd = dial_http2(); /* a frame over every limit */
    uint8_t head[9] = {0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1};
    put(fd, head, sizeof(head));
    struct frame frame;
    await_frame(fd, GOAWAY, &frame);
    close(fd);
    assert_alive();
}

static void test_wire_reset_in_the_middle_of_a_call_cancels_it(void **state)
{
    (void)state;
    int fd = dial_http2();
    put_headers(fd, 1, "/test.Echo/Wait", "application/grpc");
    put_frame(fd, DATA, END_STREAM, 1, SLICE("\0\0\0\0\1a"));
    struct rpc_call *first = fixture_wait_held();
    put_frame(fd, RST_STREAM, 0, 1, SLICE("\0\0\0\x08"));
    fixture_wait_cancels(1);
    rpc_finish(first, RPC_OK, NULL, SLICE("too late"));
    put_headers(fd, 3, "/test.Echo/Wait", "application/grpc");
    put_frame(fd, DATA, END_STREAM, 3, SLICE("\0\0\0\0\1a"));
    struct rpc_call *second = fixture_wait_held();
    close(fd); /* and now the whole connection */
    fixture_wait_cancels(2);
    rpc_finish_later(second, RPC_OK, NULL, SLICE("too late"));
    assert_alive();
}

/* A client that pings all the time without a call gets ENHANCE_YOUR_CALM, as from etcd. */
static void test_wire_sends_ping_floods_away(void **state)
{
    (void)state;
    int fd = dial_http2();
    for (int i = 0; i < 20; i++)
        put_frame(fd, PING, 0, 0, SLICE("12345678"));
    struct frame frame;
    assert_true(await_frame(fd, GOAWAY, &frame));
    assert_true(frame.len >= 8);
    assert_int_equal(get_be32(frame.payload + 4), 11);
    assert_non_null(memmem(frame.payload, frame.len, "too_many_pings", 14));
    close(fd);
    assert_alive();
}

/* Feeds one endless message to the window that the server opens; how much it took before it reset
 * the call. */
static size_t feed_until_reset(int fd, size_t give_up_bytes)
{
    static const uint8_t bytes[16384];
    int64_t stream_window = 65535 - 5, window = 65535 - 5;
    size_t fed = 0;
    struct frame frame;
    while (fed < give_up_bytes) {
        if (stream_window >= (int64_t)sizeof(bytes) && window >= (int64_t)sizeof(bytes)) {
            put_frame(fd, DATA, 0, 1, slice_make(bytes, sizeof(bytes)));
            fed += sizeof(bytes);
            stream_window -= (int64_t)sizeof(bytes);
            window -= (int64_t)sizeof(bytes);
            continue;
        }
        if (!await_any_frame(fd, &frame) || frame.type == RST_STREAM || frame.type == GOAWAY)
            break;
        if (frame.type == WINDOW_UPDATE && frame.stream == 0)
            window += get_be32(frame.payload);
        else if (frame.type == WINDOW_UPDATE)
            stream_window += get_be32(frame.payload);
        for (size_t at = 0; frame.type == SETTINGS && at + 6 <= frame.len; at += 6) {
            if (frame.payload[at + 1] == 4) /* INITIAL_WINDOW_SIZE */
                stream_window += (int64_t)get_be32(frame.payload + at + 2) - 65535;
        }
    }
    return fed;
}

/* A message of a gibibyte would be held to its end before its size is looked at. */
static void test_wire_stops_a_message_that_would_eat_the_memory(void **state)
{
    (void)state;
    int fd = dial_http2();
    put_headers(fd, 1, "/test.Echo/Call", "application/grpc");
    put_frame(fd, DATA, 0, 1, SLICE("\0\x40\0\0\0"));
    size_t fed = feed_until_reset(fd, 256U << 20);
    assert_in_range(fed, 1U << 20, 128U << 20);
    close(fd);
    assert_alive();
}

static void wait_files(unsigned expected)
{
    uint64_t give_up = fixture_now_ns() + 20 * NS_PER_S;
    while (fixture_count_files() > expected && fixture_now_ns() < give_up)
        sched_yield();
    assert_in_range(fixture_count_files(), 0, expected);
}

static void test_wire_churn_leaks_no_file(void **state)
{
    (void)state;
    assert_alive();
    unsigned before = fixture_count_files();
    for (int i = 0; i < 1000; i++) {
        int fd = i % 3 == 0 ? dial_http2() : fixture_dial();
        if (i % 3 == 1)
            put(fd, "GET / HTTP/1.1\r\n\r\n", 18);
        if (i % 3 == 2 && i % 2 == 0)
            put(fd, "PR", 2);
        close(fd);
    }
    assert_alive();
    wait_files(before);
    assert_true(atomic_load(&fixture.http1_connections) > 0);
}

static void test_acceptor_waits_for_a_slow_preface(void **state)
{
    (void)state;
    int fd = fixture_dial();
    const char *preface = PREFACE;
    for (size_t i = 0; i < strlen(PREFACE); i++)
        put(fd, preface + i, 1);
    put_frame(fd, SETTINGS, 0, 0, SLICE_EMPTY);
    struct frame frame;
    assert_true(await_frame(fd, SETTINGS, &frame));
    close(fd);
}

static void drop_http2(void *context, int fd, const char *peer)
{
    (void)peer;
    atomic_fetch_add((atomic_uint *)context, 1);
    close(fd);
}

static void drop_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                       socklen_t size)
{
    (void)address, (void)size;
    drop_http2(context, fd, peer);
}

/* An acceptor of its own, which the fixture's port then leads to. */
static struct acceptor *start_acceptor(struct acceptor_options options, atomic_uint *seen)
{
    struct acceptor *acceptor;
    options.context = seen;
    options.on_http1 = drop_http1;
    options.on_http2 = drop_http2;
    assert_int_equal(acceptor_start(&options, &acceptor), ST_OK);
    char text[128];
    int listener;
    assert_int_equal(listener_open("127.0.0.1", 0, &listener, text, sizeof(text)), ST_OK);
    fixture.port = listener_port(listener);
    assert_int_equal(acceptor_add(acceptor, listener, ACCEPT_BOTH), ST_OK);
    return acceptor;
}

static void test_acceptor_drops_who_never_says_a_word(void **state)
{
    (void)state;
    atomic_uint seen = 0;
    struct acceptor *acceptor =
        start_acceptor((struct acceptor_options){.peek_timeout_ms = 100}, &seen);
    int silent = fixture_dial();
    int stuck = fixture_dial();
    put(stuck, "PR", 2);
    uint8_t byte;
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    errno = 0;
    assert_true(recv(stuck, &byte, 1, 0) <= 0 && errno != EAGAIN); /* unread bytes: a reset */
    assert_int_equal(seen, 0);
    close(silent);
    close(stuck);
    acceptor_stop(acceptor);
}

static void test_acceptor_refuses_connections_over_the_limit(void **state)
{
    (void)state;
    atomic_uint seen = 0;
    struct acceptor *acceptor = start_acceptor((struct acceptor_options){.files_max = 3}, &seen);
    int fd = fixture_dial();
    put(fd, "GET", 3);
    uint8_t byte;
    errno = 0;
    assert_true(recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN);
    assert_int_equal(seen, 0);
    close(fd);
    acceptor_stop(acceptor);
}

static void test_listener_says_that_the_port_is_taken(void **state)
{
    (void)state;
    char text[128] = "";
    int fd;
    assert_int_equal(listener_open("127.0.0.1", fixture.port, &fd, text, sizeof(text)), ST_BUSY);
    assert_int_equal(fd, -1);
    char expected[128];
    snprintf(expected, sizeof(expected), "cannot listen on 127.0.0.1:%u: Address already in use",
             fixture.port);
    assert_int_equal(strncmp(text, expected, strlen(expected)), 0);
    assert_int_equal(listener_open("192.0.2.1", 0, &fd, text, sizeof(text)), ST_INVALID);
    assert_int_equal(listener_open("no such host", 0, &fd, text, sizeof(text)), ST_INVALID);
    assert_int_equal(strncmp(text, "cannot listen on no such host:0: ", 33), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_wire_answers_malformed_messages_with_an_error),
        TEST(test_wire_answers_wrong_content_types),
        TEST(test_wire_lives_on_after_broken_http2),
        TEST(test_wire_reset_in_the_middle_of_a_call_cancels_it),
        TEST(test_wire_sends_ping_floods_away),
        TEST(test_wire_stops_a_message_that_would_eat_the_memory),
        TEST(test_wire_churn_leaks_no_file),
        TEST(test_acceptor_waits_for_a_slow_preface),
        TEST(test_acceptor_drops_who_never_says_a_word),
        TEST(test_acceptor_refuses_connections_over_the_limit),
        TEST(test_listener_says_that_the_port_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
