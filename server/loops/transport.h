/* server/loops/transport.h - what consensus needs of the members around it. server/peers/ carries
 * it over sockets in etcd's peer protocol, the simulator over a network of its own. Consensus hands
 * messages out and never waits; what comes in is pushed into its inbox by the transport's thread.
 */
#ifndef SERVER_LOOPS_TRANSPORT_H
#define SERVER_LOOPS_TRANSPORT_H
#include "base/inbox.h"
#include "base/slice.h"
#include "raft/raft.h"

#include <stdbool.h>
#include <stdint.h>

struct loops;

/* The bytes of one snapshot (etcd's db file) on their way to a member, made as they are sent. The
 * transport owns it from send_snapshot() to close(), on a thread of its own. */
struct snapshot_source {
    uint64_t size; /* bytes, known before the first */
    /* What goes as raftpb.Snapshot.data: etcd's v2 store as JSON, which an etcd takes its member
     * list from; may be empty between members of our kind. Valid until close(). */
    struct slice data;
    /* Up to `capacity` next bytes into `into`; *out 0 at the end. May take a disk's time. Any error
     * gives the transfer up. */
    enum status (*read)(struct snapshot_source *source, uint8_t *into, size_t capacity,
                        size_t *out);
    void (*close)(struct snapshot_source *source);
};

/* All calls come from the consensus actor, but for add_peer() of the members found at start, which
 * come out of loops_new(). All return at once. */
struct transport {
    /* Takes copies, or references of payloads, of `count` messages to any members. What finds its
     * queue full, or no connection, is dropped and reported by loops_peer_unreachable(). None is
     * sent again: a proposal that came twice would happen twice. */
    void (*send)(struct transport *transport, const struct raft_message *messages, uint32_t count);
    /* A MsgSnap with its db file; ends in one loops_peer_snapshot_sent(). Owns source. */
    void (*send_snapshot)(struct transport *transport, const struct raft_message *message,
                          struct snapshot_source *source);
    /* One that is known already is as if updated: a member that joins is told of the others before
     * its log is. urls are borrowed for the call. */
    void (*add_peer)(struct transport *transport, raft_id id, const struct slice *urls,
                     uint32_t urls_count);
    void (*update_peer)(struct transport *transport, raft_id id, const struct slice *urls,
                        uint32_t urls_count);
    /* What is queued for it still leaves if it can: it is to learn that it was removed. */
    void (*remove_peer)(struct transport *transport, raft_id id);
};

/* A message that came in. Everything it points to stays valid until release(), which any thread may
 * call; entries hold references of payloads, for the core to share. */
struct peer_message {
    struct inbox_node node;
    struct raft_message message;
    /* MSG_SNAP: the received db file, whole and synced under this name in member/snap/, not looked
     * into yet; else NULL. */
    const char *snapshot_path;
    struct slice snapshot_data; /* MSG_SNAP: what came as raftpb.Snapshot.data */
    void (*release)(struct peer_message *message);
};

/* From the transport's thread, a chain linked by node. Above the inbox's limits messages are
 * dropped (the sender's core sends again); they are always owned by the loops from here. */
void loops_receive(struct loops *loops, struct peer_message *chain);
void loops_peer_unreachable(struct loops *loops, raft_id id);
/* No connection with it is left and its host refuses new ones: its process has ended. A hint, which
 * may be wrong or be given again. */
void loops_peer_gone(struct loops *loops, raft_id id);
void loops_peer_snapshot_sent(struct loops *loops, raft_id id, bool succeeded);
/* A member's answer said that this one is no longer in the cluster. */
void loops_removed_from_cluster(struct loops *loops);
#endif
