#include "base/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_slice_cmp_orders_bytewise_and_prefixes_first(void **state)
{
    (void)state;
    /* In rising order; "\xff" also catches a comparison of signed bytes. */
    const struct slice rising[] = {SLICE_EMPTY,   SLICE("\0"), SLICE("\0\0"), SLICE("a"),
                                   SLICE("a\0b"), SLICE("ab"), SLICE("b"),    SLICE("\xff")};
    size_t count = sizeof(rising) / sizeof(rising[0]);
    for (size_t a = 0; a < count; a++) {
        for (size_t b = 0; b < count; b++) {
            int order = slice_cmp(rising[a], rising[b]);
            assert_int_equal((order > 0) - (order < 0), (a > b) - (a < b));
            assert_int_equal(slice_eq(rising[a], rising[b]), a == b);
        }
    }
}

static void test_slice_has_prefix(void **state)
{
    (void)state;
    assert_true(slice_has_prefix(SLICE("abc"), SLICE_EMPTY));
    assert_true(slice_has_prefix(SLICE("abc"), SLICE("abc")));
    assert_false(slice_has_prefix(SLICE("ab"), SLICE("abc")));
    assert_false(slice_has_prefix(SLICE("abc"), SLICE("b")));
    assert_true(slice_has_prefix(SLICE_EMPTY, SLICE_EMPTY));
}

static void test_slice_literal_keeps_inner_nul_and_drops_the_last(void **state)
{
    (void)state;
    assert_int_equal(SLICE("a\0b").len, 3);
    assert_int_equal(slice_from_str("a\0b").len, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_cmp_orders_bytewise_and_prefixes_first),
        cmocka_unit_test(test_slice_has_prefix),
        cmocka_unit_test(test_slice_literal_keeps_inner_nul_and_drops_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
