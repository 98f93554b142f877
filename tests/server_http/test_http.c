#include "server/http/http.h"

#include "base/clock.h"
#include "server/metrics/metrics.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* A member that answers as it is told, behind the acceptor of the client port. */
static struct {
    struct http_server *server;
    struct acceptor *acceptor;
    uint16_t port;
    _Atomic uint32_t alarms;
    atomic_bool has_leader, is_quarantined, is_version_decided, hold_checks;
    _Atomic(const char *) read_error;
    _Atomic(const char *) linearizable_error;
    _Atomic(struct http_check *) held;
} member;

static uint32_t alarms(void *context)
{
    (void)context;
    return atomic_load(&member.alarms);
}

static bool is_quarantined(void *context)
{
    (void)context;
    return atomic_load(&member.is_quarantined);
}

static bool has_leader(void *context)
{
    (void)context;
    return atomic_load(&member.has_leader);
}

static const char *serializable_read(void *context)
{
    (void)context;
    return atomic_load(&member.read_error);
}

static void linearizable_read(void *context, struct http_check *check)
{
    (void)context;
    if (atomic_load(&member.hold_checks))
        atomic_store(&member.held, check);
    else
        http_check_done(check, atomic_load(&member.linearizable_error));
}

static bool cluster_version(void *context, char *out, size_t size)
{
    (void)context;
    snprintf(out, size, "3.5.0");
    return atomic_load(&member.is_version_decided);
}

static void take_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                       socklen_t size)
{
    (void)context;
    assert_int_equal(strncmp(peer, "127.0.0.1:", 10), 0);
    http_server_add_connection(member.server, fd, address, size);
}

static void take_http2(void *context, int fd, const char *peer)
{
    (void)context, (void)peer;
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    metrics_reset();
    memset(&member, 0, sizeof(member));
    member.has_leader = true;
    member.is_quarantined = false;
    member.is_version_decided = true;
    struct http_options options = {
        .handlers = {.alarms = alarms,
                     .is_quarantined = is_quarantined,
                     .has_leader = has_leader,
                     .serializable_read = serializable_read,
                     .linearizable_read = linearizable_read,
                     .cluster_version = cluster_version},
        .api_version = "3.5.15",
    };
    assert_int_equal(http_server_start(&options, &member.server), ST_OK);
    struct acceptor_options accepting = {.on_http1 = take_http1, .on_http2 = take_http2};
    assert_int_equal(acceptor_start(&accepting, &member.acceptor), ST_OK);
    char text[128];
    int fd;
    assert_int_equal(listener_open("127.0.0.1", 0, &fd, text, sizeof(text)), ST_OK);
    member.port = listener_port(fd);
    return acceptor_add(member.acceptor, fd, ACCEPT_BOTH) == ST_OK ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    acceptor_stop(member.acceptor);
    assert_int_equal(http_server_stop(member.server, /* grace_ms= */ 0, /* cancel_ms= */ 0), ST_OK);
    http_server_free(member.server);
    return 0;
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(member.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything until the server closes. */
static const char *listen_to_end(int fd)
{
    static char answer[64 << 10];
    size_t len = 0;
    ssize_t n;
    while ((n = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0)
        len += (size_t)n;
    answer[len] = '\0';
    close(fd);
    return answer;
}

static const char *ask_with(const char *method, const char *path, const char *body)
{
    int fd = dial();
    char request[1024];
    snprintf(request, sizeof(request),
             "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
             method, path, strlen(body), body);
    say(fd, request);
    return listen_to_end(fd);
}

static const char *ask(const char *path)
{
    return ask_with("GET", path, "");
}

static void assert_answer(const char *answer, unsigned code, const char *body)
{
    unsigned got = 0;
    assert_int_equal(sscanf(answer, "HTTP/1.1 %u", &got), 1);
    assert_int_equal(got, code);
    const char *start = strstr(answer, "\r\n\r\n");
    assert_non_null(start);
    assert_string_equal(start + 4, body);
}

static void test_http_health_is_etcds_json(void **state)
{
    (void)state;
    const char *answer = ask("/health");
    assert_answer(answer, 200, "{\"health\":\"true\",\"reason\":\"\"}");
    assert_non_null(strstr(answer, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "\r\nAccess-Control-Allow-Origin: *\r\n"));
}

static void test_http_health_names_the_first_reason(void **state)
{
    (void)state;
    member.read_error = "etcdserver: request timed out";
    assert_answer(
        ask("/health"), 503,
        "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n");
    member.has_leader = false;
    const char *answer = ask("/health");
    assert_answer(answer, 503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n");
    assert_non_null(strstr(answer, "\r\nX-Content-Type-Options: nosniff\r\n"));
    member.is_quarantined = true;
    assert_answer(ask("/health?serializable=true"), 503,
                  "{\"health\":\"false\",\"reason\":\"QUARANTINED\"}\n");
    member.alarms = HTTP_ALARM_OTHER;
    assert_answer(ask("/health"), 503, "{\"health\":\"false\",\"reason\":\"ALARM UNKNOWN\"}\n");
    member.alarms = HTTP_ALARM_CORRUPT;
    assert_answer(ask("/health"), 503, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n");
    member.alarms = HTTP_ALARM_CORRUPT | HTTP_ALARM_NOSPACE;
    assert_answer(ask("/health"), 503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
}

static void test_http_health_leaves_out_what_the_query_excludes(void **state)
{
    (void)state;
    member.alarms = HTTP_ALARM_CORRUPT | HTTP_ALARM_NOSPACE;
    assert_answer(ask("/health?exclude=NOSPACE"), 503,
                  "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n");
    assert_answer(ask("/health?exclude=NOSPACE&exclude=CORRUPT"), 200,
                  "{\"health\":\"true\",\"reason\":\"\"}");
    member.alarms = 0;
    member.has_leader = false;
    assert_answer(ask("/health?serializable=true"), 200, "{\"health\":\"true\",\"reason\":\"\"}");
    assert_answer(ask("/health?serializable=yes&exclude"), 503,
                  "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n");
}

static void test_http_version_is_etcds_json(void **state)
{
    (void)state;
    const char *answer = ask("/version");
    assert_answer(answer, 200, "{\"etcdserver\":\"3.5.15\",\"etcdcluster\":\"3.5.0\"}");
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
    member.is_version_decided = false;
    assert_answer(ask("/version"), 200,
                  "{\"etcdserver\":\"3.5.15\",\"etcdcluster\":\"not_decided\"}");
}

static void test_http_refuses_other_methods_and_paths(void **state)
{
    (void)state;
    static const char *const get_only[] = {"/health", "/version", "/livez", "/readyz",
                                           "/readyz/data_corruption"};
    for (size_t i = 0; i < sizeof(get_only) / sizeof(get_only[0]); i++) {
        const char *answer = ask_with("POST", get_only[i], "{\"key\":\"Zm9v\"}");
        assert_answer(answer, 405, "Method Not Allowed\n");
        assert_non_null(strstr(answer, "\r\nAllow: GET\r\n"));
        assert_answer(ask_with("HEAD", get_only[i], ""), 405, "");
    }
    assert_answer(ask("/"), 404, "404 page not found\n");
    assert_answer(ask("/healthy"), 404, "404 page not found\n");
    assert_answer(ask("/livezz"), 404, "404 page not found\n");
    assert_answer(ask_with("POST", "/v3/kv/range", "{}"), 404, "404 page not found\n");
    assert_answer(ask_with("OPTIONS", "/health", ""), 200, "");
}

static void test_http_metrics_is_prometheus_text(void **state)
{
    (void)state;
    metrics_set(METRIC_HAS_LEADER, 1);
    ask("/health");
    const char *answer = ask("/metrics");
    assert_non_null(
        strstr(answer, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(answer, "\netcd_server_has_leader 1\n"));
    assert_non_null(strstr(answer, "\netcd_server_health_success 1\n"));
}

static void test_http_livez_and_readyz_show_each_check(void **state)
{
    (void)state;
    assert_answer(ask("/livez"), 200, "ok\n");
    assert_answer(ask("/livez?verbose"), 200, "[+]serializable_read ok\nok\n");
    assert_answer(ask("/livez?verbose&exclude=serializable_read"), 200, "ok\n");
    assert_answer(ask("/readyz"), 200, "ok\n");
    assert_answer(ask("/readyz?verbose&exclude=nothing"), 200,
                  "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n");
    assert_answer(ask("/readyz/linearizable_read?verbose"), 200, "[+]linearizable_read ok\nok\n");
    assert_answer(ask("/readyz/no_such_check"), 404, "404 page not found\n");
    assert_answer(ask("/livez/data_corruption"), 404, "404 page not found\n");
    member.alarms = HTTP_ALARM_CORRUPT;
    assert_answer(ask("/readyz"), 503,
                  "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read "
                  "ok\n[+]linearizable_read ok\n\n");
    member.alarms = HTTP_ALARM_NOSPACE;
    member.linearizable_error = "etcdserver: request timed out";
    assert_answer(ask("/readyz/linearizable_read"), 503,
                  "[-]linearizable_read failed: etcdserver: request timed out\n\n");
    assert_non_null(strstr(ask("/metrics"), "etcd_server_healthchecks_total{name=\"linearizable_"
                                            "read\",status=\"error\",type=\"readyz\"} 1\n"));
}

static struct http_check *wait_held(void)
{
    struct http_check *check;
    while ((check = atomic_load(&member.held)) == NULL)
        sched_yield();
    return check;
}

static void test_http_readyz_waits_while_others_are_answered(void **state)
{
    (void)state;
    member.hold_checks = true;
    int waiting = dial();
    say(waiting, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    struct http_check *check = wait_held();
    assert_answer(ask("/livez"), 200, "ok\n");
    http_check_done(check, NULL);
    assert_answer(listen_to_end(waiting), 200, "ok\n");
}

/* A member that was cut off and still names its old leader must not call itself healthy. */
static void test_http_health_waits_for_a_linearizable_read(void **state)
{
    (void)state;
    member.hold_checks = true;
    int waiting = dial();
    say(waiting, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    struct http_check *check = wait_held();
    assert_answer(ask("/health?serializable=true"), 200, "{\"health\":\"true\",\"reason\":\"\"}");
    http_check_done(check, "etcdserver: request timed out");
    assert_answer(
        listen_to_end(waiting), 503,
        "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: request timed out\"}\n");
    member.hold_checks = false;
    assert_answer(ask("/health"), 200, "{\"health\":\"true\",\"reason\":\"\"}");
    assert_non_null(strstr(ask("/metrics"), "\netcd_server_health_failures 1\n"));
}

/* The check of a client that left, and one that is done after the server stopped: neither may touch
 * what is gone (the sanitizers watch). */
static void test_http_check_may_end_after_its_request_and_its_server(void **state)
{
    (void)state;
    member.hold_checks = true;
    int gone = dial();
    say(gone, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    struct http_check *first = wait_held();
    atomic_store(&member.held, NULL);
    close(gone);
    http_check_done(first, NULL);
    int waiting = dial();
    say(waiting, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    struct http_check *second = wait_held();
    assert_int_equal(http_server_stop(member.server, /* grace_ms= */ 0, /* cancel_ms= */ 0), ST_OK);
    http_server_free(member.server);
    member.server = NULL;
    http_check_done(second, NULL);
    close(waiting);
}

static void test_http_lives_on_after_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "\r\n\r\n\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /health\r\n\r\n",
        "GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", /* a TLS ClientHello */
    };
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        int fd = dial();
        say(fd, garbage[i]);
        shutdown(fd, SHUT_WR);
        listen_to_end(fd);
    }
    int fd = dial();
    char many[8192];
    memset(many, 'x', sizeof(many));
    say(fd, "GET /health HTTP/1.1\r\nX: ");
    for (int i = 0; i < 16; i++) /* headers over the limit: refused or cut off */
        (void)!send(fd, many, sizeof(many), MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    listen_to_end(fd);
    assert_answer(ask("/health"), 200, "{\"health\":\"true\",\"reason\":\"\"}");
}

static void test_http_serves_many_connections_and_requests_on_one(void **state)
{
    (void)state;
    int idle[200];
    for (int i = 0; i < 200; i++)
        idle[i] = dial();
    int fd = dial();
    for (int i = 0; i < 3; i++) {
        char answer[1024] = {0};
        say(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(recv(fd, answer, sizeof(answer) - 1, 0) > 0);
        assert_answer(answer, 200, "{\"health\":\"true\",\"reason\":\"\"}");
    }
    close(fd);
    for (int i = 0; i < 200; i++)
        close(idle[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_http_health_is_etcds_json),
        TEST(test_http_health_names_the_first_reason),
        TEST(test_http_health_leaves_out_what_the_query_excludes),
        TEST(test_http_version_is_etcds_json),
        TEST(test_http_refuses_other_methods_and_paths),
        TEST(test_http_metrics_is_prometheus_text),
        TEST(test_http_livez_and_readyz_show_each_check),
        TEST(test_http_readyz_waits_while_others_are_answered),
        TEST(test_http_health_waits_for_a_linearizable_read),
        TEST(test_http_check_may_end_after_its_request_and_its_server),
        TEST(test_http_lives_on_after_garbage),
        TEST(test_http_serves_many_connections_and_requests_on_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
