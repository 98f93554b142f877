/* server/loops/apply_metrics.h - how long entries took to apply, by operation, as etcd counts it.
 */
#ifndef SERVER_LOOPS_APPLY_METRICS_H
#define SERVER_LOOPS_APPLY_METRICS_H
#include "server/metrics/metrics.h"

#include <stdbool.h>
#include <stdint.h>

#define APPLY_OPS_MAX 32U /* kinds of requests in an entry; more are not told apart */

/* Series found so far: looking one up takes a lock, counting does not. The apply actor's. */
struct apply_metrics {
    struct apply_series {
        const char *op; /* compared by address: the state machine's constants */
        bool success;
        struct metric_child child;
    } series[APPLY_OPS_MAX];
    uint32_t count;
    uint64_t slow_ns; /* what takes longer counts as slow; 0: nothing does */
};

/* op NULL: nothing was applied that etcd would count. */
void apply_metrics_add(struct apply_metrics *metrics, const char *op, bool success,
                       uint64_t took_ns);
#endif
