/* Fails the nth allocation of applying one entry, for every n. */
#include "server/state/auth.h"
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

/* ---- users and roles ---- */

static void apply_or_fail(struct harness *h, enum internal_field field, struct slice body)
{
    assert_int_equal(harness_apply(h, field, body).error, API_OK);
}

/* Two users with a role of two permissions. */
static void make_users(struct harness *h)
{
    apply_or_fail(h, INTERNAL_AUTH_ROLE_ADD, SLICE("\x0a\x01r"));
    apply_or_fail(h, INTERNAL_AUTH_ROLE_GRANT_PERMISSION, SLICE("\x0a\x01r\x12\x03\x12\x01k"));
    apply_or_fail(h, INTERNAL_AUTH_ROLE_GRANT_PERMISSION,
                  SLICE("\x0a\x01r\x12\x06\x12\x01m\x1a\x01n"));
    apply_or_fail(h, INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x01u"));
    apply_or_fail(h, INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x01v"));
    apply_or_fail(h, INTERNAL_AUTH_USER_GRANT_ROLE, SLICE("\x0a\x01u\x12\x01r"));
    apply_or_fail(h, INTERNAL_AUTH_USER_GRANT_ROLE, SLICE("\x0a\x01v\x12\x01r"));
}

/* The view is the one before or the one behind, whole. */
static bool change_with_failure(enum internal_field field, struct slice body, uint64_t nth)
{
    static struct harness h;
    harness_init(&h);
    make_users(&h);
    struct raft_payload *payload = internal_request_payload(field, body, /* id= */ 9);
    struct raft_entry entry = {
        .term = h.term, .index = h.index + 1, .type = RAFT_ENTRY_NORMAL, .payload = payload};
    struct auth_view *before = machine_auth(h.machine);
    struct machine_result result;
    memory_fail_at(nth);
    enum status st = machine_apply(h.machine, &entry, NULL, &result);
    bool fired = memory_fault_fired();
    memory_fail_at(0);
    struct auth_view *after = machine_auth(h.machine);
    if (st == ST_OK) {
        h.index++;
        assert_int_equal(result.error, API_OK);
        assert_int_equal(auth_revision(after), auth_revision(before) + 1);
    } else {
        assert_true(fired);
        assert_int_equal(st, ST_NO_MEMORY);
        assert_ptr_equal(after, before);
    }
    auth_view_unref(before);
    auth_view_unref(after);
    raft_payload_unref(payload);
    harness_deinit(&h);
    return fired;
}

static void test_machine_changes_users_and_roles_whole_or_not(void **state)
{
    (void)state;
    const struct {
        enum internal_field field;
        struct slice body;
    } cases[] = {
        {INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x01w\x22\x04YWJj")},
        {INTERNAL_AUTH_USER_DELETE, SLICE("\x0a\x01u")},
        {INTERNAL_AUTH_USER_REVOKE_ROLE, SLICE("\x0a\x01u\x12\x01r")},
        {INTERNAL_AUTH_ROLE_GRANT_PERMISSION, SLICE("\x0a\x01r\x12\x03\x12\x01l")},
        {INTERNAL_AUTH_ROLE_REVOKE_PERMISSION, SLICE("\x0a\x01r\x12\x01k")},
        {INTERNAL_AUTH_ROLE_DELETE, SLICE("\x0a\x01r")},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t nth = 1;
        while (change_with_failure(cases[i].field, cases[i].body, nth))
            nth++;
        assert_true(nth > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_stops_only_where_memory_for_the_state_is_missing),
        cmocka_unit_test(test_machine_changes_users_and_roles_whole_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
