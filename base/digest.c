#include "base/digest.h"

#include <openssl/evp.h>

static enum status digest(const EVP_MD *algorithm, struct slice s, uint8_t *out)
{
    return EVP_Digest(s.data, s.len, out, NULL, algorithm, NULL) == 1 ? ST_OK : ST_UNSUPPORTED;
}

enum status sha1(struct slice s, uint8_t out[SHA1_BYTES])
{
    return digest(EVP_sha1(), s, out);
}

enum status sha256(struct slice s, uint8_t out[SHA256_BYTES])
{
    return digest(EVP_sha256(), s, out);
}

/* ---- in parts ---- */

struct sha256 {
    EVP_MD_CTX *context; /* owned */
};

enum status sha256_new(struct sha256 **out)
{
    *out = NULL;
    struct sha256 *digest = calloc(1, sizeof(*digest));
    if (digest == NULL)
        return ST_NO_MEMORY;
    digest->context = EVP_MD_CTX_new();
    if (digest->context == NULL) {
        sha256_free(digest);
        return ST_NO_MEMORY;
    }
    if (EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        sha256_free(digest);
        return ST_UNSUPPORTED;
    }
    *out = digest;
    return ST_OK;
}

enum status sha256_add(struct sha256 *digest, struct slice s)
{
    return EVP_DigestUpdate(digest->context, s.data, s.len) == 1 ? ST_OK : ST_UNSUPPORTED;
}

enum status sha256_end(struct sha256 *digest, uint8_t out[SHA256_BYTES])
{
    return EVP_DigestFinal_ex(digest->context, out, NULL) == 1 ? ST_OK : ST_UNSUPPORTED;
}

void sha256_free(struct sha256 *digest)
{
    if (digest == NULL)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}
