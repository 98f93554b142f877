/* The external sort: in memory and by runs, the same order. */
#include "tools/utl/sort.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECORDS 5000U

static int compare(struct slice a, struct slice b)
{
    return slice_cmp(a, b);
}

static int compare_strings(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return slice_cmp(*x, *y);
}

static void sort_with(size_t memory_bytes, uint32_t longest)
{
    struct rng rng;
    struct utl_sort *sort;
    static struct slice model[RECORDS];
    rng_seed(&rng, longest);
    assert_int_equal(utl_sort_new(memory_bytes, compare, &sort), ST_OK);
    for (uint32_t i = 0; i < RECORDS; i++) {
        size_t len = rng_below(&rng, longest);
        uint8_t *bytes = malloc(len + 1);
        assert_non_null(bytes);
        for (size_t j = 0; j < len; j++)
            bytes[j] = (uint8_t)rng_below(&rng, 4);
        model[i] = slice_make(bytes, len);
        assert_int_equal(utl_sort_add(sort, model[i]), ST_OK);
    }
    qsort(model, RECORDS, sizeof(model[0]), compare_strings);
    assert_int_equal(utl_sort_finish(sort), ST_OK);
    struct slice got;
    for (uint32_t i = 0; i < RECORDS; i++) {
        assert_int_equal(utl_sort_next(sort, &got), ST_OK);
        assert_true(slice_eq(got, model[i]));
        free((void *)model[i].data);
    }
    assert_int_equal(utl_sort_next(sort, &got), ST_NOT_FOUND);
    assert_int_equal(utl_sort_next(sort, &got), ST_NOT_FOUND);
    utl_sort_free(sort);
}

static void test_sort_is_in_order_whatever_the_memory(void **state)
{
    (void)state;
    static const size_t memories[] = {1 << 26, 1 << 18, 1 << 14, 5000};
    for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++) {
        sort_with(memories[i], 20);
        sort_with(memories[i], 2000);
    }
    sort_with(1 << 20, 40000); /* larger than a run's buffer */
}

static void test_sort_of_nothing_and_of_too_much(void **state)
{
    (void)state;
    struct utl_sort *sort;
    struct slice got;
    static const uint8_t large[5000];
    assert_int_equal(utl_sort_new(4096, compare, &sort), ST_OK);
    assert_int_equal(utl_sort_add(sort, slice_make(large, sizeof(large))), ST_TOO_BIG);
    assert_int_equal(utl_sort_finish(sort), ST_OK);
    assert_int_equal(utl_sort_next(sort, &got), ST_NOT_FOUND);
    utl_sort_free(sort);
    assert_int_equal(setenv("TMPDIR", "/nowhere/at/all", 1), 0);
    assert_int_equal(utl_sort_new(4096, compare, &sort), ST_OK);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < 100 && st == ST_OK; i++)
        st = utl_sort_add(sort, slice_make(large, 100));
    assert_int_equal(st, ST_IO);
    utl_sort_free(sort);
    unsetenv("TMPDIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sort_is_in_order_whatever_the_memory),
        cmocka_unit_test(test_sort_of_nothing_and_of_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
