#include "storage/store.h"
#include "storage/limits.h"

#include "tests/fakes/backend_mem.h"
#include "tests/storage/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int setup(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    if (fixture == NULL)
        return -1;
    fixture_init(fixture, backend_mem(), "store");
    *state = fixture;
    return fixture_open(fixture, 0) == ST_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture_deinit(fixture);
    free(fixture);
    backend_mem_clear();
    return 0;
}

static void step_expecting(struct fixture *fixture, bool expected)
{
    bool worked;
    assert_int_equal(store_writer_step(fixture->store, &worked), ST_OK);
    assert_int_equal(worked, expected);
}

static void test_store_finds_a_revision_at_every_stage_of_its_way(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(fixture_read(fixture, 2), ST_NOT_FOUND);
    fixture_entry(fixture, 1);
    assert_int_equal(fixture_read(fixture, 2), ST_OK); /* active */
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    assert_int_equal(fixture_read(fixture, 2), ST_OK); /* sealed */
    step_expecting(fixture, true);
    assert_int_equal(fixture_read(fixture, 2), ST_OK); /* backend */
    assert_int_equal(fixture_read(fixture, 3), ST_NOT_FOUND);
    struct store_stat stat;
    assert_int_equal(store_get_stat(fixture->store, &stat), ST_OK);
    assert_int_equal(stat.committed_index, 1);
    assert_int_equal(stat.durable_index, 0);
    assert_int_equal(stat.generation_bytes, 0);
}

static void test_store_reopens_at_its_mark(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 3);
    struct store_mark mark = {.index = ++fixture->index, .term = 1, .conf_state = SLICE("conf")};
    assert_int_equal(store_end_entry(fixture->store, &mark), ST_OK);
    store_set_durable(fixture->store, fixture->index, 1);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    fixture_entry(fixture, 1); /* never committed */
    fixture_close(fixture);
    assert_int_equal(fixture_open(fixture, 0), ST_OK);
    struct store_mark found = store_opened_at(fixture->store);
    assert_int_equal(found.index, 2);
    assert_int_equal(found.term, 1);
    assert_true(slice_eq(found.conf_state, SLICE("conf")));
    assert_int_equal(fixture_read(fixture, 4), ST_OK);
    assert_int_equal(fixture_read(fixture, 5), ST_NOT_FOUND);
}

static void test_store_commits_only_what_the_log_holds(void **state)
{
    struct fixture *fixture = *state;
    struct store_mark mark = {.index = 6, .term = 2};
    store_set_durable(fixture->store, 10, 1); /* an old leader's entries 6..10 */
    store_set_durable(fixture->store, 5, 1);  /* truncated by the new one, not yet replaced */
    assert_int_equal(store_append(fixture->store, (struct revision){2, 0}, false, SLICE("v2")),
                     ST_OK);
    assert_int_equal(store_end_entry(fixture->store, &mark), ST_OK);
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    step_expecting(fixture, false);
    store_set_durable(fixture->store, 6, 1); /* the index alone is not the entry */
    step_expecting(fixture, false);
    store_set_durable(fixture->store, 9, 1);
    step_expecting(fixture, false);
    unsigned wakes = fixture->writer_wakes;
    store_set_durable(fixture->store, 6, 2);
    assert_true(fixture->writer_wakes > wakes);
    step_expecting(fixture, true);
}

static void test_store_seals_when_due(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < SEAL_OPS_MIN - 2; i++)
        fixture_entry(fixture, 0);
    fixture->now_ns += 3600 * NS_PER_S;
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, false); /* old enough, too few */
    fixture_entry(fixture, 2);
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, true);
    fixture_entry(fixture, SEAL_OPS_MIN);
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, false); /* many enough, too young */
    fixture->now_ns += SEAL_INTERVAL_MS_MIN * NS_PER_MS;
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, true);
}

static void test_store_seals_a_large_generation_at_once_and_fills_up(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t megabyte[1 << 20];
    for (uint32_t i = 0; i < 17; i++) {
        struct revision revision = {++fixture->main, 0};
        assert_int_equal(
            store_append(fixture->store, revision, false, slice_make(megabyte, sizeof(megabyte))),
            ST_OK);
        fixture_entry(fixture, 0);
    }
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    assert_false(store_is_full(fixture->store));
    for (uint32_t i = 0; i < 111; i++) {
        struct revision revision = {++fixture->main, 0};
        assert_int_equal(
            store_append(fixture->store, revision, false, slice_make(megabyte, sizeof(megabyte))),
            ST_OK);
        fixture_entry(fixture, 0);
    }
    assert_true(store_is_full(fixture->store));
    unsigned wakes = fixture->apply_wakes;
    step_expecting(fixture, true);
    assert_true(fixture->apply_wakes > wakes);
    assert_false(store_is_full(fixture->store));
}

static void test_store_remembers_a_force_while_another_generation_waits(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 1);
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    fixture_entry(fixture, 1);
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    step_expecting(fixture, true);
    step_expecting(fixture, false);
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, true);
    struct store_stat stat;
    assert_int_equal(store_get_stat(fixture->store, &stat), ST_OK);
    assert_int_equal(stat.committed_index, 2);
}

/* ---- small buckets ---- */

static enum status join(void *context, struct slice key, struct slice value)
{
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 256 - used, "%.*s=%.*s ", (int)key.len, (const char *)key.data,
             (int)value.len, (const char *)value.data);
    return ST_OK;
}

static void expect_records(struct fixture *fixture, const char *expected)
{
    char text[256] = "";
    assert_int_equal(store_each(fixture->store, BUCKET_AUTH_USERS, join, text), ST_OK);
    assert_string_equal(text, expected);
}

static void put(struct fixture *fixture, const char *key, const char *value)
{
    assert_int_equal(
        store_put(fixture->store, BUCKET_AUTH_USERS, slice_from_str(key), slice_from_str(value)),
        ST_OK);
}

static void drop(struct fixture *fixture, const char *key)
{
    assert_int_equal(store_delete(fixture->store, BUCKET_AUTH_USERS, slice_from_str(key)), ST_OK);
}

static void test_store_merges_small_buckets_over_the_backend(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "b", "1");
    put(fixture, "d", "1");
    put(fixture, "f", "1");
    put(fixture, "h", "1");
    fixture_entry(fixture, 0);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    expect_records(fixture, "b=1 d=1 f=1 h=1 ");
    put(fixture, "a", "2");
    put(fixture, "b", "2");
    drop(fixture, "d");
    drop(fixture, "f");
    drop(fixture, "absent");
    fixture_entry(fixture, 0);
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    expect_records(fixture, "a=2 b=2 h=1 ");
    put(fixture, "f", "three");
    drop(fixture, "a");
    put(fixture, "z", "");
    fixture_entry(fixture, 0);
    static const char *const merged = "b=2 f=three h=1 z= ";
    expect_records(fixture, merged);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    expect_records(fixture, merged);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    expect_records(fixture, merged);

    struct arena arena;
    arena_init(&arena, 4096);
    struct slice value;
    assert_int_equal(store_get(fixture->store, BUCKET_AUTH_USERS, SLICE("f"), &arena, &value),
                     ST_OK);
    assert_true(slice_eq(value, SLICE("three")));
    assert_int_equal(store_get(fixture->store, BUCKET_AUTH_USERS, SLICE("a"), &arena, &value),
                     ST_NOT_FOUND);
    assert_int_equal(store_get(fixture->store, BUCKET_LEASE, SLICE("f"), &arena, &value),
                     ST_NOT_FOUND);
    drop(fixture, "f");
    assert_int_equal(store_get(fixture->store, BUCKET_AUTH_USERS, SLICE("f"), &arena, &value),
                     ST_NOT_FOUND);
    arena_deinit(&arena);
}

/* ---- views ---- */

static void test_store_keeps_what_a_view_on_loan_may_read(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 1);
    lock_acquire(fixture->lock);
    struct store_view *view = store_view_acquire(fixture->store, 1);
    lock_release(fixture->lock);
    struct slice record;
    bool stable;
    assert_int_equal(store_view_get(view, (struct revision){2, 0}, &record, &stable), ST_OK);
    assert_true(stable);
    for (int i = 0; i < 3; i++) {
        fixture_entry(fixture, 1);
        assert_int_equal(fixture_commit(fixture), ST_OK);
    }
    /* Three sets on: the one on loan, none of the returned, the published. */
    assert_int_equal(backend_mem_snapshots_count(fixture->path), 2 * 3);
    assert_true(slice_eq(record, SLICE("v2")));
    assert_true(store_view_get_in_memory(view, (struct revision){2, 0}, &record));
    assert_true(slice_eq(record, SLICE("v2")));
    unsigned wakes = fixture->writer_wakes;
    store_view_release(view);
    assert_true(fixture->writer_wakes > wakes);
    step_expecting(fixture, false);
    assert_int_equal(backend_mem_snapshots_count(fixture->path), 3);
}

/* The set that a generation left with is back, but an older one on loan still reads it. */
static void test_store_frees_a_generation_after_every_older_view(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 1);
    lock_acquire(fixture->lock);
    struct store_view *view = store_view_acquire(fixture->store, 1);
    lock_release(fixture->lock);
    struct slice record;
    bool stable;
    assert_int_equal(store_view_get(view, (struct revision){2, 0}, &record, &stable), ST_OK);
    assert_int_equal(fixture_defragment(fixture, "copy.mem"), ST_OK); /* a set in between */
    assert_int_equal(fixture_commit(fixture), ST_OK);
    step_expecting(fixture, false);
    assert_true(slice_eq(record, SLICE("v2"))); /* what the address sanitizer looks at */
    store_view_release(view);
    step_expecting(fixture, false);
    assert_int_equal(fixture_read(fixture, 2), ST_OK);
}

static enum status count_revision(void *context, struct revision revision, bool tombstone,
                                  struct slice record)
{
    int64_t *next = context;
    (void)record;
    assert_int_equal(revision.main, *next);
    assert_false(tombstone);
    ++*next;
    return *next > 8 ? ST_CANCELED : ST_OK;
}

static void test_store_walks_revisions_across_backend_and_generations(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 2);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    fixture_entry(fixture, 2);
    assert_int_equal(store_seal(fixture->store, true), ST_OK);
    fixture_entry(fixture, 2);
    lock_acquire(fixture->lock);
    struct store_view *view = store_view_acquire(fixture->store, 0);
    lock_release(fixture->lock);
    for (int64_t from = 0; from <= 8; from++) {
        int64_t next = from < 2 ? 2 : from;
        assert_int_equal(store_view_each(view, (struct revision){from, 0}, count_revision, &next),
                         ST_OK);
        assert_int_equal(next, 8);
    }
    fixture_entry(fixture, 1);
    int64_t next = 4;
    assert_int_equal(store_view_each(view, (struct revision){4, 0}, count_revision, &next),
                     ST_CANCELED);
    store_view_release(view);
}

/* ---- deletions and pins ---- */

static void forget(struct fixture *fixture, int64_t first, int64_t last)
{
    for (int64_t main = first; main <= last; main++) {
        struct store_dead dead = {.revision = {main, 0}};
        assert_int_equal(store_forget(fixture->store, &dead, 1), ST_OK);
    }
}

static void test_store_deletes_with_the_commit_of_the_entry_that_asked(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 4); /* 2 to 5 */
    assert_int_equal(fixture_commit(fixture), ST_OK);
    fixture_entry(fixture, 2); /* 6 and 7, still in memory */
    forget(fixture, 2, 3);
    forget(fixture, 6, 6);
    assert_int_equal(store_forget_pending_count(fixture->store), 3);
    /* A crash now replays the entry, so its deletions must not be ahead of it. */
    fixture->now_ns += 10 * NS_PER_S;
    step_expecting(fixture, false);
    assert_int_equal(store_writer_deadline_ns(fixture->store), UINT64_MAX); /* no time helps */
    assert_int_equal(fixture_read(fixture, 2), ST_OK);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    assert_int_equal(store_forget_pending_count(fixture->store), 0);
    static const enum status expected[] = {ST_NOT_FOUND, ST_NOT_FOUND, ST_OK,
                                           ST_OK,        ST_NOT_FOUND, ST_OK};
    for (int64_t main = 2; main <= 7; main++)
        assert_int_equal(fixture_read(fixture, main), expected[main - 2]);
}

/* Or an idle member would keep for ever what was compacted. */
static void test_store_seals_few_entries_that_deletions_wait_for(void **state)
{
    struct fixture *fixture = *state;
    fixture_entry(fixture, 4); /* 2 to 5 */
    forget(fixture, 2, 3);
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, false); /* too young */
    fixture->now_ns += SEAL_INTERVAL_MS_MIN * NS_PER_MS;
    assert_int_equal(store_seal(fixture->store, false), ST_OK);
    step_expecting(fixture, true);
    assert_int_equal(store_forget_pending_count(fixture->store), 0);
    assert_int_equal(fixture_read(fixture, 2), ST_NOT_FOUND);
    /* All entries are committed: there is nothing to wait for but the next turn. */
    forget(fixture, 4, 4);
    fixture->now_ns = store_writer_deadline_ns(fixture->store);
    step_expecting(fixture, true);
    assert_int_equal(fixture_read(fixture, 4), ST_NOT_FOUND);
    assert_int_equal(fixture_read(fixture, 5), ST_OK);
}

static void test_store_spreads_many_deletions_over_timed_commits(void **state)
{
    struct fixture *fixture = *state;
    int64_t count = 3 * FORGET_OPS_MAX;
    fixture_entry(fixture, (size_t)count);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    forget(fixture, 2, count);
    fixture_entry(fixture, 1);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    assert_int_equal(store_forget_pending_count(fixture->store), count - 1 - FORGET_OPS_MAX);
    step_expecting(fixture, false); /* not due: no write, no time */
    uint64_t deadline = store_writer_deadline_ns(fixture->store);
    assert_true(deadline > fixture->now_ns);
    fixture->now_ns = deadline;
    step_expecting(fixture, true);
    fixture->now_ns = store_writer_deadline_ns(fixture->store);
    step_expecting(fixture, true);
    assert_int_equal(store_forget_pending_count(fixture->store), 0);
    assert_int_equal(store_writer_deadline_ns(fixture->store), UINT64_MAX);
    assert_int_equal(fixture_read(fixture, count), ST_NOT_FOUND);
    assert_int_equal(fixture_read(fixture, count + 1), ST_OK);
}

static void test_store_refuses_deletions_over_its_limit(void **state)
{
    struct fixture *fixture = *state;
    struct store_dead *dead = calloc(FORGET_PENDING_MAX, sizeof(*dead));
    assert_non_null(dead);
    assert_int_equal(store_forget(fixture->store, dead, FORGET_PENDING_MAX), ST_OK);
    assert_int_equal(store_forget(fixture->store, dead, 1), ST_BUSY);
    free(dead);
}

static void test_store_pin_holds_a_moment_and_delays_deletions(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "a", "1");
    fixture_entry(fixture, 2);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    put(fixture, "b", "1");
    fixture_entry(fixture, 1);
    struct store_pin *pin;
    assert_int_equal(store_pin(fixture->store, &pin), ST_OK);
    drop(fixture, "a");
    forget(fixture, 2, 2);
    fixture_entry(fixture, 1);
    assert_int_equal(fixture_commit(fixture), ST_OK);
    fixture->now_ns += 10 * NS_PER_S;
    step_expecting(fixture, false);
    assert_int_equal(fixture_read(fixture, 2), ST_OK);
    char text[256] = "";
    assert_int_equal(store_pin_each(pin, BUCKET_AUTH_USERS, join, text), ST_OK);
    assert_string_equal(text, "a=1 b=1 ");
    assert_int_equal(store_pin_mark(pin).index, 2);
    unsigned wakes = fixture->writer_wakes;
    store_unpin(fixture->store, pin);
    assert_true(fixture->writer_wakes > wakes);
    step_expecting(fixture, true);
    assert_int_equal(fixture_read(fixture, 2), ST_NOT_FOUND);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_store_finds_a_revision_at_every_stage_of_its_way),
        WITH_STORE(test_store_reopens_at_its_mark),
        WITH_STORE(test_store_commits_only_what_the_log_holds),
        WITH_STORE(test_store_seals_when_due),
        WITH_STORE(test_store_seals_a_large_generation_at_once_and_fills_up),
        WITH_STORE(test_store_remembers_a_force_while_another_generation_waits),
        WITH_STORE(test_store_merges_small_buckets_over_the_backend),
        WITH_STORE(test_store_keeps_what_a_view_on_loan_may_read),
        WITH_STORE(test_store_frees_a_generation_after_every_older_view),
        WITH_STORE(test_store_walks_revisions_across_backend_and_generations),
        WITH_STORE(test_store_deletes_with_the_commit_of_the_entry_that_asked),
        WITH_STORE(test_store_seals_few_entries_that_deletions_wait_for),
        WITH_STORE(test_store_spreads_many_deletions_over_timed_commits),
        WITH_STORE(test_store_refuses_deletions_over_its_limit),
        WITH_STORE(test_store_pin_holds_a_moment_and_delays_deletions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
