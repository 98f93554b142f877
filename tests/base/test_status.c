#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_status_str_differs_for_every_code(void **state)
{
    (void)state;
    for (int a = ST_OK; a <= ST_CORRUPT; a++) {
        assert_true(strlen(status_str((enum status)a)) > 0);
        for (int b = ST_OK; b < a; b++)
            assert_string_not_equal(status_str((enum status)a), status_str((enum status)b));
    }
}

static void test_status_only_io_and_corrupt_are_fatal(void **state)
{
    (void)state;
    assert_false(status_is_fatal(ST_OK));
    assert_false(status_is_fatal(ST_NO_SPACE));
    assert_true(status_is_fatal(ST_IO));
    assert_true(status_is_fatal(ST_CORRUPT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_str_differs_for_every_code),
        cmocka_unit_test(test_status_only_io_and_corrupt_are_fatal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
