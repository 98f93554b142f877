#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_bytes_are_in_the_named_order(void **state)
{
    (void)state;
    uint8_t p[8];
    put_le64(p, 0x0102030405060708);
    assert_memory_equal(p, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_true(get_le64(p) == 0x0102030405060708);
    put_be64(p, 0x0102030405060708);
    assert_memory_equal(p, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    assert_true(get_be64(p) == 0x0102030405060708);
    put_le32(p, 0x01020304);
    assert_memory_equal(p, "\x04\x03\x02\x01", 4);
    assert_int_equal(get_le32(p), 0x01020304);
    put_be32(p, 0x01020304);
    assert_memory_equal(p, "\x01\x02\x03\x04", 4);
    assert_int_equal(get_be32(p), 0x01020304);
    put_le16(p, 0x0102);
    assert_memory_equal(p, "\x02\x01", 2);
    assert_int_equal(get_le16(p), 0x0102);
}

/* The numbers around every place where a varint grows by a byte. */
static uint64_t edge(unsigned bit, int offset)
{
    return (bit == 64 ? 0 : UINT64_C(1) << bit) + (uint64_t)(int64_t)offset;
}

static void test_varint_returns_what_was_put_at_every_size(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit <= 64; bit++) {
        for (int offset = -1; offset <= 1; offset++) {
            uint8_t bytes[VARINT_BYTES_MAX];
            size_t size = put_varint(bytes, edge(bit, offset));
            assert_int_equal(size, varint_size(edge(bit, offset)));
            struct slice in = slice_make(bytes, size);
            uint64_t got;
            assert_int_equal(take_varint(&in, &got), ST_OK);
            assert_true(got == edge(bit, offset));
            assert_int_equal(in.len, 0);
        }
    }
    assert_int_equal(varint_size(UINT64_MAX), VARINT_BYTES_MAX);
}

static void test_varint_refuses_every_truncation(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit <= 64; bit++) {
        uint8_t bytes[VARINT_BYTES_MAX];
        size_t size = put_varint(bytes, edge(bit, -1));
        for (size_t cut = 0; cut < size; cut++) {
            struct slice in = slice_make(bytes, cut);
            uint64_t got;
            assert_int_equal(take_varint(&in, &got), ST_TRUNCATED);
            assert_ptr_equal(in.data, bytes);
            assert_int_equal(in.len, cut);
        }
    }
}

static void test_varint_refuses_more_than_64_bits(void **state)
{
    (void)state;
    struct slice in = SLICE("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
    uint64_t got;
    assert_int_equal(take_varint(&in, &got), ST_INVALID);
    in = SLICE("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01");
    assert_int_equal(take_varint(&in, &got), ST_INVALID);
    assert_int_equal(in.len, 11);
}

static void test_varint_takes_only_its_own_bytes(void **state)
{
    (void)state;
    struct slice in = SLICE("\xac\x02rest");
    uint64_t got;
    assert_int_equal(take_varint(&in, &got), ST_OK);
    assert_int_equal(got, 300);
    assert_true(slice_eq(in, SLICE("rest")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_in_the_named_order),
        cmocka_unit_test(test_varint_returns_what_was_put_at_every_size),
        cmocka_unit_test(test_varint_refuses_every_truncation),
        cmocka_unit_test(test_varint_refuses_more_than_64_bits),
        cmocka_unit_test(test_varint_takes_only_its_own_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
