#include "server/services/auth_jwt.h"

#include "base/base64.h"
#include "base/buf.h"
#include "base/clock.h"
#include "server/state/json_reader.h"
#include "server/state/json_writer.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum family { FAMILY_HMAC, FAMILY_RSA, FAMILY_PSS, FAMILY_ECDSA };

struct method {
    const char *name;
    enum family family;
    uint32_t bits;       /* of the digest */
    uint32_t field_bits; /* ECDSA: of the curve */
};

static const struct method methods[] = {
    {"HS256", FAMILY_HMAC, 256, 0},    {"HS384", FAMILY_HMAC, 384, 0},
    {"HS512", FAMILY_HMAC, 512, 0},    {"RS256", FAMILY_RSA, 256, 0},
    {"RS384", FAMILY_RSA, 384, 0},     {"RS512", FAMILY_RSA, 512, 0},
    {"PS256", FAMILY_PSS, 256, 0},     {"PS384", FAMILY_PSS, 384, 0},
    {"PS512", FAMILY_PSS, 512, 0},     {"ES256", FAMILY_ECDSA, 256, 256},
    {"ES384", FAMILY_ECDSA, 384, 384}, {"ES512", FAMILY_ECDSA, 512, 521},
};

struct jwt {
    const struct method *method;
    EVP_PKEY *key; /* not for HMAC */
    uint8_t *secret;
    size_t secret_bytes;
    bool can_sign;
    int64_t ttl_ns;
};

static const EVP_MD *digest_of(const struct jwt *jwt)
{
    switch (jwt->method->bits) {
    case 256:
        return EVP_sha256();
    case 384:
        return EVP_sha384();
    default:
        return EVP_sha512();
    }
}

/* ---- keys ---- */

static enum status refuse(char *why, size_t why_bytes, const char *text)
{
    snprintf(why, why_bytes, "%s", text);
    return ST_INVALID;
}

/* A key that is locked by a passphrase is not asked for one on the terminal. */
static int no_passphrase(char *out, int size, int writing, void *context)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)context;
    return 0;
}

static EVP_PKEY *read_private(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    return key;
}

static EVP_PKEY *read_certified(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    EVP_PKEY *key = certificate == NULL ? NULL : X509_get_pubkey(certificate);
    X509_free(certificate);
    BIO_free(bio);
    return key;
}

static EVP_PKEY *read_public(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    return key != NULL ? key : read_certified(pem);
}

static bool fits_method(const struct method *method, const EVP_PKEY *key)
{
    if (method->family != FAMILY_ECDSA)
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           (uint32_t)EVP_PKEY_get_bits(key) == method->field_bits;
}

static enum status check_key(const struct jwt *jwt, const EVP_PKEY *key, bool is_public, char *why,
                             size_t why_bytes)
{
    if (key != NULL && fits_method(jwt->method, key))
        return ST_OK;
    const char *kind = jwt->method->family == FAMILY_ECDSA ? "ECDSA" : "RSA";
    snprintf(why, why_bytes, "key is not a valid %s %s key for %s", kind,
             is_public ? "public" : "private", jwt->method->name);
    return ST_INVALID;
}

static enum status take_keys(struct jwt *jwt, const struct jwt_options *options, char *why,
                             size_t why_bytes)
{
    EVP_PKEY *public_key = NULL;
    enum status st = ST_OK;
    if (options->private_key.len > 0) {
        jwt->key = read_private(options->private_key);
        jwt->can_sign = true;
        st = check_key(jwt, jwt->key, /* is_public= */ false, why, why_bytes);
    }
    if (st == ST_OK && options->public_key.len > 0) {
        public_key = read_public(options->public_key);
        st = check_key(jwt, public_key, /* is_public= */ true, why, why_bytes);
    }
    if (st == ST_OK && jwt->key == NULL && public_key == NULL)
        st = refuse(why, why_bytes, "auth: missing key data");
    if (st == ST_OK && jwt->key != NULL && public_key != NULL &&
        EVP_PKEY_eq(jwt->key, public_key) != 1)
        st = refuse(why, why_bytes, "auth: public and private keys don't match");
    if (st == ST_OK && jwt->key == NULL)
        jwt->key = public_key;
    else
        EVP_PKEY_free(public_key);
    return st;
}

static enum status take_secret(struct jwt *jwt, const struct jwt_options *options, char *why,
                               size_t why_bytes)
{
    if (options->private_key.len == 0)
        return refuse(why, why_bytes, "auth: missing key data");
    jwt->secret = malloc(options->private_key.len);
    if (jwt->secret == NULL)
        return ST_NO_MEMORY;
    memcpy(jwt->secret, options->private_key.data, options->private_key.len);
    jwt->secret_bytes = options->private_key.len;
    jwt->can_sign = true;
    return ST_OK;
}

static const struct method *find_method(const char *name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    }
    return NULL;
}

enum status jwt_new(const struct jwt_options *options, char *why, size_t why_bytes,
                    struct jwt **out)
{
    *out = NULL;
    const struct method *method = find_method(options->method);
    if (method == NULL)
        return refuse(why, why_bytes, "auth: invalid auth signature method");
    if (options->private_key.len > INT32_MAX || options->public_key.len > INT32_MAX)
        return refuse(why, why_bytes, "auth: the key is too long");
    struct jwt *jwt = calloc(1, sizeof(*jwt));
    if (jwt == NULL)
        return ST_NO_MEMORY;
    jwt->method = method;
    jwt->ttl_ns = options->ttl_ns;
    enum status st = method->family == FAMILY_HMAC ? take_secret(jwt, options, why, why_bytes)
                                                   : take_keys(jwt, options, why, why_bytes);
    if (st != ST_OK) {
        jwt_free(jwt);
        return st;
    }
    *out = jwt;
    return ST_OK;
}

void jwt_free(struct jwt *jwt)
{
    if (jwt == NULL)
        return;
    EVP_PKEY_free(jwt->key);
    if (jwt->secret != NULL)
        OPENSSL_cleanse(jwt->secret, jwt->secret_bytes);
    free(jwt->secret);
    free(jwt);
}

bool jwt_can_sign(const struct jwt *jwt)
{
    return jwt->can_sign;
}

/* ---- signatures ---- */

static size_t field_bytes(const struct jwt *jwt)
{
    return (jwt->method->field_bits + 7) / 8;
}

static bool hmac(const struct jwt *jwt, struct slice text, uint8_t out[EVP_MAX_MD_SIZE],
                 unsigned *size_out)
{
    return HMAC(digest_of(jwt), jwt->secret, (int)jwt->secret_bytes, text.data, text.len, out,
                size_out) != NULL;
}

/* The salt is as long as the digest when we sign, and any length is read: as in Go. */
static bool set_padding(const struct jwt *jwt, EVP_PKEY_CTX *context, int salt_bytes)
{
    if (jwt->method->family != FAMILY_PSS)
        return true;
    return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(context, salt_bytes) > 0;
}

/* ECDSA's two numbers, one after the other, where the library has them as ASN.1. */
static enum status plain_of_der(const struct jwt *jwt, struct arena *arena, struct slice *signature)
{
    const unsigned char *at = signature->data;
    ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &at, (long)signature->len);
    size_t each = field_bytes(jwt);
    uint8_t *out = arena_alloc(arena, 2 * each);
    bool fine = numbers != NULL && out != NULL &&
                BN_bn2binpad(ECDSA_SIG_get0_r(numbers), out, (int)each) == (int)each &&
                BN_bn2binpad(ECDSA_SIG_get0_s(numbers), out + each, (int)each) == (int)each;
    ECDSA_SIG_free(numbers);
    *signature = slice_make(out, 2 * each);
    return fine ? ST_OK : ST_INVALID;
}

/* NULL: it is not two such numbers. Ended with OPENSSL_free(). */
static uint8_t *der_of_plain(const struct jwt *jwt, struct slice signature, size_t *size_out)
{
    size_t each = field_bytes(jwt);
    if (signature.len != 2 * each)
        return NULL;
    ECDSA_SIG *numbers = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature.data, (int)each, NULL);
    BIGNUM *s = BN_bin2bn(signature.data + each, (int)each, NULL);
    uint8_t *der = NULL;
    if (numbers == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(numbers, r, s) != 1) {
        BN_free(r);
        BN_free(s);
    } else {
        int size = i2d_ECDSA_SIG(numbers, &der);
        *size_out = size > 0 ? (size_t)size : 0;
    }
    ECDSA_SIG_free(numbers);
    return der;
}

static enum status sign_with_key(const struct jwt *jwt, struct slice text, struct arena *arena,
                                 struct slice *out)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_context;
    size_t size = 0;
    uint8_t *signature = NULL;
    bool fine = context != NULL &&
                EVP_DigestSignInit(context, &key_context, digest_of(jwt), NULL, jwt->key) == 1 &&
                set_padding(jwt, key_context, RSA_PSS_SALTLEN_DIGEST) &&
                EVP_DigestSign(context, NULL, &size, text.data, text.len) == 1;
    if (fine)
        signature = arena_alloc(arena, size);
    fine = signature != NULL && EVP_DigestSign(context, signature, &size, text.data, text.len) == 1;
    EVP_MD_CTX_free(context);
    *out = slice_make(signature, size);
    if (!fine)
        return ST_INVALID;
    return jwt->method->family == FAMILY_ECDSA ? plain_of_der(jwt, arena, out) : ST_OK;
}

static enum status sign(const struct jwt *jwt, struct slice text, struct arena *arena,
                        struct slice *out)
{
    if (jwt->method->family != FAMILY_HMAC)
        return sign_with_key(jwt, text, arena, out);
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!hmac(jwt, text, bytes, &size))
        return ST_INVALID;
    return arena_copy(arena, slice_make(bytes, size), out);
}

static bool verify_with_key(const struct jwt *jwt, struct slice text, struct slice signature)
{
    uint8_t *der = NULL;
    if (jwt->method->family == FAMILY_ECDSA) {
        der = der_of_plain(jwt, signature, &signature.len);
        signature.data = der;
        if (der == NULL)
            return false;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_context;
    bool fine = context != NULL &&
                EVP_DigestVerifyInit(context, &key_context, digest_of(jwt), NULL, jwt->key) == 1 &&
                set_padding(jwt, key_context, RSA_PSS_SALTLEN_AUTO) &&
                EVP_DigestVerify(context, signature.data, signature.len, text.data, text.len) == 1;
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    return fine;
}

static bool verify(const struct jwt *jwt, struct slice text, struct slice signature)
{
    if (jwt->method->family != FAMILY_HMAC)
        return verify_with_key(jwt, text, signature);
    uint8_t bytes[EVP_MAX_MD_SIZE];
    unsigned size;
    return hmac(jwt, text, bytes, &size) && signature.len == size &&
           CRYPTO_memcmp(bytes, signature.data, size) == 0;
}

/* ---- making one ---- */

static enum status put_part(struct buf *token, struct slice bytes)
{
    uint8_t *room;
    enum status st = buf_extend(token, base64_encoded_size(BASE64_URL, bytes.len), &room);
    if (st == ST_OK)
        base64_encode(BASE64_URL, bytes, room);
    return st;
}

static enum status put_claims(const struct jwt *jwt, struct slice user, uint64_t revision,
                              int64_t now_s, struct buf *out)
{
    int64_t expires_s = now_s + jwt->ttl_ns / (int64_t)NS_PER_S;
    enum status st = buf_printf(
        out, "{\"exp\":%" PRId64 ",\"revision\":%" PRIu64 ",\"username\":", expires_s, revision);
    if (st == ST_OK)
        st = json_put_string(out, user);
    return st == ST_OK ? buf_append(out, SLICE("}")) : st;
}

static enum status put_token(const struct jwt *jwt, struct slice claims, struct arena *arena,
                             struct buf *token)
{
    char head[64];
    int len = snprintf(head, sizeof(head), "{\"alg\":\"%s\",\"typ\":\"JWT\"}", jwt->method->name);
    struct slice signature;
    enum status st = put_part(token, slice_make(head, (size_t)len));
    if (st == ST_OK)
        st = buf_append(token, SLICE("."));
    if (st == ST_OK)
        st = put_part(token, claims);
    if (st == ST_OK)
        st = sign(jwt, buf_slice(token), arena, &signature);
    if (st == ST_OK)
        st = buf_append(token, SLICE("."));
    return st == ST_OK ? put_part(token, signature) : st;
}

enum status jwt_sign(const struct jwt *jwt, struct slice user, uint64_t revision, int64_t now_s,
                     struct arena *arena, struct slice *token_out)
{
    if (!jwt->can_sign)
        return ST_INVALID;
    struct buf claims, token;
    buf_init(&claims, JWT_BYTES_MAX);
    buf_init(&token, JWT_BYTES_MAX);
    enum status st = put_claims(jwt, user, revision, now_s, &claims);
    if (st == ST_OK)
        st = put_token(jwt, buf_slice(&claims), arena, &token);
    if (st == ST_OK)
        st = arena_copy(arena, buf_slice(&token), token_out);
    buf_deinit(&claims);
    buf_deinit(&token);
    return st;
}

/* ---- reading one ---- */

struct header {
    struct slice method;
};

static enum status read_header_field(void *context, struct json_reader *r, struct slice key)
{
    struct header *header = context;
    if (slice_eq(key, SLICE("alg")))
        return json_read_string(r, &header->method);
    return json_skip(r);
}

struct claims {
    struct slice user;
    int64_t revision, expires_s, not_before_s, issued_s;
    bool has_user, has_revision, has_expiry;
};

static enum status read_claim(void *context, struct json_reader *r, struct slice key)
{
    struct claims *claims = context;
    if (slice_eq(key, SLICE("username"))) {
        claims->has_user = true;
        return json_read_string(r, &claims->user);
    }
    if (slice_eq(key, SLICE("revision"))) {
        claims->has_revision = true;
        return json_read_i64(r, &claims->revision);
    }
    if (slice_eq(key, SLICE("exp"))) {
        claims->has_expiry = true;
        return json_read_i64(r, &claims->expires_s);
    }
    if (slice_eq(key, SLICE("nbf")))
        return json_read_i64(r, &claims->not_before_s);
    if (slice_eq(key, SLICE("iat")))
        return json_read_i64(r, &claims->issued_s);
    return json_skip(r);
}

static enum status decode_part(struct slice part, struct arena *arena, struct slice *out)
{
    uint8_t *bytes = arena_alloc_raw(arena, base64_decoded_size_max(part.len));
    if (bytes == NULL)
        return ST_TOO_BIG;
    out->data = bytes;
    return base64_decode(BASE64_URL, part, bytes, &out->len);
}

static enum status read_json(struct slice part, struct arena *arena, json_field_fn field,
                             void *context)
{
    struct slice json;
    enum status st = decode_part(part, arena, &json);
    if (st != ST_OK)
        return st;
    struct json_reader r = json_reader_of(json, arena);
    st = json_read_object(&r, field, context);
    return st == ST_OK && !json_is_at_end(&r) ? ST_INVALID : st;
}

/* Takes what comes before the first dot off the front. */
static bool take_part(struct slice *rest, struct slice *part)
{
    const uint8_t *dot = rest->len == 0 ? NULL : memchr(rest->data, '.', rest->len);
    if (dot == NULL)
        return false;
    *part = slice_make(rest->data, (size_t)(dot - rest->data));
    *rest = slice_make(dot + 1, rest->len - part->len - 1);
    return true;
}

static bool are_valid(const struct claims *claims, int64_t now_s)
{
    return claims->has_user && claims->has_revision && claims->revision >= 0 &&
           (!claims->has_expiry || now_s < claims->expires_s) && claims->not_before_s <= now_s &&
           claims->issued_s <= now_s;
}

/* Nothing of the claims is looked at before the signature is verified. */
enum status jwt_verify(const struct jwt *jwt, struct slice token, int64_t now_s,
                       struct arena *arena, struct slice *user_out, uint64_t *revision_out)
{
    struct slice rest = token, head, body, signature;
    struct header header = {0};
    struct claims claims = {0};
    if (token.len > JWT_BYTES_MAX || !take_part(&rest, &head) || !take_part(&rest, &body))
        return ST_INVALID;
    enum status st = read_json(head, arena, read_header_field, &header);
    if (st == ST_OK && !slice_eq(header.method, slice_from_str(jwt->method->name)))
        st = ST_INVALID;
    if (st == ST_OK)
        st = decode_part(rest, arena, &signature);
    struct slice text = slice_make(token.data, head.len + 1 + body.len);
    if (st == ST_OK && !verify(jwt, text, signature))
        st = ST_INVALID;
    if (st == ST_OK)
        st = read_json(body, arena, read_claim, &claims);
    if (st == ST_OK && !are_valid(&claims, now_s))
        st = ST_INVALID;
    if (st != ST_OK)
        return st;
    *user_out = claims.user;
    *revision_out = (uint64_t)claims.revision;
    return ST_OK;
}
