#include "base/duration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Texts as Go prints them. */
static const struct {
    int64_t ns;
    const char *text;
} printed[] = {
    {0, "0s"},
    {1, "1ns"},
    {-1, "-1ns"},
    {1100, "1.1µs"},
    {2200000, "2.2ms"},
    {3300000000, "3.3s"},
    {245000000000, "4m5s"},
    {245001000000, "4m5.001s"},
    {18367001000000, "5h6m7.001s"},
    {480000000001, "8m0.000000001s"},
    {3600000000000, "1h0m0s"},
    {INT64_MAX, "2562047h47m16.854775807s"},
    {INT64_MIN, "-2562047h47m16.854775808s"},
};

static void test_duration_format_prints_as_go_does(void **state)
{
    (void)state;
    char text[DURATION_TEXT_MAX];
    for (size_t i = 0; i < sizeof(printed) / sizeof(printed[0]); i++)
        assert_string_equal(duration_format(printed[i].ns, text), printed[i].text);
}

static void test_duration_parse_reads_back_what_was_printed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(printed) / sizeof(printed[0]); i++) {
        int64_t ns;
        assert_int_equal(duration_parse(printed[i].text, &ns), ST_OK);
        assert_true(ns == printed[i].ns);
    }
}

static void test_duration_parse_reads_what_people_write(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"+5s", 5000000000},
        {"1h30m", 5400000000000},
        {"5.s", 5000000000},
        {".5s", 500000000},
        {"100us", 100000},
        {"100μs", 100000},
        {"1m1ms", 60001000000},
        {"0.100000000000000000000h", 360000000000},
        {"-0", 0},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t ns;
        assert_int_equal(duration_parse(good[i].text, &ns), ST_OK);
        assert_true(ns == good[i].ns);
    }
}

static void test_duration_parse_refuses_the_rest(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "3",
                                      "-",
                                      "s",
                                      ".",
                                      "-.",
                                      ".s",
                                      "+.s",
                                      "1d",
                                      "1 s",
                                      "s1",
                                      "1s ",
                                      "--1s",
                                      "9223372036854775808ns",
                                      "5x",
                                      "1e3s",
                                      "2562048h",
                                      "99999999999999999999h",
                                      "-9223372036854775809ns"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ns;
        assert_int_equal(duration_parse(bad[i], &ns), ST_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_duration_format_prints_as_go_does),
        cmocka_unit_test(test_duration_parse_reads_back_what_was_printed),
        cmocka_unit_test(test_duration_parse_reads_what_people_write),
        cmocka_unit_test(test_duration_parse_refuses_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
