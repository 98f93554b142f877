/* Whole clusters in one thread, one seed each (tests/sim/cluster.h): what the loops do when there
 * are other members. */
#include "server/loops/loops_private.h"
#include "server/rpc/rpc.h"
#include "tests/sim/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#include <malloc.h>

#ifdef __SANITIZE_ADDRESS__ /* it is slow */
#define SEEDS 15U
#define STALL_SEEDS 8U
#else
#define SEEDS 60U
#define STALL_SEEDS 30U
#endif

static struct cluster *three(uint64_t seed)
{
    const struct cluster_options options = {
        .seed = seed, .members_count = 3, .sync_ns_min = NS_PER_MS, .sync_ns_max = 3 * NS_PER_MS};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    return cluster;
}

static void slow_links(struct cluster *cluster, uint64_t delay_ns_max)
{
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t j = 0; j < 3; j++) {
            struct network_link *link = network_link(cluster->network, i, j);
            link->delay_ns_max = link->delay_ns_min + rng_below(&cluster->rng, delay_ns_max);
        }
    }
}

static uint32_t follower_of(struct cluster *cluster)
{
    return (cluster_leader(cluster) + 1) % 3;
}

static void put_until_done(struct cluster *cluster, uint32_t member)
{
    struct operation *put = cluster_put(cluster, member);
    cluster_until(cluster, cluster_is_done, put, 2 * NS_PER_S, "a put");
}

static void test_cluster_takes_puts_through_any_member(void **state)
{
    (void)state;
    struct cluster *cluster = three(1);
    cluster_run(cluster, NS_PER_S);
    for (uint32_t i = 0; i < 3; i++)
        put_until_done(cluster, i);
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_cluster_goes_on_when_the_leader_dies(void **state)
{
    (void)state;
    struct cluster *cluster = three(2);
    put_until_done(cluster, cluster_leader(cluster));
    uint32_t dead = cluster_leader(cluster);
    cluster_crash(cluster, dead);
    cluster_wait_for_leader(cluster);
    put_until_done(cluster, cluster_leader(cluster));
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* Its own disk is one vote of three: it writes to the others and answers all the same. */
static void test_cluster_goes_on_while_the_disk_of_the_leader_hangs(void **state)
{
    (void)state;
    struct cluster *cluster = three(3);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    cluster_stall_disk(cluster, leader, 3 * NS_PER_S);
    for (uint32_t i = 0; i < 100; i++) {
        struct operation *put = cluster_put(cluster, i % 3);
        cluster_until(cluster, cluster_is_done, put, 300 * NS_PER_MS, "a put beside a stall");
    }
    assert_int_equal(cluster_leader(cluster), leader);
    cluster_settle(cluster);
    cluster_free(cluster);
}

struct watched {
    uint32_t member;
};

static bool leads_no_more(struct cluster *cluster, void *context)
{
    struct loops_status status;
    loops_get_status(cluster->members[((struct watched *)context)->member].loops, &status);
    return !status.is_leader;
}

static void depose(struct cluster *cluster, uint32_t leader)
{
    network_isolate(cluster->network, leader, true);
    cluster_until(cluster, leads_no_more, &(struct watched){leader}, 3 * NS_PER_S, "a step-down");
    cluster_run(cluster, NS_PER_MS);
}

/* What is in its log has an open fate; its callers learn that at once. Reads could be asked again,
 * but one that finds no leader says so soon. */
static void test_cluster_answers_soon_when_leadership_is_lost(void **state)
{
    (void)state;
    struct cluster *cluster = three(4);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    network_isolate(cluster->network, leader, true);
    struct operation *put = cluster_put(cluster, leader);
    struct operation *read = cluster_read(cluster, leader);
    depose(cluster, leader);
    assert_int_equal(put->state, OPERATION_FAILED);
    assert_int_equal(put->error, API_LEADER_CHANGED);
    assert_int_equal(read->state, OPERATION_OPEN);
    cluster_run(cluster, 1100 * NS_PER_MS);
    assert_int_equal(read->state, OPERATION_FAILED);
    assert_int_equal(read->error, API_LEADER_CHANGED);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* Who insists on a leader is not turned away while the next one is about to come. */
static void test_cluster_is_leaderless_an_election_timeout_after_its_leader(void **state)
{
    (void)state;
    struct cluster *cluster = three(14);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    depose(cluster, leader);
    struct loops_status status;
    loops_get_status(cluster->members[leader].loops, &status);
    assert_int_equal(status.leader, 0);
    assert_false(status.is_leaderless);
    cluster_run(cluster, 1100 * NS_PER_MS);
    loops_get_status(cluster->members[leader].loops, &status);
    assert_true(status.is_leaderless);
    network_isolate(cluster->network, leader, false);
    cluster_run(cluster, NS_PER_S);
    loops_get_status(cluster->members[leader].loops, &status);
    assert_false(status.is_leaderless);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* A leader that was stopped, or cut off for a while, finds another one when it is back. */
static void test_cluster_asks_the_next_leader_what_the_lost_one_was_asked(void **state)
{
    (void)state;
    struct cluster *cluster = three(13);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    network_isolate(cluster->network, leader, true);
    struct operation *reads[5];
    for (uint32_t i = 0; i < 5; i++) {
        reads[i] = cluster_read(cluster, leader);
        cluster_run(cluster, 10 * NS_PER_MS);
    }
    depose(cluster, leader);
    network_isolate(cluster->network, leader, false);
    for (uint32_t i = 0; i < 5; i++) {
        cluster_until(cluster, cluster_is_done, reads[i], NS_PER_S, "a read of another leader");
        assert_int_equal(reads[i]->state, OPERATION_DONE);
    }
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* A forwarded put whose leader is gone is not left to its deadline either. */
static void test_cluster_gives_up_what_was_forwarded_to_a_lost_leader(void **state)
{
    (void)state;
    struct cluster *cluster = three(5);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster), follower = follower_of(cluster);
    network_isolate(cluster->network, leader, true);
    struct operation *put = cluster_put(cluster, follower);
    cluster_run(cluster, 5 * NS_PER_S);
    assert_int_equal(put->state, OPERATION_FAILED);
    assert_int_equal(put->error, API_LEADER_CHANGED);
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_cluster_reads_through_any_member(void **state)
{
    (void)state;
    struct cluster *cluster = three(6);
    cluster_run(cluster, NS_PER_S);
    for (uint32_t i = 0; i < 3; i++) {
        put_until_done(cluster, i);
        struct operation *read = cluster_read(cluster, (i + 1) % 3);
        cluster_until(cluster, cluster_is_done, read, NS_PER_S, "a read");
    }
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* It was on its way when the follower's process ended, and says nothing about what was committed
 * since. */
static void test_cluster_takes_no_answer_to_a_read_of_an_earlier_life(void **state)
{
    (void)state;
    struct cluster *cluster = three(7);
    cluster_run(cluster, NS_PER_S);
    put_until_done(cluster, follower_of(cluster));
    uint32_t follower = follower_of(cluster);
    struct network_link *link = network_link(cluster->network, cluster_leader(cluster), follower);
    link->delay_ns_min = link->delay_ns_max = 400 * NS_PER_MS;
    for (int i = 0; i < 3; i++)
        cluster_read(cluster, follower);
    cluster_run(cluster, 50 * NS_PER_MS);
    cluster_kill(cluster, follower);
    cluster_start(cluster, follower);
    struct operation *read = cluster_read(cluster, follower);
    cluster_until(cluster, cluster_is_done, read, 2 * NS_PER_S, "a read");
    assert_true(read->ended_ns - read->began_ns >= 400 * NS_PER_MS);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* Nobody notices: what is under way completes with the next leader, reads ask it again. */
static void test_cluster_loses_no_call_when_leadership_is_handed_over(void **state)
{
    (void)state;
    struct cluster *cluster = three(7);
    cluster_run(cluster, NS_PER_S);
    for (uint32_t round = 0; round < 6; round++) {
        uint32_t from = cluster_leader(cluster), to = follower_of(cluster);
        for (uint32_t i = 0; i < 10; i++) {
            cluster_put(cluster, i % 3);
            cluster_read(cluster, i % 3);
            cluster_run(cluster, NS_PER_MS / 4);
        }
        struct operation *hand_over = cluster_hand_over(cluster, from, to);
        for (uint32_t i = 0; i < 10; i++) {
            cluster_put(cluster, i % 3);
            cluster_read(cluster, i % 3);
            cluster_run(cluster, NS_PER_MS / 4);
        }
        cluster_until(cluster, cluster_is_done, hand_over, NS_PER_S, "a hand-over");
        cluster_run(cluster, NS_PER_S);
        assert_int_equal(cluster_leader(cluster), to);
    }
    assert_int_equal(cluster->failed, 0);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* ---- a disk that hangs for long ---- */

#define STALL_NS (60 * NS_PER_S)
#define STALL_ROUNDS 160U /* of a put and a read through each member, 50 ms apart */
#define SPARSE_ROUNDS 60U /* then one a second, until after the stall */
#define ANSWER_NS (2 * NS_PER_S)
#define STALLED_PUTS 400U
#define STALLED_PUT_BYTES_MAX 3000U

static void check_beside_stall(struct cluster *cluster, const struct operation *o, uint32_t stalled)
{
    bool is_put = o->number != 0;
    uint64_t took_ns = o->ended_ns - o->began_ns;
    if (o->state == OPERATION_OPEN || took_ns > ANSWER_NS)
        cluster_fail(cluster, "a %s through member %u, which began at %u ms, took %u ms",
                     is_put ? "put" : "read", o->member, (unsigned)(o->began_ns / NS_PER_MS),
                     (unsigned)(took_ns / NS_PER_MS));
    if (o->state == OPERATION_FAILED && o->member != stalled)
        cluster_fail(cluster, "a %s through member %u, which began at %u ms, failed: %s",
                     is_put ? "put" : "read", o->member, (unsigned)(o->began_ns / NS_PER_MS),
                     api_error_text(o->error));
    if (o->state == OPERATION_FAILED)
        assert_int_equal(api_error_code(o->error), RPC_UNAVAILABLE);
}

/* Of a leader: after five seconds another one leads, and no call through the others fails or takes
 * long. Those through the member with the disk are answered or refused soon, and all are answered
 * while it still leads. */
static void stall_for_long(uint64_t seed, bool of_the_leader)
{
    struct cluster *cluster = three(seed);
    slow_links(cluster, 5 * NS_PER_MS);
    cluster_run(cluster, NS_PER_S);
    uint32_t leader = cluster_leader(cluster);
    uint32_t stalled = of_the_leader ? leader : follower_of(cluster);
    uint64_t began_ns = cluster->now_ns;
    cluster_stall_disk(cluster, stalled, STALL_NS);
    uint32_t changes = 0;
    for (uint32_t i = 0; i < STALL_ROUNDS + SPARSE_ROUNDS; i++) {
        for (uint32_t member = 0; member < 3; member++) {
            cluster_put(cluster, member);
            cluster_read(cluster, member);
            cluster_run(cluster, rng_below(&cluster->rng, 33 * NS_PER_MS));
        }
        if (i >= STALL_ROUNDS)
            cluster_run(cluster, NS_PER_S);
        uint32_t now = cluster_leader(cluster);
        if (now != leader && now != CLUSTER_MEMBERS_MAX) {
            leader = now;
            changes++;
        }
        if (of_the_leader && changes == 0)
            assert_int_equal(cluster->failed, 0);
    }
    cluster_run(cluster, ANSWER_NS);
    if (changes != of_the_leader)
        cluster_fail(cluster, "leadership changed %u times", changes);
    for (const struct operation *o = cluster->operations; o != NULL; o = o->next) {
        if (o->began_ns >= began_ns)
            check_beside_stall(cluster, o, stalled);
    }
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_cluster_hands_over_when_the_disk_of_the_leader_hangs_for_long(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= STALL_SEEDS; seed++)
        stall_for_long(seed, /* of_the_leader= */ true);
}

static void test_cluster_goes_on_when_the_disk_of_a_follower_hangs_for_long(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= STALL_SEEDS; seed++)
        stall_for_long(seed, /* of_the_leader= */ false);
}

/* Bytes that all this process keeps of each put. The sanitizers' allocators do not tell. */
static size_t bytes_kept(bool while_a_disk_hangs)
{
    struct cluster *cluster = three(12);
    cluster_run(cluster, NS_PER_S);
    if (while_a_disk_hangs)
        cluster_stall_disk(cluster, cluster_leader(cluster), 10 * NS_PER_S);
    put_until_done(cluster, cluster_leader(cluster));
    size_t before = mallinfo2().uordblks;
    for (uint32_t i = 0; i < STALLED_PUTS; i++)
        put_until_done(cluster, cluster_leader(cluster));
    size_t after = mallinfo2().uordblks;
    cluster_settle(cluster);
    cluster_free(cluster);
    return after < before ? 0 : (after - before) / STALLED_PUTS;
}

/* What the leader still has to write it keeps, and next to nothing of what it did meanwhile. */
static void test_cluster_keeps_little_while_a_disk_hangs(void **state)
{
    (void)state;
    size_t usual = bytes_kept(/* while_a_disk_hangs= */ false);
    assert_in_range(bytes_kept(/* while_a_disk_hangs= */ true), 0, usual + STALLED_PUT_BYTES_MAX);
}

static void write_many(struct cluster *cluster, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t leader = cluster_leader(cluster);
        put_until_done(cluster, leader);
        if (i % 50 == 0)
            for (uint32_t j = 0; j < 3; j++)
                if (cluster->members[j].running)
                    loops_seal(cluster->members[j].loops);
        cluster_run(cluster, 10 * NS_PER_MS);
    }
}

/* What is no longer in the leader's memory comes from its log on disk. */
static void test_cluster_brings_a_member_up_to_date_from_the_log(void **state)
{
    (void)state;
    const struct cluster_options options = {.seed = 9,
                                            .members_count = 3,
                                            .sync_ns_min = NS_PER_MS,
                                            .sync_ns_max = NS_PER_MS,
                                            .window_entries_max = 10};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    cluster_run(cluster, NS_PER_S);
    uint32_t late = follower_of(cluster);
    network_isolate(cluster->network, late, true);
    write_many(cluster, 60);
    cluster_settle(cluster);
    assert_int_equal(cluster->members[late].installs_count, 0);
    cluster_free(cluster);
}

static void test_cluster_brings_a_member_up_to_date_by_a_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = three(10);
    cluster_run(cluster, NS_PER_S);
    uint32_t late = follower_of(cluster);
    network_isolate(cluster->network, late, true);
    write_many(cluster, 400);
    cluster_settle(cluster);
    assert_int_equal(cluster->members[late].installs_count, 1);
    cluster_crash(cluster, late); /* and it starts on what it received */
    cluster_settle(cluster);
    cluster_free(cluster);
}

static void test_cluster_grows_and_shrinks(void **state)
{
    (void)state;
    struct cluster *cluster = three(11);
    cluster_run(cluster, NS_PER_S);
    write_many(cluster, 20);
    struct operation *add = cluster_add(cluster, follower_of(cluster), 3);
    cluster_until(cluster, cluster_is_done, add, 2 * NS_PER_S, "an addition");
    cluster_join(cluster, 3);
    cluster_settle(cluster);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(network_peers_count(cluster->network, i), 3);

    uint32_t leader = cluster_leader(cluster);
    struct operation *removal = cluster_remove(cluster, (leader + 1) % 4, leader);
    cluster_until(cluster, cluster_is_done, removal, 2 * NS_PER_S, "a removal");
    cluster_run(cluster, 5 * NS_PER_S);
    assert_true(cluster->members[leader].removed);
    assert_int_not_equal(cluster_leader(cluster), leader);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* ---- a member that lost what it promised ---- */

static void release_message(struct peer_message *message)
{
    free(message);
}

/* The leader tells it of a commit of what it has not, although it once said that it had. */
static void tell_of_lost_entries(struct cluster *cluster, uint32_t leader, uint32_t member)
{
    struct loops_status status;
    loops_get_status(cluster->members[leader].loops, &status);
    struct peer_message *message = calloc(1, sizeof(*message));
    assert_non_null(message);
    *message = (struct peer_message){.message = {.type = RAFT_MSG_HEARTBEAT,
                                                 .to = cluster->members[member].id,
                                                 .from = cluster->members[leader].id,
                                                 .term = status.term,
                                                 .commit = 1000000},
                                     .release = release_message};
    loops_receive(cluster->members[member].loops, message);
}

/* Whatever its calls wait for. */
static void test_cluster_answers_all_calls_of_a_quarantined_member(void **state)
{
    (void)state;
    for (uint32_t steps = 0; steps < 120; steps++) {
        struct cluster *cluster = three(13);
        cluster_run(cluster, NS_PER_S);
        uint32_t leader = cluster_leader(cluster), member = follower_of(cluster);
        cluster->members[member].may_fail = true;
        struct operation *calls[] = {cluster_add(cluster, member, 3), cluster_put(cluster, member),
                                     cluster_read(cluster, member), cluster_put(cluster, member),
                                     cluster_read(cluster, member)};
        for (uint32_t i = 0; i < steps; i++)
            cluster_step(cluster, UINT64_MAX);
        tell_of_lost_entries(cluster, leader, member);
        cluster_run(cluster, 10 * NS_PER_MS);
        assert_true(cluster->members[member].quarantined);
        for (uint32_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
            if (calls[i]->state == OPERATION_OPEN)
                cluster_fail(cluster, "call %u is open, %u steps after it began", i, steps);
            if (calls[i]->state == OPERATION_FAILED)
                assert_int_equal(calls[i]->error, API_STORE_CORRUPT);
        }
        cluster_free(cluster);
    }
}

/* ---- apply that cannot go on ---- */

/* Calls whose entries are committed wait no longer than the others. */
static void test_cluster_leaves_nobody_waiting_for_an_apply_that_is_held_up(void **state)
{
    (void)state;
    struct cluster *cluster = three(14);
    cluster_run(cluster, NS_PER_S);
    struct cluster_member *m = &cluster->members[cluster_leader(cluster)];
    struct operation *add = cluster_add(cluster, m->number, 3);
    while (!m->loops->applier.at_barrier)
        cluster_step(cluster, UINT64_MAX);
    uint64_t late_ns = cluster_local_ns(m) + 8 * NS_PER_S; /* consensus does not answer */
    loops_step(m->loops, ACTOR_APPLIER, late_ns);
    assert_int_equal(add->state, OPERATION_FAILED);
    assert_int_equal(add->error, API_TIMEOUT);
    cluster_join(cluster, 3); /* the change happened all the same */
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* ---- by chance ---- */

struct chaos {
    uint64_t crashed_until_ns[3], cut_until_ns[3];
};

static void disturb(struct cluster *cluster, struct chaos *chaos)
{
    uint32_t victim = (uint32_t)rng_below(&cluster->rng, 3);
    uint64_t until_ns = cluster->now_ns + rng_below(&cluster->rng, 5 * NS_PER_S);
    switch (rng_below(&cluster->rng, 4)) {
    case 0:
        if (!cluster->members[victim].running)
            break;
        cluster_crash(cluster, victim);
        chaos->crashed_until_ns[victim] = until_ns;
        break;
    case 1:
        network_isolate(cluster->network, victim, true);
        chaos->cut_until_ns[victim] = until_ns;
        break;
    case 2:
        cluster_stall_disk(cluster, victim, until_ns - cluster->now_ns);
        break;
    default:
        network_link(cluster->network, victim, (victim + 1) % 3)->loss_permille =
            (uint32_t)rng_below(&cluster->rng, 500);
        break;
    }
}

static void recover(struct cluster *cluster, struct chaos *chaos)
{
    for (uint32_t i = 0; i < 3; i++) {
        if (!cluster->members[i].running && chaos->crashed_until_ns[i] <= cluster->now_ns)
            cluster_start(cluster, i);
        if (chaos->cut_until_ns[i] != 0 && chaos->cut_until_ns[i] <= cluster->now_ns) {
            network_isolate(cluster->network, i, false);
            chaos->cut_until_ns[i] = 0;
        }
    }
}

static void one_request(struct cluster *cluster)
{
    uint32_t member = (uint32_t)rng_below(&cluster->rng, 3);
    if (!cluster->members[member].running)
        return;
    if (rng_below(&cluster->rng, 3) == 0)
        cluster_read(cluster, member);
    else
        cluster_put(cluster, member);
}

static void run_seed(uint64_t seed)
{
    struct cluster *cluster = three(seed);
    slow_links(cluster, 20 * NS_PER_MS);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t j = 0; j < 3; j++)
            network_link(cluster->network, i, j)->twice_permille = 20;
    }
    struct chaos chaos = {0};
    for (uint32_t i = 0; i < 300; i++) {
        if (rng_below(&cluster->rng, 20) == 0)
            disturb(cluster, &chaos);
        recover(cluster, &chaos);
        one_request(cluster);
        cluster_run(cluster, rng_below(&cluster->rng, 100 * NS_PER_MS));
    }
    cluster_settle(cluster);
    assert_in_range(cluster->acknowledged, 3, UINT64_MAX);
    cluster_free(cluster);
}

static void test_cluster_keeps_its_promises_through_chance(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_takes_puts_through_any_member),
        cmocka_unit_test(test_cluster_goes_on_when_the_leader_dies),
        cmocka_unit_test(test_cluster_goes_on_while_the_disk_of_the_leader_hangs),
        cmocka_unit_test(test_cluster_answers_soon_when_leadership_is_lost),
        cmocka_unit_test(test_cluster_is_leaderless_an_election_timeout_after_its_leader),
        cmocka_unit_test(test_cluster_asks_the_next_leader_what_the_lost_one_was_asked),
        cmocka_unit_test(test_cluster_gives_up_what_was_forwarded_to_a_lost_leader),
        cmocka_unit_test(test_cluster_reads_through_any_member),
        cmocka_unit_test(test_cluster_takes_no_answer_to_a_read_of_an_earlier_life),
        cmocka_unit_test(test_cluster_loses_no_call_when_leadership_is_handed_over),
        cmocka_unit_test(test_cluster_hands_over_when_the_disk_of_the_leader_hangs_for_long),
        cmocka_unit_test(test_cluster_goes_on_when_the_disk_of_a_follower_hangs_for_long),
        cmocka_unit_test(test_cluster_keeps_little_while_a_disk_hangs),
        cmocka_unit_test(test_cluster_brings_a_member_up_to_date_from_the_log),
        cmocka_unit_test(test_cluster_brings_a_member_up_to_date_by_a_snapshot),
        cmocka_unit_test(test_cluster_grows_and_shrinks),
        cmocka_unit_test(test_cluster_answers_all_calls_of_a_quarantined_member),
        cmocka_unit_test(test_cluster_leaves_nobody_waiting_for_an_apply_that_is_held_up),
        cmocka_unit_test(test_cluster_keeps_its_promises_through_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
