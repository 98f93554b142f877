#include "server/peers/peers.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "server/peers/peers_private.h"
#include "server/run/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64

static void wake(void *context)
{
    struct peers *peers = context;
    uint64_t one = 1;
    ssize_t put = write(peers->wake_fd, &one, sizeof(one));
    (void)put; /* full means awake */
}

void peers_push(struct peers *peers, struct command *command)
{
    inbox_push(&peers->inbox, &command->node);
}

void peers_timer_at(struct peers *peers, uint64_t at_ns)
{
    peers->timer_ns = min_u64(peers->timer_ns, at_ns);
}

/* ---- the transport: consensus' side ---- */

static struct peers *peers_of(struct transport *transport)
{
    return CONTAINER_OF(transport, struct peers, transport);
}

static struct outgoing *outgoing_new(struct peer *peer, const struct raft_message *m)
{
    size_t bytes = sizeof(struct outgoing) + m->entries_count * sizeof(struct raft_entry);
    struct outgoing *outgoing = malloc(bytes + m->context.len);
    if (outgoing == NULL)
        return NULL;
    outgoing->command = (struct command){.kind = COMMAND_SEND};
    outgoing->peer = peer_ref(peer);
    outgoing->message = *m;
    outgoing->message.entries = outgoing->entries;
    outgoing->bytes = bytes + m->context.len;
    for (uint32_t i = 0; i < m->entries_count; i++) {
        outgoing->entries[i] = m->entries[i];
        raft_payload_ref(m->entries[i].payload);
        outgoing->bytes += m->entries[i].payload == NULL ? 0 : m->entries[i].payload->len;
    }
    if (m->context.len > 0) {
        memcpy((uint8_t *)outgoing + bytes, m->context.data, m->context.len);
        outgoing->message.context = slice_make((uint8_t *)outgoing + bytes, m->context.len);
    }
    return outgoing;
}

/* Called with the lock held: the table is small, and nobody keeps it long. */
static struct peer *find_locked(struct peers *peers, raft_id id)
{
    for (uint32_t i = 0; i < peers->known_count; i++) {
        if (peers->known[i]->id == id)
            return peers->known[i];
    }
    return NULL;
}

/* NULL: dropped. The queue's limits count what the I/O thread has not looked at yet. */
static struct outgoing *admit(struct peers *peers, const struct raft_message *message)
{
    ASSERT(message->type != RAFT_MSG_SNAP);
    struct peer *peer = find_locked(peers, message->to);
    if (peer == NULL)
        return NULL;
    struct outgoing *outgoing = NULL;
    if (atomic_load(&peer->queued_messages) < SEND_MESSAGES_MAX &&
        atomic_load(&peer->queued_bytes) < STREAM_BYTES_MAX)
        outgoing = outgoing_new(peer, message);
    if (outgoing == NULL) {
        atomic_store(&peer->lost, true);
        return NULL;
    }
    atomic_fetch_add(&peer->queued_messages, 1);
    atomic_fetch_add(&peer->queued_bytes, outgoing->bytes);
    return outgoing;
}

static void transport_send(struct transport *transport, const struct raft_message *messages,
                           uint32_t count)
{
    struct peers *peers = peers_of(transport);
    struct inbox_node *first = NULL, *last = NULL;
    pthread_mutex_lock(&peers->lock);
    for (uint32_t i = 0; i < count; i++) {
        struct outgoing *outgoing = admit(peers, &messages[i]);
        if (outgoing == NULL)
            continue;
        struct inbox_node *node = &outgoing->command.node;
        node->next = NULL;
        if (first == NULL)
            first = node;
        else
            last->next = node;
        last = node;
    }
    pthread_mutex_unlock(&peers->lock);
    if (first != NULL)
        inbox_push_chain(&peers->inbox, first);
    else if (count > 0)
        wake(peers); /* what was lost is to be reported */
}

static void transport_send_snapshot(struct transport *transport, const struct raft_message *message,
                                    struct snapshot_source *source)
{
    transfer_send(peers_of(transport), message, source);
}

static void set_urls(struct peer *peer, const struct slice *urls, uint32_t count)
{
    peer->urls_count = 0;
    for (uint32_t i = 0; i < count && peer->urls_count < PEER_URLS_MAX; i++) {
        if (urls[i].len == 0 || urls[i].len >= URL_BYTES_MAX)
            continue;
        char *url = peer->urls[peer->urls_count++];
        memcpy(url, urls[i].data, urls[i].len);
        url[urls[i].len] = '\0';
    }
}

/* The I/O thread is to look at this member again. */
static void tell(struct peers *peers, struct peer *peer)
{
    struct peer_command *command = calloc(1, sizeof(*command));
    if (command == NULL) { /* the next message to it, or the next timer, does it */
        log_error("a change of a peer takes effect late: out of memory");
        return;
    }
    command->command.kind = COMMAND_PEER;
    command->peer = peer_ref(peer);
    peers_push(peers, &command->command);
}

static void forget_removed(struct peers *peers, raft_id id)
{
    for (uint32_t i = 0; i < peers->removed_count; i++) {
        if (peers->removed[i] == id)
            peers->removed[i--] = peers->removed[--peers->removed_count];
    }
}

static void transport_add_peer(struct transport *transport, raft_id id, const struct slice *urls,
                               uint32_t urls_count)
{
    struct peers *peers = peers_of(transport);
    if (id == peers->id)
        return;
    pthread_mutex_lock(&peers->lock);
    forget_removed(peers, id);
    struct peer *peer = find_locked(peers, id);
    if (peer == NULL && peers->known_count < MEMBERS_KNOWN_MAX) {
        peer = peer_new(peers, id, /* is_remote= */ false);
        if (peer != NULL)
            peers->known[peers->known_count++] = peer;
    }
    if (peer != NULL) {
        if (atomic_exchange(&peer->is_remote, false))
            peers->remotes_count--;
        set_urls(peer, urls, urls_count);
        peer_ref(peer);
    }
    pthread_mutex_unlock(&peers->lock);
    if (peer == NULL)
        log_error("cannot add a peer", LOG_HEX("remote-peer-id", id));
    else
        tell(peers, peer);
    peer_unref(peer);
}

static void remember_removed(struct peers *peers, raft_id id)
{
    if (peers->removed_count == peers->removed_capacity) {
        uint32_t capacity = max_u32(peers->removed_capacity * 2, 16);
        raft_id *grown = realloc(peers->removed, capacity * sizeof(*grown));
        if (grown == NULL)
            return; /* it gets 404 instead of 410 */
        peers->removed = grown;
        peers->removed_capacity = capacity;
    }
    forget_removed(peers, id);
    peers->removed[peers->removed_count++] = id;
}

static void transport_remove_peer(struct transport *transport, raft_id id)
{
    struct peers *peers = peers_of(transport);
    struct peer *peer = NULL;
    pthread_mutex_lock(&peers->lock);
    for (uint32_t i = 0; i < peers->known_count && peer == NULL; i++) {
        if (peers->known[i]->id != id)
            continue;
        peer = peers->known[i];
        peers->known[i] = peers->known[--peers->known_count];
        if (atomic_load(&peer->is_remote))
            peers->remotes_count--;
    }
    remember_removed(peers, id);
    pthread_mutex_unlock(&peers->lock);
    if (peer == NULL)
        return;
    atomic_store(&peer->is_removed, true);
    tell(peers, peer);
    peer_unref(peer);
}

struct transport *peers_transport(struct peers *peers)
{
    return &peers->transport;
}

uint64_t peers_active_since_ns(struct peers *peers, raft_id id)
{
    struct peer *peer = peers_find(peers, id);
    uint64_t since = peer == NULL ? 0 : atomic_load(&peer->active_since_ns);
    peer_unref(peer);
    return since;
}

uint64_t peers_received_bytes(const struct peers *peers)
{
    return atomic_load(&peers->received_bytes);
}

/* ---- the I/O thread ---- */

static void report_lost(struct peer *peer)
{
    if (!atomic_exchange(&peer->lost, false))
        return;
    metrics_child_add(peer->sent_failures, 1);
    peer_unreachable(peer);
}

static void run_peer(struct peer *peer)
{
    struct peers *peers = peer->peers;
    if (!peer->is_listed && !atomic_load(&peer->is_removed)) {
        list_push_back(&peers->members, &peer_ref(peer)->link);
        peer->is_listed = true;
    }
    if (peer->is_listed && atomic_load(&peer->is_removed) && peer->removed_ns == 0) {
        peer->removed_ns = max_u64(peers->now_ns, 1);
        for (uint32_t i = 0; i < DIAL_KINDS; i++) {
            if (i != DIAL_PIPELINE && peer->dialers[i].conn != NULL)
                conn_close(peer->dialers[i].conn);
        }
    }
    for (uint32_t i = 0; i < DIAL_KINDS; i++) { /* its address may be another */
        peer->dialers[i].next_ns = 0;
        peer->dialers[i].backoff_ns = DIAL_AGAIN_MIN_NS;
    }
    peers_timer_at(peers, peers->now_ns);
}

static void run_send(struct outgoing *outgoing)
{
    struct peer *peer = outgoing->peer;
    atomic_fetch_sub(&peer->queued_messages, 1);
    atomic_fetch_sub(&peer->queued_bytes, outgoing->bytes);
    if (!peer->is_listed && !atomic_load(&peer->is_removed))
        run_peer(peer);
    peer_send(peer, outgoing);
}

static void run_command(struct peers *peers, struct command *command)
{
    switch (command->kind) {
    case COMMAND_SEND:
        run_send(CONTAINER_OF(command, struct outgoing, command));
        return;
    case COMMAND_ANSWER:
        request_answered(CONTAINER_OF(command, struct request, command));
        return;
    case COMMAND_RESOLVED:
        dialer_resolved(CONTAINER_OF(command, struct lookup, command));
        return;
    case COMMAND_PEER: {
        struct peer_command *c = CONTAINER_OF(command, struct peer_command, command);
        run_peer(c->peer);
        peer_unref(c->peer);
        free(c);
        return;
    }
    case COMMAND_UNSENT: {
        struct peer_command *c = CONTAINER_OF(command, struct peer_command, command);
        peers->owner.snapshot_sent(peers->owner.context, c->id, false);
        free(c);
        return;
    }
    }
}

static void run_commands(struct peers *peers)
{
    for (struct inbox_node *node = inbox_take(&peers->inbox), *next; node != NULL; node = next) {
        next = node->next;
        run_command(peers, CONTAINER_OF(node, struct command, node));
    }
    /* One write for all that came together. */
    for (struct list_node *node = peers->members.next; node != &peers->members; node = node->next) {
        struct peer *peer = CONTAINER_OF(node, struct peer, link);
        report_lost(peer);
        for (uint32_t i = 0; i < STREAM_KINDS; i++) {
            if (peer->writers[i] != NULL && peer->writers[i]->out.bytes > 0)
                conn_flush(peer->writers[i]);
        }
    }
}

/* Consensus has enough to do: nothing more is read until it has done some. */
static void look_at_received(struct peers *peers)
{
    bool is_full = atomic_load(&peers->received_bytes) > PEERS_RECEIVED_BYTES_MAX;
    if (is_full == peers->is_full)
        return;
    peers->is_full = is_full;
    for (struct list_node *node = peers->conns.next; node != &peers->conns; node = node->next) {
        struct conn *conn = CONTAINER_OF(node, struct conn, link);
        conn_watch(conn);
        /* We did not listen: it was not silent. */
        if (!is_full && conn->state == CONN_STREAM && conn->role == CONN_DIALLED)
            conn_deadline(conn, STREAM_SILENCE_NS);
    }
}

static void conn_timers(struct peers *peers)
{
    for (struct list_node *node = peers->conns.next, *next; node != &peers->conns; node = next) {
        next = node->next; /* closing one closes no other */
        struct conn *conn = CONTAINER_OF(node, struct conn, link);
        if (conn->heartbeat_ns <= peers->now_ns) {
            conn->heartbeat_ns = peers->now_ns + LINK_HEARTBEAT_NS;
            if (conn->out.bytes == 0 && frames_put_heartbeat(&conn->frames, &conn->out) == ST_OK)
                conn_flush(conn);
        }
        bool is_held = peers->is_full && conn->role != CONN_WRITER &&
                       (conn->state == CONN_STREAM || conn->state == CONN_BODY);
        if (conn->deadline_ns <= peers->now_ns && !is_held)
            conn_fail(conn, conn->state == CONN_CONNECTING ? "no connection in time"
                                                           : "nothing came or left in time");
        if (conn->state == CONN_DEAD)
            continue;
        if (!is_held)
            peers_timer_at(peers, conn->deadline_ns);
        peers_timer_at(peers, conn->heartbeat_ns);
    }
}

static void unlist(struct peer *peer)
{
    peer_shut(peer);
    list_remove(&peer->link);
    peer->is_listed = false;
    peer_unref(peer);
}

static void run_timers(struct peers *peers)
{
    peers->timer_ns = UINT64_MAX;
    conn_timers(peers);
    for (struct list_node *node = peers->members.next, *next; node != &peers->members;
         node = next) {
        next = node->next;
        struct peer *peer = CONTAINER_OF(node, struct peer, link);
        if (atomic_load(&peer->is_removed) && peer->removed_ns == 0)
            run_peer(peer);
        if (peer_is_finished(peer, peers->now_ns))
            unlist(peer);
        else
            peers_timer_at(peers, peer_timers(peer, peers->now_ns));
    }
    if (peers->accept_again_ns > peers->now_ns)
        peers_timer_at(peers, peers->accept_again_ns);
}

/* Whoever had its turn and may have more. Serving one may close others: first all are found. */
static void run_again(struct peers *peers)
{
    struct conn *found[EVENTS_MAX];
    uint32_t count = 0;
    peers->any_again = false;
    for (struct list_node *node = peers->conns.next; node != &peers->conns; node = node->next) {
        struct conn *conn = CONTAINER_OF(node, struct conn, link);
        if (!conn->again)
            continue;
        if (count < EVENTS_MAX)
            found[count++] = conn;
        else
            peers->any_again = true;
    }
    for (uint32_t i = 0; i < count; i++)
        conn_events(found[i], EPOLLIN);
}

static void run_event(struct peers *peers, const struct epoll_event *event)
{
    void *who = event->data.ptr;
    if (who == &peers->wake_fd) {
        uint64_t count;
        ssize_t got = read(peers->wake_fd, &count, sizeof(count));
        (void)got;
        return;
    }
    if (who >= (void *)peers->listen_fds &&
        who < (void *)(peers->listen_fds + peers->listen_fds_count)) {
        if (peers->accept_again_ns <= peers->now_ns)
            port_accept(peers, *(int *)who);
        return;
    }
    conn_events(who, event->events);
}

/* Listening sockets are level-triggered: while accepting is paused they are not looked at. */
static void look_at_listeners(struct peers *peers)
{
    bool accepts = peers->accept_again_ns <= peers->now_ns;
    if (accepts == peers->is_accepting)
        return;
    peers->is_accepting = accepts;
    for (uint32_t i = 0; i < peers->listen_fds_count; i++) {
        struct epoll_event event = {.events = accepts ? EPOLLIN : 0,
                                    .data.ptr = &peers->listen_fds[i]};
        epoll_ctl(peers->epoll_fd, EPOLL_CTL_MOD, peers->listen_fds[i], &event);
    }
}

static int wait_ms(const struct peers *peers)
{
    if (peers->any_again || peers->timer_ns <= peers->now_ns)
        return 0;
    if (peers->timer_ns == UINT64_MAX)
        return -1;
    return (int)min_u64((peers->timer_ns - peers->now_ns) / NS_PER_MS + 1, 60 * 1000);
}

static void bury_dead(struct peers *peers)
{
    while (!list_is_empty(&peers->dead))
        conn_free(CONTAINER_OF(peers->dead.next, struct conn, link));
}

static void close_all(struct peers *peers)
{
    peers->now_ns = peers_now(peers);
    while (!list_is_empty(&peers->members))
        unlist(CONTAINER_OF(peers->members.next, struct peer, link));
    while (!list_is_empty(&peers->conns))
        conn_close(CONTAINER_OF(peers->conns.next, struct conn, link));
    bury_dead(peers);
    received_deliver(peers);
}

static void *peers_main(void *context)
{
    struct peers *peers = context;
    while (!atomic_load(&peers->is_stopping)) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(peers->epoll_fd, events, EVENTS_MAX, wait_ms(peers));
        peers->now_ns = peers_now(peers);
        if (peers->any_again)
            run_again(peers);
        for (int i = 0; i < count; i++)
            run_event(peers, &events[i]);
        run_commands(peers);
        look_at_received(peers);
        if (peers->timer_ns <= peers->now_ns)
            run_timers(peers);
        look_at_listeners(peers);
        received_deliver(peers);
        bury_dead(peers);
    }
    close_all(peers);
    return NULL;
}

/* ---- beginning and end ---- */

static void join_urls(struct peers *peers, const struct peers_options *options)
{
    size_t at = 0;
    for (uint32_t i = 0; i < options->urls_count && i < PEER_URLS_MAX; i++) {
        int size = snprintf(peers->urls + at, sizeof(peers->urls) - at, "%s%s", i == 0 ? "" : ",",
                            options->urls[i]);
        at = min_size(at + (size_t)size, sizeof(peers->urls) - 1);
    }
}

static void set_options(struct peers *peers, const struct peers_options *options)
{
    peers->id = options->id;
    peers->cluster_id = options->cluster_id;
    snprintf(peers->id_hex, sizeof(peers->id_hex), "%" PRIx64, options->id);
    snprintf(peers->cluster_hex, sizeof(peers->cluster_hex), "%" PRIx64, options->cluster_id);
    snprintf(peers->version, sizeof(peers->version), "%s", options->version);
    snprintf(peers->min_version, sizeof(peers->min_version), "%s", options->min_version);
    snprintf(peers->snap_dir, sizeof(peers->snap_dir), "%s", options->snap_dir);
    join_urls(peers, options);
    peers->dial_timeout_ns = DIAL_SLACK_NS + options->election_timeout_ns;
    peers->snapshot_bytes_per_s = options->snapshot_bytes_per_s;
    peers->clock = options->clock;
    peers->streams = options->streams != NULL ? options->streams : &byte_stream_plain;
    peers->owner = options->owner;
}

static enum status open_epoll(struct peers *peers, const struct peers_options *options)
{
    peers->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    peers->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (peers->epoll_fd < 0 || peers->wake_fd < 0)
        return ST_IO;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers->wake_fd};
    if (epoll_ctl(peers->epoll_fd, EPOLL_CTL_ADD, peers->wake_fd, &event) != 0)
        return ST_IO;
    for (uint32_t i = 0; i < options->listen_fds_count; i++) {
        event.data.ptr = &peers->listen_fds[i];
        if (epoll_ctl(peers->epoll_fd, EPOLL_CTL_ADD, options->listen_fds[i], &event) != 0)
            return ST_IO;
    }
    memcpy(peers->listen_fds, options->listen_fds,
           options->listen_fds_count * sizeof(*options->listen_fds));
    peers->listen_fds_count = options->listen_fds_count;
    peers->is_accepting = true;
    return ST_OK;
}

enum status peers_new(const struct peers_options *options, struct peers **out)
{
    ASSERT(options->listen_fds_count <= PEER_URLS_MAX);
    struct peers *peers = calloc(1, sizeof(*peers));
    *out = NULL;
    if (peers == NULL)
        return ST_NO_MEMORY;
    peers->transport = (struct transport){
        .send = transport_send,
        .send_snapshot = transport_send_snapshot,
        .add_peer = transport_add_peer,
        .update_peer = transport_add_peer, /* one that is there gets the new addresses */
        .remove_peer = transport_remove_peer,
    };
    set_options(peers, options);
    pthread_mutex_init(&peers->lock, NULL);
    list_init(&peers->transfers);
    list_init(&peers->members);
    list_init(&peers->conns);
    list_init(&peers->dead);
    inbox_init(&peers->inbox, wake, peers);
    resolver_init(&peers->resolver);
    peers->timer_ns = UINT64_MAX;
    peers->now_ns = peers_now(peers);
    peers->received_from_nobody =
        metrics_child(METRIC_PEER_RECEIVED_BYTES, (const char *const[]){"From", "0", NULL});
    enum status st = open_epoll(peers, options);
    if (st != ST_OK) {
        peers_free(peers);
        return st;
    }
    *out = peers;
    return ST_OK;
}

enum status peers_start(struct peers *peers)
{
    if (pthread_create(&peers->thread, NULL, peers_main, peers) != 0)
        return ST_NO_MEMORY;
    peers->is_running = true;
    return ST_OK;
}

void peers_stop(struct peers *peers)
{
    if (peers == NULL || atomic_exchange(&peers->is_stopping, true))
        return;
    wake(peers);
    if (peers->is_running)
        pthread_join(peers->thread, NULL);
    peers->is_running = false;
    transfers_join(peers, /* all= */ true);
}

static void drop_command(struct command *command)
{
    switch (command->kind) {
    case COMMAND_SEND:
        outgoing_free(CONTAINER_OF(command, struct outgoing, command));
        return;
    case COMMAND_ANSWER:
        request_free(CONTAINER_OF(command, struct request, command));
        return;
    case COMMAND_RESOLVED: {
        struct lookup *lookup = CONTAINER_OF(command, struct lookup, command);
        peer_unref(lookup->peer);
        free(lookup);
        return;
    }
    case COMMAND_PEER:
    case COMMAND_UNSENT: {
        struct peer_command *c = CONTAINER_OF(command, struct peer_command, command);
        peer_unref(c->peer);
        free(c);
        return;
    }
    }
}

void peers_free(struct peers *peers)
{
    if (peers == NULL)
        return;
    peers_stop(peers);
    resolver_deinit(&peers->resolver);
    for (struct inbox_node *node = inbox_take(&peers->inbox), *next; node != NULL; node = next) {
        next = node->next;
        drop_command(CONTAINER_OF(node, struct command, node));
    }
    ASSERT(atomic_load(&peers->received_bytes) == 0);
    for (uint32_t i = 0; i < peers->known_count; i++)
        peer_unref(peers->known[i]);
    for (uint32_t i = 0; i < peers->listen_fds_count; i++)
        close(peers->listen_fds[i]);
    if (peers->epoll_fd >= 0)
        close(peers->epoll_fd);
    if (peers->wake_fd >= 0)
        close(peers->wake_fd);
    free(peers->removed);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}
