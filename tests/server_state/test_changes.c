/* Changes of membership as they are applied: what is refused, what the table and the store hold
 * afterwards, and a random history against a model. */
#include "base/buf.h"
#include "base/rng.h"
#include "server/state/conf_state.h"
#include "server/state/v2_store.h"
#include "tests/server_state/harness.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct harness harness;
    harness_init(&harness);
    *state = &harness;
    return 0;
}

static int teardown(void **state)
{
    harness_deinit(*state);
    return 0;
}

static struct raft_entry change_entry(uint64_t index, const struct member_change *change)
{
    return (struct raft_entry){.term = 2,
                               .index = index,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .payload = member_change_payload(change)};
}

static struct machine_result apply(struct harness *h, const struct member_change *change)
{
    struct raft_entry entry = change_entry(++h->index, change);
    struct slice bytes;
    struct machine_result result;
    assert_int_equal(machine_check_conf_change(h->machine, &entry, &bytes, &result), ST_OK);
    assert_int_equal(bytes.len > 0, result.error == API_OK);
    assert_int_equal(result.request_id, change->id);
    assert_int_equal(result.change != MACHINE_CHANGE_NONE, result.error == API_OK);
    assert_int_equal(result.changed, result.error == API_OK ? change->node_id : 0);
    struct raft_conf_state conf_state = {.voters = {1}, .voters_count = 1};
    assert_int_equal(machine_end_conf_change(h->machine, &entry, &conf_state), ST_OK);
    assert_int_equal(machine_applied(h->machine).index, h->index);
    raft_payload_unref(entry.payload);
    return result;
}

static enum api_error change(struct harness *h, enum member_change_type type, raft_id id,
                             const char *json)
{
    const struct member_change c = {
        .id = 77, .type = type, .node_id = id, .context = slice_from_str(json)};
    return apply(h, &c).error;
}

static enum api_error add(struct harness *h, raft_id id, const char *url)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"id\":%" PRIu64 ",\"peerURLs\":[\"%s\"]}", id, url);
    return change(h, MEMBER_CHANGE_ADD_NODE, id, json);
}

static enum api_error add_learner(struct harness *h, raft_id id, const char *url)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"id\":%" PRIu64 ",\"peerURLs\":[\"%s\"],\"isLearner\":true}",
             id, url);
    return change(h, MEMBER_CHANGE_ADD_LEARNER, id, json);
}

static enum api_error promote(struct harness *h, raft_id id)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"id\":%" PRIu64 ",\"peerURLs\":null,\"isPromote\":true}", id);
    return change(h, MEMBER_CHANGE_ADD_NODE, id, json);
}

static enum api_error update(struct harness *h, raft_id id, const char *url, bool is_learner)
{
    char json[256];
    snprintf(json, sizeof(json), "{\"id\":%" PRIu64 ",\"peerURLs\":[\"%s\"]%s}", id, url,
             is_learner ? ",\"isLearner\":true" : "");
    return change(h, MEMBER_CHANGE_UPDATE_NODE, id, json);
}

static enum api_error drop(struct harness *h, raft_id id)
{
    return change(h, MEMBER_CHANGE_REMOVE_NODE, id, "");
}

/* ---- refusals ---- */

static void test_change_refuses_what_etcd_refuses(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    assert_int_equal(add(h, 2, "http://b:1"), API_OK);
    assert_int_equal(add(h, 2, "http://c:1"), API_MEMBER_EXISTS);
    assert_int_equal(add(h, 3, "http://b:1"), API_PEER_URL_EXISTS);
    assert_int_equal(add_learner(h, 3, "http://b:1"), API_PEER_URL_EXISTS);
    assert_int_equal(add_learner(h, 2, "http://d:1"), API_MEMBER_EXISTS);
    assert_int_equal(promote(h, 2), API_MEMBER_NOT_LEARNER);
    assert_int_equal(promote(h, 9), API_MEMBER_NOT_FOUND);
    assert_int_equal(update(h, 9, "http://z:1", false), API_MEMBER_NOT_FOUND);
    assert_int_equal(update(h, 2, "http://a:1", false), API_PEER_URL_EXISTS);
    assert_int_equal(update(h, 2, "http://b:1", false), API_OK); /* its own */
    assert_int_equal(drop(h, 9), API_MEMBER_NOT_FOUND);
    assert_int_equal(add_learner(h, 4, "http://d:1"), API_OK);
    assert_int_equal(add_learner(h, 5, "http://e:1"), API_TOO_MANY_LEARNERS);
    assert_int_equal(drop(h, 2), API_OK);
    assert_int_equal(drop(h, 2), API_MEMBER_NOT_FOUND);
    assert_int_equal(add(h, 2, "http://f:1"), API_MEMBER_NOT_FOUND); /* the id is used up */
    assert_int_equal(promote(h, 2), API_MEMBER_NOT_FOUND);
    assert_int_equal(update(h, 2, "http://f:1", false), API_MEMBER_NOT_FOUND);
    struct members *members = machine_members(h->machine);
    assert_int_equal(members_count(members), 2);
    members_unref(members);
}

static void test_change_of_a_full_table_is_refused(void **state)
{
    struct harness *h = *state;
    char url[64];
    for (raft_id id = 1; id <= MEMBERS_MAX; id++) {
        snprintf(url, sizeof(url), "http://h%" PRIu64 ":1", id);
        assert_int_equal(add(h, id, url), API_OK);
    }
    assert_int_equal(add(h, 1000, "http://x:1"), API_UNHEALTHY);
    assert_int_equal(drop(h, 1), API_OK);
    assert_int_equal(add(h, 1000, "http://x:1"), API_OK);
}

static void test_change_that_does_not_decode_stops_the_member(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    const struct member_change changes[] = {
        {.type = MEMBER_CHANGE_ADD_LEARNER, .node_id = 7, .context = SLICE("nonsense")},
        {.type = MEMBER_CHANGE_ADD_NODE, .node_id = 7},
        {.type = MEMBER_CHANGE_UPDATE_NODE, .node_id = 1, .context = SLICE("{")},
        {.type = MEMBER_CHANGE_UPDATE_NODE, .node_id = 1, .context = SLICE("{\"id\":2}")},
        {.type = 4, .node_id = 1},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct raft_entry entry = change_entry(2, &changes[i]);
        struct slice bytes;
        struct machine_result result;
        assert_int_equal(machine_check_conf_change(h->machine, &entry, &bytes, &result),
                         ST_UNSUPPORTED);
        assert_non_null(strstr(machine_problem(h->machine), "entry 2"));
        raft_payload_unref(entry.payload);
    }
    /* A removed id is refused before anything of its context is looked at. */
    assert_int_equal(drop(h, 1), API_OK);
    assert_int_equal(change(h, MEMBER_CHANGE_ADD_NODE, 1, "nonsense"), API_MEMBER_NOT_FOUND);
    assert_int_equal(change(h, MEMBER_CHANGE_UPDATE_NODE, 9, "nonsense"), API_MEMBER_NOT_FOUND);
}

/* ---- what is kept ---- */

static void assert_record(struct harness *h, enum bucket bucket, const char *key,
                          const char *wanted)
{
    struct slice value;
    enum status st = store_get(h->store, bucket, slice_from_str(key), &h->arena, &value);
    assert_int_equal(st, wanted == NULL ? ST_NOT_FOUND : ST_OK);
    if (wanted == NULL)
        return;
    assert_int_equal(value.len, strlen(wanted));
    assert_memory_equal(value.data, wanted, value.len);
}

static void publish(struct harness *h, const char *id, const char *attributes)
{
    struct buf data;
    buf_init(&data, 4096);
    char path[64];
    int path_len = snprintf(path, sizeof(path), "/0/members/%s/attributes", id);
    assert_int_equal(buf_printf(&data, "\x12\x03PUT\x1a%c%s\"%c%s", path_len, path,
                                (int)strlen(attributes), attributes),
                     ST_OK);
    harness_apply_data(h, buf_slice(&data), &h->arena);
    buf_deinit(&data);
}

static void test_change_keeps_etcds_records(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 0xab, "http://a:1"), API_OK);
    assert_int_equal(add_learner(h, 0xcd, "http://b:1"), API_OK);
    assert_record(h, BUCKET_MEMBERS, "ab", "{\"id\":171,\"peerURLs\":[\"http://a:1\"]}");
    assert_record(h, BUCKET_MEMBERS, "cd",
                  "{\"id\":205,\"peerURLs\":[\"http://b:1\"],\"isLearner\":true}");
    publish(h, "cd", "{\"name\":\"n\",\"clientURLs\":[\"http://c:2\"]}");
    assert_int_equal(update(h, 0xcd, "http://d:1", /* is_learner= */ true), API_OK);
    assert_record(h, BUCKET_MEMBERS, "cd",
                  "{\"id\":205,\"peerURLs\":[\"http://d:1\"],\"isLearner\":true,"
                  "\"name\":\"n\",\"clientURLs\":[\"http://c:2\"]}");
    assert_int_equal(promote(h, 0xcd), API_OK);
    assert_record(h, BUCKET_MEMBERS, "cd",
                  "{\"id\":205,\"peerURLs\":[\"http://d:1\"],"
                  "\"name\":\"n\",\"clientURLs\":[\"http://c:2\"]}");
    assert_int_equal(promote(h, 0xcd), API_MEMBER_NOT_LEARNER);
    assert_int_equal(drop(h, 0xab), API_OK);
    assert_record(h, BUCKET_MEMBERS, "ab", NULL);
    assert_record(h, BUCKET_MEMBERS_REMOVED, "ab", "removed");
    assert_record(h, BUCKET_MEMBERS_REMOVED, "cd", NULL);
}

static void test_change_survives_a_restart(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    assert_int_equal(add(h, 2, "http://b:1"), API_OK);
    assert_int_equal(add_learner(h, 3, "http://c:1"), API_OK);
    assert_int_equal(drop(h, 2), API_OK);
    assert_true(machine_is_removed(h->machine, 2));
    harness_reopen(h);
    struct members *members = machine_members(h->machine);
    assert_int_equal(members_count(members), 2);
    assert_true(members_find(members, 3)->is_learner);
    members_unref(members);
    assert_true(machine_is_removed(h->machine, 2));
    assert_false(machine_is_removed(h->machine, 3));
    assert_int_equal(add(h, 2, "http://b:1"), API_MEMBER_NOT_FOUND);
    assert_int_equal(add_learner(h, 4, "http://d:1"), API_TOO_MANY_LEARNERS);
}

/* A snapshot replaces what the store holds behind the machine's back. */
static void test_machine_reads_a_replaced_store_anew(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    assert_int_equal(drop(h, 1), API_OK);
    struct members *before = machine_members(h->machine);
    assert_int_equal(store_delete(h->store, BUCKET_MEMBERS_REMOVED, SLICE("1")), ST_OK);
    assert_int_equal(store_put(h->store, BUCKET_MEMBERS, SLICE("2"),
                               SLICE("{\"id\":2,\"peerURLs\":[\"http://b:1\"]}")),
                     ST_OK);
    assert_int_equal(store_put(h->store, BUCKET_ALARM, SLICE("\x10\x02"), SLICE_EMPTY), ST_OK);
    assert_int_equal(store_put(h->store, BUCKET_CLUSTER, SLICE("clusterVersion"), SLICE("3.5.0")),
                     ST_OK);
    const struct raft_log_id applied = {.index = 50, .term = 2};
    assert_int_equal(machine_reload(h->machine, applied), ST_OK);
    assert_int_equal(machine_applied(h->machine).index, 50);
    assert_int_equal(members_count(before), 0); /* who holds a table keeps it */
    members_unref(before);
    struct members *members = machine_members(h->machine);
    assert_int_equal(members_count(members), 1);
    members_unref(members);
    assert_false(machine_is_removed(h->machine, 1));
    assert_true(machine_has_alarm(h->machine, ALARM_CORRUPT));
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(h->machine, version);
    assert_string_equal(version, "3.5.0");
    assert_int_equal(store_put(h->store, BUCKET_MEMBERS, SLICE("3"), SLICE("{")), ST_OK);
    assert_int_equal(machine_reload(h->machine, applied), ST_CORRUPT);
    assert_non_null(strstr(machine_problem(h->machine), "member '3'"));
    assert_true(machine_has_alarm(h->machine, ALARM_CORRUPT)); /* as before */
}

static void test_update_never_makes_a_learner(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    assert_int_equal(update(h, 1, "http://b:1", /* is_learner= */ true), API_OK);
    struct members *members = machine_members(h->machine);
    assert_false(members_at(members, 0)->is_learner);
    members_unref(members);
    assert_int_equal(add_learner(h, 2, "http://c:1"), API_OK);
    assert_int_equal(update(h, 2, "http://d:1", /* is_learner= */ false), API_OK); /* etcd's */
    assert_int_equal(promote(h, 2), API_MEMBER_NOT_LEARNER);
}

static void test_publication_of_a_removed_member_changes_nothing(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 1, "http://a:1"), API_OK);
    assert_int_equal(drop(h, 1), API_OK);
    publish(h, "1", "{\"name\":\"n\"}");
    assert_record(h, BUCKET_MEMBERS, "1", NULL);
}

/* ---- a random history ---- */

#define MODEL_IDS 8U
#define MODEL_URLS 6U

struct model {
    struct {
        bool present, removed, learner;
        uint32_t url;
    } members[MODEL_IDS];
};

static bool url_is_taken(const struct model *m, uint32_t url, uint32_t exempt)
{
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (i != exempt && m->members[i].present && m->members[i].url == url)
            return true;
    }
    return false;
}

static bool has_learner(const struct model *m)
{
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (m->members[i].present && m->members[i].learner)
            return true;
    }
    return false;
}

static enum api_error model_add(struct model *m, uint32_t i, uint32_t url, bool learner)
{
    if (m->members[i].removed)
        return API_MEMBER_NOT_FOUND;
    if (m->members[i].present)
        return API_MEMBER_EXISTS;
    if (url_is_taken(m, url, MODEL_IDS))
        return API_PEER_URL_EXISTS;
    if (learner && has_learner(m))
        return API_TOO_MANY_LEARNERS;
    m->members[i].present = true;
    m->members[i].learner = learner;
    m->members[i].url = url;
    return API_OK;
}

static enum api_error model_change(struct model *m, uint32_t kind, uint32_t i, uint32_t url)
{
    if (kind < 2)
        return model_add(m, i, url, kind == 1);
    if (!m->members[i].present)
        return API_MEMBER_NOT_FOUND;
    if (kind == 2 && !m->members[i].learner)
        return API_MEMBER_NOT_LEARNER;
    if (kind == 2)
        m->members[i].learner = false;
    else if (kind == 3 && url_is_taken(m, url, i))
        return API_PEER_URL_EXISTS;
    else if (kind == 3)
        m->members[i].url = url;
    else {
        m->members[i].present = false;
        m->members[i].removed = true;
    }
    return API_OK;
}

static void assert_like_model(struct harness *h, const struct model *m)
{
    struct members *members = machine_members(h->machine);
    uint32_t count = 0;
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        const struct member_row *row = members_find(members, i + 1);
        assert_int_equal(row != NULL, m->members[i].present);
        assert_int_equal(machine_is_removed(h->machine, i + 1), m->members[i].removed);
        if (row == NULL)
            continue;
        count++;
        char url[32];
        snprintf(url, sizeof(url), "http://u%u:1", m->members[i].url);
        assert_true(slice_eq(row->peer_urls[0], slice_from_str(url)));
        assert_int_equal(row->is_learner, m->members[i].learner);
    }
    assert_int_equal(members_count(members), count);
    members_unref(members);
}

static void run_history(struct harness *h, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    struct model model = {0};
    for (uint32_t step = 0; step < 60; step++) {
        uint32_t kind = (uint32_t)rng_below(&rng, 5), i = (uint32_t)rng_below(&rng, MODEL_IDS);
        uint32_t u = (uint32_t)rng_below(&rng, MODEL_URLS);
        char url[32];
        snprintf(url, sizeof(url), "http://u%u:1", u);
        bool learner = model.members[i].learner;
        enum api_error wanted = model_change(&model, kind, i, u);
        enum api_error got = kind == 0   ? add(h, i + 1, url)
                             : kind == 1 ? add_learner(h, i + 1, url)
                             : kind == 2 ? promote(h, i + 1)
                             : kind == 3 ? update(h, i + 1, url, learner)
                                         : drop(h, i + 1);
        assert_int_equal(got, wanted);
        assert_like_model(h, &model);
        if (rng_below(&rng, 10) == 0)
            harness_reopen(h);
    }
    assert_like_model(h, &model);
}

/* What stands between a node's name and its children, with ' for a quote and ` for an escaped one.
 */
#define NODE(path, value)                                     \
    ":{'Path':'" path "','CreatedIndex':0,'ModifiedIndex':0," \
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'" value "','Children':"

static const char v2_store[] = "{'Root'" NODE(
    "/",
    "") "{"
        "'0'" NODE(
            "/0",
            "") "{"
                "'members'" NODE(
                    "/0/members",
                    "") "{"
                        "'a'" NODE(
                            "/0/members/a",
                            "") "{"
                                "'attributes'" NODE(
                                    "/0/members/a/attributes",
                                    "{}") "null},"
                                          "'raftAttributes'" NODE(
                                              "/0/members/a/raftAttributes",
                                              "{`peerURLs`:[`http://a:1`]}") "null}}},"
                                                                             "'b'" NODE(
                                                                                 "/0/members/b",
                                                                                 "") "{"
                                                                                     "'attributes"
                                                                                     "'" NODE(
                                                                                         "/0/"
                                                                                         "members/"
                                                                                         "b/"
                                                                                         "attribute"
                                                                                         "s",
                                                                                         "{}") "nul"
                                                                                               "l},"
                                                                                               "'ra"
                                                                                               "ftA"
                                                                                               "ttr"
                                                                                               "ibu"
                                                                                               "tes"
                                                                                               "'" NODE(
                                                                                                   "/0/members/b/raftAttributes",
                                                                                                   "{`peerURLs`:[`http://b:1`],`isLearner`:true}") "null}}}}},"
                                                                                                                                                   "'removed_members'" NODE(
                                                                                                                                                       "/0/removed_members",
                                                                                                                                                       "") "{"
                                                                                                                                                           "'c'" NODE(
                                                                                                                                                               "/0/removed_members/c",
                                                                                                                                                               "") "null}}}}},"
                                                                                                                                                                   "'1'" NODE(
                                                                                                                                                                       "/1",
                                                                                                                                                                       "") "{}}}},"
                                                                                                                                                                           "'CurrentIndex':7,'CurrentVersion':2}";

static void quote(const char *text, struct buf *out)
{
    for (const char *c = text; *c != '\0'; c++) {
        struct slice piece = *c == '\''  ? SLICE("\"")
                             : *c == '`' ? SLICE("\\\"")
                                         : slice_make((const uint8_t *)c, 1);
        assert_int_equal(buf_append(out, piece), ST_OK);
    }
}

/* Byte for byte what an etcd 3.5 reads its members from; tests/e2e/cluster_mixed.py has one read
 * it. */
static void test_members_as_etcds_v2_store(void **state)
{
    struct harness *h = *state;
    assert_int_equal(add(h, 0xa, "http://a:1"), API_OK);
    assert_int_equal(add_learner(h, 0xb, "http://b:1"), API_OK);
    assert_int_equal(add(h, 0xc, "http://c:1"), API_OK);
    assert_int_equal(drop(h, 0xc), API_OK);
    struct buf json, wanted;
    buf_init(&wanted, 65536);
    quote(v2_store, &wanted);
    buf_init(&json, 65536);
    assert_int_equal(v2_store_encode(h->machine, 7, &json), ST_OK);
    assert_int_equal(json.len, wanted.len);
    assert_memory_equal(json.data, wanted.data, wanted.len);
    buf_deinit(&wanted);
    buf_deinit(&json);
    buf_init(&json, 100);
    assert_int_equal(v2_store_encode(h->machine, 7, &json), ST_TOO_BIG);
    buf_deinit(&json);
}

static void test_changes_are_like_the_model(void **state)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        run_history(*state, seed);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_change_refuses_what_etcd_refuses),
        TEST(test_change_of_a_full_table_is_refused),
        TEST(test_change_that_does_not_decode_stops_the_member),
        TEST(test_change_keeps_etcds_records),
        TEST(test_change_survives_a_restart),
        TEST(test_machine_reads_a_replaced_store_anew),
        TEST(test_update_never_makes_a_learner),
        TEST(test_publication_of_a_removed_member_changes_nothing),
        TEST(test_members_as_etcds_v2_store),
        TEST(test_changes_are_like_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
