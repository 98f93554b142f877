/* Users, tokens, and who may what. */
#include "base/wire.h"
#include "server/services/auth_jwt.h"
#include "server/state/auth.h"
#include "tests/server_services/fixture.h"
#include "tests/server_services/jwt_keys.h"
#include "tests/server_state/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define AUTH(name) "/etcdserverpb.Auth/" name
#define RANGE "/etcdserverpb.KV/Range"
#define PUT "/etcdserverpb.KV/Put"
#define TXN "/etcdserverpb.KV/Txn"

/* A message of up to three texts, fields 1 to 3; NULL: left out. */
static struct slice texts(struct fixture *f, const char *one, const char *two, const char *three)
{
    const char *const all[] = {one, two, three};
    struct wire_out out;
    struct slice message;
    wire_out_init(&out, &f->harness.arena, 0);
    for (uint32_t i = 0; i < 3; i++) {
        if (all[i] != NULL)
            wire_put_bytes(&out, i + 1, slice_from_str(all[i]));
    }
    assert_int_equal(wire_out_finish(&out, &message), ST_OK);
    return message;
}

static void as(struct fixture *f, const char *token)
{
    f->metadata = (struct rpc_metadata){0};
    if (token != NULL)
        f->metadata = (struct rpc_metadata){SLICE("token"), slice_from_str(token)};
}

static void does(struct fixture *f, const char *path, struct slice message)
{
    assert_error(call(f, path, message), API_OK);
}

static void grant(struct fixture *f, const char *role, int32_t type, const char *key,
                  const char *end)
{
    struct wire_out out;
    struct slice message;
    wire_out_init(&out, &f->harness.arena, 0);
    wire_put_bytes(&out, 1, slice_from_str(role));
    size_t body = wire_open(&out, 2);
    wire_put_varint(&out, 1, (uint64_t)type);
    wire_put_bytes(&out, 2, slice_from_str(key));
    wire_put_bytes(&out, 3, slice_from_str(end));
    wire_close(&out, body);
    assert_int_equal(wire_out_finish(&out, &message), ST_OK);
    does(f, AUTH("RoleGrantPermission"), message);
}

static const char *log_in(struct fixture *f, const char *user, const char *password)
{
    does(f, AUTH("Authenticate"), texts(f, user, password, NULL));
    const Etcdserverpb__AuthenticateResponse *response =
        decode(f, &etcdserverpb__authenticate_response__descriptor);
    return response->token;
}

/* root, and alice who reads and writes in [k, l). */
static void have_users(struct fixture *f)
{
    open_services(f, 0, 0);
    does(f, AUTH("UserAdd"), texts(f, "root", "rpw", NULL));
    does(f, AUTH("UserAdd"), texts(f, "alice", "apw", NULL));
    does(f, AUTH("RoleAdd"), texts(f, "writer", NULL, NULL));
    grant(f, "writer", AUTH_PERMISSION_READWRITE, "k", "l");
    does(f, AUTH("UserGrantRole"), texts(f, "alice", "writer", NULL));
    does(f, AUTH("UserGrantRole"), texts(f, "root", "root", NULL));
    does(f, AUTH("AuthEnable"), SLICE_EMPTY);
    f->loops.applied = 1000; /* no token of these tests is younger */
}

static struct fake_call *get(struct fixture *f, const char *key, bool serializable)
{
    const struct kv_range range = {.key = slice_from_str(key), .serializable = serializable};
    return call(f, RANGE, encode_range(&f->harness.arena, &range));
}

static struct fake_call *put(struct fixture *f, const char *key)
{
    const struct kv_put request = {.key = slice_from_str(key)};
    return call(f, PUT, encode_put(&f->harness.arena, &request));
}

static void test_auth_lets_in_users_only(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    as(f, NULL);
    assert_error(get(f, "k1", false), API_USER_EMPTY);
    assert_error(get(f, "k1", true), API_USER_EMPTY);
    assert_error(put(f, "k1"), API_USER_EMPTY);
    as(f, "abcdefghijklmnop.3");
    assert_error(get(f, "k1", false), API_INVALID_AUTH_TOKEN);
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    as(f, log_in(f, "alice", "apw"));
    assert_error(put(f, "k1"), API_OK);
    assert_error(get(f, "k1", false), API_OK);
    assert_error(get(f, "k1", true), API_OK);
    assert_error(put(f, "a"), API_PERMISSION_DENIED);
    assert_error(get(f, "a", false), API_PERMISSION_DENIED);
    assert_error(get(f, "a", true), API_PERMISSION_DENIED);
    as(f, log_in(f, "root", "rpw"));
    assert_error(put(f, "a"), API_OK);
    assert_error(get(f, "a", true), API_OK);
}

static void test_auth_takes_the_token_of_the_gateway(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    f->metadata =
        (struct rpc_metadata){SLICE("authorization"), slice_from_str(log_in(f, "alice", "apw"))};
    assert_error(put(f, "k1"), API_OK);
    f->metadata.value = SLICE("Bearer x");
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
}

static void test_authenticate_says_what_etcd_says(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *user, *password;
        enum api_error error;
    } cases[] = {
        {"alice", "wrong", API_AUTH_FAILED},        {"alice", NULL, API_AUTH_FAILED},
        {"nobody", "apw", API_AUTH_FAILED},         {NULL, NULL, API_AUTH_FAILED},
        {"cert", "anything", API_NO_PASSWORD_USER}, {"cert", NULL, API_NO_PASSWORD_USER},
    };
    assert_error(call(f, AUTH("Authenticate"), texts(f, "root", "x", NULL)), API_AUTH_NOT_ENABLED);
    have_users(f);
    as(f, log_in(f, "root", "rpw"));
    does(f, AUTH("UserAdd"), texts(f, "cert", NULL, "\x08\x01")); /* no_password */
    as(f, "abcdefghijklmnop.3");                                  /* not looked at */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_error(
            call(f, AUTH("Authenticate"), texts(f, cases[i].user, cases[i].password, NULL)),
            cases[i].error);
    const char *first = log_in(f, "alice", "apw"), *second = log_in(f, "alice", "apw");
    assert_string_not_equal(first, second);
    as(f, first);
    assert_error(put(f, "k1"), API_OK);
    f->loops.refuse = API_TIMEOUT;
    assert_error(call(f, AUTH("Authenticate"), texts(f, "alice", "apw", NULL)), API_TIMEOUT);
}

static void test_tokens_end_with_what_they_stand_for(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    const char *root = log_in(f, "root", "rpw"), *alice = log_in(f, "alice", "apw");
    as(f, root);
    does(f, AUTH("UserChangePassword"), texts(f, "alice", "new", NULL));
    as(f, alice);
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    as(f, NULL);
    assert_error(call(f, AUTH("Authenticate"), texts(f, "alice", "apw", NULL)), API_AUTH_FAILED);
    alice = log_in(f, "alice", "new");
    as(f, alice);
    assert_error(put(f, "k1"), API_OK);
    as(f, root);
    does(f, AUTH("UserDelete"), texts(f, "alice", NULL, NULL));
    as(f, alice);
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    as(f, root);
    does(f, AUTH("AuthDisable"), SLICE_EMPTY);
    as(f, "no token at all"); /* which nobody asks for now */
    does(f, AUTH("AuthEnable"), SLICE_EMPTY);
    as(f, root);
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
}

static void test_passwords_are_refused_as_bcrypt_needs_it(void **state)
{
    struct fixture *f = *state;
    char long_one[74] = "";
    memset(long_one, 'p', 73);
    open_services(f, 0, 0);
    assert_error(call(f, AUTH("UserAdd"), texts(f, "u", long_one, NULL)), API_PASSWORD_TOO_LONG);
    struct slice message = texts(f, "u", "pXw", NULL);
    ((uint8_t *)(uintptr_t)message.data)[message.len - 2] = 0;
    assert_error(call(f, AUTH("UserAdd"), message), API_PASSWORD_UNUSABLE);
    long_one[72] = '\0';
    assert_error(call(f, AUTH("UserAdd"), texts(f, "u", long_one, NULL)), API_OK);
    assert_error(call(f, AUTH("UserAdd"), texts(f, "u", "x", NULL)), API_USER_EXISTS);
    assert_error(call(f, AUTH("UserAdd"), texts(f, NULL, "x", NULL)), API_USER_EMPTY);
    assert_error(call(f, AUTH("UserChangePassword"), texts(f, "v", "x", NULL)), API_USER_NOT_FOUND);
    assert_error(call(f, AUTH("UserAdd"), SLICE("\x08")), API_UNDECODABLE);
    assert_error(call(f, AUTH("UserAdd"), SLICE("\x1a\x01\x08")), API_UNDECODABLE);
}

/* Nobody's password is hashed for somebody who may not set it. */
static void test_user_add_is_judged_before_it_hashes(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    uint32_t proposals = f->loops.proposals;
    as(f, NULL);
    assert_error(call(f, AUTH("UserAdd"), texts(f, "eve", "pw", NULL)), API_USER_EMPTY);
    as(f, log_in(f, "alice", "apw"));
    proposals++;
    assert_error(call(f, AUTH("UserAdd"), texts(f, "eve", "pw", NULL)), API_PERMISSION_DENIED);
    assert_error(call(f, AUTH("UserChangePassword"), texts(f, "alice", "pw", NULL)),
                 API_PERMISSION_DENIED);
    assert_int_equal(f->loops.proposals, proposals);
}

static void test_a_txn_hides_nothing(void **state)
{
    struct fixture *f = *state;
    struct arena *arena = &f->harness.arena;
    have_users(f);
    struct kv_ops allowed = OPS(arena, op_put(arena, "k1", "v"));
    struct kv_ops denied = OPS(arena, op_put(arena, "a", "v"));
    struct kv_txn inner = {.success = denied};
    struct kv_txn hidden = {.success = OPS(arena, op_txn(arena, inner))};
    struct kv_txn deeper = {.failure = OPS(arena, op_txn(arena, hidden))};
    struct kv_txn fine = {.success = allowed};
    struct kv_txn within = {.success = OPS(arena, op_txn(arena, fine))};
    struct kv_txn nothing = {0};
    const struct kv_txn *const bad[] = {&inner, &hidden, &deeper};
    as(f, NULL);
    for (size_t i = 0; i < 3; i++)
        assert_error(call(f, TXN, encode_txn(arena, bad[i])), API_USER_EMPTY);
    assert_error(call(f, TXN, encode_txn(arena, &nothing)), API_OK);
    as(f, log_in(f, "alice", "apw"));
    uint32_t proposals = f->loops.proposals;
    for (size_t i = 0; i < 3; i++)
        assert_error(call(f, TXN, encode_txn(arena, bad[i])), API_PERMISSION_DENIED);
    assert_int_equal(f->loops.proposals, proposals);
    assert_error(call(f, TXN, encode_txn(arena, &within)), API_OK);
    as(f, log_in(f, "root", "rpw"));
    assert_error(call(f, "/etcdserverpb.Lease/LeaseGrant", SLICE("\x08\x3c\x10\x07")), API_OK);
    struct kv_op with_lease = op_put(arena, "a", "v");
    with_lease.put->lease = 7;
    struct kv_txn attaches = {.success = OPS(arena, with_lease)};
    assert_error(call(f, TXN, encode_txn(arena, &attaches)), API_OK);
    with_lease = op_put(arena, "k2", "v");
    with_lease.put->lease = 7;
    struct kv_txn joins = {.success = OPS(arena, with_lease)};
    as(f, log_in(f, "alice", "apw"));
    assert_error(call(f, TXN, encode_txn(arena, &joins)), API_PERMISSION_DENIED);
    with_lease.put->prev_kv = true;
    with_lease.put->lease = 0;
    joins.success = OPS(arena, with_lease);
    assert_error(call(f, TXN, encode_txn(arena, &joins)), API_OK);
    struct kv_txn reads = {.success = OPS(arena, op_get(arena, "a"))};
    assert_error(call(f, TXN, encode_txn(arena, &reads)), API_PERMISSION_DENIED);
}

/* Who may what that is not about keys: nobody, any user, root. */
static void test_methods_ask_for_what_they_need(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *path;
        enum api_error nobody, user;
    } cases[] = {
        {"/etcdserverpb.Maintenance/Status", API_OK, API_OK},
        {"/grpc.health.v1.Health/Check", API_OK, API_OK},
        {"/etcdserverpb.Cluster/MemberList", API_USER_EMPTY, API_OK},
        {"/etcdserverpb.Maintenance/Alarm", API_USER_EMPTY, API_OK},
        {"/etcdserverpb.Maintenance/Hash", API_RAW_USER_EMPTY, API_RAW_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/HashKV", API_RAW_USER_EMPTY, API_RAW_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Defragment", API_RAW_USER_EMPTY, API_RAW_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Snapshot", API_RAW_USER_EMPTY, API_RAW_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/MoveLeader", API_USER_EMPTY, API_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Downgrade", API_USER_EMPTY, API_PERMISSION_DENIED},
        {"/etcdserverpb.KV/Compact", API_USER_EMPTY, API_PERMISSION_DENIED},
        {"/etcdserverpb.Cluster/MemberRemove", API_USER_EMPTY, API_PERMISSION_DENIED},
        {"/etcdserverpb.Cluster/MemberPromote", API_USER_EMPTY, API_PERMISSION_DENIED},
        {AUTH("AuthStatus"), API_USER_EMPTY, API_PERMISSION_DENIED},
        {AUTH("UserList"), API_USER_EMPTY, API_PERMISSION_DENIED},
        {AUTH("RoleList"), API_USER_EMPTY, API_PERMISSION_DENIED},
        {AUTH("RoleAdd"), API_USER_EMPTY, API_PERMISSION_DENIED},
        {AUTH("AuthDisable"), API_USER_EMPTY, API_PERMISSION_DENIED},
    };
    have_users(f);
    const char *alice = log_in(f, "alice", "apw");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        as(f, NULL);
        assert_error(call(f, cases[i].path, SLICE_EMPTY), cases[i].nobody);
        as(f, alice);
        assert_error(call(f, cases[i].path, SLICE_EMPTY), cases[i].user);
    }
    assert_int_equal(f->loops.defragments + f->loops.changes + f->loops.transfers, 0);
    as(f, log_in(f, "root", "rpw"));
    assert_error(call(f, "/etcdserverpb.Maintenance/Defragment", SLICE_EMPTY), API_OK);
    assert_error(call(f, "/etcdserverpb.Maintenance/Hash", SLICE_EMPTY), API_OK);
}

static void test_questions_about_users_and_roles(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    const char *alice = log_in(f, "alice", "apw");
    as(f, alice);
    does(f, AUTH("UserGet"), texts(f, "alice", NULL, NULL));
    const Etcdserverpb__AuthUserGetResponse *user =
        decode(f, &etcdserverpb__auth_user_get_response__descriptor);
    assert_int_equal(user->n_roles, 1);
    assert_string_equal(user->roles[0], "writer");
    assert_int_equal(user->header->member_id, HARNESS_MEMBER_ID);
    assert_int_equal(user->header->revision, harness_revision(&f->harness));
    assert_error(call(f, AUTH("UserGet"), texts(f, "root", NULL, NULL)), API_PERMISSION_DENIED);
    assert_error(call(f, AUTH("RoleGet"), texts(f, "other", NULL, NULL)), API_PERMISSION_DENIED);
    does(f, AUTH("RoleGet"), texts(f, "writer", NULL, NULL));
    const Etcdserverpb__AuthRoleGetResponse *role =
        decode(f, &etcdserverpb__auth_role_get_response__descriptor);
    assert_int_equal(role->n_perm, 1);
    assert_int_equal(role->perm[0]->permtype, AUTH_PERMISSION_READWRITE);
    assert_memory_equal(role->perm[0]->key.data, "k", 1);
    assert_memory_equal(role->perm[0]->range_end.data, "l", 1);
    as(f, log_in(f, "root", "rpw"));
    assert_error(call(f, AUTH("UserGet"), texts(f, "eve", NULL, NULL)), API_USER_NOT_FOUND);
    assert_error(call(f, AUTH("RoleGet"), texts(f, "eve", NULL, NULL)), API_ROLE_NOT_FOUND);
    does(f, AUTH("UserList"), SLICE_EMPTY);
    const Etcdserverpb__AuthUserListResponse *users =
        decode(f, &etcdserverpb__auth_user_list_response__descriptor);
    assert_int_equal(users->n_users, 2);
    does(f, AUTH("AuthStatus"), SLICE_EMPTY);
    const Etcdserverpb__AuthStatusResponse *status =
        decode(f, &etcdserverpb__auth_status_response__descriptor);
    assert_true(status->enabled);
    assert_int_equal(status->authrevision, 7);
}

/* A token of which another member has heard already: this one asks, once, and then knows. */
static void test_a_token_that_may_come_is_waited_for_once(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    f->loops.applied = 5;
    uint32_t reads = f->loops.reads;
    as(f, log_in(f, "alice", "apw"));
    reads += 1; /* of Authenticate */
    assert_error(put(f, "k1"), API_OK);
    assert_int_equal(f->loops.reads, reads + 1);
    as(f, "abcdefghijklmnop.77");
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    assert_int_equal(f->loops.reads, reads + 2);
    as(f, "abcdefghijklmnop.18446744073709551615"); /* made up: nobody waits */
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    as(f, "abcdefghijklmnop.4");
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    assert_int_equal(f->loops.reads, reads + 2);
}

static void test_a_signed_token_knows_the_users_of_its_day(void **state)
{
    struct fixture *f = *state;
    char why[256];
    struct jwt *jwt;
    const struct jwt_options options = {
        .method = "ES256", .private_key = slice_from_str(ec_private), .ttl_ns = JWT_TTL_NS_DEFAULT};
    assert_int_equal(jwt_new(&options, why, sizeof(why), &jwt), ST_OK);
    f->auth.jwt = jwt;
    have_users(f);
    const char *alice = log_in(f, "alice", "apw");
    as(f, alice);
    assert_error(put(f, "k1"), API_OK);
    assert_error(get(f, "k1", true), API_OK);
    as(f, log_in(f, "root", "rpw"));
    does(f, AUTH("RoleAdd"), texts(f, "another", NULL, NULL));
    as(f, alice);
    assert_error(put(f, "k1"), API_AUTH_OLD_REVISION);
    assert_error(get(f, "k1", false), API_AUTH_OLD_REVISION);
    as(f, log_in(f, "alice", "apw"));
    assert_error(put(f, "k1"), API_OK);
    services_free(f->services);
    f->services = NULL;
    jwt_free(jwt);
}

static void test_a_member_that_only_verifies_signs_nothing(void **state)
{
    struct fixture *f = *state;
    char why[256];
    struct jwt *jwt;
    const struct jwt_options options = {
        .method = "RS256", .public_key = slice_from_str(rsa_public), .ttl_ns = JWT_TTL_NS_DEFAULT};
    assert_int_equal(jwt_new(&options, why, sizeof(why), &jwt), ST_OK);
    f->auth.jwt = jwt;
    have_users(f);
    assert_error(call(f, AUTH("Authenticate"), texts(f, "root", "rpw", NULL)), API_VERIFY_ONLY);
    assert_error(call(f, AUTH("Authenticate"), texts(f, "root", "x", NULL)), API_AUTH_FAILED);
    f->auth.jwt = NULL;
    f->auth.no_tokens = true;
    open_services(f, 0, 0);
    assert_error(call(f, AUTH("Authenticate"), texts(f, "root", "rpw", NULL)), API_AUTH_FAILED);
    as(f, "abcdefghijklmnop.3");
    assert_error(put(f, "k1"), API_INVALID_AUTH_TOKEN);
    jwt_free(jwt);
}

/* ---- work that is done elsewhere, and too much of it ---- */

static struct slow_work *given[300];
static uint32_t given_count;

static void keep(void *context, struct slow_work *work)
{
    (void)context;
    given[given_count++] = work;
}

static void test_only_so_many_passwords_wait(void **state)
{
    struct fixture *f = *state;
    have_users(f);
    f->auth.give = keep;
    open_services(f, 0, 0);
    f->loops.applied = 1000;
    struct slice message = texts(f, "alice", "apw", NULL);
    static struct fake_call calls[300];
    uint32_t refused = 0;
    void *service;
    const struct rpc_method *method = find_method(f, AUTH("Authenticate"), &service);
    assert_error(call(f, AUTH("UserList"), SLICE_EMPTY), API_USER_EMPTY);
    for (uint32_t i = 0; i < 300; i++) {
        struct fake_call *c = &calls[i];
        *c = (struct fake_call){.call = f->call.call};
        arena_init(&c->arena, 1U << 20);
        c->call.arena = &c->arena;
        c->call.method = method;
        c->call.message = message;
        method->on_call(&c->call);
        refused += c->finished;
    }
    assert_int_equal(given_count, 256);
    assert_int_equal(refused, 44);
    for (uint32_t i = 0; i < given_count; i++)
        given[i]->run(given[i], /* stopping= */ true);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(calls[i].finished, 1);
        assert_error(&calls[i], i < 256 ? API_STOPPED : API_TOO_MANY_REQUESTS);
        arena_deinit(&calls[i].arena);
    }
    given_count = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_auth_lets_in_users_only),
        FIXTURE_TEST(test_auth_takes_the_token_of_the_gateway),
        FIXTURE_TEST(test_authenticate_says_what_etcd_says),
        FIXTURE_TEST(test_tokens_end_with_what_they_stand_for),
        FIXTURE_TEST(test_passwords_are_refused_as_bcrypt_needs_it),
        FIXTURE_TEST(test_user_add_is_judged_before_it_hashes),
        FIXTURE_TEST(test_a_txn_hides_nothing),
        FIXTURE_TEST(test_methods_ask_for_what_they_need),
        FIXTURE_TEST(test_questions_about_users_and_roles),
        FIXTURE_TEST(test_a_token_that_may_come_is_waited_for_once),
        FIXTURE_TEST(test_a_signed_token_knows_the_users_of_its_day),
        FIXTURE_TEST(test_a_member_that_only_verifies_signs_nothing),
        FIXTURE_TEST(test_only_so_many_passwords_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
