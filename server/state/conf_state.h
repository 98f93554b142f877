/* server/state/conf_state.h - raftpb's ConfState and ConfChange in bytes: how a configuration
 * stands in the store's mark, in the log's snapshot records and in configuration entries. */
#ifndef SERVER_STATE_CONF_STATE_H
#define SERVER_STATE_CONF_STATE_H
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "raft/types.h"

/* Appends, with etcd's bytes. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status conf_state_encode(const struct raft_conf_state *conf_state, struct buf *out);
/* Empty bytes are the empty configuration. Errors: ST_CORRUPT (not a ConfState, or over
 * RAFT_MEMBERS_MAX). */
CHECKED enum status conf_state_decode(struct slice bytes, struct raft_conf_state *out);

enum member_change_type {
    MEMBER_CHANGE_ADD_NODE = 0,
    MEMBER_CHANGE_REMOVE_NODE = 1,
    MEMBER_CHANGE_UPDATE_NODE = 2,
    MEMBER_CHANGE_ADD_LEARNER = 3,
};

struct member_change {
    uint64_t id; /* 0 in bootstrap entries */
    uint64_t type;
    raft_id node_id;
    struct slice context; /* borrowed: Member JSON */
};

/* A payload owned by the caller; NULL without memory. */
struct raft_payload *member_change_payload(const struct member_change *change);
/* Errors: ST_CORRUPT. */
CHECKED enum status member_change_decode(struct slice bytes, struct member_change *out);
#endif
