#include "server/peers/peers_private.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/run/log.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum route {
    ROUTE_PROBING,
    ROUTE_SNAPSHOT,
    ROUTE_STREAM,
    ROUTE_RAFT,
    ROUTE_PROMOTE,
    ROUTE_HASHKV,
    ROUTE_MEMBERS,
    ROUTE_LEASES_INTERNAL,
    ROUTE_LEASES,
    ROUTE_DOWNGRADE_ENABLED,
    ROUTE_VERSION,
    ROUTES_COUNT,
};

static const struct route_info {
    const char *path;
    bool is_prefix;
    const char *method; /* NULL: any */
    const char *allow;
} routes[ROUTES_COUNT] = {
    [ROUTE_PROBING] = {"/raft/probing", false, NULL, NULL},
    [ROUTE_SNAPSHOT] = {"/raft/snapshot", false, "POST", "POST"},
    [ROUTE_STREAM] = {"/raft/stream/", true, "GET", "GET"},
    [ROUTE_RAFT] = {"/raft", false, "POST", "POST"},
    [ROUTE_PROMOTE] = {"/members/promote/", true, "POST", "POST"},
    [ROUTE_HASHKV] = {"/members/hashkv", false, "GET", "GET"},
    [ROUTE_MEMBERS] = {"/members", false, "GET", "GET"},
    [ROUTE_LEASES_INTERNAL] = {"/leases/internal", false, "POST", "POST"},
    [ROUTE_LEASES] = {"/leases", false, "POST", "POST"},
    [ROUTE_DOWNGRADE_ENABLED] = {"/downgrade/enabled", false, "GET", "GET"},
    [ROUTE_VERSION] = {"/version", false, "GET", "GET"},
};

/* ---- accepting ---- */

static void accept_one(struct peers *peers, int fd)
{
    struct byte_stream *stream = NULL;
    if (peers->accepted_count >= ACCEPTED_MAX) {
        close(fd);
        return;
    }
    dial_tune(fd);
    if (peers->streams->open(peers->streams->context, fd, NULL, &stream) != ST_OK)
        return;
    struct conn *conn = conn_new(peers, stream, CONN_ACCEPTED, CONN_HEAD);
    if (conn != NULL)
        conn_deadline(conn, ACCEPTED_IDLE_NS);
}

void port_accept(struct peers *peers, int listen_fd)
{
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(peers, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) { /* no descriptors, no memory */
            log_warn("cannot accept a peer's connection", LOG_ERRNO(errno));
            peers->accept_again_ns = peers->now_ns + DIAL_AGAIN_MIN_NS;
            peers_timer_at(peers, peers->accept_again_ns);
        }
        return;
    }
}

/* ---- checks ---- */

static void refuse(struct conn *conn, uint32_t status, struct slice text, bool has_version)
{
    answer_send(
        conn, &(struct answer){
                  .status = status, .has_cluster = true, .has_version = has_version, .body = text});
}

struct version {
    uint32_t major, minor, patch;
};

/* X.Y.Z, anything may follow. */
static bool parse_version(struct slice s, struct version *out)
{
    uint32_t *parts[] = {&out->major, &out->minor, &out->patch};
    size_t at = 0;
    for (size_t part = 0; part < 3; part++) {
        size_t begin = at;
        *parts[part] = 0;
        while (at < s.len && s.data[at] >= '0' && s.data[at] <= '9' && at - begin < 6)
            *parts[part] = *parts[part] * 10 + s.data[at++] - '0';
        if (at == begin || (part < 2 && (at == s.len || s.data[at++] != '.')))
            return false;
    }
    return at == s.len || s.data[at] == '-' || s.data[at] == '+';
}

static bool is_older(struct version a, struct version b)
{
    return a.major != b.major ? a.major < b.major : a.minor < b.minor;
}

/* A header that is not there stands for 2.0.0, from before there were any. */
static bool version_of(const struct http1_head *head, const char *name, struct version *out)
{
    struct slice text;
    if (!http1_find(head, name, &text) || text.len == 0)
        text = SLICE("2.0.0");
    return parse_version(text, out);
}

/* Versions first, then the cluster; answers and returns false if the sender is not one of ours. */
static bool check_sender(struct conn *conn, const struct http1_head *head, bool has_version)
{
    const struct peers *peers = conn->peers;
    struct version theirs, their_min, ours, our_min;
    bool ours_are_fine = parse_version(slice_from_str(peers->version), &ours) &&
                         parse_version(slice_from_str(peers->min_version), &our_min);
    ASSERT(ours_are_fine);
    if (!version_of(head, "X-Server-Version", &theirs) ||
        !version_of(head, "X-Min-Cluster-Version", &their_min)) {
        conn_close(conn); /* etcd gives no answer to what is no version */
        return false;
    }
    if (is_older(theirs, our_min) || is_older(ours, their_min)) {
        log_warn("request version incompatibility", LOG_HEX("local-member-id", peers->id));
        refuse(conn, 412, SLICE("incompatible version\n"), has_version);
        return false;
    }
    struct slice cluster;
    http1_find(head, "X-Etcd-Cluster-Id", &cluster);
    if (!slice_eq(cluster, slice_from_str(peers->cluster_hex))) { /* as text */
        log_warn("request cluster ID mismatch", LOG_STR("local-cluster-id", peers->cluster_hex),
                 LOG_SLICE("remote-cluster-id", cluster));
        refuse(conn, 412, SLICE("cluster ID mismatch\n"), has_version);
        return false;
    }
    return true;
}

static bool parse_id(struct slice s, uint32_t base, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i], lower = c | 0x20;
        uint32_t digit = 99;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)c - '0';
        else if (lower >= 'a' && lower <= 'f')
            digit = (uint32_t)lower - 'a' + 10;
        if (digit >= base || *out > (UINT64_MAX - digit) / base)
            return false;
        *out = *out * base + digit;
    }
    return s.len > 0;
}

static void note_sender(struct conn *conn, const struct http1_head *head)
{
    struct slice from, urls;
    uint64_t id;
    if (http1_find(head, "X-Server-From", &from) && parse_id(from, 16, &id) &&
        http1_find(head, "X-Peerurls", &urls))
        peers_add_remote(conn->peers, id, urls);
}

/* ---- streams ---- */

static struct slice path_of(const struct http1_head *head)
{
    struct slice path = head->target;
    const uint8_t *query = memchr(path.data, '?', path.len);
    if (query != NULL)
        path.len = (size_t)(query - path.data);
    return path;
}

/* /raft/stream/<kind>/<id>; false: answered. */
static bool parse_stream_path(struct conn *conn, struct slice path, enum stream_kind *kind_out,
                              uint64_t *id_out)
{
    for (enum stream_kind kind = STREAM_MSGAPP; kind < STREAM_KINDS; kind++) {
        char prefix[32];
        snprintf(prefix, sizeof(prefix), "/raft/stream/%s/", stream_kind_path(kind));
        size_t size = strlen(prefix);
        if (!slice_has_prefix(path, slice_make(prefix, size)))
            continue;
        *kind_out = kind;
        if (parse_id(slice_make(path.data + size, path.len - size), 16, id_out))
            return true;
        refuse(conn, 404, SLICE("invalid from\n"), /* has_version= */ true);
        return false;
    }
    refuse(conn, 404, SLICE("invalid path\n"), /* has_version= */ true);
    return false;
}

static void attach(struct conn *conn, struct peer *peer, enum stream_kind kind)
{
    if (peer->writers[kind] != NULL) {
        log_info("closed TCP streaming connection with remote peer: a new one came",
                 LOG_STR("stream-writer-type", stream_kind_path(kind)),
                 LOG_STR("remote-peer-id", peer->hex));
        conn_close(peer->writers[kind]);
    }
    conn->role = CONN_WRITER;
    conn->peer = peer;
    conn->frames = (struct frames){.kind = kind};
    peer->writers[kind] = conn;
    log_info("established TCP streaming connection with remote peer",
             LOG_STR("stream-writer-type", stream_kind_path(kind)),
             LOG_HEX("local-member-id", conn->peers->id), LOG_STR("remote-peer-id", peer->hex));
    peer_active(peer);
    /* It is there: what we wait to dial to it need not wait longer. */
    for (uint32_t i = 0; i < DIAL_KINDS; i++) {
        if (peer->dialers[i].conn == NULL && peer->dialers[i].attempts > 0)
            peer->dialers[i].next_ns = conn->peers->now_ns;
    }
    peers_timer_at(conn->peers, conn->peers->now_ns);
    answer_stream(conn);
}

static void begin_stream(struct conn *conn, const struct http1_head *head)
{
    enum stream_kind kind;
    uint64_t from;
    struct slice to;
    if (!check_sender(conn, head, /* has_version= */ true) ||
        !parse_stream_path(conn, path_of(head), &kind, &from))
        return;
    if (peers_is_removed(conn->peers, from)) {
        refuse(conn, 410, SLICE("removed member\n"), /* has_version= */ true);
        return;
    }
    struct peer *peer = peers_find(conn->peers, from);
    if (peer == NULL)
        note_sender(conn, head);
    http1_find(head, "X-Raft-To", &to);
    /* One that was just added may not be listed yet: it comes again. */
    if (peer == NULL || atomic_load(&peer->is_remote) || !peer->is_listed)
        refuse(conn, 404, SLICE("error sender not found\n"), /* has_version= */ true);
    else if (!slice_eq(to, slice_from_str(conn->peers->id_hex)))
        refuse(conn, 412, SLICE("to field mismatch\n"), /* has_version= */ true);
    else
        attach(conn, peer, kind);
    peer_unref(peer); /* the list of members has one, too */
}

/* ---- messages by POST ---- */

static void take_post(struct conn *conn)
{
    struct raftpb_message message;
    struct slice body = window_slice(&conn->body);
    struct peers *peers = conn->peers;
    enum status st = raftpb_decode_message(body, &message);
    if (st == ST_INVALID) {
        refuse(conn, 400, SLICE("error unmarshalling raft message\n"), /* has_version= */ false);
        return;
    }
    if (st == ST_OK) {
        struct peer *peer = peers_find(peers, message.message.from);
        metrics_child_add(peer == NULL ? peers->received_from_nobody : peer->received_bytes,
                          (int64_t)body.len);
        peer_unref(peer);
        bool is_ours = message.message.to == peers->id && message.message.type != RAFT_MSG_SNAP &&
                       !peers_is_removed(peers, message.message.from);
        if (!is_ours)
            raftpb_message_deinit(&message);
        if (!is_ours || !received_add(peers, &message))
            st = ST_DROPPED;
    }
    if (st != ST_OK)
        answer_cut(conn, SLICE("error processing raft message\n"));
    else
        answer_send(conn, &(struct answer){.status = 204, .has_cluster = true});
}

/* ---- requests ---- */

static void begin_promote(struct conn *conn, struct slice path)
{
    size_t prefix = strlen(routes[ROUTE_PROMOTE].path);
    struct slice id = slice_make(path.data + prefix, path.len - prefix);
    if (parse_id(id, 10, &conn->argument)) {
        conn->state = CONN_BODY;
        return;
    }
    char text[96];
    snprintf(text, sizeof(text), "member %.*s not found in cluster\n", (int)min_size(id.len, 32),
             (const char *)id.data);
    refuse(conn, 404, slice_from_str(text), /* has_version= */ false);
}

/* A body to be read follows, or the request is answered here. */
static void begin_request(struct conn *conn, const struct http1_head *head)
{
    struct slice cluster;
    switch ((enum route)conn->route) {
    case ROUTE_STREAM:
        begin_stream(conn, head);
        return;
    case ROUTE_RAFT:
        if (!check_sender(conn, head, /* has_version= */ false))
            return;
        note_sender(conn, head);
        break;
    case ROUTE_SNAPSHOT:
        if (!check_sender(conn, head, /* has_version= */ false))
            return;
        note_sender(conn, head);
        window_consume(&conn->in, head->size); /* head is of no more use */
        transfer_receive(conn);
        return;
    case ROUTE_PROMOTE:
        begin_promote(conn, path_of(head));
        return;
    case ROUTE_HASHKV:
        if (!http1_find(head, "X-Etcd-Cluster-Id", &cluster) ||
            slice_eq(cluster, slice_from_str(conn->peers->cluster_hex)))
            break;
        answer_send(conn, &(struct answer){.status = 412, .body = SLICE("cluster ID mismatch\n")});
        return;
    case ROUTE_PROBING:
    case ROUTE_MEMBERS:
    case ROUTE_LEASES_INTERNAL:
    case ROUTE_LEASES:
    case ROUTE_DOWNGRADE_ENABLED:
    case ROUTE_VERSION:
    case ROUTES_COUNT:
        break;
    }
    conn->state = CONN_BODY;
}

static void request_whole(struct conn *conn)
{
    switch ((enum route)conn->route) {
    case ROUTE_RAFT:
        take_post(conn);
        return;
    case ROUTE_PROBING:
        answer_probe(conn);
        return;
    case ROUTE_PROMOTE:
        request_begin(conn, PEER_REQUEST_PROMOTE);
        return;
    case ROUTE_HASHKV:
        request_begin(conn, PEER_REQUEST_HASHKV);
        return;
    case ROUTE_MEMBERS:
        request_begin(conn, PEER_REQUEST_MEMBERS);
        return;
    case ROUTE_LEASES_INTERNAL:
        request_begin(conn, PEER_REQUEST_LEASES_INTERNAL);
        return;
    case ROUTE_LEASES:
        request_begin(conn, PEER_REQUEST_LEASES);
        return;
    case ROUTE_DOWNGRADE_ENABLED:
        request_begin(conn, PEER_REQUEST_DOWNGRADE_ENABLED);
        return;
    case ROUTE_VERSION:
        request_begin(conn, PEER_REQUEST_VERSION);
        return;
    case ROUTE_STREAM:
    case ROUTE_SNAPSHOT:
    case ROUTES_COUNT:
        break;
    }
    ASSERT(false);
}

static uint8_t find_route(struct slice path)
{
    for (uint8_t route = 0; route < ROUTES_COUNT; route++) {
        struct slice want = slice_from_str(routes[route].path);
        if (routes[route].is_prefix ? slice_has_prefix(path, want) : slice_eq(path, want))
            return route;
    }
    return ROUTES_COUNT;
}

static void route_request(struct conn *conn, const struct http1_head *head)
{
    conn->keeps_alive = http1_keeps_alive(head);
    conn->is_head = http1_equals(head->method, "HEAD");
    conn->argument = 0;
    conn->route = find_route(path_of(head));
    if (conn->route == ROUTES_COUNT) {
        answer_send(conn, &(struct answer){.status = 404, .body = SLICE("404 page not found\n")});
        return;
    }
    const struct route_info *route = &routes[conn->route];
    if (route->method != NULL && !slice_eq(head->method, slice_from_str(route->method))) {
        answer_send(conn, &(struct answer){.status = 405,
                                           .allow = route->allow,
                                           .body = SLICE("Method Not Allowed\n")});
        return;
    }
    begin_request(conn, head);
}

static enum status take_head(struct conn *conn)
{
    struct http1_head head;
    enum status st = http1_parse_request(window_slice(&conn->in), &head);
    if (st == ST_TRUNCATED)
        return ST_OK;
    if (st == ST_OK)
        st = http1_body_init(&conn->framing, &head, /* is_answer= */ false);
    if (st != ST_OK) {
        conn->keeps_alive = false;
        answer_send(conn, &(struct answer){.status = 400, .body = SLICE("400 Bad Request\n")});
        window_consume(&conn->in, window_slice(&conn->in).len);
        return ST_OK;
    }
    conn_deadline(conn, ACCEPTED_READ_NS);
    size_t in_size = window_slice(&conn->in).len;
    route_request(conn, &head);
    /* A snapshot's head is taken off before the rest changes hands. */
    if (conn->state != CONN_DEAD && window_slice(&conn->in).len == in_size)
        window_consume(&conn->in, head.size);
    return ST_OK;
}

static enum status take_body(struct conn *conn)
{
    struct slice in = window_slice(&conn->in), piece;
    size_t before = in.len;
    size_t bytes_max = conn->route == ROUTE_RAFT ? FRAME_BYTES_MAX : REQUEST_BODY_BYTES_MAX;
    enum status st = http1_body_take(&conn->framing, &in, &piece);
    if (st == ST_OK && piece.len > bytes_max - window_slice(&conn->body).len)
        st = ST_TOO_BIG;
    if (st == ST_OK)
        st = window_append(&conn->body, piece);
    if (st != ST_OK)
        return st;
    window_consume(&conn->in, before - in.len);
    conn_deadline(conn, ACCEPTED_READ_NS);
    if (conn->framing.ended)
        request_whole(conn);
    return ST_OK;
}

enum status port_input(struct conn *conn)
{
    for (;;) {
        size_t before = window_slice(&conn->in).len;
        enum conn_state state = conn->state;
        enum status st = ST_OK;
        if (state == CONN_HEAD && before > 0)
            st = take_head(conn);
        else if (state == CONN_BODY)
            st = take_body(conn);
        else if (state == CONN_CLOSING || state == CONN_DRAINING)
            window_consume(&conn->in, before);
        if (st != ST_OK || conn->role != CONN_ACCEPTED)
            return st;
        if (conn->state == state && window_slice(&conn->in).len == before)
            return ST_OK;
        if (conn->state == CONN_DEAD)
            return ST_OK;
    }
}
