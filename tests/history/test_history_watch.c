/* The judge of watchers and leases: what it must accept, and each fault it must find. */
#include "tests/history/history_watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define WATCHERS 2U
#define EVENTS 6U

/* Revisions 2 to 7 of a store that does what it should. Watcher 0 has all keys from revision 2 on,
 * watcher 1 has key 1 alone. The last write and the deletion have no answer of their own. */
static const struct history_event shown[EVENTS] = {
    {.revision = 2, .key = 0, .value = 1}, {.revision = 3, .key = 1, .value = 2},
    {.revision = 4, .key = 0, .value = 3}, {.revision = 4, .key = 1, .value = 4},
    {.revision = 5, .key = 0, .value = 0}, {.revision = 6, .key = 1, .value = 5},
};

struct scene {
    struct history history;
    struct history_watcher watchers[WATCHERS];
};

static void wrote(struct history *h, uint32_t keys_count, const struct history_key *keys,
                  int64_t revision)
{
    struct history_op op = {.is_write = true, .keys_count = keys_count};
    for (uint32_t k = 0; k < keys_count; k++)
        op.keys[k] = keys[k];
    uint32_t id;
    assert_int_equal(history_call(h, &op, &id), ST_OK);
    if (revision != 0)
        history_wrote(h, id, 1, revision, true);
}

static void write_all(struct history *h)
{
    history_init(h, 2);
    wrote(h, 1, &(struct history_key){.key = 0, .value = 1}, 2);
    wrote(h, 1, &(struct history_key){.key = 1, .value = 2}, 3);
    wrote(h, 2, (struct history_key[]){{.key = 0, .value = 3}, {.key = 1, .value = 4}}, 4);
    wrote(h, 1, &(struct history_key){.key = 0, .value = 0}, 0);
    wrote(h, 1, &(struct history_key){.key = 1, .value = 5}, 0);
    struct history_op guarded = {.is_write = true, .keys_count = 1, .keys = {{1, 6, 0}}};
    uint32_t id;
    assert_int_equal(history_call(h, &guarded, &id), ST_OK);
    history_wrote(h, id, 1, 6, false); /* its guard did not hold */
}

/* Shows `event` in place of event `changed` of watcher w; NULL: leaves it out. */
static void scene_init(struct scene *s, uint32_t w, uint32_t changed,
                       const struct history_event *event)
{
    write_all(&s->history);
    history_watcher_init(&s->watchers[0], 0, 2, 2);
    history_watcher_init(&s->watchers[1], 1, 2, 3);
    for (uint32_t i = 0; i < WATCHERS; i++) {
        for (uint32_t e = 0; e < EVENTS; e++) {
            const struct history_event *next = i == w && e == changed ? event : &shown[e];
            if (next != NULL && (i == 0 || shown[e].key == 1))
                assert_int_equal(history_saw(&s->watchers[i], next), ST_OK);
        }
        history_saw_upto(&s->watchers[i], 6);
    }
}

static void expect(struct scene *s, enum verdict expected)
{
    enum verdict verdict;
    char why[300];
    assert_int_equal(
        history_check_watchers(&s->history, s->watchers, WATCHERS, &verdict, why, sizeof(why)),
        ST_OK);
    assert_int_equal(verdict, expected);
    for (uint32_t i = 0; i < WATCHERS; i++)
        history_watcher_deinit(&s->watchers[i]);
    history_deinit(&s->history);
}

static void test_watchers_that_saw_all_are_accepted(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, WATCHERS, 0, NULL);
    expect(&s, HISTORY_GOOD);
    /* What is beyond its last progress a watcher need not have seen. */
    scene_init(&s, 1, 5, NULL);
    s.watchers[1].upto = 5;
    expect(&s, HISTORY_GOOD);
}

static void test_a_missing_event_is_found(void **state)
{
    (void)state;
    struct scene s;
    for (uint32_t e = 0; e < EVENTS; e++) {
        scene_init(&s, 0, e, NULL);
        /* Nobody else watched key 0, and whether it was deleted no answer says. */
        expect(&s, e == 4 ? HISTORY_GOOD : HISTORY_BROKEN);
    }
    scene_init(&s, 1, 5, NULL); /* no answer either, but the other watcher has it */
    expect(&s, HISTORY_BROKEN);
}

static void test_a_wrong_event_is_found(void **state)
{
    (void)state;
    static const struct history_event wrong[EVENTS][4] = {
        {{2, 0, 2}, {2, 1, 1}, {3, 0, 1}, {2, 0, 0}}, {{3, 1, 1}, {3, 0, 2}, {2, 1, 2}, {3, 1, 0}},
        {{4, 0, 4}, {5, 0, 3}, {4, 0, 9}, {3, 0, 3}}, {{4, 1, 3}, {5, 1, 4}, {4, 1, 0}, {3, 1, 4}},
        {{5, 1, 0}, {5, 0, 6}, {2, 0, 0}, {4, 0, 0}}, {{6, 1, 6}, {7, 1, 4}, {6, 1, 7}, {4, 1, 5}},
    };
    struct scene s;
    for (uint32_t e = 0; e < EVENTS; e++) {
        for (uint32_t i = 0; i < 4; i++) {
            scene_init(&s, 0, e, &wrong[e][i]);
            expect(&s, HISTORY_BROKEN);
        }
    }
}

static void test_an_event_twice_is_found(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, WATCHERS, 0, NULL);
    assert_int_equal(history_saw(&s.watchers[1], &shown[5]), ST_OK);
    expect(&s, HISTORY_BROKEN);
}

static void test_what_a_read_saw_was_shown(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, 0, 5, NULL);
    for (uint32_t i = 0; i < WATCHERS; i++)
        s.watchers[i].count -= i == 1; /* nobody was shown value 5 */
    struct history_op op = {.keys_count = 1, .keys = {{.key = 1}}};
    uint32_t id;
    assert_int_equal(history_call(&s.history, &op, &id), ST_OK);
    history_read(&s.history, id, 1, 6, &(struct history_key){1, 5, 6});
    expect(&s, HISTORY_BROKEN);
}

static void test_lease_outlives_its_last_renewal(void **state)
{
    (void)state;
    char why[300];
    const struct history_lease good = {.ttl = 100,
                                       .renewed_call = 1000,
                                       .keys_count = 2,
                                       .gone_count = 2,
                                       .gone_at = 1100,
                                       .gone_revision = 7,
                                       .denied_end = 1101};
    struct history_lease lease = good;
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_GOOD);
    lease.gone_at = 1099;
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_BROKEN);
    lease.may_be_revoked = true;
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_GOOD);
    lease = good;
    lease.denied_end = 1099;
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_BROKEN);
    lease = good;
    lease.gone_apart = true;
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_BROKEN);
    lease = good;
    lease.gone_count = 1;
    assert_int_equal(history_check_lease(&lease, false, why, sizeof(why)), HISTORY_GOOD);
    assert_int_equal(history_check_lease(&lease, true, why, sizeof(why)), HISTORY_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watchers_that_saw_all_are_accepted),
        cmocka_unit_test(test_a_missing_event_is_found),
        cmocka_unit_test(test_a_wrong_event_is_found),
        cmocka_unit_test(test_an_event_twice_is_found),
        cmocka_unit_test(test_what_a_read_saw_was_shown),
        cmocka_unit_test(test_lease_outlives_its_last_renewal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
