/* Whole clusters over the bare core, by seed: `raft_cluster SEED [COUNT]` runs one of them, or
 * COUNT from there on, and says what it saw. */
#include "tests/raft/cluster.h"

#include "base/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__ /* it is slow */
#define SEEDS 40U
#else
#define SEEDS 400U
#endif
#define STEPS 20000U
#define CALM_TICKS 400U /* 40 election timeouts at the least */

struct totals {
    uint64_t elections, truncations, commits, restarts, snapshots, reads, transfers, log_reads;
};

static struct cluster_options draw_options(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed * 31);
    bool small = rng_below(&rng, 2) == 0;
    return (struct cluster_options){
        .voters = rng_below(&rng, 2) == 0 ? 3 : 5,
        .pre_vote = rng_below(&rng, 4) != 0,
        .check_quorum = rng_below(&rng, 4) != 0,
        .apply_unstable = rng_below(&rng, 3) != 0,
        .message_bytes_max = small ? 1 + rng_below(&rng, 500) : 1 << 20,
        .inflight_bytes_max = small && rng_below(&rng, 2) == 0 ? 1000 : 0,
        .apply_bytes_max = small ? 1 + rng_below(&rng, 500) : 1 << 20,
        .uncommitted_bytes_max = rng_below(&rng, 2) * 1000,
        .inflight_messages_max = small ? 1 + (uint32_t)rng_below(&rng, 4) : 512,
        .stall_ticks_max = rng_below(&rng, 2) == 0 ? 0 : 30,
        .window_entries_max = (uint32_t)rng_below(&rng, 60),
        .deliveries = 100 + (uint32_t)rng_below(&rng, 600),
        .readies = 100 + (uint32_t)rng_below(&rng, 300),
        .appends = 50 + (uint32_t)rng_below(&rng, 300),
        .applies = 50 + (uint32_t)rng_below(&rng, 200),
        .ticks = 20 + (uint32_t)rng_below(&rng, 200),
        .proposals = 10 + (uint32_t)rng_below(&rng, 100),
        .disturbances = rng_below(&rng, 3) == 0 ? 0 : 1 + (uint32_t)rng_below(&rng, 8),
        .loss_percent = rng_below(&rng, 3) == 0 ? 0 : (uint32_t)rng_below(&rng, 25),
    };
}

static void run(uint64_t seed, struct totals *totals)
{
    struct cluster_options options = draw_options(seed);
    struct cluster *c = cluster_new(seed, &options);
    for (uint32_t i = 0; i < STEPS; i++)
        cluster_step(c);
    cluster_calm(c, CALM_TICKS);
    totals->elections += c->elections;
    totals->truncations += c->truncations;
    totals->commits += c->commits;
    totals->restarts += c->restarts;
    totals->snapshots += c->snapshots;
    totals->reads += c->reads_answered;
    totals->transfers += c->transfers;
    totals->log_reads += c->log_reads;
    cluster_free(c);
}

static uint64_t seed_running;

static void name_seed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "seed %llu: %s at %s:%d\n", (unsigned long long)seed_running, expression, file,
            line);
}

static void print_totals(const struct totals *t)
{
    printf("%llu elections, %llu truncations, %llu entries committed, %llu crashes, %llu "
           "snapshots, %llu reads, "
           "%llu transfers, %llu reads of the log\n",
           (unsigned long long)t->elections, (unsigned long long)t->truncations,
           (unsigned long long)t->commits, (unsigned long long)t->restarts,
           (unsigned long long)t->snapshots, (unsigned long long)t->reads,
           (unsigned long long)t->transfers, (unsigned long long)t->log_reads);
}

static void test_cluster_keeps_its_promises_whatever_happens(void **state)
{
    (void)state;
    struct totals totals = {0};
    for (seed_running = 1; seed_running <= SEEDS; seed_running++)
        run(seed_running, &totals);
    print_totals(&totals);
    /* Or it tested nothing. */
    assert_true(totals.elections > SEEDS && totals.commits > 20 * SEEDS);
    assert_true(totals.snapshots > SEEDS / 4 && totals.log_reads > SEEDS / 4);
    assert_true(totals.reads > SEEDS && totals.transfers > SEEDS / 4);
}

int main(int argc, char **argv)
{
    assert_set_hook(name_seed);
    if (argc > 1) {
        struct totals totals = {0};
        seed_running = strtoull(argv[1], NULL, 10);
        for (uint64_t left = argc > 2 ? strtoull(argv[2], NULL, 10) : 1; left > 0; left--) {
            run(seed_running, &totals);
            seed_running++;
        }
        print_totals(&totals);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_keeps_its_promises_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
