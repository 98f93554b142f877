/* raft/conf_change.h - a change of the configuration: its bytes in an entry (raftpb.ConfChange and
 * ConfChangeV2) and how it is applied to a configuration. */
#ifndef RAFT_CONF_CHANGE_H
#define RAFT_CONF_CHANGE_H
#include "raft/limits.h"
#include "raft/tracker.h"
#include "raft/types.h"

/* Numbers are raftpb's. */
enum conf_change_type {
    CONF_CHANGE_ADD_NODE = 0,
    CONF_CHANGE_REMOVE_NODE = 1,
    CONF_CHANGE_UPDATE_NODE = 2,
    CONF_CHANGE_ADD_LEARNER = 3,
};

enum conf_change_transition {
    CONF_CHANGE_AUTO = 0,
    CONF_CHANGE_JOINT_IMPLICIT = 1,
    CONF_CHANGE_JOINT_EXPLICIT = 2,
};

struct conf_change_single {
    enum conf_change_type type;
    raft_id node_id; /* 0: skipped */
};

/* Either version, in the shape of the second. */
struct conf_change {
    uint64_t id; /* the first version's */
    enum conf_change_transition transition;
    struct conf_change_single changes[CONF_CHANGES_MAX];
    uint32_t changes_count;
    struct slice context; /* borrowed from the decoded bytes */
};

/* ST_INVALID: not the encoding of such a change, or one with more than CONF_CHANGES_MAX parts. */
CHECKED enum status conf_change_decode(enum raft_entry_type type, struct slice bytes,
                                       struct conf_change *out);
/* The payload of a RAFT_ENTRY_CONF_CHANGE entry, byte for byte as etcd writes it; owned by the
 * caller. NULL: no memory. */
struct raft_payload *conf_change_encode_v1(uint64_t id, struct conf_change_single change,
                                           struct slice context);

static inline bool conf_change_is_leave(const struct conf_change *change)
{
    return change->transition == CONF_CHANGE_AUTO && change->changes_count == 0;
}
static inline bool conf_change_is_enter(const struct conf_change *change)
{
    return change->transition != CONF_CHANGE_AUTO || change->changes_count > 1;
}

/* ---- the changer: tracker is a copy to work on, and worthless after an error ---- */

/* Why a change is impossible; NULL: it was made. Static text, etcd's. */
const char *changer_simple(struct tracker *tracker, const struct conf_change_single *changes,
                           uint32_t count, raft_index last_index);
const char *changer_enter_joint(struct tracker *tracker, bool auto_leave,
                                const struct conf_change_single *changes, uint32_t count,
                                raft_index last_index);
const char *changer_leave_joint(struct tracker *tracker);
/* Any change: leave, enter or simple, by its own shape. */
const char *changer_apply(struct tracker *tracker, const struct conf_change *change,
                          raft_index last_index);
/* Builds the configuration of a conf state on an empty tracker. */
const char *changer_restore(struct tracker *tracker, const struct raft_conf_state *conf_state,
                            raft_index last_index);
#endif
