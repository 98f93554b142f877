#include "tests/raft/golden.h"

#include "base/assert.h"
#include "base/minmax.h"
#include "raft/quorum.h"

#include <string.h>

struct quorum_case {
    struct id_set halves[2];
    struct id_set all;
    bool joint;
    bool known[RAFT_MEMBERS_MAX]; /* by position in all */
    uint64_t values[RAFT_MEMBERS_MAX];
    enum vote votes[RAFT_MEMBERS_MAX];
};

static void add_ids(const struct script_arg *arg, struct id_set *set)
{
    for (uint32_t i = 0; arg != NULL && i < arg->values_count; i++) {
        bool added = id_set_add(set, script_number(arg->values[i]));
        ASSERT(added);
    }
}

static uint32_t position(const struct id_set *set, raft_id id)
{
    uint32_t at = 0;
    while (set->ids[at] != id)
        at++;
    return at;
}

/* Values go to the ids in the order they were first named. */
static void assign(struct quorum_case *c, const struct script_arg *halves[2],
                   const struct script_arg *values)
{
    struct id_set done = {0};
    uint32_t next = 0;
    for (uint32_t half = 0; half < 2; half++) {
        for (uint32_t i = 0; halves[half] != NULL && i < halves[half]->values_count; i++) {
            raft_id id = script_number(halves[half]->values[i]);
            if (id_set_has(&done, id))
                continue;
            bool added = id_set_add(&done, id);
            ASSERT(added);
            uint32_t at = position(&c->all, id);
            const char *text = values->values[next++];
            c->known[at] = *text != '_';
            if (*text == 'y' || *text == 'n')
                c->votes[at] = *text == 'y' ? VOTE_GRANTED : VOTE_REJECTED;
            else if (*text != '_')
                c->values[at] = script_number(text);
        }
    }
}

static bool load(const struct script_command *command, struct quorum_case *c, struct buf *out)
{
    const struct script_arg *halves[2] = {script_arg_find(command, "cfg"),
                                          script_arg_find(command, "cfgj")};
    c->joint = halves[1] != NULL;
    if (c->joint && strcmp(halves[1]->values[0], "zero") == 0)
        halves[1] = NULL;
    for (uint32_t half = 0; half < 2; half++) {
        add_ids(halves[half], &c->halves[half]);
        add_ids(halves[half], &c->all);
    }
    const struct script_arg *values = script_arg_find(command, "idx");
    if (values == NULL)
        values = script_arg_find(command, "votes");
    uint32_t count = values == NULL ? 0 : values->values_count;
    if (count != c->all.count) {
        emit(out, "error: mismatched input (explicit or _) for voters ");
        return false;
    }
    if (values != NULL)
        assign(c, halves, values);
    return true;
}

static void draw(const struct quorum_case *c, struct buf *out)
{
    int n = (int)c->all.count;
    if (n == 0) {
        emit(out, "<empty majority quorum>");
        return;
    }
    emit(out, "%*s    idx\n", n, "");
    for (int i = 0; i < n; i++) {
        int rank = 0;
        for (int j = 0; j < n; j++)
            rank += c->values[j] < c->values[i];
        if (!c->known[i]) {
            emit(out, "?%*s", n, "");
        } else {
            for (int bar = 0; bar < rank; bar++)
                emit(out, "x");
            emit(out, ">%*s", n - rank, "");
        }
        emit(out, " %5llu    (id=%llx)\n", (unsigned long long)c->values[i],
             (unsigned long long)c->all.ids[i]);
    }
}

static raft_index half_index(const struct quorum_case *c, uint32_t half)
{
    raft_index indexes[RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < c->halves[half].count; i++)
        indexes[i] = c->values[position(&c->all, c->halves[half].ids[i])];
    return quorum_majority_index(indexes, c->halves[half].count);
}

static enum quorum_result half_vote(const struct quorum_case *c, uint32_t half)
{
    uint32_t yes = 0, no = 0;
    for (uint32_t i = 0; i < c->halves[half].count; i++) {
        enum vote vote = c->votes[position(&c->all, c->halves[half].ids[i])];
        yes += vote == VOTE_GRANTED;
        no += vote == VOTE_REJECTED;
    }
    return quorum_majority_vote(yes, no, c->halves[half].count);
}

static void run(void *context, const struct script_command *command, struct buf *out)
{
    (void)context;
    struct quorum_case c = {0};
    if (!load(command, &c, out))
        return;
    if (strcmp(command->name, "committed") == 0) {
        draw(&c, out);
        raft_index index = half_index(&c, 0);
        if (c.joint)
            index = min_u64(index, half_index(&c, 1));
        if (index == UINT64_MAX)
            emit(out, "∞");
        else
            emit(out, "%llu", (unsigned long long)index);
        return;
    }
    ASSERT(strcmp(command->name, "vote") == 0);
    enum quorum_result result = half_vote(&c, 0);
    if (c.joint) {
        result = quorum_joint_vote(result, half_vote(&c, 1));
        ASSERT(result == quorum_joint_vote(half_vote(&c, 1), half_vote(&c, 0)));
    }
    static const char *const names[] = {"VoteLost", "VotePending", "VoteWon"};
    emit(out, "%s", names[result]);
}

int golden_quorum(const char *path)
{
    return script_file(path, run, NULL);
}
