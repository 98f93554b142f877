#include "server/rpc/rpc_stats.h"

/* grpc-go's names. */
static const char *const code_names[RPC_CODES_COUNT] = {
    [RPC_OK] = "OK",
    [RPC_CANCELLED] = "Canceled",
    [RPC_UNKNOWN] = "Unknown",
    [RPC_INVALID_ARGUMENT] = "InvalidArgument",
    [RPC_DEADLINE_EXCEEDED] = "DeadlineExceeded",
    [RPC_NOT_FOUND] = "NotFound",
    [RPC_ALREADY_EXISTS] = "AlreadyExists",
    [RPC_PERMISSION_DENIED] = "PermissionDenied",
    [RPC_RESOURCE_EXHAUSTED] = "ResourceExhausted",
    [RPC_FAILED_PRECONDITION] = "FailedPrecondition",
    [RPC_ABORTED] = "Aborted",
    [RPC_OUT_OF_RANGE] = "OutOfRange",
    [RPC_UNIMPLEMENTED] = "Unimplemented",
    [RPC_INTERNAL] = "Internal",
    [RPC_UNAVAILABLE] = "Unavailable",
    [RPC_DATA_LOSS] = "DataLoss",
    [RPC_UNAUTHENTICATED] = "Unauthenticated",
};

static const char *type_name(const struct rpc_method *method)
{
    if (method->client_streams)
        return method->server_streams ? "bidi_stream" : "client_stream";
    return method->server_streams ? "server_stream" : "unary";
}

void rpc_stats_init(struct rpc_method_stats *stats, const struct rpc_method *method,
                    bool shows_times)
{
    char service[128];
    const char *name = strrchr(method->path, '/') + 1;
    snprintf(service, sizeof(service), "%.*s", (int)(name - method->path) - 2, method->path + 1);
    const char *pairs[] = {"grpc_code", "",          "grpc_method",     name, "grpc_service",
                           service,     "grpc_type", type_name(method), NULL};
    stats->started = metrics_child(METRIC_RPC_STARTED, pairs + 2);
    stats->received = metrics_child(METRIC_RPC_RECEIVED, pairs + 2);
    stats->sent = metrics_child(METRIC_RPC_SENT, pairs + 2);
    stats->handling = shows_times ? metrics_histogram_child(METRIC_RPC_HANDLING, pairs + 2)
                                  : (struct metric_child){.slot = 0};
    for (uint32_t code = 0; code < RPC_CODES_COUNT; code++) {
        pairs[1] = code_names[code];
        stats->handled[code] = metrics_child(METRIC_RPC_HANDLED, pairs);
    }
}

void rpc_stats_received(const struct rpc_method_stats *stats, size_t bytes)
{
    metrics_child_add(stats->received, 1);
    metrics_add(METRIC_CLIENT_RECEIVED_BYTES, (int64_t)bytes);
}

void rpc_stats_sent(const struct rpc_method_stats *stats, size_t bytes)
{
    metrics_child_add(stats->sent, 1);
    metrics_add(METRIC_CLIENT_SENT_BYTES, (int64_t)bytes);
}

void rpc_stats_handled(const struct rpc_method_stats *stats, enum rpc_code code,
                       const struct clock *clock, uint64_t began_ns)
{
    metrics_child_add(stats->handled[code], 1);
    if (stats->handling.slot != 0)
        metrics_child_observe(stats->handling, clock_monotonic_ns(clock) - began_ns);
}

/* Called with the mutex held. */
static uint32_t add_version(struct rpc_versions *versions, struct slice version)
{
    uint32_t at = atomic_load(&versions->count);
    char *text = versions->entries[at].version;
    memcpy(text, version.data, version.len);
    versions->entries[at].len = version.len;
    versions->entries[at].unary =
        metrics_child(METRIC_CLIENT_REQUESTS,
                      (const char *const[]){"client_api_version", text, "type", "unary", NULL});
    versions->entries[at].stream =
        metrics_child(METRIC_CLIENT_REQUESTS,
                      (const char *const[]){"client_api_version", text, "type", "stream", NULL});
    atomic_store_explicit(&versions->count, at + 1, memory_order_release);
    return at;
}

void rpc_versions_init(struct rpc_versions *versions)
{
    memset(versions, 0, sizeof(*versions));
    pthread_mutex_init(&versions->mutex, NULL);
}

void rpc_versions_deinit(struct rpc_versions *versions)
{
    pthread_mutex_destroy(&versions->mutex);
}

static uint32_t find_version(const struct rpc_versions *versions, struct slice version)
{
    uint32_t count = atomic_load_explicit(&versions->count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        struct slice known = slice_make(versions->entries[i].version, versions->entries[i].len);
        if (slice_eq(known, version))
            return i;
    }
    return RPC_VERSIONS_MAX;
}

static uint32_t find_or_add_version(struct rpc_versions *versions, struct slice version)
{
    uint32_t at = find_version(versions, version);
    if (at != RPC_VERSIONS_MAX)
        return at;
    pthread_mutex_lock(&versions->mutex);
    at = find_version(versions, version);
    /* The last place is kept for "unknown". */
    if (at == RPC_VERSIONS_MAX && (atomic_load(&versions->count) < RPC_VERSIONS_MAX - 1 ||
                                   slice_eq(version, SLICE("unknown"))))
        at = add_version(versions, version);
    pthread_mutex_unlock(&versions->mutex);
    return at;
}

void rpc_versions_count(struct rpc_versions *versions, const struct rpc_call *call)
{
    struct slice version;
    uint32_t at = RPC_VERSIONS_MAX;
    if (rpc_metadata_get(call, "client-api-version", &version) == ST_OK && version.len > 0 &&
        version.len <= RPC_VERSION_BYTES_MAX)
        at = find_or_add_version(versions, version);
    if (at == RPC_VERSIONS_MAX)
        at = find_or_add_version(versions, SLICE("unknown"));
    bool is_stream = call->method->client_streams || call->method->server_streams;
    metrics_child_add(is_stream ? versions->entries[at].stream : versions->entries[at].unary, 1);
}
