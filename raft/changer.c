#include "raft/conf_change.h"

#include "base/assert.h"
#include "base/minmax.h"

static const char too_many_members[] = "too many members";

static const char *add_progress(struct tracker *tracker, raft_id id, bool is_learner,
                                raft_index last_index)
{
    /* A member just added counts as active until it had a chance to speak, or the next quorum check
     * would depose the leader. */
    struct progress progress = {
        .id = id,
        .next = max_u64(last_index, 1),
        .recent_active = true,
        .is_learner = is_learner,
    };
    return tracker_add(tracker, &progress) ? NULL : too_many_members;
}

static const char *make_voter(struct tracker *tracker, raft_id id, raft_index last_index)
{
    struct raft_configuration *c = &tracker->configuration;
    struct progress *progress = tracker_find(tracker, id);
    if (!id_set_add(&c->incoming, id))
        return too_many_members;
    if (progress == NULL)
        return add_progress(tracker, id, /* is_learner= */ false, last_index);
    progress->is_learner = false;
    id_set_remove(&c->learners, id);
    id_set_remove(&c->learners_next, id);
    return NULL;
}

static void remove_member(struct tracker *tracker, raft_id id)
{
    struct raft_configuration *c = &tracker->configuration;
    if (tracker_find(tracker, id) == NULL)
        return;
    id_set_remove(&c->incoming, id);
    id_set_remove(&c->learners, id);
    id_set_remove(&c->learners_next, id);
    if (!id_set_has(&c->outgoing, id))
        tracker_remove(tracker, id);
}

static const char *make_learner(struct tracker *tracker, raft_id id, raft_index last_index)
{
    struct raft_configuration *c = &tracker->configuration;
    struct progress *progress = tracker_find(tracker, id);
    if (progress == NULL) {
        if (!id_set_add(&c->learners, id))
            return too_many_members;
        return add_progress(tracker, id, /* is_learner= */ true, last_index);
    }
    if (progress->is_learner)
        return NULL;
    id_set_remove(&c->incoming, id);
    /* As long as it votes in the outgoing half it cannot be a learner as well. */
    bool in_outgoing = id_set_has(&c->outgoing, id);
    struct id_set *target = in_outgoing ? &c->learners_next : &c->learners;
    progress->is_learner = !in_outgoing;
    return id_set_add(target, id) ? NULL : too_many_members;
}

static const char *apply_changes(struct tracker *tracker, const struct conf_change_single *changes,
                                 uint32_t count, raft_index last_index)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *why = NULL;
        if (changes[i].node_id == 0)
            continue; /* how a state machine refuses a change */
        switch (changes[i].type) {
        case CONF_CHANGE_ADD_NODE:
            why = make_voter(tracker, changes[i].node_id, last_index);
            break;
        case CONF_CHANGE_ADD_LEARNER:
            why = make_learner(tracker, changes[i].node_id, last_index);
            break;
        case CONF_CHANGE_REMOVE_NODE:
            remove_member(tracker, changes[i].node_id);
            break;
        case CONF_CHANGE_UPDATE_NODE:
            break;
        }
        if (why != NULL)
            return why;
    }
    return tracker->configuration.incoming.count == 0 ? "removed all voters" : NULL;
}

static uint32_t difference(const struct id_set *a, const struct id_set *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->count; i++)
        count += !id_set_has(b, a->ids[i]);
    for (uint32_t i = 0; i < b->count; i++)
        count += !id_set_has(a, b->ids[i]);
    return count;
}

const char *changer_simple(struct tracker *tracker, const struct conf_change_single *changes,
                           uint32_t count, raft_index last_index)
{
    if (tracker_is_joint(tracker))
        return "can't apply simple config change in joint config";
    struct id_set before = tracker->configuration.incoming;
    const char *why = apply_changes(tracker, changes, count, last_index);
    if (why != NULL)
        return why;
    /* Two majorities that differ in one voter always share a member. */
    if (difference(&before, &tracker->configuration.incoming) > 1)
        return "more than one voter changed without entering joint config";
    return NULL;
}

const char *changer_enter_joint(struct tracker *tracker, bool auto_leave,
                                const struct conf_change_single *changes, uint32_t count,
                                raft_index last_index)
{
    struct raft_configuration *c = &tracker->configuration;
    if (tracker_is_joint(tracker))
        return "config is already joint";
    if (c->incoming.count == 0)
        return "can't make a zero-voter config joint";
    c->outgoing = c->incoming;
    const char *why = apply_changes(tracker, changes, count, last_index);
    c->auto_leave = auto_leave;
    return why;
}

const char *changer_leave_joint(struct tracker *tracker)
{
    struct raft_configuration *c = &tracker->configuration;
    if (!tracker_is_joint(tracker))
        return "can't leave a non-joint config";
    for (uint32_t i = 0; i < c->learners_next.count; i++) {
        raft_id id = c->learners_next.ids[i];
        tracker_find(tracker, id)->is_learner = true;
        if (!id_set_add(&c->learners, id))
            return too_many_members;
    }
    for (uint32_t i = 0; i < c->outgoing.count; i++) {
        raft_id id = c->outgoing.ids[i];
        if (!id_set_has(&c->incoming, id) && !id_set_has(&c->learners, id))
            tracker_remove(tracker, id);
    }
    c->learners_next.count = 0;
    c->outgoing.count = 0;
    c->auto_leave = false;
    return NULL;
}

const char *changer_apply(struct tracker *tracker, const struct conf_change *change,
                          raft_index last_index)
{
    if (conf_change_is_leave(change))
        return changer_leave_joint(tracker);
    if (!conf_change_is_enter(change))
        return changer_simple(tracker, change->changes, change->changes_count, last_index);
    return changer_enter_joint(tracker, change->transition != CONF_CHANGE_JOINT_EXPLICIT,
                               change->changes, change->changes_count, last_index);
}

static const char *simple_one(struct tracker *tracker, enum conf_change_type type, raft_id id,
                              raft_index last_index)
{
    struct conf_change_single change = {.type = type, .node_id = id};
    return changer_simple(tracker, &change, 1, last_index);
}

static const char *simple_all(struct tracker *tracker, enum conf_change_type type,
                              const raft_id *ids, uint32_t count, raft_index last_index)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *why = simple_one(tracker, type, ids[i], last_index);
        if (why != NULL)
            return why;
    }
    return NULL;
}

static uint32_t add_singles(struct conf_change_single *out, uint32_t at, enum conf_change_type type,
                            const raft_id *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        out[at++] = (struct conf_change_single){.type = type, .node_id = ids[i]};
    return at;
}

const char *changer_restore(struct tracker *tracker, const struct raft_conf_state *cs,
                            raft_index last_index)
{
    ASSERT(tracker->progresses_count == 0);
    const char *why;
    if (cs->voters_outgoing_count == 0) {
        why = simple_all(tracker, CONF_CHANGE_ADD_NODE, cs->voters, cs->voters_count, last_index);
        if (why == NULL)
            why = simple_all(tracker, CONF_CHANGE_ADD_LEARNER, cs->learners, cs->learners_count,
                             last_index);
        return why;
    }
    /* The old half first, then one step into the joint configuration. */
    why = simple_all(tracker, CONF_CHANGE_ADD_NODE, cs->voters_outgoing, cs->voters_outgoing_count,
                     last_index);
    if (why != NULL)
        return why;
    struct conf_change_single changes[4 * RAFT_MEMBERS_MAX];
    uint32_t count = add_singles(changes, 0, CONF_CHANGE_REMOVE_NODE, cs->voters_outgoing,
                                 cs->voters_outgoing_count);
    count = add_singles(changes, count, CONF_CHANGE_ADD_NODE, cs->voters, cs->voters_count);
    count = add_singles(changes, count, CONF_CHANGE_ADD_LEARNER, cs->learners, cs->learners_count);
    count = add_singles(changes, count, CONF_CHANGE_ADD_LEARNER, cs->learners_next,
                        cs->learners_next_count);
    return changer_enter_joint(tracker, cs->auto_leave, changes, count, last_index);
}
