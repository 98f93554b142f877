/* base/bytes.h - integers to and from bytes. Bytes are never cast to structs: these are the only
 * way. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H
#include "base/slice.h"
#include "base/status.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_DEFINE(bits, order, from, to)                            \
    static inline uint##bits##_t get_##order##bits(const uint8_t *p)   \
    {                                                                  \
        uint##bits##_t v;                                              \
        memcpy(&v, p, sizeof(v));                                      \
        return from(v);                                                \
    }                                                                  \
    static inline void put_##order##bits(uint8_t *p, uint##bits##_t v) \
    {                                                                  \
        v = to(v);                                                     \
        memcpy(p, &v, sizeof(v));                                      \
    }
BYTES_DEFINE(16, le, le16toh, htole16)
BYTES_DEFINE(32, le, le32toh, htole32)
BYTES_DEFINE(64, le, le64toh, htole64)
BYTES_DEFINE(32, be, be32toh, htobe32)
BYTES_DEFINE(64, be, be64toh, htobe64)
#undef BYTES_DEFINE

#define VARINT_BYTES_MAX 10U

/* Protobuf varints. put_varint writes at most VARINT_BYTES_MAX bytes and returns how many. */
size_t varint_size(uint64_t value);
size_t put_varint(uint8_t *p, uint64_t value);
/* Takes one varint off the front of *in. Errors: ST_TRUNCATED, ST_INVALID (over 64 bits); *in is
 * then unchanged. */
CHECKED enum status take_varint(struct slice *in, uint64_t *out);
#endif
