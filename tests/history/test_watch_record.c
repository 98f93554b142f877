#include "tests/history/watch_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Two keys; 3 and 4 are one transaction each, 5 deletes. */
static const struct watch_change_seen changes[] = {
    {.revision = 2, .key = 1, .value = 10}, {.revision = 3, .key = 1, .value = 11},
    {.revision = 3, .key = 2, .value = 20}, {.revision = 4, .key = 2, .value = 21},
    {.revision = 5, .key = 1, .value = 0},  {.revision = 6, .key = 1, .value = 12},
};
static const struct watch_truth truth = {changes, 6, .compact_revision = -1};

static void add(struct watch_record *h, enum watch_sight_kind kind, int64_t revision, uint64_t key,
                uint64_t value)
{
    const struct watch_change_seen change = {.revision = revision, .key = key, .value = value};
    assert_int_equal(watch_record_add(h, kind, &change), ST_OK);
}

static void add_all(struct watch_record *h, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        add(h, WATCH_SIGHT_EVENT, changes[i].revision, changes[i].key, changes[i].value);
        if (i + 1 == end || changes[i + 1].revision != changes[i].revision)
            add(h, WATCH_SIGHT_END, 0, 0, 0);
    }
}

static void expect(struct watch_record *h, bool complete, const char *why_part)
{
    char why[256] = "";
    bool is_true = watch_record_is_true(h, &truth, complete, why, sizeof(why));
    if (why_part == NULL)
        assert_string_equal(why, "");
    else
        assert_non_null(strstr(why, why_part));
    assert_true(is_true == (why_part == NULL));
    watch_record_deinit(h);
}

static void test_what_happened_is_true(void **state)
{
    (void)state;
    struct watch_record h;
    watch_record_init(&h, 0, false);
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 3);
    add(&h, WATCH_SIGHT_PROGRESS, 3, 0, 0);
    add(&h, WATCH_SIGHT_OPEN, 4, 0, 0); /* resumed */
    add_all(&h, 3, 6);
    add(&h, WATCH_SIGHT_PROGRESS, 6, 0, 0);
    expect(&h, true, NULL);
    watch_record_init(&h, 2, false);
    add(&h, WATCH_SIGHT_OPEN, 1, 0, 0);
    add_all(&h, 2, 4);
    expect(&h, true, NULL);
    watch_record_init(&h, 0, false);
    add(&h, WATCH_SIGHT_OPEN, 7, 0, 0);
    expect(&h, true, NULL);
}

static void test_each_promise_is_kept_watch_over(void **state)
{
    (void)state;
    struct watch_record h;
    watch_record_init(&h, 0, false); /* ordered, reliable */
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 1, 3);
    expect(&h, false, "an event at 3 where 2 comes next");
    watch_record_init(&h, 0, false);
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 5);
    expect(&h, true, "the event at 6 never came");
    watch_record_init(&h, 0, false); /* unique */
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 1);
    add_all(&h, 0, 1);
    expect(&h, false, "an event at 2 again");
    watch_record_init(&h, 0, false); /* atomic */
    add(&h, WATCH_SIGHT_OPEN, 3, 0, 0);
    add_all(&h, 1, 2);
    add(&h, WATCH_SIGHT_END, 0, 0, 0);
    expect(&h, false, "revision 3 in two responses");
    watch_record_init(&h, 0, false); /* resumable */
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 1);
    add(&h, WATCH_SIGHT_OPEN, 4, 0, 0);
    expect(&h, false, "it goes on at 4 without the event at 3");
    watch_record_init(&h, 0, false); /* bookmarkable */
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 1);
    add(&h, WATCH_SIGHT_PROGRESS, 4, 0, 0);
    expect(&h, false, "progress to 4, but the event at 3 has not come");
    watch_record_init(&h, 0, false); /* too early for where it begins */
    add(&h, WATCH_SIGHT_OPEN, 4, 0, 0);
    add_all(&h, 1, 3);
    expect(&h, false, "an event at 3 again, or too early");
    watch_record_init(&h, 0, false);
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add(&h, WATCH_SIGHT_EVENT, 2, 1, 99);
    expect(&h, false, "another event at 2");
    watch_record_init(&h, 0, false);
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add(&h, WATCH_SIGHT_COMPACTED, 4, 0, 0);
    expect(&h, false, "compacted at 4, which never was");
}

static void test_the_value_before_is_the_one_before(void **state)
{
    (void)state;
    struct watch_record h;
    struct watch_change_seen seen = changes[1];
    watch_record_init(&h, 1, true);
    add(&h, WATCH_SIGHT_OPEN, 2, 0, 0);
    add_all(&h, 0, 1);
    seen.has_previous = true;
    seen.previous = 10;
    assert_int_equal(watch_record_add(&h, WATCH_SIGHT_EVENT, &seen), ST_OK);
    expect(&h, false, NULL);
    watch_record_init(&h, 1, true);
    add(&h, WATCH_SIGHT_OPEN, 3, 0, 0);
    seen.previous = 11;
    assert_int_equal(watch_record_add(&h, WATCH_SIGHT_EVENT, &seen), ST_OK);
    expect(&h, false, "another value before revision 3");
    watch_record_init(&h, 1, true);
    add(&h, WATCH_SIGHT_OPEN, 3, 0, 0);
    add(&h, WATCH_SIGHT_EVENT, 3, 1, 11);
    expect(&h, false, "no value before revision 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_happened_is_true),
        cmocka_unit_test(test_each_promise_is_kept_watch_over),
        cmocka_unit_test(test_the_value_before_is_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
