/* base/base64.h - RFC 4648: bytes as text of 64 letters, with padding (etcd's hashed passwords) or
 * in the alphabet for URLs without any (JSON Web Tokens). */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H
#include "base/slice.h"
#include "base/status.h"

enum base64_kind { BASE64_STANDARD, BASE64_URL };

/* Bytes of text that size bytes become, and at most come from len letters. */
size_t base64_encoded_size(enum base64_kind kind, size_t size);
size_t base64_decoded_size_max(size_t len);

/* out has room for base64_encoded_size(); no NUL is added. */
void base64_encode(enum base64_kind kind, struct slice bytes, uint8_t *out);
/* out has room for base64_decoded_size_max(). Bits that belong to no byte are not looked at, as in
 * Go. Errors: ST_INVALID (another letter, a length or padding that no text has). */
CHECKED enum status base64_decode(enum base64_kind kind, struct slice text, uint8_t *out,
                                  size_t *size_out);
#endif
