#include "server/rpc/grpc_server.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/minmax.h"
#include "server/rpc/grpc_private.h"

#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <limits.h>
#include <unistd.h>

/* gRPC core has one log for the process. */
static struct {
    void (*log)(void *context, const char *text);
    void *context;
} log_sink;

static void log_from_grpc(gpr_log_func_args *args)
{
    if (log_sink.log != NULL && args->severity == GPR_LOG_SEVERITY_ERROR)
        log_sink.log(log_sink.context, args->message);
}

static void take_log(const struct rpc_server_options *options)
{
    log_sink.log = options->log;
    log_sink.context = options->log_context;
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    gpr_set_log_function(log_from_grpc);
}

static int to_int(uint32_t value)
{
    return (int)min_u32(value, INT_MAX);
}

static grpc_arg int_arg(const char *key, int value)
{
    union { /* the interface lacks the const */
        const char *from;
        char *to;
    } name = {.from = key};
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = name.to, .value.integer = value};
}

static grpc_arg quota_arg(grpc_resource_quota *quota)
{
    grpc_arg arg = int_arg(GRPC_ARG_RESOURCE_QUOTA, 0);
    arg.type = GRPC_ARG_POINTER;
    arg.value.pointer.p = quota;
    arg.value.pointer.vtable = grpc_resource_quota_arg_vtable();
    return arg;
}

/* The minimal stack is a fifth cheaper per call. What it leaves out is done here or not wanted: the
 * limit on messages (grpc_message.c), decompression (refused, as etcd does), ages of connections.
 * Deadlines come back with their own argument; keepalive and stream limits are the transport's. */
static grpc_server *create_server(const struct rpc_server_options *options)
{
    int interval_ms =
        options->keepalive_interval_ms == 0 ? INT_MAX : to_int(options->keepalive_interval_ms);
    grpc_resource_quota *quota = grpc_resource_quota_create("client port");
    grpc_resource_quota_resize(quota, options->memory_bytes_max == 0 ? RPC_MEMORY_BYTES_MAX
                                                                     : options->memory_bytes_max);
    grpc_arg args[] = {
        quota_arg(quota),
        int_arg(GRPC_ARG_MINIMAL_STACK, 1),
        int_arg(GRPC_ARG_ENABLE_DEADLINE_CHECKS, 1),
        int_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, to_int(options->streams_max)),
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                to_int(options->keepalive_min_ms)),
        int_arg(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0),
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, interval_ms),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, to_int(options->keepalive_timeout_ms)),
    };
    grpc_channel_args list = {.num_args = sizeof(args) / sizeof(args[0]), .args = args};
    grpc_server *server = grpc_server_create(&list, NULL);
    grpc_resource_quota_unref(quota);
    return server;
}

static enum status register_method(struct rpc_server *server, const struct rpc_service *service,
                                   const struct rpc_method *method)
{
    ASSERT(method->client_streams ? method->on_message != NULL : method->on_call != NULL);
    struct grpc_method *entry = &server->methods[server->methods_count];
    grpc_server_register_method_payload_handling payload =
        method->client_streams ? GRPC_SRM_PAYLOAD_NONE : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER;
    *entry = (struct grpc_method){
        .method = method,
        .service = service->service,
        .registration = grpc_server_register_method(server->handle, method->path, NULL, payload, 0),
        .watches_close =
            method->client_streams || method->server_streams || method->on_cancel != NULL,
    };
    if (entry->registration == NULL)
        return ST_INVALID;
    rpc_stats_init(&entry->stats, method, server->options.shows_times);
    server->methods_count++;
    return ST_OK;
}

static enum status register_services(struct rpc_server *server)
{
    const struct rpc_server_options *options = &server->options;
    size_t total = 0;
    for (uint32_t i = 0; i < options->services_count; i++)
        total += options->services[i].methods_count;
    server->methods = calloc(total + 1, sizeof(*server->methods));
    if (server->methods == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < options->services_count; i++) {
        const struct rpc_service *service = &options->services[i];
        for (uint32_t m = 0; m < service->methods_count; m++) {
            enum status st = register_method(server, service, &service->methods[m]);
            if (st != ST_OK)
                return st;
        }
    }
    return ST_OK;
}

static void server_shut(struct tag *tag, bool ok)
{
    (void)ok;
    struct rpc_server *server = CONTAINER_OF(tag, struct rpc_server, shut);
    pthread_mutex_lock(&server->mutex);
    server->is_shut = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

static void init_mutex(struct rpc_server *server)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&server->mutex, NULL);
}

enum status rpc_server_new(const struct rpc_server_options *options, struct rpc_server **out)
{
    ASSERT(options->pollers_count >= 1 && options->pollers_count <= RPC_POLLERS_MAX);
    ASSERT(options->responders_count <= RPC_RESPONDERS_MAX);
    *out = NULL;
    struct rpc_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return ST_NO_MEMORY;
    server->options = *options;
    server->shut.fire = server_shut;
    init_mutex(server);
    rpc_versions_init(&server->versions);
    grpc_init();
    take_log(options);
    server->credentials = grpc_insecure_server_credentials_create();
    server->handle = create_server(options);
    for (uint32_t i = 0; i < options->pollers_count; i++) {
        struct poller *poller = &server->pollers[i];
        poller->server = server;
        poller->number = i;
        poller->queue = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->handle, poller->queue, NULL);
        grpc_bursts_init(poller);
    }
    enum status st = register_services(server);
    if (st != ST_OK) {
        rpc_server_free(server);
        return st;
    }
    *out = server;
    return ST_OK;
}

enum status rpc_server_start(struct rpc_server *server)
{
    for (uint32_t i = 0; i < server->options.responders_count; i++) {
        enum status st = responder_start(&server->responders[i]);
        if (st != ST_OK)
            return st;
    }
    enum status reaping = reaper_start(&server->reaper);
    if (reaping != ST_OK)
        return reaping;
    for (uint32_t i = 0; i < server->options.pollers_count; i++) {
        enum status st = poller_start(&server->pollers[i]);
        if (st != ST_OK)
            return st;
    }
    grpc_server_start(server->handle);
    pthread_mutex_lock(&server->mutex);
    server->started = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
    return ST_OK;
}

/* A call that comes late from a closed connection may be shown under the name of the one that got
 * its number next; the name is for logs alone. */
static void remember_peer(struct rpc_server *server, int fd, const char *peer)
{
    size_t wanted = (size_t)fd + 1;
    pthread_mutex_lock(&server->mutex);
    if (wanted > server->peers_count) {
        size_t count = max_size(wanted, server->peers_count * 2);
        void *grown = realloc(server->peers, count * sizeof(*server->peers));
        if (grown != NULL) {
            server->peers = grown;
            memset(server->peers + server->peers_count, 0,
                   (count - server->peers_count) * sizeof(*server->peers));
            server->peers_count = count;
        }
    }
    if (wanted <= server->peers_count)
        snprintf(server->peers[fd], RPC_PEER_BYTES, "%s", peer);
    pthread_mutex_unlock(&server->mutex);
}

void rpc_server_add_connection(struct rpc_server *server, int fd, const char *peer)
{
    remember_peer(server, fd, peer);
    grpc_server_add_channel_from_fd(server->handle, fd, server->credentials);
}

/* gRPC reports the end of its connections; a service may still hold a call that lost its own. */
static bool is_over(const struct rpc_server *server)
{
    unsigned live = 0;
    for (uint32_t i = 0; i < server->options.pollers_count; i++)
        live += atomic_load(&server->pollers[i].live);
    return server->is_shut && live == 0;
}

static bool wait_over(struct rpc_server *server, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)timeout_ms * NS_PER_MS;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    pthread_mutex_lock(&server->mutex);
    int error = 0;
    while (!is_over(server) && error == 0)
        error = pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    bool over = is_over(server);
    pthread_mutex_unlock(&server->mutex);
    return over;
}

void rpc_server_send_away(struct rpc_server *server)
{
    if (server->started && !atomic_exchange(&server->shutting, true))
        grpc_server_shutdown_and_notify(server->handle, server->pollers[0].queue, &server->shut);
}

enum status rpc_server_stop(struct rpc_server *server, uint32_t grace_ms, uint32_t cancel_ms)
{
    if (!server->started)
        return ST_OK;
    rpc_server_send_away(server);
    if (wait_over(server, grace_ms))
        return ST_OK;
    grpc_server_cancel_all_calls(server->handle);
    return wait_over(server, cancel_ms) ? ST_OK : ST_BUSY;
}

void rpc_server_free(struct rpc_server *server)
{
    if (server == NULL)
        return;
    ASSERT(!server->started || is_over(server));
    pthread_mutex_lock(&server->mutex);
    server->abandoned = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
    for (uint32_t i = 0; i < server->options.responders_count; i++)
        responder_stop(&server->responders[i]);
    grpc_server_destroy(server->handle);
    for (uint32_t i = 0; i < server->options.pollers_count; i++)
        grpc_completion_queue_shutdown(server->pollers[i].queue);
    for (uint32_t i = 0; i < server->options.pollers_count; i++) {
        poller_join(&server->pollers[i]);
        grpc_completion_queue_destroy(server->pollers[i].queue);
    }
    reaper_stop(&server->reaper);
    grpc_server_credentials_release(server->credentials);
    grpc_shutdown_blocking();
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->changed);
    rpc_versions_deinit(&server->versions);
    free(server->peers);
    free(server->methods);
    free(server);
}
