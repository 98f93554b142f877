/* bench/hist.h - a histogram of durations in fixed memory: 64 steps per power of two, so a
 * percentile is at most 1.6 % above the true one. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H
#include <stdint.h>

#define HIST_STEPS 64U
#define HIST_SLOTS (60U * HIST_STEPS)

struct hist {
    uint64_t slots[HIST_SLOTS];
    uint64_t count, sum_ns, max_ns;
};

void hist_add(struct hist *hist, uint64_t ns);
/* The smallest bound that permille of the durations do not exceed (999 is p99.9); 0 when empty. */
uint64_t hist_permille(const struct hist *hist, uint32_t permille);
uint64_t hist_mean(const struct hist *hist);
#endif
