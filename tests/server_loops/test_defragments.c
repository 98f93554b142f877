/* Compact copies that take the place of a store while its member works. */
#include "base/list.h"
#include "server/loops/loops_private.h"
#include "tests/fakes/backend_mem.h"
#include "tests/sim/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define FREE_BYTES (100ULL << 20)

struct asking {
    struct defragment_request request;
    uint32_t ends;
    enum api_error error;
};

static void defragmented(struct defragment_request *request, enum api_error error)
{
    struct asking *asking = CONTAINER_OF(request, struct asking, request);
    asking->ends++;
    asking->error = error;
}

static void ask(struct asking *asking, struct cluster *cluster, uint32_t member)
{
    *asking = (struct asking){.request.done = defragmented};
    loops_defragment(cluster->members[member].loops, &asking->request);
}

static bool is_over(struct cluster *cluster, void *context)
{
    (void)cluster;
    return ((struct asking *)context)->ends > 0;
}

static struct cluster *three(uint64_t seed)
{
    const struct cluster_options options = {
        .seed = seed, .members_count = 3, .sync_ns_min = NS_PER_MS, .sync_ns_max = 3 * NS_PER_MS};
    struct cluster *cluster = cluster_new(&options);
    cluster_wait_for_leader(cluster);
    for (uint32_t i = 0; i < 100; i++)
        cluster_put(cluster, i % 3);
    cluster_run(cluster, NS_PER_S);
    return cluster;
}

static void test_defragment_has_nothing_to_do_where_nothing_is_free(void **state)
{
    (void)state;
    struct cluster *cluster = three(1);
    struct asking asking;
    ask(&asking, cluster, 0);
    cluster_until(cluster, is_over, &asking, 100 * NS_PER_MS, "an answer at once");
    assert_int_equal(asking.error, API_OK);
    assert_int_equal(cluster->members[0].copies_count, 0);
    cluster_free(cluster);
}

/* Two who ask together: the second finds nothing left to do. */
static void test_defragment_switches_while_others_write(void **state)
{
    (void)state;
    struct cluster *cluster = three(2);
    struct cluster_member *member = &cluster->members[0];
    char before[sizeof(member->store_path)];
    snprintf(before, sizeof(before), "%s", member->store_path);
    backend_mem_set_free(before, FREE_BYTES);
    struct asking asking, second;
    for (uint32_t i = 0; i < 50; i++)
        cluster_put(cluster, i % 3);
    ask(&asking, cluster, 0);
    ask(&second, cluster, 0);
    for (uint32_t i = 0; i < 50; i++)
        cluster_put(cluster, i % 3);
    cluster_until(cluster, is_over, &second, 10 * NS_PER_S, "two defragmentations");
    assert_int_equal(asking.error, API_OK);
    assert_int_equal(second.error, API_OK);
    assert_int_equal(member->copies_count, 1);
    assert_string_not_equal(member->store_path, before);
    cluster_settle(cluster);
    assert_int_equal(asking.ends, 1);
    cluster_free(cluster);
}

static void test_defragment_needs_no_quorum(void **state)
{
    (void)state;
    struct cluster *cluster = three(3);
    cluster_crash(cluster, 1);
    cluster_crash(cluster, 2);
    cluster_run(cluster, 5 * NS_PER_S);
    backend_mem_set_free(cluster->members[0].store_path, FREE_BYTES);
    struct asking asking;
    ask(&asking, cluster, 0);
    cluster_until(cluster, is_over, &asking, 5 * NS_PER_S, "one without a quorum");
    assert_int_equal(asking.error, API_OK);
    assert_int_equal(cluster->members[0].copies_count, 1);
    cluster_settle(cluster);
    cluster_free(cluster);
}

/* The nth call on the copy fails: the member goes on with what it had. */
static void test_defragment_that_fails_leaves_the_store(void **state)
{
    (void)state;
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct cluster *cluster = three(4);
        backend_mem_set_free(cluster->members[0].store_path, FREE_BYTES);
        char copy[64];
        struct store_stat stat;
        assert_int_equal(store_get_stat(cluster->members[0].store, &stat), ST_OK);
        snprintf(copy, sizeof(copy), "sim-0-%llu-1.mem", (unsigned long long)stat.committed_index);
        backend_mem_fail_at(copy, nth, ST_NO_SPACE, false);
        struct asking asking;
        ask(&asking, cluster, 0);
        cluster_until(cluster, is_over, &asking, 5 * NS_PER_S, "the end of one that fails");
        fired = backend_mem_fault_fired(copy);
        backend_mem_fail_at(copy, 0, ST_OK, false);
        assert_int_equal(asking.error == API_OK, !fired);
        assert_int_equal(cluster->members[0].copies_count, 1);
        cluster_settle(cluster);
        cluster_free(cluster);
    }
}

/* The power fails, or the process ends, at any step of it: nothing acknowledged is lost. */
static void test_defragment_survives_a_crash_at_every_step(void **state)
{
    (void)state;
    bool over = false;
    for (uint32_t steps = 0; !over; steps++) {
        struct cluster *cluster = three(5 + steps % 3);
        backend_mem_set_free(cluster->members[0].store_path, FREE_BYTES);
        struct asking asking;
        for (uint32_t i = 0; i < 20; i++)
            cluster_put(cluster, i % 3);
        ask(&asking, cluster, 0);
        for (uint32_t i = 0; i < steps; i++)
            cluster_step(cluster, UINT64_MAX);
        over = asking.ends > 0 && cluster->members[0].copies_count > 0 && steps > 100;
        if (steps % 2 == 0)
            cluster_crash(cluster, 0);
        else
            cluster_kill(cluster, 0);
        assert_int_equal(asking.ends, 1);
        cluster_settle(cluster);
        cluster_free(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defragment_has_nothing_to_do_where_nothing_is_free),
        cmocka_unit_test(test_defragment_switches_while_others_write),
        cmocka_unit_test(test_defragment_needs_no_quorum),
        cmocka_unit_test(test_defragment_that_fails_leaves_the_store),
        cmocka_unit_test(test_defragment_survives_a_crash_at_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
