#include "tests/raft/golden.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "raft/raft_private.h"
#include "tests/raft/golden_print.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX 8U
#define FLIGHT_MAX 1024U
#define QUEUE_MAX 64U
#define ENTRIES_MAX 1024U

struct node {
    struct raft *raft;
    struct raft_config config;
    bool is_async;
    struct raft_log_id before_first;        /* of the stored log */
    struct raft_entry entries[ENTRIES_MAX]; /* stored: entries[i] has index before_first + 1 + i */
    uint32_t entries_count;
    struct raft_ready *appends[QUEUE_MAX], *applies[QUEUE_MAX];
    uint32_t appends_count, applies_count;
    struct raft_ready *held[QUEUE_MAX]; /* batches with work to do, once for each work */
    uint32_t held_count;
};

struct environment {
    struct node nodes[NODES_MAX];
    uint32_t nodes_count;
    struct raft_message flight[FLIGHT_MAX]; /* copies, with entries and contexts of their own */
    uint32_t flight_count;
    struct rng rng;
    bool silent;
};

static struct node *node_of(struct environment *e, const char *text)
{
    uint64_t id = script_number(text);
    ASSERT(id >= 1 && id <= e->nodes_count);
    return &e->nodes[id - 1];
}

static raft_id id_of(const struct node *node)
{
    return node->config.id;
}

static void add_id(const char *text, raft_id *ids, uint32_t *count)
{
    ids[(*count)++] = script_number(text);
}

/* ---- messages in flight ---- */

static void put_in_flight(struct environment *e, const struct raft_message *message)
{
    ASSERT(e->flight_count < FLIGHT_MAX);
    struct raft_message copy = *message;
    if (copy.entries_count > 0) {
        struct raft_entry *entries = calloc(copy.entries_count, sizeof(*entries));
        ASSERT(entries != NULL);
        for (uint32_t i = 0; i < copy.entries_count; i++) {
            entries[i] = message->entries[i];
            raft_payload_ref(entries[i].payload);
        }
        copy.entries = entries;
    }
    if (copy.context.len > 0) {
        uint8_t *bytes = malloc(copy.context.len);
        ASSERT(bytes != NULL);
        memcpy(bytes, copy.context.data, copy.context.len);
        copy.context.data = bytes;
    }
    e->flight[e->flight_count++] = copy;
}

static void end_message(struct raft_message *message)
{
    for (uint32_t i = 0; i < message->entries_count; i++)
        raft_payload_unref(message->entries[i].payload);
    if (message->entries_count > 0)
        free((void *)message->entries);
    if (message->context.len > 0)
        free((void *)message->context.data);
}

static bool is_local(const struct raft_message *m)
{
    return m->from == m->to || m->from >= RAFT_ID_APPLY_THREAD;
}

static void step(struct node *node, const struct raft_message *message, struct buf *out)
{
    enum status st = raft_step(node->raft, message);
    if (st == ST_DROPPED)
        emit(out, "raft proposal dropped\n");
    else
        ASSERT(st == ST_OK || st == ST_NOT_FOUND);
    raft_check(node->raft);
}

/* All messages to one node, in order; false: there was none. */
static bool deliver(struct environment *e, raft_id to, bool drop, const char *type, struct buf *out)
{
    struct raft_message taken[FLIGHT_MAX];
    uint32_t taken_count = 0, kept = 0;
    for (uint32_t i = 0; i < e->flight_count; i++) {
        struct raft_message *m = &e->flight[i];
        bool wanted = m->to == to && !(drop && is_local(m)) &&
                      (type == NULL || strcmp(print_message_name(m->type), type) == 0);
        if (wanted)
            taken[taken_count++] = *m;
        else
            e->flight[kept++] = *m;
    }
    e->flight_count = kept;
    for (uint32_t i = 0; i < taken_count; i++) {
        emit(out, "%s", drop ? "dropped: " : "");
        print_message(&taken[i], out);
        if (!drop)
            step(&e->nodes[to - 1], &taken[i], out);
        end_message(&taken[i]);
    }
    return taken_count > 0;
}

/* ---- work ---- */

static void release_work(struct node *node, struct raft_ready *ready)
{
    bool dropped = false, still_held = false;
    for (uint32_t i = 0; i < node->held_count;) {
        if (node->held[i] == ready && !dropped) {
            node->held[i] = node->held[--node->held_count];
            dropped = true;
            continue;
        }
        still_held = still_held || node->held[i] == ready;
        i++;
    }
    ASSERT(dropped);
    if (!still_held)
        raft_ready_release(ready);
}

static void store_append(struct node *node, const struct raft_append_work *work)
{
    for (uint32_t i = 0; i < work->entries_count; i++) {
        const struct raft_entry *entry = &work->entries[i];
        ASSERT(entry->index > node->before_first.index);
        uint32_t at = (uint32_t)(entry->index - node->before_first.index - 1);
        ASSERT(at <= node->entries_count && at < ENTRIES_MAX);
        for (uint32_t cut = at; cut < node->entries_count; cut++)
            raft_payload_unref(node->entries[cut].payload);
        node->entries[at] = *entry;
        raft_payload_ref(entry->payload);
        node->entries_count = at + 1;
    }
}

static void apply(struct node *node, const struct raft_apply_work *work)
{
    for (uint32_t i = 0; i < work->entries_count; i++) {
        const struct raft_entry *entry = &work->entries[i];
        if (entry->type == RAFT_ENTRY_NORMAL)
            continue;
        struct slice change = raft_payload_slice(entry->payload);
        struct raft_conf_state conf_state;
        enum status st = raft_apply_conf_change(node->raft, entry->type, &change, &conf_state);
        ASSERT(st == ST_OK);
        raft_check(node->raft);
    }
}

static struct raft_ready *pop_work(struct raft_ready **queue, uint32_t *count)
{
    struct raft_ready *first = queue[0];
    memmove(queue, queue + 1, --*count * sizeof(*queue));
    return first;
}

static void process_append(struct environment *e, struct node *node, struct buf *out)
{
    if (node->appends_count == 0) {
        emit(out, "no append work to perform");
        return;
    }
    struct raft_ready *ready = pop_work(node->appends, &node->appends_count);
    emit(out, "Processing:\n");
    print_append_work(id_of(node), &ready->append, /* with_responses= */ false, out);
    store_append(node, &ready->append);
    emit(out, "Responses:\n");
    for (uint32_t i = 0; i < ready->append.responses_count; i++) {
        print_message(&ready->append.responses[i], out);
        put_in_flight(e, &ready->append.responses[i]);
    }
    release_work(node, ready);
}

static void process_apply(struct environment *e, struct node *node, struct buf *out)
{
    if (node->applies_count == 0) {
        emit(out, "no apply work to perform");
        return;
    }
    struct raft_ready *ready = pop_work(node->applies, &node->applies_count);
    emit(out, "Processing:\n");
    print_apply_work(id_of(node), &ready->apply, /* with_responses= */ false, out);
    apply(node, &ready->apply);
    emit(out, "Responses:\n");
    print_message(&ready->apply.response, out);
    put_in_flight(e, &ready->apply.response);
    release_work(node, ready);
}

static void queue_work(struct node *node, struct raft_ready *ready)
{
    ASSERT(node->appends_count < QUEUE_MAX && node->applies_count < QUEUE_MAX);
    ASSERT(node->held_count + 2 <= QUEUE_MAX);
    if (ready->append.present) {
        node->appends[node->appends_count++] = ready;
        node->held[node->held_count++] = ready;
    }
    if (ready->apply.entries_count > 0) {
        node->applies[node->applies_count++] = ready;
        node->held[node->held_count++] = ready;
    }
    if (!ready->append.present && ready->apply.entries_count == 0)
        raft_ready_release(ready);
}

/* The synchronous mode of upstream: everything done at once, then the answers to oneself. */
static void do_work(struct environment *e, struct node *node, struct raft_ready *ready,
                    struct buf *out)
{
    store_append(node, &ready->append);
    apply(node, &ready->apply);
    for (uint32_t i = 0; i < ready->append.responses_count; i++) {
        const struct raft_message *m = &ready->append.responses[i];
        if (m->to != id_of(node))
            put_in_flight(e, m);
    }
    for (uint32_t i = 0; i < ready->append.responses_count; i++) {
        if (ready->append.responses[i].to == id_of(node))
            step(node, &ready->append.responses[i], out);
    }
    if (ready->apply.entries_count > 0)
        step(node, &ready->apply.response, out);
    raft_ready_release(ready);
}

/* A batch that only tells the durable id is ours alone: upstream has no such thing. */
static bool says_nothing(const struct raft_ready *ready)
{
    return !ready->has_soft_state && ready->messages_count == 0 && !ready->append.present &&
           ready->apply.entries_count == 0 && ready->read_states_count == 0 &&
           ready->reads_lost_count == 0;
}

static bool has_ready(struct node *node)
{
    if (!raft_has_ready(node->raft))
        return false;
    struct raft *r = node->raft;
    bool only_durable = (r->building == NULL || batch_is_empty(r->building)) &&
                        r->role == r->seen_role && r->leader == r->seen_leader &&
                        r->term == r->seen_hard_state.term && r->vote == r->seen_hard_state.vote &&
                        r->log.committed == r->seen_hard_state.commit &&
                        log_writable_count(&r->log) == 0;
    raft_index last;
    uint64_t bytes;
    return !only_durable || log_next_committed(&r->log, &last, &bytes);
}

static void process_ready(struct environment *e, struct node *node, struct buf *out)
{
    struct raft_ready *ready;
    enum status st = raft_ready(node->raft, &ready);
    ASSERT(st == ST_OK);
    print_ready(id_of(node), ready, node->is_async, out);
    if (says_nothing(ready)) {
        raft_ready_release(ready);
        return;
    }
    for (uint32_t i = 0; i < ready->messages_count; i++)
        put_in_flight(e, &ready->messages[i]);
    if (node->is_async)
        queue_work(node, ready);
    else
        do_work(e, node, ready, out);
}

/* ---- commands ---- */

static void indent(const struct buf *body, struct buf *out)
{
    size_t at = 0;
    while (at < body->len) {
        const uint8_t *end = memchr(body->data + at, '\n', body->len - at);
        size_t len = end == NULL ? body->len - at : (size_t)(end - body->data) - at;
        emit(out, "  %.*s\n", (int)len, (const char *)body->data + at);
        at += len + 1;
    }
}

typedef void (*process)(struct environment *e, struct node *node, struct buf *out);

/* One node plainly, several under a header each. */
static void process_each(struct environment *e, const struct script_command *command,
                         const char *title, process fn, struct buf *out)
{
    for (uint32_t i = 0; i < command->args_count; i++) {
        struct node *node = node_of(e, command->args[i].key);
        if (command->args_count == 1) {
            fn(e, node, out);
            return;
        }
        struct buf body;
        buf_init(&body, SIZE_MAX / 2);
        emit(out, "> %llx %s\n", (unsigned long long)id_of(node), title);
        fn(e, node, &body);
        indent(&body, out);
        buf_deinit(&body);
    }
}

static void under_title(struct environment *e, struct node *node, const char *title, process fn,
                        struct buf *out)
{
    struct buf body;
    buf_init(&body, SIZE_MAX / 2);
    emit(out, "> %llx %s\n", (unsigned long long)id_of(node), title);
    fn(e, node, &body);
    indent(&body, out);
    buf_deinit(&body);
}

static void receive_all(struct environment *e, struct node *node, struct buf *out)
{
    (void)deliver(e, id_of(node), /* drop= */ false, NULL, out);
}

static void append_all(struct environment *e, struct node *node, struct buf *out)
{
    while (node->appends_count > 0)
        process_append(e, node, out);
}

static void apply_all(struct environment *e, struct node *node, struct buf *out)
{
    while (node->applies_count > 0)
        process_apply(e, node, out);
}

static bool has_messages(const struct environment *e, raft_id to)
{
    for (uint32_t i = 0; i < e->flight_count; i++) {
        if (e->flight[i].to == to)
            return true;
    }
    return false;
}

static bool stabilize_once(struct environment *e, struct node **nodes, uint32_t count,
                           struct buf *out)
{
    bool busy = false;
    for (uint32_t i = 0; i < count; i++) {
        if (has_ready(nodes[i])) {
            under_title(e, nodes[i], "handling Ready", process_ready, out);
            busy = true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (has_messages(e, id_of(nodes[i]))) {
            under_title(e, nodes[i], "receiving messages", receive_all, out);
            busy = true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i]->appends_count > 0) {
            under_title(e, nodes[i], "processing append thread", append_all, out);
            busy = true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i]->applies_count > 0) {
            under_title(e, nodes[i], "processing apply thread", apply_all, out);
            busy = true;
        }
    }
    return busy;
}

static void stabilize(struct environment *e, const struct script_command *command, struct buf *out)
{
    struct node *nodes[NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < command->args_count; i++) {
        if (command->args[i].values_count == 0)
            nodes[count++] = node_of(e, command->args[i].key);
    }
    for (uint32_t i = 0; count == 0 && i < e->nodes_count; i++)
        nodes[i] = &e->nodes[i];
    if (count == 0)
        count = e->nodes_count;
    while (stabilize_once(e, nodes, count, out))
        continue;
    if (script_arg_find(command, "log-level") != NULL)
        out->len = 0; /* the files only use it to be silent */
}

static void add_node(struct environment *e, const struct script_command *command)
{
    ASSERT(e->nodes_count < NODES_MAX);
    struct node *node = &e->nodes[e->nodes_count++];
    const struct script_arg *voters = script_arg_find(command, "voters");
    const struct script_arg *learners = script_arg_find(command, "learners");
    node->is_async = script_flag(command, "async-storage-writes", false);
    node->config = (struct raft_config){
        .id = e->nodes_count,
        .election_ticks = 3,
        .heartbeat_ticks = 1,
        .message_bytes_max = UINT64_MAX,
        .inflight_messages_max = (uint32_t)script_arg_number(command, "inflight", INT32_MAX),
        .apply_bytes_max = script_arg_number(command, "max-committed-size-per-ready", UINT64_MAX),
        .check_quorum = script_flag(command, "checkquorum", false),
        .pre_vote = script_flag(command, "prevote", false),
        .step_down_on_removal = script_flag(command, "step-down-on-removal", false),
        .apply_unstable = !node->is_async, /* as upstream */
        .rng = &e->rng,
    };
    struct raft_start start = {0};
    for (uint32_t i = 0; voters != NULL && i < voters->values_count; i++)
        add_id(voters->values[i], start.conf_state.voters, &start.conf_state.voters_count);
    for (uint32_t i = 0; learners != NULL && i < learners->values_count; i++)
        add_id(learners->values[i], start.conf_state.learners, &start.conf_state.learners_count);
    if (voters != NULL || learners != NULL) {
        start.applied = script_arg_number(command, "index", 0);
        start.before_first = (struct raft_log_id){.index = start.applied, .term = 1};
    }
    node->before_first = start.before_first;
    enum status st = raft_new(&node->config, &start, &node->raft);
    ASSERT(st == ST_OK);
}

static void propose(struct node *node, const char *text, struct buf *out)
{
    struct raft_payload *payload = raft_payload_copy(slice_from_str(text));
    ASSERT(payload != NULL);
    raft_index index;
    if (raft_propose(node->raft, &payload, 1, &index) == ST_DROPPED)
        emit(out, "raft proposal dropped");
    raft_payload_unref(payload);
}

static struct raft_payload *encode_v2(const struct conf_change_single *changes, uint32_t count,
                                      uint8_t transition)
{
    uint8_t bytes[16 * CONF_CHANGES_MAX];
    size_t len = 0;
    bytes[len++] = 1 << 3;
    bytes[len++] = transition;
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(changes[i].node_id < 0x80);
        bytes[len++] = 2 << 3 | 2;
        bytes[len++] = 4;
        bytes[len++] = 1 << 3;
        bytes[len++] = (uint8_t)changes[i].type;
        bytes[len++] = 2 << 3;
        bytes[len++] = (uint8_t)changes[i].node_id;
    }
    return raft_payload_copy(slice_make(bytes, len));
}

static void propose_conf_change(struct node *node, const struct script_command *command,
                                struct buf *out)
{
    static const char *const transitions[] = {"auto", "implicit", "explicit"};
    struct conf_change_single changes[CONF_CHANGES_MAX];
    uint32_t count = golden_parse_changes(command->input, changes);
    const struct script_arg *arg = script_arg_find(command, "transition");
    uint8_t transition = 0;
    while (arg != NULL && strcmp(arg->values[0], transitions[transition]) != 0)
        transition++;
    bool v1 = script_flag(command, "v1", false);
    struct raft_payload *payload = v1 ? conf_change_encode_v1(0, changes[0], SLICE_EMPTY)
                                      : encode_v2(changes, count, transition);
    raft_index index;
    enum status st = raft_propose_conf_change(
        node->raft, v1 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2, payload, &index);
    if (st == ST_DROPPED)
        emit(out, "raft proposal dropped");
    raft_payload_unref(payload);
}

static void deliver_messages(struct environment *e, const struct script_command *command,
                             struct buf *out)
{
    const struct script_arg *type = script_arg_find(command, "type");
    const struct script_arg *drop = script_arg_find(command, "drop");
    bool any = false;
    for (uint32_t i = 0; i < command->args_count; i++) {
        if (command->args[i].values_count == 0)
            any = deliver(e, script_number(command->args[i].key), false,
                          type == NULL ? NULL : type->values[0], out) ||
                  any;
    }
    for (uint32_t i = 0; drop != NULL && i < drop->values_count; i++)
        any = deliver(e, script_number(drop->values[i]), true,
                      type == NULL ? NULL : type->values[0], out) ||
              any;
    if (!any)
        emit(out, "no messages");
}

static void print_state(struct environment *e, struct buf *out)
{
    for (uint32_t i = 0; i < e->nodes_count; i++) {
        struct raft *r = e->nodes[i].raft;
        emit(out, "%llx: %s (%s) Term:%llu Lead:%llu\n", (unsigned long long)r->id,
             print_role(r->role), tracker_is_voter(&r->tracker, r->id) ? "Voter" : "Non-Voter",
             (unsigned long long)r->term, (unsigned long long)r->leader);
    }
}

static void print_log(const struct node *node, struct buf *out)
{
    if (node->entries_count == 0)
        emit(out, "log is empty: first index=%llu, last index=%llu",
             (unsigned long long)node->before_first.index + 1,
             (unsigned long long)node->before_first.index);
    print_entries(node->entries, node->entries_count, out);
}

static void print_status(struct node *node, struct buf *out)
{
    struct flow_limits limits = {.messages_max = node->config.inflight_messages_max};
    if (node->raft->role == RAFT_LEADER)
        golden_print_progresses(&node->raft->tracker, &limits, out);
}

/* Commands about one node; false: not one of them. */
static bool run_on_node(struct environment *e, const struct script_command *c, struct buf *out)
{
    struct node *node = node_of(e, c->args[0].key);
    enum status st = ST_OK;
    if (strcmp(c->name, "campaign") == 0)
        st = raft_campaign(node->raft);
    else if (strcmp(c->name, "propose") == 0)
        propose(node, c->args[1].key, out);
    else if (strcmp(c->name, "propose-conf-change") == 0)
        propose_conf_change(node, c, out);
    else if (strcmp(c->name, "tick-heartbeat") == 0)
        raft_tick(node->raft);
    else if (strcmp(c->name, "tick-election") == 0)
        for (uint32_t i = 0; i < node->config.election_ticks; i++)
            raft_tick(node->raft);
    else if (strcmp(c->name, "set-randomized-election-timeout") == 0)
        node->raft->election_timeout = (uint32_t)script_arg_number(c, "timeout", 0);
    else if (strcmp(c->name, "forget-leader") == 0)
        st = raft_forget_leader(node->raft);
    else if (strcmp(c->name, "report-unreachable") == 0)
        raft_report_unreachable(node->raft, script_number(c->args[1].key));
    else if (strcmp(c->name, "raft-log") == 0)
        print_log(node, out);
    else if (strcmp(c->name, "status") == 0)
        print_status(node, out);
    else
        return false;
    ASSERT(st == ST_OK || st == ST_DROPPED || st == ST_BUSY);
    return true;
}

static void run(void *context, const struct script_command *c, struct buf *out)
{
    struct environment *e = context;
    bool is_error = false;
    if (strcmp(c->name, "log-level") == 0) {
        e->silent = strcmp(c->args[0].key, "none") == 0;
    } else if (strcmp(c->name, "add-nodes") == 0) {
        for (uint64_t i = script_number(c->args[0].key); i > 0; i--)
            add_node(e, c);
    } else if (strcmp(c->name, "stabilize") == 0) {
        stabilize(e, c, out);
    } else if (strcmp(c->name, "process-ready") == 0) {
        process_each(e, c, "handling Ready", process_ready, out);
    } else if (strcmp(c->name, "process-append-thread") == 0) {
        process_each(e, c, "processing append thread", process_append, out);
    } else if (strcmp(c->name, "process-apply-thread") == 0) {
        process_each(e, c, "processing apply thread", process_apply, out);
    } else if (strcmp(c->name, "deliver-msgs") == 0) {
        deliver_messages(e, c, out);
    } else if (strcmp(c->name, "raft-state") == 0) {
        print_state(e, out);
    } else if (!run_on_node(e, c, out)) {
        emit(out, "unknown command %s", c->name);
        is_error = true;
    }
    if (e->silent && !is_error)
        out->len = 0;
}

static void end_node(struct node *node)
{
    while (node->held_count > 0)
        release_work(node, node->held[0]);
    raft_free(node->raft);
    for (uint32_t i = 0; i < node->entries_count; i++)
        raft_payload_unref(node->entries[i].payload);
}

int golden_interaction(const char *path)
{
    struct environment *e = calloc(1, sizeof(*e));
    ASSERT(e != NULL);
    rng_seed(&e->rng, /* seed= */ 1);
    int failures = script_file(path, run, e);
    for (uint32_t i = 0; i < e->flight_count; i++)
        end_message(&e->flight[i]);
    for (uint32_t i = 0; i < e->nodes_count; i++)
        end_node(&e->nodes[i]);
    free(e);
    return failures;
}
