/* server/run/main.c - the program: settings, log, listeners, member, front; then signals. */
#include "base/minmax.h"
#include "server/config/config.h"
#include "server/rpc/listener.h"
#include "server/run/auth_setup.h"
#include "server/run/front.h"
#include "server/run/gauges.h"
#include "server/run/log.h"
#include "server/run/member.h"
#include "server/run/metrics_port.h"
#include "server/run/notify.h"
#include "server/run/signals.h"
#include "server/state/limits.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define WHY_BYTES 2048
#define POLLERS_MAX 4U
#define READERS_COUNT 4U /* one of them for long reads alone, one for hashes */
#define WATCH_MS 250     /* between two looks at the disk's room */
#define GRACE_MS 1000U   /* for open calls at the end; the whole stop stays under 2 s */

struct listeners {
    int sockets[CONFIG_URLS_MAX];
    uint32_t count;
};

struct program {
    struct config config;
    int signal_fd;
    struct listeners clients, http, metrics, peers;
    struct auth_setup auth;
    struct member *member;
    struct metrics_port *metrics_port;
    struct front *front;
};

/* One socket a URL; open is listener_open() or listener_bind(). */
static bool open_sockets(const struct config_urls *urls, const char *whom,
                         enum status (*open)(const char *host, uint16_t port, int *fd_out,
                                             char *text, size_t text_size),
                         struct listeners *out)
{
    for (uint32_t i = 0; i < urls->count; i++) {
        char why[WHY_BYTES] = "this version serves http URLs only";
        const struct config_url *url = &urls->items[i];
        if (strcmp(url->scheme, "http") != 0 ||
            open(url->host, url->port, &out->sockets[out->count], why, sizeof(why)) != ST_OK) {
            log_fatal("cannot listen", LOG_STR("for", whom), LOG_STR("url", urls->texts[i]),
                      LOG_STR("error", why));
            return false;
        }
        out->count++;
    }
    return true;
}

/* The peer port listens only when there is somebody to answer: members that start together ask
 * each other first, and would wait for each other. */
static bool open_listeners(struct program *p)
{
    const struct config *c = &p->config;
    return open_sockets(&c->listen_peer_urls, "peers", listener_bind, &p->peers) &&
           open_sockets(&c->listen_client_urls, "clients", listener_open, &p->clients) &&
           open_sockets(&c->listen_client_http_urls, "clients", listener_open, &p->http) &&
           open_sockets(&c->listen_metrics_urls, "metrics", listener_open, &p->metrics);
}

/* gRPC core has one epoll set for all its pollers: more than one for two cores costs more CPU than
 * it gains. */
static uint32_t pollers_count(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 4 ? 1 : min_u32((uint32_t)cores / 2, POLLERS_MAX);
}

static enum disk_kind disk_kind_of(const char *name)
{
    if (strcmp(name, "io_uring") == 0)
        return DISK_KIND_URING;
    if (strcmp(name, "pwritev2") == 0)
        return DISK_KIND_PWRITEV2;
    return strcmp(name, "fdatasync") == 0 ? DISK_KIND_FDATASYNC : DISK_KIND_AUTO;
}

/* 0 is etcd's default; a negative quota is none. */
static uint64_t quota_bytes(int64_t flag)
{
    if (flag < 0)
        return UINT64_MAX;
    return flag == 0 ? QUOTA_BYTES_DEFAULT : (uint64_t)flag;
}

static bool open_member(struct program *p)
{
    struct config *c = &p->config;
    char why[WHY_BYTES] = "";
    enum status st = auth_setup_open(&p->auth, c->auth_token, c->auth_token_ttl_s, c->bcrypt_cost,
                                     why, sizeof(why));
    struct member_options options = {
        .data_dir = c->data_dir,
        .wal_dir = c->wal_dir,
        .backend = c->backend,
        .disk = disk_kind_of(c->wal_disk),
        .name = c->name,
        .peer_urls = c->advertise_peer_urls.texts,
        .peer_urls_count = c->advertise_peer_urls.count,
        .client_urls = c->advertise_client_urls.texts,
        .client_urls_count = c->advertise_client_urls.count,
        .peer_listeners = p->peers.sockets,
        .peer_listeners_count = p->peers.count,
        .initial_cluster = c->initial_cluster,
        .cluster_token = c->initial_cluster_token,
        .initial_cluster_exists = strcmp(c->initial_cluster_state, "existing") == 0,
        .force_new_cluster = c->force_new_cluster,
        .check_corruption_first = c->initial_corrupt_check,
        .check_corruption_every_ns = (uint64_t)max_i64(c->corrupt_check_time_ns, 0),
        .check_compactions_every_ns =
            c->compact_hash_check ? (uint64_t)c->compact_hash_check_time_ns : 0,
        .watch_progress_every_ns = (uint64_t)max_i64(c->watch_progress_ns, 0),
        .pre_vote = c->pre_vote,
        .strict_reconfig = c->strict_reconfig_check,
        .lease_checkpoint = c->lease_checkpoint,
        .lease_checkpoint_persist = c->lease_checkpoint_persist,
        .request_bytes_max = min_u64(c->max_request_bytes, UINT32_MAX / 2),
        .txn_ops_max = (uint32_t)min_u64(c->max_txn_ops, UINT32_MAX),
        .quota_bytes = quota_bytes(c->quota_backend_bytes),
        .quota_warn_percent = (uint32_t)c->quota_warning_percent,
        .quota_clear_percent = (uint32_t)c->quota_alarm_clear_percent,
        .warning_apply_ns = (uint64_t)max_i64(c->warning_apply_ns, 0),
        .compact_by_revision = strcmp(c->auto_compaction_mode, "revision") == 0,
        .compact_retention = c->auto_compaction_retention,
        .heartbeat_ms = (uint32_t)c->heartbeat_ms,
        .election_ms = (uint32_t)c->election_ms,
        .pollers_count = pollers_count(),
        .readers_count = READERS_COUNT,
        .waves = true,
        .auth = p->auth.auth,
    };
    if (st == ST_OK)
        st = member_open(&options, &p->member, why, sizeof(why));
    p->peers.count = 0; /* taken, whatever happened */
    if (st != ST_OK)
        log_fatal("cannot start the member", LOG_STR("data-dir", c->data_dir),
                  LOG_STR("error", why[0] != '\0' ? why : status_str(st)));
    return st == ST_OK;
}

static uint32_t ms_of(int64_t ns)
{
    return (uint32_t)min_u64((uint64_t)max_i64(ns, 0) / NS_PER_MS, INT32_MAX);
}

/* etcd's. */
static uint64_t request_timeout_ns(const struct config *c)
{
    return 5 * NS_PER_S + 2 * c->election_ms * NS_PER_MS;
}

static bool open_metrics(struct program *p)
{
    const struct config *c = &p->config;
    gauges_open(p->member, quota_bytes(c->quota_backend_bytes));
    if (p->metrics.count == 0)
        return true;
    enum status st = metrics_port_open(p->member, p->metrics.sockets, p->metrics.count,
                                       request_timeout_ns(c), &p->metrics_port);
    p->metrics.count = 0; /* taken, whatever happened */
    if (st != ST_OK)
        log_fatal("cannot serve metrics", LOG_STATUS(st));
    for (uint32_t i = 0; st == ST_OK && i < c->listen_metrics_urls.count; i++)
        log_info("serving metrics", LOG_STR("address", c->listen_metrics_urls.texts[i]));
    return st == ST_OK;
}

static bool open_front(struct program *p)
{
    const struct config *c = &p->config;
    struct front_options options = {
        .member = p->member,
        .clients = {p->clients.sockets, p->clients.count},
        .http = {p->http.sockets, p->http.count},
        .gateway = c->enable_gateway,
        .origins = c->cors,
        .hosts = c->host_whitelist,
        .pollers_count = pollers_count(),
        .request_bytes_max = (uint32_t)min_u64(c->max_request_bytes, UINT32_MAX / 2),
        .streams_max = (uint32_t)min_u64(c->max_concurrent_streams, INT32_MAX),
        .request_timeout_ns = request_timeout_ns(c),
        .keepalive_min_ms = ms_of(c->grpc_keepalive_min_ns),
        .keepalive_interval_ms = ms_of(c->grpc_keepalive_interval_ns),
        .keepalive_timeout_ms = ms_of(c->grpc_keepalive_timeout_ns),
        .shows_times = strcmp(c->metrics, "extensive") == 0,
    };
    enum status st = front_open(&options, &p->front);
    p->clients.count = p->http.count = 0; /* taken, whatever happened */
    if (st != ST_OK)
        log_fatal("cannot serve clients", LOG_STATUS(st));
    return st == ST_OK;
}

/* Until a signal comes, or the member is no longer in the cluster. */
static void wait_for_end(struct program *p)
{
    struct pollfd fd = {.fd = p->signal_fd, .events = POLLIN};
    while (poll(&fd, 1, WATCH_MS) == 0) {
        if (!member_watch(p->member)) {
            log_warn("server error",
                     LOG_STR("error", "the member has been permanently removed from the cluster"));
            log_warn("data-dir used by this member must be removed",
                     LOG_STR("data-dir", p->config.data_dir));
            return;
        }
    }
    signals_take(p->signal_fd);
}

static bool start(struct program *p)
{
    struct signals_watch watch;
    enum status st = signals_watch_start(&watch, p->signal_fd);
    if (st != ST_OK) {
        log_fatal("cannot watch for signals", LOG_STATUS(st));
        return false;
    }
    bool opened = open_member(p) && open_metrics(p);
    if (opened)
        member_wait_ready(p->member);
    signals_watch_stop(&watch);
    return opened;
}

static void log_serving(const struct config_urls *urls, const char *traffic)
{
    for (uint32_t i = 0; i < urls->count; i++)
        log_info("serving client traffic insecurely; this is strongly discouraged!",
                 LOG_STR("traffic", traffic), LOG_STR("address", urls->texts[i]));
}

/* The exit code. */
static int serve(struct program *p)
{
    const struct config *c = &p->config;
    bool is_http_apart = c->listen_client_http_urls.count > 0;
    if (!open_front(p))
        return 1;
    log_info("ready to serve client requests");
    log_serving(&c->listen_client_urls, is_http_apart ? "grpc" : "grpc+http");
    log_serving(&c->listen_client_http_urls, "http");
    notify_ready();
    wait_for_end(p);
    return 0;
}

static void close_all(struct listeners *listeners)
{
    for (uint32_t i = 0; i < listeners->count; i++)
        close(listeners->sockets[i]);
}

static void stop(struct program *p)
{
    log_info("closing cleat server", LOG_STR("name", p->config.name),
             LOG_STR("data-dir", p->config.data_dir));
    if (p->member != NULL) {
        member_hand_over(p->member);
        loops_stop_requests(member_loops(p->member));
        front_send_away(p->front);
        member_end_watches(p->member);
    }
    front_close(p->front, GRACE_MS);
    metrics_port_close(p->metrics_port);
    gauges_close();
    member_close(p->member);
    auth_setup_close(&p->auth);
    close_all(&p->clients);
    close_all(&p->http);
    close_all(&p->metrics);
    close_all(&p->peers);
}

static int run(struct program *p)
{
    signal(SIGPIPE, SIG_IGN);
    p->signal_fd = signals_open();
    if (p->signal_fd < 0 || !open_listeners(p) || !start(p)) {
        stop(p);
        return 1;
    }
    int code = serve(p);
    stop(p);
    log_info("closed cleat server", LOG_STR("data-dir", p->config.data_dir));
    return code;
}

int main(int argc, char **argv)
{
    struct program program = {.signal_fd = -1};
    struct config *config = &program.config;
    config_init(config);
    enum status st =
        config_load(config, argc, (const char *const *)argv, (const char *const *)environ);
    if (st == ST_OK) {
        const char *failed = NULL;
        if (log_open(config->log_level, config->log_outputs.items, config->log_outputs.count,
                     &failed) != ST_OK) {
            fprintf(stderr, "cannot open log output '%s': %s\n", failed, strerror(errno));
            config_free(config);
            return 1;
        }
    }
    config_report(config);
    int code = st == ST_OK ? run(&program) : config->exit_code;
    config_free(config);
    log_close();
    return code;
}
