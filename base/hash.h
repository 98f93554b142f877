/* base/hash.h - checksums. XXH3 for what we write ourselves, CRC-32C where etcd's formats and
 * hashes use it. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct hash128 {
    uint64_t low, high;
};

static inline bool hash128_eq(struct hash128 a, struct hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

uint64_t hash64(struct slice s);
uint64_t hash64_seeded(struct slice s, uint64_t seed);
/* Hash of a followed by b, without joining them. */
uint64_t hash64_pair(struct slice a, struct slice b);
struct hash128 hash128_seeded(struct slice s, uint64_t seed);

/* CRC-32C (Castagnoli) with the usual inversion before and after: crc32c(crc32c(0, a), b) is the
 * crc of ab. */
uint32_t crc32c(uint32_t crc, struct slice s);
/* The same by table: what crc32c() does on a processor without the instruction. */
uint32_t crc32c_portable(uint32_t crc, struct slice s);
#endif
