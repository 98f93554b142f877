#include "server/peers/peers_private.h"

#define TEXT_TYPE "text/plain; charset=utf-8"

static const char *reason_of(uint32_t status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 410:
        return "Gone";
    case 412:
        return "Precondition Failed";
    default:
        return "Internal Server Error";
    }
}

static enum status put_head(struct buf *head, const struct peers *peers, const struct answer *a,
                            bool keeps_alive)
{
    enum status st = buf_printf(head, "HTTP/1.1 %u %s\r\n", a->status, reason_of(a->status));
    if (st == ST_OK && a->has_cluster)
        st = buf_printf(head, "X-Etcd-Cluster-Id: %s\r\n", peers->cluster_hex);
    if (st == ST_OK && a->has_version)
        st = buf_printf(head, "X-Server-Version: %s\r\n", peers->version);
    if (st == ST_OK && a->allow != NULL)
        st = buf_printf(head, "Allow: %s\r\n", a->allow);
    if (st == ST_OK && !keeps_alive)
        st = buf_append(head, SLICE("Connection: close\r\n"));
    return st;
}

enum status answer_put(struct out *out, const struct peers *peers, const struct answer *a,
                       bool keeps_alive, bool is_head)
{
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st = put_head(&head, peers, a, keeps_alive);
    if (st == ST_OK && a->status != 204)
        st = buf_printf(&head, "Content-Type: %s\r\n%sContent-Length: %zu\r\n",
                        a->content_type == NULL ? TEXT_TYPE : a->content_type,
                        a->status >= 400 ? "X-Content-Type-Options: nosniff\r\n" : "", a->body.len);
    if (st == ST_OK)
        st = buf_append(&head, SLICE("\r\n"));
    if (st == ST_OK)
        st = out_append(out, buf_slice(&head));
    if (st == ST_OK && a->status != 204 && !is_head)
        st = out_append(out, a->body);
    buf_deinit(&head);
    return st;
}

void answer_send(struct conn *conn, const struct answer *answer)
{
    /* A body that was not read would be taken for the next request. */
    bool keeps_alive = conn->keeps_alive && conn->framing.ended;
    if (answer_put(&conn->out, conn->peers, answer, keeps_alive, conn->is_head) != ST_OK) {
        conn_close(conn);
        return;
    }
    window_consume(&conn->body, window_slice(&conn->body).len);
    conn->state = keeps_alive ? CONN_HEAD : CONN_CLOSING;
    conn_deadline(conn, ACCEPTED_IDLE_NS);
    conn_flush(conn);
}

void answer_cut(struct conn *conn, struct slice text)
{
    struct answer answer = {.status = 500, .has_cluster = true};
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st = put_head(&head, conn->peers, &answer, /* keeps_alive= */ true);
    if (st == ST_OK)
        st = buf_printf(&head,
                        "Content-Type: " TEXT_TYPE "\r\nX-Content-Type-Options: nosniff\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n%zx\r\n",
                        text.len);
    if (st == ST_OK)
        st = buf_append(&head, text);
    if (st == ST_OK)
        st = buf_append(&head, SLICE("\r\n"));
    if (st == ST_OK)
        st = out_append(&conn->out, buf_slice(&head));
    buf_deinit(&head);
    if (st != ST_OK) {
        conn_close(conn);
        return;
    }
    conn->state = CONN_CLOSING;
    conn_deadline(conn, STREAM_SILENCE_NS);
    conn_flush(conn);
}

void answer_stream(struct conn *conn)
{
    struct answer answer = {.status = 200, .has_cluster = true, .has_version = true};
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    /* The stream is the rest of the connection: no length, no chunks. */
    enum status st = put_head(&head, conn->peers, &answer, /* keeps_alive= */ false);
    if (st == ST_OK)
        st = buf_append(&head, SLICE("\r\n"));
    if (st == ST_OK)
        st = out_append(&conn->out, buf_slice(&head));
    buf_deinit(&head);
    conn->state = CONN_STREAM;
    conn->deadline_ns = UINT64_MAX;
    conn->heartbeat_ns = conn->peers->now_ns + LINK_HEARTBEAT_NS;
    peers_timer_at(conn->peers, conn->heartbeat_ns);
    if (st != ST_OK)
        conn_fail(conn, status_str(st));
    else
        conn_flush(conn);
}

void answer_probe(struct conn *conn)
{
    char text[96], fraction[16] = "";
    uint64_t now = clock_wall_ns(conn->peers->clock);
    time_t seconds = (time_t)(now / NS_PER_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    if (now % NS_PER_S != 0) { /* Go cuts zeros off the end */
        int size = snprintf(fraction, sizeof(fraction), ".%09llu", now % NS_PER_S);
        while (size > 1 && fraction[size - 1] == '0')
            fraction[--size] = '\0';
    }
    char day[32];
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof(text), "{\"OK\":true,\"Now\":\"%s%sZ\"}\n", day, fraction);
    answer_send(conn, &(struct answer){.status = 200, .body = slice_from_str(text)});
}

enum status head_put(struct out *out, const struct peers *peers, const char *method,
                     const char *path, const char *host)
{
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st = buf_printf(&head,
                                "%s %s HTTP/1.1\r\nHost: %s\r\nX-Server-From: %s\r\n"
                                "X-Server-Version: %s\r\nX-Min-Cluster-Version: %s\r\n"
                                "X-Etcd-Cluster-Id: %s\r\nX-Peerurls: %s\r\n",
                                method, path, host, peers->id_hex, peers->version,
                                peers->min_version, peers->cluster_hex, peers->urls);
    if (st == ST_OK)
        st = out_append(out, buf_slice(&head));
    buf_deinit(&head);
    return st;
}

/* ---- what the owner answers ---- */

static struct request *private_of(struct peer_request *request)
{
    return CONTAINER_OF(request, struct request, request);
}

void request_free(struct request *request)
{
    window_deinit(&request->body);
    buf_deinit(&request->answer);
    free(request);
}

void request_begin(struct conn *conn, enum peer_request_kind kind)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        answer_send(conn, &(struct answer){.status = 500, .body = SLICE("out of memory\n")});
        return;
    }
    request->peers = conn->peers;
    request->conn = conn;
    request->command.kind = COMMAND_ANSWER;
    request->body = conn->body;
    conn->body = (struct window){0};
    request->request = (struct peer_request){
        .kind = kind, .member_id = conn->argument, .body = window_slice(&request->body)};
    buf_init(&request->answer, PEER_FETCH_BYTES_MAX);
    conn->request = request;
    conn->state = CONN_WAITING;
    conn->deadline_ns = UINT64_MAX;
    conn_watch(conn);
    conn->peers->owner.handle(conn->peers->owner.context, &request->request);
}

void peers_answer(struct peer_request *public, const struct peer_answer *answer)
{
    struct request *request = private_of(public);
    request->status = answer->status;
    request->content_type = answer->content_type;
    if (buf_append(&request->answer, answer->body) != ST_OK)
        request->status = 500;
    peers_push(request->peers, &request->command);
}

/* Which answers say whose cluster it is: etcd's choice, kind by kind. */
static bool has_cluster(const struct request *request)
{
    switch (request->request.kind) {
    case PEER_REQUEST_MEMBERS:
    case PEER_REQUEST_PROMOTE:
    case PEER_REQUEST_DOWNGRADE_ENABLED:
        return true;
    case PEER_REQUEST_HASHKV:
        return request->status == 200;
    case PEER_REQUEST_LEASES:
    case PEER_REQUEST_LEASES_INTERNAL:
    case PEER_REQUEST_VERSION:
        return false;
    }
    return false;
}

void request_answered(struct request *request)
{
    struct conn *conn = request->conn;
    if (conn != NULL) {
        conn->request = NULL;
        answer_send(conn, &(struct answer){.status = request->status,
                                           .content_type = request->content_type,
                                           .has_cluster = has_cluster(request),
                                           .body = buf_slice(&request->answer)});
        /* The next request may have come with the last. */
        if (conn->state == CONN_HEAD && port_input(conn) != ST_OK)
            conn_close(conn);
    }
    request_free(request);
}
