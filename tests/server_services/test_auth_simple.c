#include "base/clock.h"
#include "server/services/auth_simple.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TTL_NS (300 * NS_PER_S)

struct fixture {
    struct simple_tokens *tokens;
    struct arena arena;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    const struct simple_tokens_options options = {.ttl_ns = TTL_NS, .seed = 5, .threaded = true};
    arena_init(&f->arena, SIZE_MAX / 2);
    assert_int_equal(simple_tokens_new(&options, &f->tokens), ST_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    simple_tokens_free(f->tokens);
    arena_deinit(&f->arena);
    test_free(f);
    return 0;
}

static void add(struct fixture *f, const char *token, const char *user, uint64_t now_ns)
{
    assert_int_equal(
        simple_tokens_add(f->tokens, slice_from_str(token), slice_from_str(user), now_ns), ST_OK);
}

static const char *find(struct fixture *f, const char *token, uint64_t now_ns)
{
    struct slice user;
    enum status st = simple_tokens_find(f->tokens, slice_from_str(token), now_ns, &f->arena, &user);
    if (st != ST_OK)
        return NULL;
    char *text = arena_alloc(&f->arena, user.len + 1);
    memcpy(text, user.data, user.len);
    return text;
}

static void test_simple_tokens_find_knows_whose_it_is(void **state)
{
    struct fixture *f = *state;
    add(f, "aaaa.1", "root", 0);
    add(f, "bbbb.2", "alice", 0);
    add(f, "cccc.3", "alice", 0);
    assert_string_equal(find(f, "aaaa.1", 1), "root");
    assert_string_equal(find(f, "bbbb.2", 1), "alice");
    assert_null(find(f, "aaaa.2", 1));
    assert_null(find(f, "aaaa", 1));
    assert_null(find(f, "", 1));
    add(f, "aaaa.1", "bob", 0);
    assert_string_equal(find(f, "aaaa.1", 1), "bob");
    assert_int_equal(simple_tokens_count(f->tokens), 3);
    simple_tokens_drop_user(f->tokens, SLICE("alice"));
    assert_null(find(f, "bbbb.2", 1));
    assert_null(find(f, "cccc.3", 1));
    assert_string_equal(find(f, "aaaa.1", 1), "bob");
    simple_tokens_drop_all(f->tokens);
    assert_int_equal(simple_tokens_count(f->tokens), 0);
    assert_null(find(f, "aaaa.1", 1));
}

static void test_simple_tokens_find_renews_what_is_used(void **state)
{
    struct fixture *f = *state;
    add(f, "used.1", "root", 0);
    add(f, "idle.2", "root", 0);
    for (uint64_t now_ns = 0; now_ns < 10 * TTL_NS; now_ns += TTL_NS / 2) {
        assert_string_equal(find(f, "used.1", now_ns), "root");
        if (now_ns == TTL_NS)
            assert_null(find(f, "idle.2", now_ns));
    }
    assert_null(find(f, "used.1", 11 * TTL_NS));
}

static void test_simple_tokens_add_forgets_the_one_unused_for_longest(void **state)
{
    struct fixture *f = *state;
    char text[32];
    add(f, "kept.0", "root", 0);
    uint64_t now_ns = 0;
    for (uint32_t i = 0; i < 2 * SIMPLE_TOKENS_MAX; i++, now_ns += 2 * NS_PER_MS) {
        snprintf(text, sizeof(text), "token.%u", i);
        add(f, text, "root", now_ns);
        if (i % 64 == 0)
            assert_non_null(find(f, "kept.0", now_ns));
    }
    assert_true(now_ns < TTL_NS);
    assert_in_range(simple_tokens_count(f->tokens), SIMPLE_TOKENS_MAX / 2, SIMPLE_TOKENS_MAX);
    assert_null(find(f, "token.0", now_ns));
    assert_string_equal(find(f, text, now_ns), "root");
}

static void test_simple_token_letters_are_letters(void **state)
{
    (void)state;
    uint8_t random[SIMPLE_TOKEN_LETTERS];
    char out[SIMPLE_TOKEN_LETTERS];
    for (uint32_t i = 0; i < 256; i++) {
        memset(random, (int)i, sizeof(random));
        simple_token_letters(random, out);
        for (uint32_t j = 0; j < SIMPLE_TOKEN_LETTERS; j++)
            assert_true((out[j] >= 'a' && out[j] <= 'z') || (out[j] >= 'A' && out[j] <= 'Z'));
    }
}

static void test_simple_token_index_reads_what_follows_the_dot(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "abc",
                                      ".",
                                      "abc.",
                                      "abc.x",
                                      "abc.1.2",
                                      "abc.-1",
                                      "abc.1 ",
                                      "Bearer a",
                                      "abc.0x12",
                                      "abc.18446744073709551616",
                                      "abc.99999999999999999999"};
    uint64_t index;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(simple_token_index(slice_from_str(bad[i]), &index), ST_INVALID);
    assert_int_equal(simple_token_index(SLICE("abcdefghijklmnop.42"), &index), ST_OK);
    assert_int_equal(index, 42);
    assert_int_equal(simple_token_index(SLICE(".18446744073709551615"), &index), ST_OK);
    assert_true(index == UINT64_MAX);
}

#define TOKENS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TOKENS_TEST(test_simple_tokens_find_knows_whose_it_is),
        TOKENS_TEST(test_simple_tokens_find_renews_what_is_used),
        TOKENS_TEST(test_simple_tokens_add_forgets_the_one_unused_for_longest),
        cmocka_unit_test(test_simple_token_letters_are_letters),
        cmocka_unit_test(test_simple_token_index_reads_what_follows_the_dot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
