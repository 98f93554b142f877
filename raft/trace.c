/* raft/trace.c - what happens here, as text in etcd's words. */
#include "raft/raft_private.h"

#include "raft/limits.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void raft_trace(struct raft *r, enum raft_log_level level, const char *format, ...)
{
    if (r->config.log == NULL)
        return;
    char text[TRACE_BYTES_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    r->config.log(r->config.log_context, level, text);
}

struct printer {
    char *out;
    size_t used, capacity;
};

static void put(struct printer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct printer *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(p->out + p->used, p->capacity - p->used, format, args);
    va_end(args);
    if (len > 0)
        p->used = (size_t)len < p->capacity - p->used ? p->used + (size_t)len : p->capacity - 1;
}

static void put_ids(struct printer *p, const char *name, const struct id_set *ids)
{
    put(p, "%s(", name);
    for (uint32_t i = 0; i < ids->count; i++)
        put(p, "%s%" PRIx64, i == 0 ? "" : " ", ids->ids[i]);
    put(p, ")");
}

const char *raft_print_configuration(const struct tracker *tracker, char *out, size_t capacity)
{
    const struct raft_configuration *c = &tracker->configuration;
    struct printer p = {.out = out, .capacity = capacity};
    put_ids(&p, "voters=", &c->incoming);
    if (c->outgoing.count > 0)
        put_ids(&p, "&&", &c->outgoing);
    if (c->learners.count > 0)
        put_ids(&p, " learners=", &c->learners);
    if (c->learners_next.count > 0)
        put_ids(&p, " learners_next=", &c->learners_next);
    if (c->auto_leave)
        put(&p, " autoleave");
    return out;
}

const char *raft_print_progress(const struct raft *r, const struct progress *progress, char *out,
                                size_t capacity)
{
    static const char *const states[] = {"StateProbe", "StateReplicate", "StateSnapshot"};
    const struct flow_limits limits = {.messages_max = r->config.inflight_messages_max,
                                       .bytes_max = r->config.inflight_bytes_max};
    struct printer p = {.out = out, .capacity = capacity};
    put(&p, "%s match=%" PRIu64 " next=%" PRIu64, states[progress->state], progress->match,
        progress->next);
    put(&p, "%s%s", progress->is_learner ? " learner" : "",
        progress_is_paused(progress) ? " paused" : "");
    if (progress->pending_snapshot > 0)
        put(&p, " pendingSnap=%" PRIu64, progress->pending_snapshot);
    if (!progress->recent_active)
        put(&p, " inactive");
    if (progress->inflights.count > 0)
        put(&p, " inflight=%" PRIu32 "%s", progress->inflights.count,
            inflights_is_full(&progress->inflights, &limits) ? "[full]" : "");
    return out;
}

const char *raft_print_change(const struct conf_change *change, char *out, size_t capacity)
{
    static const char *const transitions[] = {"Auto", "JointImplicit", "JointExplicit"};
    static const char *const types[] = {"AddNode", "RemoveNode", "UpdateNode", "AddLearnerNode"};
    struct printer p = {.out = out, .capacity = capacity};
    put(&p, "transition:ConfChangeTransition%s", transitions[change->transition]);
    for (uint32_t i = 0; i < change->changes_count; i++)
        put(&p, " changes:{type:ConfChange%s node_id:%" PRIu64 "}", types[change->changes[i].type],
            change->changes[i].node_id);
    return out;
}

const char *raft_message_name(enum raft_message_type type)
{
    static const char *const names[] = {
        "MsgHup",
        "MsgBeat",
        "MsgProp",
        "MsgApp",
        "MsgAppResp",
        "MsgVote",
        "MsgVoteResp",
        "MsgSnap",
        "MsgHeartbeat",
        "MsgHeartbeatResp",
        "MsgUnreachable",
        "MsgSnapStatus",
        "MsgCheckQuorum",
        "MsgTransferLeader",
        "MsgTimeoutNow",
        "MsgReadIndex",
        "MsgReadIndexResp",
        "MsgPreVote",
        "MsgPreVoteResp",
        "MsgStorageAppend",
        "MsgStorageAppendResp",
        "MsgStorageApply",
        "MsgStorageApplyResp",
        "MsgForgetLeader",
    };
    size_t count = sizeof(names) / sizeof(names[0]);
    return (size_t)type < count ? names[type] : "MsgUnknown";
}

const char *raft_quarantine_text(enum raft_quarantine quarantine)
{
    switch (quarantine) {
    case RAFT_QUARANTINE_NONE:
        return "none";
    case RAFT_QUARANTINE_LOG_LOST:
        return "the log lacks entries that this member acknowledged";
    case RAFT_QUARANTINE_BAD_CONF_CHANGE:
        return "a committed change of the configuration cannot be read";
    }
    return "unknown";
}
