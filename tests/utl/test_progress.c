/* What the line of long work says; that it is written to a terminal alone is for eyes. */
#include "tools/utl/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka.h wants the above */
#include <cmocka.h>

static uint64_t still(void *context)
{
    (void)context;
    return 5 * NS_PER_S;
}

static void expect_line(uint64_t total_bytes, uint64_t done_bytes, uint64_t seconds,
                        const char *want)
{
    static const struct clock clock = {still, still, NULL};
    struct progress progress;
    char line[160];
    progress_begin(&progress, &clock, "restoring", total_bytes);
    progress_line(&progress, done_bytes, (5 + seconds) * NS_PER_S, line, sizeof(line));
    assert_string_equal(line, want);
}

static void test_progress_tells_bytes_rate_and_the_time_left(void **state)
{
    (void)state;
    expect_line(1100000000, 400000000, 2, "restoring: 400 MB of 1.1 GB, 200 MB/s, 4 s left");
    expect_line(0, 400000000, 2, "restoring: 400 MB, 200 MB/s");
    expect_line(1000, 2000, 1, "restoring: 2.0 kB, 2.0 kB/s"); /* more than was thought */
    expect_line(1000, 0, 1, "restoring: 0 B, 0 B/s");
    expect_line(1000, 1000, 0, "restoring: 1.0 kB, 0 B/s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_tells_bytes_rate_and_the_time_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
