/* Fails the nth allocation of applying one entry, for every n. */
#include "tests/fakes/memory_faults.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char large[8000]; /* takes a block of its own in an arena */

/* A put that fetches what it replaces, a range whose answer is collected before it is encoded, a
 * delete. */
static struct raft_payload *make_entry(struct arena *arena)
{
    struct kv_range range = {
        .key = SLICE("a"), .range_end = SLICE("z"), .sort_order = SORT_DESCEND};
    struct kv_put put = {.key = SLICE("a"), .value = SLICE("2"), .prev_kv = true};
    struct kv_txn txn = {.success = OPS(arena, {.kind = KV_OP_PUT, .put = &put},
                                        {.kind = KV_OP_RANGE, .range = &range},
                                        op_delete(arena, "b", ""))};
    return internal_request_payload(INTERNAL_TXN, encode_txn(arena, &txn), /* id= */ 9);
}

static bool apply_with_failure(uint64_t nth)
{
    static struct harness h;
    harness_init(&h);
    memset(large, 'v', sizeof(large) - 1);
    harness_set(&h, "a", large);
    harness_set(&h, "b", "1");
    struct raft_payload *payload = make_entry(&h.arena);
    struct raft_entry entry = {
        .term = h.term, .index = h.index + 1, .type = RAFT_ENTRY_NORMAL, .payload = payload};
    struct arena answer;
    struct machine_result result;
    arena_init(&answer, 1 << 20);
    memory_fail_at(nth);
    enum status st = machine_apply(h.machine, &entry, &answer, &result);
    bool fired = memory_fault_fired();
    memory_fail_at(0);
    if (st == ST_OK) {
        h.index++;
        assert_true(result.error == API_OK || (fired && result.error == API_RESPONSE_TOO_LARGE));
        assert_string_equal(harness_get(&h, "a"), "2");
        assert_null(harness_get(&h, "b"));
    } else {
        assert_true(fired);
        assert_int_equal(st, ST_NO_MEMORY);
        assert_non_null(strstr(machine_problem(h.machine), status_str(ST_NO_MEMORY)));
        assert_int_equal(machine_applied(h.machine).index, h.index);
        assert_string_equal(harness_get(&h, "a"), large); /* readers see none of it */
        assert_string_equal(harness_get(&h, "b"), "1");
    }
    raft_payload_unref(payload);
    arena_deinit(&answer);
    harness_deinit(&h);
    return fired;
}

static void test_machine_stops_only_where_memory_for_the_state_is_missing(void **state)
{
    (void)state;
    uint64_t nth = 1;
    while (apply_with_failure(nth))
        nth++;
    assert_true(nth > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_stops_only_where_memory_for_the_state_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
