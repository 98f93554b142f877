#include "base/hash.h"

#include "base/bytes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash64(struct slice s)
{
    return XXH3_64bits(s.data, s.len);
}

uint64_t hash64_seeded(struct slice s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.data, s.len, seed);
}

uint64_t hash64_pair(struct slice a, struct slice b)
{
    /* Chained by seed instead of streamed: a streaming state is half a KiB to set up for a 17-byte
     * key. */
    return XXH3_64bits_withSeed(b.data, b.len, XXH3_64bits(a.data, a.len));
}

struct hash128 hash128_seeded(struct slice s, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(s.data, s.len, seed);
    return (struct hash128){h.low64, h.high64};
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t crc, struct slice s)
{
    uint64_t state = ~crc;
    const uint8_t *p = s.data;
    size_t left = s.len;
    for (; left >= 8; p += 8, left -= 8)
        state = _mm_crc32_u64(state, get_le64(p));
    uint32_t tail = (uint32_t)state;
    for (; left > 0; p++, left--)
        tail = _mm_crc32_u8(tail, *p);
    return ~tail;
}

static bool have_hardware(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t crc32c_hardware(uint32_t crc, struct slice s)
{
    (void)s;
    return crc;
}

static bool have_hardware(void)
{
    return false;
}
#endif

/* Four bits at a time: 64 bytes of table. The slow way, for processors without the instruction. */
uint32_t crc32c_portable(uint32_t crc, struct slice s)
{
    static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                        0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t state = ~crc;
    for (size_t i = 0; i < s.len; i++) {
        state ^= s.data[i];
        state = (state >> 4) ^ nibble[state & 15];
        state = (state >> 4) ^ nibble[state & 15];
    }
    return ~state;
}

uint32_t crc32c(uint32_t crc, struct slice s)
{
    return have_hardware() ? crc32c_hardware(crc, s) : crc32c_portable(crc, s);
}
