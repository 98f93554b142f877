#include "tests/raft/golden.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "raft/raft_private.h"
#include "tests/raft/golden_print.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NODES_MAX 8U
#define FLIGHT_MAX 1024U
#define QUEUE_MAX 64U
#define ENTRIES_MAX 1024U

struct node {
    struct raft *raft;
    struct raft_config config;
    bool is_async;
    struct environment *environment;
    struct raft_hard_state hard_state; /* stored */
    struct raft_snapshot_meta store;   /* the state machine's: what a snapshot of it holds */
    struct raft_snapshot_meta store_on_disk;
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
    int level;       /* of log text that is shown; SILENT: nothing is but errors */
    struct buf *out; /* where log text goes now */
};

#define SILENT 6

static void print_log_line(void *context, enum raft_log_level level, const char *text)
{
    static const char *const names[] = {"DEBUG", "INFO", "INFO", "WARN", "ERROR"};
    struct environment *e = ((struct node *)context)->environment;
    if (e->out != NULL && (int)level >= e->level)
        emit(e->out, "%s %s\n", names[level], text);
}

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
    if (copy.snapshot != NULL) {
        struct raft_snapshot_meta *snapshot = malloc(sizeof(*snapshot));
        ASSERT(snapshot != NULL);
        *snapshot = *message->snapshot;
        copy.snapshot = snapshot;
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
    free((void *)message->snapshot);
}

static bool is_local(const struct raft_message *m)
{
    return m->from == m->to || m->from >= RAFT_ID_APPLY_THREAD;
}

/* Below the window there is only the state machine's snapshot, as upstream has it. */
static void answer_fetches(struct node *node)
{
    struct raft *r = node->raft;
    for (uint32_t i = 0; r->has_fetches_wanted && i < r->tracker.progresses_count; i++) {
        struct progress *p = &r->tracker.progresses[i];
        if (p->fetch != FETCH_ENTRIES_WANTED)
            continue;
        enum status st = raft_entries_read(r, p->id, (struct raft_log_id){0}, NULL, 0);
        ASSERT(st == ST_OK);
        st = raft_snapshot_offer(r, p->id, &node->store);
        ASSERT(st == ST_OK || st == ST_INVALID);
    }
    r->has_fetches_wanted = false;
}

static void step(struct node *node, const struct raft_message *message, struct buf *out)
{
    enum status st = raft_step(node->raft, message);
    if (st == ST_DROPPED)
        emit(out, "raft proposal dropped\n");
    else if (st == ST_NOT_FOUND)
        emit(out, "raft: cannot step as peer not found\n");
    else
        ASSERT(st == ST_OK);
    answer_fetches(node);
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
                      (type == NULL || strcmp(raft_message_name(m->type), type) == 0);
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

static void drop_stored(struct node *node, uint32_t from)
{
    for (uint32_t i = from; i < node->entries_count; i++)
        raft_payload_unref(node->entries[i].payload);
    node->entries_count = from;
}

/* The store rule: what is applied is kept once the log on disk holds the very entry. */
static void commit_store(struct node *node)
{
    raft_index last = node->store.last.index;
    bool covered = last <= node->before_first.index;
    if (!covered && last <= node->before_first.index + node->entries_count)
        covered = node->entries[last - node->before_first.index - 1].term == node->store.last.term;
    if (covered)
        node->store_on_disk = node->store;
}

static void store_append(struct node *node, const struct raft_append_work *work)
{
    if (work->has_hard_state)
        node->hard_state = work->hard_state;
    if (work->snapshot != NULL) {
        ASSERT(work->entries_count == 0);
        drop_stored(node, 0);
        node->before_first = work->snapshot->last;
        node->store = *work->snapshot;
    }
    for (uint32_t i = 0; i < work->entries_count; i++) {
        const struct raft_entry *entry = &work->entries[i];
        ASSERT(entry->index > node->before_first.index);
        uint32_t at = (uint32_t)(entry->index - node->before_first.index - 1);
        ASSERT(at <= node->entries_count && at < ENTRIES_MAX);
        drop_stored(node, at);
        node->entries[at] = *entry;
        raft_payload_ref(entry->payload);
        node->entries_count = at + 1;
    }
    commit_store(node);
}

static void apply(struct node *node, const struct raft_apply_work *work)
{
    for (uint32_t i = 0; i < work->entries_count; i++) {
        const struct raft_entry *entry = &work->entries[i];
        node->store.last = (struct raft_log_id){.index = entry->index, .term = entry->term};
        if (entry->type == RAFT_ENTRY_NORMAL)
            continue;
        struct slice change = raft_payload_slice(entry->payload);
        enum status st =
            raft_apply_conf_change(node->raft, entry->type, &change, &node->store.conf_state);
        ASSERT(st == ST_OK);
        answer_fetches(node);
        raft_check(node->raft);
    }
    commit_store(node);
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

static void under_title(struct environment *e, struct node *node, const char *title, process fn,
                        struct buf *out)
{
    struct buf body;
    buf_init(&body, SIZE_MAX / 2);
    emit(out, "> %llx %s\n", (unsigned long long)id_of(node), title);
    e->out = &body;
    fn(e, node, &body);
    e->out = out;
    indent(&body, out);
    buf_deinit(&body);
}

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
        under_title(e, node, title, fn, out);
    }
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

static void set_level(struct environment *e, const char *text)
{
    /* From ours; the scripts do not tell RAFT_LOG_ROUTINE from the one after it. */
    static const char *const names[] = {"debug", "info", "", "warn", "error", "fatal", "none"};
    for (int i = 0; i <= SILENT; i++) {
        if (strcasecmp(names[i], text) == 0)
            e->level = i;
    }
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
    int level = e->level;
    const struct script_arg *arg = script_arg_find(command, "log-level");
    if (arg != NULL)
        set_level(e, arg->values[0]);
    while (stabilize_once(e, nodes, count, out))
        continue;
    if (e->level == SILENT)
        out->len = 0;
    e->level = level;
}

static void read_config(struct environment *e, const struct script_command *command,
                        struct node *node)
{
    const struct script_arg *reads = script_arg_find(command, "read-only");
    node->is_async = script_flag(command, "async-storage-writes", false);
    node->config = (struct raft_config){
        .id = e->nodes_count,
        .election_ticks = 3,
        .heartbeat_ticks = 1,
        .message_bytes_max = script_arg_number(command, "max-size-per-msg", UINT64_MAX),
        .inflight_messages_max = (uint32_t)script_arg_number(command, "inflight", INT32_MAX),
        .inflight_bytes_max = script_arg_number(command, "max-inflight-bytes", 0),
        .apply_bytes_max = script_arg_number(command, "max-committed-size-per-ready", UINT64_MAX),
        .uncommitted_bytes_max = script_arg_number(command, "max-uncommitted-size", 0),
        .stall_ticks_max = (uint32_t)script_arg_number(command, "stall-ticks", 0),
        .stall_bytes_max = script_arg_number(command, "stall-bytes", 0),
        .check_quorum = script_flag(command, "checkquorum", false),
        .pre_vote = script_flag(command, "prevote", false),
        .step_down_at_once = script_flag(command, "step-down-on-removal", false),
        .no_conf_change_validation = script_flag(command, "disable-conf-change-validation", false),
        .lease_reads = reads != NULL && strcmp(reads->values[0], "lease-based") == 0,
        /* Off with asynchronous writes, as upstream. */
        .apply_unstable = script_flag(command, "apply-unstable", !node->is_async),
        .rng = &e->rng,
        .log = print_log_line,
        .log_context = node,
    };
    if (node->config.lease_reads)
        node->config.check_quorum = true;
}

/* From what is stored, at first start and after a crash. */
static void start_node(struct node *node)
{
    struct raft_start start = {
        .hard_state = node->hard_state,
        .conf_state = node->store.conf_state,
        .before_first = node->before_first,
        .entries = node->entries,
        .entries_count = node->entries_count,
        .applied = node->store.last.index,
    };
    enum status st = raft_new(&node->config, &start, &node->raft);
    ASSERT(st == ST_OK);
}

static void add_node(struct environment *e, const struct script_command *command)
{
    ASSERT(e->nodes_count < NODES_MAX);
    struct node *node = &e->nodes[e->nodes_count++];
    node->environment = e;
    read_config(e, command, node);
    struct raft_conf_state *cs = &node->store.conf_state;
    const struct script_arg *voters = script_arg_find(command, "voters");
    const struct script_arg *learners = script_arg_find(command, "learners");
    for (uint32_t i = 0; voters != NULL && i < voters->values_count; i++)
        add_id(voters->values[i], cs->voters, &cs->voters_count);
    for (uint32_t i = 0; learners != NULL && i < learners->values_count; i++)
        add_id(learners->values[i], cs->learners, &cs->learners_count);
    if (voters != NULL || learners != NULL) {
        node->store.last.index = script_arg_number(command, "index", 0);
        node->store.last.term = 1;
    }
    node->before_first = node->store.last;
    node->store_on_disk = node->store;
    start_node(node);
}

static void end_life(struct node *node)
{
    while (node->held_count > 0)
        release_work(node, node->held[0]);
    node->appends_count = node->applies_count = 0;
    raft_free(node->raft);
    node->raft = NULL;
}

/* The process dies, and what its queues held with it, and what they were about to tell it. */
static void restart(struct node *node)
{
    struct environment *e = node->environment;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->flight_count; i++) {
        if (e->flight[i].to == id_of(node) && is_local(&e->flight[i]))
            end_message(&e->flight[i]);
        else
            e->flight[kept++] = e->flight[i];
    }
    e->flight_count = kept;
    end_life(node);
    node->store = node->store_on_disk;
    start_node(node);
}

static void propose(struct node *node, const char *text, struct buf *out)
{
    struct raft_payload *payload = raft_payload_copy(slice_from_str(text));
    ASSERT(payload != NULL);
    raft_index index;
    if (raft_propose(node->raft, &payload, 1, &index) != ST_OK)
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
    if (st != ST_OK)
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

static void compact(struct node *node, raft_index index, struct buf *out)
{
    ASSERT(index > node->before_first.index);
    uint32_t gone = (uint32_t)(index - node->before_first.index);
    ASSERT(gone <= node->entries_count);
    node->before_first = (struct raft_log_id){.index = index, .term = node->entries[gone - 1].term};
    for (uint32_t i = 0; i < gone; i++)
        raft_payload_unref(node->entries[i].payload);
    memmove(node->entries, node->entries + gone,
            (node->entries_count - gone) * sizeof(node->entries[0]));
    node->entries_count -= gone;
    raft_compact(node->raft, index);
    print_log(node, out);
}

static void send_snapshot(struct environment *e, struct node *from, raft_id to, struct buf *out)
{
    struct raft_message message = {
        .type = RAFT_MSG_SNAP,
        .from = id_of(from),
        .to = to,
        .term = from->raft->term,
        .snapshot = &from->store,
    };
    print_message(&message, out);
    out->len--; /* the line's end */
    put_in_flight(e, &message);
}

/* Our own commands about one node; false: not one of them. */
static bool run_own(struct node *node, const struct script_command *c, struct buf *out)
{
    enum status st = ST_OK;
    if (strcmp(c->name, "read-index") == 0)
        st = raft_read_index(node->raft, script_number(c->args[1].key));
    else if (strcmp(c->name, "report-snapshot") == 0)
        raft_report_snapshot(node->raft, script_number(c->args[1].key),
                             strcmp(c->args[2].key, "ok") == 0);
    else if (strcmp(c->name, "tick") == 0)
        for (uint64_t i = script_number(c->args[1].key); i > 0; i--)
            raft_tick(node->raft);
    else if (strcmp(c->name, "crash") == 0)
        restart(node);
    else if (strcmp(c->name, "durable") == 0)
        emit(out, "%llu/%llu", (unsigned long long)log_durable(&node->raft->log).term,
             (unsigned long long)log_durable(&node->raft->log).index);
    else
        return false;
    if (st != ST_OK)
        emit(out, "%s", status_str(st));
    return true;
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
    else if (strcmp(c->name, "compact") == 0)
        compact(node, script_number(c->args[1].key), out);
    else if (strcmp(c->name, "send-snapshot") == 0)
        send_snapshot(e, node, script_number(c->args[1].key), out);
    else if (!run_own(node, c, out))
        return false;
    ASSERT(st == ST_OK || st == ST_DROPPED || st == ST_BUSY || st == ST_INVALID);
    answer_fetches(node);
    raft_check(node->raft);
    return true;
}

static void transfer(struct environment *e, const struct script_command *c, struct buf *out)
{
    struct node *from = node_of(e, script_arg_find(c, "from")->values[0]);
    enum status st = raft_transfer_leader(from->raft, script_arg_number(c, "to", 0));
    if (st != ST_OK)
        emit(out, "%s", status_str(st));
    answer_fetches(from);
}

static void run(void *context, const struct script_command *c, struct buf *out)
{
    struct environment *e = context;
    bool is_error = false;
    e->out = out;
    if (strcmp(c->name, "_breakpoint") == 0) {
        return;
    } else if (strcmp(c->name, "log-level") == 0) {
        set_level(e, c->args[0].key);
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
    } else if (strcmp(c->name, "transfer-leadership") == 0) {
        transfer(e, c, out);
    } else if (strcmp(c->name, "raft-state") == 0) {
        print_state(e, out);
    } else if (!run_on_node(e, c, out)) {
        emit(out, "unknown command %s", c->name);
        is_error = true;
    }
    e->out = NULL;
    if (e->level == SILENT && !is_error)
        out->len = 0;
}

static void end_node(struct node *node)
{
    end_life(node);
    drop_stored(node, 0);
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
