#include "server/state/auth_bcrypt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Hashes that etcd 3.5.15 made (cost 4). */
static const struct {
    const char *password, *hash;
} by_etcd[] = {
    {"root", "$2a$04$Zw5bay2QNhyrN6idFGTT8.B0KN5OEkOi9hatxu27.RgeuTWrdW0S2"},
    {"secret", "$2a$04$wPNXYEL6l/7kiExrpcbjcOfo6oOS7KK.pTqpLhM.MzmobyXC85G.6"},
    {"pw\xc3\xbf\xc3\xa9", "$2a$04$p5kfXnZGvsZtf52JtfcwM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EKK"},
};

static void test_bcrypt_compare_knows_what_etcd_hashed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(by_etcd) / sizeof(by_etcd[0]); i++) {
        struct slice hash = slice_from_str(by_etcd[i].hash);
        assert_int_equal(bcrypt_compare(slice_from_str(by_etcd[i].password), hash), ST_OK);
        assert_int_equal(bcrypt_compare(SLICE("another"), hash), ST_INVALID);
        assert_int_equal(bcrypt_compare(SLICE_EMPTY, hash), ST_INVALID);
    }
}

/* From libcrypt's own test vectors, where it stands for "$2y$"; its "$2a$" gives another. */
static void test_bcrypt_compare_computes_what_go_does(void **state)
{
    (void)state;
    struct slice known = SLICE("$2a$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e");
    assert_int_equal(bcrypt_compare(SLICE("\xff\xff\xa3"), known), ST_OK);
    assert_int_equal(bcrypt_compare(SLICE("\xa3"), known), ST_INVALID);
    assert_int_equal(bcrypt_compare(SLICE("\xff\xff\xa3"
                                          "345"),
                                    known),
                     ST_INVALID);
}

static void test_bcrypt_hash_and_compare_agree(void **state)
{
    (void)state;
    uint8_t salt[BCRYPT_SALT_BYTES] = {1, 2, 3};
    char first[BCRYPT_HASH_BYTES], second[BCRYPT_HASH_BYTES];
    assert_int_equal(bcrypt_hash(SLICE("pw"), 4, salt, first), ST_OK);
    assert_int_equal(bcrypt_hash(SLICE("pw"), 4, salt, second), ST_OK);
    assert_memory_equal(first, second, sizeof(first));
    salt[15] = 9;
    assert_int_equal(bcrypt_hash(SLICE("pw"), 4, salt, second), ST_OK);
    assert_memory_not_equal(first, second, sizeof(first));
    assert_int_equal(bcrypt_compare(SLICE("pw"), slice_make(second, sizeof(second))), ST_OK);
    assert_int_equal(bcrypt_compare(SLICE("pw2"), slice_make(second, sizeof(second))), ST_INVALID);
    assert_int_equal(bcrypt_hash(SLICE_EMPTY, 4, salt, first), ST_OK);
    assert_int_equal(bcrypt_compare(SLICE_EMPTY, slice_make(first, sizeof(first))), ST_OK);
    assert_int_equal(bcrypt_compare(SLICE("x"), slice_make(first, sizeof(first))), ST_INVALID);
}

static void test_bcrypt_ends_no_password_early(void **state)
{
    (void)state;
    const uint8_t salt[BCRYPT_SALT_BYTES] = {7};
    uint8_t text[BCRYPT_PASSWORD_BYTES_MAX + 1];
    char hash[BCRYPT_HASH_BYTES];
    memset(text, 'p', sizeof(text));
    assert_int_equal(bcrypt_hash(slice_make(text, sizeof(text)), 4, salt, hash), ST_TOO_BIG);
    assert_int_equal(bcrypt_hash(slice_make(text, sizeof(text) - 1), 4, salt, hash), ST_OK);
    struct slice whole = slice_make(hash, sizeof(hash));
    assert_int_equal(bcrypt_compare(slice_make(text, sizeof(text) - 1), whole), ST_OK);
    assert_int_equal(bcrypt_compare(slice_make(text, sizeof(text)), whole), ST_OK);
    assert_int_equal(bcrypt_compare(slice_make(text, sizeof(text) - 2), whole), ST_INVALID);
    assert_int_equal(bcrypt_hash(SLICE("a\0b"), 4, salt, hash), ST_INVALID);
    assert_int_equal(bcrypt_hash(SLICE("a"), 4, salt, hash), ST_OK);
    assert_int_equal(bcrypt_compare(SLICE("a\0b"), whole), ST_INVALID);
}

static void test_bcrypt_compare_refuses_other_hashes(void **state)
{
    (void)state;
    static const char *const hashes[] = {
        "",
        "secret",
        "$2a$04$",
        "$1$p5kfXnZG$vsZtf52JtfcwM.",
        "$2a$04$p5kfXnZGvsZtf52JtfcwM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EK",
        "$2a$04$p5kfXnZGvsZtf52JtfcwM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EKKK",
        "$2a$03$p5kfXnZGvsZtf52JtfcwM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EKK",
        "$2x$04$p5kfXnZGvsZtf52JtfcwM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EKK",
        "$2a$04$p5kfXnZGvsZtf52Jtf*wM.Dtl/vQ84F/96Lj5FoYG3Uj/USCC9EKK",
    };
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
        assert_int_equal(bcrypt_compare(SLICE("secret"), slice_from_str(hashes[i])), ST_INVALID);
    const uint8_t salt[BCRYPT_SALT_BYTES] = {7};
    char hash[BCRYPT_HASH_BYTES];
    assert_int_equal(bcrypt_hash(SLICE("a"), 3, salt, hash), ST_INVALID);
    assert_int_equal(bcrypt_hash(SLICE("a"), 32, salt, hash), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bcrypt_compare_knows_what_etcd_hashed),
        cmocka_unit_test(test_bcrypt_compare_computes_what_go_does),
        cmocka_unit_test(test_bcrypt_hash_and_compare_agree),
        cmocka_unit_test(test_bcrypt_ends_no_password_early),
        cmocka_unit_test(test_bcrypt_compare_refuses_other_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
