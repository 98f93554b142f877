#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_buf_append_keeps_everything_while_growing(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1 << 20);
    for (unsigned i = 0; i < 5000; i++) {
        uint8_t bytes[3] = {(uint8_t)i, (uint8_t)(i >> 8), 7};
        assert_int_equal(buf_append(&buf, slice_make(bytes, 3)), ST_OK);
    }
    assert_int_equal(buf_append(&buf, SLICE_EMPTY), ST_OK);
    assert_int_equal(buf.len, 15000);
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(buf.data[3 * i], (uint8_t)i);
        assert_int_equal(buf.data[3 * i + 1], (uint8_t)(i >> 8));
    }
    buf_deinit(&buf);
}

static void test_buf_refuses_what_passes_its_limit_and_is_unchanged(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 4);
    assert_int_equal(buf_append(&buf, SLICE("abc")), ST_OK);
    assert_int_equal(buf_append(&buf, SLICE("de")), ST_TOO_BIG);
    assert_int_equal(buf_printf(&buf, "%s", "de"), ST_TOO_BIG);
    uint8_t *room = NULL;
    assert_int_equal(buf_extend(&buf, SIZE_MAX, &room), ST_TOO_BIG);
    assert_true(slice_eq(buf_slice(&buf), SLICE("abc")));
    assert_int_equal(buf_append(&buf, SLICE("d")), ST_OK);
    assert_true(slice_eq(buf_slice(&buf), SLICE("abcd")));
    buf_deinit(&buf);
}

static void test_buf_printf_appends_without_the_nul(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1024);
    assert_int_equal(buf_printf(&buf, "%d-%s", 42, "x"), ST_OK);
    assert_int_equal(buf_printf(&buf, "!"), ST_OK);
    assert_true(slice_eq(buf_slice(&buf), SLICE("42-x!")));
    buf_deinit(&buf);
}

static void test_buf_reset_keeps_memory(void **state)
{
    (void)state;
    struct buf buf;
    buf_init(&buf, 1024);
    assert_int_equal(buf_append(&buf, SLICE("abc")), ST_OK);
    const uint8_t *memory = buf.data;
    buf_reset(&buf);
    assert_int_equal(buf_slice(&buf).len, 0);
    assert_int_equal(buf_append(&buf, SLICE("d")), ST_OK);
    assert_ptr_equal(buf.data, memory);
    buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_append_keeps_everything_while_growing),
        cmocka_unit_test(test_buf_refuses_what_passes_its_limit_and_is_unchanged),
        cmocka_unit_test(test_buf_printf_appends_without_the_nul),
        cmocka_unit_test(test_buf_reset_keeps_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
