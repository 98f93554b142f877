/* server/state/countdown.c - the time of leases on the leader. What a lease has left is only ever
 * known roughly by others, so a new leader gives each an election timeout more; a lease is never
 * shortened. */
#include "base/assert.h"
#include "base/minmax.h"
#include "server/state/lessor_private.h"

#include "base/clock.h"

#define END_GAP_NS (NS_PER_S / LEASE_ENDS_PER_S_MAX)

static struct lease_entry *of_end(struct heap_node *node)
{
    return node == NULL ? NULL : CONTAINER_OF(node, struct lease_entry, end);
}

static struct lease_entry *of_checkpoint(struct heap_node *node)
{
    return node == NULL ? NULL : CONTAINER_OF(node, struct lease_entry, checkpoint);
}

/* ---- ends ---- */

/* The largest TTL is 285 years, so no sum of times here overflows; what a foreign store says is
 * bent into that. */
static uint64_t seconds_ns(int64_t seconds)
{
    return (uint64_t)max_i64(1, min_i64(seconds, LEASE_TTL_S_MAX)) * NS_PER_S;
}

static uint64_t ttl_ns(const struct lease *lease)
{
    return seconds_ns(lease->ttl_s);
}

/* As far as this member was told. */
static uint64_t left_ns(const struct lease *lease)
{
    return lease->remaining_s > 0 ? seconds_ns(lease->remaining_s) : ttl_ns(lease);
}

static enum status set_end(struct lessor *lessor, struct lease_entry *lease, uint64_t end_ns)
{
    heap_remove(&lessor->ends, &lease->end);
    lease->end_ns = end_ns;
    return heap_push(&lessor->ends, &lease->end, end_ns);
}

/* An interval from now, while there is more than that left. */
static enum status plan_checkpoint(struct lessor *lessor, struct lease_entry *lease,
                                   uint64_t lasts_ns, uint64_t now_ns)
{
    heap_remove(&lessor->checkpoints, &lease->checkpoint);
    if (lessor->checkpoint_ns == 0 || lasts_ns <= lessor->checkpoint_ns)
        return ST_OK;
    return heap_push(&lessor->checkpoints, &lease->checkpoint, now_ns + lessor->checkpoint_ns);
}

static enum status begin(struct lessor *lessor, struct lease_entry *lease, uint64_t now_ns,
                         uint64_t lasts_ns)
{
    enum status st = set_end(lessor, lease, now_ns + lasts_ns);
    return st == ST_OK ? plan_checkpoint(lessor, lease, lasts_ns, now_ns) : st;
}

static void end_renewals(struct lease_entry *lease, enum api_error error, struct list_node *ended)
{
    while (!list_is_empty(&lease->renewals)) {
        struct lease_renewal *renewal =
            CONTAINER_OF(list_pop_front(&lease->renewals), struct lease_renewal, waiting);
        renewal->error = error;
        renewal->waits = false;
        list_push_back(ended, &renewal->waiting);
    }
}

void countdown_leave(struct lessor *lessor, struct lease_entry *lease, struct list_node *ended)
{
    heap_remove(&lessor->ends, &lease->end);
    heap_remove(&lessor->checkpoints, &lease->checkpoint);
    end_renewals(lease, API_LEASE_NOT_FOUND, ended);
}

/* ---- every lease ---- */

static enum status begin_all(struct lessor *lessor, uint64_t now_ns, uint64_t extend_ns)
{
    enum status st = ST_OK;
    for (uint64_t i = 0; i < lessor->leases.buckets_count && st == ST_OK; i++) {
        for (struct entry *e = lessor->leases.buckets[i]; e != NULL && st == ST_OK; e = e->next) {
            struct lease_entry *lease = CONTAINER_OF(e, struct lease_entry, entry);
            st = begin(lessor, lease, now_ns, extend_ns + left_ns(&lease->lease));
        }
    }
    return st;
}

/* Many that were granted or renewed at different times end together now: they would all have to be
 * revoked at once. In the order of their ends each is given its place. */
static enum status spread(struct lessor *lessor)
{
    struct heap spaced;
    heap_init(&spaced);
    enum status st = ST_OK;
    uint64_t place_ns = 0;
    while (st == ST_OK && lessor->ends.count > 0) {
        struct lease_entry *lease = of_end(heap_pop(&lessor->ends));
        place_ns = max_u64(lease->end_ns, place_ns + END_GAP_NS);
        lease->end_ns = place_ns;
        st = heap_push(&spaced, &lease->end, place_ns);
    }
    heap_deinit(&lessor->ends);
    lessor->ends = spaced;
    return st;
}

enum status lessor_promote(struct lessor *lessor, uint64_t now_ns, uint64_t extend_ns)
{
    ASSERT(!lessor->is_primary);
    enum status st = begin_all(lessor, now_ns, extend_ns);
    if (st == ST_OK && lessor->leases.entries_count >= LEASES_SPREAD_MIN)
        st = spread(lessor);
    lessor->is_primary = st == ST_OK;
    if (st != ST_OK) {
        struct list_node ended; /* nothing can have waited */
        list_init(&ended);
        lessor_demote(lessor, &ended);
    }
    return st;
}

static void stop(struct lease_entry *lease, struct list_node *ended)
{
    heap_node_init(&lease->end);
    heap_node_init(&lease->checkpoint);
    lease->is_told = false;
    lease->end_ns = UINT64_MAX;
    end_renewals(lease, API_NOT_PRIMARY_LESSOR, ended);
}

void lessor_demote(struct lessor *lessor, struct list_node *ended)
{
    for (uint64_t i = 0; i < lessor->leases.buckets_count; i++) {
        for (struct entry *e = lessor->leases.buckets[i]; e != NULL; e = e->next)
            stop(CONTAINER_OF(e, struct lease_entry, entry), ended);
    }
    heap_deinit(&lessor->ends);
    heap_deinit(&lessor->checkpoints);
    lessor->is_primary = false;
}

bool lessor_is_primary(const struct lessor *lessor)
{
    return lessor->is_primary;
}

/* ---- one lease ---- */

enum status lessor_start(struct lessor *lessor, lease_id id, uint64_t now_ns)
{
    struct lease_entry *lease = lessor_entry(lessor, id);
    if (!lessor->is_primary || lease == NULL || lease->end_ns != UINT64_MAX)
        return ST_OK;
    return begin(lessor, lease, now_ns, left_ns(&lease->lease));
}

bool lessor_renew(struct lessor *lessor, struct lease_renewal *renewal, uint64_t now_ns)
{
    struct lease_entry *lease = lessor_entry(lessor, renewal->id);
    renewal->waits = false;
    renewal->error = API_OK;
    renewal->ttl_s = 0;
    renewal->outdates_checkpoint = false;
    if (!lessor->is_primary) {
        renewal->error = API_NOT_PRIMARY_LESSOR;
        return true;
    }
    if (lease == NULL) {
        renewal->error = API_LEASE_NOT_FOUND;
        return true;
    }
    if (lease->end_ns <= now_ns) {
        renewal->waits = true;
        list_push_back(&lease->renewals, &renewal->waiting);
        return false;
    }
    renewal->ttl_s = lease->lease.ttl_s;
    renewal->outdates_checkpoint = lease->lease.remaining_s > 0 || lease->is_told;
    enum status st = begin(lessor, lease, now_ns, ttl_ns(&lease->lease));
    if (st != ST_OK)
        renewal->error = api_error_of(st);
    return true;
}

void lease_renewals_end(struct list_node *ended)
{
    while (!list_is_empty(ended)) {
        struct lease_renewal *renewal =
            CONTAINER_OF(list_pop_front(ended), struct lease_renewal, waiting);
        renewal->done(renewal);
    }
}

bool lessor_forget(struct lessor *lessor, struct lease_renewal *renewal)
{
    (void)lessor;
    bool waited = renewal->waits;
    if (waited)
        list_remove(&renewal->waiting);
    renewal->waits = false;
    return waited;
}

int64_t lessor_remaining_s(const struct lessor *lessor, lease_id id, uint64_t now_ns)
{
    const struct lease_entry *lease = lessor_entry(lessor, id);
    if (lease == NULL)
        return -1;
    if (lease->end_ns == UINT64_MAX)
        return INT64_MAX;
    return lease->end_ns <= now_ns ? 0 : (int64_t)((lease->end_ns - now_ns) / NS_PER_S);
}

uint64_t lessor_end_ns(const struct lessor *lessor, lease_id id)
{
    const struct lease_entry *lease = lessor_entry(lessor, id);
    return lease == NULL ? UINT64_MAX : lease->end_ns;
}

/* ---- what is due ---- */

uint64_t lessor_next_end_ns(const struct lessor *lessor)
{
    const struct heap_node *first = heap_peek(&lessor->ends);
    return first == NULL ? UINT64_MAX : first->key;
}

uint32_t lessor_take_ended(struct lessor *lessor, uint64_t now_ns, uint64_t again_ns, lease_id *ids,
                           uint32_t max, uint64_t keys_max)
{
    uint32_t count = 0;
    uint64_t keys = 0;
    ASSERT(again_ns > now_ns);
    while (count < max && lessor_next_end_ns(lessor) <= now_ns) {
        struct lease_entry *lease = of_end(heap_peek(&lessor->ends));
        keys += lease->lease.keys_count;
        if (count > 0 && keys > keys_max)
            break;
        heap_remove(&lessor->ends, &lease->end);
        enum status st = heap_push(&lessor->ends, &lease->end, again_ns);
        ASSERT(st == ST_OK); /* it was in the heap a moment ago */
        ids[count++] = lease->lease.id;
    }
    return count;
}

/* ---- checkpoints ---- */

void lessor_set_checkpoints(struct lessor *lessor, uint64_t interval_ns)
{
    lessor->checkpoint_ns = interval_ns;
}

uint32_t lessor_take_checkpoints(struct lessor *lessor, uint64_t now_ns, struct lease *out,
                                 uint32_t max)
{
    uint32_t count = 0;
    while (count < max) {
        struct heap_node *first = heap_peek(&lessor->checkpoints);
        if (first == NULL || first->key > now_ns)
            break;
        struct lease_entry *lease = of_checkpoint(heap_pop(&lessor->checkpoints));
        if (lease->end_ns <= now_ns)
            continue;
        uint64_t left = lease->end_ns - now_ns;
        int64_t remaining_s = (int64_t)((left + NS_PER_S - 1) / NS_PER_S);
        if (left > lessor->checkpoint_ns) {
            enum status st =
                heap_push(&lessor->checkpoints, &lease->checkpoint, now_ns + lessor->checkpoint_ns);
            ASSERT(st == ST_OK); /* it was in the heap a moment ago */
        }
        if (remaining_s >= lease->lease.ttl_s)
            continue; /* after a change of leaders it has more than its TTL */
        lease->is_told = true;
        out[count] = lease->lease;
        out[count++].remaining_s = remaining_s;
    }
    return count;
}
