/* --initial-cluster: reading, checking, founding and joining; peer URLs. */
#include "server/state/bootstrap.h"

#include "base/buf.h"

#include "server/state/conf_state.h"
#include "server/state/peer_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
    struct arena arena;
    struct initial_cluster cluster;
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    arena_init(&fixture.arena, 16 << 20);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(&((struct fixture *)*state)->arena);
    return 0;
}

static const char three[] = "b=http://10.0.0.2:2380,a=http://10.0.0.1:2380,c=http://10.0.0.3:2380,"
                            "a=http://10.0.0.1:2381";

static const char *parse(struct fixture *f, const char *text)
{
    const char *why = NULL;
    enum status st = initial_cluster_parse(slice_from_str(text), SLICE("etcd-cluster"), &f->arena,
                                           &f->cluster, &why);
    assert_true(st == ST_OK || why != NULL);
    return st == ST_OK ? NULL : why;
}

/* ---- peer URLs ---- */

static void test_peer_urls_are_read_as_etcd_reads_them(void **state)
{
    struct fixture *f = *state;
    const struct slice texts[] = {SLICE(" HTTPS://b:1 "), SLICE("http://[::1]:2380"),
                                  SLICE("unix://a"), SLICE("http://:80")};
    const struct slice *urls;
    const char *why;
    assert_int_equal(peer_urls_read(texts, 4, &f->arena, &urls, &why), ST_OK);
    assert_true(slice_eq(urls[0], SLICE("http://:80")));
    assert_true(slice_eq(urls[1], SLICE("http://[::1]:2380")));
    assert_true(slice_eq(urls[2], SLICE("https://b:1")));
    assert_true(slice_eq(urls[3], SLICE("unix://a")));
    static const struct {
        const char *url, *why;
    } bad[] = {
        {"garbage", "URL scheme must be http, https, unix, or unixs: garbage"},
        {"", "URL scheme"},
        {"ftp://a:1", "URL scheme"},
        {"http://a:1/", "URL must not contain a path: http://a:1/"},
        {"http://a", "URL address does not have the form \"host:port\": http://a"},
        {"http://a:", "host:port"},
        {"http://a:65536", "host:port"},
        {"http://a:1x", "host:port"},
        {"http://::1:80", "host:port"},
        {"http://u@a:1", "special"},
        {"http://a:1?x", "special"},
        {"http://a b:1", "special"},
        {"http://a,b:1", "special"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct slice text = slice_from_str(bad[i].url);
        assert_int_equal(peer_urls_read(&text, 1, &f->arena, &urls, &why), ST_INVALID);
        assert_non_null(strstr(why, bad[i].why));
    }
    assert_int_equal(peer_urls_read(NULL, 0, &f->arena, &urls, &why), ST_INVALID);
    assert_int_equal(peer_urls_read(texts, MEMBER_URLS_MAX + 1, &f->arena, &urls, &why),
                     ST_TOO_BIG);
}

/* ---- reading ---- */

static void test_ids_are_those_of_etcds_own_tests(void **state)
{
    (void)state;
    const struct slice url[] = {SLICE("http://10.0.0.8:2379")};
    const struct slice two[] = {SLICE("http://10.0.0.2:2379"), SLICE("http://10.0.0.1:2379")};
    raft_id id;
    assert_int_equal(member_id_compute(url, 1, SLICE_EMPTY, &id), ST_OK);
    assert_int_equal(id, 14544069596553697298ULL);
    /* 1984-12-23T15:04:05Z behind the (empty) token, as for a member added at run time. */
    assert_int_equal(member_id_compute(url, 1, SLICE("472662245"), &id), ST_OK);
    assert_int_equal(id, 2448790162483548276ULL);
    assert_int_equal(member_id_compute(two, 2, SLICE_EMPTY, &id), ST_OK);
    assert_int_equal(id, 16552244735972308939ULL);
}

static void test_initial_cluster_is_read(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, three));
    assert_int_equal(f->cluster.count, 3);
    for (uint32_t i = 1; i < 3; i++)
        assert_true(f->cluster.rows[i - 1].id < f->cluster.rows[i].id);
    const struct member_row *a = initial_cluster_find(&f->cluster, SLICE("a"));
    assert_int_equal(a->peer_urls_count, 2);
    assert_true(slice_eq(a->peer_urls[1], SLICE("http://10.0.0.1:2381")));
    assert_null(initial_cluster_find(&f->cluster, SLICE("d")));
    const struct slice *urls;
    uint32_t count;
    assert_int_equal(initial_cluster_remote_urls(&f->cluster, SLICE("a"), &f->arena, &urls, &count),
                     ST_OK);
    assert_int_equal(count, 2);
    assert_true(slice_eq(urls[0], SLICE("http://10.0.0.2:2380")));
    assert_null(parse(f, "default=http://localhost:2380"));
    assert_int_equal(f->cluster.rows[0].id, 0x8e9e05c52164694d);
    assert_int_equal(f->cluster.cluster_id, 0xcdf818194e3a8c32);
    assert_null(parse(f, ",,default=http://localhost:2380,"));
}

static void test_initial_cluster_refuses(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(parse(f, ""), "initial cluster unset and no discovery URL found");
    assert_non_null(strstr(parse(f, "a"), "URL scheme"));
    assert_non_null(strstr(parse(f, "a=http://h:1/x"), "must not contain a path"));
    assert_non_null(strstr(parse(f, "a=http://h:1,b=http://h:1"), "identical ID"));
    char many[MEMBERS_MAX * 32 + 64];
    size_t len = 0;
    for (uint32_t i = 0; i <= MEMBERS_MAX; i++)
        len += (size_t)snprintf(many + len, sizeof(many) - len, "n%u=http://h%u:1,", i, i);
    assert_non_null(strstr(parse(f, many), "too many"));
}

/* ---- checking ---- */

static const char *check(struct fixture *f, const char *name, const char *advertised, bool is_new)
{
    struct slice url = slice_from_str(advertised);
    return initial_cluster_check(&f->cluster, slice_from_str(name), &url, 1, is_new, NULL,
                                 &f->arena);
}

static void test_initial_cluster_is_checked_in_etcds_words(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, three));
    assert_null(check(f, "b", "http://10.0.0.2:2380", true));
    assert_string_equal(check(f, "x", "http://10.0.0.2:2380", true),
                        "couldn't find local name \"x\" in the initial cluster configuration");
    assert_string_equal(check(f, "b", "http://10.0.0.9:2380", true),
                        "--initial-cluster has b=http://10.0.0.2:2380 but missing from "
                        "--initial-advertise-peer-urls=http://10.0.0.9:2380 (resolved urls: "
                        "\"http://10.0.0.9:2380\" != \"http://10.0.0.2:2380\")");
    assert_null(check(f, "b", "http://10.0.0.9:2380", false)); /* joining: not looked at */
    assert_non_null(strstr(check(f, "a", "http://10.0.0.1:2380", true),
                           "--initial-cluster has a=http://10.0.0.1:2381 but missing"));
    const struct slice more[] = {SLICE("http://10.0.0.2:2380"), SLICE("http://x:1")};
    assert_non_null(
        strstr(initial_cluster_check(&f->cluster, SLICE("b"), more, 2, true, NULL, &f->arena),
               "--initial-advertise-peer-urls has http://x:1 but missing from "
               "--initial-cluster=b="));
    assert_null(parse(f, "a=http://h:1,b=http://i:1,b=http://h:1"));
    assert_string_equal(check(f, "a", "http://h:1", true),
                        "initial cluster a=http://h:1,b=http://h:1,b=http://i:1 has duplicate url");
    assert_non_null(check(f, "a", "http://h:1", false));
}

static bool resolves(void *context, const struct slice *a, const struct slice *b, uint32_t count,
                     char *why, size_t why_bytes)
{
    (void)a;
    (void)b;
    (void)count;
    snprintf(why, why_bytes, "asked");
    return *(bool *)context;
}

static void test_names_of_hosts_are_resolved(void **state)
{
    struct fixture *f = *state;
    bool same = true;
    const struct url_resolver resolver = {.equal = resolves, .context = &same};
    const struct slice url = SLICE("http://localhost:2380");
    assert_null(parse(f, "a=http://127.0.0.1:2380"));
    assert_null(
        initial_cluster_check(&f->cluster, SLICE("a"), &url, 1, true, &resolver, &f->arena));
    same = false;
    assert_non_null(
        strstr(initial_cluster_check(&f->cluster, SLICE("a"), &url, 1, true, &resolver, &f->arena),
               "(asked)"));
}

/* ---- founding ---- */

static void test_founding_entries_are_etcds(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, "default=http://localhost:2380"));
    struct raft_payload *changes[MEMBERS_MAX];
    assert_int_equal(initial_cluster_changes(&f->cluster, changes), ST_OK);
    struct member_change change;
    assert_int_equal(member_change_decode(raft_payload_slice(changes[0]), &change), ST_OK);
    assert_int_equal(change.id, 0);
    assert_int_equal(change.type, MEMBER_CHANGE_ADD_NODE);
    assert_int_equal(change.node_id, 0x8e9e05c52164694d);
    assert_true(
        slice_eq(change.context, SLICE("{\"id\":10276657743932975437,\"peerURLs\":[\"http://"
                                       "localhost:2380\"],\"name\":\"default\"}")));
    raft_payload_unref(changes[0]);
}

/* ---- joining ---- */

static struct members *existing(struct fixture *f, const char *json)
{
    struct members *members;
    assert_int_equal(members_json_decode(slice_from_str(json), &f->arena, &members), ST_OK);
    return members;
}

static void test_member_that_ran_before_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, "default=http://localhost:2380"));
    struct members *members =
        existing(f, "[{\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"]}]");
    assert_null(initial_cluster_already_ran(&f->cluster, SLICE("default"), members, &f->arena));
    members_unref(members);
    members = existing(f, "[{\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"],"
                          "\"clientURLs\":[\"http://c:1\"]}]");
    assert_string_equal(
        initial_cluster_already_ran(&f->cluster, SLICE("default"), members, &f->arena),
        "member 8e9e05c52164694d has already been bootstrapped");
    members_unref(members);
}

static const char running[] =
    "[{\"id\":17,\"peerURLs\":[\"http://10.0.0.1:2380\",\"http://10.0.0.1:2381\"],\"name\":\"a\"},"
    "{\"id\":33,\"peerURLs\":[\"http://10.0.0.3:2380\"],\"isLearner\":true},"
    "{\"id\":18446744073709551615,\"peerURLs\":[\"http://10.0.0.2:2380\"],\"name\":\"b\"}]\n";

static void test_joining_member_takes_its_id_from_the_cluster(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, three));
    struct members *members = existing(f, running);
    assert_null(initial_cluster_assign_ids(&f->cluster, members, 0xc1, NULL, &f->arena));
    assert_int_equal(f->cluster.cluster_id, 0xc1);
    assert_int_equal(initial_cluster_find(&f->cluster, SLICE("a"))->id, 17);
    assert_int_equal(initial_cluster_find(&f->cluster, SLICE("b"))->id, UINT64_MAX);
    assert_int_equal(initial_cluster_find(&f->cluster, SLICE("c"))->id, 33);
    assert_true(initial_cluster_find(&f->cluster, SLICE("c"))->is_learner);
    assert_int_equal(f->cluster.rows[0].id, 17); /* ascending again */
    members_unref(members);
}

static void test_joining_another_cluster_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_null(parse(f, "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380"));
    struct members *members = existing(f, running);
    assert_string_equal(initial_cluster_assign_ids(&f->cluster, members, 0xc1, NULL, &f->arena),
                        "member count is unequal");
    assert_null(parse(f, "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380"));
    raft_id before = f->cluster.rows[0].id;
    assert_non_null(
        strstr(initial_cluster_assign_ids(&f->cluster, members, 0xc1, NULL, &f->arena),
               "PeerURLs: no match found for existing member (11, [http://10.0.0.1:2380 "
               "http://10.0.0.1:2381]), last resolver error ("));
    assert_int_equal(f->cluster.rows[0].id, before);
    members_unref(members);
}

static void test_member_list_is_read_or_refused(void **state)
{
    struct fixture *f = *state;
    struct members *members = existing(f, running);
    struct buf json;
    buf_init(&json, 4096);
    assert_int_equal(members_json_encode(members, &json), ST_OK);
    assert_true(slice_eq(buf_slice(&json), slice_make(running, sizeof(running) - 2)));
    buf_deinit(&json);
    members_unref(members);
    static const char *const bad[] = {"",
                                      "{}",
                                      "[",
                                      "[{}]",
                                      "[{\"id\":1},{\"id\":1}]",
                                      "[{\"id\":1},]",
                                      "[{\"id\":1}] x",
                                      "[{\"id\":1}{\"id\":2}]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(members_json_decode(slice_from_str(bad[i]), &f->arena, &members),
                         ST_INVALID);
        assert_null(members);
    }
    assert_int_equal(members_json_decode(SLICE("[]"), &f->arena, &members), ST_OK);
    assert_null(members);
}

/* ---- memory ---- */

static void test_any_arena_gives_an_answer_or_a_reason(void **state)
{
    struct fixture *f = *state;
    bool succeeded = false;
    for (size_t bytes = 64; !succeeded; bytes += bytes / 8 + 64) {
        struct arena arena;
        arena_init(&arena, bytes);
        const char *why = NULL;
        struct members *members = NULL;
        enum status st =
            initial_cluster_parse(slice_from_str(three), SLICE("t"), &arena, &f->cluster, &why);
        assert_true(st == ST_OK || (st == ST_TOO_BIG && why != NULL));
        if (st == ST_OK) {
            const struct slice url = SLICE("http://x:1");
            assert_non_null(
                initial_cluster_check(&f->cluster, SLICE("b"), &url, 1, true, NULL, &arena));
            st = members_json_decode(slice_from_str(running), &arena, &members);
            assert_true(st == ST_OK || (st == ST_TOO_BIG && members == NULL));
        }
        succeeded = st == ST_OK &&
                    initial_cluster_assign_ids(&f->cluster, members, 1, NULL, &arena) == NULL;
        members_unref(members);
        arena_deinit(&arena);
        assert_true(bytes < 8 << 20);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_peer_urls_are_read_as_etcd_reads_them),
        TEST(test_ids_are_those_of_etcds_own_tests),
        TEST(test_initial_cluster_is_read),
        TEST(test_initial_cluster_refuses),
        TEST(test_initial_cluster_is_checked_in_etcds_words),
        TEST(test_names_of_hosts_are_resolved),
        TEST(test_founding_entries_are_etcds),
        TEST(test_member_that_ran_before_is_refused),
        TEST(test_joining_member_takes_its_id_from_the_cluster),
        TEST(test_joining_another_cluster_is_refused),
        TEST(test_member_list_is_read_or_refused),
        TEST(test_any_arena_gives_an_answer_or_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
