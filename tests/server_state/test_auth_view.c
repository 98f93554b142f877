/* Who may what: the rules one by one, and unions of intervals against a check as naive as can be.
 */
#include "base/rng.h"
#include "server/state/auth.h"
#include "server/state/auth_private.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define OPEN_END SLICE("\0")

static struct auth_permission permission(enum auth_permission_type type, struct slice key,
                                         struct slice range_end)
{
    return (struct auth_permission){.type = (int32_t)type, .key = key, .range_end = range_end};
}

static void put_role(struct auth_draft *draft, struct slice name,
                     const struct auth_permission *permissions, uint32_t count)
{
    const struct auth_role role = {
        .name = name, .permissions = permissions, .permissions_count = count};
    assert_int_equal(auth_draft_put_role(draft, &role), ST_OK);
    assert_int_equal(auth_draft_refresh(draft, name), ST_OK);
}

static void put_user(struct auth_draft *draft, struct slice name, const struct slice *roles,
                     uint32_t count)
{
    const struct auth_user user = {.name = name, .roles = roles, .roles_count = count};
    assert_int_equal(auth_draft_put_user(draft, &user), ST_OK);
}

/* root; reader of [a, c) and x; writer of everything from m on; both; and one without roles. At
 * revision 5. */
static struct auth_view *make_view(void)
{
    const struct auth_permission reads[] = {
        permission(AUTH_PERMISSION_READ, SLICE("a"), SLICE("b")),
        permission(AUTH_PERMISSION_READ, SLICE("b"), SLICE("c")),
        permission(AUTH_PERMISSION_READ, SLICE("x"), SLICE_EMPTY),
    };
    const struct auth_permission writes[] = {
        permission(AUTH_PERMISSION_WRITE, SLICE("m"), OPEN_END),
        permission(AUTH_PERMISSION_READWRITE, SLICE("k"), SLICE_EMPTY),
        permission((enum auth_permission_type)7, SLICE("q"), SLICE_EMPTY),
    };
    const struct slice root[] = {SLICE("root")}, r[] = {SLICE("r")}, w[] = {SLICE("w")},
                       both[] = {SLICE("gone"), SLICE("r"), SLICE("w")};
    struct auth_draft draft;
    assert_int_equal(auth_draft_begin(NULL, &draft), ST_OK);
    put_user(&draft, SLICE("reader"), r, 1); /* before its role: refreshed with it */
    put_role(&draft, SLICE("r"), reads, 3);
    put_role(&draft, SLICE("w"), writes, 3);
    put_user(&draft, SLICE("root"), root, 1);
    put_user(&draft, SLICE("writer"), w, 1);
    put_user(&draft, SLICE("both"), both, 3);
    put_user(&draft, SLICE("none"), NULL, 0);
    put_user(&draft,
             SLICE("\xff"
                   "far"),
             both, 3);
    draft.view->enabled = true;
    draft.view->revision = 5;
    return auth_draft_end(&draft);
}

static struct auth_caller caller_of(const char *name)
{
    return (struct auth_caller){.name = slice_from_str(name), .revision = 5};
}

static enum api_error may(const struct auth_view *view, const char *name, enum auth_access access,
                          struct slice key, struct slice range_end)
{
    const struct auth_caller caller = caller_of(name);
    return auth_check_range(view, &caller, key, range_end, access);
}

static bool reads(const struct auth_view *view, const char *name, struct slice key,
                  struct slice range_end)
{
    return may(view, name, AUTH_READ, key, range_end) == API_OK;
}

static bool writes(const struct auth_view *view, const char *name, struct slice key,
                   struct slice range_end)
{
    return may(view, name, AUTH_WRITE, key, range_end) == API_OK;
}

static void test_auth_check_range_goes_in_order(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    struct auth_caller caller = {.name = SLICE("root")};
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_READ),
                     API_USER_EMPTY);
    caller.revision = 4;
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_READ),
                     API_AUTH_OLD_REVISION);
    caller.revision = 6; /* known to another member already */
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_READ), API_OK);
    caller.name = SLICE("nobody");
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_READ),
                     API_PERMISSION_DENIED);
    caller.name = SLICE("none");
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_READ),
                     API_PERMISSION_DENIED);
    view->enabled = false;
    caller = (struct auth_caller){0};
    assert_int_equal(auth_check_range(view, &caller, SLICE("a"), SLICE_EMPTY, AUTH_WRITE), API_OK);
    auth_view_unref(view);
}

static void test_auth_check_range_asks_the_union(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    assert_true(reads(view, "reader", SLICE("a"), SLICE("c"))); /* two that touch */
    assert_true(reads(view, "reader", SLICE("aa"), SLICE("bz")));
    assert_false(reads(view, "reader", SLICE("a"), SLICE("ca")));
    assert_false(reads(view, "reader", SLICE("a"), OPEN_END));
    assert_false(reads(view, "reader", SLICE("A"), SLICE("b")));
    assert_false(writes(view, "reader", SLICE("a"), SLICE_EMPTY));
    assert_true(reads(view, "reader", SLICE("x"), SLICE_EMPTY)); /* a key is [x, x\0) */
    assert_true(reads(view, "reader", SLICE("x"), SLICE("x\0")));
    assert_false(reads(view, "reader", SLICE("x\0"), SLICE_EMPTY));
    assert_false(reads(view, "reader", SLICE("x"), SLICE("x\0\0")));
    assert_true(writes(view, "writer", SLICE("m"), OPEN_END));
    assert_true(writes(view, "writer", SLICE("z"), SLICE("zz")));
    assert_false(writes(view, "writer", SLICE("l"), OPEN_END));
    assert_false(reads(view, "writer", SLICE("m"), SLICE_EMPTY)); /* WRITE is no READ */
    assert_true(reads(view, "writer", SLICE("k"), SLICE_EMPTY));
    assert_false(reads(view, "writer", SLICE("q"), SLICE_EMPTY)); /* a type nobody knows */
    assert_true(writes(view, "both", SLICE("m"), SLICE_EMPTY));
    assert_true(reads(view, "both", SLICE("b"), SLICE_EMPTY));
    assert_true(reads(view, "root", SLICE("\x01"), OPEN_END));
    assert_true(writes(view, "root", SLICE("z"), SLICE("a")));
    auth_view_unref(view);
}

/* No key is in such a range. etcd's search permits it to who may its key, unless an interval that
 * lies within the range turned round stands above in its tree. */
static void test_auth_check_range_judges_a_reversed_range_by_the_tree(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    assert_true(reads(view, "reader", SLICE("b"), SLICE("A")));
    assert_true(reads(view, "reader", SLICE("b"), SLICE("b")));
    assert_false(reads(view, "reader", SLICE("c"), SLICE("a")));
    assert_false(reads(view, "reader", SLICE("x"), SLICE("A")));
    auth_view_unref(view);
}

static void test_auth_check_range_gives_nothing_to_who_is_not_listed(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    assert_non_null(auth_find_user(view, SLICE("\xff"
                                               "far")));
    assert_false(reads(view,
                       "\xff"
                       "far",
                       SLICE("a"), SLICE_EMPTY));
    auth_view_unref(view);
}

static void test_auth_check_admin_asks_for_the_role(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    struct auth_caller caller = {.revision = 5};
    assert_int_equal(auth_check_admin(view, &caller), API_USER_EMPTY);
    caller.name = SLICE("nobody");
    assert_int_equal(auth_check_admin(view, &caller), API_USER_NOT_FOUND);
    caller.name = SLICE("both");
    assert_int_equal(auth_check_admin(view, &caller), API_PERMISSION_DENIED);
    caller = (struct auth_caller){.name = SLICE("root"), .revision = 1}; /* not looked at */
    assert_int_equal(auth_check_admin(view, &caller), API_OK);
    caller.name = SLICE("both");
    assert_int_equal(auth_check_user_get(view, &caller, SLICE("both")), API_OK);
    assert_int_equal(auth_check_user_get(view, &caller, SLICE("root")), API_PERMISSION_DENIED);
    assert_int_equal(auth_check_role_get(view, &caller, SLICE("w")), API_OK);
    assert_int_equal(auth_check_role_get(view, &caller, SLICE("root")), API_PERMISSION_DENIED);
    caller = (struct auth_caller){0};
    assert_int_equal(auth_check_user_get(view, &caller, SLICE("both")), API_USER_EMPTY);
    assert_int_equal(auth_check_role_get(view, &caller, SLICE("w")), API_USER_EMPTY);
    view->enabled = false;
    assert_int_equal(auth_check_admin(view, &caller), API_OK);
    auth_view_unref(view);
}

/* ---- txns ---- */

/* Keys z7 and a7 are attached to lease 7, b8 to lease 8. */
static enum status each_key(void *context, int64_t lease,
                            enum status (*each)(void *context, struct slice key),
                            void *each_context)
{
    (void)context;
    enum status st = ST_OK;
    if (lease == 7)
        st = each(each_context, SLICE("z7"));
    if (lease == 8)
        st = each(each_context, SLICE("b8"));
    return st;
}

static const struct auth_leases leases = {.each_key = each_key};

struct txn_test {
    struct auth_view *view;
    struct arena arena;
};

static enum api_error check(struct txn_test *t, const char *name, struct kv_txn txn)
{
    const struct auth_caller caller = caller_of(name);
    return auth_check_txn(t->view, &caller, &txn, &leases);
}

static enum api_error check_applied(struct txn_test *t, const char *name, struct kv_txn txn)
{
    const struct auth_caller caller = caller_of(name);
    return auth_check_txn_applied(t->view, &caller, &txn);
}

static void begin(struct txn_test *t)
{
    t->view = make_view();
    arena_init(&t->arena, 1 << 20);
}

static void end(struct txn_test *t)
{
    auth_view_unref(t->view);
    arena_deinit(&t->arena);
}

static void test_auth_check_txn_looks_at_both_branches(void **state)
{
    (void)state;
    struct txn_test t;
    begin(&t);
    struct kv_compare compare = {.key = SLICE("a")};
    struct kv_txn txn = {.compares = &compare, .compares_count = 1};
    assert_int_equal(check(&t, "both", txn), API_OK);
    assert_int_equal(check(&t, "writer", txn), API_PERMISSION_DENIED);
    compare.range_end = SLICE("z");
    assert_int_equal(check(&t, "both", txn), API_PERMISSION_DENIED);
    txn = (struct kv_txn){.success = OPS(&t.arena, op_get(&t.arena, "a"))};
    txn.failure = OPS(&t.arena, op_put(&t.arena, "n", "v"));
    assert_int_equal(check(&t, "both", txn), API_OK);
    assert_int_equal(check_applied(&t, "both", txn), API_OK);
    assert_int_equal(check(&t, "reader", txn), API_PERMISSION_DENIED);
    assert_int_equal(check_applied(&t, "reader", txn), API_PERMISSION_DENIED);
    assert_int_equal(check(&t, "writer", txn), API_PERMISSION_DENIED);
    txn = (struct kv_txn){.failure = OPS(&t.arena, op_delete_from(&t.arena, "n"))};
    assert_int_equal(check(&t, "writer", txn), API_OK);
    txn.failure.items[0].del->prev_kv = true;
    assert_int_equal(check(&t, "writer", txn), API_PERMISSION_DENIED);
    assert_int_equal(check_applied(&t, "writer", txn), API_PERMISSION_DENIED);
    assert_int_equal(check(&t, "root", txn), API_OK);
    end(&t);
}

static void test_auth_check_txn_of_nothing_needs_nobody(void **state)
{
    (void)state;
    struct txn_test t;
    begin(&t);
    const struct kv_txn nothing = {0};
    const struct auth_caller nobody = {0};
    assert_int_equal(auth_check_txn(t.view, &nobody, &nothing, NULL), API_OK);
    struct kv_txn around = {.success = OPS(&t.arena, op_txn(&t.arena, nothing))};
    assert_int_equal(auth_check_txn(t.view, &nobody, &around, NULL), API_OK);
    end(&t);
}

/* What etcd looks past; it is closed in front of the log and left as it is behind it. */
static void test_auth_check_txn_closes_what_etcd_leaves_open(void **state)
{
    (void)state;
    struct txn_test t;
    begin(&t);
    struct kv_compare compare = {.key = SLICE("n")};
    const struct kv_txn inner[] = {
        {.success = OPS(&t.arena, op_put(&t.arena, "a", "v"))},
        {.failure = OPS(&t.arena, op_delete(&t.arena, "a", "b"))},
        {.failure = OPS(&t.arena, op_get(&t.arena, "n"))},
        {.compares = &compare, .compares_count = 1},
    };
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
        struct kv_txn nested = {.success = OPS(&t.arena, op_txn(&t.arena, inner[i]))};
        assert_int_equal(check(&t, "both", nested), API_PERMISSION_DENIED);
        assert_int_equal(check_applied(&t, "both", nested), API_OK);
        struct kv_txn twice = {.failure = OPS(&t.arena, op_txn(&t.arena, nested))};
        assert_int_equal(check(&t, "both", twice), API_PERMISSION_DENIED);
        assert_int_equal(check(&t, "root", twice), API_OK);
        const struct auth_caller nobody = {0};
        assert_int_equal(auth_check_txn(t.view, &nobody, &twice, &leases), API_USER_EMPTY);
    }
    struct kv_txn put = {.success = OPS(&t.arena, op_put(&t.arena, "n", "v"))};
    put.success.items[0].put->prev_kv = true;
    assert_int_equal(check(&t, "both", put), API_PERMISSION_DENIED);
    assert_int_equal(check_applied(&t, "both", put), API_OK);
    put.success.items[0].put->prev_kv = false;
    put.success.items[0].put->lease = 7;
    assert_int_equal(check(&t, "both", put), API_OK);
    put.success.items[0].put->lease = 8;
    assert_int_equal(check(&t, "both", put), API_PERMISSION_DENIED);
    assert_int_equal(check(&t, "root", put), API_OK);
    assert_int_equal(check_applied(&t, "both", put), API_OK);
    const struct auth_caller both = caller_of("both");
    assert_int_equal(auth_check_txn(t.view, &both, &put, NULL), API_OK);
    end(&t);
}

static void test_auth_check_lease_asks_for_every_key(void **state)
{
    (void)state;
    struct auth_view *view = make_view();
    struct auth_caller caller = caller_of("writer");
    assert_int_equal(auth_check_lease(view, &caller, 7, &leases), API_OK);
    assert_int_equal(auth_check_lease(view, &caller, 8, &leases), API_PERMISSION_DENIED);
    assert_int_equal(auth_check_lease(view, &caller, 9, &leases), API_OK);
    caller.revision = 4;
    assert_int_equal(auth_check_lease(view, &caller, 7, &leases), API_AUTH_OLD_REVISION);
    caller.name = SLICE("root");
    assert_int_equal(auth_check_lease(view, &caller, 8, &leases), API_OK);
    caller = (struct auth_caller){0};
    assert_int_equal(auth_check_lease(view, &caller, 8, &leases), API_USER_EMPTY);
    assert_int_equal(auth_check_lease(view, &caller, 9, &leases), API_OK);
    auth_view_unref(view);
}

/* ---- before it is proposed ---- */

static void test_auth_check_change_refuses_what_nobody_means(void **state)
{
    (void)state;
    assert_int_equal(auth_check_change(INTERNAL_AUTH_ENABLE, SLICE_EMPTY), API_OK);
    assert_int_equal(
        auth_check_change(INTERNAL_AUTH_ROLE_GRANT_PERMISSION, SLICE("\x0a\x01r\x12\x05\x08\x02"
                                                                     "\x12\x01k")),
        API_OK);
    assert_int_equal(
        auth_check_change(INTERNAL_AUTH_ROLE_GRANT_PERMISSION, SLICE("\x0a\x01r\x12\x05\x08\x03"
                                                                     "\x12\x01k")),
        API_INVALID_AUTH_MANAGEMENT);
    assert_int_equal(
        auth_check_change(INTERNAL_AUTH_ROLE_GRANT_PERMISSION, SLICE("\x0a\x01r\x12\x02\x10\x01")),
        API_UNDECODABLE);
    assert_int_equal(auth_check_change(INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x01r\x1a\x02\x08\x01")),
                     API_OK);
    assert_int_equal(auth_check_change(INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x01r\x1a\x02\x0a\x00")),
                     API_UNDECODABLE);
    assert_int_equal(auth_check_change(INTERNAL_AUTH_USER_ADD, SLICE("\x08\x01")), API_UNDECODABLE);
    assert_int_equal(auth_check_change(INTERNAL_AUTH_USER_ADD, SLICE("\x0a\x05r")),
                     API_UNDECODABLE);
    static uint8_t name[4 + AUTH_NAME_BYTES_MAX + 1] = {0x0a, 0x80, 0x80, 0x02};
    assert_int_equal(
        auth_check_change(INTERNAL_AUTH_ROLE_ADD, slice_make(name, 4 + AUTH_NAME_BYTES_MAX)),
        API_OK);
    name[1]++;
    assert_int_equal(auth_check_change(INTERNAL_AUTH_ROLE_ADD, slice_make(name, sizeof(name))),
                     API_INVALID_AUTH_MANAGEMENT);
}

/* ---- a view stays as it is ---- */

static void test_auth_view_is_never_changed(void **state)
{
    (void)state;
    struct auth_view *before = make_view();
    struct auth_draft draft;
    assert_int_equal(auth_draft_begin(before, &draft), ST_OK);
    auth_draft_drop_user(&draft, SLICE("root"));
    auth_draft_drop_user(&draft, SLICE("nobody"));
    put_role(&draft, SLICE("r"), NULL, 0);
    auth_draft_drop_role(&draft, SLICE("w"));
    assert_int_equal(auth_draft_refresh(&draft, SLICE("w")), ST_OK);
    struct auth_view *after = auth_draft_end(&draft);
    assert_int_equal(auth_users_count(before), 6);
    assert_int_equal(auth_users_count(after), 5);
    assert_int_equal(auth_roles_count(before), 2);
    assert_int_equal(auth_roles_count(after), 1);
    assert_true(reads(before, "both", SLICE("a"), SLICE_EMPTY));
    assert_false(reads(after, "both", SLICE("a"), SLICE_EMPTY));
    assert_true(writes(before, "both", SLICE("m"), SLICE_EMPTY));
    assert_false(writes(after, "both", SLICE("m"), SLICE_EMPTY));
    /* What stayed the same is one and the same. */
    assert_ptr_equal(auth_find_user(before, SLICE("none")), auth_find_user(after, SLICE("none")));
    auth_view_unref(before);
    assert_null(auth_find_user(after, SLICE("root")));
    assert_true(auth_user_has_role(auth_find_user(after, SLICE("both")), SLICE("w")));
    auth_view_unref(after);
}

/* ---- unions, at random ---- */

#define LETTERS 6U
#define ROUNDS 60000U
#define PERMISSIONS_MAX 6U
#define QUERIES 40U

/* Keys of one or two bytes, of letters 1 to 5 with an optional 0 behind: all there is between them
 * are other keys, which are covered as their neighbour below is. */
static struct slice random_key(struct rng *rng, uint8_t *room)
{
    room[0] = (uint8_t)(1 + rng_below(rng, LETTERS - 1));
    room[1] = (uint8_t)rng_below(rng, LETTERS);
    return slice_make(room, 1 + rng_below(rng, 2));
}

static struct slice random_end(struct rng *rng, uint8_t *room)
{
    switch (rng_below(rng, 4)) {
    case 0:
        return SLICE_EMPTY;
    case 1:
        room[0] = 0;
        return slice_make(room, 1);
    default:
        return random_key(rng, room);
    }
}

static bool range_holds(struct slice key, struct slice range_end, struct slice k)
{
    if (range_end.len == 0)
        return slice_eq(key, k);
    if (slice_cmp(k, key) < 0)
        return false;
    return slice_eq(range_end, OPEN_END) || slice_cmp(k, range_end) < 0;
}

/* Every key of up to three such bytes, and one that lies behind them all. */
static bool naive_covers(const struct auth_permission *permissions, uint32_t count,
                         struct slice key, struct slice range_end)
{
    uint8_t k[3];
    for (uint32_t n = 0; n < (LETTERS + 1) * (LETTERS + 1) * (LETTERS + 1); n++) {
        size_t len = 0;
        for (uint32_t rest = n; rest > 0; rest /= LETTERS + 1)
            k[len++] = (uint8_t)(rest % (LETTERS + 1) - (rest % (LETTERS + 1) > 0));
        struct slice one = slice_make(k, len);
        bool held = false;
        if (len == 0 || !range_holds(key, range_end, one))
            continue;
        for (uint32_t i = 0; i < count && !held; i++)
            held = range_holds(permissions[i].key, permissions[i].range_end, one);
        if (!held)
            return false;
    }
    return true;
}

static void test_auth_union_covers_what_every_key_of_it_says(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 11);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    uint32_t covered = 0;
    for (uint32_t round = 0; round < ROUNDS / QUERIES; round++) {
        struct auth_permission permissions[PERMISSIONS_MAX];
        const struct auth_permission *pointers[PERMISSIONS_MAX];
        uint8_t room[PERMISSIONS_MAX][4], query[4];
        uint32_t count = (uint32_t)rng_below(&rng, PERMISSIONS_MAX + 1);
        for (uint32_t i = 0; i < count; i++) {
            permissions[i] = permission(AUTH_PERMISSION_READ, random_key(&rng, room[i]),
                                        random_end(&rng, room[i] + 2));
            pointers[i] = &permissions[i];
        }
        struct auth_union of;
        assert_int_equal(auth_union_make(pointers, count, AUTH_READ, &arena, &of), ST_OK);
        for (uint32_t i = 0; i < QUERIES; i++) {
            struct slice key = random_key(&rng, query), end = random_end(&rng, query + 2);
            bool reversed = end.len > 0 && !slice_eq(end, OPEN_END) && slice_cmp(key, end) >= 0;
            bool want = naive_covers(permissions, count, key, reversed ? SLICE_EMPTY : end);
            bool got = auth_union_covers(&of, key, end);
            if (reversed) /* who may not even its key does not get by */
                assert_true(want || !got);
            else
                assert_int_equal(got, want);
            struct slice behind = end;
            if (slice_eq(end, OPEN_END))
                behind = SLICE_EMPTY;
            if (end.len > 0) /* two ways to the same */
                assert_int_equal(auth_tree_covers(&of.tree, key, behind), got);
            covered += want;
        }
        assert_int_equal(auth_union_make(pointers, count, AUTH_WRITE, &arena, &of), ST_OK);
        assert_int_equal(of.count, 0);
        arena_reset(&arena);
    }
    assert_in_range(covered, ROUNDS / 20, ROUNDS - ROUNDS / 20);
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auth_check_range_goes_in_order),
        cmocka_unit_test(test_auth_check_range_asks_the_union),
        cmocka_unit_test(test_auth_check_range_judges_a_reversed_range_by_the_tree),
        cmocka_unit_test(test_auth_check_range_gives_nothing_to_who_is_not_listed),
        cmocka_unit_test(test_auth_check_admin_asks_for_the_role),
        cmocka_unit_test(test_auth_check_txn_looks_at_both_branches),
        cmocka_unit_test(test_auth_check_txn_of_nothing_needs_nobody),
        cmocka_unit_test(test_auth_check_txn_closes_what_etcd_leaves_open),
        cmocka_unit_test(test_auth_check_lease_asks_for_every_key),
        cmocka_unit_test(test_auth_check_change_refuses_what_nobody_means),
        cmocka_unit_test(test_auth_view_is_never_changed),
        cmocka_unit_test(test_auth_union_covers_what_every_key_of_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
