#include "base/hash.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_crc32c_of_the_known_examples(void **state)
{
    (void)state;
    static const uint8_t zeros[32]; /* RFC 3720, appendix B.4 */
    assert_int_equal(crc32c(0, SLICE("123456789")), 0xe3069283);
    assert_int_equal(crc32c(0, slice_make(zeros, 32)), 0x8a9136aa);
    assert_int_equal(crc32c(0, SLICE_EMPTY), 0);
    assert_int_equal(crc32c_portable(0, SLICE("123456789")), 0xe3069283);
    assert_int_equal(crc32c_portable(0, slice_make(zeros, 32)), 0x8a9136aa);
}

static void test_crc32c_of_the_processor_equals_the_portable_one(void **state)
{
    (void)state;
    uint8_t bytes[300];
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)rng_next(&rng);
    for (size_t start = 0; start < 9; start++) { /* every alignment */
        for (size_t len = 0; len + start <= sizeof(bytes); len++) {
            struct slice s = slice_make(bytes + start, len);
            uint32_t before = (uint32_t)rng_next(&rng);
            assert_int_equal(crc32c(before, s), crc32c_portable(before, s));
        }
    }
}

static void test_crc32c_continues_over_a_split(void **state)
{
    (void)state;
    struct slice whole = SLICE("a rolling checksum over several records");
    for (size_t cut = 0; cut <= whole.len; cut++) {
        struct slice a = slice_make(whole.data, cut);
        struct slice b = slice_make(whole.data + cut, whole.len - cut);
        assert_int_equal(crc32c(crc32c(0, a), b), crc32c(0, whole));
        assert_int_equal(crc32c_portable(crc32c_portable(0, a), b), crc32c(0, whole));
    }
}

static void test_hash64_values_are_those_of_xxh3(void **state)
{
    (void)state;
    /* On disk for ever: a change of library or of wrapper must not change them. */
    assert_true(hash64(SLICE_EMPTY) == 0x2d06800538d394c2);
    struct hash128 nothing = hash128_seeded(SLICE_EMPTY, 0);
    assert_true(nothing.low == 0x6001c324468d497f && nothing.high == 0x99aa06d3014798d8);
    assert_true(hash64_seeded(SLICE_EMPTY, 0) == hash64(SLICE_EMPTY));
}

static void test_hash_depends_on_seed_and_on_every_bit(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    uint64_t plain = hash64(slice_make(bytes, sizeof(bytes)));
    struct hash128 plain128 = hash128_seeded(slice_make(bytes, sizeof(bytes)), 5);
    assert_true(hash64_seeded(slice_make(bytes, sizeof(bytes)), 1) != plain);
    assert_false(hash128_eq(hash128_seeded(slice_make(bytes, sizeof(bytes)), 6), plain128));
    for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(hash64(slice_make(bytes, sizeof(bytes))) != plain);
        assert_false(hash128_eq(hash128_seeded(slice_make(bytes, sizeof(bytes)), 5), plain128));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_hash64_pair_tells_the_halves_apart(void **state)
{
    (void)state;
    assert_true(hash64_pair(SLICE("ab"), SLICE("c")) == hash64_pair(SLICE("ab"), SLICE("c")));
    assert_true(hash64_pair(SLICE("ab"), SLICE("c")) != hash64_pair(SLICE("a"), SLICE("bc")));
    assert_true(hash64_pair(SLICE("ab"), SLICE("c")) != hash64_pair(SLICE("c"), SLICE("ab")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_of_the_known_examples),
        cmocka_unit_test(test_crc32c_of_the_processor_equals_the_portable_one),
        cmocka_unit_test(test_crc32c_continues_over_a_split),
        cmocka_unit_test(test_hash64_values_are_those_of_xxh3),
        cmocka_unit_test(test_hash_depends_on_seed_and_on_every_bit),
        cmocka_unit_test(test_hash64_pair_tells_the_halves_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
