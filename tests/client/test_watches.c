#include "tools/client/keepalive.h"
#include "tools/client/watches.h"

#include "tests/client/echo_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define STEPS_MAX 16U

struct fixture {
    struct echo_server *server;
    struct caller *caller;
    struct watches *watches;
    struct watcher *watcher;
    struct keepalive *keepalive;
    struct arena arena;
    struct echo_step steps[STEPS_MAX];
    uint32_t steps_count;
    int64_t revisions[16]; /* of the events that came, 0 for a response without any */
    uint32_t revisions_count, ends, renewals;
    char error[128];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->server = echo_server_start();
    arena_init(&f->arena, 1U << 20);
    struct caller_options options = {.client = {.endpoints = echo_server_endpoint(f->server)}};
    struct client_reply reply;
    assert_int_equal(caller_open(&options, &f->arena, &reply, &f->caller), ST_OK);
    f->watches = watches_new(f->caller, /* require_leader= */ true);
    assert_non_null(f->watches);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    watches_free(f->watches);
    keepalive_free(f->keepalive);
    caller_close(f->caller);
    echo_server_stop(f->server);
    arena_deinit(&f->arena);
    free(f);
    return 0;
}

/* ---- the script ---- */

static struct slice packed(struct fixture *f, const ProtobufCMessage *message)
{
    uint8_t *bytes = arena_alloc(&f->arena, 512);
    assert_true(protobuf_c_message_get_packed_size(message) <= 512);
    return slice_make(bytes, protobuf_c_message_pack(message, bytes));
}

static void will_send(struct fixture *f, struct slice message)
{
    f->steps[f->steps_count++] = (struct echo_step){.what = ECHO_SEND, .message = message};
}

static void will_end(struct fixture *f, uint32_t code, const char *text)
{
    f->steps[f->steps_count++] = (struct echo_step){.what = ECHO_END, .code = code, .text = text};
}

static void will_await(struct fixture *f)
{
    f->steps[f->steps_count++] = (struct echo_step){.what = ECHO_AWAIT};
}

static void will_confirm(struct fixture *f, int64_t watch_id, int64_t revision)
{
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    header.revision = revision;
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.header = &header;
    response.watch_id = watch_id;
    response.created = true;
    will_send(f, packed(f, &response.base));
}

/* An event of that revision; none and a header of that revision when it is negative. */
static void will_tell(struct fixture *f, int64_t watch_id, int64_t revision)
{
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    header.revision = revision < 0 ? -revision : revision;
    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;
    kv.mod_revision = revision;
    Mvccpb__Event event = MVCCPB__EVENT__INIT;
    event.kv = &kv;
    Mvccpb__Event *events[] = {&event};
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.header = &header;
    response.watch_id = watch_id;
    response.events = events;
    response.n_events = revision < 0 ? 0 : 1;
    will_send(f, packed(f, &response.base));
}

static void will_cancel(struct fixture *f, int64_t watch_id, int64_t compact_revision)
{
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.watch_id = watch_id;
    response.canceled = true;
    response.compact_revision = compact_revision;
    will_send(f, packed(f, &response.base));
}

/* ---- the watcher ---- */

static void on_response(void *context, const Etcdserverpb__WatchResponse *response)
{
    struct fixture *f = context;
    f->revisions[f->revisions_count++] =
        response->n_events > 0 ? response->events[0]->kv->mod_revision : 0;
}

static void on_ended(void *context, const char *error)
{
    struct fixture *f = context;
    f->ends++;
    snprintf(f->error, sizeof(f->error), "%s", error != NULL ? error : "");
}

static void watch(struct fixture *f, int64_t start_revision)
{
    echo_server_script(f->server, f->steps, f->steps_count);
    struct watcher_options options = {.key = SLICE("k"), .start_revision = start_revision};
    struct watcher_events events = {on_response, on_ended, f};
    assert_int_equal(watches_add(f->watches, &options, &events, &f->watcher), ST_OK);
}

static void run_until(struct fixture *f, uint32_t revisions, uint32_t ends)
{
    for (uint32_t i = 0; i < 2000 && (f->revisions_count < revisions || f->ends < ends); i++)
        assert_int_equal(watches_poll(f->watches, 10), ST_OK);
    assert_int_equal(f->revisions_count, revisions);
    assert_int_equal(f->ends, ends);
}

static int64_t asked_start_revision(struct fixture *f, uint32_t number)
{
    uint8_t bytes[128];
    size_t len = echo_server_request(f->server, number, bytes);
    Etcdserverpb__WatchRequest *request = etcdserverpb__watch_request__unpack(NULL, len, bytes);
    assert_non_null(request);
    assert_int_equal(request->request_union_case,
                     ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST);
    int64_t start_revision = request->create_request->start_revision;
    etcdserverpb__watch_request__free_unpacked(request, NULL);
    return start_revision;
}

static void test_watches_continue_where_a_stream_broke(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_tell(f, 0, 7);
    will_tell(f, 0, 8);
    will_end(f, CLIENT_UNAVAILABLE, "going down");
    will_confirm(f, 3, 10); /* another id */
    will_tell(f, 3, 9);
    watch(f, 0);
    run_until(f, 3, 0);
    assert_int_equal(f->revisions[0], 7);
    assert_int_equal(f->revisions[1], 8);
    assert_int_equal(f->revisions[2], 9);
    assert_int_equal(asked_start_revision(f, 0), 0);
    assert_int_equal(asked_start_revision(f, 1), 9);
}

/* A watcher "from now on" that has seen nothing yet must not lose what is written while it is
 * away; nor may one that knows by progress how far it is begin again. */
static void test_watches_continue_without_an_event(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_end(f, CLIENT_UNAVAILABLE, "going down");
    will_confirm(f, 0, 5);
    will_tell(f, 0, -20);
    will_end(f, CLIENT_INTERNAL, "broken");
    will_confirm(f, 0, 30);
    will_tell(f, 0, 22);
    watch(f, 0);
    run_until(f, 2, 0);
    assert_int_equal(asked_start_revision(f, 1), 6);
    assert_int_equal(asked_start_revision(f, 2), 21);
}

static void test_watches_end_when_the_server_says_so(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_cancel(f, 0, /* compact_revision= */ 0);
    watch(f, 0);
    run_until(f, 0, 1);
    assert_string_equal(f->error, "");
}

static void test_watches_tell_of_a_compacted_start(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_cancel(f, 0, /* compact_revision= */ 4);
    watch(f, 2);
    run_until(f, 1, 1);
}

static void test_watches_end_with_a_final_error(void **state)
{
    struct fixture *f = *state;
    will_end(f, CLIENT_PERMISSION_DENIED, "etcdserver: permission denied");
    watch(f, 0);
    run_until(f, 0, 1);
    assert_string_equal(f->error, "etcdserver: permission denied");
}

static void test_watches_that_require_a_leader_end_without_one(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_end(f, CLIENT_UNAVAILABLE, "etcdserver: no leader");
    watch(f, 0);
    run_until(f, 0, 1);
    assert_string_equal(f->error, "etcdserver: no leader");
}

static void test_watches_end_at_what_is_no_response(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_send(f, SLICE("\xff\xff\xff"));
    watch(f, 0);
    run_until(f, 0, 1);
}

/* An event without what it is about: to leave it out would be to lose it. */
static void test_watches_end_at_an_event_without_a_key(void **state)
{
    struct fixture *f = *state;
    Mvccpb__Event event = MVCCPB__EVENT__INIT, *events[] = {&event};
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.events = events;
    response.n_events = 1;
    will_confirm(f, 0, 5);
    will_send(f, packed(f, &response.base));
    watch(f, 0);
    run_until(f, 0, 1);
    assert_string_equal(f->error, "the server's response cannot be read");
}

/* Two watchers on a stream: the second is asked for after the first is confirmed, and progress goes
 * to both. */
static void test_watches_share_a_stream(void **state)
{
    struct fixture *f = *state;
    will_confirm(f, 0, 5);
    will_await(f);
    will_confirm(f, 1, 5);
    will_tell(f, 1, 6);
    will_tell(f, 0, 7);
    will_tell(f, -1, -9);
    watch(f, 0);
    watch(f, 0);
    run_until(f, 4, 0);
    assert_int_equal(f->revisions[0], 6);
    assert_int_equal(f->revisions[1], 7);
    assert_int_equal(f->revisions[2] + f->revisions[3], 0);
    watches_remove(f->watches, f->watcher);
}

/* ---- leases ---- */

static void will_renew(struct fixture *f, int64_t ttl_s)
{
    Etcdserverpb__LeaseKeepAliveResponse response = ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
    response.id = 7;
    response.ttl = ttl_s;
    will_send(f, packed(f, &response.base));
}

static void on_renewed(void *context, const Etcdserverpb__LeaseKeepAliveResponse *response)
{
    struct fixture *f = context;
    f->renewals++;
    assert_int_equal(response->id, 7);
}

static void keep_alive(struct fixture *f, uint64_t first_timeout_ms)
{
    echo_server_script(f->server, f->steps, f->steps_count);
    f->keepalive = keepalive_new(f->caller, 7, first_timeout_ms, on_renewed, f);
    for (uint32_t i = 0; i < 2000 && !keepalive_is_over(f->keepalive); i++) {
        client_wait(caller_client(f->caller), 10);
        assert_int_equal(keepalive_step(f->keepalive), ST_OK);
    }
    assert_true(keepalive_is_over(f->keepalive));
}

static void test_keepalive_renews_on_the_next_stream_until_the_lease_is_gone(void **state)
{
    struct fixture *f = *state;
    will_renew(f, 1);
    will_end(f, CLIENT_UNAVAILABLE, "going down");
    will_renew(f, 1);
    will_await(f);
    will_renew(f, 0);
    keep_alive(f, 5000);
    assert_int_equal(f->renewals, 2);
}

static void test_keepalive_gives_up_a_lease_that_nobody_renews(void **state)
{
    struct fixture *f = *state;
    keep_alive(f, 100);
    assert_int_equal(f->renewals, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_watches_continue_where_a_stream_broke),
        TEST(test_watches_continue_without_an_event),
        TEST(test_watches_end_when_the_server_says_so),
        TEST(test_watches_tell_of_a_compacted_start),
        TEST(test_watches_end_with_a_final_error),
        TEST(test_watches_that_require_a_leader_end_without_one),
        TEST(test_watches_end_at_what_is_no_response),
        TEST(test_watches_end_at_an_event_without_a_key),
        TEST(test_watches_share_a_stream),
        TEST(test_keepalive_renews_on_the_next_stream_until_the_lease_is_gone),
        TEST(test_keepalive_gives_up_a_lease_that_nobody_renews),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
