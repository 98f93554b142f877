#include "base/bytes.h"
#include "base/minmax.h"
#include "server/peers/link.h"
#include "server/peers/peers_private.h"
#include "server/run/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

/* The body of POST /raft/snapshot: [8 length][raftpb.Message][the file]. */
#define LENGTH_BYTES 8U
#define MESSAGE_BYTES_MAX (64U << 20) /* of the MsgSnap: its data is the list of members */
#define PATH_BYTES 4200

struct transfer {
    struct list_node link; /* in peers->transfers */
    struct peers *peers;
    pthread_t thread;
    atomic_bool is_done;
    bool is_incoming;
    uint32_t number;
    uint64_t begun_ns;
    struct link wire;
    /* Leaving. */
    raft_id to;
    char url[URL_BYTES_MAX];
    struct snapshot_source *source;
    struct out head; /* the message's length and bytes */
    /* Coming in. */
    struct http1_body body;
    bool is_begun; /* bytes are in the file */
    char path[PATH_BYTES];
    int fd;
    struct raftpb_message message;
    struct window message_bytes; /* message borrows from them */
    struct answer answer;
};

static void transfer_free(struct transfer *t)
{
    if (t == NULL)
        return;
    link_close(&t->wire);
    out_reset(&t->head);
    raftpb_message_deinit(&t->message);
    window_deinit(&t->message_bytes);
    free(t);
}

static struct transfer *transfer_new(struct peers *peers, bool is_incoming)
{
    struct transfer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->peers = peers;
    t->is_incoming = is_incoming;
    t->fd = -1;
    t->begun_ns = peers_now(peers);
    t->wire.silence_ns = TRANSFER_SILENCE_NS;
    t->wire.deadline_ns = UINT64_MAX;
    t->wire.is_stopping = &peers->is_stopping;
    out_init(&t->head);
    list_init(&t->link);
    return t;
}

/* Threads that have ended are joined when the next one begins, the rest when all stops. */
void transfers_join(struct peers *peers, bool all)
{
    struct list_node ended;
    list_init(&ended);
    pthread_mutex_lock(&peers->lock);
    for (struct list_node *node = peers->transfers.next, *next; node != &peers->transfers;
         node = next) {
        next = node->next;
        if (all || atomic_load(&CONTAINER_OF(node, struct transfer, link)->is_done)) {
            list_remove(node);
            list_push_back(&ended, node);
        }
    }
    pthread_mutex_unlock(&peers->lock);
    for (struct list_node *node; (node = list_pop_front(&ended)) != NULL;) {
        struct transfer *t = CONTAINER_OF(node, struct transfer, link);
        pthread_join(t->thread, NULL);
        transfer_free(t);
    }
}

static uint32_t *count_of(struct transfer *t)
{
    return t->is_incoming ? &t->peers->transfers_in : &t->peers->transfers_out;
}

static void count_done(struct transfer *t)
{
    pthread_mutex_lock(&t->peers->lock);
    (*count_of(t))--;
    pthread_mutex_unlock(&t->peers->lock);
    atomic_store(&t->is_done, true);
}

/* Takes t only if it is true. */
static bool transfer_begin(struct transfer *t, void *(*main)(void *context))
{
    struct peers *peers = t->peers;
    uint32_t limit = t->is_incoming ? TRANSFERS_IN_MAX : TRANSFERS_OUT_MAX;
    transfers_join(peers, /* all= */ false);
    pthread_mutex_lock(&peers->lock);
    bool begins = *count_of(t) < limit && !atomic_load(&peers->is_stopping);
    t->number = peers->transfers_begun++;
    if (begins && pthread_create(&t->thread, NULL, main, t) == 0) {
        list_push_back(&peers->transfers, &t->link);
        (*count_of(t))++;
    } else
        begins = false;
    pthread_mutex_unlock(&peers->lock);
    return begins;
}

/* ---- leaving ---- */

/* Sleeps so that what has left since the start stays below the limit. */
static enum status throttle(const struct transfer *t, uint64_t sent)
{
    uint64_t rate = t->peers->snapshot_bytes_per_s;
    if (rate == 0)
        return ST_OK;
    uint64_t due_ns = t->begun_ns + sent / rate * NS_PER_S + sent % rate * NS_PER_S / rate;
    for (;;) {
        uint64_t now = peers_now(t->peers);
        if (atomic_load(&t->peers->is_stopping))
            return ST_CANCELED;
        if (now >= due_ns)
            return ST_OK;
        uint64_t wait_ns = min_u64(due_ns - now, 100 * NS_PER_MS);
        nanosleep(&(struct timespec){.tv_nsec = (long)wait_ns}, NULL);
    }
}

static enum status send_head(struct transfer *t, const struct peer_url *url)
{
    struct out out;
    out_init(&out);
    char host[URL_BYTES_MAX], rest[128];
    snprintf(host, sizeof(host), url->is_ipv6 ? "[%s]:%s" : "%s:%s", url->host, url->port);
    int size = snprintf(rest, sizeof(rest),
                        "Content-Type: application/octet-stream\r\nContent-Length: %" PRIu64
                        "\r\nConnection: close\r\n\r\n",
                        t->head.bytes + t->source->size);
    enum status st = head_put(&out, t->peers, "POST", "/raft/snapshot", host);
    if (st == ST_OK)
        st = out_append(&out, slice_make(rest, (size_t)size));
    if (st == ST_OK)
        st = link_write(&t->wire, &out);
    if (st == ST_OK)
        st = link_write(&t->wire, &t->head);
    out_reset(&out);
    return st;
}

static enum status send_file(struct transfer *t)
{
    struct out out;
    out_init(&out);
    uint64_t sent = 0;
    enum status st = ST_OK;
    while (st == ST_OK) {
        size_t size = 0;
        uint8_t *room = out_reserve(&out, TRANSFER_CHUNK_BYTES);
        st = room == NULL ? ST_NO_MEMORY
                          : t->source->read(t->source, room, TRANSFER_CHUNK_BYTES, &size);
        if (st != ST_OK || size == 0)
            break;
        out_commit(&out, size);
        sent += size;
        if (sent > t->source->size)
            st = ST_INVALID;
        else
            st = link_write(&t->wire, &out);
        if (st == ST_OK)
            st = throttle(t, sent);
    }
    out_reset(&out);
    return st == ST_OK && sent != t->source->size ? ST_TRUNCATED : st;
}

static enum status send_all(struct transfer *t)
{
    struct peer_url url;
    enum status st = peer_url_parse(t->url, &url);
    if (st == ST_OK)
        st = link_connect(&t->wire, &url, t->peers->streams);
    if (st == ST_OK)
        st = send_head(t, &url);
    if (st == ST_OK)
        st = send_file(t);
    if (st != ST_OK)
        return st;
    struct http1_head head;
    t->wire.silence_ns = TRANSFER_ANSWER_NS; /* the receiver waits for its disk */
    st = link_read_answer(&t->wire, &head);
    if (st == ST_OK && head.status != 204)
        st = ST_DROPPED;
    return st;
}

static void count_sent(const struct transfer *t, enum status st)
{
    char hex[17];
    snprintf(hex, sizeof(hex), "%" PRIx64, t->to);
    const char *const to[] = {"To", hex, NULL};
    uint64_t took = peers_now(t->peers) - t->begun_ns;
    metrics_child_add(metrics_child(METRIC_SNAPSHOT_SENDING, to), -1);
    if (st == ST_OK) {
        metrics_child_add(metrics_child(METRIC_SNAPSHOT_SENT, to), 1);
        metrics_child_observe(metrics_histogram_child(METRIC_SNAPSHOT_SEND, to), took);
        metrics_child_add(metrics_child(METRIC_PEER_SENT_BYTES, to), (int64_t)t->source->size);
        log_info("sent database snapshot", LOG_STR("remote-peer-id", hex),
                 LOG_U64("bytes", t->source->size), LOG_DURATION("took", took));
        return;
    }
    metrics_child_add(metrics_child(METRIC_SNAPSHOT_SEND_FAILURES, to), 1);
    log_warn("failed to send database snapshot", LOG_STR("remote-peer-id", hex),
             LOG_U64("bytes", t->source->size), LOG_DURATION("took", took), LOG_STATUS(st));
}

static void *send_main(void *context)
{
    struct transfer *t = context;
    struct peers *peers = t->peers;
    char hex[17];
    snprintf(hex, sizeof(hex), "%" PRIx64, t->to);
    metrics_child_add(
        metrics_child(METRIC_SNAPSHOT_SENDING, (const char *const[]){"To", hex, NULL}), 1);
    enum status st = send_all(t);
    link_close(&t->wire); /* at once: so that the receiver gives up what was cut off */
    count_sent(t, st);
    t->source->close(t->source);
    t->source = NULL;
    peers->owner.snapshot_sent(peers->owner.context, t->to, st == ST_OK);
    count_done(t);
    return NULL;
}

static void not_sent(struct peers *peers, raft_id to, struct snapshot_source *source)
{
    source->close(source);
    struct peer_command *command = calloc(1, sizeof(*command));
    if (command == NULL)
        return; /* raft gives a transfer up by itself, later */
    command->command.kind = COMMAND_UNSENT;
    command->id = to;
    peers_push(peers, &command->command);
}

static enum status put_head(struct transfer *t, const struct raft_message *message)
{
    uint8_t *room = out_reserve(&t->head, LENGTH_BYTES);
    if (room == NULL)
        return ST_NO_MEMORY;
    put_be64(room, raftpb_message_size(message, t->source->data));
    out_commit(&t->head, LENGTH_BYTES);
    return raftpb_put_message(&t->head, message, t->source->data);
}

void transfer_send(struct peers *peers, const struct raft_message *message,
                   struct snapshot_source *source)
{
    struct peer *peer = peers_find(peers, message->to);
    struct transfer *t = transfer_new(peers, /* is_incoming= */ false);
    bool begins = peer != NULL && t != NULL;
    if (begins) {
        t->source = source;
        t->to = message->to;
        /* Another URL with each attempt. */
        begins = peer_url(peer, peers->transfers_begun, t->url) > 0 &&
                 put_head(t, message) == ST_OK && transfer_begin(t, send_main);
    }
    peer_unref(peer);
    if (begins)
        return;
    transfer_free(t);
    not_sent(peers, message->to, source);
}

/* ---- coming in ---- */

static enum status fail(struct transfer *t, uint32_t status, struct slice text, enum status st)
{
    t->answer = (struct answer){.status = status, .has_cluster = true, .body = text};
    return st;
}

/* The next run of the body; empty at its end. It is borrowed from the link until the next call. */
static enum status next_piece(struct transfer *t, struct slice *piece_out)
{
    for (;;) {
        struct slice in = window_slice(&t->wire.in);
        size_t before = in.len;
        enum status st = http1_body_take(&t->body, &in, piece_out);
        if (st != ST_OK)
            return st;
        window_consume(&t->wire.in, before - in.len);
        if (piece_out->len > 0 || t->body.ended)
            return ST_OK;
        st = link_read(&t->wire);
        if (st != ST_OK)
            return st;
    }
}

static enum status open_part(struct transfer *t)
{
    snprintf(t->path, sizeof(t->path), "%s/%016" PRIx64 "-%u.part", t->peers->snap_dir,
             t->message.snapshot->last.index, t->number);
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (t->fd >= 0)
        return ST_OK;
    log_warn("cannot create the file for a snapshot", LOG_STR("path", t->path), LOG_ERRNO(errno));
    return fail(t, 500, SLICE("failed to save KV snapshot\n"), ST_IO);
}

static enum status write_part(struct transfer *t, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t put = write(t->fd, bytes.data, bytes.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            enum status st = errno == ENOSPC ? ST_NO_SPACE : ST_IO;
            log_warn("cannot write a snapshot", LOG_STR("path", t->path), LOG_ERRNO(errno));
            return fail(t, 500, SLICE("failed to save KV snapshot\n"), st);
        }
        bytes = slice_make(bytes.data + put, bytes.len - (size_t)put);
    }
    return ST_OK;
}

/* The message has come: is it one that a store follows? */
static enum status check_message(struct transfer *t, struct slice bytes)
{
    struct raft_message *m = &t->message.message;
    if (raftpb_decode_message(bytes, &t->message) != ST_OK)
        return fail(t, 400, SLICE("failed to decode raft message\n"), ST_INVALID);
    if (m->type != RAFT_MSG_SNAP || m->snapshot == NULL)
        return fail(t, 400, SLICE("wrong raft message type\n"), ST_INVALID);
    if (m->to != t->peers->id || peers_is_removed(t->peers, m->from))
        return fail(t, 500, SLICE("failed to process raft message (not for this member)\n"),
                    ST_INVALID);
    return open_part(t);
}

static enum status take_message(struct transfer *t, struct slice *piece)
{
    enum status st = window_append(&t->message_bytes, *piece);
    struct slice bytes = window_slice(&t->message_bytes);
    *piece = SLICE_EMPTY;
    if (st != ST_OK || bytes.len < LENGTH_BYTES)
        return st;
    uint64_t size = get_be64(bytes.data);
    if (size > MESSAGE_BYTES_MAX)
        return fail(t, 400, SLICE("failed to decode raft message\n"), ST_TOO_BIG);
    if (bytes.len - LENGTH_BYTES < size)
        return ST_OK;
    t->is_begun = true;
    st = check_message(t, slice_make(bytes.data + LENGTH_BYTES, (size_t)size));
    *piece = slice_make(bytes.data + LENGTH_BYTES + size, bytes.len - LENGTH_BYTES - (size_t)size);
    return st;
}

static enum status sync_part(struct transfer *t)
{
    int dir = open(t->peers->snap_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool fine = dir >= 0 && fsync(t->fd) == 0 && fsync(dir) == 0;
    if (!fine)
        log_warn("cannot sync a snapshot", LOG_STR("path", t->path), LOG_ERRNO(errno));
    if (dir >= 0)
        close(dir);
    return fine ? ST_OK : fail(t, 500, SLICE("failed to save KV snapshot\n"), ST_IO);
}

static enum status receive_all(struct transfer *t)
{
    enum status st;
    for (;;) {
        struct slice piece;
        st = next_piece(t, &piece);
        if (st == ST_OK && piece.len == 0)
            break;
        if (st == ST_OK && !t->is_begun)
            st = take_message(t, &piece);
        if (st == ST_OK && t->is_begun)
            st = write_part(t, piece);
        if (st != ST_OK)
            return st;
    }
    if (!t->is_begun)
        return fail(t, 400, SLICE("failed to decode raft message\n"), ST_TRUNCATED);
    return sync_part(t);
}

static void send_answer(struct transfer *t)
{
    struct out out;
    out_init(&out);
    if (answer_put(&out, t->peers, &t->answer, /* keeps_alive= */ false, /* is_head= */ false) ==
            ST_OK &&
        link_write(&t->wire, &out) == ST_OK) {
        /* Until the other side has read it: closing with unread input would cut it off. */
        shutdown(t->wire.stream->fd, SHUT_WR);
        t->wire.silence_ns = NS_PER_S;
        for (int reads = 0; reads < 64 && link_read(&t->wire) == ST_OK; reads++)
            window_consume(&t->wire.in, window_slice(&t->wire.in).len);
    }
    out_reset(&out);
}

/* The message goes to consensus, and with it the file. */
static enum status deliver(struct transfer *t)
{
    struct peer_message *message = received_new(t->peers, &t->message, t->path);
    t->message = (struct raftpb_message){0};
    if (message == NULL)
        return fail(t, 500, SLICE("out of memory\n"), ST_NO_MEMORY);
    message->node.next = NULL;
    t->peers->owner.receive(t->peers->owner.context, message);
    t->answer = (struct answer){.status = 204, .has_cluster = true};
    return ST_OK;
}

static void count_received(const struct transfer *t, raft_id sender, enum status st)
{
    char hex[17];
    snprintf(hex, sizeof(hex), "%" PRIx64, sender);
    const char *const from[] = {"From", hex, NULL};
    uint64_t took = peers_now(t->peers) - t->begun_ns;
    if (st == ST_OK) {
        metrics_child_add(metrics_child(METRIC_SNAPSHOT_RECEIVED, from), 1);
        metrics_child_observe(metrics_histogram_child(METRIC_SNAPSHOT_RECEIVE, from), took);
        metrics_observe(METRIC_SNAPSHOT_SAVE, took);
        log_info("received and saved database snapshot", LOG_STR("remote-snapshot-sender-id", hex),
                 LOG_STR("path", t->path), LOG_DURATION("took", took));
        return;
    }
    metrics_child_add(metrics_child(METRIC_SNAPSHOT_RECEIVE_FAILURES, from), 1);
    log_warn("failed to receive a database snapshot", LOG_STR("remote-snapshot-sender-id", hex),
             LOG_DURATION("took", took), LOG_STATUS(st));
}

static void *receive_main(void *context)
{
    struct transfer *t = context;
    enum status st = receive_all(t);
    raft_id sender = t->message.message.from;
    if (t->fd >= 0)
        close(t->fd);
    if (st == ST_OK)
        st = deliver(t);
    else if (t->fd >= 0)
        unlink(t->path);
    count_received(t, sender, st);
    if (t->answer.status != 0)
        send_answer(t);
    link_close(&t->wire);
    count_done(t);
    return NULL;
}

void transfer_receive(struct conn *conn)
{
    struct transfer *t = transfer_new(conn->peers, /* is_incoming= */ true);
    if (t == NULL) {
        conn_close(conn);
        return;
    }
    t->body = conn->framing;
    t->wire.stream = conn->stream;
    t->wire.in = conn->in;
    conn->in = (struct window){0};
    conn_release(conn);
    conn->stream = NULL;
    if (!transfer_begin(t, receive_main)) {
        log_warn("refused a snapshot: as many as can be are coming in");
        transfer_free(t); /* its sender tries again */
    }
}
