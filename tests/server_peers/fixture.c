#include "tests/server_peers/fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t monotonic(void *context)
{
    (void)context;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t wall(void *context)
{
    (void)context;
    return read_clock(CLOCK_REALTIME);
}

const struct clock *test_clock(void)
{
    static const struct clock clock = {.monotonic_ns = monotonic, .wall_ns = wall};
    return &clock;
}

uint64_t now_ns(void)
{
    return monotonic(NULL);
}

static int listen_at(uint16_t port, uint16_t *port_out)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

int listen_anywhere(uint16_t *port_out)
{
    return listen_at(0, port_out);
}

/* ---- the owner ---- */

/* Steps a message as far as these tests need it: are indexes in order? */
static void count_message(struct node *node, struct peer_message *message)
{
    const struct raft_message *m = &message->message;
    node->counted++;
    if (m->type == RAFT_MSG_APP && m->entries_count > 0) {
        raft_index last = m->entries[m->entries_count - 1].index;
        node->out_of_order = node->out_of_order || last <= node->last_index;
        node->last_index = last;
    }
    message->release(message);
}

static void on_receive(void *context, struct peer_message *chain)
{
    struct node *node = context;
    pthread_mutex_lock(&node->lock);
    for (struct inbox_node *at = &chain->node, *next; at != NULL; at = next) {
        struct peer_message *message = CONTAINER_OF(at, struct peer_message, node);
        next = at->next;
        at->next = NULL;
        if (!node->holds) {
            count_message(node, message);
            continue;
        }
        if (node->first == NULL)
            node->first = message;
        else
            node->last->node.next = at;
        node->last = message;
        node->waiting++;
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void bump(struct node *node, uint32_t *counter)
{
    pthread_mutex_lock(&node->lock);
    (*counter)++;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void on_unreachable(void *context, raft_id id)
{
    (void)id;
    struct node *node = context;
    bump(node, &node->unreachable);
}

static void on_gone(void *context, raft_id id)
{
    (void)id;
    struct node *node = context;
    bump(node, &node->gone);
}

static void on_snapshot_sent(void *context, raft_id id, bool succeeded)
{
    (void)id;
    struct node *node = context;
    bump(node, succeeded ? &node->sent_well : &node->sent_badly);
}

static void on_removed(void *context, raft_id by)
{
    (void)by;
    struct node *node = context;
    bump(node, &node->removed);
}

static void on_request(void *context, struct peer_request *request)
{
    (void)context;
    char text[128];
    snprintf(text, sizeof(text), "kind %d id %llu body %.*s\n", (int)request->kind,
             (unsigned long long)request->member_id, (int)request->body.len,
             (const char *)request->body.data);
    uint32_t status = request->kind == PEER_REQUEST_LEASES ? 404 : 200;
    peers_answer(request, &(struct peer_answer){.status = status, .body = slice_from_str(text)});
}

/* ---- nodes ---- */

static void open_node(struct node *node, raft_id id, uint64_t cluster_id, const char *url,
                      uint64_t snapshot_bytes_per_s)
{
    uint16_t port = 0;
    *node = (struct node){.id = id, .cluster_id = cluster_id, .holds = true};
    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->changed, NULL);
    if (url != NULL)
        port = (uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10);
    node->listen_fd = listen_at(port, &port);
    snprintf(node->url, sizeof(node->url), "http://127.0.0.1:%u", port);
    snprintf(node->snap_dir, sizeof(node->snap_dir), "/tmp/cleat-peers-XXXXXX");
    assert_non_null(mkdtemp(node->snap_dir));
    const char *own = node->url;
    struct peers_options options = {.id = id,
                                    .cluster_id = cluster_id,
                                    .version = "3.5.15",
                                    .min_version = "3.0.0",
                                    .urls = &own,
                                    .urls_count = 1,
                                    .listen_fds = &node->listen_fd,
                                    .listen_fds_count = 1,
                                    .election_timeout_ns = NS_PER_S,
                                    .snapshot_bytes_per_s = snapshot_bytes_per_s,
                                    .clock = test_clock(),
                                    .snap_dir = node->snap_dir,
                                    .owner = {.receive = on_receive,
                                              .unreachable = on_unreachable,
                                              .gone = on_gone,
                                              .snapshot_sent = on_snapshot_sent,
                                              .removed = on_removed,
                                              .handle = on_request,
                                              .context = node}};
    assert_int_equal(peers_new(&options, &node->peers), ST_OK);
}

void node_open(struct node *node, raft_id id, uint64_t cluster_id, const char *url)
{
    open_node(node, id, cluster_id, url, /* snapshot_bytes_per_s= */ 0);
}

void node_open_limited(struct node *node, raft_id id, uint64_t snapshot_bytes_per_s)
{
    open_node(node, id, CLUSTER_ID, NULL, snapshot_bytes_per_s);
}

void node_start(struct node *node)
{
    assert_int_equal(peers_start(node->peers), ST_OK);
}

void node_close(struct node *node)
{
    peers_stop(node->peers);
    while (node->first != NULL) {
        struct peer_message *message = node->first;
        struct inbox_node *next = message->node.next;
        node->first = next == NULL ? NULL : CONTAINER_OF(next, struct peer_message, node);
        message->release(message);
    }
    peers_free(node->peers);
    node->peers = NULL;
    rmdir(node->snap_dir);
    pthread_mutex_destroy(&node->lock);
    pthread_cond_destroy(&node->changed);
}

void node_add_url(struct node *node, raft_id id, const char *url)
{
    struct transport *transport = peers_transport(node->peers);
    struct slice text = slice_from_str(url);
    transport->add_peer(transport, id, &text, 1);
}

void node_add(struct node *node, const struct node *other)
{
    node_add_url(node, other->id, other->url);
}

void node_send(struct node *node, const struct raft_message *message)
{
    struct transport *transport = peers_transport(node->peers);
    transport->send(transport, message, 1);
}

static void wait_change(struct node *node, uint64_t until_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20 * 1000 * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&node->changed, &node->lock, &until);
    assert_true(now_ns() < until_ns);
}

struct peer_message *node_take(struct node *node)
{
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    pthread_mutex_lock(&node->lock);
    while (node->first == NULL)
        wait_change(node, until_ns);
    struct peer_message *message = node->first;
    struct inbox_node *next = message->node.next;
    node->first = next == NULL ? NULL : CONTAINER_OF(next, struct peer_message, node);
    node->waiting--;
    pthread_mutex_unlock(&node->lock);
    return message;
}

void node_wait(struct node *node, const uint32_t *counter, uint32_t at_least)
{
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    pthread_mutex_lock(&node->lock);
    while (*counter < at_least)
        wait_change(node, until_ns);
    pthread_mutex_unlock(&node->lock);
}

void node_wait_active(struct node *node, raft_id id)
{
    uint64_t until_ns = now_ns() + WAIT_S_MAX * NS_PER_S;
    pthread_mutex_lock(&node->lock);
    while (peers_active_since_ns(node->peers, id) == 0)
        wait_change(node, until_ns);
    pthread_mutex_unlock(&node->lock);
}

size_t raw_exchange(const char *url, struct slice text, char *out, size_t out_size, size_t wanted)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port =
                                      htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, text.data, text.len, MSG_NOSIGNAL), text.len);
    size_t size = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, WAIT_S_MAX * 1000), 1);
        ssize_t got = recv(fd, out + size, out_size - 1 - size, 0);
        if (got <= 0)
            break;
        size += (size_t)got;
        if (size == out_size - 1 || (wanted > 0 && size >= wanted))
            break;
    }
    out[size] = '\0';
    close(fd);
    return size;
}
