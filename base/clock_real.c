#include "base/clock_real.h"

#include <stddef.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t monotonic_ns(void *context)
{
    (void)context;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t wall_ns(void *context)
{
    (void)context;
    return read_clock(CLOCK_REALTIME);
}

const struct clock *clock_real(void)
{
    static const struct clock real = {monotonic_ns, wall_ns, NULL};
    return &real;
}
