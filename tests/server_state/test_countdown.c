/* The time of leases: against an array, and what a change of leaders makes of it. */
#include "server/state/lessor.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/minmax.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define START_NS (1000 * NS_PER_S)
#define EXTEND_NS NS_PER_S

static struct lessor *lessor_with(const struct lease *leases, uint32_t count)
{
    struct lessor *lessor;
    assert_int_equal(lessor_new(&lessor), ST_OK);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(lessor_grant(lessor, &leases[i]), ST_OK);
    return lessor;
}

static void drop(struct lessor *lessor, lease_id id)
{
    struct list_node ended;
    list_init(&ended);
    lessor_drop(lessor, id, &ended);
    lease_renewals_end(&ended);
}

static void demote(struct lessor *lessor)
{
    struct list_node ended;
    list_init(&ended);
    lessor_demote(lessor, &ended);
    lease_renewals_end(&ended);
}

static uint32_t ends_by(struct lessor *lessor, uint64_t now_ns, lease_id *id_out)
{
    return lessor_take_ended(lessor, now_ns, now_ns + 7 * NS_PER_S, id_out, 1, UINT64_MAX);
}

static void test_countdown_runs_on_the_primary_alone(void **state)
{
    (void)state;
    lease_id id = 0;
    const struct lease lease = {.id = 1, .ttl_s = 10};
    struct lessor *lessor = lessor_with(&lease, 1);
    struct lease_renewal renewal = {.id = 1};
    assert_int_equal(lessor_remaining_s(lessor, 1, START_NS), INT64_MAX);
    assert_int_equal(lessor_remaining_s(lessor, 2, START_NS), -1);
    assert_true(lessor_renew(lessor, &renewal, START_NS));
    assert_int_equal(renewal.error, API_NOT_PRIMARY_LESSOR);
    assert_int_equal(lessor_start(lessor, 1, START_NS), ST_OK);
    assert_int_equal(lessor_next_end_ns(lessor), UINT64_MAX);

    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    assert_int_equal(lessor_remaining_s(lessor, 1, START_NS), 11);
    assert_int_equal(ends_by(lessor, START_NS + 11 * NS_PER_S - 1, &id), 0);
    assert_int_equal(lessor_remaining_s(lessor, 1, START_NS + 11 * NS_PER_S - 1), 0);
    assert_int_equal(ends_by(lessor, START_NS + 11 * NS_PER_S, &id), 1);
    assert_int_equal(id, 1);

    demote(lessor);
    assert_int_equal(lessor_next_end_ns(lessor), UINT64_MAX);
    assert_int_equal(lessor_remaining_s(lessor, 1, UINT64_MAX), INT64_MAX);
    lessor_free(lessor);
}

static void test_countdown_gives_a_new_leader_what_a_checkpoint_left(void **state)
{
    (void)state;
    const struct lease leases[] = {{.id = 1, .ttl_s = 1000, .remaining_s = 300},
                                   {.id = 2, .ttl_s = 1000},
                                   {.id = 3, .ttl_s = INT64_MIN},
                                   {.id = 4, .ttl_s = INT64_MAX}};
    struct lessor *lessor = lessor_with(leases, 4);
    struct lease_renewal renewal = {.id = 1};
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    assert_int_equal(lessor_remaining_s(lessor, 1, START_NS), 301);
    assert_int_equal(lessor_remaining_s(lessor, 2, START_NS), 1001);
    assert_int_equal(lessor_remaining_s(lessor, 3, START_NS), 2); /* of a store that is not ours */
    assert_int_equal(lessor_remaining_s(lessor, 4, START_NS), LEASE_TTL_S_MAX + 1);
    assert_true(lessor_renew(lessor, &renewal, START_NS));
    assert_true(renewal.error == API_OK && renewal.ttl_s == 1000 && renewal.outdates_checkpoint);
    assert_int_equal(lessor_remaining_s(lessor, 1, START_NS), 1000);
    renewal.id = 2;
    assert_true(lessor_renew(lessor, &renewal, START_NS));
    assert_false(renewal.outdates_checkpoint);
    renewal.id = 5;
    assert_true(lessor_renew(lessor, &renewal, START_NS));
    assert_int_equal(renewal.error, API_LEASE_NOT_FOUND);
    lessor_free(lessor);
}

static uint32_t done_count;

static void note_done(struct lease_renewal *renewal)
{
    (void)renewal;
    done_count++;
}

static void test_countdown_renewal_waits_for_what_becomes_of_an_ended_lease(void **state)
{
    (void)state;
    const struct lease leases[] = {{.id = 1, .ttl_s = 10}, {.id = 2, .ttl_s = 10}};
    struct lessor *lessor = lessor_with(leases, 2);
    struct lease_renewal renewals[3] = {
        {.id = 1, .done = note_done}, {.id = 2, .done = note_done}, {.id = 2, .done = note_done}};
    uint64_t late_ns = START_NS + 11 * NS_PER_S;
    done_count = 0;
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(lessor_renew(lessor, &renewals[i], late_ns));
    drop(lessor, 1);
    assert_true(done_count == 1 && renewals[0].error == API_LEASE_NOT_FOUND);
    assert_false(lessor_forget(lessor, &renewals[0]));
    assert_true(lessor_forget(lessor, &renewals[1]));
    assert_false(lessor_forget(lessor, &renewals[1]));
    demote(lessor);
    assert_true(done_count == 2 && renewals[2].error == API_NOT_PRIMARY_LESSOR);
    lessor_free(lessor);
}

static void test_countdown_tells_of_an_ended_lease_again(void **state)
{
    (void)state;
    lease_id ids[4];
    const struct lease leases[] = {
        {.id = 1, .ttl_s = 10}, {.id = 2, .ttl_s = 11}, {.id = 3, .ttl_s = 12}};
    struct lessor *lessor = lessor_with(leases, 3);
    for (uint8_t key = 0; key < 30; key++)
        assert_int_equal(lessor_attach(lessor, key % 3 + 1, slice_make(&key, 1)), ST_OK);
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    uint64_t late_ns = START_NS + 20 * NS_PER_S;
    /* The first whatever it has, then what fits. */
    assert_int_equal(lessor_take_ended(lessor, late_ns, late_ns + 7, ids, 4, /* keys_max= */ 1), 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(lessor_take_ended(lessor, late_ns, late_ns + 7, ids, 4, /* keys_max= */ 20),
                     2);
    assert_true(ids[0] == 2 && ids[1] == 3);
    assert_int_equal(lessor_take_ended(lessor, late_ns + 6, late_ns + 9, ids, 4, 1000), 0);
    drop(lessor, 2);
    assert_int_equal(lessor_take_ended(lessor, late_ns + 7, late_ns + 9, ids, 4, 1000), 2);
    lessor_free(lessor);
}

#define MANY 3000

static void test_countdown_keeps_many_ends_apart(void **state)
{
    (void)state;
    struct lease *leases = calloc(MANY, sizeof(*leases));
    for (uint32_t i = 0; i < MANY; i++) /* two heaps, and a tail that needs no help */
        leases[i] = (struct lease){.id = i + 1, .ttl_s = i < 1000 ? 60 : i < 2000 ? 61 : i};
    struct lessor *lessor = lessor_with(leases, MANY);
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    lease_id ids[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        uint64_t least_ns = START_NS + EXTEND_NS + (uint64_t)leases[i].ttl_s * NS_PER_S;
        assert_true(lessor_end_ns(lessor, i + 1) >= least_ns);
        assert_true(lessor_end_ns(lessor, i + 1) <= least_ns + 3 * NS_PER_S);
    }
    for (uint64_t s = 0; s < 70; s++) {
        uint32_t count =
            lessor_take_ended(lessor, START_NS + s * NS_PER_S, UINT64_MAX, ids, MANY, UINT64_MAX);
        assert_true(count <= LEASE_ENDS_PER_S_MAX + 1);
    }
    lessor_free(lessor);
    free(leases);
}

static void test_countdown_checkpoints_long_leases(void **state)
{
    (void)state;
    const struct lease leases[] = {{.id = 1, .ttl_s = 300}, {.id = 2, .ttl_s = 1000}};
    struct lessor *lessor = lessor_with(leases, 2);
    struct lease due[4];
    lessor_set_checkpoints(lessor, 300 * NS_PER_S);
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    uint64_t now_ns = START_NS + 300 * NS_PER_S;
    assert_int_equal(lessor_take_checkpoints(lessor, now_ns - 1, due, 4), 0);
    assert_int_equal(lessor_take_checkpoints(lessor, now_ns, due, 4), 2);
    assert_int_equal(due[0].id == 1 ? due[0].remaining_s : due[1].remaining_s, 1);
    assert_int_equal(due[0].id == 2 ? due[0].remaining_s : due[1].remaining_s, 701);
    assert_true(lessor_checkpoint(lessor, 2, 701));
    assert_int_equal(lessor_take_checkpoints(lessor, now_ns + 300 * NS_PER_S - 1, due, 4), 0);
    assert_int_equal(lessor_take_checkpoints(lessor, now_ns + 300 * NS_PER_S, due, 4), 1);
    assert_int_equal(due[0].remaining_s, 401);
    lessor_free(lessor);
}

/* ---- against an array ---- */

#define MODEL_LEASES 40

struct model {
    bool exists, started;
    int64_t ttl_s;
    uint64_t end_ns;
};

static void step_model(struct lessor *lessor, struct model *model, lease_id id, uint64_t now_ns,
                       struct rng *rng)
{
    struct model *m = &model[id];
    struct lease_renewal renewal = {.id = id, .done = note_done};
    switch (rng_below(rng, 4)) {
    case 0:
        if (m->exists)
            return;
        *m = (struct model){.exists = true, .ttl_s = (int64_t)rng_below(rng, 100) + 2};
        assert_int_equal(lessor_grant(lessor, &(struct lease){.id = id, .ttl_s = m->ttl_s}), ST_OK);
        assert_int_equal(lessor_start(lessor, id, now_ns), ST_OK);
        m->end_ns = now_ns + (uint64_t)m->ttl_s * NS_PER_S;
        return;
    case 1:
        if (!m->exists || m->end_ns > now_ns)
            return;
        drop(lessor, id);
        m->exists = false;
        return;
    default:
        if (!lessor_renew(lessor, &renewal, now_ns)) {
            assert_true(m->exists && m->end_ns <= now_ns);
            assert_true(lessor_forget(lessor, &renewal));
            return;
        }
        assert_int_equal(renewal.error, m->exists ? API_OK : API_LEASE_NOT_FOUND);
        m->end_ns = now_ns + (uint64_t)m->ttl_s * NS_PER_S;
    }
}

static void test_countdown_is_like_the_model(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    struct model model[MODEL_LEASES + 1] = {0};
    struct lessor *lessor = lessor_with(NULL, 0);
    assert_int_equal(lessor_promote(lessor, START_NS, EXTEND_NS), ST_OK);
    uint64_t now_ns = START_NS;
    for (uint32_t turn = 0; turn < 20000; turn++) {
        now_ns += rng_below(&rng, NS_PER_S);
        step_model(lessor, model, (lease_id)rng_below(&rng, MODEL_LEASES) + 1, now_ns, &rng);
        if (rng_below(&rng, 500) == 0) { /* it leads again, later */
            demote(lessor);
            now_ns += 5 * NS_PER_S;
            assert_int_equal(lessor_promote(lessor, now_ns, EXTEND_NS), ST_OK);
            for (uint32_t i = 1; i <= MODEL_LEASES; i++)
                model[i].end_ns = now_ns + EXTEND_NS + (uint64_t)model[i].ttl_s * NS_PER_S;
        }
        lease_id ids[MODEL_LEASES];
        uint32_t count =
            lessor_take_ended(lessor, now_ns, now_ns + 1, ids, MODEL_LEASES, UINT64_MAX);
        uint32_t ended = 0;
        for (uint32_t i = 1; i <= MODEL_LEASES; i++)
            ended += model[i].exists && model[i].end_ns <= now_ns;
        assert_int_equal(count, ended);
        for (uint32_t i = 0; i < count; i++)
            assert_true(model[ids[i]].exists && model[ids[i]].end_ns <= now_ns);
    }
    lessor_free(lessor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_countdown_runs_on_the_primary_alone),
        cmocka_unit_test(test_countdown_gives_a_new_leader_what_a_checkpoint_left),
        cmocka_unit_test(test_countdown_renewal_waits_for_what_becomes_of_an_ended_lease),
        cmocka_unit_test(test_countdown_tells_of_an_ended_lease_again),
        cmocka_unit_test(test_countdown_keeps_many_ends_apart),
        cmocka_unit_test(test_countdown_checkpoints_long_leases),
        cmocka_unit_test(test_countdown_is_like_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
