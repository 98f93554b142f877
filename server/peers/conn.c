#include "server/peers/peers_private.h"

#include "base/minmax.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void conn_watch(struct conn *conn)
{
    bool reads = true;
    if (conn->state == CONN_CONNECTING)
        reads = false;
    else if (conn->role == CONN_ACCEPTED)
        reads = conn->state != CONN_WAITING && conn->state != CONN_CLOSING;
    /* Messages wait in the socket while consensus has enough of them. */
    if (conn->peers->is_full && (conn->state == CONN_BODY || conn->state == CONN_STREAM) &&
        conn->role != CONN_WRITER)
        reads = false;
    uint32_t events = reads ? EPOLLIN : 0;
    if (conn->out.bytes > 0 || conn->state == CONN_CONNECTING)
        events |= EPOLLOUT;
    if (events == conn->events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(conn->peers->epoll_fd, EPOLL_CTL_MOD, conn->stream->fd, &event) == 0)
        conn->events = events;
}

void conn_deadline(struct conn *conn, uint64_t after_ns)
{
    conn->deadline_ns = after_ns == UINT64_MAX ? UINT64_MAX : conn->peers->now_ns + after_ns;
    peers_timer_at(conn->peers, conn->deadline_ns);
}

struct conn *conn_new(struct peers *peers, struct byte_stream *stream, enum conn_role role,
                      enum conn_state state)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    struct epoll_event event = {.events = state == CONN_CONNECTING ? EPOLLOUT : EPOLLIN,
                                .data.ptr = conn};
    if (conn == NULL || epoll_ctl(peers->epoll_fd, EPOLL_CTL_ADD, stream->fd, &event) != 0) {
        byte_stream_close(stream);
        free(conn);
        return NULL;
    }
    conn->peers = peers;
    conn->stream = stream;
    conn->role = role;
    conn->state = state;
    conn->events = event.events;
    conn->deadline_ns = UINT64_MAX;
    conn->heartbeat_ns = UINT64_MAX;
    out_init(&conn->out);
    list_push_back(&peers->conns, &conn->link);
    if (role == CONN_ACCEPTED)
        peers->accepted_count++;
    return conn;
}

/* Whoever knows the connection forgets it. */
static void detach(struct conn *conn)
{
    struct peers *peers = conn->peers;
    conn->state = CONN_DEAD;
    list_remove(&conn->link);
    list_push_back(&peers->dead, &conn->link);
    if (conn->role != CONN_DIALLED)
        peers->accepted_count--;
    if (conn->request != NULL)
        conn->request->conn = NULL;
    conn->request = NULL;
    if (conn->role == CONN_WRITER && conn->peer->writers[conn->frames.kind] == conn)
        conn->peer->writers[conn->frames.kind] = NULL;
    if (conn->role == CONN_DIALLED)
        dialer_closed(conn);
}

void conn_close(struct conn *conn)
{
    if (conn->state == CONN_DEAD)
        return;
    detach(conn);
    byte_stream_close(conn->stream); /* which takes it out of epoll, too */
    conn->stream = NULL;
}

void conn_release(struct conn *conn)
{
    epoll_ctl(conn->peers->epoll_fd, EPOLL_CTL_DEL, conn->stream->fd, NULL);
    detach(conn);
}

void conn_free(struct conn *conn)
{
    list_remove(&conn->link);
    out_reset(&conn->out);
    window_deinit(&conn->in);
    window_deinit(&conn->body);
    free(conn);
}

void conn_fail(struct conn *conn, const char *why)
{
    if (conn->state == CONN_DEAD)
        return;
    struct peer *peer = conn->peer;
    bool had_messages = conn->role == CONN_WRITER && conn->out.bytes > 0;
    /* Servers close connections that nothing is asked over. */
    bool was_idle = conn->dial == DIAL_PROBE || conn->state == CONN_WAITING;
    conn_close(conn);
    if (conn->role == CONN_WRITER) {
        peer_inactive(peer, why);
        if (had_messages) {
            metrics_child_add(peer->sent_failures, 1);
            peer_unreachable(peer);
        }
    } else if (conn->role == CONN_DIALLED && !was_idle)
        peer_inactive(peer, why);
}

/* Everything is out: what comes next. */
static void flushed(struct conn *conn)
{
    if (conn->role == CONN_WRITER)
        conn->deadline_ns = UINT64_MAX;
    if (conn->role == CONN_ACCEPTED && conn->state == CONN_HEAD)
        conn_deadline(conn, ACCEPTED_IDLE_NS);
    if (conn->state != CONN_CLOSING)
        return;
    /* Closing with unread input would cut the answer off at the other side. */
    shutdown(conn->stream->fd, SHUT_WR);
    conn->state = CONN_DRAINING;
    conn_deadline(conn, NS_PER_S);
}

void conn_flush(struct conn *conn)
{
    if (conn->state == CONN_DEAD || conn->state == CONN_CONNECTING)
        return;
    if (conn->out.bytes > 0) {
        size_t written;
        enum status st = out_write(&conn->out, conn->stream, &written);
        if (conn->role == CONN_WRITER) {
            metrics_child_add(conn->peer->sent_bytes, (int64_t)written);
            conn->heartbeat_ns = conn->peers->now_ns + LINK_HEARTBEAT_NS;
            peers_timer_at(conn->peers, conn->heartbeat_ns);
        }
        if (st != ST_OK && st != ST_BUSY) {
            conn_fail(conn, "the connection broke while writing");
            return;
        }
        if (conn->out.bytes > 0 && (written > 0 || conn->deadline_ns == UINT64_MAX))
            conn_deadline(conn, STREAM_SILENCE_NS);
    }
    if (conn->out.bytes == 0)
        flushed(conn);
    conn_watch(conn);
}

static enum status input(struct conn *conn)
{
    switch (conn->role) {
    case CONN_ACCEPTED:
        return port_input(conn);
    case CONN_DIALLED:
        return dialer_input(conn);
    case CONN_WRITER:
        window_consume(&conn->in, window_slice(&conn->in).len); /* the dialler says nothing */
        return ST_OK;
    }
    return ST_INVALID;
}

/* A body up to the end of the connection needs no looking at: it is read where it is used. */
static struct window *read_target(struct conn *conn)
{
    bool is_raw = conn->role == CONN_DIALLED && conn->state == CONN_STREAM &&
                  conn->framing.framing == HTTP1_TO_END && window_slice(&conn->in).len == 0;
    return is_raw ? &conn->body : &conn->in;
}

static enum status read_some(struct conn *conn, size_t *size_out)
{
    struct window *window = read_target(conn);
    enum status st = window_reserve(window, READ_BYTES);
    if (st != ST_OK)
        return st;
    st = byte_stream_read(conn->stream, window->data + window->end, window->capacity - window->end,
                          size_out);
    if (st == ST_OK)
        window->end += *size_out;
    return st;
}

static void on_readable(struct conn *conn)
{
    conn->again = false;
    for (size_t turn = 0; turn < READ_TURN_BYTES;) {
        size_t size = 0;
        enum status st = read_some(conn, &size);
        if (st == ST_BUSY)
            return;
        if (st == ST_OK && conn->state == CONN_DRAINING) {
            window_consume(&conn->in, window_slice(&conn->in).len);
        } else if (st == ST_OK) {
            st = input(conn);
        }
        if (st != ST_OK) {
            conn_fail(conn,
                      st == ST_TRUNCATED ? "the other side closed the connection" : status_str(st));
            return;
        }
        if (conn->state == CONN_DEAD || (conn->events & EPOLLIN) == 0)
            return;
        turn += size;
    }
    conn->again = true;
    conn->peers->any_again = true;
}

void conn_events(struct conn *conn, uint32_t events)
{
    if (conn->state == CONN_DEAD)
        return;
    if (conn->state == CONN_CONNECTING) {
        dialer_connected(conn);
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && (conn->events & EPOLLIN) != 0)
        on_readable(conn);
    else if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        conn_fail(conn, "the connection broke");
    if (conn->state != CONN_DEAD && (events & EPOLLOUT) != 0)
        conn_flush(conn);
}
