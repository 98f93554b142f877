/* tests/sim/network.h - the transport of simulated members: packets with a delay, in one heap of
 * virtual time. Messages are copied as a socket would, payloads too. Everything follows from the
 * seed. */
#ifndef TESTS_SIM_NETWORK_H
#define TESTS_SIM_NETWORK_H
#include "base/heap.h"
#include "base/rng.h"
#include "server/loops/transport.h"

#define NETWORK_MEMBERS_MAX 10U

struct network;

struct network_link { /* one direction between two members */
    bool cut;
    uint32_t loss_permille, twice_permille;
    uint64_t delay_ns_min, delay_ns_max; /* messages overtake each other when these differ */
};

/* Takes what arrives: message is the receiver's, who releases it. snapshot: the db file that came
 * with a MsgSnap, borrowed for the call; empty otherwise. */
typedef void (*network_deliver_fn)(void *context, uint32_t to, struct peer_message *message,
                                   struct slice snapshot);
/* Every message as it leaves its sender, whether or not it arrives; borrowed for the call. */
typedef void (*network_tap_fn)(void *context, uint32_t from, const struct raft_message *message);
/* The sender noticed that messages to a member were lost. */
typedef void (*network_lost_fn)(void *context, uint32_t from, raft_id to);
/* How a sent snapshot ended, to its sender. */
typedef void (*network_sent_fn)(void *context, uint32_t from, raft_id to, bool succeeded);

struct network *network_new(struct rng *rng, const uint64_t *now_ns, network_deliver_fn deliver,
                            network_sent_fn sent, void *context);
void network_free(struct network *network);
/* Both are called from within a send or a step. */
void network_watch(struct network *network, network_tap_fn tap, network_lost_fn lost);
struct network_link *network_link(struct network *network, uint32_t from, uint32_t to);
/* Cuts or joins both directions between a member and all others. */
void network_isolate(struct network *network, uint32_t member, bool cut);
/* The connections between two members break: what is under way on them is lost, and both notice. */
void network_reset(struct network *network, uint32_t a, uint32_t b);
/* The id by which messages for a member are addressed. */
void network_name(struct network *network, uint32_t member, raft_id id);
/* What a member sends by. Borrowed from the network. */
struct transport *network_transport(struct network *network, uint32_t member);
/* Members that it was told of and not told to forget. */
uint32_t network_peers_count(const struct network *network, uint32_t member);
/* The process of a member ended: it knows nobody any more. What left it is still under way. */
void network_forget_peers(struct network *network, uint32_t member);

uint64_t network_next_ns(const struct network *network); /* UINT64_MAX: nothing is under way */
bool network_step(struct network *network); /* delivers the first that is due; false: none is */
#endif
