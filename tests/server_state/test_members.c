/* Ids, JSON, the member table, and configurations in bytes. */
#include "server/state/members.h"

#include "base/arena.h"
#include "base/buf.h"
#include "proto/raft.pb-c.h"
#include "server/state/conf_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_slice(struct slice got, struct slice wanted)
{
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.data, wanted.data, wanted.len);
}

static void test_ids_are_etcds(void **state)
{
    (void)state;
    struct slice url = SLICE("http://localhost:2380");
    raft_id member;
    uint64_t cluster;
    assert_int_equal(member_id_compute(&url, 1, SLICE("etcd-cluster"), &member), ST_OK);
    assert_int_equal(member, 0x8e9e05c52164694d);
    assert_int_equal(cluster_id_compute(&member, 1, &cluster), ST_OK);
    assert_int_equal(cluster, 0xcdf818194e3a8c32);
}

static void test_ids_do_not_depend_on_order(void **state)
{
    (void)state;
    struct slice urls[] = {SLICE("http://a:1"), SLICE("http://b:2")};
    struct slice turned[] = {SLICE("http://b:2"), SLICE("http://a:1")};
    raft_id ids[2];
    assert_int_equal(member_id_compute(urls, 2, SLICE("t"), &ids[0]), ST_OK);
    assert_int_equal(member_id_compute(turned, 2, SLICE("t"), &ids[1]), ST_OK);
    assert_int_equal(ids[0], ids[1]);
    uint64_t a, b;
    assert_int_equal(cluster_id_compute((raft_id[]){1, 2}, 2, &a), ST_OK);
    assert_int_equal(cluster_id_compute((raft_id[]){2, 1}, 2, &b), ST_OK);
    assert_int_equal(a, b);
    assert_int_equal(member_id_compute(urls, 0, SLICE("t"), &ids[0]), ST_INVALID);
}

/* ---- JSON ---- */

static const struct slice peer_urls[] = {{(const uint8_t *)"http://a:2380", 13}};
static const struct slice client_urls[] = {{(const uint8_t *)"http://a:2379", 13},
                                           {(const uint8_t *)"http://b:2379", 13}};

static struct member_row whole_row(void)
{
    return (struct member_row){.id = 0x8e9e05c52164694d,
                               .name = SLICE("a \"quoted\" <name>\n"),
                               .peer_urls = peer_urls,
                               .peer_urls_count = 1,
                               .client_urls = client_urls,
                               .client_urls_count = 2};
}

static void test_member_json_is_as_go_writes_it(void **state)
{
    (void)state;
    struct member_row row = whole_row();
    struct buf json;
    buf_init(&json, 4096);
    assert_int_equal(member_json_encode(&row, &json), ST_OK);
    assert_slice(buf_slice(&json),
                 SLICE("{\"id\":10276657743932975437,\"peerURLs\":[\"http://a:2380\"],"
                       "\"name\":\"a \\\"quoted\\\" \\u003cname\\u003e\\n\","
                       "\"clientURLs\":[\"http://a:2379\",\"http://b:2379\"]}"));
    buf_reset(&json);
    struct member_row bare = {.id = 5, .is_learner = true};
    assert_int_equal(member_json_encode(&bare, &json), ST_OK);
    assert_slice(buf_slice(&json), SLICE("{\"id\":5,\"peerURLs\":[],\"isLearner\":true}"));
    buf_reset(&json);
    assert_int_equal(member_attributes_encode(&row, &json), ST_OK);
    assert_true(slice_has_prefix(buf_slice(&json), SLICE("{\"name\":\"a ")));
    buf_deinit(&json);
}

static void test_member_json_reads_what_it_writes(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct member_row row = whole_row(), got;
    struct buf json;
    buf_init(&json, 4096);
    assert_int_equal(member_json_encode(&row, &json), ST_OK);
    assert_int_equal(member_json_decode(buf_slice(&json), &arena, &got), ST_OK);
    assert_int_equal(got.id, row.id);
    assert_slice(got.name, row.name);
    assert_int_equal(got.peer_urls_count, 1);
    assert_int_equal(got.client_urls_count, 2);
    assert_slice(got.client_urls[1], client_urls[1]);
    for (size_t cut = 0; cut < json.len; cut++)
        assert_int_equal(member_json_decode(slice_make(json.data, cut), &arena, &got), ST_INVALID);
    buf_deinit(&json);
    arena_deinit(&arena);
}

static void test_member_json_reads_what_go_allows(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct member_row row;
    struct slice json = SLICE(" { \"ID\" : 7 , \"peerurls\":null, \"x\":[1,{\"y\":-2.5e3},true],"
                              "\"isPromote\":true,\"name\":\"\\u00e4\\ud83d\\ude00\\ud800\" } ");
    assert_int_equal(member_json_decode(json, &arena, &row), ST_OK);
    assert_int_equal(row.id, 7);
    assert_true(row.is_promote);
    assert_int_equal(row.peer_urls_count, 0);
    assert_slice(row.name, SLICE("\xc3\xa4\xf0\x9f\x98\x80\xef\xbf\xbd"));
    arena_deinit(&arena);
}

static void test_member_json_refuses_nonsense(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{",
                                      "{}x",
                                      "{\"id\":18446744073709551616}",
                                      "{\"id\":-1}",
                                      "{\"id\":1,}",
                                      "{\"name\":\"\\q\"}",
                                      "{\"name\":\"a\nb\"}",
                                      "{\"peerURLs\":[1]}",
                                      "{\"a\":tru}",
                                      "{\"name\":\"\\u12\"}",
                                      "{\"isLearner\":1}"};
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct member_row row;
        assert_int_equal(member_json_decode(slice_from_str(bad[i]), &arena, &row), ST_INVALID);
    }
    uint8_t deep[1000];
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', sizeof(deep) - 5);
    struct member_row row;
    assert_int_equal(member_json_decode(slice_make(deep, sizeof(deep)), &arena, &row), ST_TOO_BIG);
    arena_deinit(&arena);
}

/* ---- the table ---- */

static void test_members_are_sorted_and_replaced(void **state)
{
    (void)state;
    struct members *a, *b, *c;
    struct member_row row = whole_row();
    assert_int_equal(members_with(NULL, &row, &a), ST_OK);
    struct member_row lower = {.id = 5, .name = SLICE("low")};
    assert_int_equal(members_with(a, &lower, &b), ST_OK);
    lower.name = SLICE("other");
    assert_int_equal(members_with(b, &lower, &c), ST_OK);
    assert_int_equal(members_count(a), 1);
    assert_int_equal(members_count(c), 2);
    assert_int_equal(members_at(c, 0)->id, 5);
    assert_slice(members_at(b, 0)->name, SLICE("low"));
    assert_slice(members_at(c, 0)->name, SLICE("other"));
    assert_ptr_equal(members_find_peer_url(c, peer_urls[0], 0), members_at(c, 1));
    assert_null(members_find_peer_url(c, peer_urls[0], row.id));
    assert_null(members_find(c, 6));
    members_unref(a);
    members_unref(b);
    assert_ptr_equal(members_ref(c), c);
    members_unref(c);
    assert_slice(members_at(c, 1)->client_urls[1], client_urls[1]);
    members_unref(c);
}

static void test_members_have_a_limit(void **state)
{
    (void)state;
    struct members *members = NULL;
    for (raft_id id = 1; id <= MEMBERS_MAX + 1; id++) {
        struct members *next;
        struct member_row row = {.id = id};
        enum status st = members_with(members, &row, &next);
        assert_int_equal(st, id <= MEMBERS_MAX ? ST_OK : ST_TOO_BIG);
        if (st == ST_OK) {
            members_unref(members);
            members = next;
        }
    }
    members_unref(members);
}

/* ---- configurations ---- */

static void test_conf_state_is_raftpbs(void **state)
{
    (void)state;
    struct raft_conf_state sent = {.voters = {1, 300},
                                   .voters_count = 2,
                                   .learners = {9},
                                   .learners_count = 1,
                                   .voters_outgoing = {4},
                                   .voters_outgoing_count = 1,
                                   .learners_next = {8},
                                   .learners_next_count = 1,
                                   .auto_leave = true};
    struct buf bytes;
    buf_init(&bytes, 4096);
    assert_int_equal(conf_state_encode(&sent, &bytes), ST_OK);
    Raftpb__ConfState *message = raftpb__conf_state__unpack(NULL, bytes.len, bytes.data);
    assert_non_null(message);
    assert_int_equal(message->n_voters, 2);
    assert_int_equal(message->voters[1], 300);
    assert_int_equal(message->learners_next[0], 8);
    assert_int_equal(raftpb__conf_state__get_packed_size(message), bytes.len);
    raftpb__conf_state__free_unpacked(message, NULL);
    struct raft_conf_state got;
    assert_int_equal(conf_state_decode(buf_slice(&bytes), &got), ST_OK);
    assert_memory_equal(&got, &sent, sizeof(got));
    assert_int_equal(conf_state_decode(slice_make(bytes.data, 1), &got), ST_CORRUPT);
    buf_deinit(&bytes);
    uint8_t many[2 * (RAFT_MEMBERS_MAX + 1)];
    for (size_t i = 0; i < sizeof(many); i++)
        many[i] = i % 2 == 0 ? 0x08 : 0x01;
    assert_int_equal(conf_state_decode(slice_make(many, sizeof(many) - 2), &got), ST_OK);
    assert_int_equal(conf_state_decode(slice_make(many, sizeof(many)), &got), ST_CORRUPT);
}

static void test_conf_change_is_raftpbs(void **state)
{
    (void)state;
    struct member_change sent = {
        .type = MEMBER_CHANGE_ADD_NODE, .node_id = 7, .context = SLICE("{}")};
    struct raft_payload *payload = member_change_payload(&sent);
    assert_slice(raft_payload_slice(payload), SLICE("\x08\x00\x10\x00\x18\x07\x22\x02{}"));
    struct member_change got;
    assert_int_equal(member_change_decode(raft_payload_slice(payload), &got), ST_OK);
    assert_int_equal(got.node_id, 7);
    assert_slice(got.context, SLICE("{}"));
    raft_payload_unref(payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_etcds),
        cmocka_unit_test(test_ids_do_not_depend_on_order),
        cmocka_unit_test(test_member_json_is_as_go_writes_it),
        cmocka_unit_test(test_member_json_reads_what_it_writes),
        cmocka_unit_test(test_member_json_reads_what_go_allows),
        cmocka_unit_test(test_member_json_refuses_nonsense),
        cmocka_unit_test(test_members_are_sorted_and_replaced),
        cmocka_unit_test(test_members_have_a_limit),
        cmocka_unit_test(test_conf_state_is_raftpbs),
        cmocka_unit_test(test_conf_change_is_raftpbs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
