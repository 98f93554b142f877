#include "base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_sha1_of_the_standards_example(void **state)
{
    (void)state;
    static const uint8_t want[SHA1_BYTES] = {0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81,
                                             0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
                                             0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d};
    uint8_t got[SHA1_BYTES];
    assert_int_equal(sha1(SLICE("abc"), got), ST_OK);
    assert_memory_equal(got, want, SHA1_BYTES);
}

static void test_sha256_of_the_standards_example_and_of_nothing(void **state)
{
    (void)state;
    static const uint8_t abc[SHA256_BYTES] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                              0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                              0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                              0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    static const uint8_t nothing[SHA256_BYTES] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,
                                                  0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                                                  0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c,
                                                  0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
    uint8_t got[SHA256_BYTES];
    assert_int_equal(sha256(SLICE("abc"), got), ST_OK);
    assert_memory_equal(got, abc, SHA256_BYTES);
    assert_int_equal(sha256(SLICE_EMPTY, got), ST_OK);
    assert_memory_equal(got, nothing, SHA256_BYTES);
}

static void test_sha256_in_parts_is_that_of_the_whole(void **state)
{
    (void)state;
    uint8_t want[SHA256_BYTES], got[SHA256_BYTES];
    assert_int_equal(sha256(SLICE("abc"), want), ST_OK);
    struct sha256 *digest;
    assert_int_equal(sha256_new(&digest), ST_OK);
    assert_int_equal(sha256_add(digest, SLICE("a")), ST_OK);
    assert_int_equal(sha256_add(digest, SLICE_EMPTY), ST_OK);
    assert_int_equal(sha256_add(digest, SLICE("bc")), ST_OK);
    assert_int_equal(sha256_end(digest, got), ST_OK);
    assert_memory_equal(got, want, SHA256_BYTES);
    sha256_free(digest);
    sha256_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha1_of_the_standards_example),
        cmocka_unit_test(test_sha256_of_the_standards_example_and_of_nothing),
        cmocka_unit_test(test_sha256_in_parts_is_that_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
