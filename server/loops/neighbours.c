#include "base/assert.h"
#include "server/loops/consensus_private.h"
#include "server/loops/snapshots.h"
#include "server/metrics/metrics.h"
#include "server/state/machine.h"

/* What the transport saw, on its way to the consensus actor. */
struct peer_report {
    struct inbox_node node;
    raft_id id;
    bool is_gone, is_snapshot;
    bool succeeded;
};

/* ---- any thread ---- */

static uint64_t bytes_of(const struct peer_message *message)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < message->message.entries_count; i++)
        bytes += raft_payload_slice(message->message.entries[i].payload).len;
    return bytes;
}

static bool take_in(struct loops *loops, const struct peer_message *message)
{
    uint64_t bytes = bytes_of(message);
    if (atomic_load_explicit(&loops->messages_count, memory_order_relaxed) >= MESSAGES_MAX ||
        atomic_load_explicit(&loops->messages_bytes, memory_order_relaxed) + bytes >
            MESSAGES_BYTES_MAX)
        return false;
    atomic_fetch_add_explicit(&loops->messages_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&loops->messages_bytes, bytes, memory_order_relaxed);
    return true;
}

void loops_receive(struct loops *loops, struct peer_message *chain)
{
    struct inbox_node *taken = NULL, **tail = &taken;
    for (struct inbox_node *node = &chain->node, *next; node != NULL; node = next) {
        next = node->next;
        struct peer_message *message = CONTAINER_OF(node, struct peer_message, node);
        if (!take_in(loops, message)) {
            message->release(message);
            continue;
        }
        node->next = NULL;
        *tail = node;
        tail = &node->next;
    }
    inbox_push_chain(&loops->consensus.messages, taken);
}

/* One that finds no memory is lost: the core probes a silent member anyway. */
static void report(struct loops *loops, struct peer_report report)
{
    struct peer_report *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return;
    *copy = report;
    inbox_push(&loops->consensus.reports, &copy->node);
}

void loops_peer_unreachable(struct loops *loops, raft_id id)
{
    report(loops, (struct peer_report){.id = id});
}

void loops_peer_gone(struct loops *loops, raft_id id)
{
    report(loops, (struct peer_report){.id = id, .is_gone = true});
}

void loops_peer_snapshot_sent(struct loops *loops, raft_id id, bool succeeded)
{
    report(loops, (struct peer_report){.id = id, .is_snapshot = true, .succeeded = succeeded});
}

void loops_removed_from_cluster(struct loops *loops)
{
    atomic_store_explicit(&loops->removed_wanted, true, memory_order_release);
    loops_wake(loops, ACTOR_CONSENSUS);
}

/* ---- consensus: in ---- */

void consensus_let_go(struct loops *loops, struct peer_message *message)
{
    atomic_fetch_sub_explicit(&loops->messages_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&loops->messages_bytes, bytes_of(message), memory_order_relaxed);
    message->release(message);
}

/* The core takes the word of its own storage workers and of itself; nobody else may speak for them.
 */
static bool is_from_another(const struct consensus *c, const struct raft_message *message)
{
    return message->from != 0 && message->from != c->loops->options.member_id &&
           message->from != RAFT_ID_APPEND_THREAD && message->from != RAFT_ID_APPLY_THREAD &&
           message->to == c->loops->options.member_id;
}

/* Bad or late messages change nothing; one that finds no memory is as good as lost on the way. */
static enum status step_message(struct consensus *c, struct peer_message *message)
{
    enum status st = ST_OK;
    bool is_good = is_from_another(c, &message->message);
    if (is_good && message->message.type == RAFT_MSG_SNAP) {
        install_begin(c, message);
        return ST_OK;
    }
    if (is_good) {
        timeline_acknowledged(c, &message->message);
        st = raft_step(c->raft, &message->message);
    }
    consensus_let_go(c->loops, message);
    return st == ST_CORRUPT ? st : ST_OK;
}

/* A proposal that was forwarded to a leader who is handing over, or was deposed and does not know
 * by whom yet, would be lost: it waits for the next one, to whom the core forwards it. */
static bool hold(struct consensus *c, struct peer_message *message, uint64_t now_ns)
{
    if (message->message.type != RAFT_MSG_PROP)
        return false;
    struct raft_status status;
    raft_get_status(c->raft, &status);
    if (status.leader != 0 && status.transferee == 0)
        return false;
    if (c->held == NULL) {
        c->held_end = &c->held;
        c->held_until_ns = now_ns + 2 * loops_election_ns(c->loops);
    }
    message->node.next = NULL;
    *c->held_end = &message->node;
    c->held_end = &message->node.next;
    return true;
}

static enum status step_held(struct consensus *c, uint64_t now_ns)
{
    if (c->held == NULL ||
        (now_ns < c->held_until_ns && (c->transferee != 0 || c->leader_seen == 0)))
        return ST_OK;
    enum status st = ST_OK;
    for (struct inbox_node *node = c->held, *next; node != NULL; node = next) {
        next = node->next;
        enum status stepped = step_message(c, CONTAINER_OF(node, struct peer_message, node));
        if (st == ST_OK)
            st = stepped;
    }
    c->held = NULL;
    return st;
}

static struct neighbour *find(struct consensus *c, raft_id id)
{
    for (uint32_t i = 0; i < c->neighbours_count; i++) {
        if (c->neighbours[i].id == id)
            return &c->neighbours[i];
    }
    return NULL;
}

static void take_report(struct consensus *c, const struct peer_report *report, uint64_t now_ns)
{
    if (report->is_snapshot)
        raft_report_snapshot(c->raft, report->id, report->succeeded);
    else if (report->is_gone)
        raft_report_gone(c->raft, report->id);
    else
        raft_report_unreachable(c->raft, report->id);
    if (report->succeeded)
        return;
    struct neighbour *neighbour = find(c, report->id);
    if (neighbour != NULL)
        neighbour->lost_ns = now_ns;
}

enum status neighbours_receive(struct consensus *c, uint64_t now_ns)
{
    for (struct inbox_node *node = inbox_take(&c->reports), *next; node != NULL; node = next) {
        next = node->next;
        struct peer_report *report = CONTAINER_OF(node, struct peer_report, node);
        take_report(c, report, now_ns);
        free(report);
    }
    enum status st = step_held(c, now_ns);
    for (struct inbox_node *node = inbox_take(&c->messages), *next; node != NULL; node = next) {
        next = node->next;
        struct peer_message *message = CONTAINER_OF(node, struct peer_message, node);
        if (hold(c, message, now_ns))
            continue;
        enum status stepped = step_message(c, message);
        if (st == ST_OK)
            st = stepped;
    }
    return st;
}

void neighbours_drop(struct consensus *c)
{
    for (struct inbox_node *node = inbox_take(&c->reports), *next; node != NULL; node = next) {
        next = node->next;
        free(CONTAINER_OF(node, struct peer_report, node));
    }
    for (struct inbox_node *node = c->held, *next; node != NULL; node = next) {
        next = node->next;
        consensus_let_go(c->loops, CONTAINER_OF(node, struct peer_message, node));
    }
    c->held = NULL;
    for (struct inbox_node *node = inbox_take(&c->messages), *next; node != NULL; node = next) {
        next = node->next;
        consensus_let_go(c->loops, CONTAINER_OF(node, struct peer_message, node));
    }
}

/* ---- consensus: out ---- */

static void send_snapshot(struct consensus *c, const struct raft_message *message)
{
    struct transport *transport = c->loops->options.transport;
    struct snapshot_send *send = fetch_take_offer(c, message);
    ASSERT(send != NULL); /* the core makes this message of an offer, in the next batch */
    transport->send_snapshot(transport, message, &send->source);
}

void neighbours_send(struct consensus *c, const struct raft_message *messages, uint32_t count)
{
    struct transport *transport = c->loops->options.transport;
    if (count == 0)
        return;
    ASSERT(transport != NULL); /* a cluster of one has nobody to write to */
    for (uint32_t i = 0, end; i < count; i = end) {
        for (end = i; end < count && messages[end].type != RAFT_MSG_SNAP; end++)
            continue;
        if (end > i)
            transport->send(transport, messages + i, end - i);
        else
            send_snapshot(c, &messages[end++]);
    }
}

/* ---- who there is ---- */

static bool same_urls(const struct member_row *a, const struct member_row *b)
{
    if (a->peer_urls_count != b->peer_urls_count)
        return false;
    for (uint32_t i = 0; i < a->peer_urls_count; i++) {
        if (!slice_eq(a->peer_urls[i], b->peer_urls[i]))
            return false;
    }
    return true;
}

static void add_new(struct consensus *c, const struct members *members)
{
    struct transport *transport = c->loops->options.transport;
    c->neighbours_count = 0;
    for (uint32_t i = 0; i < members_count(members); i++) {
        const struct member_row *row = members_at(members, i);
        if (row->id == c->loops->options.member_id || transport == NULL)
            continue;
        if (c->neighbours_count < RAFT_MEMBERS_MAX)
            c->neighbours[c->neighbours_count++] = (struct neighbour){.id = row->id};
        const struct member_row *before =
            c->members == NULL ? NULL : members_find(c->members, row->id);
        if (before == NULL)
            transport->add_peer(transport, row->id, row->peer_urls, row->peer_urls_count);
        else if (!same_urls(before, row))
            transport->update_peer(transport, row->id, row->peer_urls, row->peer_urls_count);
    }
}

static void remove_old(struct consensus *c, const struct members *members)
{
    struct transport *transport = c->loops->options.transport;
    for (uint32_t i = 0; c->members != NULL && i < members_count(c->members); i++) {
        raft_id id = members_at(c->members, i)->id;
        if (members_find(members, id) != NULL)
            continue;
        if (id == c->loops->options.member_id)
            atomic_store_explicit(&c->loops->removed_wanted, true, memory_order_relaxed);
        else if (transport != NULL)
            transport->remove_peer(transport, id);
    }
}

void neighbours_update(struct consensus *c)
{
    struct members *members = machine_members(c->loops->options.machine);
    if (members == c->members) {
        members_unref(members);
        return;
    }
    if (members != NULL) {
        add_new(c, members);
        remove_old(c, members);
    }
    members_unref(c->members);
    c->members = members;
}

bool neighbours_was_lost_since(const struct consensus *c, raft_id id, uint64_t since_ns)
{
    for (uint32_t i = 0; i < c->neighbours_count; i++) {
        if (c->neighbours[i].id == id)
            return c->neighbours[i].lost_ns > since_ns;
    }
    return false;
}

bool neighbours_lost_quorum_since(const struct consensus *c, uint64_t since_ns)
{
    const struct raft_conf_state *conf_state = raft_conf_state(c->raft);
    uint32_t lost = 0;
    for (uint32_t i = 0; i < conf_state->voters_count; i++)
        lost += neighbours_was_lost_since(c, conf_state->voters[i], since_ns);
    return conf_state->voters_count - lost < conf_state->voters_count / 2 + 1;
}
