#include "server/config/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct arena arena;
    arena_init(&arena, 1 << 20);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(*state);
    return 0;
}

static void test_urls_are_sorted_and_without_repeats(void **state)
{
    struct config_urls urls;
    const char *why;
    assert_int_equal(config_urls_parse(*state, "http://b:2, http://a:1,http://b:2", &urls, &why),
                     ST_OK);
    assert_int_equal(urls.count, 2);
    assert_string_equal(config_urls_join(*state, &urls), "http://a:1,http://b:2");
    assert_string_equal(urls.items[0].host, "a");
    assert_int_equal(urls.items[0].port, 1);
    assert_string_equal(urls.items[1].scheme, "http");
}

static void test_urls_of_every_scheme(void **state)
{
    struct config_urls urls;
    const char *why;
    assert_int_equal(config_urls_parse(*state, "HTTPS://[::1]:2379,unix://a/b.sock", &urls, &why),
                     ST_OK);
    assert_string_equal(urls.items[0].scheme, "https");
    assert_string_equal(urls.items[0].host, "::1");
    assert_int_equal(urls.items[0].port, 2379);
    assert_string_equal(urls.items[1].host, "a/b.sock");
}

static void test_urls_are_refused_in_etcds_words(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"foo", "URL scheme must be http, https, unix, or unixs: foo"},
        {"", "URL scheme must be http, https, unix, or unixs: "},
        {"ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"},
        {"localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"},
        {"127.0.0.1:2379",
         "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"},
        {"http://a", "URL address does not have the form \"host:port\": http://a"},
        {"http://::1:2", "URL address does not have the form \"host:port\": http://::1:2"},
        {"http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"},
        {"http://a:1/x", "URL must not contain a path: http://a:1/x"},
        {"http://a:65536", "parse \"http://a:65536\": invalid port \":65536\" after host"},
        {"http://a:-1", "parse \"http://a:-1\": invalid port \":-1\" after host"},
        {"http://a:1,,http://b:2", "URL scheme must be http, https, unix, or unixs: "},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config_urls urls;
        const char *why;
        assert_int_equal(config_urls_parse(*state, bad[i].text, &urls, &why), ST_INVALID);
        assert_string_equal(why, bad[i].why);
        assert_int_equal(urls.count, 0);
    }
}

static void test_urls_check_bind_wants_an_address(void **state)
{
    struct config_urls urls;
    const char *why;
    assert_int_equal(config_urls_parse(*state,
                                       "http://0.0.0.0:1,http://[::]:2,http://localhost:3,unix://x",
                                       &urls, &why),
                     ST_OK);
    assert_null(config_urls_check_bind(*state, &urls));
    assert_int_equal(config_urls_parse(*state, "http://example.com:1", &urls, &why), ST_OK);
    assert_string_equal(config_urls_check_bind(*state, &urls),
                        "expected IP in URL for binding (http://example.com:1)");
}

static void test_urls_refuse_more_than_their_limits(void **state)
{
    struct arena small;
    arena_init(&small, 64);
    struct config_urls urls;
    const char *why;
    assert_int_equal(
        config_urls_parse(&small, "http://a:1,http://b:1,http://c:1,http://d:1", &urls, &why),
        ST_TOO_BIG);
    arena_deinit(&small);
    static char many[CONFIG_URLS_MAX * 11 + 11];
    for (size_t i = 0; i <= CONFIG_URLS_MAX; i++)
        memcpy(many + i * 11, "http://a:1,", 11);
    many[sizeof(many) - 1] = '\0';
    assert_int_equal(config_urls_parse(*state, many, &urls, &why), ST_TOO_BIG);
    assert_string_equal(why, "too many URLs");
}

#define URL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        URL_TEST(test_urls_are_sorted_and_without_repeats),
        URL_TEST(test_urls_of_every_scheme),
        URL_TEST(test_urls_are_refused_in_etcds_words),
        URL_TEST(test_urls_check_bind_wants_an_address),
        URL_TEST(test_urls_refuse_more_than_their_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
