#include "server/run/front.h"

#include "server/config/config.h"
#include "server/gateway/gateway.h"
#include "server/http/http.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/grpc_server.h"
#include "base/clock_real.h"
#include "server/run/log.h"
#include "server/run/pages.h"
#include "server/services/services.h"

#include <unistd.h>

#define CALL_BYTES_MAX (1ULL << 30) /* memory of one call: a large range's answer */
#define CANCEL_MS 500U

struct front {
    struct member *member;
    struct gateway *gateway;
    struct http_server *http;
    struct pages pages;
    struct rpc_server *rpc;
    struct acceptor *acceptor;
};

static void on_http2(void *context, int fd, const char *peer)
{
    struct front *front = context;
    rpc_server_add_connection(front->rpc, fd, peer);
}

static void on_http1(void *context, int fd, const char *peer, const struct sockaddr *address,
                     socklen_t address_size)
{
    (void)peer;
    struct front *front = context;
    http_server_add_connection(front->http, fd, address, address_size);
}

/* ---- HTTP ---- */

static void log_foreign_host(void *context, const char *host)
{
    (void)context;
    log_warn("rejected HTTP request to prevent DNS rebinding attacks", LOG_STR("host", host));
}

static enum status open_gateway(struct front *front, const struct front_options *options)
{
    struct gateway_options gateway = {
        .clock = clock_real(),
        .poller = front->pages.slot,
        .request_bytes_max = options->request_bytes_max + REQUEST_OVERHEAD_BYTES,
        .shows_times = options->shows_times,
        .ended = services_call_ended,
        .ended_context = member_services(front->member),
    };
    if (!options->gateway)
        return ST_OK;
    gateway.services = services_table(member_services(front->member), &gateway.services_count);
    return gateway_new(&gateway, &front->gateway);
}

static enum status open_http(struct front *front, const struct front_options *options)
{
    enum status st = open_gateway(front, options);
    if (st != ST_OK)
        return st;
    struct http_options http = {.api_version = CONFIG_API_VERSION,
                                .gateway = front->gateway,
                                .keeper_poller = member_keeper_slot(front->member),
                                .origins = options->origins,
                                .hosts = options->hosts,
                                .on_foreign_host = log_foreign_host};
    pages_fill(&front->pages, &http.handlers);
    return http_server_start(&http, &front->http);
}

static void log_grpc(void *context, const char *text)
{
    (void)context;
    log_warn("gRPC transport", LOG_STR("error", text));
}

static enum status open_rpc(struct front *front, const struct front_options *options)
{
    struct rpc_server_options rpc = {
        .pollers_count = options->pollers_count,
        .responders_count = 1,
        .request_bytes_max = options->request_bytes_max + REQUEST_OVERHEAD_BYTES,
        .streams_max = options->streams_max,
        .arena_bytes_max = CALL_BYTES_MAX,
        .keepalive_min_ms = options->keepalive_min_ms,
        .keepalive_interval_ms = options->keepalive_interval_ms,
        .keepalive_timeout_ms = options->keepalive_timeout_ms,
        .shows_times = options->shows_times,
        .ended = services_call_ended,
        .ended_context = member_services(front->member),
        .log = log_grpc,
    };
    rpc.services = services_table(member_services(front->member), &rpc.services_count);
    enum status st = rpc_server_new(&rpc, &front->rpc);
    return st == ST_OK ? rpc_server_start(front->rpc) : st;
}

static enum status listen_on(struct acceptor *acceptor, const struct front_listeners *listeners,
                             enum acceptor_protocol protocol)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; i < listeners->count && st == ST_OK; i++)
        st = acceptor_add(acceptor, listeners->sockets[i], protocol);
    return st;
}

static enum status open_acceptor(struct front *front, const struct front_options *options)
{
    struct acceptor_options acceptor = {
        .context = front, .on_http2 = on_http2, .on_http1 = on_http1};
    bool is_apart = options->http.count > 0;
    enum status st = acceptor_start(&acceptor, &front->acceptor);
    if (st == ST_OK)
        st = listen_on(front->acceptor, &options->clients, is_apart ? ACCEPT_HTTP2 : ACCEPT_BOTH);
    if (st == ST_OK)
        st = listen_on(front->acceptor, &options->http, ACCEPT_HTTP1);
    return st;
}

enum status front_open(const struct front_options *options, struct front **out)
{
    *out = NULL;
    struct front *front = calloc(1, sizeof(*front));
    if (front == NULL)
        return ST_NO_MEMORY;
    front->member = options->member;
    front->pages = (struct pages){options->member, member_http_slot(options->member),
                                  options->request_timeout_ns};
    enum status st = open_rpc(front, options);
    if (st == ST_OK)
        st = open_http(front, options);
    if (st == ST_OK)
        st = open_acceptor(front, options);
    if (st != ST_OK) {
        front_close(front, 0);
        return st;
    }
    *out = front;
    return ST_OK;
}

void front_send_away(struct front *front)
{
    if (front != NULL && front->rpc != NULL)
        rpc_server_send_away(front->rpc);
}

/* False: some call is still with an actor. */
static bool stop_servers(struct front *front, uint32_t grace_ms)
{
    uint64_t began_ns = clock_monotonic_ns(clock_real());
    bool all_ended = http_server_stop(front->http, grace_ms, CANCEL_MS) == ST_OK;
    uint64_t took_ms = (clock_monotonic_ns(clock_real()) - began_ns) / NS_PER_MS;
    grace_ms = took_ms < grace_ms ? grace_ms - (uint32_t)took_ms : 0;
    if (front->rpc != NULL && rpc_server_stop(front->rpc, grace_ms, CANCEL_MS) != ST_OK)
        all_ended = false;
    return all_ended;
}

void front_close(struct front *front, uint32_t grace_ms)
{
    if (front == NULL)
        return;
    acceptor_stop(front->acceptor);
    if (!stop_servers(front, grace_ms)) {
        /* Its memory must stay, and the process is about to end. */
        log_warn("calls were still open at the end; their clients see a broken connection");
        member_leave_services(front->member);
        return;
    }
    http_server_free(front->http);
    gateway_free(front->gateway);
    rpc_server_free(front->rpc);
    free(front);
}
