/* Random transactions against the naive evaluator of kv_model.h. */
#include "base/buf.h"
#include "base/rng.h"
#include "server/state/check.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/kv_model.h"
#include "tests/server_state/kv_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ROUNDS 20000U
#define SEED 1U

static struct kv_model model;
static struct buf answer;

static uint64_t below(void *rng, uint64_t limit)
{
    return rng_below(rng, limit);
}

static void compact_both(struct harness *h, struct rng *rng)
{
    int64_t revision = model.revision - (int64_t)rng_below(rng, 15);
    enum api_error error;
    harness_compact(h, revision, &error);
    assert_int_equal(error, revision <= model.compacted ? API_COMPACTED : API_OK);
    if (error == API_OK)
        model.compacted = revision;
    bool more = true;
    while (more)
        assert_int_equal(mvcc_compact_step(h->mvcc, &more), ST_OK);
}

static void one_round(struct harness *h, struct rng *rng, uint32_t round, uint32_t *applied)
{
    struct kv_chooser chooser = {.below = below, .context = rng, .revision = model.revision};
    struct kv_txn txn = kv_random_txn(&chooser, &h->arena);
    if (check_txn(&txn, &h->arena) != API_OK)
        return;
    bool read_only = kv_txn_is_read_only(&txn);
    enum api_error wanted = kv_model_txn(&model, &txn), error;
    const Etcdserverpb__TxnResponse *response =
        read_only ? harness_read_txn(h, &txn, &error) : harness_txn(h, &txn, &error);
    assert_int_equal(error, wanted);
    assert_int_equal(harness_revision(h), model.revision);
    if (response == NULL)
        return;
    ++*applied;
    assert_int_equal(response->header->revision, model.revision);
    buf_reset(&answer);
    kv_model_tell(&answer, response);
    if (!slice_eq(buf_slice(&answer), buf_slice(&model.text)))
        fail_msg("round %u of seed %u:\nmodel %.*s\ngot   %.*s", round, SEED, (int)model.text.len,
                 (const char *)model.text.data, (int)answer.len, (const char *)answer.data);
}

static void test_txn_agrees_with_a_naive_evaluator(void **state)
{
    (void)state;
    static struct harness h;
    struct rng rng;
    uint32_t applied = 0;
    harness_init(&h);
    rng_seed(&rng, SEED);
    buf_init(&answer, 1 << 20);
    kv_model_init(&model, ROUNDS + 2);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        one_round(&h, &rng, round, &applied);
        if (rng_below(&rng, 200) == 0)
            compact_both(&h, &rng);
        if (rng_below(&rng, 2000) == 0)
            harness_reopen(&h);
        arena_reset(&h.arena);
    }
    assert_in_range(applied, ROUNDS / 10, ROUNDS);
    kv_model_deinit(&model);
    buf_deinit(&answer);
    harness_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_txn_agrees_with_a_naive_evaluator)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
