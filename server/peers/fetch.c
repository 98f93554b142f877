#include "server/peers/fetch.h"

#include "server/peers/link.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum status write_request(const struct peer_fetch *fetch, const struct peer_url *url,
                                 bool is_last, struct link *link)
{
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st =
        buf_printf(&head, "%s %s HTTP/1.1\r\nHost: %s%s%s:%s\r\n%s", fetch->method, fetch->path,
                   url->is_ipv6 ? "[" : "", url->host, url->is_ipv6 ? "]" : "", url->port,
                   is_last ? "Connection: close\r\n" : "");
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

static enum status read_answer(struct link *link, struct peer_fetched *out, bool *keeps_alive_out)
{
    struct http1_head head;
    struct http1_body body;
    enum status st = link_read_answer(link, &head);
    if (st == ST_OK)
        st = http1_body_init(&body, &head, /* is_answer= */ true);
    if (st != ST_OK)
        return st;
    struct slice cluster;
    *keeps_alive_out = http1_keeps_alive(&head);
    out->status = head.status;
    out->has_cluster_id =
        http1_find(&head, "X-Etcd-Cluster-Id", &cluster) && parse_hex(cluster, &out->cluster_id);
    window_consume(&link->in, head.size);
    return read_body(link, &body, &out->body);
}

static enum status connect_to(const struct peer_fetch *fetch, const struct peer_url *url,
                              struct link *link)
{
    const struct byte_stream_factory *streams =
        fetch->streams != NULL ? fetch->streams : &byte_stream_plain;
    if (url->is_secure && fetch->streams == NULL)
        return ST_UNSUPPORTED;
    return link_connect(link, url, streams);
}

static void set_time(struct link *link, const struct peer_fetch *fetch)
{
    link->silence_ns = fetch->timeout_ms * NS_PER_MS;
    link->deadline_ns = link_now_ns() + link->silence_ns;
}

/* Nothing of ours is broken. */
static enum status as_fetched(struct peer_fetched *out, enum status st)
{
    if (st != ST_OK)
        buf_deinit(&out->body);
    return st == ST_IO ? ST_TRUNCATED : st;
}

enum status peer_fetch(const struct peer_fetch *fetch, struct peer_fetched *out)
{
    *out = (struct peer_fetched){0};
    buf_init(&out->body, PEER_FETCH_BYTES_MAX);
    struct link link = {0};
    set_time(&link, fetch);
    struct peer_url url;
    bool keeps_alive;
    enum status st = peer_url_parse(fetch->url, &url);
    if (st == ST_OK)
        st = connect_to(fetch, &url, &link);
    if (st == ST_OK)
        st = write_request(fetch, &url, /* is_last= */ true, &link);
    if (st == ST_OK)
        st = read_answer(&link, out, &keeps_alive);
    link_close(&link);
    return as_fetched(out, st);
}

/* ---- one after another over one connection ---- */

struct peer_line {
    struct link link;
    bool is_open;
    char url[URL_BYTES_MAX]; /* it leads to */
};

enum status peer_line_new(struct peer_line **out)
{
    *out = calloc(1, sizeof(**out));
    return *out == NULL ? ST_NO_MEMORY : ST_OK;
}

static void hang_up(struct peer_line *line)
{
    if (line->is_open)
        link_close(&line->link);
    line->link = (struct link){0};
    line->is_open = false;
}

void peer_line_free(struct peer_line *line)
{
    if (line == NULL)
        return;
    hang_up(line);
    free(line);
}

static enum status fetch_over(struct peer_line *line, const struct peer_fetch *fetch,
                              const struct peer_url *url, struct peer_fetched *out)
{
    bool keeps_alive = false;
    enum status st = ST_OK;
    set_time(&line->link, fetch);
    if (!line->is_open) {
        st = connect_to(fetch, url, &line->link);
        line->is_open = true; /* what there is of it is closed */
        snprintf(line->url, sizeof(line->url), "%s", fetch->url);
    }
    if (st == ST_OK)
        st = write_request(fetch, url, /* is_last= */ false, &line->link);
    if (st == ST_OK)
        st = read_answer(&line->link, out, &keeps_alive);
    if (st != ST_OK || !keeps_alive)
        hang_up(line);
    return st;
}

enum status peer_line_fetch(struct peer_line *line, const struct peer_fetch *fetch,
                            struct peer_fetched *out)
{
    *out = (struct peer_fetched){0};
    buf_init(&out->body, PEER_FETCH_BYTES_MAX);
    struct peer_url url;
    enum status st = peer_url_parse(fetch->url, &url);
    if (st != ST_OK || strlen(fetch->url) >= URL_BYTES_MAX)
        return ST_INVALID;
    if (line->is_open && strcmp(line->url, fetch->url) != 0)
        hang_up(line);
    bool was_open = line->is_open;
    st = fetch_over(line, fetch, &url, out);
    if (was_open && (st == ST_TRUNCATED || st == ST_IO)) { /* it was closed meanwhile */
        buf_deinit(&out->body);
        buf_init(&out->body, PEER_FETCH_BYTES_MAX);
        st = fetch_over(line, fetch, &url, out);
    }
    return as_fetched(out, st);
}
