/* Leases of whole clusters in one thread (tests/sim/cluster.h): what only a leader of the right
 * term may propose, and what is left of a lease when another member leads. */
#include "base/bytes.h"
#include "base/list.h"
#include "server/loops/leases.h"
#include "server/loops/loops_private.h"
#include "server/state/kv_request.h"
#include "server/state/machine.h"
#include "tests/sim/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define LEASE 7
#define DEADLINE_NS (7 * NS_PER_S)

static struct cluster *open_cluster(uint64_t seed, uint64_t checkpoint_ns, bool persist)
{
    const struct cluster_options options = {.seed = seed,
                                            .members_count = 3,
                                            .sync_ns_min = NS_PER_MS,
                                            .sync_ns_max = 3 * NS_PER_MS,
                                            .lease_checkpoint_ns = checkpoint_ns,
                                            .persist_checkpoints = persist};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    cluster_run(cluster, NS_PER_S);
    return cluster;
}

static raft_term term_of(struct cluster *cluster, uint32_t member)
{
    struct loops_status status;
    loops_get_status(cluster->members[member].loops, &status);
    return status.term;
}

/* ---- proposals ---- */

struct entry_call {
    struct proposal proposal;
    bool is_done;
    enum api_error error;
};

static void entry_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct entry_call *call = CONTAINER_OF(proposal, struct entry_call, proposal);
    assert_false(call->is_done);
    call->is_done = true;
    call->error = error;
}

static bool is_done(struct cluster *cluster, void *context)
{
    (void)cluster;
    return ((struct entry_call *)context)->is_done;
}

static void begin(struct cluster *cluster, uint32_t member, struct entry_call *call,
                  enum internal_field field, struct slice body, raft_term only_term)
{
    struct cluster_member *m = &cluster->members[member];
    uint64_t id = loops_next_id(m->loops);
    *call =
        (struct entry_call){.proposal = {.request.deadline_ns = cluster_local_ns(m) + DEADLINE_NS,
                                         .id = id,
                                         .payload = internal_request_payload(field, body, id),
                                         .urgent = true,
                                         .only_term = only_term,
                                         .done = entry_done}};
    assert_non_null(call->proposal.payload);
    loops_propose(m->loops, &call->proposal);
}

static void grant(struct cluster *cluster, int64_t ttl_s)
{
    struct entry_call call;
    uint8_t body[16] = {0x10, LEASE, 0x08};
    size_t size = 3 + put_varint(body + 3, (uint64_t)ttl_s);
    begin(cluster, cluster_leader(cluster), &call, INTERNAL_LEASE_GRANT, slice_make(body, size), 0);
    cluster_until(cluster, is_done, &call, 2 * NS_PER_S, "a grant");
    assert_int_equal(call.error, API_OK);
}

static void begin_revoke(struct cluster *cluster, uint32_t member, struct entry_call *call,
                         raft_term only_term)
{
    begin(cluster, member, call, INTERNAL_LEASE_REVOKE, SLICE("\x08\x07"), only_term);
}

static void hand_over(struct cluster *cluster, uint32_t to)
{
    struct operation *over = cluster_hand_over(cluster, cluster_leader(cluster), to);
    cluster_until(cluster, cluster_is_done, over, NS_PER_S, "a hand-over");
    cluster_run(cluster, NS_PER_S);
    assert_int_equal(cluster_leader(cluster), to);
}

/* ---- what is seen of it ---- */

static bool is_there(struct cluster *cluster, uint32_t member)
{
    struct machine *machine = cluster->members[member].machine;
    bool found = lessor_find(machine_lock_lessor(machine), LEASE) != NULL;
    machine_unlock_lessor(machine);
    return found;
}

static uint32_t holders(struct cluster *cluster)
{
    return (uint32_t)is_there(cluster, 0) + is_there(cluster, 1) + is_there(cluster, 2);
}

/* As this member would go on from. */
static int64_t told_s(struct cluster *cluster, uint32_t member)
{
    struct machine *machine = cluster->members[member].machine;
    const struct lease *lease = lessor_find(machine_lock_lessor(machine), LEASE);
    assert_non_null(lease);
    int64_t told = lease->remaining_s;
    machine_unlock_lessor(machine);
    return told;
}

static int64_t remaining_s(struct cluster *cluster)
{
    const struct cluster_member *m = &cluster->members[cluster_leader(cluster)];
    int64_t left = lessor_remaining_s(machine_lock_lessor(m->machine), LEASE, cluster_local_ns(m));
    machine_unlock_lessor(m->machine);
    return left;
}

struct logs {
    raft_index last[3];
};

static struct logs logs_of(struct cluster *cluster)
{
    struct logs logs;
    for (uint32_t i = 0; i < 3; i++) {
        struct wal_stat stat;
        wal_get_stat(cluster->members[i].wal, &stat);
        logs.last[i] = stat.last_index;
    }
    return logs;
}

static void assert_nothing_written(struct cluster *cluster, const struct logs *before)
{
    cluster_run(cluster, NS_PER_S);
    struct logs now = logs_of(cluster);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(now.last[i], before->last[i]);
}

/* ---- for one term alone ---- */

/* The same member leads again, and what it had taken was meant for the first time. */
static void test_leases_revocation_of_an_older_term_is_dropped(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(21, 0, false);
    struct entry_call call;
    uint32_t leader = cluster_leader(cluster);
    raft_term old = term_of(cluster, leader);
    grant(cluster, 600);
    hand_over(cluster, (leader + 1) % 3);
    hand_over(cluster, leader);
    assert_true(term_of(cluster, leader) > old);
    struct logs before = logs_of(cluster);
    begin_revoke(cluster, leader, &call, old);
    cluster_until(cluster, is_done, &call, NS_PER_MS, "a refusal");
    assert_int_equal(call.error, API_NOT_PRIMARY_LESSOR);
    begin_revoke(cluster, leader, &call, term_of(cluster, leader) + 1);
    cluster_until(cluster, is_done, &call, NS_PER_MS, "a refusal");
    assert_int_equal(call.error, API_NOT_PRIMARY_LESSOR);
    assert_nothing_written(cluster, &before);
    assert_int_equal(holders(cluster), 3);

    begin_revoke(cluster, leader, &call, term_of(cluster, leader));
    cluster_until(cluster, is_done, &call, NS_PER_S, "a revocation");
    assert_int_equal(call.error, API_OK);
    cluster_run(cluster, NS_PER_S);
    assert_int_equal(holders(cluster), 0);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* Others' proposals it forwards. */
static void test_leases_revocation_for_a_term_is_not_forwarded(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(22, 0, false);
    struct entry_call call;
    uint32_t follower = (cluster_leader(cluster) + 1) % 3;
    grant(cluster, 600);
    cluster_run(cluster, NS_PER_S);
    struct logs before = logs_of(cluster);
    begin_revoke(cluster, follower, &call, term_of(cluster, follower));
    cluster_until(cluster, is_done, &call, NS_PER_MS, "a refusal");
    assert_int_equal(call.error, API_NOT_PRIMARY_LESSOR);
    assert_nothing_written(cluster, &before);
    assert_int_equal(holders(cluster), 3);
    begin_revoke(cluster, follower, &call, 0);
    cluster_until(cluster, is_done, &call, NS_PER_S, "a revocation");
    assert_int_equal(call.error, API_OK);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* At every moment of a hand-over: it is in the log of this leader, or nowhere. */
static bool revoke_in_hand_over(uint32_t steps)
{
    struct cluster *cluster = open_cluster(23, 0, false);
    struct entry_call call;
    uint32_t leader = cluster_leader(cluster);
    raft_term term = term_of(cluster, leader);
    grant(cluster, 600);
    struct operation *over = cluster_hand_over(cluster, leader, (leader + 1) % 3);
    for (uint32_t i = 0; i < steps; i++)
        cluster_step(cluster, UINT64_MAX);
    begin_revoke(cluster, leader, &call, term);
    cluster_until(cluster, is_done, &call, 2 * NS_PER_S, "an answer");
    cluster_until(cluster, cluster_is_done, over, NS_PER_S, "a hand-over");
    cluster_run(cluster, NS_PER_S);
    bool dropped = call.error == API_NOT_PRIMARY_LESSOR;
    assert_true(dropped || call.error == API_OK);
    assert_int_equal(holders(cluster), dropped ? 3 : 0);
    cluster_settle(cluster);
    cluster_free(cluster);
    return dropped;
}

static void test_leases_revocation_in_a_hand_over_is_of_this_term_or_none(void **state)
{
    (void)state;
    uint32_t dropped = 0, rounds = 0;
    for (uint32_t steps = 0; steps < 60; steps += 2, rounds++)
        dropped += revoke_in_hand_over(steps);
    assert_in_range(dropped, 1, rounds);
}

/* ---- checkpoints ---- */

static void change_leader(struct cluster *cluster)
{
    uint32_t leader = cluster_leader(cluster);
    cluster_crash(cluster, leader);
    cluster_wait_for_leader(cluster);
    cluster_run(cluster, NS_PER_S); /* it counts */
    cluster_start(cluster, leader);
}

/* Every lease has an election timeout more then, which is 1 s here. */
static void test_leases_go_on_from_their_checkpoints(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(24, 2 * NS_PER_S, false);
    grant(cluster, 60);
    cluster_run(cluster, 20 * NS_PER_S);
    for (uint32_t i = 0; i < 3; i++)
        assert_in_range(told_s(cluster, i), 39, 42);
    change_leader(cluster);
    assert_in_range(remaining_s(cluster), 35, 43);
    cluster_run(cluster, 10 * NS_PER_S);
    change_leader(cluster);
    assert_in_range(remaining_s(cluster), 20, 34);
    cluster_run(cluster, 40 * NS_PER_S);
    assert_int_equal(holders(cluster), 0);
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_leases_begin_anew_without_checkpoints(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(24, 0, false);
    grant(cluster, 60);
    cluster_run(cluster, 20 * NS_PER_S);
    change_leader(cluster);
    assert_in_range(remaining_s(cluster), 57, 61);
    cluster_settle(cluster);
    cluster_free(cluster);
}

struct renewal_call {
    struct lease_renewal renewal;
    struct entry_call end;
};

static void renewal_done(struct lease_renewal *renewal)
{
    CONTAINER_OF(renewal, struct renewal_call, renewal)->end.is_done = true;
}

/* Returns whether others had to be told before it was answered. */
static bool renew(struct cluster *cluster)
{
    struct cluster_member *m = &cluster->members[cluster_leader(cluster)];
    struct renewal_call call = {.renewal = {.id = LEASE, .done = renewal_done}};
    bool is_ended = loops_renew_lease(m->loops, &call.renewal);
    if (!is_ended)
        cluster_until(cluster, is_done, &call.end, NS_PER_S, "a renewal");
    assert_int_equal(call.renewal.error, API_OK);
    return !is_ended;
}

/* What the others were told before must not outlive it. */
static void test_leases_renewal_takes_a_checkpoint_back(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(25, 5 * NS_PER_S, false);
    grant(cluster, 60);
    assert_false(renew(cluster));
    cluster_run(cluster, 7 * NS_PER_S);
    assert_in_range(told_s(cluster, cluster_leader(cluster)), 54, 56);
    assert_true(renew(cluster));
    assert_false(renew(cluster));
    change_leader(cluster);
    assert_in_range(remaining_s(cluster), 58, 61);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* Nor what they are being told at this moment. */
static void test_leases_renewal_comes_after_a_checkpoint_on_its_way(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(26, 5 * NS_PER_S, false);
    grant(cluster, 60);
    uint32_t leader = cluster_leader(cluster);
    cluster_run(cluster, NS_PER_S);
    struct logs before = logs_of(cluster);
    while (logs_of(cluster).last[leader] == before.last[leader])
        cluster_step(cluster, UINT64_MAX);
    assert_int_equal(told_s(cluster, leader), 0);
    assert_true(renew(cluster));
    change_leader(cluster);
    assert_in_range(remaining_s(cluster), 58, 61);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* The log no longer has what is in the store. */
static void commit_stores(struct cluster *cluster)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct operation *put = cluster_put(cluster, i);
        cluster_until(cluster, cluster_is_done, put, NS_PER_S, "a put");
        loops_seal(cluster->members[i].loops);
    }
    cluster_run(cluster, 2 * NS_PER_S);
}

static int64_t left_after_a_restart(bool persist)
{
    struct cluster *cluster = open_cluster(27, 15 * NS_PER_S, persist);
    grant(cluster, 40);
    cluster_run(cluster, 31 * NS_PER_S); /* the last checkpoint said 10 s */
    assert_in_range(told_s(cluster, 0), 9, 11);
    commit_stores(cluster);
    for (uint32_t i = 0; i < 3; i++)
        cluster_crash(cluster, i);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    cluster_wait_for_leader(cluster);
    cluster_run(cluster, NS_PER_S);
    int64_t left = remaining_s(cluster);
    cluster_settle(cluster);
    cluster_free(cluster);
    return left;
}

static void test_leases_persisted_checkpoints_outlast_a_restart(void **state)
{
    (void)state;
    assert_in_range(left_after_a_restart(/* persist= */ true), 7, 11);
    assert_in_range(left_after_a_restart(/* persist= */ false), 37, 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases_revocation_of_an_older_term_is_dropped),
        cmocka_unit_test(test_leases_revocation_for_a_term_is_not_forwarded),
        cmocka_unit_test(test_leases_revocation_in_a_hand_over_is_of_this_term_or_none),
        cmocka_unit_test(test_leases_go_on_from_their_checkpoints),
        cmocka_unit_test(test_leases_begin_anew_without_checkpoints),
        cmocka_unit_test(test_leases_renewal_takes_a_checkpoint_back),
        cmocka_unit_test(test_leases_renewal_comes_after_a_checkpoint_on_its_way),
        cmocka_unit_test(test_leases_persisted_checkpoints_outlast_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
