/* tests/sim/watchers.h - clients that watch: through any member, fast or slow, going on at another
 * one where the last ended. What each saw is written down and judged. */
#ifndef TESTS_SIM_WATCHERS_H
#define TESTS_SIM_WATCHERS_H
#include "tests/sim/cluster.h"

#include <stdint.h>

#define WATCHERS_MAX 6U

struct watchers_stat {
    uint64_t events_count, streams_count, progress_count, compacted_count;
};

struct watchers *watchers_new(struct cluster *cluster, uint32_t count, uint32_t keys_count);
void watchers_free(struct watchers *watchers); /* after the cluster */
/* Those whose time has come connect, take a message, ask for progress or leave. */
void watchers_step(struct watchers *watchers);
uint64_t watchers_next_ns(const struct watchers *watchers);
/* Runs the cluster, at rest, until everybody has seen everything; then judges. */
void watchers_judge(struct watchers *watchers);
void watchers_get_stat(const struct watchers *watchers, struct watchers_stat *out);
#endif
