/* server/http/rest.c - requests to the JSON gateway: their pieces in, the answer's out. A call that
 * is under way suspends its connection, and no other. */
#include "server/http/http_private.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#define STREAM_BLOCK_BYTES (16U << 10)

bool is_gateway_path(const struct http_server *server, const char *url)
{
    return server->options.gateway != NULL &&
           (strncmp(url, "/v3/", 4) == 0 || strncmp(url, "/v3beta/", 8) == 0);
}

static void describe_peer(struct MHD_Connection *connection, char *out, size_t size)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[INET6_ADDRSTRLEN] = "";
    snprintf(out, size, "unknown");
    if (info == NULL || info->client_addr == NULL)
        return;
    if (info->client_addr->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, info->client_addr, sizeof(v4));
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
        snprintf(out, size, "%s:%u", host, ntohs(v4.sin_port));
    } else if (info->client_addr->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, info->client_addr, sizeof(v6));
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        snprintf(out, size, "[%s]:%u", host, ntohs(v6.sin6_port));
    }
}

static void wake(void *context)
{
    exchange_wake(context);
}

static void orphan(void *context)
{
    keeper_adopt(context);
}

static void released(void *context)
{
    struct exchange *exchange = context;
    struct http_server *server = exchange->server;
    exchange_unref(exchange);
    pthread_mutex_lock(&server->mutex);
    server->calls_count--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

static enum MHD_Result read_header(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    gateway_call_header(context, name, value == NULL ? "" : value);
    return MHD_YES;
}

static const struct gateway_route *route_of(const struct http_server *server, const char *url)
{
    static const char beta[] = "/v3beta/";
    char path[128];
    if (strncmp(url, beta, sizeof(beta) - 1) != 0)
        return gateway_find(server->options.gateway, url);
    snprintf(path, sizeof(path), "/v3/%s", url + sizeof(beta) - 1);
    return gateway_find(server->options.gateway, path);
}

static void count_call(struct http_server *server, struct exchange *exchange)
{
    pthread_mutex_lock(&server->mutex);
    server->calls_count++;
    server->unary_count += exchange->is_unary;
    pthread_mutex_unlock(&server->mutex);
}

void rest_begin(struct exchange *exchange, struct MHD_Connection *connection, const char *url,
                const char *method)
{
    struct http_server *server = exchange->server;
    const struct gateway_route *route = route_of(server, url);
    if (route == NULL || strcmp(method, MHD_HTTP_METHOD_POST) != 0)
        return;
    char peer[PEER_BYTES];
    describe_peer(connection, peer, sizeof(peer));
    struct gateway_events events = {
        .wake = wake, .orphan = orphan, .released = released, .context = exchange};
    if (gateway_call_new(server->options.gateway, route, peer, &events, &exchange->call) != ST_OK)
        return;
    exchange_ref(exchange);
    exchange->is_unary = gateway_route_is_unary(route);
    count_call(server, exchange);
    MHD_get_connection_values(connection, MHD_HEADER_KIND, read_header, exchange->call);
}

/* Neither a method of that name nor a call. */
static enum MHD_Result answer_no_call(struct exchange *exchange, struct MHD_Connection *connection,
                                      const char *url, const char *method)
{
    struct http_server *server = exchange->server;
    struct http_answer answer = {0};
    enum status st;
    if (route_of(server, url) == NULL)
        st = http_answer_plain(404, "Not Found", &answer);
    else if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
        st = http_answer_plain(405, "Method Not Allowed", &answer);
    else
        st = http_answer_plain(503, "too many calls are under way through the JSON gateway",
                               &answer);
    return send_answer(server, connection, st, &answer);
}

/* ---- the answer ---- */

static ssize_t read_stream(void *context, uint64_t position, char *to, size_t size)
{
    (void)position;
    struct exchange *exchange = context;
    if (exchange_is_over(exchange))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (exchange_has_expired(exchange))
        gateway_call_expire(exchange->call);
    while (true) {
        size_t got;
        switch (gateway_call_read(exchange->call, (uint8_t *)to, size, &got)) {
        case GATEWAY_BYTES:
            return (ssize_t)got;
        case GATEWAY_END:
            return MHD_CONTENT_READER_END_OF_STREAM;
        case GATEWAY_BROKEN:
            return MHD_CONTENT_READER_END_WITH_ERROR;
        case GATEWAY_WAIT:
            /* MHD calls again at once, or when the connection is resumed. */
            (void)exchange_wait(exchange, exchange->stream_connection);
            return 0;
        }
    }
}

static struct MHD_Response *make_response(struct exchange *exchange,
                                          struct MHD_Connection *connection,
                                          const struct gateway_head *head)
{
    exchange->stream_connection = connection;
    if (head->is_stream)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream,
                                                 exchange, NULL);
    /* The body lies in the call, which ends after the answer has left. */
    union {
        const uint8_t *from;
        void *to;
    } body = {.from = head->body.data};
    return MHD_create_response_from_buffer(head->body.len, body.to, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_head(struct exchange *exchange, struct MHD_Connection *connection,
                                 const struct gateway_head *head)
{
    struct MHD_Response *response = make_response(exchange, connection, head);
    if (response == NULL)
        return MHD_NO;
    add_cors_headers(exchange->server, connection, response);
    MHD_add_response_header(response, "Content-Type", "application/json");
    if (head->has_metadata)
        MHD_add_response_header(response, "Grpc-Metadata-Content-Type", "application/grpc");
    enum MHD_Result result = MHD_queue_response(connection, head->http_status, response);
    MHD_destroy_response(response);
    return result;
}

static void start(struct exchange *exchange, struct MHD_Connection *connection)
{
    exchange->has_started = true;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    uint64_t deadline_ns = gateway_call_deadline_ns(exchange->call);
    gateway_call_start(exchange->call);
    struct gateway_head head;
    bool is_done = exchange->is_unary && gateway_call_head(exchange->call, &head);
    if (!is_done && info != NULL)
        keeper_add(exchange, info->connect_fd, deadline_ns);
}

enum MHD_Result rest_answer(struct exchange *exchange, struct MHD_Connection *connection,
                            const char *url, const char *method)
{
    if (exchange->call == NULL)
        return answer_no_call(exchange, connection, url, method);
    if (!exchange->has_started)
        start(exchange, connection);
    while (true) {
        struct gateway_head head;
        if (exchange_is_over(exchange))
            return MHD_NO;
        if (exchange_has_expired(exchange))
            gateway_call_expire(exchange->call);
        if (gateway_call_head(exchange->call, &head))
            return send_head(exchange, connection, &head);
        if (exchange_wait(exchange, connection))
            return MHD_YES;
    }
}
