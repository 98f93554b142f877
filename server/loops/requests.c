#include "base/assert.h"
#include "server/loops/consensus_private.h"
#include "server/metrics/metrics.h"

static struct request *request_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct request, waiting);
}

static struct proposal *proposal_of(struct request *request)
{
    return CONTAINER_OF(request, struct proposal, request);
}

static struct conf_proposal *change_of(struct request *request)
{
    return CONTAINER_OF(request, struct conf_proposal, request);
}

/* ---- answers ---- */

static void drop_payload(struct request *request)
{
    struct raft_payload **payload = request->kind == REQUEST_PROPOSAL
                                        ? &proposal_of(request)->payload
                                        : &change_of(request)->payload;
    raft_payload_unref(*payload);
    *payload = NULL;
}

void requests_fail(struct consensus *c, struct request *request, enum api_error error)
{
    drop_payload(request);
    metrics_add(METRIC_PROPOSALS_FAILED, 1);
    loops_request_done(c->loops, request, error, SLICE_EMPTY);
}

static void leave_queue(struct consensus *c, struct request *request)
{
    list_remove(&request->waiting);
    uint32_t bytes;
    if (request->kind == REQUEST_PROPOSAL) {
        c->queue_count--;
        c->queue_termed_count -= proposal_of(request)->only_term != 0;
        bytes = proposal_of(request)->payload->len;
    } else {
        bytes = change_of(request)->payload->len;
    }
    atomic_fetch_sub_explicit(&c->loops->inbox_calls, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&c->loops->inbox_bytes, bytes, memory_order_relaxed);
}

static void fail_queue(struct consensus *c, struct list_node *queue, enum api_error error)
{
    while (!list_is_empty(queue)) {
        struct request *request = request_of(queue->next);
        leave_queue(c, request);
        requests_fail(c, request, error);
    }
}

static void fail_forwarded(struct consensus *c, struct request *request, enum api_error error)
{
    forwarded_remove(&c->forwarded, request);
    requests_fail(c, request, error);
}

static void end_transfer(struct transfer_request *transfer, enum api_error error)
{
    list_remove(&transfer->request.waiting);
    transfer->done(transfer, error);
}

void requests_fail_all(struct consensus *c, enum api_error error)
{
    fail_queue(c, &c->urgent, error);
    fail_queue(c, &c->queue, error);
    fail_queue(c, &c->changes, error);
    while (!list_is_empty(&c->proposed))
        requests_fail(c, request_of(list_pop_front(&c->proposed)), error);
    while (!list_is_empty(&c->forwarded.requests))
        fail_forwarded(c, request_of(c->forwarded.requests.next), error);
    while (!list_is_empty(&c->transfers))
        end_transfer(CONTAINER_OF(c->transfers.next, struct transfer_request, request.waiting),
                     error);
    rounds_fail_reads(c, &c->reads, error);
    rounds_fail(c, error);
}

/* ---- coming in ---- */

static void answer_progress(struct consensus *c, struct progress_request *request)
{
    struct raft_progress progress = {0}, own = {0};
    enum status st = raft_get_progress(c->raft, request->id, &progress);
    if (st == ST_OK)
        st = raft_get_progress(c->raft, c->loops->options.member_id, &own);
    enum api_error error = st == ST_OK          ? API_OK
                           : st == ST_NOT_FOUND ? API_MEMBER_NOT_FOUND
                                                : API_NOT_LEADER;
    request->done(request, error, progress.match, own.match);
}

static uint32_t take_one(struct consensus *c, struct request *request)
{
    switch (request->kind) {
    case REQUEST_READ:
        list_push_back(&c->reads, &request->waiting);
        break;
    case REQUEST_CONF_CHANGE:
        list_push_back(&c->changes, &request->waiting);
        break;
    case REQUEST_TRANSFER:
        list_push_back(&c->transfers, &request->waiting);
        break;
    case REQUEST_PROGRESS:
        answer_progress(c, CONTAINER_OF(request, struct progress_request, request));
        break;
    case REQUEST_PROPOSAL:
        list_push_back(proposal_of(request)->urgent ? &c->urgent : &c->queue, &request->waiting);
        c->queue_count++;
        c->queue_termed_count += proposal_of(request)->only_term != 0;
        return 1;
    }
    return 0;
}

void requests_take(struct consensus *c)
{
    uint64_t arrived = 0;
    bool stopping = atomic_load_explicit(&c->loops->stopping, memory_order_acquire);
    for (struct inbox_node *node = inbox_take(&c->requests), *next; node != NULL; node = next) {
        next = node->next;
        arrived += take_one(c, CONTAINER_OF(node, struct request, node));
    }
    waves_arrived(&c->waves, arrived);
    if (stopping) {
        fail_queue(c, &c->urgent, API_STOPPED);
        fail_queue(c, &c->queue, API_STOPPED);
        fail_queue(c, &c->changes, API_STOPPED);
        rounds_fail_reads(c, &c->reads, API_STOPPED);
    }
}

/* ---- time ---- */

/* What etcd's server makes of a deadline that passes while it waits for an apply. */
enum api_error requests_timeout_error(const struct consensus *c, const struct request *request)
{
    uint64_t two_elections_ns = 2 * loops_election_ns(c->loops);
    uint64_t start_ns = loops_began_ns(c->loops, request);
    if (c->leader_since_ns != 0 && start_ns < c->leader_since_ns &&
        start_ns + two_elections_ns > c->leader_since_ns)
        return API_TIMEOUT_LEADER_FAILURE;
    bool lost;
    if (c->leader_seen == c->loops->options.member_id)
        lost = neighbours_lost_quorum_since(c, start_ns);
    else
        lost = c->leader_seen != 0 && neighbours_was_lost_since(c, c->leader_seen, start_ns);
    return lost ? API_TIMEOUT_CONNECTION_LOST : API_TIMEOUT;
}

static bool is_due(const struct list_node *list, uint64_t now_ns)
{
    return !list_is_empty(list) && request_of(list->next)->deadline_ns <= now_ns;
}

static void expire_queue(struct consensus *c, struct list_node *queue, uint64_t now_ns)
{
    while (is_due(queue, now_ns)) {
        struct request *request = request_of(queue->next);
        leave_queue(c, request);
        requests_fail(c, request, API_DEADLINE_EXCEEDED);
    }
}

/* Those that were under way when the leader changed may never have reached it. The ones it took
 * over, or that the new one has, complete within a moment. */
static void expire_forwarded(struct consensus *c, uint64_t now_ns)
{
    struct list_node *requests = &c->forwarded.requests;
    while (!list_is_empty(requests) &&
           loops_gives_up(c->loops, request_of(requests->next), now_ns)) {
        struct request *request = request_of(requests->next);
        fail_forwarded(c, request, requests_timeout_error(c, request));
    }
    while (!list_is_empty(requests) && request_of(requests->next)->until_ns <= now_ns)
        fail_forwarded(c, request_of(requests->next), API_LEADER_CHANGED);
}

/* Where some calls go before others that came earlier, the lists are not quite in the order of
 * deadlines: now and then all are looked at. */
static void expire_any(struct consensus *c, uint64_t now_ns)
{
    if (now_ns < c->expire_any_ns)
        return;
    c->expire_any_ns = now_ns + c->loops->options.tick_ns;
    for (struct list_node *node = c->proposed.next, *next; node != &c->proposed; node = next) {
        next = node->next;
        struct request *request = request_of(node);
        if (request->deadline_ns > now_ns)
            continue;
        list_remove(node);
        requests_fail(c, request, requests_timeout_error(c, request));
    }
    struct list_node *forwarded = &c->forwarded.requests;
    for (struct list_node *node = forwarded->next, *next; node != forwarded; node = next) {
        next = node->next;
        struct request *request = request_of(node);
        if (loops_gives_up(c->loops, request, now_ns))
            fail_forwarded(c, request, requests_timeout_error(c, request));
        else if (request->until_ns <= now_ns)
            fail_forwarded(c, request, API_LEADER_CHANGED);
    }
}

/* One limit for all, so each list is about ordered by deadline. Without a leader nothing was
 * proposed and etcd answers with the deadline's own text; what is in the log may still happen. */
void requests_expire(struct consensus *c, uint64_t now_ns)
{
    expire_queue(c, &c->urgent, now_ns);
    expire_queue(c, &c->queue, now_ns);
    expire_queue(c, &c->changes, now_ns);
    while (is_due(&c->proposed, now_ns)) {
        struct request *request = request_of(list_pop_front(&c->proposed));
        requests_fail(c, request, requests_timeout_error(c, request));
    }
    expire_forwarded(c, now_ns);
    expire_any(c, now_ns);
    while (is_due(&c->transfers, now_ns))
        end_transfer(CONTAINER_OF(c->transfers.next, struct transfer_request, request.waiting),
                     API_TIMEOUT_LEADER_TRANSFER);
    rounds_expire(c, now_ns);
}

/* ---- going out ---- */

/* It is in the log at index, or with the leader when that is 0. */
static void note_proposed(struct consensus *c, struct request *request, raft_index index,
                          raft_term term)
{
    leave_queue(c, request);
    drop_payload(request);
    request->index = index;
    request->term = term;
    request->until_ns = UINT64_MAX;
    request->times.taken_ns = c->now_ns;
    if (index == 0)
        forwarded_add(&c->forwarded, request);
    else
        list_push_back(&c->proposed, &request->waiting);
}

static raft_term current_term(const struct consensus *c)
{
    struct raft_status status;
    raft_get_status(c->raft, &status);
    return status.hard_state.term;
}

static bool is_queue_empty(const struct consensus *c)
{
    return list_is_empty(&c->urgent) && list_is_empty(&c->queue);
}

static struct request *next_of_queue(struct consensus *c)
{
    return request_of(list_is_empty(&c->urgent) ? c->queue.next : c->urgent.next);
}

/* How many are in c->payloads with those of queue. */
static uint32_t add_payloads(struct consensus *c, struct list_node *queue, uint32_t count)
{
    LIST_FOREACH(node, queue)
    {
        if (count == PROPOSE_BATCH_MAX)
            break;
        c->payloads[count++] = proposal_of(request_of(node))->payload;
    }
    return count;
}

/* Those that were meant for a term in which this member led, and does not any more. */
static void drop_outdated_of(struct consensus *c, struct list_node *queue)
{
    struct raft_status status;
    raft_get_status(c->raft, &status);
    raft_term led = status.role == RAFT_LEADER ? status.hard_state.term : 0;
    for (struct list_node *node = queue->next, *next; node != queue; node = next) {
        next = node->next;
        struct request *request = request_of(node);
        raft_term only = proposal_of(request)->only_term;
        if (only == 0 || only == led)
            continue;
        leave_queue(c, request);
        requests_fail(c, request, API_NOT_PRIMARY_LESSOR);
    }
}

static void drop_outdated(struct consensus *c)
{
    if (c->queue_termed_count == 0)
        return;
    drop_outdated_of(c, &c->urgent);
    drop_outdated_of(c, &c->queue);
}

/* Proposes the first of the queue as one batch. False when the core takes none now: no leader, a
 * hand-over, the quota, no memory. They wait, until their deadline. */
static bool propose_batch(struct consensus *c, uint64_t now_ns)
{
    uint32_t count = add_payloads(c, &c->urgent, 0);
    count = add_payloads(c, &c->queue, count);
    raft_index first = 0;
    if (raft_propose(c->raft, c->payloads, count, &first) != ST_OK)
        return false;
    raft_term term = current_term(c);
    for (uint32_t i = 0; i < count; i++)
        note_proposed(c, next_of_queue(c), first == 0 ? 0 : first + i, term);
    if (first != 0)
        waves_released(&c->waves, now_ns, count, first + count - 1);
    return true;
}

static void propose_changes(struct consensus *c)
{
    while (!list_is_empty(&c->changes)) {
        struct request *request = request_of(c->changes.next);
        raft_index index = 0;
        enum status st = raft_propose_conf_change(c->raft, RAFT_ENTRY_CONF_CHANGE,
                                                  change_of(request)->payload, &index);
        if (st == ST_INVALID) {
            leave_queue(c, request);
            requests_fail(c, request, API_UNDECODABLE);
        } else if (st != ST_OK) {
            return;
        } else {
            note_proposed(c, request, index, current_term(c));
        }
    }
}

uint64_t requests_propose(struct consensus *c, uint64_t now_ns)
{
    uint64_t again_ns = UINT64_MAX;
    if (atomic_load_explicit(&c->loops->log_full, memory_order_relaxed)) {
        fail_queue(c, &c->urgent, API_DISK_FULL);
        fail_queue(c, &c->queue, API_DISK_FULL);
        fail_queue(c, &c->changes, API_DISK_FULL);
    }
    drop_outdated(c);
    if (c->leader_seen == 0)
        return again_ns;
    propose_changes(c);
    if (is_queue_empty(c))
        return again_ns;
    uint64_t sync_ns = atomic_load_explicit(&c->loops->commit_ns, memory_order_relaxed);
    if (c->was_leader && !waves_may_release(&c->waves, now_ns, sync_ns, &again_ns))
        return again_ns;
    while (!is_queue_empty(c) && propose_batch(c, now_ns))
        continue;
    return UINT64_MAX;
}

/* ---- hand-overs ---- */

/* The voter that lacks the least, of those that answer; 0: none. */
static raft_id best_successor(const struct consensus *c)
{
    const struct raft_conf_state *conf_state = raft_conf_state(c->raft);
    raft_id best = 0;
    raft_index best_match = 0;
    for (uint32_t i = 0; i < conf_state->voters_count; i++) {
        struct raft_progress progress;
        raft_id id = conf_state->voters[i];
        if (id == c->loops->options.member_id ||
            raft_get_progress(c->raft, id, &progress) != ST_OK || !progress.recent_active)
            continue;
        if (best == 0 || progress.match > best_match) {
            best = id;
            best_match = progress.match;
        }
    }
    return best;
}

static enum api_error begin_transfer(struct consensus *c, struct transfer_request *transfer)
{
    if (!c->was_leader)
        return API_NOT_LEADER;
    if (transfer->target == 0)
        transfer->target = best_successor(c);
    if (transfer->target == 0)
        return API_BAD_LEADER_TRANSFEREE;
    enum status st = raft_transfer_leader(c->raft, transfer->target);
    transfer->request.index = 1; /* begun */
    if (st == ST_NOT_FOUND)
        return API_BAD_LEADER_TRANSFEREE;
    return st == ST_NO_MEMORY ? API_NO_MEMORY : API_OK;
}

/* How a hand-over stands: API_OK and not *over_out means that it is under way. */
static enum api_error look_at_transfer(struct consensus *c, struct transfer_request *transfer,
                                       bool *over_out)
{
    *over_out = transfer->target != 0 && c->leader_seen == transfer->target;
    if (*over_out)
        return API_OK;
    enum api_error error = API_OK;
    if (transfer->request.index == 0) {
        error = begin_transfer(c, transfer);
    } else {
        struct raft_status status;
        raft_get_status(c->raft, &status);
        if (c->leader_seen != 0 && status.transferee != transfer->target)
            error = API_TIMEOUT_LEADER_TRANSFER; /* it stays, or somebody else was elected */
    }
    *over_out = error != API_OK;
    return error;
}

void requests_hand_over(struct consensus *c)
{
    for (struct list_node *node = c->transfers.next, *next; node != &c->transfers; node = next) {
        next = node->next;
        struct transfer_request *transfer =
            CONTAINER_OF(node, struct transfer_request, request.waiting);
        bool over = false;
        enum api_error error = look_at_transfer(c, transfer, &over);
        if (over)
            end_transfer(transfer, error);
    }
}

/* ---- what became of them ---- */

/* The request at the head of those in our log, if this is its entry. One whose place was taken by
 * another term's entry never happens, a change that came at the wrong time neither. */
static struct request *match_place(struct consensus *c, const struct raft_entry *entry)
{
    while (!list_is_empty(&c->proposed)) {
        struct request *request = request_of(c->proposed.next);
        if (request->index > entry->index)
            return NULL;
        list_remove(&request->waiting);
        bool is_change = request->kind == REQUEST_CONF_CHANGE;
        if (request->index != entry->index || request->term != entry->term)
            requests_fail(c, request, API_LEADER_CHANGED);
        else if (is_change != (entry->type != RAFT_ENTRY_NORMAL))
            requests_fail(c, request, API_TIMEOUT);
        else
            return request;
    }
    return NULL;
}

enum status requests_match(struct consensus *c, struct work *work)
{
    const struct raft_apply_work *apply = &work->ready->apply;
    if (apply->entries_count == 0)
        return ST_OK;
    work->waiting = calloc(apply->entries_count, sizeof(struct request *));
    if (work->waiting == NULL)
        return ST_NO_MEMORY;
    for (uint32_t i = 0; i < apply->entries_count; i++) {
        const struct raft_entry *entry = &apply->entries[i];
        struct request *request = match_place(c, entry);
        if (request == NULL && !forwarded_is_empty(&c->forwarded)) {
            request = forwarded_find(&c->forwarded, entry);
            if (request != NULL)
                forwarded_remove(&c->forwarded, request);
        }
        if (request != NULL)
            timeline_committed(c, request, entry->index);
        work->waiting[i] = request;
        work->waiting_count += request != NULL;
    }
    return ST_OK;
}

void requests_leader_lost(struct consensus *c, bool orderly)
{
    while (!list_is_empty(&c->proposed)) {
        struct request *request = request_of(list_pop_front(&c->proposed));
        if (orderly)
            forwarded_add(&c->forwarded, request);
        else
            requests_fail(c, request, API_LEADER_CHANGED);
    }
    waves_reset(&c->waves);
}

void requests_leader_moved(struct consensus *c, uint64_t now_ns)
{
    uint64_t until_ns = now_ns + loops_election_ns(c->loops);
    LIST_FOREACH(node, &c->forwarded.requests)
    {
        struct request *request = request_of(node);
        if (request->until_ns == UINT64_MAX)
            request->until_ns = until_ns;
    }
}
