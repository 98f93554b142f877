/* Where the time of a call went: how its stamps become phases, and what is counted. */
#include "server/metrics/metrics.h"
#include "tests/server_services/fixture.h"

#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct told {
    uint64_t now_ns;
    struct clock clock;
    struct services *services;
    struct buf text;
};

static uint64_t now(void *context)
{
    return ((struct told *)context)->now_ns;
}

static struct told begin(struct fixture *f)
{
    struct told told = {.now_ns = 10 * NS_PER_S};
    metrics_reset();
    buf_init(&told.text, 16U << 20);
    (void)f;
    return told;
}

static void open_with(struct told *told, struct fixture *f)
{
    told->clock = (struct clock){now, now, told};
    const struct services_options options = {.loops = &f->loops,
                                             .machine = f->harness.machine,
                                             .mvcc = f->harness.mvcc,
                                             .store = f->harness.store,
                                             .clock = &told->clock,
                                             .api_version = "3.5.15",
                                             .warning_apply_ns = NS_PER_S};
    assert_int_equal(services_new(&options, &told->services), ST_OK);
}

static void end(struct told *told)
{
    services_free(told->services);
    buf_deinit(&told->text);
    metrics_reset();
}

/* A call that came at 10 s and whose answer left now. */
static void ended(struct told *told, struct fixture *f, struct request *request, uint64_t took_ns)
{
    void *service;
    struct rpc_call call = {.method = find_method(f, "/etcdserverpb.KV/Put", &service),
                            .started_ns = 10 * NS_PER_S,
                            .trace = request};
    told->now_ns = 10 * NS_PER_S + took_ns;
    services_call_ended(told->services, &call, RPC_OK, 0);
}

static void assert_sum(struct told *told, const char *kind, const char *phase, const char *seconds)
{
    char line[200];
    buf_reset(&told->text);
    assert_int_equal(metrics_render(&told->text), ST_OK);
    assert_int_equal(buf_append(&told->text, slice_make("", 1)), ST_OK);
    snprintf(line, sizeof(line),
             "\ncleat_request_phase_duration_seconds_sum{kind=\"%s\",phase=\"%s\"} %s\n", kind,
             phase, seconds);
    if (strstr((const char *)told->text.data, line) == NULL)
        fail_msg("no line %s", line);
}

static uint64_t at_ms(uint64_t ms)
{
    return 10 * NS_PER_S + ms * NS_PER_MS;
}

static void test_slow_divides_a_write(void **state)
{
    struct fixture *f = *state;
    struct told told = begin(f);
    open_with(&told, f);
    struct request request = {.kind = REQUEST_PROPOSAL,
                              .times = {.taken_ns = at_ms(1),
                                        .logged_ns = at_ms(3),
                                        .committed_ns = at_ms(7),
                                        .full_ns = 5 * NS_PER_MS,
                                        .began_ns = at_ms(15),
                                        .ended_ns = at_ms(31)}};
    ended(&told, f, &request, 63 * NS_PER_MS);
    assert_sum(&told, "write", "queue", "0.001");
    assert_sum(&told, "write", "log", "0.002");
    assert_sum(&told, "write", "quorum", "0.0040000000000000001");
    assert_sum(&told, "write", "apply_wait", "0.0030000000000000001");
    assert_sum(&told, "write", "store", "0.0050000000000000001");
    assert_sum(&told, "write", "apply", "0.016");
    assert_sum(&told, "write", "send", "0.032000000000000001");
    end(&told);
}

/* Stamps of steps that began before the call came, or that were never made, take nothing; what is
 * left belongs to what the call was waiting for. */
static void test_slow_takes_any_stamps(void **state)
{
    struct fixture *f = *state;
    struct told told = begin(f);
    open_with(&told, f);
    struct request early = {.kind = REQUEST_PROPOSAL,
                            .times = {.taken_ns = 1, .logged_ns = 2, .committed_ns = at_ms(8)}};
    ended(&told, f, &early, 8 * NS_PER_MS);
    assert_sum(&told, "write", "queue", "0");
    assert_sum(&told, "write", "log", "0");
    assert_sum(&told, "write", "quorum", "0.0080000000000000002");
    struct request none = {.kind = REQUEST_PROPOSAL};
    ended(&told, f, &none, 4 * NS_PER_MS);
    assert_sum(&told, "write", "queue", "0.0040000000000000001");
    struct request lost = {.kind = REQUEST_PROPOSAL, .times = {.taken_ns = at_ms(0)}};
    ended(&told, f, &lost, 8 * NS_PER_MS);
    assert_sum(&told, "write", "quorum", "0.016");
    struct request local = {.kind = REQUEST_READ,
                            .times = {.began_ns = at_ms(2), .ended_ns = at_ms(3)}};
    ended(&told, f, &local, 3 * NS_PER_MS);
    assert_sum(&told, "read", "apply_wait", "0.002");
    assert_sum(&told, "read", "read", "0.001");
    ended(&told, f, NULL, 3 * NS_PER_MS); /* a call that no actor had */
    end(&told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_slow_divides_a_write),
        FIXTURE_TEST(test_slow_takes_any_stamps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
