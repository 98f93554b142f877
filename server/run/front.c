#include "server/run/front.h"

#include "server/config/config.h"
#include "server/http/http.h"
#include "server/loops/loops.h"
#include "server/rpc/acceptor.h"
#include "server/rpc/grpc_server.h"
#include "server/run/clock.h"
#include "server/run/log.h"
#include "server/run/gauges.h"
#include "server/services/services.h"
#include "server/state/machine.h"

#include <unistd.h>

#define CALL_BYTES_MAX (1ULL << 30) /* memory of one call: a large range's answer */
#define CANCEL_MS 500U

struct front {
    struct member *member;
    struct http_server *http;
    struct rpc_server *rpc;
    struct acceptor *acceptor;
    uint64_t request_timeout_ns;
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

/* ---- what the HTTP endpoints ask ---- */

static uint32_t active_alarms(void *context)
{
    struct front *front = context;
    struct machine *machine = member_machine(front->member);
    uint32_t alarms = 0;
    if (machine_has_alarm(machine, ALARM_NOSPACE))
        alarms |= HTTP_ALARM_NOSPACE;
    if (machine_has_alarm(machine, ALARM_CORRUPT))
        alarms |= HTTP_ALARM_CORRUPT;
    return alarms;
}

static bool is_quarantined(void *context)
{
    struct front *front = context;
    struct loops_status status;
    loops_get_status(member_loops(front->member), &status);
    return status.is_quarantined;
}

static bool has_leader(void *context)
{
    struct front *front = context;
    struct loops_status status;
    loops_get_status(member_loops(front->member), &status);
    return status.leader != 0;
}

static enum status ignore_record(void *context, struct slice record)
{
    (void)context;
    (void)record;
    return ST_OK;
}

static const char *serializable_read(void *context)
{
    struct front *front = context;
    struct mvcc_query query = {.range = {.key = SLICE("health")}};
    struct mvcc_result result;
    enum status st = mvcc_read(member_mvcc(front->member), member_http_slot(front->member), &query,
                               ignore_record, NULL, &result);
    return st == ST_OK ? NULL : status_str(st);
}

/* A linearizable read on behalf of /readyz; lives from the question to its answer. */
struct readiness {
    struct read_request read;
    struct http_check *check;
};

static void readiness_answer(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct readiness *readiness = CONTAINER_OF(read, struct readiness, read);
    http_check_done(readiness->check, error == API_OK ? NULL : api_error_text(error));
    free(readiness);
}

static void linearizable_read(void *context, struct http_check *check)
{
    struct front *front = context;
    struct readiness *readiness = calloc(1, sizeof(*readiness));
    if (readiness == NULL) {
        http_check_done(check, status_str(ST_NO_MEMORY));
        return;
    }
    readiness->check = check;
    readiness->read.request.deadline_ns =
        clock_monotonic_ns(clock_real()) + front->request_timeout_ns;
    readiness->read.ready = readiness_answer;
    loops_read(member_loops(front->member), &readiness->read);
}

static bool cluster_version(void *context, char *out, size_t size)
{
    struct front *front = context;
    char version[VERSION_TEXT_BYTES];
    machine_cluster_version(member_machine(front->member), version);
    snprintf(out, size, "%s", version);
    return version[0] != '\0';
}

static enum status open_http(struct front *front)
{
    struct http_options http = {.handlers = {.context = front,
                                             .alarms = active_alarms,
                                             .is_quarantined = is_quarantined,
                                             .has_leader = has_leader,
                                             .serializable_read = serializable_read,
                                             .linearizable_read = linearizable_read,
                                             .cluster_version = cluster_version},
                                .api_version = CONFIG_API_VERSION};
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
        .log = log_grpc,
    };
    rpc.services = services_table(member_services(front->member), &rpc.services_count);
    enum status st = rpc_server_new(&rpc, &front->rpc);
    return st == ST_OK ? rpc_server_start(front->rpc) : st;
}

static enum status open_acceptor(struct front *front, const struct front_options *options)
{
    struct acceptor_options acceptor = {
        .context = front, .on_http2 = on_http2, .on_http1 = on_http1};
    enum status st = acceptor_start(&acceptor, &front->acceptor);
    for (uint32_t i = 0; i < options->listeners_count && st == ST_OK; i++)
        st = acceptor_add(front->acceptor, options->listeners[i], /* http1_only= */ false);
    return st;
}

enum status front_open(const struct front_options *options, struct front **out)
{
    *out = NULL;
    struct front *front = calloc(1, sizeof(*front));
    if (front == NULL)
        return ST_NO_MEMORY;
    front->member = options->member;
    front->request_timeout_ns = 5 * NS_PER_S + 2 * options->election_ms * NS_PER_MS;
    gauges_open(options->member, options->quota_bytes);
    enum status st = open_rpc(front, options);
    if (st == ST_OK)
        st = open_http(front);
    if (st == ST_OK)
        st = open_acceptor(front, options);
    if (st != ST_OK) {
        front_close(front, 0);
        return st;
    }
    *out = front;
    return ST_OK;
}

void front_close(struct front *front, uint32_t grace_ms)
{
    if (front == NULL)
        return;
    acceptor_stop(front->acceptor);
    http_server_stop(front->http);
    gauges_close();
    if (front->rpc != NULL && rpc_server_stop(front->rpc, grace_ms, CANCEL_MS) != ST_OK) {
        /* Some call is still with an actor: its memory must stay, and the process is about to end.
         */
        log_warn("calls were still open at the end; their clients see a broken connection");
        member_leave_services(front->member);
        return;
    }
    rpc_server_free(front->rpc);
    free(front);
}
