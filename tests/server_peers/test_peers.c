#include "tests/server_peers/fixture.h"

#include "base/minmax.h"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two members that know each other, with both streams up both ways. */
static void open_two(struct node *a, struct node *b)
{
    node_open(a, 1, CLUSTER_ID, NULL);
    node_open(b, 2, CLUSTER_ID, NULL);
    node_add(a, b);
    node_add(b, a);
    node_start(a);
    node_start(b);
    node_wait_active(a, b->id);
    node_wait_active(b, a->id);
}

static void send_app(struct node *from, raft_id to, raft_term term, raft_index before,
                     uint32_t count, size_t payload_bytes)
{
    struct raft_entry *entries = calloc(count + 1, sizeof(*entries));
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct raft_entry){
            .term = term, .index = before + 1 + i, .payload = raft_payload_new(payload_bytes)};
        memset(entries[i].payload->data, (int)(before + 1 + i), payload_bytes);
    }
    struct raft_message message = {.type = RAFT_MSG_APP,
                                   .to = to,
                                   .from = from->id,
                                   .term = term,
                                   .log_term = before == 0 ? 0 : term,
                                   .index = before,
                                   .entries = entries,
                                   .entries_count = count};
    node_send(from, &message);
    for (uint32_t i = 0; i < count; i++)
        raft_payload_unref(entries[i].payload);
    free(entries);
}

/* Messages of both streams and, before there are any, of POST: none is lost, each kind in order. */
static void test_peers_exchange_messages_both_ways(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    for (raft_index i = 0; i < 200; i++) {
        send_app(&a, 2, 3, i, 1, i % 3 == 0 ? 10000 : 10);
        node_send(&b,
                  &(struct raft_message){
                      .type = RAFT_MSG_APP_RESP, .to = 1, .from = 2, .term = 3, .index = i + 1});
        struct peer_message *app = node_take(&b), *answer = node_take(&a);
        assert_int_equal(app->message.type, RAFT_MSG_APP);
        assert_true(app->message.index == i && app->message.entries_count == 1);
        struct slice bytes = raft_payload_slice(app->message.entries[0].payload);
        assert_int_equal(bytes.len, i % 3 == 0 ? 10000 : 10);
        assert_int_equal(bytes.data[bytes.len - 1], (uint8_t)(i + 1));
        assert_int_equal(answer->message.type, RAFT_MSG_APP_RESP);
        assert_true(answer->message.index == i + 1);
        app->release(app);
        answer->release(answer);
    }
    assert_int_equal(a.unreachable + b.unreachable, 0);
    node_close(&a);
    node_close(&b);
}

/* A message's context and a payload survive the sender's memory. */
static void test_peers_copy_what_they_send(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    char context[] = "CampaignTransfer";
    node_send(&a, &(struct raft_message){.type = RAFT_MSG_VOTE,
                                         .to = 2,
                                         .from = 1,
                                         .term = 9,
                                         .context = slice_from_str(context)});
    memset(context, 0, sizeof(context));
    struct peer_message *got = node_take(&b);
    assert_true(slice_eq(got->message.context, SLICE("CampaignTransfer")));
    got->release(got);
    node_close(&a);
    node_close(&b);
}

/* A burst that is larger than any socket's buffer arrives whole and in order. */
static void test_peers_carry_a_burst_in_order(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    for (uint32_t i = 0; i < 50; i++) { /* until its stream is there, POST may overtake itself */
        send_app(&a, 2, 1, 0, 1, 10);
        struct peer_message *got = node_take(&b);
        got->release(got);
    }
    b.holds = false;
    for (raft_index i = 0; i < 400; i++)
        send_app(&a, 2, 1, i * 4 + 1, 4, 20000);
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    for (raft_index last = 0; last < 1601;) {
        pthread_mutex_lock(&b.lock);
        last = b.last_index;
        assert_false(b.out_of_order);
        pthread_mutex_unlock(&b.lock);
        assert_true(now_ns() < until_ns);
        sched_yield();
    }
    assert_int_equal(a.unreachable, 0);
    node_close(&a);
    node_close(&b);
}

/* Three members; one accepts connections and reads nothing. The way between the others stays as
 * quick as ever, and what was meant for the deaf one is bounded and reported. */
static void test_a_deaf_peer_delays_nobody(void **state)
{
    (void)state;
    struct node a, b;
    uint16_t port;
    int deaf = listen_anywhere(&port);
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
    open_two(&a, &b);
    node_add_url(&a, 3, url);
    uint64_t longest = 0;
    for (raft_index i = 0; i < 300; i++) {
        send_app(&a, 3, 1, i, 1, 1 << 20);
        uint64_t begin = now_ns();
        send_app(&a, 2, 1, i, 1, 100);
        struct peer_message *got = node_take(&b);
        got->release(got);
        longest = max_u64(longest, now_ns() - begin);
    }
    node_wait(&a, &a.unreachable, 1);
    assert_true(longest < NS_PER_S);
    assert_int_equal(a.gone, 0); /* it listens: it is only slow */
    node_close(&a);
    node_close(&b);
    close(deaf);
}

/* Consensus does not look at what came: the sockets are left alone until it does, and then nothing
 * is missing. */
static void test_memory_is_bounded_when_nobody_takes_messages(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    uint64_t sent = 0, taken = 0;
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    while (peers_received_bytes(b.peers) <= (128U << 20) && now_ns() < until_ns) {
        uint64_t under_way = (sent << 20) - min_u64(sent << 20, peers_received_bytes(b.peers));
        /* Once b reads no more the rest waits here, and that has a limit of its own. */
        if (sent < 180 && under_way < (40U << 20))
            send_app(&a, 2, 1, ++sent, 1, 1 << 20);
        uint64_t pause_ns = now_ns() + 2 * NS_PER_MS;
        while (now_ns() < pause_ns)
            sched_yield();
    }
    assert_true(peers_received_bytes(b.peers) > (128U << 20));
    assert_true(peers_received_bytes(b.peers) < (140U << 20));
    raft_index last = 0;
    while (taken < sent && a.unreachable == 0) {
        struct peer_message *got = node_take(&b);
        assert_true(got->message.index == last + 1);
        last = got->message.index;
        taken++;
        got->release(got);
    }
    assert_int_equal(a.unreachable, 0);
    node_close(&a);
    node_close(&b);
}

static void test_peers_find_each_other_again(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    char url[64];
    memcpy(url, b.url, sizeof(url));
    node_close(&b);
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    while (peers_active_since_ns(a.peers, 2) != 0) {
        assert_true(now_ns() < until_ns);
        sched_yield();
    }
    send_app(&a, 2, 1, 0, 1, 10); /* goes nowhere, and that is said */
    node_wait(&a, &a.unreachable, 1);
    node_wait(&a, &a.gone, 1); /* nobody listens there */
    node_open(&b, 2, CLUSTER_ID, url);
    node_add(&b, &a);
    node_start(&b);
    node_wait_active(&b, 1);
    node_wait_active(&a, 2);
    send_app(&a, 2, 1, 5, 1, 10);
    struct peer_message *got = node_take(&b);
    assert_true(got->message.index == 5);
    got->release(got);
    node_close(&a);
    node_close(&b);
}

/* The other side does not know us yet, so it dials nothing: all goes by POST, and its answers to
 * where our headers say we are. */
static void test_an_unknown_sender_is_answered_by_post(void **state)
{
    (void)state;
    struct node a, b;
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_open(&b, 2, CLUSTER_ID, NULL);
    node_add(&a, &b);
    node_start(&a);
    node_start(&b);
    node_send(&a,
              &(struct raft_message){.type = RAFT_MSG_HEARTBEAT, .to = 2, .from = 1, .term = 1});
    struct peer_message *got = node_take(&b);
    assert_int_equal(got->message.type, RAFT_MSG_HEARTBEAT);
    got->release(got);
    node_send(
        &b, &(struct raft_message){.type = RAFT_MSG_HEARTBEAT_RESP, .to = 1, .from = 2, .term = 1});
    got = node_take(&a);
    assert_int_equal(got->message.type, RAFT_MSG_HEARTBEAT_RESP);
    got->release(got);
    node_close(&a);
    node_close(&b);
}

static void test_a_removed_member_is_told(void **state)
{
    (void)state;
    struct node a, b;
    open_two(&a, &b);
    struct transport *transport = peers_transport(a.peers);
    transport->remove_peer(transport, 2);
    node_wait(&b, &b.removed, 1);
    node_close(&a);
    node_close(&b);
}

/* Members of two clusters never talk. */
static void test_another_cluster_is_refused(void **state)
{
    (void)state;
    struct node a, b;
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_open(&b, 2, 0x1234, NULL);
    node_add(&a, &b);
    node_add(&b, &a);
    node_start(&a);
    node_start(&b);
    send_app(&a, 2, 1, 0, 1, 10);
    node_wait(&a, &a.unreachable, 1);
    assert_int_equal(b.waiting, 0);
    assert_int_equal(a.removed + b.removed, 0);
    assert_true(peers_active_since_ns(a.peers, 2) == 0);
    node_close(&a);
    node_close(&b);
}

/* ---- what others ask ---- */

#define FROM_2 "X-Server-From: 2\r\nX-Server-Version: 3.5.15\r\nX-Min-Cluster-Version: 3.0.0\r\n"
#define CLUSTER "X-Etcd-Cluster-Id: cdf818194e3a8c32\r\n"
#define TO_1 "X-Raft-To: 1\r\n"

static const struct exchange {
    const char *request, *status, *wanted; /* wanted: somewhere in the answer */
} exchanges[] = {
    {"GET /nothing HTTP/1.1\r\n", "404", "404 page not found\n"},
    {"PUT /raft HTTP/1.1\r\n", "405", "Allow: POST\r\n"},
    {"POST /raft/stream/message/2 HTTP/1.1\r\n" FROM_2 CLUSTER TO_1, "405", "Method Not Allowed\n"},
    {"GET /raft/probing HTTP/1.1\r\n", "200", "{\"OK\":true,\"Now\":\"20"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\n" CLUSTER TO_1, "412", "incompatible version\n"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\nX-Server-Version: 2.3.0\r\n" CLUSTER TO_1, "412",
     "incompatible version\n"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\nX-Server-Version: 4.0.0\r\n"
     "X-Min-Cluster-Version: 4.0.0\r\n" CLUSTER TO_1,
     "412", "incompatible version\n"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\n" FROM_2 TO_1, "412", "cluster ID mismatch\n"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\n" FROM_2 TO_1
     "X-Etcd-Cluster-Id: CDF818194E3A8C32\r\n",
     "412", "cluster ID mismatch\n"},
    {"GET /raft/stream/other/2 HTTP/1.1\r\n" FROM_2 CLUSTER TO_1, "404", "invalid path\n"},
    {"GET /raft/stream/message/zz HTTP/1.1\r\n" FROM_2 CLUSTER TO_1, "404", "invalid from\n"},
    {"GET /raft/stream/message/9 HTTP/1.1\r\n" FROM_2 CLUSTER TO_1, "404",
     "error sender not found\n"},
    {"GET /raft/stream/message/3 HTTP/1.1\r\n" FROM_2 CLUSTER TO_1, "410", "removed member\n"},
    {"GET /raft/stream/message/2 HTTP/1.1\r\n" FROM_2 CLUSTER "X-Raft-To: 7\r\n", "412",
     "to field mismatch\n"},
    {"GET /raft/stream/msgapp/2 HTTP/1.1\r\nX-Server-Version: 3.6.0\r\n" CLUSTER TO_1, "200",
     "X-Server-Version: 3.5.15\r\n"},
    {"POST /raft HTTP/1.1\r\n" FROM_2 CLUSTER "Content-Length: 2\r\n", "204",
     "X-Etcd-Cluster-Id: cdf818194e3a8c32\r\n"},
    {"POST /raft HTTP/1.1\r\n" FROM_2 CLUSTER "Content-Length: 1\r\n", "400",
     "error unmarshalling raft message\n"},
    {"POST /raft HTTP/1.1\r\n" FROM_2 CLUSTER, "500", "error processing raft message\n"},
    {"GET /members HTTP/1.1\r\n", "200", "kind 0 id 0 body \n"},
    {"GET /members HTTP/1.1\r\n", "200", "X-Etcd-Cluster-Id: cdf818194e3a8c32\r\n"},
    {"POST /members/promote/18446744073709551615 HTTP/1.1\r\n", "200",
     "kind 1 id 18446744073709551615 body \n"},
    {"POST /members/promote/zz HTTP/1.1\r\n", "404", "member zz not found in cluster\n"},
    {"GET /members/hashkv HTTP/1.1\r\nX-Etcd-Cluster-Id: 1\r\n", "412", "cluster ID mismatch\n"},
    {"POST /leases HTTP/1.1\r\nContent-Length: 2\r\n", "404", "kind 3 id 0 body \x10\x02\n"},
    {"GET /downgrade/enabled HTTP/1.1\r\n", "200", "kind 5 "},
    {"GET /version HTTP/1.1\r\n", "200", "kind 6 "},
    {"nonsense\r\n", "400", "400 Bad Request"},
};

/* The text after the head is a body for those that say they have one: a message to member 1 is
 * "10 01", and half a field is none. */
static void run_exchange(const char *url, const struct exchange *e)
{
    char text[1024], answer[2048];
    const char *body = "";
    if (strstr(e->request, "Content-Length: 2") != NULL)
        body = strstr(e->request, "leases") != NULL ? "\x10\x02" : "\x10\x01";
    else if (strstr(e->request, "Content-Length: 1") != NULL)
        body = "\x10";
    bool is_stream = strcmp(e->status, "200") == 0 && strstr(e->request, "/raft/stream/") != NULL;
    snprintf(text, sizeof(text), "%s%sHost: x\r\n\r\n%s", e->request,
             is_stream ? "" : "Connection: close\r\n", body);
    raw_exchange(url, slice_from_str(text), answer, sizeof(answer), is_stream ? 80 : 0);
    if (strlen(answer) < 12 || memcmp(answer + 9, e->status, 3) != 0 ||
        strstr(answer, e->wanted) == NULL)
        fail_msg("%s was answered with:\n%s", text, answer);
}

static void test_port_answers_as_etcd_does(void **state)
{
    (void)state;
    struct node a;
    node_open(&a, 1, CLUSTER_ID, NULL);
    a.holds = false;
    node_add_url(&a, 2, "http://127.0.0.1:1");
    node_add_url(&a, 3, "http://127.0.0.1:1");
    struct transport *transport = peers_transport(a.peers);
    transport->remove_peer(transport, 3);
    node_start(&a);
    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++)
        run_exchange(a.url, &exchanges[i]);
    node_close(&a);
}

/* A version that is none gets no answer at all; requests on one connection are answered in turn. */
static void test_port_keeps_and_closes_connections(void **state)
{
    (void)state;
    struct node a;
    char answer[4096];
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_start(&a);
    struct slice bad =
        SLICE("GET /raft/stream/message/2 HTTP/1.1\r\nX-Server-Version: 3.5\r\n" CLUSTER "\r\n");
    assert_int_equal(raw_exchange(a.url, bad, answer, sizeof(answer), 0), 0);
    struct slice three = SLICE("GET /members HTTP/1.1\r\n\r\nHEAD /raft/probing HTTP/1.1\r\n\r\n"
                               "GET /version HTTP/1.1\r\nConnection: close\r\n\r\n");
    raw_exchange(a.url, three, answer, sizeof(answer), 0);
    char *members = strstr(answer, "kind 0 "), *version = strstr(answer, "kind 6 ");
    assert_true(members != NULL && version != NULL && members < version);
    assert_null(strstr(answer, "\"OK\""));
    node_close(&a);
}

static void test_fetch_asks_a_member(void **state)
{
    (void)state;
    struct node a;
    node_open(&a, 1, CLUSTER_ID, NULL);
    node_start(&a);
    struct peer_fetched got;
    struct peer_fetch fetch = {
        .url = a.url, .method = "GET", .path = "/members", .timeout_ms = 10000};
    assert_int_equal(peer_fetch(&fetch, &got), ST_OK);
    assert_int_equal(got.status, 200);
    assert_true(got.has_cluster_id && got.cluster_id == CLUSTER_ID);
    assert_true(slice_eq(buf_slice(&got.body), SLICE("kind 0 id 0 body \n")));
    buf_deinit(&got.body);
    fetch.path = "/version";
    assert_int_equal(peer_fetch(&fetch, &got), ST_OK);
    assert_false(got.has_cluster_id);
    buf_deinit(&got.body);
    node_close(&a);
    assert_int_equal(peer_fetch(&fetch, &got), ST_BUSY);
    fetch.url = "ftp://x";
    assert_int_equal(peer_fetch(&fetch, &got), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peers_exchange_messages_both_ways),
        cmocka_unit_test(test_peers_copy_what_they_send),
        cmocka_unit_test(test_peers_carry_a_burst_in_order),
        cmocka_unit_test(test_a_deaf_peer_delays_nobody),
        cmocka_unit_test(test_memory_is_bounded_when_nobody_takes_messages),
        cmocka_unit_test(test_peers_find_each_other_again),
        cmocka_unit_test(test_an_unknown_sender_is_answered_by_post),
        cmocka_unit_test(test_a_removed_member_is_told),
        cmocka_unit_test(test_another_cluster_is_refused),
        cmocka_unit_test(test_port_answers_as_etcd_does),
        cmocka_unit_test(test_port_keeps_and_closes_connections),
        cmocka_unit_test(test_fetch_asks_a_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
