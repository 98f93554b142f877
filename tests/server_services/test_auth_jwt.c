#include "base/base64.h"
#include "server/services/auth_jwt.h"
#include "tests/server_services/jwt_keys.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOW_S 1795901000 /* while etcd's tokens are valid */

struct fixture {
    struct arena arena;
    struct jwt *jwt;
    char why[256];
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    arena_init(&f->arena, 1U << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    jwt_free(f->jwt);
    arena_deinit(&f->arena);
    test_free(f);
    return 0;
}

static enum status make(struct fixture *f, const char *method, const char *public_key,
                        const char *private_key)
{
    jwt_free(f->jwt);
    const struct jwt_options options = {.method = method,
                                        .public_key = slice_from_str(public_key),
                                        .private_key = slice_from_str(private_key),
                                        .ttl_ns = JWT_TTL_NS_DEFAULT};
    return jwt_new(&options, f->why, sizeof(f->why), &f->jwt);
}

static enum status verify(struct fixture *f, const char *token, int64_t now_s)
{
    struct slice user;
    uint64_t revision;
    enum status st = jwt_verify(f->jwt, slice_from_str(token), now_s, &f->arena, &user, &revision);
    if (st == ST_OK) {
        assert_true(slice_eq(user, SLICE("root")));
        assert_int_equal(revision, 3);
    }
    return st;
}

static void test_jwt_verify_reads_what_etcd_made(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *public_key, *private_key, *token;
    } cases[] = {
        {"RS256", rsa_public, "", etcd_rs256},  {"RS256", rsa_public, rsa_private, etcd_rs256},
        {"PS384", rsa_public, "", etcd_ps384},  {"ES256", ec_public, "", etcd_es256},
        {"HS256", "", hmac_secret, etcd_hs256},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(make(f, cases[i].method, cases[i].public_key, cases[i].private_key),
                         ST_OK);
        assert_int_equal(verify(f, cases[i].token, NOW_S), ST_OK);
        assert_int_equal(verify(f, cases[i].token, NOW_S + 3600), ST_INVALID);
    }
}

static void test_jwt_sign_makes_what_verify_takes(void **state)
{
    struct fixture *f = *state;
    static const char *const rsa[] = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"};
    static const char *const hmac[] = {"HS256", "HS384", "HS512"};
    for (size_t i = 0; i < 10; i++) {
        enum status st = i < 6   ? make(f, rsa[i], rsa_public, rsa_private)
                         : i < 9 ? make(f, hmac[i - 6], "", hmac_secret)
                                 : make(f, "ES256", "", ec_private);
        assert_int_equal(st, ST_OK);
        struct slice token, user;
        uint64_t revision;
        assert_true(jwt_can_sign(f->jwt));
        assert_int_equal(jwt_sign(f->jwt, SLICE("a \"b\""), 77, NOW_S, &f->arena, &token), ST_OK);
        assert_int_equal(jwt_verify(f->jwt, token, NOW_S, &f->arena, &user, &revision), ST_OK);
        assert_true(slice_eq(user, SLICE("a \"b\"")));
        assert_int_equal(revision, 77);
        assert_int_equal(jwt_verify(f->jwt, token, NOW_S + 299, &f->arena, &user, &revision),
                         ST_OK);
        assert_int_equal(jwt_verify(f->jwt, token, NOW_S + 300, &f->arena, &user, &revision),
                         ST_INVALID);
    }
}

static void test_jwt_verify_refuses_every_changed_letter(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(make(f, "ES256", ec_public, ""), ST_OK);
    char token[sizeof(etcd_es256)];
    size_t last = sizeof(token) - 2; /* two of its bits belong to no byte */
    for (size_t i = 0; i < last; i++) {
        memcpy(token, etcd_es256, sizeof(token));
        token[i] = token[i] == 'A' ? 'B' : 'A';
        assert_int_equal(verify(f, token, NOW_S), ST_INVALID);
        memcpy(token, etcd_es256, sizeof(token));
        token[i] = '\0';
        assert_int_equal(verify(f, token, NOW_S), ST_INVALID);
    }
}

/* Head and claims as given, signed by HMAC with secret, or not at all (NULL). */
static const char *forge(struct fixture *f, const char *head, const char *claims,
                         const char *secret)
{
    char *token = arena_alloc(&f->arena, 4096);
    size_t len = base64_encoded_size(BASE64_URL, strlen(head));
    base64_encode(BASE64_URL, slice_from_str(head), (uint8_t *)token);
    token[len++] = '.';
    base64_encode(BASE64_URL, slice_from_str(claims), (uint8_t *)token + len);
    len += base64_encoded_size(BASE64_URL, strlen(claims));
    unsigned char signature[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (secret != NULL)
        HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)token, len,
             signature, &size);
    token[len++] = '.';
    base64_encode(BASE64_URL, slice_make(signature, size), (uint8_t *)token + len);
    return token;
}

#define ROOT_CLAIMS "{\"exp\":1795901400,\"revision\":3,\"username\":\"root\"}"

static void test_jwt_verify_takes_its_own_method_only(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(make(f, "RS256", rsa_public, ""), ST_OK);
    const char *hs = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    assert_int_equal(verify(f, forge(f, hs, ROOT_CLAIMS, rsa_public), NOW_S), ST_INVALID);
    assert_int_equal(verify(f, forge(f, "{\"alg\":\"none\"}", ROOT_CLAIMS, NULL), NOW_S),
                     ST_INVALID);
    assert_int_equal(verify(f, forge(f, "{\"alg\":\"None\"}", ROOT_CLAIMS, NULL), NOW_S),
                     ST_INVALID);
    assert_int_equal(verify(f, forge(f, "{\"alg\":\"RS256\"}", ROOT_CLAIMS, NULL), NOW_S),
                     ST_INVALID);
    assert_int_equal(verify(f, forge(f, "{}", ROOT_CLAIMS, NULL), NOW_S), ST_INVALID);
    assert_int_equal(verify(f, etcd_ps384, NOW_S), ST_INVALID);
    assert_int_equal(verify(f, etcd_es256, NOW_S), ST_INVALID);
    assert_int_equal(verify(f, etcd_hs256, NOW_S), ST_INVALID);
}

static void test_jwt_verify_looks_at_the_claims(void **state)
{
    struct fixture *f = *state;
    const char *hs = "{\"typ\":\"JWT\",\"alg\":\"HS256\"}";
    static const char *const good[] = {
        ROOT_CLAIMS,
        "{\"username\":\"root\",\"revision\":3}",
        " {\"iss\":{\"a\":[1,2.5e3,null]},\"username\":\"root\",\"revision\":3,\"nbf\":1} ",
    };
    static const char *const bad[] = {
        "{\"username\":\"root\",\"revision\":3,\"exp\":1}",
        "{\"username\":\"root\",\"revision\":3,\"nbf\":1795909000}",
        "{\"username\":\"root\",\"revision\":3,\"iat\":1795909000}",
        "{\"username\":\"root\",\"revision\":-3}",
        "{\"username\":\"root\",\"revision\":\"3\"}",
        "{\"username\":7,\"revision\":3}",
        "{\"username\":\"root\"}",
        "{\"revision\":3}",
        "{\"username\":\"root\",\"revision\":3} x",
        "[]",
        "",
    };
    assert_int_equal(make(f, "HS256", "", "secret"), ST_OK);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(verify(f, forge(f, hs, good[i], "secret"), NOW_S), ST_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(verify(f, forge(f, hs, bad[i], "secret"), NOW_S), ST_INVALID);
    assert_int_equal(verify(f, forge(f, hs, ROOT_CLAIMS, "Secret"), NOW_S), ST_INVALID);
}

static void test_jwt_verify_refuses_other_texts(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"",    ".",        "..",    "...",
                                        "a.b", "Bearer x", "!.!.!", "abcdefghijklmnop.12"};
    static char huge[2 * JWT_BYTES_MAX];
    memset(huge, 'A', sizeof(huge) - 1);
    huge[10] = huge[20] = '.';
    assert_int_equal(make(f, "HS256", "", "secret"), ST_OK);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(verify(f, texts[i], NOW_S), ST_INVALID);
    assert_int_equal(verify(f, huge, NOW_S), ST_INVALID);
}

static void test_jwt_new_says_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *public_key, *private_key, *why;
    } cases[] = {
        {"XX", rsa_public, "", "auth: invalid auth signature method"},
        {"", rsa_public, "", "auth: invalid auth signature method"},
        {"none", rsa_public, "", "auth: invalid auth signature method"},
        {"RS256", "", "", "auth: missing key data"},
        {"HS256", hmac_secret, "", "auth: missing key data"},
        {"RS256", ec_public, "", "key is not a valid RSA public key for RS256"},
        {"RS256", rsa_public, ec_private, "key is not a valid RSA private key for RS256"},
        {"ES256", rsa_public, "", "key is not a valid ECDSA public key for ES256"},
        {"ES384", ec_public, "", "key is not a valid ECDSA public key for ES384"},
        {"RS256", "rubbish", "", "key is not a valid RSA public key for RS256"},
        {"PS256", rsa_private, "", "key is not a valid RSA public key for PS256"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(make(f, cases[i].method, cases[i].public_key, cases[i].private_key),
                         ST_INVALID);
        assert_string_equal(f->why, cases[i].why);
    }
    assert_int_equal(make(f, "RS256", rsa_public, ""), ST_OK);
    assert_false(jwt_can_sign(f->jwt));
}

static void test_jwt_new_refuses_keys_that_do_not_match(void **state)
{
    struct fixture *f = *state;
    EVP_PKEY *other = EVP_RSA_gen(1024);
    BIO *bio = BIO_new(BIO_s_mem());
    char pem[4096] = "";
    assert_int_equal(PEM_write_bio_PUBKEY(bio, other), 1);
    assert_true(BIO_read(bio, pem, sizeof(pem) - 1) > 0);
    BIO_free(bio);
    EVP_PKEY_free(other);
    assert_int_equal(make(f, "RS256", pem, rsa_private), ST_INVALID);
    assert_string_equal(f->why, "auth: public and private keys don't match");
}

#define JWT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JWT_TEST(test_jwt_verify_reads_what_etcd_made),
        JWT_TEST(test_jwt_sign_makes_what_verify_takes),
        JWT_TEST(test_jwt_verify_refuses_every_changed_letter),
        JWT_TEST(test_jwt_verify_takes_its_own_method_only),
        JWT_TEST(test_jwt_verify_looks_at_the_claims),
        JWT_TEST(test_jwt_verify_refuses_other_texts),
        JWT_TEST(test_jwt_new_says_what_is_wrong),
        JWT_TEST(test_jwt_new_refuses_keys_that_do_not_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
