/* Applying entries: what each KV request does and answers. */
#include "base/buf.h"
#include "base/bytes.h"
#include "base/wire.h"
#include "server/state/conf_state.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/messages.h"

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

static void assert_bytes(ProtobufCBinaryData got, const char *wanted)
{
    assert_int_equal(got.len, strlen(wanted));
    assert_memory_equal(got.data, wanted, got.len);
}

static void assert_full_header(const Etcdserverpb__ResponseHeader *header, int64_t revision)
{
    assert_int_equal(header->cluster_id, HARNESS_CLUSTER_ID);
    assert_int_equal(header->member_id, HARNESS_MEMBER_ID);
    assert_int_equal(header->raft_term, 2);
    assert_int_equal(header->revision, revision);
}

/* ---- put ---- */

static void test_put_numbers_revisions_from_two(void **state)
{
    struct harness *h = *state;
    assert_int_equal(harness_revision(h), 1);
    const struct kv_put put = {.key = SLICE("k"), .value = SLICE("v")};
    const Etcdserverpb__PutResponse *response = harness_put(h, &put, NULL);
    assert_full_header(response->header, 2);
    assert_null(response->prev_kv);
    assert_int_equal(harness_put(h, &put, NULL)->header->revision, 3);
    const struct kv_range range = {.key = SLICE("k")};
    const Mvccpb__KeyValue *kv = harness_range(h, &range, NULL)->kvs[0];
    assert_int_equal(kv->create_revision, 2);
    assert_int_equal(kv->mod_revision, 3);
    assert_int_equal(kv->version, 2);
}

static void test_put_gives_the_previous_record(void **state)
{
    struct harness *h = *state;
    struct kv_put put = {.key = SLICE("k"), .value = SLICE("old"), .prev_kv = true};
    assert_null(harness_put(h, &put, NULL)->prev_kv);
    put.value = SLICE("new");
    const Etcdserverpb__PutResponse *response = harness_put(h, &put, NULL);
    assert_bytes(response->prev_kv->value, "old");
    assert_int_equal(response->prev_kv->mod_revision, 2);
}

static void test_put_keeps_what_it_is_told_to(void **state)
{
    struct harness *h = *state;
    enum api_error error;
    struct kv_put put = {.key = SLICE("k"), .ignore_value = true};
    assert_null(harness_put(h, &put, &error));
    assert_int_equal(error, API_KEY_NOT_FOUND);
    assert_int_equal(harness_revision(h), 1);
    harness_set(h, "k", "kept");
    put.prev_kv = true;
    const Etcdserverpb__PutResponse *response = harness_put(h, &put, NULL);
    assert_int_equal(response->header->revision, 3);
    assert_bytes(response->prev_kv->value, "kept");
    assert_string_equal(harness_get(h, "k"), "kept");
    struct kv_put other = {.key = SLICE("k"), .value = SLICE("x"), .ignore_lease = true};
    assert_int_equal(harness_put(h, &other, NULL)->header->revision, 4);
    assert_string_equal(harness_get(h, "k"), "x");
    harness_delete(h, &(struct kv_delete){.key = SLICE("k")}, NULL);
    assert_null(harness_put(h, &other, &error));
    assert_int_equal(error, API_KEY_NOT_FOUND);
}

static void test_put_finds_no_lease(void **state)
{
    struct harness *h = *state;
    enum api_error error;
    struct kv_put put = {.key = SLICE("k"), .lease = -7, .ignore_value = true};
    assert_null(harness_put(h, &put, &error));
    assert_int_equal(error, API_LEASE_NOT_FOUND); /* before the missing key */
    assert_int_equal(harness_revision(h), 1);
}

/* ---- delete ---- */

static void test_delete_takes_a_range_in_one_revision(void **state)
{
    struct harness *h = *state;
    harness_set(h, "a", "1");
    harness_set(h, "b", "2");
    harness_set(h, "c", "3");
    const struct kv_delete del = {.key = SLICE("a"), .range_end = SLICE("c"), .prev_kv = true};
    const Etcdserverpb__DeleteRangeResponse *response = harness_delete(h, &del, NULL);
    assert_full_header(response->header, 5);
    assert_int_equal(response->deleted, 2);
    assert_int_equal(response->n_prev_kvs, 2);
    assert_bytes(response->prev_kvs[0]->key, "a");
    assert_bytes(response->prev_kvs[1]->value, "2");
    assert_null(harness_get(h, "b"));
    assert_string_equal(harness_get(h, "c"), "3");
}

static void test_delete_of_nothing_takes_no_revision(void **state)
{
    struct harness *h = *state;
    harness_set(h, "a", "1");
    const Etcdserverpb__DeleteRangeResponse *response = harness_delete(
        h, &(struct kv_delete){.key = SLICE("z"), .range_end = SLICE("a"), .prev_kv = true}, NULL);
    assert_full_header(response->header, 2);
    assert_int_equal(response->deleted, 0);
    response =
        harness_delete(h, &(struct kv_delete){.key = SLICE("\0"), .range_end = SLICE("\0")}, NULL);
    assert_int_equal(response->header->revision, 3);
    assert_int_equal(response->deleted, 1);
}

/* ---- range ---- */

static void fill(struct harness *h)
{
    harness_set(h, "a", "z"); /* 2 */
    harness_set(h, "b", "y"); /* 3 */
    harness_set(h, "c", "x"); /* 4 */
    harness_set(h, "a", "w"); /* 5: a has version 2 */
    harness_set(h, "d", "v"); /* 6 */
}

static const struct kv_range everything = {.key = {(const uint8_t *)"\0", 1},
                                           .range_end = {(const uint8_t *)"\0", 1}};

/* The keys of an answer, joined. */
static const char *keys_of(struct harness *h, const Etcdserverpb__RangeResponse *response)
{
    char *text = arena_alloc(&h->arena, response->n_kvs + 1);
    for (size_t i = 0; i < response->n_kvs; i++)
        text[i] = (char)response->kvs[i]->key.data[0];
    return text;
}

static const char *range_keys(struct harness *h, const struct kv_range *range)
{
    return keys_of(h, harness_range(h, range, NULL));
}

static void test_range_header_is_the_current_revision(void **state)
{
    struct harness *h = *state;
    fill(h);
    struct kv_range range = everything;
    range.revision = 3;
    const Etcdserverpb__RangeResponse *response = harness_range(h, &range, NULL);
    assert_full_header(response->header, 6);
    assert_string_equal(keys_of(h, response), "ab");
    assert_bytes(response->kvs[0]->value, "z");
    range.revision = -5; /* as 0 */
    assert_string_equal(range_keys(h, &range), "abcd");
}

static void test_range_bounds(void **state)
{
    struct harness *h = *state;
    fill(h);
    assert_string_equal(
        range_keys(h, &(struct kv_range){.key = SLICE("b"), .range_end = SLICE("d")}), "bc");
    assert_string_equal(
        range_keys(h, &(struct kv_range){.key = SLICE("c"), .range_end = SLICE("\0")}), "cd");
    assert_string_equal(
        range_keys(h, &(struct kv_range){.key = SLICE("d"), .range_end = SLICE("b")}), "");
    assert_string_equal(range_keys(h, &(struct kv_range){.key = SLICE("b")}), "b");
    assert_string_equal(range_keys(h, &(struct kv_range){.key = SLICE("bb")}), "");
}

static void test_range_limit_count_and_more(void **state)
{
    struct harness *h = *state;
    fill(h);
    struct kv_range range = everything;
    range.limit = 3;
    const Etcdserverpb__RangeResponse *response = harness_range(h, &range, NULL);
    assert_string_equal(keys_of(h, response), "abc");
    assert_true(response->more);
    assert_int_equal(response->count, 4);
    range.limit = 4;
    assert_false(harness_range(h, &range, NULL)->more);
    range.limit = -1;
    assert_string_equal(range_keys(h, &range), "abcd");
    range.limit = 1;
    range.count_only = true;
    response = harness_range(h, &range, NULL);
    assert_int_equal(response->n_kvs, 0);
    assert_int_equal(response->count, 4);
    assert_false(response->more);
}

static void test_range_filters_leave_the_count(void **state)
{
    struct harness *h = *state;
    fill(h);
    struct kv_range range = everything;
    range.min_mod_revision = 4;
    range.max_mod_revision = 5;
    const Etcdserverpb__RangeResponse *response = harness_range(h, &range, NULL);
    assert_string_equal(keys_of(h, response), "ac");
    assert_int_equal(response->count, 4);
    range.limit = 1;
    response = harness_range(h, &range, NULL);
    assert_string_equal(keys_of(h, response), "a");
    assert_true(response->more);
    struct kv_range created = everything;
    created.min_create_revision = 3;
    created.max_create_revision = 4;
    assert_string_equal(range_keys(h, &created), "bc");
    created.count_only = true;
    assert_int_equal(harness_range(h, &created, NULL)->count, 4);
}

static void test_range_sorts(void **state)
{
    struct harness *h = *state;
    fill(h);
    static const struct {
        int32_t order, target;
        int64_t limit;
        const char *keys;
    } cases[] = {
        {SORT_NONE, SORT_BY_KEY, 0, "abcd"},
        {SORT_ASCEND, SORT_BY_KEY, 2, "ab"},
        {SORT_DESCEND, SORT_BY_KEY, 2, "dc"},
        {SORT_DESCEND, SORT_BY_MOD, 0, "dacb"},
        {SORT_ASCEND, SORT_BY_CREATE, 0, "abcd"},
        {SORT_DESCEND, SORT_BY_VERSION, 1, "a"},
        {SORT_ASCEND, SORT_BY_VALUE, 3, "dac"},
        {SORT_NONE, SORT_BY_VALUE, 0, "dacb"},
        /* Without an order only the first limit + 1 keys are sorted. */
        {SORT_NONE, SORT_BY_VALUE, 2, "ac"},
        {SORT_NONE, SORT_BY_MOD, 1, "b"},
        /* An unknown order is the order of keys. */
        {9, SORT_BY_VALUE, 2, "ab"},
        {-1, SORT_BY_MOD, 0, "abcd"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kv_range range = everything;
        range.sort_order = cases[i].order;
        range.sort_target = cases[i].target;
        range.limit = cases[i].limit;
        const Etcdserverpb__RangeResponse *response = harness_range(h, &range, NULL);
        assert_string_equal(keys_of(h, response), cases[i].keys);
        assert_int_equal(response->more, cases[i].limit > 0);
        assert_int_equal(response->count, 4);
    }
}

static void test_range_keys_only_keeps_the_rest(void **state)
{
    struct harness *h = *state;
    fill(h);
    struct kv_range range = {.key = SLICE("a"), .keys_only = true};
    const Mvccpb__KeyValue *kv = harness_range(h, &range, NULL)->kvs[0];
    assert_int_equal(kv->value.len, 0);
    assert_int_equal(kv->version, 2);
    assert_int_equal(kv->mod_revision, 5);
    range.sort_order = SORT_DESCEND;
    range.sort_target = SORT_BY_VALUE;
    assert_int_equal(harness_range(h, &range, NULL)->kvs[0]->value.len, 0);
}

static void test_range_of_other_revisions(void **state)
{
    struct harness *h = *state;
    fill(h);
    enum api_error error;
    struct kv_range range = everything;
    range.revision = 7;
    assert_null(harness_range(h, &range, &error));
    assert_int_equal(error, API_FUTURE_REVISION);
    harness_compact(h, 4, NULL);
    range.revision = 3;
    assert_null(harness_range(h, &range, &error));
    assert_int_equal(error, API_COMPACTED);
    range.revision = 4; /* the compact revision itself can be read */
    assert_string_equal(range_keys(h, &range), "abc");
}

static void test_range_too_large_for_its_arena_is_an_error(void **state)
{
    struct harness *h = *state;
    char value[1000];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (char key[2] = "a"; key[0] <= 'z'; key[0]++)
        harness_set(h, key, value);
    struct arena full = h->arena;
    for (int32_t order = SORT_NONE; order <= SORT_DESCEND; order++) {
        arena_init(&h->arena, 16384);
        enum api_error error;
        struct kv_range range = everything;
        range.sort_order = order;
        assert_null(harness_range(h, &range, &error));
        assert_int_equal(error, API_RESPONSE_TOO_LARGE);
        arena_deinit(&h->arena);
    }
    h->arena = full;
}

/* ---- compaction ---- */

static void test_compact_follows_etcds_rules(void **state)
{
    struct harness *h = *state;
    enum api_error error;
    harness_compact(h, -1, &error);
    assert_int_equal(error, API_COMPACTED);
    harness_compact(h, 2, &error);
    assert_int_equal(error, API_FUTURE_REVISION);
    assert_full_header(harness_compact(h, 0, &error)->header, 1);
    harness_compact(h, 0, &error);
    assert_int_equal(error, API_COMPACTED);
    assert_non_null(harness_compact(h, 1, &error));
}

static void test_compact_physical_waits(void **state)
{
    struct harness *h = *state;
    fill(h);
    struct kv_compact compact = {.revision = 3, .physical = true};
    struct slice body = encode_compact(&h->arena, &compact);
    struct machine_result result = harness_apply(h, INTERNAL_COMPACTION, body);
    assert_int_equal(result.error, API_OK);
    assert_true(result.wait_for_compaction);
    result = harness_apply(h, INTERNAL_COMPACTION, body);
    assert_int_equal(result.error, API_COMPACTED);
    assert_true(result.wait_for_compaction);
}

/* ---- the machine ---- */

static void test_machine_applies_without_a_caller(void **state)
{
    struct harness *h = *state;
    harness_set(h, "k", "1");
    struct kv_put put = {.key = SLICE("k"), .value = SLICE("2"), .prev_kv = true};
    struct raft_payload *payload =
        internal_request_payload(INTERNAL_PUT, encode_put(&h->arena, &put), 9);
    struct machine_result result =
        harness_apply_data(h, raft_payload_slice(payload), /* arena= */ NULL);
    assert_int_equal(result.error, API_OK);
    assert_int_equal(result.response.len, 0);
    assert_string_equal(harness_get(h, "k"), "2");
    struct arena tiny; /* too small for the answer */
    arena_init(&tiny, 16);
    result = harness_apply_data(h, raft_payload_slice(payload), &tiny);
    assert_int_equal(result.error, API_RESPONSE_TOO_LARGE);
    assert_int_equal(harness_revision(h), 4);
    arena_deinit(&tiny);
    raft_payload_unref(payload);
}

static struct raft_entry put_entry(struct harness *h, uint64_t index)
{
    const struct kv_put put = {.key = SLICE("k"), .value = SLICE("v")};
    return (struct raft_entry){
        .term = h->term,
        .index = index,
        .payload = internal_request_payload(INTERNAL_PUT, encode_put(&h->arena, &put), 9)};
}

static void test_machine_applies_an_entry_once(void **state)
{
    struct harness *h = *state;
    harness_set(h, "k", "1");
    harness_apply_data(h, SLICE_EMPTY, &h->arena); /* a new leader's first entry */
    harness_reopen(h);
    assert_int_equal(machine_applied(h->machine).index, 2);
    assert_int_equal(machine_applied(h->machine).term, h->term);
    assert_int_equal(harness_revision(h), 2);
    struct raft_entry entry = put_entry(h, 2);
    struct machine_result result;
    assert_int_equal(machine_apply(h->machine, &entry, &h->arena, &result), ST_OK);
    assert_int_equal(harness_revision(h), 2);
    entry.index = 3;
    assert_int_equal(machine_apply(h->machine, &entry, &h->arena, &result), ST_OK);
    assert_int_equal(harness_revision(h), 3);
    raft_payload_unref(entry.payload);
}

static void assert_stops(struct harness *h, struct slice data)
{
    struct raft_entry entry = {
        .term = 2, .index = h->index + 1, .payload = raft_payload_copy(data)};
    struct machine_result result;
    assert_int_equal(machine_apply(h->machine, &entry, &h->arena, &result), ST_UNSUPPORTED);
    assert_non_null(strstr(machine_problem(h->machine), "entry 1 (term 2)"));
    assert_int_equal(machine_applied(h->machine).index, h->index);
    raft_payload_unref(entry.payload);
}

static void test_machine_stops_at_what_it_cannot_apply(void **state)
{
    struct harness *h = *state;
    assert_stops(h, SLICE("\xe2\x7c\x00"));     /* no request's number */
    assert_stops(h, SLICE("\x22\x05xy"));       /* cut off */
    assert_stops(h, SLICE("\x22\x02\x08\x01")); /* a put whose key is a number */
    assert_stops(h, SLICE("\x32\x02\x12\x00")); /* a txn with an empty operation */
    assert_int_equal(harness_revision(h), 1);
}

static void test_machine_stops_at_a_txn_nested_too_deep(void **state)
{
    struct harness *h = *state;
    struct raft_payload *payload =
        internal_request_payload(INTERNAL_TXN, encode_nested(&h->arena, 10000), 1);
    assert_stops(h, raft_payload_slice(payload));
    raft_payload_unref(payload);
}

/* ---- members ---- */

static struct raft_entry add_entry(uint64_t index, raft_id id, const char *json)
{
    const struct member_change change = {
        .type = MEMBER_CHANGE_ADD_NODE, .node_id = id, .context = slice_from_str(json)};
    return (struct raft_entry){.term = 1,
                               .index = index,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .payload = member_change_payload(&change)};
}

static enum api_error apply_add(struct harness *h, raft_id id, const char *json)
{
    struct raft_entry entry = add_entry(++h->index, id, json);
    struct slice change;
    struct machine_result result;
    assert_int_equal(machine_check_conf_change(h->machine, &entry, &change, &result), ST_OK);
    assert_int_equal(change.len > 0, result.error == API_OK);
    struct raft_conf_state conf_state = {.voters = {id}, .voters_count = 1};
    assert_int_equal(machine_end_conf_change(h->machine, &entry, &conf_state), ST_OK);
    raft_payload_unref(entry.payload);
    return result.error;
}

static const char bootstrap_json[] =
    "{\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"default\"}";

static void assert_one_member(struct harness *h, uint32_t client_urls_count)
{
    struct members *members = machine_members(h->machine);
    assert_int_equal(members_count(members), 1);
    const struct member_row *row = members_at(members, 0);
    assert_int_equal(row->id, HARNESS_MEMBER_ID);
    assert_true(slice_eq(row->name, SLICE("default")));
    assert_true(slice_eq(row->peer_urls[0], SLICE("http://localhost:2380")));
    assert_int_equal(row->client_urls_count, client_urls_count);
    members_unref(members);
}

static void test_machine_adds_the_bootstrap_member(void **state)
{
    struct harness *h = *state;
    assert_int_equal(apply_add(h, HARNESS_MEMBER_ID, bootstrap_json), API_OK);
    assert_one_member(h, 0);
    assert_int_equal(apply_add(h, HARNESS_MEMBER_ID, bootstrap_json), API_MEMBER_EXISTS);
    assert_int_equal(
        apply_add(h, 7, "{\"id\":7,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"x\"}"),
        API_PEER_URL_EXISTS);
    harness_reopen(h);
    assert_one_member(h, 0);
    struct raft_conf_state conf_state;
    assert_int_equal(conf_state_decode(store_opened_at(h->store).conf_state, &conf_state), ST_OK);
    assert_int_equal(conf_state.voters_count, 1);
    assert_int_equal(conf_state.voters[0], 7);
}

static void test_machine_stops_at_changes_it_does_not_know(void **state)
{
    struct harness *h = *state;
    struct raft_entry entries[] = {
        add_entry(1, 7, "{\"id\":8}"),
        add_entry(1, 7, "nonsense"),
        add_entry(1, 0, "{\"id\":0}"),
        add_entry(1, 7, "{\"id\":7}"),
    };
    entries[3].type = RAFT_ENTRY_CONF_CHANGE_V2;
    for (size_t i = 0; i < 4; i++) {
        struct slice change;
        struct machine_result result;
        assert_int_equal(machine_check_conf_change(h->machine, &entries[i], &change, &result),
                         ST_UNSUPPORTED);
        assert_non_null(strstr(machine_problem(h->machine), "membership"));
        raft_payload_unref(entries[i].payload);
    }
}

static void test_machine_publishes_attributes_and_version(void **state)
{
    struct harness *h = *state;
    apply_add(h, HARNESS_MEMBER_ID, bootstrap_json);
    const char *urls[] = {"http://a:2379", "http://b:2379"};
    struct raft_payload *payload = machine_publish_payload(h->machine, 55, "default", urls, 2);
    struct machine_result result = harness_apply_data(h, raft_payload_slice(payload), &h->arena);
    raft_payload_unref(payload);
    assert_int_equal(result.request_id, 55);
    assert_int_equal(result.published, HARNESS_MEMBER_ID);
    assert_one_member(h, 2);
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(h->machine, version);
    assert_string_equal(version, "");
    payload = machine_version_payload(56, "3.5.0");
    result = harness_apply_data(h, raft_payload_slice(payload), &h->arena);
    raft_payload_unref(payload);
    assert_int_equal(result.published, 0);
    harness_reopen(h);
    assert_one_member(h, 2);
    machine_cluster_version(h->machine, version);
    assert_string_equal(version, "3.5.0");
}

static void test_machine_understands_what_newer_members_propose(void **state)
{
    struct harness *h = *state;
    apply_add(h, HARNESS_MEMBER_ID, bootstrap_json);
    /* cluster_version_set{ver: "3.6.0"} and cluster_member_attr_set, fields 1300 and 1301 */
    harness_apply_data(h,
                       SLICE("\xa2\x51\x07\x0a\x05"
                             "3.6.0"),
                       &h->arena);
    struct machine_result result = harness_apply_data(
        h,
        SLICE("\xaa\x51\x19\x08\xcd\xd2\x91\x8b\xd2\xb8\x81\xcf\x8e\x01\x12\x0c\x0a\x07"
              "default"
              "\x12\x01u"),
        &h->arena);
    assert_int_equal(result.published, HARNESS_MEMBER_ID);
    assert_one_member(h, 1);
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(h->machine, version);
    assert_string_equal(version, "3.6.0");
}

static void test_machine_passes_over_other_v2_requests(void **state)
{
    struct harness *h = *state;
    static const char *const requests[] = {"\x12\x04SYNC", "\x12\x03PUT\x1a\x02/1\"\x01x",
                                           ("\x12\x06"
                                            "DELETE\x1a\x02/1")};
    for (size_t i = 0; i < 3; i++) {
        struct machine_result result =
            harness_apply_data(h, slice_from_str(requests[i]), &h->arena);
        assert_int_equal(result.error, API_OK);
        assert_int_equal(result.published, 0);
    }
    struct raft_payload *payload = machine_publish_payload(h->machine, 1, "x", NULL, 0);
    struct machine_result result = harness_apply_data(h, raft_payload_slice(payload), &h->arena);
    assert_int_equal(result.error, API_MEMBER_NOT_FOUND); /* nobody was ever added */
    raft_payload_unref(payload);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put_numbers_revisions_from_two),
        TEST(test_put_gives_the_previous_record),
        TEST(test_put_keeps_what_it_is_told_to),
        TEST(test_put_finds_no_lease),
        TEST(test_delete_takes_a_range_in_one_revision),
        TEST(test_delete_of_nothing_takes_no_revision),
        TEST(test_range_header_is_the_current_revision),
        TEST(test_range_bounds),
        TEST(test_range_limit_count_and_more),
        TEST(test_range_filters_leave_the_count),
        TEST(test_range_sorts),
        TEST(test_range_keys_only_keeps_the_rest),
        TEST(test_range_of_other_revisions),
        TEST(test_range_too_large_for_its_arena_is_an_error),
        TEST(test_compact_follows_etcds_rules),
        TEST(test_compact_physical_waits),
        TEST(test_machine_applies_without_a_caller),
        TEST(test_machine_applies_an_entry_once),
        TEST(test_machine_stops_at_what_it_cannot_apply),
        TEST(test_machine_stops_at_a_txn_nested_too_deep),
        TEST(test_machine_adds_the_bootstrap_member),
        TEST(test_machine_stops_at_changes_it_does_not_know),
        TEST(test_machine_publishes_attributes_and_version),
        TEST(test_machine_understands_what_newer_members_propose),
        TEST(test_machine_passes_over_other_v2_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
