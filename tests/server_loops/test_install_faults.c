/* The installation of a received snapshot in a cluster of fakes: the power fails between any two
 * steps, any call of the disk or of the new store fails. The member comes back with the old state
 * whole or the new one, and catches up with the others. */
#include "tests/fakes/backend_mem.h"
#include "tests/sim/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka.h wants some of the above */
#include <cmocka.h>

#define SEED 31U
#ifdef __SANITIZE_ADDRESS__ /* the release build fails everything */
#define POWER_SEEDS 1U
#define STRIDE 6U
#else
#define POWER_SEEDS 2U
#define STRIDE 1U
#endif
#define WRITES 150U

static struct cluster_member *late_of(struct cluster *cluster)
{
    return &cluster->members[(cluster_leader(cluster) + 1) % 3];
}

static void write_one(struct cluster *cluster)
{
    struct operation *put = cluster_put(cluster, cluster_leader(cluster));
    cluster_until(cluster, cluster_is_done, put, 2 * NS_PER_S, "a put");
}

static void seal_all(struct cluster *cluster)
{
    for (uint32_t i = 0; i < 3; i++) {
        if (cluster->members[i].running)
            loops_seal(cluster->members[i].loops);
    }
}

static bool has_received(struct cluster *cluster, void *member)
{
    (void)cluster;
    return ((struct cluster_member *)member)->snapshots_received == 1;
}

/* A cluster one of whose members was away for too long for any log; its snapshot is here. */
static struct cluster *cluster_with_snapshot(uint64_t seed, struct cluster_member **late_out)
{
    const struct cluster_options options = {.seed = seed,
                                            .members_count = 3,
                                            .sync_ns_min = NS_PER_MS,
                                            .sync_ns_max = 3 * NS_PER_MS,
                                            .window_entries_max = 10};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    cluster_run(cluster, NS_PER_S);
    struct cluster_member *late = late_of(cluster);
    for (uint32_t i = 0; i < 10; i++)
        write_one(cluster);
    seal_all(cluster);
    cluster_run(cluster, NS_PER_S);
    network_isolate(cluster->network, late->number, true);
    for (uint32_t i = 0; i < WRITES; i++) {
        write_one(cluster);
        if (i % 20 == 0)
            seal_all(cluster);
    }
    seal_all(cluster);
    cluster_run(cluster, NS_PER_S);
    network_isolate(cluster->network, late->number, false);
    cluster_until(cluster, has_received, late, 30 * NS_PER_S, "a snapshot");
    late->may_fail = true;
    *late_out = late;
    return cluster;
}

static raft_index applied_of(const struct cluster_member *m)
{
    struct loops_status status;
    loops_get_status(m->loops, &status);
    return status.applied;
}

/* Either of the two whole states, and afterwards the same as everybody. */
static void check_restart(struct cluster *cluster, struct cluster_member *late, raft_index old_last,
                          raft_index acknowledged)
{
    if (!late->running)
        cluster_start(cluster, late->number);
    raft_index mark = store_opened_at(late->store).index;
    assert_true(mark <= old_last || mark > WRITES);
    if (acknowledged > old_last)
        assert_true(mark >= acknowledged || mark > WRITES);
    late->may_fail = false;
    cluster_settle(cluster);
    assert_in_range(applied_of(late), WRITES, UINT64_MAX);
    cluster_free(cluster);
}

/* How many steps it takes until the new state is there and acknowledged. */
static uint32_t cut_after_every_step(uint64_t seed)
{
    uint32_t steps = 0;
    for (bool done = false; !done; steps++) {
        struct cluster_member *late;
        struct cluster *cluster = cluster_with_snapshot(seed, &late);
        raft_index old_last = applied_of(late);
        for (uint32_t i = 0; i < steps; i++)
            cluster_step(cluster, UINT64_MAX);
        done = applied_of(late) > WRITES && late->promises.acked.index > WRITES;
        cluster_crash(cluster, late->number);
        check_restart(cluster, late, old_last, late->promises.acked.index);
    }
    return steps;
}

static void test_install_survives_a_power_cut_after_every_step(void **state)
{
    (void)state;
    for (uint64_t seed = SEED; seed < SEED + POWER_SEEDS; seed++)
        assert_in_range(cut_after_every_step(seed), 8, 10000);
}

static bool is_over(struct cluster *cluster, void *member)
{
    (void)cluster;
    const struct cluster_member *late = member;
    return !late->running || applied_of(late) > WRITES;
}

static void test_install_survives_every_failing_call_of_the_disk(void **state)
{
    (void)state;
    bool fired = true;
    for (uint64_t at = 0; fired; at += STRIDE) {
        struct cluster_member *late;
        struct cluster *cluster = cluster_with_snapshot(SEED, &late);
        raft_index old_last = applied_of(late);
        fake_disk_fail_at(late->disk, at, ST_IO);
        cluster_until(cluster, is_over, late, 30 * NS_PER_S, "an end of the installation");
        fired = fake_disk_fault_fired(late->disk);
        raft_index acknowledged = late->promises.acked.index;
        if (late->running)
            cluster_crash(cluster, late->number);
        fake_disk_fail_at(late->disk, UINT64_MAX, ST_OK);
        check_restart(cluster, late, old_last, acknowledged);
    }
}

static void store_path_of(const struct cluster_member *late, raft_index index, char out[64])
{
    snprintf(out, 64, "sim-%u-%llu%s", late->number, (unsigned long long)index,
             backend_mem()->suffix);
}

/* The same run without a fault: where the new store will be. */
static raft_index index_of_snapshot(void)
{
    struct cluster_member *late;
    struct cluster *cluster = cluster_with_snapshot(SEED, &late);
    cluster_until(cluster, is_over, late, 30 * NS_PER_S, "an installation");
    unsigned long long index = 0;
    unsigned number;
    assert_int_equal(sscanf(late->store_path, "sim-%u-%llu", &number, &index), 2);
    assert_int_equal(late->installs_count, 1);
    cluster_free(cluster);
    return index;
}

static void fail_store_calls(raft_index index, enum status st, bool lands)
{
    bool fired = true;
    for (uint64_t at = 1; fired; at += STRIDE) {
        struct cluster_member *late;
        struct cluster *cluster = cluster_with_snapshot(SEED, &late);
        raft_index old_last = applied_of(late);
        char path[64];
        store_path_of(late, index, path);
        backend_mem_fail_at(path, at, st, lands);
        cluster_until(cluster, is_over, late, 30 * NS_PER_S, "an end of the installation");
        fired = backend_mem_fault_fired(path);
        backend_mem_fail_at(path, 0, ST_OK, false);
        check_restart(cluster, late, old_last, late->promises.acked.index);
    }
}

static void test_install_survives_every_failing_call_of_the_new_store(void **state)
{
    (void)state;
    raft_index index = index_of_snapshot();
    fail_store_calls(index, ST_IO, /* lands= */ false);
    fail_store_calls(index, ST_IO, /* lands= */ true);
    fail_store_calls(index, ST_NO_SPACE, /* lands= */ false);
    fail_store_calls(index, ST_NO_MEMORY, /* lands= */ false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_install_survives_a_power_cut_after_every_step),
        cmocka_unit_test(test_install_survives_every_failing_call_of_the_disk),
        cmocka_unit_test(test_install_survives_every_failing_call_of_the_new_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
