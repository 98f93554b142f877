/* base/rng.h - seam: randomness is handed in. xoshiro256** (Blackman, Vigna 2018), seeded by
 * splitmix64; not for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include "base/status.h"

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed); /* the same numbers for the same seed, for ever */
CHECKED enum status rng_seed_from_system(struct rng *rng); /* getrandom(2); ST_IO */
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound); /* uniform in [0, bound), bound > 0 */
#endif
