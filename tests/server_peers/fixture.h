/* tests/server_peers/fixture.h - members that have nothing but a peer port: what comes in is kept
 * to be looked at. Everything waits on conditions, with a limit that only a failure reaches. */
#ifndef TESTS_SERVER_PEERS_FIXTURE_H
#define TESTS_SERVER_PEERS_FIXTURE_H
#include "base/list.h"
#include "server/peers/peers.h"
#include "server/peers/fetch.h"

#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>

#include <cmocka.h>

#define CLUSTER_ID 0xcdf818194e3a8c32U
#define WAIT_S_MAX 30

struct node {
    struct peers *peers;
    raft_id id;
    uint64_t cluster_id;
    int listen_fd;
    char url[64];
    char snap_dir[64];

    pthread_mutex_t lock; /* what follows is under it */
    pthread_cond_t changed;
    struct peer_message *first, *last; /* came in, not taken */
    uint32_t waiting;
    uint32_t unreachable, gone, removed, sent_well, sent_badly;
    bool holds; /* messages are kept, not counted and freed */
    uint64_t counted;
    raft_index last_index;
    bool out_of_order;
};

/* A listening socket on a free port. */
int listen_anywhere(uint16_t *port_out);
/* Listens, but is not started; the same id may be opened again at the same URL. */
void node_open(struct node *node, raft_id id, uint64_t cluster_id, const char *url);
/* Its snapshots leave at no more than so many bytes a second; 0: no limit. */
void node_open_limited(struct node *node, raft_id id, uint64_t snapshot_bytes_per_s);
void node_start(struct node *node);
void node_close(struct node *node);
void node_add(struct node *node, const struct node *other);
void node_add_url(struct node *node, raft_id id, const char *url);
void node_send(struct node *node, const struct raft_message *message);
/* The next message that came in; fails the test when none comes. The caller releases it. */
struct peer_message *node_take(struct node *node);
/* Waits until *counter (one of the node's) is at least that. */
void node_wait(struct node *node, const uint32_t *counter, uint32_t at_least);
void node_wait_active(struct node *node, raft_id id);

uint64_t now_ns(void);
const struct clock *test_clock(void);
/* Sends text to the node's port as it is and reads until the other side closes, or the answer has
 * as many bytes as wanted (0: until it closes). NUL-terminated in out; returns its length. */
size_t raw_exchange(const char *url, struct slice text, char *out, size_t out_size, size_t wanted);
#endif
