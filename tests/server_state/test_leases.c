/* Leases as entries make them, and the keys that come and go with them. */
#include "server/state/lessor.h"

#include "base/bytes.h"
#include "base/rng.h"
#include "tests/server_state/harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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

/* {first: 1, second: 2}: LeaseGrantRequest, LeaseRevokeRequest and LeaseCheckpoint are all so. */
static struct slice two_numbers(uint8_t bytes[22], int64_t first, int64_t second)
{
    size_t size = 0;
    bytes[size++] = 0x08;
    size += put_varint(bytes + size, (uint64_t)first);
    bytes[size++] = 0x10;
    size += put_varint(bytes + size, (uint64_t)second);
    return slice_make(bytes, size);
}

static enum api_error grant(struct harness *h, lease_id id, int64_t ttl_s)
{
    uint8_t bytes[22];
    return harness_apply(h, INTERNAL_LEASE_GRANT, two_numbers(bytes, ttl_s, id)).error;
}

static enum api_error revoke(struct harness *h, lease_id id)
{
    uint8_t bytes[22];
    return harness_apply(h, INTERNAL_LEASE_REVOKE, two_numbers(bytes, id, 0)).error;
}

static enum api_error put(struct harness *h, const char *key, lease_id lease)
{
    struct kv_put request = {.key = slice_from_str(key), .value = SLICE("v"), .lease = lease};
    enum api_error error;
    (void)harness_put(h, &request, &error);
    return error;
}

static void test_lease_grant_answers_as_etcd(void **state)
{
    struct harness *h = *state;
    uint8_t bytes[22];
    struct machine_result result = harness_apply(h, INTERNAL_LEASE_GRANT, two_numbers(bytes, 1, 7));
    ProtobufCAllocator allocator = harness_allocator(&h->arena);
    Etcdserverpb__LeaseGrantResponse *response = etcdserverpb__lease_grant_response__unpack(
        &allocator, result.response.len, result.response.data);
    assert_non_null(response);
    assert_true(response->id == 7 && response->ttl == 2 && response->header->revision == 1);
    assert_int_equal(grant(h, 7, 100), API_LEASE_EXISTS);
    assert_int_equal(grant(h, 7, 9000000001), API_LEASE_TTL_TOO_LARGE); /* looked at first */
    assert_int_equal(grant(h, 8, 9000000000), API_OK);
    assert_int_equal(grant(h, 0, 100), API_LEASE_NOT_FOUND);
    assert_int_equal(grant(h, -5, 100), API_OK);
}

static void test_lease_put_needs_it(void **state)
{
    struct harness *h = *state;
    assert_int_equal(put(h, "a", 7), API_LEASE_NOT_FOUND);
    assert_int_equal(grant(h, 7, 100), API_OK);
    assert_int_equal(put(h, "a", 7), API_OK);
    assert_int_equal(revoke(h, 7), API_OK);
    assert_int_equal(put(h, "a", 7), API_LEASE_NOT_FOUND);
    assert_int_equal(revoke(h, 7), API_LEASE_NOT_FOUND);
}

static void test_lease_revoke_deletes_its_keys_in_one_revision(void **state)
{
    struct harness *h = *state;
    assert_int_equal(grant(h, 7, 100), API_OK);
    assert_int_equal(grant(h, 8, 100), API_OK);
    assert_int_equal(put(h, "b", 7), API_OK);
    assert_int_equal(put(h, "a", 7), API_OK);
    assert_int_equal(put(h, "moved", 7), API_OK);
    assert_int_equal(put(h, "moved", 8), API_OK);
    assert_int_equal(put(h, "freed", 7), API_OK);
    assert_int_equal(put(h, "freed", 0), API_OK);
    int64_t before = harness_revision(h);
    assert_int_equal(revoke(h, 7), API_OK);
    assert_true(harness_revision(h) == before + 1);
    assert_null(harness_get(h, "a"));
    assert_null(harness_get(h, "b"));
    assert_non_null(harness_get(h, "moved"));
    assert_non_null(harness_get(h, "freed"));
    assert_int_equal(grant(h, 9, 100), API_OK);
    before = harness_revision(h);
    assert_int_equal(revoke(h, 9), API_OK); /* without keys there is no revision */
    assert_true(harness_revision(h) == before);
}

static void test_lease_and_keys_survive_a_restart(void **state)
{
    struct harness *h = *state;
    assert_int_equal(grant(h, 7, 100), API_OK);
    assert_int_equal(grant(h, -1, 100), API_OK);
    assert_int_equal(put(h, "a", 7), API_OK);
    assert_int_equal(put(h, "b", -1), API_OK);
    harness_reopen(h);
    assert_int_equal(grant(h, 7, 100), API_LEASE_EXISTS);
    assert_int_equal(put(h, "c", -1), API_OK);
    assert_int_equal(revoke(h, -1), API_OK);
    assert_non_null(harness_get(h, "a"));
    assert_null(harness_get(h, "b"));
    assert_null(harness_get(h, "c"));
    harness_reopen(h);
    assert_int_equal(revoke(h, -1), API_LEASE_NOT_FOUND);
    assert_int_equal(revoke(h, 7), API_OK);
    assert_null(harness_get(h, "a"));
}

static void test_lease_is_refused_under_alarms(void **state)
{
    struct harness *h = *state;
    assert_int_equal(grant(h, 7, 100), API_OK);
    uint8_t raise_no_space[] = {0x08, 1, 0x10, 1, 0x18, ALARM_NOSPACE};
    (void)harness_apply(h, INTERNAL_ALARM, slice_make(raise_no_space, sizeof(raise_no_space)));
    assert_int_equal(grant(h, 8, 100), API_NO_SPACE);
    assert_int_equal(revoke(h, 7), API_OK); /* frees room */
    uint8_t raise_corrupt[] = {0x08, 1, 0x10, 1, 0x18, ALARM_CORRUPT};
    (void)harness_apply(h, INTERNAL_ALARM, slice_make(raise_corrupt, sizeof(raise_corrupt)));
    assert_int_equal(revoke(h, 7), API_CORRUPT_CLUSTER);
}

static void test_lease_checkpoint_is_taken(void **state)
{
    struct harness *h = *state;
    assert_int_equal(grant(h, 7, 100), API_OK);
    uint8_t number[22], bytes[32];
    struct slice checkpoint = two_numbers(number, 7, 50);
    bytes[0] = 0x0a;
    bytes[1] = (uint8_t)checkpoint.len;
    memcpy(bytes + 2, checkpoint.data, checkpoint.len);
    struct slice request = slice_make(bytes, checkpoint.len + 2);
    assert_int_equal(harness_apply(h, INTERNAL_LEASE_CHECKPOINT, request).error, API_OK);
}

/* ---- the tables, against arrays ---- */

#define MODEL_LEASES 8
#define MODEL_KEYS 200

static void check_keys(const struct lessor *lessor, lease_id id, const lease_id *owners)
{
    struct arena arena;
    arena_init(&arena, 1U << 20);
    struct slice *keys;
    uint64_t count, owned = 0;
    assert_int_equal(lessor_keys(lessor, id, &arena, &keys, &count), ST_OK);
    for (uint64_t i = 0; i < count; i++)
        assert_true(keys[i].len == 1 && owners[keys[i].data[0]] == id);
    for (uint32_t key = 0; key < MODEL_KEYS; key++)
        owned += owners[key] == id;
    assert_true(owned == count && lessor_find(lessor, id)->keys_count == count);
    arena_deinit(&arena);
}

static void test_lessor_is_like_the_model(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    struct lessor *lessor;
    lease_id owners[MODEL_KEYS] = {0};
    assert_int_equal(lessor_new(&lessor), ST_OK);
    for (uint32_t turn = 0; turn < 20000; turn++) {
        lease_id id = (lease_id)rng_below(&rng, MODEL_LEASES);
        bool exists = lessor_find(lessor, id) != NULL;
        uint8_t key = (uint8_t)rng_below(&rng, MODEL_KEYS);
        uint64_t what = rng_below(&rng, 50);
        if (what == 0 && id != 0) {
            assert_int_equal(lessor_grant(lessor, &(struct lease){.id = id}),
                             exists ? ST_EXISTS : ST_OK);
        } else if (what == 1) {
            struct list_node ended;
            list_init(&ended);
            lessor_drop(lessor, id, &ended);
            assert_true(list_is_empty(&ended));
            for (uint32_t i = 0; i < MODEL_KEYS; i++)
                owners[i] = owners[i] == id ? 0 : owners[i];
        } else {
            assert_int_equal(lessor_attach(lessor, id, slice_make(&key, 1)), ST_OK);
            owners[key] = exists ? id : 0;
        }
        if (turn % 50 == 0 && lessor_find(lessor, id) != NULL)
            check_keys(lessor, id, owners);
    }
    lessor_free(lessor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lease_grant_answers_as_etcd),
        TEST(test_lease_put_needs_it),
        TEST(test_lease_revoke_deletes_its_keys_in_one_revision),
        TEST(test_lease_and_keys_survive_a_restart),
        TEST(test_lease_is_refused_under_alarms),
        TEST(test_lease_checkpoint_is_taken),
        cmocka_unit_test(test_lessor_is_like_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
