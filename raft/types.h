/* raft/types.h - the vocabulary of the log, shared by consensus, the log on disk and the state
 * machine. */
#ifndef RAFT_TYPES_H
#define RAFT_TYPES_H
#include "base/slice.h"
#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef uint64_t raft_term;
typedef uint64_t raft_index; /* counts from 1; 0 means "before the first entry" */
typedef uint64_t raft_id;    /* a member; 0 means none */

#define RAFT_ID_APPEND_THREAD UINT64_MAX      /* address of the local append worker in messages */
#define RAFT_ID_APPLY_THREAD (UINT64_MAX - 1) /* address of the local apply worker */
#define RAFT_MEMBERS_MAX 64 /* members of one configuration, voters and learners together */

struct raft_log_id {
    raft_index index;
    raft_term term;
};

struct raft_hard_state {
    raft_term term;
    raft_id vote;
    raft_index commit; /* a hint; never forces a sync by itself */
};

/* Bytes of one entry: immutable once made, counted, shared by the core, messages, the log and
 * apply. */
struct raft_payload {
    atomic_uint references;
    uint32_t len; /* bytes */
    uint8_t data[];
};

/* A payload of len bytes with one reference, to be filled by the caller before anyone else sees it.
 * NULL without memory. */
struct raft_payload *raft_payload_new(size_t len);
struct raft_payload *raft_payload_copy(struct slice data);
struct raft_payload *raft_payload_ref(struct raft_payload *payload); /* NULL passes through */
void raft_payload_unref(struct raft_payload *payload);               /* NULL is fine */

static inline struct slice raft_payload_slice(const struct raft_payload *payload)
{
    return payload == NULL ? SLICE_EMPTY : slice_make(payload->data, payload->len);
}

enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_CONF_CHANGE = 1,
    RAFT_ENTRY_CONF_CHANGE_V2 = 2,
};

struct raft_entry {
    raft_term term;
    raft_index index;
    enum raft_entry_type type;
    struct raft_payload *payload; /* counted; NULL for an empty entry */
};

struct raft_conf_state {
    raft_id voters[RAFT_MEMBERS_MAX], learners[RAFT_MEMBERS_MAX];
    raft_id voters_outgoing[RAFT_MEMBERS_MAX], learners_next[RAFT_MEMBERS_MAX];
    uint32_t voters_count, learners_count, voters_outgoing_count, learners_next_count;
    bool auto_leave;
};

struct raft_snapshot_meta {
    struct raft_log_id last; /* last entry the snapshot contains */
    struct raft_conf_state conf_state;
};
#endif
