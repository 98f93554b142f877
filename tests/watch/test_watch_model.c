/* The hub against the model, by seeds: slow and fast clients, compactions, received states. */
#include "base/rng.h"
#include "tests/watch/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SCRIPT_BYTES 4000U
#define SEEDS 60U
#define SEEDS_FULL 3000U

static void test_everybody_sees_what_the_model_says(void **state)
{
    (void)state;
    struct world_figures figures = {0};
    uint8_t script[SCRIPT_BYTES];
    const char *first = getenv("CLEAT_TEST_SEED");
    uint64_t seed = first == NULL ? 1 : strtoull(first, NULL, 10);
    uint64_t last = seed + (getenv("CLEAT_TEST_FULL") != NULL ? SEEDS_FULL : SEEDS);
    for (; seed < last; seed++) {
        struct rng rng;
        struct world_figures one;
        rng_seed(&rng, seed);
        for (size_t i = 0; i < sizeof(script); i++)
            script[i] = (uint8_t)rng_next(&rng);
        char name[64];
        snprintf(name, sizeof(name), "CLEAT_TEST_SEED=%llu", (unsigned long long)seed);
        world_run(slice_make(script, sizeof(script)), name, &one);
        uint64_t *sum = (uint64_t *)&figures;
        const uint64_t *more = (const uint64_t *)&one;
        for (size_t i = 0; i < sizeof(figures) / sizeof(*sum); i++)
            sum[i] += more[i];
    }
    print_message("changes %llu, creates %llu, events %llu, merged %llu, fragments %llu, compacted "
                  "%llu, adopted %llu, progress %llu, reads %llu, values %llu\n",
                  (unsigned long long)figures.changes, (unsigned long long)figures.creates,
                  (unsigned long long)figures.events, (unsigned long long)figures.merged,
                  (unsigned long long)figures.fragments, (unsigned long long)figures.compacted,
                  (unsigned long long)figures.adopted, (unsigned long long)figures.progress,
                  (unsigned long long)figures.reads, (unsigned long long)figures.values);
    /* All of it happened. */
    assert_true(figures.events > 0 && figures.merged > 0 && figures.fragments > 0);
    assert_true(figures.compacted > 0 && figures.adopted > 0 && figures.progress > 0);
    assert_true(figures.values > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_sees_what_the_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
