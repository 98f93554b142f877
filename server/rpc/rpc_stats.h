/* server/rpc/rpc_stats.h - the numbers that etcd shows about calls: grpc_server_* by method, and
 * client requests by API version. Any thread. */
#ifndef SERVER_RPC_RPC_STATS_H
#define SERVER_RPC_RPC_STATS_H
#include "base/clock.h"
#include "server/metrics/metrics.h"
#include "server/rpc/rpc.h"

#include <pthread.h>

struct rpc_method_stats {
    struct metric_child started, received, sent, handled[RPC_CODES_COUNT];
    struct metric_child handling; /* slot 0: how long calls take is not shown */
};

/* Makes the method's series, so that they show as 0 before the first call. */
void rpc_stats_init(struct rpc_method_stats *stats, const struct rpc_method *method,
                    bool shows_times);
void rpc_stats_received(const struct rpc_method_stats *stats, size_t bytes);
void rpc_stats_sent(const struct rpc_method_stats *stats, size_t bytes);
/* A call has ended that came to its service at began_ns. The clock is read only to show times. */
void rpc_stats_handled(const struct rpc_method_stats *stats, enum rpc_code code,
                       const struct clock *clock, uint64_t began_ns);

/* Versions come from clients, so only so many get series of their own. */
#define RPC_VERSIONS_MAX 16U
#define RPC_VERSION_BYTES_MAX 16U
struct rpc_versions {
    pthread_mutex_t mutex;  /* guards the making of entries */
    _Atomic uint32_t count; /* release after the entry is complete */
    struct {
        char version[RPC_VERSION_BYTES_MAX + 1];
        size_t len;
        struct metric_child unary, stream;
    } entries[RPC_VERSIONS_MAX];
};
void rpc_versions_init(struct rpc_versions *versions);
void rpc_versions_deinit(struct rpc_versions *versions);
/* Counts a call under the version in its metadata; "unknown" for none and for one too many. */
void rpc_versions_count(struct rpc_versions *versions, const struct rpc_call *call);
#endif
