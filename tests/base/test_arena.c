#include "base/arena.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_arena_alloc_is_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    uint8_t *pieces[200];
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = arena_alloc(&arena, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        for (size_t k = 0; k < i; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i; k++)
            assert_int_equal(pieces[i][k], i);
    }
    arena_deinit(&arena);
}

static void test_arena_refuses_what_passes_its_cap_and_goes_on(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 8192);
    assert_null(arena_alloc(&arena, 8193));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc_array(&arena, SIZE_MAX / 2, 3)); /* the product overflows */
    assert_non_null(arena_alloc(&arena, 4096));
    assert_non_null(arena_alloc(&arena, 4096));
    struct slice copy;
    assert_int_equal(arena_copy(&arena, SLICE("x"), &copy), ST_TOO_BIG);
    assert_true(arena.total_bytes <= 8192);
    arena_deinit(&arena);
}

static void test_arena_gives_one_piece_of_its_whole_cap(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 100000);
    uint8_t *piece = arena_alloc(&arena, 100000 / alignof(max_align_t) * alignof(max_align_t));
    assert_non_null(piece);
    arena_deinit(&arena);
}

static void test_arena_reset_gives_the_memory_back_to_the_arena(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 65536);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 40; i++)
            assert_non_null(arena_alloc(&arena, 1000));
        arena_reset(&arena);
        assert_true(arena.total_bytes <= 65536);
    }
    uint8_t *piece = arena_alloc(&arena, 100); /* a kept block still holds old content */
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(piece[i], 0);
    arena_deinit(&arena);
}

static void test_arena_copy_does_not_borrow(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 4096);
    uint8_t original[3] = {1, 2, 3};
    struct slice copy;
    assert_int_equal(arena_copy(&arena, slice_make(original, 3), &copy), ST_OK);
    original[0] = 9;
    assert_true(slice_eq(copy, SLICE("\1\2\3")));
    assert_int_equal(arena_copy(&arena, SLICE_EMPTY, &copy), ST_OK);
    assert_int_equal(copy.len, 0);
    arena_deinit(&arena);
}

/* From a few bytes to what comes in pages of its own, in place, moved, and near the cap. */
static void test_arena_grows_a_piece(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 40 << 20);
    void *piece = NULL;
    size_t size = 0;
    for (size_t wanted = 100; wanted < 17 << 20; wanted = wanted * 2 + 1) {
        if (wanted < 1000)
            assert_non_null(arena_alloc(&arena, 10)); /* it is not the newest any more */
        assert_int_equal(arena_grow(&arena, size, wanted, &piece), ST_OK);
        uint8_t *bytes = piece;
        for (size_t i = 0; i < size; i += 97)
            assert_int_equal(bytes[i], (uint8_t)(i / 97));
        for (size_t i = 0; i < wanted; i += 97)
            bytes[i] = (uint8_t)(i / 97);
        size = wanted;
    }
    assert_true(size >= 8 << 20);
    assert_true(arena.total_bytes < 2 * size + (4 << 20)); /* large ones leave nothing behind */
    assert_int_equal(arena_grow(&arena, size, 64 << 20, &piece), ST_TOO_BIG);
    size_t left = arena.bytes_max - arena.total_bytes;
    assert_int_equal(arena_grow(&arena, size, size + left + 100, &piece), ST_TOO_BIG);
    assert_int_equal(arena_grow(&arena, size, size + left - 100, &piece), ST_OK);
    assert_int_equal(((uint8_t *)piece)[97 * 300], (uint8_t)300);
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 5 << 20));
    arena_deinit(&arena);
}

static void test_arena_deinit_accepts_a_zeroed_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_reset(&arena);
    arena_deinit(&arena);
    assert_null(arena.head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_alloc_is_aligned_zeroed_and_apart),
        cmocka_unit_test(test_arena_refuses_what_passes_its_cap_and_goes_on),
        cmocka_unit_test(test_arena_gives_one_piece_of_its_whole_cap),
        cmocka_unit_test(test_arena_reset_gives_the_memory_back_to_the_arena),
        cmocka_unit_test(test_arena_copy_does_not_borrow),
        cmocka_unit_test(test_arena_grows_a_piece),
        cmocka_unit_test(test_arena_deinit_accepts_a_zeroed_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
