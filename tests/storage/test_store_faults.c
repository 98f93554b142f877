/* The store when its backend fails, over the fake: the nth call fails for every n. The one promise:
 * what is on disk afterwards is exactly some committed state, whole, with its mark; never ahead of
 * the log; and until then readers see everything that was applied. */
#include "storage/limits.h"
#include "storage/store.h"

#include "tests/fakes/backend_mem.h"
#include "tests/storage/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ENTRIES 30U
#define PER_ENTRY 3U

/* Every revision of the entries up to the mark is there, and none above. */
static void expect_prefix(struct fixture *fixture, bool after_deletions)
{
    uint64_t index = store_opened_at(fixture->store).index;
    int64_t end = 1 + (int64_t)(index * PER_ENTRY);
    for (int64_t main = after_deletions ? 12 : 2; main <= end; main++)
        assert_int_equal(fixture_read(fixture, main), ST_OK);
    for (int64_t main = end + 1; main <= end + 6; main++)
        assert_int_equal(fixture_read(fixture, main), ST_NOT_FOUND);
}

/* Entries with commits in between, until the store fails for good. Counts what the store called
 * durable. */
static enum status work_until_error(struct fixture *fixture, uint64_t *durable_out)
{
    enum status worst = ST_OK;
    while (fixture->index < ENTRIES && !status_is_fatal(worst)) {
        fixture_entry(fixture, PER_ENTRY);
        if (fixture->index == 10) {
            struct store_dead dead[10];
            for (int64_t i = 0; i < 10; i++)
                dead[i] = (struct store_dead){.revision = {2 + i, 0}};
            assert_int_equal(store_forget(fixture->store, dead, 10), ST_OK);
        }
        enum status st = fixture->index % 3 == 0 ? fixture_commit(fixture) : ST_OK;
        worst = st > worst ? st : worst;
        /* Whatever happened to the writer, readers have it all. */
        lock_acquire(fixture->lock);
        struct store_view *view = store_view_acquire(fixture->store, 0);
        lock_release(fixture->lock);
        struct slice record;
        assert_true(store_view_get_in_memory(view, (struct revision){fixture->main, 0}, &record) ||
                    st == ST_OK);
        store_view_release(view);
    }
    *durable_out = store_durable_index(fixture->store);
    return worst;
}

static void try_fault(enum status fault, uint64_t nth, bool lands, bool *fired_out)
{
    struct fixture fixture;
    fixture_init(&fixture, backend_mem(), "faults");
    backend_mem_fail_at(fixture.path, nth, fault, lands);
    uint64_t durable = 0;
    *fired_out = true; /* an open that fails did not fail by itself */
    enum status st = fixture_open(&fixture, 0);
    if (st == ST_OK) {
        st = work_until_error(&fixture, &durable);
        *fired_out = backend_mem_fault_fired(fixture.path);
        backend_mem_fail_at(fixture.path, 0, ST_OK, false);
        if (!status_is_fatal(st)) {
            /* A passing refusal loses nothing: the next steps do it all. */
            assert_int_equal(fixture_commit(&fixture), ST_OK);
            assert_int_equal(store_health(fixture.store), ST_OK);
            assert_int_equal(store_writer_flush(fixture.store), ST_OK);
            assert_int_equal(store_durable_index(fixture.store), fixture.index);
            durable = fixture.index;
        }
        fixture_close(&fixture);
    }
    backend_mem_fail_at(fixture.path, 0, ST_OK, false);
    backend_mem_power_cut(fixture.path, nth);
    assert_int_equal(fixture_open(&fixture, 0), ST_OK);
    uint64_t index = store_opened_at(fixture.store).index;
    assert_true(index >= durable);
    assert_true(index % 3 == 0); /* generations are whole */
    expect_prefix(&fixture, index >= 10);
    fixture_deinit(&fixture);
    backend_mem_clear();
}

static void test_store_survives_any_failing_call(void **state)
{
    (void)state;
    static const enum status faults[] = {ST_IO, ST_CORRUPT, ST_NO_SPACE, ST_NO_MEMORY};
    for (size_t f = 0; f < sizeof(faults) / sizeof(faults[0]); f++) {
        for (int lands = 0; lands < 2; lands++) {
            bool fired = true;
            uint64_t nth = 1;
            for (; fired; nth++)
                try_fault(faults[f], nth, lands, &fired);
            assert_true(nth > 50); /* the faults did reach the work */
        }
    }
}

static void test_store_stops_for_good_after_a_failed_sync(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, backend_mem(), "sync");
    assert_int_equal(fixture_open(&fixture, 0), ST_OK);
    fixture_entry(&fixture, 1);
    assert_int_equal(store_seal(fixture.store, true), ST_OK);
    backend_mem_fail_at(fixture.path, 2, ST_IO, false); /* apply, then the commit */
    bool worked;
    assert_int_equal(store_writer_step(fixture.store, &worked), ST_IO);
    assert_int_equal(store_health(fixture.store), ST_IO);
    /* The disk is fine again, but what its cache lost nobody knows. */
    assert_int_equal(store_writer_step(fixture.store, &worked), ST_IO);
    assert_int_equal(store_writer_flush(fixture.store), ST_IO);
    assert_int_equal(fixture_defragment(&fixture, "elsewhere"), ST_IO);
    assert_int_equal(store_switch(fixture.store, "elsewhere"), ST_IO);
    assert_int_equal(store_writer_deadline_ns(fixture.store), UINT64_MAX);
    assert_int_equal(fixture_read(&fixture, 2), ST_OK);
    fixture_deinit(&fixture);
    backend_mem_clear();
}

static void test_store_says_when_the_deletions_before_a_pin_are_over(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, backend_mem(), "settle");
    assert_int_equal(fixture_open(&fixture, 0), ST_OK);
    fixture_entry(&fixture, 2);
    assert_int_equal(fixture_commit(&fixture), ST_OK);
    struct store_dead dead = {.revision = {2, 0}};
    assert_int_equal(store_forget(fixture.store, &dead, 1), ST_OK);
    fixture_entry(&fixture, 1);
    assert_int_equal(store_seal(fixture.store, true), ST_OK);
    /* Both batches, the commit; then no snapshot of it: the deletion happened, nobody sees it. */
    backend_mem_fail_at(fixture.path, 4, ST_NO_MEMORY, false);
    bool worked;
    assert_int_equal(store_writer_step(fixture.store, &worked), ST_NO_MEMORY);
    assert_true(backend_mem_fault_fired(fixture.path));
    struct store_pin *pin;
    assert_int_equal(store_pin(fixture.store, &pin), ST_OK);
    assert_int_equal(fixture_read(&fixture, 2), ST_OK);
    assert_false(store_is_settled(fixture.store));
    assert_int_equal(store_writer_step(fixture.store, &worked), ST_OK);
    assert_true(store_is_settled(fixture.store));
    assert_int_equal(fixture_read(&fixture, 2), ST_NOT_FOUND);
    store_unpin(fixture.store, pin);
    fixture_deinit(&fixture);
    backend_mem_clear();
}

static void test_store_commits_when_a_full_disk_has_room_again(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, backend_mem(), "full");
    assert_int_equal(fixture_open(&fixture, 0), ST_OK);
    fixture_entry(&fixture, 5);
    assert_int_equal(fixture_commit(&fixture), ST_OK);
    struct store_dead dead = {.revision = {2, 0}};
    assert_int_equal(store_forget(fixture.store, &dead, 1), ST_OK);
    fixture_entry(&fixture, 5);
    backend_mem_set_full(fixture.path, true);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fixture_commit(&fixture), ST_NO_SPACE);
        assert_int_equal(store_health(fixture.store), ST_NO_SPACE);
        fixture_entry(&fixture, 5);
        for (int64_t main = 3; main <= fixture.main; main++)
            assert_int_equal(fixture_read(&fixture, main), ST_OK);
    }
    assert_true(store_writer_deadline_ns(fixture.store) <= fixture.now_ns + NS_PER_S);
    backend_mem_set_full(fixture.path, false);
    assert_int_equal(fixture_commit(&fixture), ST_OK);
    assert_int_equal(store_health(fixture.store), ST_OK);
    assert_int_equal(fixture_commit(&fixture), ST_OK);
    struct store_stat stat;
    assert_int_equal(store_get_stat(fixture.store, &stat), ST_OK);
    assert_int_equal(stat.committed_index, fixture.index);
    fixture.now_ns += 10 * NS_PER_S;
    assert_int_equal(fixture_commit(&fixture), ST_OK);
    assert_int_equal(store_forget_pending_count(fixture.store), 0);
    fixture_deinit(&fixture);
    backend_mem_clear();
}

/* The nth call fails while the store is copied: the old file serves on, the copy is gone. */
static void test_store_defragment_that_fails_changes_nothing(void **state)
{
    (void)state;
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct fixture fixture;
        fixture_init(&fixture, backend_mem(), "defrag");
        assert_int_equal(fixture_open(&fixture, 0), ST_OK);
        fixture_entry(&fixture, 10);
        assert_int_equal(fixture_commit(&fixture), ST_OK);
        backend_mem_fail_at("copy.mem", nth, ST_IO, false);
        enum status st = fixture_defragment(&fixture, "copy.mem");
        fired = backend_mem_fault_fired("copy.mem");
        assert_int_equal(st != ST_OK, fired);
        backend_mem_fail_at("copy.mem", 0, ST_OK, false);
        assert_int_equal(store_health(fixture.store), ST_OK);
        fixture_entry(&fixture, 1);
        assert_int_equal(fixture_commit(&fixture), ST_OK);
        for (int64_t main = 2; main <= 12; main++)
            assert_int_equal(fixture_read(&fixture, main), ST_OK);
        if (fired) /* its file is free again */
            assert_int_equal(fixture_defragment(&fixture, "copy.mem"), ST_OK);
        fixture_deinit(&fixture);
        backend_mem_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_survives_any_failing_call),
        cmocka_unit_test(test_store_stops_for_good_after_a_failed_sync),
        cmocka_unit_test(test_store_says_when_the_deletions_before_a_pin_are_over),
        cmocka_unit_test(test_store_commits_when_a_full_disk_has_room_again),
        cmocka_unit_test(test_store_defragment_that_fails_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
