/* Alarms: their entries, their records, and what they make of other requests. */
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

enum { GET, ACTIVATE, DEACTIVATE };

static struct slice encode_alarm(struct harness *h, int action, uint64_t member, int type)
{
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    request.action = (Etcdserverpb__AlarmRequest__AlarmAction)action;
    request.memberid = member;
    request.alarm = (Etcdserverpb__AlarmType)type;
    uint8_t *bytes = arena_alloc(&h->arena, 64);
    return slice_make(bytes, etcdserverpb__alarm_request__pack(&request, bytes));
}

static const Etcdserverpb__AlarmResponse *alarm(struct harness *h, int action, uint64_t member,
                                                int type)
{
    struct machine_result result =
        harness_apply(h, INTERNAL_ALARM, encode_alarm(h, action, member, type));
    assert_int_equal(result.error, API_OK);
    assert_string_equal(result.op, "Alarm");
    ProtobufCAllocator allocator = harness_allocator(&h->arena);
    const Etcdserverpb__AlarmResponse *response =
        etcdserverpb__alarm_response__unpack(&allocator, result.response.len, result.response.data);
    assert_non_null(response);
    assert_int_equal(response->header->revision, harness_revision(h));
    assert_int_equal(response->header->member_id, HARNESS_MEMBER_ID);
    return response;
}

static void test_alarm_is_raised_listed_and_disarmed(void **state)
{
    struct harness *h = *state;
    assert_int_equal(alarm(h, GET, 0, ALARM_NONE)->n_alarms, 0);
    assert_int_equal(alarm(h, ACTIVATE, 5, ALARM_NONE)->n_alarms, 0);
    const Etcdserverpb__AlarmResponse *response = alarm(h, ACTIVATE, 5, ALARM_CORRUPT);
    assert_int_equal(response->n_alarms, 1);
    assert_int_equal(response->alarms[0]->memberid, 5);
    assert_int_equal(response->alarms[0]->alarm, ALARM_CORRUPT);
    assert_int_equal(alarm(h, ACTIVATE, 5, ALARM_CORRUPT)->n_alarms, 1); /* tells it again */
    alarm(h, ACTIVATE, 3, ALARM_CORRUPT);
    alarm(h, ACTIVATE, 9, ALARM_NOSPACE);
    response = alarm(h, GET, 77, ALARM_NONE);
    assert_int_equal(response->n_alarms, 3);
    assert_int_equal(response->alarms[0]->memberid, 9);
    assert_int_equal(response->alarms[1]->memberid, 3);
    assert_int_equal(response->alarms[2]->memberid, 5);
    assert_int_equal(alarm(h, GET, 0, ALARM_CORRUPT)->n_alarms, 2);
    assert_int_equal(alarm(h, GET, 0, 9)->n_alarms, 0);
    assert_int_equal(alarm(h, DEACTIVATE, 0, ALARM_CORRUPT)->n_alarms, 0); /* 0 is no wildcard */
    assert_int_equal(alarm(h, DEACTIVATE, 5, ALARM_NOSPACE)->n_alarms, 0);
    assert_int_equal(alarm(h, DEACTIVATE, 5, ALARM_CORRUPT)->n_alarms, 1);
    assert_int_equal(alarm(h, GET, 0, ALARM_NONE)->n_alarms, 2);
}

struct record_check {
    const char *wanted[4];
    uint32_t count;
};

static enum status check_record(void *context, struct slice key, struct slice value)
{
    struct record_check *check = context;
    const char *wanted = check->wanted[check->count++];
    assert_non_null(wanted);
    assert_int_equal(key.len, strlen(wanted));
    assert_memory_equal(key.data, wanted, key.len);
    assert_int_equal(value.len, 0);
    return ST_OK;
}

static void test_alarm_is_kept_as_etcd_keeps_it(void **state)
{
    struct harness *h = *state;
    alarm(h, ACTIVATE, 300, ALARM_NOSPACE);
    alarm(h, ACTIVATE, 0, ALARM_CORRUPT);
    alarm(h, ACTIVATE, 5, ALARM_CORRUPT);
    alarm(h, DEACTIVATE, 5, ALARM_CORRUPT);
    for (int round = 0; round < 2; round++) {
        struct record_check check = {.wanted = {"\x08\xac\x02\x10\x01", "\x10\x02"}};
        assert_int_equal(store_each(h->store, BUCKET_ALARM, check_record, &check), ST_OK);
        assert_int_equal(check.count, 2);
        const struct alarm *alarms;
        uint32_t count;
        assert_int_equal(machine_alarms(h->machine, &h->arena, &alarms, &count), ST_OK);
        assert_int_equal(count, 2);
        assert_int_equal(alarms[0].member, 300);
        assert_int_equal(alarms[1].type, ALARM_CORRUPT);
        assert_true(machine_has_alarm(h->machine, ALARM_NOSPACE));
        harness_reopen(h);
    }
}

static enum api_error put_error(struct harness *h)
{
    enum api_error error;
    harness_put(h, &(struct kv_put){.key = SLICE("k"), .value = SLICE("v")}, &error);
    return error;
}

static enum api_error txn_error(struct harness *h, const struct kv_txn *txn)
{
    enum api_error error;
    harness_txn(h, txn, &error);
    return error;
}

static enum api_error delete_error(struct harness *h)
{
    enum api_error error;
    harness_delete(h, &(struct kv_delete){.key = SLICE("k")}, &error);
    return error;
}

static void test_nospace_refuses_puts(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    harness_set(h, "k", "v");
    alarm(h, ACTIVATE, 1, ALARM_NOSPACE);
    assert_int_equal(put_error(h), API_NO_SPACE);
    struct kv_txn txn = {.failure = OPS(arena, op_put(arena, "k", "x"))}; /* not the one chosen */
    assert_int_equal(txn_error(h, &txn), API_NO_SPACE);
    struct kv_txn outer = {
        .success = OPS(
            arena, op_txn(arena, (struct kv_txn){.success = OPS(arena, op_put(arena, "n", "x"))}))};
    assert_int_equal(txn_error(h, &outer), API_OK);
    assert_string_equal(harness_get(h, "n"), "x");
    txn = (struct kv_txn){.success = OPS(arena, op_delete(arena, "n", ""))};
    assert_int_equal(txn_error(h, &txn), API_OK);
    assert_int_equal(delete_error(h), API_OK);
    enum api_error error;
    harness_compact(h, 2, &error);
    assert_int_equal(error, API_OK);
    int64_t revision = harness_revision(h);
    assert_int_equal(put_error(h), API_NO_SPACE);
    assert_int_equal(harness_revision(h), revision);
    alarm(h, DEACTIVATE, 1, ALARM_NOSPACE);
    assert_int_equal(put_error(h), API_OK);
}

static void test_corrupt_refuses_all_writes(void **state)
{
    struct harness *h = *state;
    struct arena *arena = &h->arena;
    harness_set(h, "k", "v");
    alarm(h, ACTIVATE, 0, ALARM_CORRUPT);
    alarm(h, ACTIVATE, 0, ALARM_NOSPACE);
    assert_int_equal(put_error(h), API_CORRUPT_CLUSTER);
    assert_int_equal(delete_error(h), API_CORRUPT_CLUSTER);
    struct kv_txn txn = {.success = OPS(arena, op_delete(arena, "k", ""))};
    assert_int_equal(txn_error(h, &txn), API_CORRUPT_CLUSTER);
    enum api_error error;
    harness_compact(h, 2, &error);
    assert_int_equal(error, API_CORRUPT_CLUSTER);
    assert_string_equal(harness_get(h, "k"), "v"); /* reads go on */
    harness_reopen(h);
    assert_int_equal(put_error(h), API_CORRUPT_CLUSTER);
    alarm(h, DEACTIVATE, 0, ALARM_CORRUPT);
    assert_int_equal(put_error(h), API_NO_SPACE);
    assert_int_equal(delete_error(h), API_OK);
}

static void test_alarm_that_no_version_knows_stops_the_member(void **state)
{
    struct harness *h = *state;
    const struct {
        int action, type;
    } cases[] = {{3, ALARM_NOSPACE}, {ACTIVATE, 3}, {ACTIVATE, -1}};
    for (size_t i = 0; i < 3; i++) {
        struct raft_payload *payload = internal_request_payload(
            INTERNAL_ALARM, encode_alarm(h, cases[i].action, 1, cases[i].type), 1);
        struct raft_entry entry = {.term = 2, .index = 1, .payload = payload};
        struct machine_result result;
        assert_int_equal(machine_apply(h->machine, &entry, &h->arena, &result), ST_UNSUPPORTED);
        raft_payload_unref(payload);
    }
}

static void test_downgrade_of_a_mixed_cluster_is_kept(void **state)
{
    struct harness *h = *state;
    assert_false(machine_downgrade_enabled(h->machine));
    /* downgrade_info_set{enabled: true, ver: "3.4.0"}, field 1302 */
    harness_apply_data(h,
                       SLICE("\xb2\x51\x09\x08\x01\x12\x05"
                             "3.4.0"),
                       &h->arena);
    harness_reopen(h);
    assert_true(machine_downgrade_enabled(h->machine));
    struct slice json;
    assert_int_equal(store_get(h->store, BUCKET_CLUSTER, SLICE("downgrade"), &h->arena, &json),
                     ST_OK);
    assert_true(slice_eq(json, SLICE("{\"target-version\":\"3.4.0\",\"enabled\":true}")));
    harness_apply_data(h, SLICE("\xb2\x51\x00"), &h->arena);
    harness_reopen(h);
    assert_false(machine_downgrade_enabled(h->machine));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_alarm_is_raised_listed_and_disarmed),
        TEST(test_alarm_is_kept_as_etcd_keeps_it),
        TEST(test_nospace_refuses_puts),
        TEST(test_corrupt_refuses_all_writes),
        TEST(test_alarm_that_no_version_knows_stops_the_member),
        TEST(test_downgrade_of_a_mixed_cluster_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
