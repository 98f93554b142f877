#include "server/peers/http1.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT(literal) SLICE(literal)

static void test_request_is_parsed(void **state)
{
    (void)state;
    struct slice in = TEXT("GET /raft/stream/msgapp/8e9e HTTP/1.1\r\nHost: a:2380\r\n"
                           "x-etcd-cluster-id:  cdf818194e3a8c32 \r\n\r\nrest");
    struct http1_head head;
    assert_int_equal(http1_parse_request(in, &head), ST_OK);
    assert_true(slice_eq(head.method, TEXT("GET")));
    assert_true(slice_eq(head.target, TEXT("/raft/stream/msgapp/8e9e")));
    struct slice value;
    assert_true(http1_find(&head, "X-Etcd-Cluster-ID", &value));
    assert_true(slice_eq(value, TEXT("cdf818194e3a8c32")));
    assert_false(http1_find(&head, "X-Raft-To", &value));
    assert_int_equal(head.size, in.len - 4);
    assert_true(http1_keeps_alive(&head));
    for (size_t cut = 0; cut < head.size; cut++)
        assert_int_equal(http1_parse_request(slice_make(in.data, cut), &head), ST_TRUNCATED);
}

static void test_requests_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        "\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct http1_head head;
        assert_int_equal(http1_parse_request(slice_from_str(texts[i]), &head), ST_INVALID);
    }
}

static void test_heads_have_limits(void **state)
{
    (void)state;
    struct buf many;
    struct http1_head head;
    buf_init(&many, 1 << 20);
    assert_int_equal(buf_printf(&many, "GET / HTTP/1.1\r\n"), ST_OK);
    for (unsigned i = 0; i <= HEAD_FIELDS_MAX; i++)
        assert_int_equal(buf_printf(&many, "A%u: b\r\n", i), ST_OK);
    assert_int_equal(buf_printf(&many, "\r\n"), ST_OK);
    assert_int_equal(http1_parse_request(buf_slice(&many), &head), ST_TOO_BIG);
    buf_reset(&many);
    assert_int_equal(buf_printf(&many, "GET /%0*d", (int)HEAD_BYTES_MAX, 0), ST_OK);
    assert_int_equal(http1_parse_request(buf_slice(&many), &head), ST_TOO_BIG);
    buf_deinit(&many);
}

static void test_answer_is_parsed(void **state)
{
    (void)state;
    struct http1_head head;
    assert_int_equal(http1_parse_answer(TEXT("HTTP/1.1 204 No Content\r\n\r\n"), &head), ST_OK);
    assert_int_equal(head.status, 204);
    assert_int_equal(
        http1_parse_answer(TEXT("HTTP/1.0 200\r\nConnection: Keep-Alive, x\r\n\r\n"), &head),
        ST_OK);
    assert_true(http1_keeps_alive(&head));
    assert_int_equal(http1_parse_answer(TEXT("HTTP/1.1 2x0 OK\r\n\r\n"), &head), ST_INVALID);
    assert_int_equal(http1_parse_answer(TEXT("HTTP/1.1 2000 OK\r\n\r\n"), &head), ST_INVALID);
}

/* Takes a body in steps of that many bytes and returns what came of it. */
static enum status take_body(const char *head_text, struct slice bytes, size_t step,
                             struct buf *content, struct http1_body *body)
{
    struct http1_head head;
    assert_int_equal(http1_parse_answer(slice_from_str(head_text), &head), ST_OK);
    enum status st = http1_body_init(body, &head, /* is_answer= */ true);
    buf_reset(content);
    for (size_t at = 0; st == ST_OK && at < bytes.len && !body->ended; at += step) {
        struct slice in =
            slice_make(bytes.data + at, bytes.len - at < step ? bytes.len - at : step);
        while (st == ST_OK && in.len > 0 && !body->ended) {
            struct slice piece;
            st = http1_body_take(body, &in, &piece);
            if (st == ST_OK)
                st = buf_append(content, piece);
        }
    }
    return st;
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_bodies_are_taken_in_any_pieces(void **state)
{
    (void)state;
    static const char *const heads[] = {
        CHUNKED,
        CHUNKED,
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    };
    static const char *const bodies[] = {
        "6\r\nhello \r\n5;name=value\r\nworld\r\n0\r\n\r\n",
        "00b\r\nhello world\r\n0\r\nTrailer: x\r\n\r\n",
        "hello world",
        "hello world",
    };
    struct buf content;
    buf_init(&content, 1024);
    for (size_t i = 0; i < 4; i++) {
        struct slice bytes = slice_from_str(bodies[i]);
        for (size_t step = 1; step <= bytes.len; step++) {
            struct http1_body body;
            assert_int_equal(take_body(heads[i], bytes, step, &content, &body), ST_OK);
            assert_true(slice_eq(buf_slice(&content), TEXT("hello world")));
            assert_int_equal(http1_body_end(&body), ST_OK);
            assert_true(body.ended);
        }
    }
    buf_deinit(&content);
}

static void test_bodies_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "\r\n", "x\r\n", "-1\r\n", "5\r\nhelloworld", "11111111111111111\r\n", "5 \r\nhellox\n",
    };
    struct buf content;
    struct http1_body body;
    buf_init(&content, 1024);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        assert_int_equal(take_body(CHUNKED, slice_from_str(bodies[i]), 1, &content, &body),
                         ST_INVALID);
    static const char *const heads[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        assert_int_equal(take_body(heads[i], SLICE_EMPTY, 1, &content, &body), ST_INVALID);
    buf_deinit(&content);
}

static void test_a_body_cut_off_is_noticed(void **state)
{
    (void)state;
    struct buf content;
    struct http1_body body;
    buf_init(&content, 1024);
    assert_int_equal(take_body(CHUNKED, TEXT("5\r\nhello\r\n"), 1, &content, &body), ST_OK);
    assert_int_equal(http1_body_end(&body), ST_TRUNCATED);
    buf_deinit(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_is_parsed),
        cmocka_unit_test(test_requests_that_are_none_are_refused),
        cmocka_unit_test(test_heads_have_limits),
        cmocka_unit_test(test_answer_is_parsed),
        cmocka_unit_test(test_bodies_are_taken_in_any_pieces),
        cmocka_unit_test(test_bodies_that_are_none_are_refused),
        cmocka_unit_test(test_a_body_cut_off_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
