#include "tools/ctl/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct cli cli;
    arena_init(&cli.arena, 1 << 20);
    *state = &cli;
    return 0;
}

static int teardown(void **state)
{
    cli_deinit(*state);
    return 0;
}

#define WORDS_MAX 6

static void test_words_split_takes_quoted_words(void **state)
{
    static const struct {
        const char *line;
        const char *words[WORDS_MAX];
    } table[] = {
        {"", {NULL}},
        {"   ", {NULL}},
        {"put k v", {"put", "k", "v"}},
        {"  put\tk   v ", {"put", "k", "v"}},
        {"put \"a b\" \"\"", {"put", "a b", ""}},
        {"put 'c d' 'e'", {"put", "c d", "e"}},
        {"put \"a\\n\\t\\x41\\101\\u00e9\\U0001f600\" \"q\\\"q\\\\\"",
         {"put", "a\n\tAA\xc3\xa9\xf0\x9f\x98\x80", "q\"q\\"}},
        {"put a\"b c\" 1", {"put", "a\"b", "c\"", "1"}},
        {"\"a\"b", {"a", "b"}},
        {"get \"a b", {"get", "a", "b"}},
        {"it's", {"it's"}},
        {"'open", {"open"}},
        {"-w=\"x y\"", {"-w=\"x", "y\""}},
        {"\xff\xfe", {"\xff\xfe"}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char **words;
        uint32_t count;
        const char *error;
        assert_int_equal(words_split(*state, table[i].line, &words, &count, &error), ST_OK);
        for (uint32_t w = 0; w < count; w++)
            assert_string_equal(words[w], table[i].words[w]);
        assert_null(table[i].words[count]);
    }
}

static void test_words_split_refuses_broken_escapes_and_zero_bytes(void **state)
{
    static const char *const lines[] = {
        "\"\\q\"",   "\"\\x4\"",    "\"\\xzz\"",       "\"\\'\"",   "\"\\8\"",
        "\"\\777\"", "\"\\ud800\"", "\"\\U00110000\"", "\"\\u12\"", "put k \"\\\n\"",
    };
    char **words;
    uint32_t count;
    const char *error;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_int_equal(words_split(*state, lines[i], &words, &count, &error), ST_INVALID);
        assert_string_equal(error, "invalid syntax");
    }
    assert_int_not_equal(words_split(*state, "put \"a\\x00b\" 1", &words, &count, &error), ST_OK);
    assert_string_equal(error, "a zero byte cannot be part of an argument");
}

static void assert_slice(struct slice got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.data, expected, got.len);
}

static void test_words_read_compare_takes_a_comparison_apart(void **state)
{
    struct words_compare parts;
    assert_int_equal(words_read_compare(*state, "mod(\"key\\x00\\n\") >= \"12\" more", &parts),
                     ST_OK);
    assert_int_equal(parts.found, WORDS_COMPARE_PARTS);
    assert_slice(parts.target, "mod");
    assert_int_equal(parts.key.len, 5);
    assert_memory_equal(parts.key.data, "key\0\n", 5);
    assert_slice(parts.operation, ">=");
    assert_slice(parts.value, "12");
    assert_int_equal(words_read_compare(*state, "val( `a\\n`)  =\t`b`", &parts), ST_OK);
    assert_int_equal(parts.found, WORDS_COMPARE_PARTS);
    assert_slice(parts.key, "a\\n");
    assert_slice(parts.value, "b");
}

static void test_words_read_compare_tells_how_far_it_came(void **state)
{
    static const struct {
        const char *line;
        uint32_t found;
        const char *got;
    } table[] = {
        {"value(\"foo\") = q", 2, "; got value(\"foo\") = \"\""},
        {"val(\"a\")=\"1\"", 1, "; got val(\"a\")  \"\""},
        {"val(\"a\") =\"1\"", 1, "; got val(\"a\") =\"1\" \"\""},
        {"val( `a` ) = `1`", 1, "; got val(\"a\")  \"\""},
        {"mod() = \"1\"", 0, "; got mod(\"\")  \"\""},
        {"mod(\"a", 0, "; got mod(\"\")  \"\""},
        {"(", 0, "; got (\"\")  \"\""},
        {"mod(\"a\") =", 1, "; got mod(\"a\") = \"\""},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct words_compare parts;
        assert_int_equal(words_read_compare(*state, table[i].line, &parts), ST_OK);
        assert_true(parts.bracket);
        assert_int_equal(parts.found, table[i].found);
        assert_string_equal(words_compare_got(*state, &parts), table[i].got);
    }
    struct words_compare parts;
    assert_int_equal(words_read_compare(*state, "garbage", &parts), ST_OK);
    assert_false(parts.bracket);
}

static void test_words_read_line_wants_whole_lines(void **state)
{
    static const char text[] = "  first \r\n\n \t \nhalf";
    FILE *in = fmemopen((void *)(uintptr_t)text, sizeof(text) - 1, "r");
    const char *line;
    static const char *const expected[] = {"first", "", ""};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(words_read_line(*state, in, &line), ST_OK);
        assert_string_equal(line, expected[i]);
    }
    assert_int_equal(words_read_line(*state, in, &line), ST_NOT_FOUND);
    fclose(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_words_split_takes_quoted_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_words_split_refuses_broken_escapes_and_zero_bytes,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_words_read_compare_takes_a_comparison_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_words_read_compare_tells_how_far_it_came, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_words_read_line_wants_whole_lines, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
