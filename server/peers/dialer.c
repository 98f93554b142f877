#include "server/peers/peers_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/run/log.h"

#include <errno.h>

static struct dialer *dialer_of(const struct conn *conn)
{
    return &conn->peer->dialers[conn->dial];
}

static void wait_longer(struct peer *peer, struct dialer *d)
{
    d->attempts++;
    d->next_ns = peer->peers->now_ns + d->backoff_ns;
    d->backoff_ns = min_u64(d->backoff_ns * 2, DIAL_AGAIN_MAX_NS);
    peers_timer_at(peer->peers, d->next_ns);
}

/* What waits for a POST is old when one is possible again. */
static void drop_pipeline(struct peer *peer)
{
    if (peer->pipeline_count == 0)
        return;
    metrics_child_add(peer->sent_failures, peer->pipeline_count);
    peer_unreachable(peer);
    while (!list_is_empty(&peer->pipeline))
        outgoing_free(CONTAINER_OF(list_pop_front(&peer->pipeline), struct outgoing, link));
    peer->pipeline_count = 0;
}

static void dial_failed(struct peer *peer, enum dial_kind dial, const char *why)
{
    wait_longer(peer, &peer->dialers[dial]);
    if (dial == DIAL_PIPELINE)
        drop_pipeline(peer);
    if (dial != DIAL_PROBE)
        peer_inactive(peer, why);
}

/* How a dial ended, by its errno. When a stream met nobody listening wherever the member might be,
 * and none is left in either direction, its process has ended: a host that is slow, or a network
 * that is cut, does not refuse. */
static void note_refusal(struct peer *peer, enum dial_kind dial, int error)
{
    struct dialer *d = &peer->dialers[dial];
    d->refusals = error == ECONNREFUSED ? d->refusals + 1 : 0;
    if (dial == DIAL_PROBE || d->refusals == 0 || d->refusals < d->places)
        return;
    for (uint32_t i = 0; i < STREAM_KINDS; i++) {
        const struct conn *reader = peer->dialers[i].conn;
        if (peer->writers[i] != NULL || (reader != NULL && reader->state == CONN_STREAM))
            return;
    }
    peer->peers->owner.gone(peer->peers->owner.context, peer->id);
}

static void dial_to(struct peer *peer, enum dial_kind dial, const struct peer_url *url,
                    const struct peer_addresses *addresses)
{
    struct dialer *d = &peer->dialers[dial];
    struct peers *peers = peer->peers;
    struct byte_stream *stream = NULL;
    int fd;
    d->places = d->urls_count * addresses->count;
    if (dial_start(addresses, d->attempts / d->urls_count, &fd) != ST_OK) {
        int error = errno;
        note_refusal(peer, dial, error);
        dial_failed(peer, dial, strerrordesc_np(error));
        return;
    }
    struct conn *conn = NULL;
    if (peers->streams->open(peers->streams->context, fd, url->host, &stream) == ST_OK)
        conn = conn_new(peers, stream, CONN_DIALLED, CONN_CONNECTING);
    if (conn == NULL) {
        dial_failed(peer, dial, status_str(ST_NO_MEMORY));
        return;
    }
    conn->peer = peer;
    conn->dial = dial;
    d->conn = conn;
    conn_deadline(conn, peers->dial_timeout_ns);
}

static void on_resolved(struct resolving *resolving)
{
    struct lookup *lookup = CONTAINER_OF(resolving, struct lookup, resolving);
    peers_push(lookup->peer->peers, &lookup->command);
}

/* A name, not an address: the answer comes as a COMMAND_RESOLVED. */
static void look_up(struct peer *peer, enum dial_kind dial, const struct peer_url *url)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        dial_failed(peer, dial, status_str(ST_NO_MEMORY));
        return;
    }
    lookup->command.kind = COMMAND_RESOLVED;
    lookup->resolving.url = *url;
    lookup->resolving.done = on_resolved;
    lookup->peer = peer_ref(peer);
    lookup->dial = dial;
    peer->dialers[dial].is_resolving = true;
    if (resolver_ask(&peer->peers->resolver, &lookup->resolving) == ST_OK)
        return;
    peer->dialers[dial].is_resolving = false;
    peer_unref(peer);
    free(lookup);
    dial_failed(peer, dial, status_str(ST_NO_MEMORY));
}

void dialer_dial(struct peer *peer, enum dial_kind dial)
{
    char text[URL_BYTES_MAX];
    struct peer_url url;
    struct peer_addresses addresses;
    struct dialer *d = &peer->dialers[dial];
    d->urls_count = peer_url(peer, d->attempts, text);
    if (d->urls_count == 0 || peer_url_parse(text, &url) != ST_OK ||
        (url.is_secure && peer->peers->streams == &byte_stream_plain)) {
        dial_failed(peer, dial, "it has no URL that can be dialled");
        return;
    }
    if (peer_url_resolve(&url, /* numeric= */ true, &addresses) == ST_OK)
        dial_to(peer, dial, &url, &addresses);
    else
        look_up(peer, dial, &url);
}

void dialer_resolved(struct lookup *lookup)
{
    struct peer *peer = lookup->peer;
    struct dialer *d = &peer->dialers[lookup->dial];
    d->is_resolving = false;
    if (peer->is_listed && !atomic_load(&peer->peers->is_stopping)) {
        if (lookup->resolving.status == ST_OK)
            dial_to(peer, lookup->dial, &lookup->resolving.url, &lookup->resolving.addresses);
        else
            dial_failed(peer, lookup->dial, "its host is not known");
    }
    peer_unref(peer);
    free(lookup);
}

/* "host:port" of a URL without a path. */
static const char *host_of(const char *url)
{
    const char *slashes = strstr(url, "//");
    return slashes == NULL ? url : slashes + 2;
}

static enum status put_request(struct conn *conn, const char *method, const char *path)
{
    char url[URL_BYTES_MAX];
    if (peer_url(conn->peer, dialer_of(conn)->attempts, url) == 0)
        return ST_NOT_FOUND;
    if (conn->dial != DIAL_PROBE)
        return head_put(&conn->out, conn->peers, method, path, host_of(url));
    struct buf head;
    buf_init(&head, HEAD_BYTES_MAX);
    enum status st =
        buf_printf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host_of(url));
    if (st == ST_OK)
        st = out_append(&conn->out, buf_slice(&head));
    buf_deinit(&head);
    return st;
}

static enum status ask_for_stream(struct conn *conn)
{
    enum stream_kind kind = conn->dial == DIAL_MSGAPP ? STREAM_MSGAPP : STREAM_MESSAGE;
    conn->frames =
        (struct frames){.kind = kind, .local = conn->peers->id, .remote = conn->peer->id};
    char path[64], to[64];
    snprintf(path, sizeof(path), "/raft/stream/%s/%s", stream_kind_path(kind), conn->peers->id_hex);
    int to_size = snprintf(to, sizeof(to), "X-Raft-To: %s\r\n\r\n", conn->peer->hex);
    enum status st = put_request(conn, "GET", path);
    if (st == ST_OK)
        st = out_append(&conn->out, slice_make(to, (size_t)to_size));
    conn->state = CONN_HEAD;
    return st;
}

void dialer_connected(struct conn *conn)
{
    int error = dial_finish(conn->stream->fd) == ST_OK ? 0 : errno;
    note_refusal(conn->peer, conn->dial, error);
    if (error != 0) {
        conn_fail(conn, strerrordesc_np(error));
        return;
    }
    enum status st = ST_OK;
    conn->state = CONN_WAITING;
    if (conn->dial == DIAL_PIPELINE) {
        conn_deadline(conn, PIPELINE_IDLE_NS);
        conn_watch(conn);
        pipeline_pump(conn->peer);
        return;
    }
    if (conn->dial == DIAL_PROBE) {
        probe_send(conn);
        return;
    }
    st = ask_for_stream(conn);
    if (st != ST_OK)
        conn_fail(conn, status_str(st));
    else
        conn_flush(conn);
}

void dialer_closed(struct conn *conn)
{
    struct peer *peer = conn->peer;
    struct dialer *d = dialer_of(conn);
    d->conn = NULL;
    if (conn->sending != NULL) {
        metrics_child_add(peer->sent_failures, 1);
        peer_unreachable(peer);
        outgoing_free(conn->sending);
        conn->sending = NULL;
    }
    if (conn->status == 200 || conn->status == 204) { /* it had worked */
        d->backoff_ns = DIAL_AGAIN_MIN_NS;
        d->next_ns = peer->peers->now_ns + (conn->dial == DIAL_PIPELINE ? 0 : DIAL_AGAIN_MIN_NS);
        peers_timer_at(peer->peers, d->next_ns);
        return;
    }
    wait_longer(peer, d);
    if (conn->dial == DIAL_PIPELINE)
        drop_pipeline(peer);
}

/* ---- streams ---- */

static void stream_refused(struct conn *conn, uint32_t status)
{
    struct peer *peer = conn->peer;
    struct dialer *d = dialer_of(conn);
    if (!d->is_refused)
        log_warn(status == 412
                     ? "request sent was ignored by remote peer due to cluster ID mismatch"
                     : "a peer refused a stream",
                 LOG_STR("remote-peer-id", peer->hex), LOG_U64("status", status),
                 LOG_STR("stream", stream_kind_path(conn->frames.kind)));
    d->is_refused = true;
    if (status == 410)
        conn->peers->owner.removed(conn->peers->owner.context, peer->id);
}

static enum status stream_head(struct conn *conn)
{
    struct http1_head head;
    enum status st = http1_parse_answer(window_slice(&conn->in), &head);
    if (st == ST_TRUNCATED)
        return ST_OK;
    if (st == ST_OK)
        st = http1_body_init(&conn->framing, &head, /* is_answer= */ true);
    if (st != ST_OK)
        return st;
    conn->status = head.status;
    window_consume(&conn->in, head.size);
    if (head.status != 200) {
        stream_refused(conn, head.status);
        conn_fail(conn, "the peer refused a stream");
        return ST_OK;
    }
    dialer_of(conn)->is_refused = false;
    conn->state = CONN_STREAM;
    log_info("established TCP streaming connection with remote peer",
             LOG_STR("stream-reader-type", stream_kind_path(conn->frames.kind)),
             LOG_HEX("local-member-id", conn->peers->id),
             LOG_STR("remote-peer-id", conn->peer->hex));
    peer_active(conn->peer);
    return ST_OK;
}

static enum status take_messages(struct conn *conn)
{
    for (;;) {
        struct raftpb_message message;
        bool has_message;
        size_t used;
        enum status st =
            frames_take(&conn->frames, window_slice(&conn->body), &used, &has_message, &message);
        if (st != ST_OK)
            return st == ST_TRUNCATED ? ST_OK : st;
        metrics_child_add(conn->peer->received_bytes, (int64_t)used);
        /* A MsgSnap without its store is of no use, and one for another member is not ours. */
        bool is_ours = has_message && message.message.to == conn->peers->id &&
                       message.message.type != RAFT_MSG_SNAP;
        if (is_ours && !received_add(conn->peers, &message))
            return ST_NO_MEMORY;
        if (has_message && !is_ours)
            raftpb_message_deinit(&message);
        window_consume(&conn->body, used);
    }
}

static enum status stream_bytes(struct conn *conn)
{
    conn->deadline_ns = conn->peers->now_ns + STREAM_SILENCE_NS;
    peers_timer_at(conn->peers, conn->deadline_ns);
    while (window_slice(&conn->in).len > 0) {
        struct slice in = window_slice(&conn->in), piece;
        size_t before = in.len;
        enum status st = http1_body_take(&conn->framing, &in, &piece);
        if (st == ST_OK)
            st = window_append(&conn->body, piece);
        if (st != ST_OK)
            return st;
        window_consume(&conn->in, before - in.len);
        if (conn->framing.ended)
            return ST_TRUNCATED;
    }
    return take_messages(conn);
}

/* ---- POSTs ---- */

static enum status put_post(struct conn *conn, const struct raft_message *message)
{
    char rest[96];
    int size = snprintf(rest, sizeof(rest),
                        "Content-Type: application/protobuf\r\nContent-Length: %zu\r\n\r\n",
                        raftpb_message_size(message, SLICE_EMPTY));
    enum status st = put_request(conn, "POST", "/raft");
    if (st == ST_OK)
        st = out_append(&conn->out, slice_make(rest, (size_t)size));
    return st != ST_OK ? st : raftpb_put_message(&conn->out, message, SLICE_EMPTY);
}

void pipeline_pump(struct peer *peer)
{
    struct conn *conn = peer->dialers[DIAL_PIPELINE].conn;
    if (conn == NULL || conn->state != CONN_WAITING || peer->pipeline_count == 0)
        return;
    conn->sending = CONTAINER_OF(list_pop_front(&peer->pipeline), struct outgoing, link);
    peer->pipeline_count--;
    conn->state = CONN_HEAD;
    conn_deadline(conn, PIPELINE_ANSWER_NS);
    enum status st = put_post(conn, &conn->sending->message);
    metrics_child_add(peer->sent_bytes, (int64_t)conn->out.bytes);
    if (st != ST_OK)
        conn_fail(conn, status_str(st));
    else
        conn_flush(conn);
}

static enum status post_done(struct conn *conn)
{
    struct peer *peer = conn->peer;
    if (conn->status == 403) /* never by accident: etcd answers so to removed members only */
        conn->peers->owner.removed(conn->peers->owner.context, peer->id);
    if (conn->status != 204)
        return ST_DROPPED;
    outgoing_free(conn->sending);
    conn->sending = NULL;
    conn->state = CONN_WAITING;
    peer->dialers[DIAL_PIPELINE].backoff_ns = DIAL_AGAIN_MIN_NS;
    peer_active(peer);
    conn_deadline(conn, PIPELINE_IDLE_NS);
    if (!conn->keeps_alive)
        conn_close(conn);
    else
        pipeline_pump(peer);
    return ST_OK;
}

/* ---- probes ---- */

void probe_send(struct conn *conn)
{
    conn->state = CONN_HEAD;
    conn->asked_ns = peers_now(conn->peers);
    conn_deadline(conn, conn->peers->dial_timeout_ns);
    enum status st = put_request(conn, "GET", "/raft/probing");
    if (st == ST_OK)
        st = out_append(&conn->out, SLICE("\r\n"));
    if (st != ST_OK)
        conn_fail(conn, status_str(st));
    else
        conn_flush(conn);
}

/* The other side's clock, from {"OK":true,"Now":"2006-01-02T15:04:05.999999999Z"}. */
static bool parse_now(struct slice body, int64_t *out_ms)
{
    char text[160];
    size_t size = min_size(body.len, sizeof(text) - 1);
    if (size > 0)
        memcpy(text, body.data, size);
    text[size] = '\0';
    const char *now = strstr(text, "\"Now\":\"");
    struct tm tm = {0};
    char *rest = now == NULL ? NULL : strptime(now + 7, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL)
        return false;
    int64_t offset_s = 0;
    rest += *rest == '.' ? 1 + strspn(rest + 1, "0123456789") : 0;
    if (*rest == '+' || *rest == '-') {
        unsigned hours = 0, minutes = 0;
        if (sscanf(rest + 1, "%2u:%2u", &hours, &minutes) != 2)
            return false;
        offset_s = (int64_t)(hours * 3600 + minutes * 60) * (*rest == '-' ? -1 : 1);
    }
    *out_ms = ((int64_t)timegm(&tm) - offset_s) * 1000;
    return true;
}

static enum status probe_done(struct conn *conn)
{
    uint64_t took = peers_now(conn->peers) - conn->asked_ns;
    int64_t theirs_ms;
    if (conn->status != 200)
        return ST_DROPPED;
    metrics_child_observe(conn->peer->round_trip, took);
    if (parse_now(window_slice(&conn->body), &theirs_ms)) {
        int64_t ours_ms = (int64_t)(clock_wall_ns(conn->peers->clock) / NS_PER_MS);
        int64_t drift_ms = ours_ms > theirs_ms ? ours_ms - theirs_ms : theirs_ms - ours_ms;
        /* Theirs was cut to whole seconds. */
        if (drift_ms > (int64_t)((PROBE_DRIFT_WARN_NS + NS_PER_S + took) / NS_PER_MS))
            log_warn("prober found high clock drift", LOG_STR("remote-peer-id", conn->peer->hex),
                     LOG_DURATION("clock-drift", drift_ms * (int64_t)NS_PER_MS),
                     LOG_DURATION("rtt", took));
    }
    window_consume(&conn->body, window_slice(&conn->body).len);
    dialer_of(conn)->backoff_ns = DIAL_AGAIN_MIN_NS;
    conn->state = CONN_WAITING;
    conn->deadline_ns = UINT64_MAX;
    peers_timer_at(conn->peers, conn->asked_ns + PROBE_EVERY_NS);
    if (!conn->keeps_alive)
        conn_close(conn);
    return ST_OK;
}

/* ---- answers ---- */

static enum status answer_head(struct conn *conn)
{
    struct http1_head head;
    enum status st = http1_parse_answer(window_slice(&conn->in), &head);
    if (st == ST_TRUNCATED)
        return ST_OK;
    if (st == ST_OK)
        st = http1_body_init(&conn->framing, &head, /* is_answer= */ true);
    if (st != ST_OK)
        return st;
    window_consume(&conn->in, head.size);
    if (head.status < 200)
        return ST_OK;
    conn->status = head.status;
    conn->keeps_alive = http1_keeps_alive(&head) && conn->framing.framing != HTTP1_TO_END;
    conn->state = CONN_BODY;
    return ST_OK;
}

static enum status answer_body(struct conn *conn)
{
    struct slice in = window_slice(&conn->in), piece;
    size_t before = in.len;
    enum status st = http1_body_take(&conn->framing, &in, &piece);
    if (st == ST_OK && window_slice(&conn->body).len + piece.len > REQUEST_BODY_BYTES_MAX)
        st = ST_TOO_BIG;
    if (st == ST_OK && conn->dial == DIAL_PROBE)
        st = window_append(&conn->body, piece);
    window_consume(&conn->in, before - in.len);
    if (st != ST_OK || !conn->framing.ended)
        return st;
    return conn->dial == DIAL_PROBE ? probe_done(conn) : post_done(conn);
}

enum status dialer_input(struct conn *conn)
{
    bool is_stream = conn->dial == DIAL_MSGAPP || conn->dial == DIAL_MESSAGE;
    enum status st = ST_OK;
    if (conn->state == CONN_HEAD)
        st = is_stream ? stream_head(conn) : answer_head(conn);
    if (st == ST_OK && conn->state == CONN_STREAM)
        return stream_bytes(conn);
    while (st == ST_OK && conn->state == CONN_BODY) {
        size_t before = window_slice(&conn->in).len;
        st = answer_body(conn);
        if (window_slice(&conn->in).len == before)
            break;
    }
    return st;
}
