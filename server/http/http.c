#include "server/http/http.h"

#include "base/list.h"
#include "server/http/answer.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024U            /* monitors and people, not clients */
#define CONNECTION_TIMEOUT_S 120U        /* idle ones; above a Prometheus' usual pause */
#define CONNECTION_BYTES_MAX (32U << 10) /* request line and headers */

struct http_server {
    struct http_options options;
    struct MHD_Daemon *daemon;
    pthread_mutex_t mutex;    /* guards the list; taken before a check's */
    struct list_node pending; /* checks that requests wait for */
    bool stopping;
};

/* A linearizable read that a suspended connection waits for. Counted: one reference is the
 * request's, one the handler's, since either may end first. */
struct http_check {
    struct list_node node;
    atomic_uint refs;
    pthread_mutex_t mutex;             /* guards what follows */
    struct MHD_Connection *connection; /* NULL: not suspended any more */
    bool done;
    const char *error;
};

static const char server_stopped[] = "etcdserver: server stopped";

/* One request, from its first line to its end. */
struct request {
    struct http_checks checks;
    struct http_check *check;
};

static void check_unref(struct http_check *check)
{
    if (atomic_fetch_sub(&check->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&check->mutex);
    free(check);
}

static void finish_check(struct http_check *check, const char *error)
{
    pthread_mutex_lock(&check->mutex);
    if (!check->done) {
        check->error = error;
        check->done = true;
    }
    if (check->connection != NULL)
        MHD_resume_connection(check->connection);
    check->connection = NULL;
    pthread_mutex_unlock(&check->mutex);
}

void http_check_done(struct http_check *check, const char *error)
{
    finish_check(check, error);
    check_unref(check);
}

/* Suspends the connection until the check is done. False: the server stops, and the handler must
 * not be asked any more. */
static bool wait_for_check(struct http_server *server, struct http_check *check,
                           struct MHD_Connection *connection)
{
    check->connection = connection;
    MHD_suspend_connection(connection);
    pthread_mutex_lock(&server->mutex);
    list_push_back(&server->pending, &check->node);
    bool stopping = server->stopping;
    pthread_mutex_unlock(&server->mutex);
    if (stopping)
        http_check_done(check, server_stopped);
    return !stopping;
}

static struct http_check *check_new(void)
{
    struct http_check *check = calloc(1, sizeof(*check));
    if (check == NULL)
        return NULL;
    atomic_init(&check->refs, 2);
    pthread_mutex_init(&check->mutex, NULL);
    return check;
}

static void request_end(struct http_server *server, struct request *request)
{
    if (request->check != NULL) {
        pthread_mutex_lock(&server->mutex);
        list_remove(&request->check->node);
        pthread_mutex_unlock(&server->mutex);
        check_unref(request->check);
    }
    free(request);
}

static void add_headers(struct MHD_Response *response, const struct http_answer *answer)
{
    /* Any web page may ask: etcd's default of --cors. */
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            "accept, content-type, authorization");
    MHD_add_response_header(response, "Access-Control-Allow-Methods",
                            "POST, GET, OPTIONS, PUT, DELETE");
    MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
    if (answer->content_type != NULL)
        MHD_add_response_header(response, "Content-Type", answer->content_type);
    if (answer->nosniff)
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (answer->allow_get)
        MHD_add_response_header(response, "Allow", "GET");
}

/* Takes the answer's body. MHD_NO makes MHD close the connection. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, enum status st,
                                   struct http_answer *answer)
{
    struct MHD_Response *response = NULL;
    if (st == ST_OK)
        response = MHD_create_response_from_buffer(answer->body.len, answer->body.data,
                                                   MHD_RESPMEM_MUST_COPY);
    buf_deinit(&answer->body);
    if (response == NULL)
        return MHD_NO;
    add_headers(response, answer);
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

static enum MHD_Result answer_checks(struct http_server *server, struct MHD_Connection *connection,
                                     const char *url, const struct http_query *query,
                                     struct request *request)
{
    const struct http_handlers *handlers = &server->options.handlers;
    struct http_answer answer = {0};
    if (request->check != NULL) { /* resumed */
        pthread_mutex_lock(&request->check->mutex);
        request->checks.errors[CHECK_LINEARIZABLE_READ] = request->check->error;
        pthread_mutex_unlock(&request->check->mutex);
        return send_answer(connection, http_checks_answer(&request->checks, &answer), &answer);
    }
    if (http_checks_parse(url, query, &request->checks) != ST_OK)
        return send_answer(connection, http_answer_plain(404, "404 page not found", &answer),
                           &answer);
    http_checks_run(handlers, &request->checks);
    if ((request->checks.wanted & (1U << CHECK_LINEARIZABLE_READ)) == 0)
        return send_answer(connection, http_checks_answer(&request->checks, &answer), &answer);
    request->check = check_new();
    if (request->check == NULL)
        return MHD_NO;
    if (wait_for_check(server, request->check, connection))
        handlers->linearizable_read(handlers->context, request->check);
    return MHD_YES;
}

static bool is_path_or_below(const char *url, const char *path)
{
    size_t len = strlen(path);
    return strncmp(url, path, len) == 0 && (url[len] == '\0' || url[len] == '/');
}

static enum MHD_Result answer_request(struct http_server *server, struct MHD_Connection *connection,
                                      const char *url, const char *method, struct request *request)
{
    struct http_answer answer = {.code = 200};
    bool is_checks = is_path_or_below(url, "/livez") || is_path_or_below(url, "/readyz");
    bool is_get_only = is_checks || strcmp(url, "/health") == 0 || strcmp(url, "/version") == 0;
    if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
        return send_answer(connection, ST_OK, &answer);
    if (is_get_only && strcmp(method, MHD_HTTP_METHOD_GET) != 0) {
        enum status st = http_answer_plain(405, "Method Not Allowed", &answer);
        answer.allow_get = true;
        return send_answer(connection, st, &answer);
    }
    struct http_query query = {0};
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, read_argument, &query);
    if (is_checks)
        return answer_checks(server, connection, url, &query, request);
    enum status st;
    if (strcmp(url, "/health") == 0)
        st = http_answer_health(&server->options.handlers, &query, &answer);
    else if (strcmp(url, "/version") == 0)
        st = http_answer_version(&server->options, &answer);
    else if (strcmp(url, "/metrics") == 0)
        st = http_answer_metrics(&answer);
    else
        st = http_answer_plain(404, "404 page not found", &answer);
    return send_answer(connection, st, &answer);
}

/* MHD calls once for the head, once for each piece of a body, which nothing here reads, and once at
 * the end; a resumed connection again. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    (void)version, (void)upload;
    if (*state == NULL) {
        *state = calloc(1, sizeof(struct request));
        return *state == NULL ? MHD_NO : MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    return answer_request(context, connection, url, method, *state);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection, (void)code;
    if (*state != NULL)
        request_end(context, *state);
    *state = NULL;
}

/* What clients do wrong is their business. */
static void drop_log(void *context, const char *format, va_list args)
{
    (void)context, (void)format, (void)args;
}

enum status http_server_start(const struct http_options *options, struct http_server **out)
{
    *out = NULL;
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return ST_NO_MEMORY;
    server->options = *options;
    pthread_mutex_init(&server->mutex, NULL);
    list_init(&server->pending);
    /* poll, not epoll: MHD's epoll misses an end of file that came together with data. */
    server->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC |
            MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
        /* port= */ 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, drop_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_CONNECTION_LIMIT,
        CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES_MAX, MHD_OPTION_END);
    if (server->daemon == NULL) {
        http_server_stop(server);
        return ST_NO_MEMORY;
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

void http_server_stop(struct http_server *server)
{
    if (server == NULL)
        return;
    /* MHD does not stop while connections are suspended. */
    pthread_mutex_lock(&server->mutex);
    LIST_FOREACH(node, &server->pending)
    finish_check(CONTAINER_OF(node, struct http_check, node), "etcdserver: server stopped");
    pthread_mutex_unlock(&server->mutex);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}
