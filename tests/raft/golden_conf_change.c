#include "tests/raft/golden.h"

#include "base/assert.h"

#include <string.h>

uint32_t golden_parse_changes(char *input, struct conf_change_single *out)
{
    uint32_t count = 0;
    for (char *p = input + strspn(input, " \n"); *p != '\0'; p += strspn(p, " \n")) {
        static const char letters[] = "vrul"; /* in the order of conf_change_type */
        const char *letter = strchr(letters, *p);
        ASSERT(letter != NULL);
        ASSERT(count < CONF_CHANGES_MAX);
        out[count++] = (struct conf_change_single){
            .type = (enum conf_change_type)(letter - letters),
            .node_id = script_number(p + 1),
        };
        p += strcspn(p, " \n");
    }
    return count;
}

void golden_print_progresses(const struct tracker *tracker, const struct flow_limits *limits,
                             struct buf *out)
{
    static const char *const states[] = {"StateProbe", "StateReplicate", "StateSnapshot"};
    for (uint32_t i = 0; i < tracker->progresses_count; i++) {
        const struct progress *p = &tracker->progresses[i];
        emit(out, "%llx: %s match=%llu next=%llu", (unsigned long long)p->id, states[p->state],
             (unsigned long long)p->match, (unsigned long long)p->next);
        if (p->is_learner)
            emit(out, " learner");
        if (progress_is_paused(p))
            emit(out, " paused");
        if (p->pending_snapshot > 0)
            emit(out, " pendingSnap=%llu", (unsigned long long)p->pending_snapshot);
        if (!p->recent_active)
            emit(out, " inactive");
        if (p->inflights.count > 0)
            emit(out, " inflight=%u%s", p->inflights.count,
                 inflights_is_full(&p->inflights, limits) ? "[full]" : "");
        emit(out, "\n");
    }
}

static void print_ids(const char *before, const struct id_set *set, struct buf *out)
{
    emit(out, "%s(", before);
    for (uint32_t i = 0; i < set->count; i++)
        emit(out, "%s%llx", i == 0 ? "" : " ", (unsigned long long)set->ids[i]);
    emit(out, ")");
}

static void print_configuration(const struct raft_configuration *c, struct buf *out)
{
    print_ids("voters=", &c->incoming, out);
    if (c->outgoing.count > 0)
        print_ids("&&", &c->outgoing, out);
    if (c->learners.count > 0)
        print_ids(" learners=", &c->learners, out);
    if (c->learners_next.count > 0)
        print_ids(" learners_next=", &c->learners_next, out);
    if (c->auto_leave)
        emit(out, " autoleave");
    emit(out, "\n");
}

struct changer_state {
    struct tracker tracker;
    raft_index last_index;
};

static void run(void *context, const struct script_command *command, struct buf *out)
{
    struct changer_state *state = context;
    struct conf_change_single changes[CONF_CHANGES_MAX];
    uint32_t count = golden_parse_changes(command->input, changes);
    struct tracker changed = state->tracker;
    const char *why;
    if (strcmp(command->name, "simple") == 0) {
        why = changer_simple(&changed, changes, count, state->last_index);
    } else if (strcmp(command->name, "enter-joint") == 0) {
        why = changer_enter_joint(&changed, script_flag(command, "autoleave", false), changes,
                                  count, state->last_index);
    } else {
        ASSERT(strcmp(command->name, "leave-joint") == 0);
        why = count > 0 ? "this command takes no input" : changer_leave_joint(&changed);
    }
    state->last_index++;
    if (why != NULL) {
        emit(out, "%s", why);
        return;
    }
    tracker_check(&changed);
    state->tracker = changed;
    print_configuration(&changed.configuration, out);
    golden_print_progresses(&changed, &(struct flow_limits){.messages_max = 10}, out);
}

int golden_conf_change(const char *path)
{
    static struct changer_state state;
    state = (struct changer_state){0};
    return script_file(path, run, &state);
}
