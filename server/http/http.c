#include "server/http/http_private.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CONNECTION_TIMEOUT_S 120U        /* idle ones; above a Prometheus' usual pause */
#define CONNECTION_BYTES_MAX (32U << 10) /* request line and headers */

/* A linearizable read that a suspended connection waits for. */
struct http_check {
    struct exchange *exchange; /* counted */
    atomic_uint refs;          /* the exchange's and the handler's */
    bool done;                 /* under the exchange's mutex, with the next */
    const char *error;
};

static void check_unref(struct http_check *check)
{
    if (check == NULL || atomic_fetch_sub(&check->refs, 1) != 1)
        return;
    exchange_unref(check->exchange);
    free(check);
}

void http_check_done(struct http_check *check, const char *error)
{
    pthread_mutex_lock(&check->exchange->mutex);
    check->error = error;
    check->done = true;
    pthread_mutex_unlock(&check->exchange->mutex);
    exchange_wake(check->exchange);
    check_unref(check);
}

static struct http_check *check_new(struct exchange *exchange)
{
    struct http_check *check = calloc(1, sizeof(*check));
    if (check == NULL)
        return NULL;
    atomic_init(&check->refs, 2);
    check->exchange = exchange;
    exchange_ref(exchange);
    return check;
}

static bool check_is_done(struct http_check *check, const char **error_out)
{
    pthread_mutex_lock(&check->exchange->mutex);
    *error_out = check->error;
    bool done = check->done;
    pthread_mutex_unlock(&check->exchange->mutex);
    return done;
}

static void add_headers(const struct http_server *server, struct MHD_Connection *connection,
                        struct MHD_Response *response, const struct http_answer *answer)
{
    add_cors_headers(server, connection, response);
    if (answer->content_type != NULL)
        MHD_add_response_header(response, "Content-Type", answer->content_type);
    if (answer->nosniff)
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (answer->allow_get)
        MHD_add_response_header(response, "Allow", "GET");
}

enum MHD_Result send_answer(struct http_server *server, struct MHD_Connection *connection,
                            enum status st, struct http_answer *answer)
{
    struct MHD_Response *response = NULL;
    if (st == ST_OK)
        response = MHD_create_response_from_buffer(answer->body.len, answer->body.data,
                                                   MHD_RESPMEM_MUST_COPY);
    buf_deinit(&answer->body);
    if (response == NULL)
        return MHD_NO;
    add_headers(server, connection, response, answer);
    enum MHD_Result result = MHD_queue_response(connection, answer->code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result read_argument(void *context, enum MHD_ValueKind kind, const char *key,
                                     const char *value)
{
    (void)kind;
    http_query_add(context, key, value);
    return MHD_YES;
}

static enum status fill_checks(const struct exchange *exchange, struct http_answer *out)
{
    return http_checks_answer(&exchange->checks, out);
}

static enum status fill_health(const struct exchange *exchange, struct http_answer *out)
{
    return http_answer_health(&exchange->health, out);
}

/* Begins a linearizable read; a resumed connection comes here again, until that is done or nobody
 * waits for it any more. Its error goes to *error_out before the answer is filled. */
static enum MHD_Result answer_after_read(struct exchange *exchange,
                                         struct MHD_Connection *connection, const char **error_out,
                                         enum status (*fill)(const struct exchange *exchange,
                                                             struct http_answer *out))
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    if (exchange->check == NULL) {
        exchange->check = check_new(exchange);
        if (exchange->check == NULL)
            return MHD_NO;
        handlers->linearizable_read(handlers->context, exchange->check);
    }
    while (!check_is_done(exchange->check, error_out)) {
        if (exchange_is_over(exchange))
            return MHD_NO;
        if (exchange_wait(exchange, connection))
            return MHD_YES;
    }
    struct http_answer answer = {0};
    return send_answer(exchange->server, connection, fill(exchange, &answer), &answer);
}

static enum MHD_Result answer_checks(struct exchange *exchange, struct MHD_Connection *connection,
                                     const char *url, const struct http_query *query)
{
    struct http_server *server = exchange->server;
    struct http_checks *checks = &exchange->checks;
    struct http_answer answer = {0};
    bool is_resumed = exchange->check != NULL;
    if (!is_resumed && http_checks_parse(url, query, checks) != ST_OK)
        return send_answer(server, connection,
                           http_answer_plain(404, "404 page not found", &answer), &answer);
    if (!is_resumed)
        http_checks_run(&server->options.handlers, checks);
    if ((checks->wanted & (1U << CHECK_LINEARIZABLE_READ)) != 0)
        return answer_after_read(exchange, connection, &checks->errors[CHECK_LINEARIZABLE_READ],
                                 fill_checks);
    return send_answer(server, connection, fill_checks(exchange, &answer), &answer);
}

static enum MHD_Result answer_health(struct exchange *exchange, struct MHD_Connection *connection,
                                     const struct http_query *query)
{
    struct http_server *server = exchange->server;
    struct http_health *health = &exchange->health;
    struct http_answer answer = {0};
    bool is_resumed = exchange->check != NULL;
    if (!is_resumed)
        http_health_look(&server->options.handlers, query, health);
    bool is_well = health->reason == NULL && health->read_error == NULL;
    if (is_resumed || (is_well && !query->serializable))
        return answer_after_read(exchange, connection, &health->read_error, fill_health);
    return send_answer(server, connection, fill_health(exchange, &answer), &answer);
}

static bool is_path_or_below(const char *url, const char *path)
{
    size_t len = strlen(path);
    return strncmp(url, path, len) == 0 && (url[len] == '\0' || url[len] == '/');
}

/* One that is there, whatever the method. */
static bool is_checks_path(const char *url)
{
    static const struct http_query nothing;
    struct http_checks checks;
    return (is_path_or_below(url, "/livez") || is_path_or_below(url, "/readyz")) &&
           http_checks_parse(url, &nothing, &checks) == ST_OK;
}

static bool is_page(const struct http_server *server, const char *url, const char *path)
{
    return !server->options.only_metrics && strcmp(url, path) == 0;
}

static bool has_vars(const struct http_server *server, const char *url)
{
    return server->options.handlers.vars != NULL && is_page(server, url, "/debug/vars");
}

static enum status fill_answer(struct http_server *server, const char *url,
                               struct http_answer *answer)
{
    if (strcmp(url, "/metrics") == 0)
        return http_answer_metrics(answer);
    if (is_page(server, url, "/version"))
        return http_answer_version(&server->options, answer);
    if (has_vars(server, url))
        return http_answer_vars(&server->options.handlers, answer);
    return http_answer_plain(404, "404 page not found", answer);
}

static enum MHD_Result answer_request(struct exchange *exchange, struct MHD_Connection *connection,
                                      const char *url, const char *method)
{
    struct http_server *server = exchange->server;
    struct http_answer answer = {.code = 200};
    bool is_get_only = is_checks_path(url) || strcmp(url, "/health") == 0 ||
                       is_page(server, url, "/version") || has_vars(server, url);
    if (!is_known_host(server, connection))
        return refuse_host(server, connection);
    if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0 && !server->options.only_metrics)
        return send_answer(server, connection, ST_OK, &answer);
    if (is_gateway_path(server, url))
        return rest_answer(exchange, connection, url, method);
    if (is_get_only && strcmp(method, MHD_HTTP_METHOD_GET) != 0) {
        enum status st = http_answer_plain(405, "Method Not Allowed", &answer);
        answer.allow_get = true;
        return send_answer(server, connection, st, &answer);
    }
    struct http_query query = {0};
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, read_argument, &query);
    if (strcmp(url, "/health") == 0)
        return answer_health(exchange, connection, &query);
    if (is_checks_path(url))
        return answer_checks(exchange, connection, url, &query);
    return send_answer(server, connection, fill_answer(server, url, &answer), &answer);
}

static enum MHD_Result begin_request(struct http_server *server, struct MHD_Connection *connection,
                                     const char *url, const char *method, void **state)
{
    struct exchange *exchange = exchange_new(server);
    *state = exchange;
    if (exchange == NULL)
        return MHD_NO;
    if (is_gateway_path(server, url) && is_known_host(server, connection))
        rest_begin(exchange, connection, url, method);
    return MHD_YES;
}

/* MHD calls once for the head, once for each piece of a body, and once at the end; a resumed
 * connection again. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    (void)version;
    struct exchange *exchange = *state;
    if (exchange == NULL)
        return begin_request(context, connection, url, method, state);
    if (*upload_size != 0) {
        if (exchange->call != NULL)
            gateway_call_body(exchange->call, slice_make(upload, *upload_size));
        *upload_size = 0;
        return MHD_YES;
    }
    return answer_request(exchange, connection, url, method);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)context, (void)connection, (void)code;
    struct exchange *exchange = *state;
    *state = NULL;
    if (exchange == NULL)
        return;
    check_unref(exchange->check);
    exchange_end(exchange);
}

/* What clients do wrong is their business. */
static void drop_log(void *context, const char *format, va_list args)
{
    (void)context, (void)format, (void)args;
}

static void init_sync(struct http_server *server)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&server->mutex, NULL);
}

enum status http_server_start(const struct http_options *options, struct http_server **out)
{
    *out = NULL;
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return ST_NO_MEMORY;
    server->options = *options;
    server->epoll_fd = server->wake_fd = -1;
    init_sync(server);
    list_init(&server->exchanges);
    list_init(&server->orphans);
    enum status st = keeper_start(server);
    /* poll, not epoll: MHD's epoll misses an end of file that came together with data. */
    if (st == ST_OK)
        server->daemon = MHD_start_daemon(
            MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_NO_LISTEN_SOCKET |
                MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
            /* port= */ 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, drop_log,
            NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_CONNECTION_LIMIT,
            CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES_MAX, MHD_OPTION_END);
    if (server->daemon == NULL) {
        (void)!http_server_stop(server, 0, 0);
        http_server_free(server);
        return st == ST_OK ? ST_NO_MEMORY : st;
    }
    *out = server;
    return ST_OK;
}

void http_server_add_connection(struct http_server *server, int fd, const struct sockaddr *address,
                                socklen_t address_size)
{
    /* Takes fd also when it refuses. */
    (void)MHD_add_connection(server->daemon, fd, address, address_size);
}

/* Until *count is 0, at most so long. The mutex is held. */
static void wait_for_none(struct http_server *server, const uint32_t *count, uint32_t ms)
{
    uint64_t end_ns = http_now_ns() + ms * NS_PER_MS;
    struct timespec end = {.tv_sec = (time_t)(end_ns / NS_PER_S),
                           .tv_nsec = (long)(end_ns % NS_PER_S)};
    while (*count > 0 && pthread_cond_timedwait(&server->changed, &server->mutex, &end) == 0)
        ;
}

enum status http_server_stop(struct http_server *server, uint32_t grace_ms, uint32_t cancel_ms)
{
    if (server == NULL)
        return ST_OK;
    /* MHD does not stop while connections are suspended. */
    pthread_mutex_lock(&server->mutex);
    wait_for_none(server, &server->unary_count, grace_ms);
    server->stopping = true;
    LIST_FOREACH(node, &server->exchanges)
    exchange_wake(CONTAINER_OF(node, struct exchange, node));
    pthread_mutex_unlock(&server->mutex);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    pthread_mutex_lock(&server->mutex);
    wait_for_none(server, &server->calls_count, cancel_ms);
    bool is_idle = server->calls_count == 0;
    pthread_mutex_unlock(&server->mutex);
    keeper_stop(server);
    return is_idle ? ST_OK : ST_BUSY;
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}
