#include "server/peers/fetch.h"

#include "server/peers/link.h"

#include <inttypes.h>

static enum status write_request(const struct peer_fetch *fetch, const struct peer_url *url,
                                 struct link *link)
{
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st = buf_printf(&head, "%s %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\n",
                                fetch->method, fetch->path, url->is_ipv6 ? "[" : "", url->host,
                                url->is_ipv6 ? "]" : "", url->port);
    if (st == ST_OK && fetch->cluster_id != 0)
        st = buf_printf(&head, "X-Etcd-Cluster-Id: %" PRIx64 "\r\n", fetch->cluster_id);
    if (st == ST_OK && fetch->content_type != NULL)
        st = buf_printf(&head, "Content-Type: %s\r\n", fetch->content_type);
    if (st == ST_OK && (fetch->body.len > 0 || strcmp(fetch->method, "POST") == 0))
        st = buf_printf(&head, "Content-Length: %zu\r\n", fetch->body.len);
    if (st == ST_OK)
        st = buf_append(&head, SLICE("\r\n"));
    struct out out;
    out_init(&out);
    if (st == ST_OK)
        st = out_append(&out, buf_slice(&head));
    if (st == ST_OK)
        st = out_append(&out, fetch->body);
    if (st == ST_OK)
        st = link_write(link, &out);
    out_reset(&out);
    buf_deinit(&head);
    return st;
}

static enum status read_body(struct link *link, struct http1_body *body, struct buf *out)
{
    for (;;) {
        struct slice in = window_slice(&link->in), piece;
        enum status st = http1_body_take(body, &in, &piece);
        if (st == ST_OK)
            st = buf_append(out, piece);
        if (st != ST_OK)
            return st;
        window_consume(&link->in, window_slice(&link->in).len - in.len);
        if (body->ended)
            return ST_OK;
        if (in.len > 0)
            continue;
        st = link_read(link);
        if (st == ST_TRUNCATED)
            return http1_body_end(body);
        if (st != ST_OK)
            return st;
    }
}

/* Ids are hex without padding. */
static bool parse_hex(struct slice s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && !(c >= 'a' && c <= 'f'))
            return false;
        *out = *out << 4 | (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
    }
    return s.len > 0 && s.len <= 16;
}

static enum status read_answer(struct link *link, struct peer_fetched *out)
{
    struct http1_head head;
    struct http1_body body;
    enum status st = link_read_answer(link, &head);
    if (st == ST_OK)
        st = http1_body_init(&body, &head, /* is_answer= */ true);
    if (st != ST_OK)
        return st;
    struct slice cluster;
    out->status = head.status;
    out->has_cluster_id =
        http1_find(&head, "X-Etcd-Cluster-Id", &cluster) && parse_hex(cluster, &out->cluster_id);
    window_consume(&link->in, head.size);
    return read_body(link, &body, &out->body);
}

enum status peer_fetch(const struct peer_fetch *fetch, struct peer_fetched *out)
{
    *out = (struct peer_fetched){0};
    buf_init(&out->body, PEER_FETCH_BYTES_MAX);
    uint64_t timeout_ns = fetch->timeout_ms * NS_PER_MS;
    struct link link = {.silence_ns = timeout_ns, .deadline_ns = link_now_ns() + timeout_ns};
    struct peer_url url;
    enum status st = peer_url_parse(fetch->url, &url);
    if (st == ST_OK && url.is_secure && fetch->streams == NULL)
        st = ST_UNSUPPORTED;
    if (st == ST_OK)
        st =
            link_connect(&link, &url, fetch->streams != NULL ? fetch->streams : &byte_stream_plain);
    if (st == ST_OK)
        st = write_request(fetch, &url, &link);
    if (st == ST_OK)
        st = read_answer(&link, out);
    link_close(&link);
    if (st != ST_OK)
        buf_deinit(&out->body);
    return st == ST_IO ? ST_TRUNCATED : st; /* nothing of ours is broken */
}
