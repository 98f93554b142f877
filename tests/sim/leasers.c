#include "tests/sim/leasers.h"

#include "base/bytes.h"
#include "base/list.h"
#include "server/loops/leases.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "tests/sim/cluster_private.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define LEASES_MAX 4096U
#define KEYS_PER_LEASE 3U
#define RENEWALS_MAX 8U
#define TTL_S_MIN 2U
#define TTL_S_SPREAD 6U
#define DEADLINE_NS (7 * NS_PER_S)
#define THINK_NS_MAX (1500 * NS_PER_MS)
#define END_NS (120 * NS_PER_S) /* for the last lease, through changes of leaders */
/* A member's clock runs faster by this at most (faults.c), and its leases end earlier by as much.
 */
#define FASTEST_PERCENT 140U

/* What is known of a lease from outside. */
struct held {
    uint64_t lasts_until_ns; /* the cluster's time: it must not end before */
    uint32_t put, gone;      /* bits: keys that were acknowledged, and those that were deleted */
    int64_t end_revision;    /* of their deletion; 0: not yet */
    bool is_revoked;         /* on purpose */
};

enum action { LEASER_GRANT, LEASER_PUT, LEASER_RENEW, LEASER_REVOKE };

struct leaser {
    struct leasers *leasers;
    bool is_busy;
    enum action action;
    uint64_t next_ns, began_ns;
    uint32_t lease, ttl_s; /* 0: it has none */
    uint32_t puts_count, renewals_left;
    uint32_t member;
    struct proposal proposal;
    struct read_request read;
    struct lease_renewal renewal;
};

struct leasers {
    struct cluster *cluster;
    struct rng rng;
    uint32_t count, leases_count;
    bool is_finished;
    struct leasers_stat stat;
    struct held held[LEASES_MAX];
    struct leaser items[];
};

static struct held *held_of(struct leaser *leaser)
{
    return &leaser->leasers->held[leaser->lease];
}

static void go_idle(struct leaser *leaser)
{
    leaser->is_busy = false;
    leaser->next_ns =
        leaser->leasers->cluster->now_ns + rng_below(&leaser->leasers->rng, THINK_NS_MAX);
}

/* It began to last anew at some moment since the request. */
static void lasts(struct leaser *leaser)
{
    uint64_t until_ns = leaser->began_ns + leaser->ttl_s * NS_PER_S * 100 / FASTEST_PERCENT;
    struct held *held = held_of(leaser);
    if (held->lasts_until_ns < until_ns)
        held->lasts_until_ns = until_ns;
}

/* ---- what the first member to apply a change tells ---- */

static void note_revision(struct cluster *cluster, int64_t revision)
{
    uint64_t count = cluster->others_count;
    if (count > 0 && cluster->others_revisions[count - 1] == revision)
        return;
    if (count == cluster->others_capacity) {
        cluster->others_capacity = count * 2 + 64;
        cluster->others_revisions =
            realloc(cluster->others_revisions,
                    cluster->others_capacity * sizeof(cluster->others_revisions[0]));
        assert_non_null(cluster->others_revisions);
    }
    cluster->others_revisions[cluster->others_count++] = revision;
}

static void note_change(void *context, struct slice key, bool tombstone, int64_t revision)
{
    struct leasers *leasers = context;
    char text[32] = {0};
    unsigned lease, number;
    if (key.len >= sizeof(text))
        return;
    memcpy(text, key.data, key.len);
    if (sscanf(text, "lease/%u/%u", &lease, &number) != 2)
        return;
    note_revision(leasers->cluster, revision);
    if (!tombstone)
        return;
    assert_true(lease < LEASES_MAX && number < KEYS_PER_LEASE);
    struct held *held = &leasers->held[lease];
    if (!held->is_revoked && leasers->cluster->now_ns < held->lasts_until_ns)
        cluster_fail(leasers->cluster, "lease %u ended at %llu ns, it should last until %llu",
                     lease, (unsigned long long)leasers->cluster->now_ns,
                     (unsigned long long)held->lasts_until_ns);
    if (held->end_revision != 0 && held->end_revision != revision)
        cluster_fail(leasers->cluster, "the keys of lease %u went in two revisions", lease);
    leasers->stat.ended_count += held->end_revision == 0;
    held->end_revision = revision;
    held->gone |= 1U << number;
}

/* ---- operations ---- */

static void proposal_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct leaser *leaser = CONTAINER_OF(proposal, struct leaser, proposal);
    struct leasers *leasers = leaser->leasers;
    go_idle(leaser);
    if (leaser->action == LEASER_GRANT && error == API_OK) {
        leasers->stat.grants_count++;
        lasts(leaser);
    } else if (leaser->action == LEASER_PUT && error == API_OK) {
        held_of(leaser)->put |= 1U << (leaser->puts_count - 1);
    } else {
        leaser->lease = 0; /* it is let go: whoever has it, it ends */
    }
}

static void propose(struct leaser *leaser, enum internal_field field, struct slice body)
{
    struct cluster_member *m = &leaser->leasers->cluster->members[leaser->member];
    uint64_t id = loops_next_id(m->loops);
    const struct auth_caller root = cluster_root(m);
    leaser->proposal =
        (struct proposal){.request.deadline_ns = cluster_local_ns(m) + DEADLINE_NS,
                          .id = id,
                          .payload = internal_request_payload_as(field, body, id, &root),
                          .done = proposal_done};
    assert_non_null(leaser->proposal.payload);
    loops_propose(m->loops, &leaser->proposal);
}

static size_t put_number(uint8_t *out, uint32_t field, uint64_t value)
{
    out[0] = (uint8_t)(field << 3);
    return 1 + put_varint(out + 1, value);
}

static void begin_grant(struct leaser *leaser)
{
    struct leasers *leasers = leaser->leasers;
    uint8_t body[32];
    assert_true(leasers->leases_count + 1 < LEASES_MAX);
    leaser->action = LEASER_GRANT;
    leaser->lease = ++leasers->leases_count;
    leaser->ttl_s = TTL_S_MIN + (uint32_t)rng_below(&leasers->rng, TTL_S_SPREAD);
    leaser->puts_count = 0;
    leaser->renewals_left = (uint32_t)rng_below(&leasers->rng, RENEWALS_MAX);
    size_t size = put_number(body, 1, leaser->ttl_s);
    size += put_number(body + size, 2, leaser->lease);
    propose(leaser, INTERNAL_LEASE_GRANT, slice_make(body, size));
}

static void begin_put(struct leaser *leaser)
{
    uint8_t body[64];
    char key[32];
    leaser->action = LEASER_PUT;
    int len = snprintf(key, sizeof(key), "lease/%u/%u", leaser->lease, leaser->puts_count++);
    body[0] = 0x0a;
    body[1] = (uint8_t)len;
    memcpy(body + 2, key, (size_t)len);
    size_t size = 2 + (size_t)len;
    size += put_number(body + size, 3, leaser->lease);
    propose(leaser, INTERNAL_PUT, slice_make(body, size));
}

static void begin_revoke(struct leaser *leaser)
{
    uint8_t body[16];
    leaser->action = LEASER_REVOKE;
    held_of(leaser)->is_revoked = true;
    propose(leaser, INTERNAL_LEASE_REVOKE, slice_make(body, put_number(body, 1, leaser->lease)));
}

static void renewed(struct lease_renewal *renewal)
{
    struct leaser *leaser = CONTAINER_OF(renewal, struct leaser, renewal);
    go_idle(leaser);
    if (renewal->error == API_OK) {
        assert_int_equal(renewal->ttl_s, leaser->ttl_s);
        leaser->leasers->stat.renewals_count++;
        lasts(leaser);
    } else if (renewal->error == API_LEASE_NOT_FOUND) {
        leaser->lease = 0;
    }
}

static void renewal_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct leaser *leaser = CONTAINER_OF(read, struct leaser, read);
    struct cluster_member *m = &leaser->leasers->cluster->members[leaser->member];
    leaser->renewal = (struct lease_renewal){.id = leaser->lease, .done = renewed};
    if (error != API_OK)
        go_idle(leaser);
    else if (loops_renew_lease(m->loops, &leaser->renewal))
        renewed(&leaser->renewal);
}

static void begin_renewal(struct leaser *leaser)
{
    struct cluster_member *m = &leaser->leasers->cluster->members[leaser->member];
    leaser->action = LEASER_RENEW;
    leaser->renewals_left--;
    leaser->read = (struct read_request){.request.deadline_ns = cluster_local_ns(m) + DEADLINE_NS,
                                         .ready = renewal_ready};
    loops_read(m->loops, &leaser->read);
}

/* Renewals mostly go where the leader is: other members would ask it. */
static bool choose_member(struct leaser *leaser, bool wants_leader)
{
    struct cluster *cluster = leaser->leasers->cluster;
    uint32_t leader = cluster_leader(cluster);
    leaser->member = (uint32_t)rng_below(&leaser->leasers->rng, CLUSTER_MEMBERS_MAX);
    if (wants_leader && leader < CLUSTER_MEMBERS_MAX && rng_below(&leaser->leasers->rng, 8) != 0)
        leaser->member = leader;
    return cluster->members[leaser->member].running &&
           !cluster->members[leaser->member].quarantined;
}

static void begin(struct leaser *leaser)
{
    struct leasers *leasers = leaser->leasers;
    bool renews = leaser->lease != 0 && leaser->puts_count == KEYS_PER_LEASE;
    if (!choose_member(leaser, renews)) {
        go_idle(leaser);
        return;
    }
    leaser->is_busy = true;
    leaser->began_ns = leasers->cluster->now_ns;
    if (leaser->lease == 0)
        begin_grant(leaser);
    else if (leaser->puts_count < KEYS_PER_LEASE)
        begin_put(leaser);
    else if (leaser->renewals_left > 0)
        begin_renewal(leaser);
    else if (rng_below(&leasers->rng, 4) == 0)
        begin_revoke(leaser);
    else
        begin_grant(leaser); /* the old one is left alone */
}

void leasers_step(struct leasers *leasers)
{
    for (uint32_t i = 0; i < leasers->count; i++) {
        struct leaser *leaser = &leasers->items[i];
        if (!leaser->is_busy && leaser->next_ns <= leasers->cluster->now_ns)
            begin(leaser);
    }
}

uint64_t leasers_next_ns(const struct leasers *leasers)
{
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < leasers->count; i++) {
        const struct leaser *leaser = &leasers->items[i];
        if (!leaser->is_busy && leaser->next_ns < next_ns)
            next_ns = leaser->next_ns;
    }
    return next_ns;
}

/* ---- life ---- */

struct leasers *leasers_new(struct cluster *cluster, uint32_t count)
{
    struct leasers *leasers = calloc(1, sizeof(*leasers) + count * sizeof(struct leaser));
    assert_non_null(leasers);
    leasers->cluster = cluster;
    leasers->count = count;
    rng_seed(&leasers->rng, cluster->options.seed ^ 0x1ea5e);
    for (uint32_t i = 0; i < count; i++) {
        leasers->items[i].leasers = leasers;
        go_idle(&leasers->items[i]);
    }
    cluster->on_change = note_change;
    cluster->on_change_context = leasers;
    return leasers;
}

void leasers_free(struct leasers *leasers)
{
    free(leasers);
}

static bool are_answered(struct cluster *cluster, void *context)
{
    (void)cluster;
    const struct leasers *leasers = context;
    for (uint32_t i = 0; i < leasers->count; i++) {
        if (leasers->items[i].is_busy)
            return false;
    }
    return true;
}

void leasers_finish(struct leasers *leasers)
{
    cluster_until(leasers->cluster, are_answered, leasers, 60 * NS_PER_S, "answers about leases");
}

static bool have_ended(struct cluster *cluster, void *context)
{
    (void)context;
    for (uint32_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        struct cluster_member *m = &cluster->members[i];
        if (!m->running || !cluster_takes_part(cluster, i))
            continue;
        uint64_t count = lessor_leases_count(machine_lock_lessor(m->machine));
        machine_unlock_lessor(m->machine);
        if (count > 0)
            return false;
    }
    return true;
}

void leasers_judge(struct leasers *leasers)
{
    cluster_until(leasers->cluster, have_ended, leasers, END_NS, "the end of every lease");
    for (uint32_t i = 1; i <= leasers->leases_count; i++) {
        const struct held *held = &leasers->held[i];
        if ((held->put & ~held->gone) != 0)
            cluster_fail(leasers->cluster, "lease %u has ended, its keys %x of %x went", i,
                         held->gone, held->put);
    }
}

void leasers_get_stat(const struct leasers *leasers, struct leasers_stat *out)
{
    *out = leasers->stat;
}
