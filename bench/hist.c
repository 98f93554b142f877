#include "bench/hist.h"

#include "base/minmax.h"

/* Values below HIST_STEPS have a slot each; above, every power of two has HIST_STEPS of them, twice
 * as wide as those of the one before. */
static uint32_t slot_of(uint64_t ns)
{
    if (ns < HIST_STEPS)
        return (uint32_t)ns;
    uint32_t shift = 63U - (uint32_t)__builtin_clzll(ns) - 6U;
    return (shift + 1) * HIST_STEPS + (uint32_t)((ns >> shift) - HIST_STEPS);
}

static uint64_t slot_top(uint32_t slot)
{
    if (slot < HIST_STEPS)
        return slot;
    uint32_t shift = slot / HIST_STEPS - 1;
    return ((uint64_t)(HIST_STEPS + slot % HIST_STEPS + 1) << shift) - 1;
}

void hist_add(struct hist *hist, uint64_t ns)
{
    hist->slots[slot_of(ns)]++;
    hist->count++;
    hist->sum_ns += ns;
    hist->max_ns = max_u64(hist->max_ns, ns);
}

uint64_t hist_permille(const struct hist *hist, uint32_t permille)
{
    uint64_t wanted = (hist->count * permille + 999) / 1000, seen = 0;
    for (uint32_t slot = 0; slot < HIST_SLOTS && wanted > 0; slot++) {
        seen += hist->slots[slot];
        if (seen >= wanted)
            return min_u64(slot_top(slot), hist->max_ns);
    }
    return 0;
}

uint64_t hist_mean(const struct hist *hist)
{
    return hist->count == 0 ? 0 : hist->sum_ns / hist->count;
}
