#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* RFC 4648, section 10, and letters in which the alphabets differ. */
static const struct {
    const char *bytes, *standard, *url;
} texts[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "-__-"},
};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))

static void check(enum base64_kind kind, const char *bytes, const char *text)
{
    uint8_t out[64];
    size_t size = 99;
    assert_int_equal(base64_encoded_size(kind, strlen(bytes)), strlen(text));
    base64_encode(kind, slice_from_str(bytes), out);
    assert_memory_equal(out, text, strlen(text));
    assert_int_equal(base64_decode(kind, slice_from_str(text), out, &size), ST_OK);
    assert_true(size <= base64_decoded_size_max(strlen(text)));
    assert_int_equal(size, strlen(bytes));
    assert_memory_equal(out, bytes, size);
}

static void test_base64_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEXTS; i++) {
        check(BASE64_STANDARD, texts[i].bytes, texts[i].standard);
        check(BASE64_URL, texts[i].bytes, texts[i].url);
    }
}

static void test_base64_decode_refuses_what_is_none(void **state)
{
    (void)state;
    static const char *const standard[] = {
        "Z",    "Zg",   "Zg=",  "Zm9vYg",   "====",  "A===",    "Zg=A",
        "Zm-v", "Zm9 ", "=Zg=", "Zg==Zg==", "Zm9v=", "Zm9v===="};
    static const char *const url[] = {"Z", "Zg==", "Zm8=", "Zm+v", "Zm/v", "Zm9vY", "Zg "};
    uint8_t out[64];
    size_t size;
    for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++)
        assert_int_equal(base64_decode(BASE64_STANDARD, slice_from_str(standard[i]), out, &size),
                         ST_INVALID);
    for (size_t i = 0; i < sizeof(url) / sizeof(url[0]); i++)
        assert_int_equal(base64_decode(BASE64_URL, slice_from_str(url[i]), out, &size), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_both_ways),
        cmocka_unit_test(test_base64_decode_refuses_what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
