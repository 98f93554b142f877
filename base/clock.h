/* base/clock.h - seam: time is handed in. The real clock is clock_real.c, the virtual one is
 * the tests'. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H
#include <stdint.h>

#define NS_PER_US 1000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL

struct clock {
    uint64_t (*monotonic_ns)(void *context); /* never goes back; the only one that decisions use */
    uint64_t (*wall_ns)(void *context);      /* since 1970; for people and logs only */
    void *context;
};

static inline uint64_t clock_monotonic_ns(const struct clock *clock)
{
    return clock->monotonic_ns(clock->context);
}

static inline uint64_t clock_wall_ns(const struct clock *clock)
{
    return clock->wall_ns(clock->context);
}
#endif
