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
