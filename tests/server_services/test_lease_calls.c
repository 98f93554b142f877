/* The calls about leases: on a leader, on a follower that asks its leader, and at the peer port. */
#include "base/bytes.h"
#include "base/list.h"
#include "server/loops/leases.h"
#include "server/state/lessor.h"
#include "server/state/machine.h"
#include "server/watch/watch.h"
#include "tests/server_services/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define KEEP_ALIVE "/etcdserverpb.Lease/LeaseKeepAlive"
#define TTL "/etcdserverpb.Lease/LeaseTimeToLive"

/* ---- the machine's leases ---- */

static void promote(struct fixture *f)
{
    struct lessor *lessor = machine_lock_lessor(f->harness.machine);
    f->loops.now_ns = 1000 * NS_PER_S;
    assert_int_equal(lessor_promote(lessor, f->loops.now_ns, 0), ST_OK);
    machine_unlock_lessor(f->harness.machine);
}

static void demote(struct fixture *f)
{
    struct list_node ended;
    list_init(&ended);
    lessor_demote(machine_lock_lessor(f->harness.machine), &ended);
    machine_unlock_lessor(f->harness.machine);
    lease_renewals_end(&ended);
}

static void grant(struct fixture *f, int64_t id, int64_t ttl_s)
{
    uint8_t bytes[22] = {0x08};
    size_t size = 1 + put_varint(bytes + 1, (uint64_t)ttl_s);
    bytes[size++] = 0x10;
    size += put_varint(bytes + size, (uint64_t)id);
    struct fake_call *got = call(f, "/etcdserverpb.Lease/LeaseGrant", slice_make(bytes, size));
    assert_int_equal(got->code, RPC_OK);
}

static const Etcdserverpb__LeaseKeepAliveResponse *sent(struct fixture *f, uint32_t which)
{
    ProtobufCAllocator allocator = harness_allocator(&f->harness.arena);
    assert_true(which < f->call.sent_count);
    Etcdserverpb__LeaseKeepAliveResponse *got = etcdserverpb__lease_keep_alive_response__unpack(
        &allocator, f->call.sent[which].len, f->call.sent[which].data);
    assert_non_null(got);
    return got;
}

static void say(struct fixture *f, const char *bytes, size_t size)
{
    f->call.call.method->on_message(&f->call.call, slice_make(bytes, size));
}

static void half_close(struct fixture *f)
{
    f->call.call.method->on_message(&f->call.call, SLICE_EMPTY);
}

/* ---- grants ---- */

static void test_lease_grant_chooses_an_id(void **state)
{
    struct fixture *f = *state;
    call(f, "/etcdserverpb.Lease/LeaseGrant", SLICE("\x08\x0a"));
    const Etcdserverpb__LeaseGrantResponse *got =
        decode(f, &etcdserverpb__lease_grant_response__descriptor);
    assert_true(got->id > 0 && got->ttl == 10);
    assert_error(call(f, "/etcdserverpb.Lease/LeaseGrant", SLICE("\x0a\x01")), API_UNDECODABLE);
    assert_error(call(f, "/etcdserverpb.Lease/LeaseRevoke", SLICE("\x08\x63")),
                 API_LEASE_NOT_FOUND);
}

/* ---- keep alive ---- */

static void test_keep_alive_renews_many_in_order(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 10);
    grant(f, 8, 20);
    promote(f);
    f->loops.now_ns += 5 * NS_PER_S;
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    say(f, "\x08\x63", 2); /* waits behind the answer in flight */
    say(f, "\x08\x08", 2);
    say(f, "", 0);
    assert_int_equal(f->call.sent_count, 1);
    let_leave(f);
    assert_int_equal(f->call.sent_count, 4);
    assert_true(sent(f, 0)->id == 7 && sent(f, 0)->ttl == 10 && sent(f, 0)->header->revision == 1);
    assert_true(sent(f, 1)->id == 99 && sent(f, 1)->ttl == 0);
    assert_true(sent(f, 2)->id == 8 && sent(f, 2)->ttl == 20);
    assert_true(sent(f, 3)->id == 0 && sent(f, 3)->ttl == 0);
    assert_int_equal(f->loops.reads, 2); /* one look for what came together */
    half_close(f);
    assert_true(f->call.finished == 1 && f->call.code == RPC_OK);
    struct lessor *lessor = machine_lock_lessor(f->harness.machine);
    assert_int_equal(lessor_remaining_s(lessor, 7, f->loops.now_ns), 10);
    machine_unlock_lessor(f->harness.machine);
    demote(f);
}

static void test_keep_alive_ends_after_what_it_was_asked(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 10);
    promote(f);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    say(f, "\x08\x07", 2);
    half_close(f);
    assert_int_equal(f->call.finished, 0);
    let_leave(f);
    assert_true(f->call.finished == 1 && f->call.code == RPC_OK && f->call.sent_count == 2);
    assert_error(call(f, KEEP_ALIVE, SLICE("\x0a\x01")), API_UNDECODABLE);
    demote(f);
}

static void test_keep_alive_waits_for_what_becomes_of_an_ended_lease(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 10);
    promote(f);
    f->loops.now_ns += 10 * NS_PER_S;
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    assert_int_equal(f->call.sent_count, 0);
    struct machine_result result =
        harness_apply(&f->harness, INTERNAL_LEASE_REVOKE, SLICE("\x08\x07"));
    assert_int_equal(result.error, API_OK);
    let_leave(f);
    assert_true(f->call.sent_count == 1 && sent(f, 0)->id == 7 && sent(f, 0)->ttl == 0);
    cancel(f);
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED);
    demote(f);
}

static void test_keep_alive_may_be_left_whenever(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 10);
    promote(f);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    cancel(f); /* it never said anything */
    assert_int_equal(f->call.finished, 1);

    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    say(f, "\x08\x07", 2);
    cancel(f); /* with an answer on its way and one that waits */
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED && f->call.sent_count == 1);

    f->loops.now_ns += 10 * NS_PER_S;
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    cancel(f); /* while the lease is about to be revoked */
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED);
    demote(f);
}

/* A client that does not read its answers is not read from any more. */
static void test_keep_alive_stops_reading_while_it_is_behind(void **state)
{
    struct fixture *f = *state;
    uint32_t said = 0;
    grant(f, 7, 10);
    promote(f);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    for (; !f->call.call.held && said < 10000; said++)
        say(f, "\x08\x07", 2);
    assert_true(f->call.call.held && !f->call.again && f->call.sent_count == 1);
    f->call.in_flight = false;
    f->call.call.method->on_sent(&f->call.call);
    assert_true(f->call.again && f->call.sent_count == 2);
    f->call.again = f->call.call.held = false;
    say(f, "\x08\x07", 2); /* what was held */
    assert_false(f->call.call.held);
    say(f, "\x08\x07", 2);
    assert_true(f->call.call.held && !f->call.again);
    cancel(f);
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED && f->call.again);
    demote(f);
}

static void test_keep_alive_of_a_follower_asks_the_leader(void **state)
{
    struct fixture *f = *state;
    f->loops.is_follower = true;
    f->post_status = 200;
    f->post_body = SLICE("\x10\x07\x18\x3c");
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    let_leave(f);
    assert_true(f->call.sent_count == 1 && sent(f, 0)->id == 7 && sent(f, 0)->ttl == 60);
    f->post_status = 404;
    say(f, "\x08\x07", 2);
    let_leave(f);
    assert_true(f->call.sent_count == 2 && sent(f, 1)->id == 7 && sent(f, 1)->ttl == 0);
    f->post_status = 0;
    f->post_error = API_NO_LEADER;
    say(f, "\x08\x07", 2);
    assert_int_equal(f->call.finished, 1);
    assert_error(&f->call, API_NO_LEADER);
    assert_int_equal(f->posts, 3);
}

static void test_keep_alive_of_a_leader_that_does_not_count_yet_asks_again(void **state)
{
    struct fixture *f = *state;
    f->post_status = 200;
    f->post_body = SLICE("\x10\x07\x18\x3c");
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    let_leave(f);
    assert_true(f->posts == 1 && f->call.sent_count == 1 && sent(f, 0)->ttl == 60);
    f->loops.refuse = API_TIMEOUT; /* it cannot reach the others */
    say(f, "\x08\x07", 2);
    assert_int_equal(f->call.finished, 1);
    assert_error(&f->call, API_NOT_PRIMARY_LESSOR);
}

/* ---- without a leader ---- */

struct led {
    struct watch_hub *hub;
    bool has_leader;
    uint64_t now_ns;
};

static bool has_leader(void *context)
{
    return ((struct led *)context)->has_leader;
}

/* The clients of the next calls would rather be refused than served without a leader. */
static void open_led(struct fixture *f, struct led *led)
{
    const struct watch_hub_options options = {.mvcc = f->harness.mvcc,
                                              .progress_interval_ns = 600 * NS_PER_S,
                                              .election_ns = NS_PER_S,
                                              .message_bytes_max = 1U << 20,
                                              .has_leader = has_leader,
                                              .context = led};
    assert_int_equal(watch_hub_new(&options, &led->hub), ST_OK);
    led->has_leader = true;
    f->watch = led->hub;
    open_services(f, 0, 0);
    f->metadata = (struct rpc_metadata){SLICE("hasleader"), SLICE("true")};
}

static void close_led(struct fixture *f, struct led *led)
{
    watch_step(led->hub, led->now_ns);
    assert_int_equal(f->call.refs, 0);
    f->watch = NULL;
    open_services(f, 0, 0);
    watch_hub_free(led->hub);
}

static void look(struct led *led, uint32_t times)
{
    for (; times > 0; times--, led->now_ns += NS_PER_S)
        watch_step(led->hub, led->now_ns);
}

static const char *const streams[] = {KEEP_ALIVE, "/etcdserverpb.Watch/Watch"};

/* The client goes away. */
static void leave(struct fixture *f, struct led *led)
{
    cancel(f);
    look(led, 1);
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED);
    assert_int_equal(f->call.refs, 0);
}

static void test_streams_are_refused_before_they_say_anything(void **state)
{
    struct fixture *f = *state;
    struct led led = {0};
    open_led(f, &led);
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        f->metadata = (struct rpc_metadata){0};
        f->loops.refuse = API_NO_LEADER; /* the fake has none then */
        assert_int_equal(call(f, streams[i], SLICE_EMPTY)->finished, 0);
        leave(f, &led);
        f->metadata = (struct rpc_metadata){SLICE("hasleader"), SLICE("true")};
        assert_int_equal(call(f, streams[i], SLICE_EMPTY)->finished, 1);
        assert_error(&f->call, API_NO_LEADER);
        assert_int_equal(f->call.code, RPC_UNAVAILABLE);
        f->loops.refuse = API_OK;
        assert_int_equal(call(f, streams[i], SLICE_EMPTY)->finished, 0);
        leave(f, &led);
    }
    close_led(f, &led);
}

static void test_streams_are_cut_before_they_say_anything(void **state)
{
    struct fixture *f = *state;
    struct led led = {0};
    open_led(f, &led);
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        led.has_leader = true;
        call(f, streams[i], SLICE_EMPTY);
        look(&led, 2);
        led.has_leader = false;
        look(&led, 2);
        assert_int_equal(f->call.finished, 0);
        look(&led, 1);
        assert_int_equal(f->call.finished, 1);
        assert_error(&f->call, API_NO_LEADER);
        look(&led, 1);
        assert_int_equal(f->call.refs, 0);
    }
    close_led(f, &led);
}

static void test_keep_alive_is_cut_without_a_leader(void **state)
{
    struct fixture *f = *state;
    struct led led = {0};
    grant(f, 7, 10);
    promote(f);
    open_led(f, &led);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    let_leave(f);
    look(&led, 5);
    led.has_leader = false;
    look(&led, 2);
    led.has_leader = true;
    look(&led, 1); /* it is there again: they count anew */
    led.has_leader = false;
    look(&led, 2);
    assert_int_equal(f->call.finished, 0);
    look(&led, 1);
    assert_int_equal(f->call.finished, 1);
    assert_error(&f->call, API_NO_LEADER);
    assert_int_equal(f->call.code, RPC_UNAVAILABLE);
    close_led(f, &led);
    demote(f);
}

static void test_keep_alive_with_an_answer_in_flight_is_cut_after_it(void **state)
{
    struct fixture *f = *state;
    struct led led = {0};
    grant(f, 7, 10);
    promote(f);
    open_led(f, &led);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    led.has_leader = false;
    look(&led, 5);
    assert_int_equal(f->call.finished, 0);
    let_leave(f);
    assert_int_equal(f->call.finished, 1);
    assert_error(&f->call, API_NO_LEADER);
    close_led(f, &led);
    demote(f);
}

static void test_keep_alive_may_be_left_before_it_is_cut(void **state)
{
    struct fixture *f = *state;
    struct led led = {0};
    open_led(f, &led);
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    let_leave(f);
    look(&led, 1);
    led.has_leader = false;
    look(&led, 2);
    cancel(f); /* the hub has not heard of it when it looks once more */
    assert_true(f->call.finished == 1 && f->call.code == RPC_CANCELLED);
    look(&led, 2);
    assert_int_equal(f->call.refs, 0);

    led.has_leader = true;
    f->metadata = (struct rpc_metadata){0};
    call(f, KEEP_ALIVE, SLICE_EMPTY);
    say(f, "\x08\x07", 2);
    let_leave(f);
    led.has_leader = false;
    look(&led, 5); /* who did not ask for it is left alone */
    assert_int_equal(f->call.finished, 0);
    half_close(f);
    assert_true(f->call.finished == 1 && f->call.code == RPC_OK);
    close_led(f, &led);
}

/* ---- time to live ---- */

static const Etcdserverpb__LeaseTimeToLiveResponse *ttl(struct fixture *f, struct slice message)
{
    call(f, TTL, message);
    return decode(f, &etcdserverpb__lease_time_to_live_response__descriptor);
}

static void test_time_to_live_on_the_leader(void **state)
{
    struct fixture *f = *state;
    enum api_error error;
    grant(f, 7, 100);
    promote(f);
    const struct kv_put put = {.key = SLICE("k"), .value = SLICE("v"), .lease = 7};
    (void)harness_put(&f->harness, &put, &error);
    f->loops.now_ns += 500 * NS_PER_MS;
    const Etcdserverpb__LeaseTimeToLiveResponse *got = ttl(f, SLICE("\x08\x07\x10\x01"));
    assert_true(got->id == 7 && got->ttl == 99 && got->grantedttl == 100 && got->n_keys == 1);
    assert_int_equal(got->header->revision, 2);
    got = ttl(f, SLICE("\x08\x07"));
    assert_int_equal(got->n_keys, 0);
    got = ttl(f, SLICE("\x08\x09"));
    assert_true(got->id == 9 && got->ttl == -1 && got->grantedttl == 0);
    f->loops.refuse = API_TIMEOUT;
    assert_error(call(f, TTL, SLICE("\x08\x07")), API_TIMEOUT);
    demote(f);
}

static void test_time_to_live_through_a_follower(void **state)
{
    struct fixture *f = *state;
    f->loops.is_follower = true;
    f->post_status = 200;
    f->post_body = SLICE("\x0a\x0e\x0a\x00\x10\x07\x18\x05\x20\x0a\x2a\x01k\x2a\x01l");
    const Etcdserverpb__LeaseTimeToLiveResponse *got = ttl(f, SLICE("\x08\x07\x10\x01"));
    assert_true(got->id == 7 && got->ttl == 5 && got->grantedttl == 10 && got->n_keys == 2);
    assert_int_equal(got->header->member_id, HARNESS_MEMBER_ID);
    f->post_status = 404;
    got = ttl(f, SLICE("\x08\x07"));
    assert_true(got->id == 7 && got->ttl == -1);
    f->post_status = 0;
    f->post_error = API_NO_LEADER;
    assert_error(call(f, TTL, SLICE("\x08\x07")), API_NO_LEADER);
}

static void test_leases_are_listed_by_whom_ever(void **state)
{
    struct fixture *f = *state;
    f->loops.is_follower = true;
    grant(f, 7, 100);
    call(f, "/etcdserverpb.Lease/LeaseLeases", SLICE_EMPTY);
    const Etcdserverpb__LeaseLeasesResponse *got =
        decode(f, &etcdserverpb__lease_leases_response__descriptor);
    assert_true(got->n_leases == 1 && got->leases[0]->id == 7 && got->header->revision == 1);
}

/* ---- the peer port ---- */

struct asked {
    struct lease_question question;
    uint32_t status, answers;
    char body[128];
    size_t size;
};

static void note_answer(struct lease_question *question, uint32_t status, struct slice body)
{
    struct asked *asked = CONTAINER_OF(question, struct asked, question);
    asked->answers++;
    asked->status = status;
    asked->size = body.len;
    assert_true(body.len < sizeof(asked->body));
    memcpy(asked->body, body.data, body.len);
}

static void assert_answer(struct fixture *f, bool is_ttl, struct slice question, uint32_t status,
                          struct slice body)
{
    struct asked asked = {.question = {.is_ttl = is_ttl, .body = question, .done = note_answer}};
    services_ask_lease(f->services, &asked.question);
    assert_int_equal(asked.answers, 1);
    assert_int_equal(asked.status, status);
    assert_true(slice_eq(slice_make(asked.body, asked.size), body));
}

static void test_peer_port_answers_as_etcd(void **state)
{
    struct fixture *f = *state;
    grant(f, 7, 100);
    assert_answer(f, false, SLICE("\x08\x07"), 400, SLICE("not a primary lessor\n"));
    promote(f);
    assert_answer(f, false, SLICE("\x08\x07"), 200, SLICE("\x10\x07\x18\x64"));
    assert_answer(f, false, SLICE("\x08\x08"), 404, SLICE("lease not found\n"));
    assert_answer(f, false, SLICE("\x0a"), 400, SLICE("error unmarshalling request\n"));
    assert_answer(f, true, SLICE("\x0a\x02\x08\x07"), 200,
                  SLICE("\x0a\x08\x0a\x00\x10\x07\x18\x64\x20\x64"));
    assert_answer(f, true, SLICE("\x0a\x02\x08\x08"), 404, SLICE("lease not found\n"));
    f->loops.refuse = API_TIMEOUT_APPLIED_INDEX;
    assert_answer(f, false, SLICE("\x08\x07"), 408,
                  SLICE("waiting for node to catch up its applied index has timed out\n"));
    f->loops.refuse = API_OK;
    f->loops.is_follower = true;
    assert_answer(f, false, SLICE("\x08\x07"), 400, SLICE("not a primary lessor\n"));
    demote(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_lease_grant_chooses_an_id),
        FIXTURE_TEST(test_keep_alive_renews_many_in_order),
        FIXTURE_TEST(test_keep_alive_ends_after_what_it_was_asked),
        FIXTURE_TEST(test_keep_alive_waits_for_what_becomes_of_an_ended_lease),
        FIXTURE_TEST(test_keep_alive_may_be_left_whenever),
        FIXTURE_TEST(test_keep_alive_stops_reading_while_it_is_behind),
        FIXTURE_TEST(test_keep_alive_of_a_follower_asks_the_leader),
        FIXTURE_TEST(test_keep_alive_of_a_leader_that_does_not_count_yet_asks_again),
        FIXTURE_TEST(test_streams_are_refused_before_they_say_anything),
        FIXTURE_TEST(test_streams_are_cut_before_they_say_anything),
        FIXTURE_TEST(test_keep_alive_is_cut_without_a_leader),
        FIXTURE_TEST(test_keep_alive_with_an_answer_in_flight_is_cut_after_it),
        FIXTURE_TEST(test_keep_alive_may_be_left_before_it_is_cut),
        FIXTURE_TEST(test_time_to_live_on_the_leader),
        FIXTURE_TEST(test_time_to_live_through_a_follower),
        FIXTURE_TEST(test_leases_are_listed_by_whom_ever),
        FIXTURE_TEST(test_peer_port_answers_as_etcd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
