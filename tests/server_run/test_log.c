/* Log lines are read back with a JSON parser of others' making, as users' pipelines do. */
#include "server/run/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static char log_path[] = "/tmp/cleat-test-log-XXXXXX";

static int setup(void **state)
{
    (void)state;
    (void)setenv("TZ", "UTC", 1);
    int fd = mkstemp(log_path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    log_close();
    int failed = unlink(log_path);
    memcpy(log_path + strlen(log_path) - 6, "XXXXXX", 6);
    return failed;
}

static void open_log(enum log_level level)
{
    const char *outputs[] = {log_path};
    assert_int_equal(log_open(level, outputs, 1, NULL), ST_OK);
}

/* The text of the log so far; the caller frees it. */
static char *log_text(void)
{
    FILE *file = fopen(log_path, "r");
    assert_non_null(file);
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = getdelim(&text, &capacity, '\0', file);
    assert_true(size >= 0 || feof(file));
    if (size < 0)
        text[0] = '\0';
    assert_int_equal(fclose(file), 0);
    return text;
}

static json_t *only_line(void)
{
    char *text = log_text();
    json_t *line = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(line);
    free(text);
    return line;
}

static void test_log_line_has_etcds_shape(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_INFO);
    log_info("ready to serve client requests");
    char *text = log_text();
    static const char head[] = "{\"level\":\"info\",\"ts\":\"";
    assert_memory_equal(text, head, sizeof(head) - 1);
    const char *time = text + sizeof(head) - 1;
    assert_int_equal(strspn(time, "0123456789-T:."), strlen("2024-07-19T10:00:00.000000"));
    static const char tail[] = "Z\",\"caller\":\"server_run/test_log.c:";
    assert_memory_equal(time + strlen("2024-07-19T10:00:00.000000"), tail, sizeof(tail) - 1);
    assert_non_null(strstr(text, "\",\"msg\":\"ready to serve client requests\"}\n"));
    free(text);
}

static void test_log_fields_of_every_kind(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_INFO);
    const char *urls[] = {"http://a:1", "http://b:2"};
    log_warn("m", LOG_STR("str", "x\"y\\\n\t\r\x01"), LOG_SLICE("slice", SLICE("caf\xc3\xa9\xff")),
             LOG_STRS("urls", urls, 2), LOG_I64("i64", INT64_MIN), LOG_U64("u64", UINT64_MAX),
             LOG_HEX("id", 0x8e9e05c52164694dULL), LOG_BOOL("yes", true),
             LOG_DURATION("took", 1500000000), LOG_STATUS(ST_COMPACTED), LOG_STR("none", NULL));
    char *text = log_text();
    assert_non_null(strstr(text, "\"msg\":\"m\",\"str\":\"x\\\"y\\\\\\n\\t\\r\\u0001\","
                                 "\"slice\":\"caf\xc3\xa9\\ufffd\","
                                 "\"urls\":[\"http://a:1\",\"http://b:2\"],"
                                 "\"i64\":-9223372036854775808,\"u64\":18446744073709551615,"
                                 "\"id\":\"8e9e05c52164694d\",\"yes\":true,\"took\":\"1.5s\","
                                 "\"error\":\"revision has been compacted\",\"none\":\"\"}\n"));
    free(text);
}

static void test_log_line_stays_valid_for_every_byte(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t bytes[4] = {(uint8_t)first, 0xa5, 0x80, 0x80};
        assert_int_equal(truncate(log_path, 0), 0);
        open_log(LOG_LEVEL_INFO);
        log_info("m", LOG_SLICE("key", slice_make(bytes, sizeof(bytes))));
        json_decref(only_line());
    }
}

static void test_log_drops_what_is_below_its_level(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_WARN);
    int evaluated = 0;
    log_info("not this", LOG_I64("n", ++evaluated));
    assert_int_equal(evaluated, 0);
    log_error("this");
    json_t *line = only_line();
    assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
    json_decref(line);
}

static void test_log_cuts_a_line_that_is_too_long_between_fields(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_INFO);
    static char big[2 * LOG_LINE_BYTES_MAX];
    memset(big, '"', sizeof(big) - 1);
    log_info("m", LOG_U64("before", 1), LOG_STR("big", big), LOG_U64("after", 2));
    json_t *line = only_line();
    assert_int_equal(json_integer_value(json_object_get(line, "before")), 1);
    assert_null(json_object_get(line, "big"));
    assert_true(json_is_true(json_object_get(line, "cut")));
    json_decref(line);
}

static void test_log_survives_a_message_that_is_too_long(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_INFO);
    static char big[2 * LOG_LINE_BYTES_MAX];
    for (size_t len = LOG_LINE_BYTES_MAX - 200; len < LOG_LINE_BYTES_MAX; len++) {
        memset(big, 'm', len);
        assert_int_equal(truncate(log_path, 0), 0);
        log_info(big, LOG_U64("n", 1));
        json_decref(only_line());
    }
}

static void test_log_open_names_the_file_that_does_not_open(void **state)
{
    (void)state;
    const char *outputs[] = {"stderr", "/nonexistent/folder/log"};
    const char *failed = NULL;
    assert_int_equal(log_open(LOG_LEVEL_INFO, outputs, 2, &failed), ST_IO);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(failed, "/nonexistent/folder/log");
}

static void test_log_level_parse_knows_etcds_names(void **state)
{
    (void)state;
    enum log_level level;
    assert_int_equal(log_level_parse("dpanic", &level), ST_OK);
    assert_int_equal(level, LOG_LEVEL_DPANIC);
    assert_int_equal(log_level_parse("INFO", &level), ST_INVALID);
}

static void *log_many(void *context)
{
    (void)context;
    for (int i = 0; i < 500; i++)
        log_info("from a thread", LOG_I64("i", i));
    return NULL;
}

static void test_log_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    open_log(LOG_LEVEL_INFO);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    char *text = log_text();
    size_t lines = 0;
    for (char *p = text, *end; (end = strchr(p, '\n')) != NULL; p = end + 1, lines++) {
        json_t *line = json_loadb(p, (size_t)(end - p), 0, NULL);
        assert_non_null(line);
        json_decref(line);
    }
    assert_int_equal(lines, 2000);
    free(text);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_log_line_has_etcds_shape),
        LOG_TEST(test_log_fields_of_every_kind),
        LOG_TEST(test_log_line_stays_valid_for_every_byte),
        LOG_TEST(test_log_drops_what_is_below_its_level),
        LOG_TEST(test_log_cuts_a_line_that_is_too_long_between_fields),
        LOG_TEST(test_log_survives_a_message_that_is_too_long),
        LOG_TEST(test_log_open_names_the_file_that_does_not_open),
        cmocka_unit_test(test_log_level_parse_knows_etcds_names),
        LOG_TEST(test_log_lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
