/* base/digest.h - cryptographic digests: SHA-1 for etcd's ids, SHA-256 for snapshot files. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H
#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

#define SHA1_BYTES 20
#define SHA256_BYTES 32

/* Errors: ST_NO_MEMORY, ST_UNSUPPORTED (the library's policy forbids the digest). */
CHECKED enum status sha1(struct slice s, uint8_t out[SHA1_BYTES]);
CHECKED enum status sha256(struct slice s, uint8_t out[SHA256_BYTES]);

/* The same for bytes that come in parts. */
struct sha256;
CHECKED enum status sha256_new(struct sha256 **out);
CHECKED enum status sha256_add(struct sha256 *digest, struct slice s);
CHECKED enum status sha256_end(struct sha256 *digest, uint8_t out[SHA256_BYTES]); /* once */
void sha256_free(struct sha256 *digest);                                          /* NULL is fine */
#endif
