/* server/peers/raftpb.h - raftpb.Message, Entry and Snapshot as bytes (proto2), as Go's generated
 * code writes them: scalars always, in the order of their numbers.
 *
 *   Message   1 type  2 to  3 from  4 term  5 logTerm  6 index  7 entries*  8 commit
 *             9 snapshot {1 data, 2 metadata {1 conf_state, 2 index, 3 term}}
 *             10 reject  11 rejectHint  12 context
 *   Entry     1 type  2 term  3 index  4 data
 *   ConfState 1 voters*  2 learners*  3 voters_outgoing*  4 learners_next*  5 auto_leave
 *
 * etcd writes field 9 in every message; one whose metadata has index 0 is none. */
#ifndef SERVER_PEERS_RAFTPB_H
#define SERVER_PEERS_RAFTPB_H
#include "base/slice.h"
#include "base/status.h"
#include "raft/raft.h"
#include "server/peers/out.h"

/* A decoded message: entries (with a reference of each payload) and snapshot are its own, context
 * and data are borrowed from the bytes it was decoded from. */
struct raftpb_message {
    struct raft_message message;
    struct raft_entry *entries;
    struct raft_snapshot_meta *snapshot;
    struct slice data; /* Snapshot.data */
    size_t bytes;      /* of memory that it owns */
};

/* Errors of the decoders: ST_INVALID (not such a message, or of a type that no peer sends),
 * ST_NO_MEMORY; out then owns nothing. */
CHECKED enum status raftpb_decode_message(struct slice in, struct raftpb_message *out);
void raftpb_message_deinit(struct raftpb_message *message);
/* The payload of *out is counted, the caller's. */
CHECKED enum status raftpb_decode_entry(struct slice in, struct raft_entry *out);

size_t raftpb_message_size(const struct raft_message *message, struct slice data);
size_t raftpb_entry_size(const struct raft_entry *entry);
/* data: Snapshot.data, of a message with a snapshot. Errors: ST_NO_MEMORY, then out has lost its
 * place. */
CHECKED enum status raftpb_put_message(struct out *out, const struct raft_message *message,
                                       struct slice data);
CHECKED enum status raftpb_put_entry(struct out *out, const struct raft_entry *entry);
#endif
