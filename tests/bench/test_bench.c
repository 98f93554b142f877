#include "bench/flags.h"
#include "bench/hist.h"
#include "bench/meter.h"
#include "bench/report.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Against sorting: never below the true percentile, at most 1/64 above. */
static void test_hist_permille_is_close_to_the_true_one(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static struct hist hist;
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = rng_next(&rng) >> (24 + rng_below(&rng, 40));
        hist_add(&hist, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare_u64);
    for (uint32_t permille = 1; permille <= 1000; permille++) {
        uint64_t exact = values[(COUNT * permille + 999) / 1000 - 1];
        uint64_t got = hist_permille(&hist, permille);
        assert_true(got >= exact);
        assert_true(got - exact <= exact / 64);
    }
    assert_int_equal(hist_permille(&hist, 1000), values[COUNT - 1]);
}

static void test_hist_of_nothing_is_zero(void **state)
{
    (void)state;
    static const struct hist hist;
    assert_int_equal(hist_permille(&hist, 999), 0);
    assert_int_equal(hist_mean(&hist), 0);
}

static void test_hist_takes_the_largest_duration(void **state)
{
    (void)state;
    static struct hist hist;
    hist_add(&hist, UINT64_MAX);
    assert_true(hist_permille(&hist, 500) == UINT64_MAX);
}

static void test_report_reads_back_what_it_wrote(void **state)
{
    (void)state;
    static struct report sent, got;
    snprintf(sent.command, sizeof(sent.command), "kv");
    snprintf(sent.note, sizeof(sent.note), "a \"quoted\" \\ note");
    struct row *row = report_row(&sent, "put 64 clients");
    row->count = 7;
    row->failed = 2;
    row_figure(row, "p50_us", 12.5);
    row_figure(row, "syncs_per_op", 0);
    report_row(&sent, "range");
    char path[] = "/tmp/cleat-test-report-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(report_write_json(&sent, path), ST_OK);
    assert_int_equal(report_read_json(path, &got), ST_OK);
    assert_string_equal(got.command, "kv");
    assert_string_equal(got.note, sent.note);
    assert_int_equal(got.rows_count, 2);
    assert_string_equal(got.rows[0].name, "put 64 clients");
    assert_int_equal(got.rows[0].count, 7);
    assert_int_equal(got.rows[0].failed, 2);
    assert_float_equal(row_get(&got.rows[0], "p50_us"), 12.5, 0);
    assert_float_equal(row_get(&got.rows[0], "syncs_per_op"), 0, 0);
    assert_int_equal(got.rows[1].figures_count, 0);
    unlink(path);
}

static void test_report_refuses_lines_that_are_no_rows(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{",      "[]",           "{\"row\": }",      "{\"p50\": x}",
        "{\"row", "{\"a\": 1",    "\"row\": \"x\"",   "{\"a\" 1}",
        "{\"a\\", "{\"row\": 5}", "{\"command\": 1}", ""};
    char path[] = "/tmp/cleat-test-report-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        fprintf(file, "%s\n", lines[i]);
        fclose(file);
        static struct report got;
        assert_int_equal(report_read_json(path, &got), ST_INVALID);
    }
    unlink(path);
    static struct report got;
    assert_int_equal(report_read_json(path, &got), ST_NOT_FOUND);
}

struct options {
    const char *text;
    uint64_t number;
    bool on;
};

static enum status parse(struct options *options, int argc, const char **argv, int *positional)
{
    const struct flag flags[] = {
        {"text", FLAG_TEXT, &options->text, "TEXT", "a text"},
        {"number", FLAG_NUMBER, &options->number, "N", "a number"},
        {"on", FLAG_SWITCH, &options->on, NULL, "a switch"},
    };
    return flags_parse(flags, 3, argc, (char **)argv, positional);
}

static void test_flags_parse_takes_both_forms(void **state)
{
    (void)state;
    struct options options = {.number = 3};
    const char *argv[] = {"A", "--text", "x y", "--number=12", "B", "--on"};
    int positional = 0;
    assert_int_equal(parse(&options, 6, argv, &positional), ST_OK);
    assert_string_equal(options.text, "x y");
    assert_int_equal(options.number, 12);
    assert_true(options.on);
    assert_int_equal(positional, 2);
    assert_string_equal(argv[0], "A");
    assert_string_equal(argv[1], "B");
}

static void test_flags_parse_refuses_wrong_options(void **state)
{
    (void)state;
    static const char *const wrong[] = {"--nothing",   "--number=", "--number=x", "--number=-1",
                                        "--number=1x", "--number",  "--on=yes",   "--text"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct options options = {0};
        const char *argv[] = {wrong[i]};
        int positional = 0;
        assert_int_equal(parse(&options, 1, argv, &positional), ST_INVALID);
    }
}

static void test_meter_reads_this_process_and_a_syncs_file(void **state)
{
    (void)state;
    char path[] = "/tmp/cleat-test-syncs-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "fsync_us 100\nsyncs 17\nsync_us_total 5\nwrite_bytes 4096\n"),
                     55);
    struct meter_source source = {.pid = (uint64_t)getpid(), .syncs_file = path};
    struct meter before, after;
    assert_int_equal(meter_read(&source, &before), ST_OK);
    assert_int_equal(before.syncs, 17);
    assert_int_equal(before.sync_disk_bytes, 4096);
    assert_true(before.rss_anon_bytes > 0 && before.rss_anon_bytes <= before.rss_bytes);
    assert_true(before.device_flushes == METER_NONE);
    assert_int_equal(pwrite(fd, "fsync_us 100\nsyncs 20\n", 22, 0), 22);
    assert_int_equal(meter_read(&source, &after), ST_OK);
    struct meter spent = meter_since(&before, &after);
    assert_int_equal(spent.syncs, 3);
    assert_true(spent.device_flushes == METER_NONE);
    close(fd);
    unlink(path);
    assert_int_equal(meter_read(&source, &after), ST_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hist_permille_is_close_to_the_true_one),
        cmocka_unit_test(test_hist_of_nothing_is_zero),
        cmocka_unit_test(test_hist_takes_the_largest_duration),
        cmocka_unit_test(test_report_reads_back_what_it_wrote),
        cmocka_unit_test(test_report_refuses_lines_that_are_no_rows),
        cmocka_unit_test(test_flags_parse_takes_both_forms),
        cmocka_unit_test(test_flags_parse_refuses_wrong_options),
        cmocka_unit_test(test_meter_reads_this_process_and_a_syncs_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
