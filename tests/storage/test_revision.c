#include "storage/revision.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_revision_key_has_etcds_bytes(void **state)
{
    (void)state;
    uint8_t key[TOMBSTONE_KEY_BYTES];
    static const uint8_t expected[] = {0, 0, 0, 0, 0, 0, 1, 2, '_', 0, 0, 0, 0, 0, 0, 0, 3, 't'};
    struct revision revision = {.main = 0x102, .sub = 3};
    assert_int_equal(revision_key_encode(revision, false, key), REVISION_KEY_BYTES);
    assert_memory_equal(key, expected, REVISION_KEY_BYTES);
    assert_int_equal(revision_key_encode(revision, true, key), TOMBSTONE_KEY_BYTES);
    assert_memory_equal(key, expected, TOMBSTONE_KEY_BYTES);
}

static void test_revision_key_survives_a_round_trip_at_the_limits(void **state)
{
    (void)state;
    static const int64_t numbers[] = {0, 1, 255, 256, INT64_MAX - 1, INT64_MAX};
    for (size_t m = 0; m < sizeof(numbers) / sizeof(numbers[0]); m++) {
        for (size_t s = 0; s < sizeof(numbers) / sizeof(numbers[0]); s++) {
            for (int tombstone = 0; tombstone < 2; tombstone++) {
                struct revision sent = {numbers[m], numbers[s]}, got;
                uint8_t key[TOMBSTONE_KEY_BYTES];
                size_t size = revision_key_encode(sent, tombstone, key);
                bool is_tombstone;
                assert_int_equal(revision_key_decode(slice_make(key, size), &got, &is_tombstone),
                                 ST_OK);
                assert_int_equal(revision_cmp(sent, got), 0);
                assert_int_equal(is_tombstone, tombstone);
            }
        }
    }
}

static void test_revision_key_order_is_revision_order(void **state)
{
    (void)state;
    struct revision ordered[] = {{1, 0}, {1, 1}, {1, 256}, {2, 0}, {256, 0}, {INT64_MAX, 0}};
    for (size_t i = 1; i < sizeof(ordered) / sizeof(ordered[0]); i++) {
        uint8_t low[TOMBSTONE_KEY_BYTES], high[TOMBSTONE_KEY_BYTES];
        /* A tombstone's key is longer than a plain one of the same revision, never out of order. */
        size_t low_size = revision_key_encode(ordered[i - 1], true, low);
        size_t high_size = revision_key_encode(ordered[i], false, high);
        assert_true(slice_cmp(slice_make(low, low_size), slice_make(high, high_size)) < 0);
        assert_true(revision_cmp(ordered[i - 1], ordered[i]) < 0);
    }
}

static void test_revision_key_decode_refuses_other_bytes(void **state)
{
    (void)state;
    uint8_t key[TOMBSTONE_KEY_BYTES + 1] = {0};
    struct revision got;
    bool tombstone;
    size_t size = revision_key_encode((struct revision){7, 1}, true, key);
    for (size_t cut = 0; cut <= sizeof(key); cut++) {
        bool legal = cut == REVISION_KEY_BYTES || cut == TOMBSTONE_KEY_BYTES;
        assert_int_equal(revision_key_decode(slice_make(key, cut), &got, &tombstone),
                         legal ? ST_OK : ST_CORRUPT);
    }
    static const size_t places[] = {0, 8, 9, 17}; /* sign, separator, sign, marker */
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        key[places[i]] ^= 0x80;
        assert_int_equal(revision_key_decode(slice_make(key, size), &got, &tombstone), ST_CORRUPT);
        key[places[i]] ^= 0x80;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_revision_key_has_etcds_bytes),
        cmocka_unit_test(test_revision_key_survives_a_round_trip_at_the_limits),
        cmocka_unit_test(test_revision_key_order_is_revision_order),
        cmocka_unit_test(test_revision_key_decode_refuses_other_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
