/* Users and roles as entries change them, and who may what when an entry is applied. The first test
 * replays what a real etcd had in its log and compares every answer and, byte for byte, what is
 * stored in the end; the others pin the rules one by one. */
#include "base/base64.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/wire.h"
#include "server/state/auth.h"
#include "server/state/auth_bcrypt.h"
#include "tests/server_state/harness.h"
#include "tests/server_state/messages.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int setup(void **state)
{
    static struct harness harness;
    harness_init(&harness);
    *state = &harness;
    return 0;
}

static int teardown(void **state)
{
    harness_deinit(*state);
    return 0;
}

/* ---- a real log ---- */

static int digit_of(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static struct slice take_hex(struct arena *arena, const char *text, size_t len)
{
    uint8_t *bytes = arena_alloc(arena, len / 2 + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i + 1 < len; i += 2)
        bytes[i / 2] = (uint8_t)(digit_of(text[i]) << 4 | digit_of(text[i + 1]));
    return slice_make(bytes, len / 2);
}

/* "ok", header.revision and, of Authenticate, the token; or the error. */
static void print_answer(const struct machine_result *result, char *out, size_t size)
{
    struct slice rest = result->response;
    struct {
        uint64_t cluster, member;
        int64_t revision;
    } header = {0};
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_INT64, 0}, {WIRE_SLOT_INT64, 8}, {WIRE_SLOT_INT64, 16}};
    struct slice token = SLICE_EMPTY;
    if (result->error != API_OK) {
        snprintf(out, size, "%s", api_error_text(result->error));
        return;
    }
    while (rest.len > 0) {
        struct wire_field field;
        assert_int_equal(wire_next(&rest, &field), ST_OK);
        if (field.number == 1)
            assert_int_equal(wire_decode(field.bytes, slots, 3, &header), ST_OK);
        else if (field.number == 2 && strcmp(result->op, "Authenticate") == 0)
            token = field.bytes;
    }
    assert_int_equal(header.cluster, HARNESS_CLUSTER_ID);
    assert_int_equal(header.member, HARNESS_MEMBER_ID);
    int used = snprintf(out, size, "ok %" PRId64, header.revision);
    if (token.len > 0)
        snprintf(out + used, size - (size_t)used, " %.*s", (int)token.len,
                 (const char *)token.data);
}

static void replay_entry(struct harness *h, const char *line)
{
    uint64_t index;
    int hex_at, answer_at = 0;
    assert_int_equal(sscanf(line, "entry %" SCNu64 " %n%*s %n", &index, &hex_at, &answer_at), 1);
    const char *hex = line + hex_at;
    h->index = index - 1;
    if (hex[0] == '-') {
        (void)harness_apply_data(h, SLICE_EMPTY, &h->arena);
        return;
    }
    struct slice data = take_hex(&h->arena, hex, strcspn(hex, " "));
    struct machine_result result = harness_apply_data(h, data, &h->arena);
    char answer[256];
    print_answer(&result, answer, sizeof(answer));
    if (strcmp(answer, line + answer_at) != 0)
        fail_msg("%s: '%s'", line, answer);
}

static enum status print_record(void *context, struct slice key, struct slice value)
{
    struct buf *out = context;
    for (size_t i = 0; i < key.len; i++)
        assert_int_equal(buf_printf(out, "%02x", key.data[i]), ST_OK);
    assert_int_equal(buf_append(out, SLICE(" ")), ST_OK);
    for (size_t i = 0; i < value.len; i++)
        assert_int_equal(buf_printf(out, "%02x", value.data[i]), ST_OK);
    return buf_append(out, SLICE("\n"));
}

static void print_bucket(struct harness *h, enum bucket bucket, const char *name, struct buf *out)
{
    struct buf records;
    buf_init(&records, 1 << 20);
    assert_int_equal(store_each(h->store, bucket, print_record, &records), ST_OK);
    struct slice rest = buf_slice(&records);
    while (rest.len > 0) {
        size_t len = (size_t)((const uint8_t *)memchr(rest.data, '\n', rest.len) - rest.data);
        assert_int_equal(
            buf_printf(out, "record %s %.*s\n", name, (int)len, (const char *)rest.data), ST_OK);
        rest = slice_make(rest.data + len + 1, rest.len - len - 1);
    }
    buf_deinit(&records);
}

static void print_records(struct harness *h, struct buf *out)
{
    print_bucket(h, BUCKET_AUTH, "auth", out);
    print_bucket(h, BUCKET_AUTH_ROLES, "authRoles", out);
    print_bucket(h, BUCKET_AUTH_USERS, "authUsers", out);
    assert_int_equal(buf_append(out, slice_make("", 1)), ST_OK);
}

static void replay_file(struct harness *h, const char *path, uint32_t entries_min)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[4096];
    struct buf want, got;
    buf_init(&want, 1 << 20);
    buf_init(&got, 1 << 20);
    uint32_t entries = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t len = strcspn(line, "\n");
        if (strncmp(line, "record ", 7) == 0)
            assert_int_equal(buf_append(&want, slice_make(line, len + 1)), ST_OK);
        line[len] = '\0';
        if (strncmp(line, "entry ", 6) != 0)
            continue;
        replay_entry(h, line);
        arena_reset(&h->arena);
        entries++;
    }
    fclose(file);
    assert_true(entries >= entries_min);
    assert_int_equal(buf_append(&want, slice_make("", 1)), ST_OK);
    print_records(h, &got);
    assert_string_equal((const char *)got.data, (const char *)want.data);
    harness_reopen(h);
    buf_reset(&got);
    print_records(h, &got);
    assert_string_equal((const char *)got.data, (const char *)want.data);
    buf_deinit(&want);
    buf_deinit(&got);
}

static void test_machine_auth_does_what_etcd_did(void **state)
{
    replay_file(*state, GOLDEN_DIR "/etcd.txt", /* entries_min= */ 300);
}

static void test_machine_auth_sorts_permissions_as_etcd_did(void **state)
{
    replay_file(*state, GOLDEN_DIR "/permissions.txt", /* entries_min= */ 100);
}

static void test_machine_auth_permits_the_ranges_that_etcd_did(void **state)
{
    replay_file(*state, GOLDEN_DIR "/ranges.txt", /* entries_min= */ 150);
}

/* ---- requests ---- */

static struct slice text_field(struct arena *arena, struct slice before, uint32_t number,
                               struct slice text)
{
    uint8_t *bytes = arena_alloc(arena, before.len + 1 + VARINT_BYTES_MAX + text.len);
    assert_non_null(bytes);
    size_t size = before.len;
    if (size > 0)
        memcpy(bytes, before.data, size);
    bytes[size++] = (uint8_t)(number << 3 | WIRE_BYTES);
    size += put_varint(bytes + size, text.len);
    memcpy(bytes + size, text.data, text.len);
    return slice_make(bytes, size + text.len);
}

static const struct auth_caller root_caller = {.name = {(const uint8_t *)"root", 4},
                                               .revision = 1000};

/* Of up to two texts; NULL: no such field. */
static struct machine_result change(struct harness *h, enum internal_field field, const char *first,
                                    const char *second)
{
    struct slice body = SLICE_EMPTY;
    if (first != NULL)
        body = text_field(&h->arena, body, 1, slice_from_str(first));
    if (second != NULL)
        body = text_field(&h->arena, body, 2, slice_from_str(second));
    return harness_apply_as(h, field, body, &root_caller);
}

/* $2a$... would be a password; anything is stored. */
static struct machine_result add_user(struct harness *h, const char *name)
{
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, slice_from_str(name));
    body = text_field(&h->arena, body, 4, SLICE("c2VjcmV0")); /* "secret" */
    return harness_apply_as(h, INTERNAL_AUTH_USER_ADD, body, &root_caller);
}

static void grant(struct harness *h, const char *role, const char *permission, size_t size)
{
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, slice_from_str(role));
    body = text_field(&h->arena, body, 2, slice_make(permission, size));
    assert_int_equal(
        harness_apply_as(h, INTERNAL_AUTH_ROLE_GRANT_PERMISSION, body, &root_caller).error, API_OK);
}

/* root, and bob, who may read and write k. */
static void enable(struct harness *h)
{
    assert_int_equal(add_user(h, "root").error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_USER_GRANT_ROLE, "root", "root").error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_ROLE_ADD, "keys", NULL).error, API_OK);
    grant(h, "keys", "\x08\x02\x12\x01k", 5);
    assert_int_equal(add_user(h, "bob").error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_USER_GRANT_ROLE, "bob", "keys").error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_ENABLE, NULL, NULL).error, API_OK);
}

static struct auth_caller caller_of(struct harness *h, const char *name)
{
    struct auth_view *view = machine_auth(h->machine);
    struct auth_caller caller = {.name = slice_from_str(name), .revision = auth_revision(view)};
    auth_view_unref(view);
    return caller;
}

static enum api_error put_as(struct harness *h, const char *name, const char *key)
{
    const struct kv_put put = {.key = slice_from_str(key), .value = SLICE("v")};
    const struct auth_caller caller = caller_of(h, name);
    return harness_apply_as(h, INTERNAL_PUT, encode_put(&h->arena, &put), &caller).error;
}

static void test_machine_auth_shows_each_change_as_a_view_of_its_own(void **state)
{
    struct harness *h = *state;
    struct auth_view *before = machine_auth(h->machine);
    assert_false(auth_is_enabled(before));
    assert_int_equal(auth_revision(before), AUTH_REVISION_FIRST);
    enable(h);
    struct auth_view *after = machine_auth(h->machine);
    assert_int_equal(auth_users_count(before), 0);
    assert_int_equal(auth_users_count(after), 2);
    assert_int_equal(auth_revision(after), 7);
    assert_int_equal(machine_auth_revision(h->machine), 7);
    assert_true(auth_is_enabled(after));
    assert_true(machine_auth_enabled(h->machine));
    const struct auth_user *bob = auth_find_user(after, SLICE("bob"));
    assert_true(slice_eq(bob->password, SLICE("secret")));
    assert_true(bob->has_options && !bob->no_password);
    auth_view_unref(before);
    auth_view_unref(after);
}

static void test_machine_auth_asks_at_apply(void **state)
{
    struct harness *h = *state;
    enable(h);
    assert_int_equal(put_as(h, "bob", "k"), API_OK);
    assert_int_equal(put_as(h, "bob", "l"), API_PERMISSION_DENIED);
    assert_int_equal(put_as(h, "root", "l"), API_OK);
    enum api_error error;
    (void)harness_put(h, &(struct kv_put){.key = SLICE("k")}, &error);
    assert_int_equal(error, API_USER_EMPTY);
    struct auth_caller bob = caller_of(h, "bob");
    assert_int_equal(change(h, INTERNAL_AUTH_ROLE_ADD, "more", NULL).error, API_OK);
    const struct kv_put put = {.key = SLICE("k")};
    assert_int_equal(harness_apply_as(h, INTERNAL_PUT, encode_put(&h->arena, &put), &bob).error,
                     API_AUTH_OLD_REVISION);
    assert_int_equal(harness_apply_as(h, INTERNAL_AUTH_USER_LIST, SLICE_EMPTY, &bob).error,
                     API_PERMISSION_DENIED);
    assert_int_equal(change(h, INTERNAL_AUTH_DISABLE, NULL, NULL).error, API_OK);
    (void)harness_put(h, &put, &error);
    assert_int_equal(error, API_OK);
}

/* An alarm refuses first, but it opens nothing. */
static void test_machine_auth_holds_while_an_alarm_is_active(void **state)
{
    struct harness *h = *state;
    enable(h);
    (void)harness_apply(h, INTERNAL_ALARM, SLICE("\x08\x01\x10\x01\x18\x01"));
    assert_int_equal(put_as(h, "bob", "l"), API_NO_SPACE);
    const struct kv_delete del = {.key = SLICE("l")};
    enum api_error error;
    (void)harness_delete(h, &del, &error);
    assert_int_equal(error, API_USER_EMPTY);
    struct slice user = text_field(&h->arena, SLICE_EMPTY, 1, SLICE("eve"));
    assert_int_equal(harness_apply(h, INTERNAL_AUTH_USER_ADD, user).error, API_USER_EMPTY);
}

static void test_machine_auth_is_there_after_a_restart(void **state)
{
    struct harness *h = *state;
    enable(h);
    harness_reopen(h);
    struct auth_view *view = machine_auth(h->machine);
    assert_true(auth_is_enabled(view));
    assert_int_equal(auth_revision(view), 7);
    assert_int_equal(machine_auth_revision(h->machine), 7);
    auth_view_unref(view);
    assert_int_equal(put_as(h, "bob", "k"), API_OK);
    assert_int_equal(put_as(h, "bob", "l"), API_PERMISSION_DENIED);
}

/* etcds up to 3.4 log passwords as they are; members hash them alike. */
static void test_machine_auth_hashes_a_plain_password(void **state)
{
    struct harness *h = *state;
    char passwords[2][BCRYPT_HASH_BYTES];
    for (int round = 0; round < 2; round++) {
        struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, SLICE("bob"));
        body = text_field(&h->arena, body, 2, SLICE("old way"));
        assert_int_equal(harness_apply(h, INTERNAL_AUTH_USER_ADD, body).error, API_OK);
        struct auth_view *view = machine_auth(h->machine);
        struct slice password = auth_find_user(view, SLICE("bob"))->password;
        assert_int_equal(password.len, BCRYPT_HASH_BYTES);
        memcpy(passwords[round], password.data, password.len);
        assert_int_equal(bcrypt_compare(SLICE("old way"), password), ST_OK);
        auth_view_unref(view);
        harness_deinit(h);
        harness_init(h);
    }
    assert_memory_equal(passwords[0], passwords[1], BCRYPT_HASH_BYTES);
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, SLICE("nul"));
    body = text_field(&h->arena, body, 2, SLICE("a\0b"));
    assert_int_equal(harness_apply(h, INTERNAL_AUTH_USER_ADD, body).error, API_OK);
    struct auth_view *view = machine_auth(h->machine);
    assert_int_equal(auth_find_user(view, SLICE("nul"))->password.len, 0);
    auth_view_unref(view);
}

/* As etcd does when it starts on a store in which nothing was ever changed. */
static void test_machine_auth_notes_the_first_revision(void **state)
{
    struct harness *h = *state;
    struct slice value;
    assert_int_equal(store_get(h->store, BUCKET_AUTH, SLICE("authRevision"), &h->arena, &value),
                     ST_OK);
    assert_true(slice_eq(value, SLICE("\0\0\0\0\0\0\0\x01")));
}

static void test_machine_auth_refuses_a_damaged_record(void **state)
{
    struct harness *h = *state;
    assert_int_equal(store_note(h->store, BUCKET_AUTH_USERS, SLICE("bob"), SLICE("\x0a\x09")),
                     ST_OK);
    assert_int_equal(machine_reload(h->machine, (struct raft_log_id){.index = 1, .term = 1}),
                     ST_CORRUPT);
    assert_non_null(strstr(machine_problem(h->machine), "user or role"));
}

/* No store could hold it; the proposer is asked before. */
static void test_machine_auth_stops_at_a_name_that_is_too_long(void **state)
{
    struct harness *h = *state;
    static char name[AUTH_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name) - 1);
    name[AUTH_NAME_BYTES_MAX] = '\0';
    assert_int_equal(change(h, INTERNAL_AUTH_ROLE_ADD, name, NULL).error, API_OK);
    name[AUTH_NAME_BYTES_MAX] = 'n';
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, slice_from_str(name));
    struct raft_entry entry = {.term = 2,
                               .index = h->index + 1,
                               .payload =
                                   internal_request_payload(INTERNAL_AUTH_ROLE_ADD, body, 9)};
    struct machine_result result;
    assert_int_equal(machine_apply(h->machine, &entry, &h->arena, &result), ST_UNSUPPORTED);
    raft_payload_unref(entry.payload);
}

/* ---- tokens ---- */

static void learn(void *context, struct slice user, struct slice token)
{
    assert_int_equal(buf_printf(context, "learn %.*s %.*s;", (int)user.len, (const char *)user.data,
                                (int)token.len, (const char *)token.data),
                     ST_OK);
}

static void forget_user(void *context, struct slice user)
{
    assert_int_equal(buf_printf(context, "forget %.*s;", (int)user.len, (const char *)user.data),
                     ST_OK);
}

static void forget_all(void *context)
{
    assert_int_equal(buf_printf(context, "forget all;"), ST_OK);
}

static enum api_error authenticate(struct harness *h, const char *name, const char *token)
{
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, slice_from_str(name));
    if (token[0] != '\0')
        body = text_field(&h->arena, body, 3, slice_from_str(token));
    return harness_apply(h, INTERNAL_AUTHENTICATE, body).error;
}

static void test_machine_auth_tells_of_tokens(void **state)
{
    struct harness *h = *state;
    struct buf told;
    buf_init(&told, 4096);
    const struct auth_token_sink sink = {
        .context = &told, .learn = learn, .forget_user = forget_user, .forget_all = forget_all};
    machine_set_token_sink(h->machine, &sink);
    assert_int_equal(authenticate(h, "bob", "early"), API_AUTH_NOT_ENABLED);
    enable(h); /* up to entry 8 */
    assert_int_equal(authenticate(h, "bob", "abc"), API_OK);
    assert_int_equal(authenticate(h, "bob", ""), API_OK); /* a signed one */
    assert_int_equal(authenticate(h, "eve", "abc"), API_AUTH_FAILED);
    struct slice body = text_field(&h->arena, SLICE_EMPTY, 1, SLICE("np"));
    body = text_field(&h->arena, body, 3, SLICE("\x08\x01"));
    assert_int_equal(harness_apply_as(h, INTERNAL_AUTH_USER_ADD, body, &root_caller).error, API_OK);
    assert_int_equal(authenticate(h, "np", "abc"), API_AUTH_FAILED);
    assert_int_equal(change(h, INTERNAL_AUTH_USER_CHANGE_PASSWORD, "bob", NULL).error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_USER_CHANGE_PASSWORD, "eve", NULL).error,
                     API_USER_NOT_FOUND);
    assert_int_equal(change(h, INTERNAL_AUTH_USER_DELETE, "bob", NULL).error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_DISABLE, NULL, NULL).error, API_OK);
    assert_int_equal(change(h, INTERNAL_AUTH_DISABLE, NULL, NULL).error, API_OK);
    assert_int_equal(machine_reload(h->machine, (struct raft_log_id){.index = h->index, .term = 2}),
                     ST_OK);
    assert_true(slice_eq(buf_slice(&told),
                         SLICE("learn bob abc.8;forget bob;forget bob;forget all;forget all;")));
    buf_deinit(&told);
}

/* 3.4 counts a token's index otherwise; members of both kinds may be called with it. */
static void test_machine_auth_knows_tokens_of_an_old_cluster(void **state)
{
    struct harness *h = *state;
    struct buf told;
    buf_init(&told, 4096);
    const struct auth_token_sink sink = {.context = &told, .learn = learn};
    machine_set_token_sink(h->machine, &sink);
    enable(h); /* up to entry 7 */
    (void)harness_apply(h, INTERNAL_CLUSTER_VERSION_SET,
                        SLICE("\x0a\x05"
                              "3.4.0"));
    assert_int_equal(authenticate(h, "bob", "abc"), API_OK);
    (void)harness_apply(h, INTERNAL_CLUSTER_VERSION_SET,
                        SLICE("\x0a\x05"
                              "3.5.0"));
    assert_int_equal(authenticate(h, "bob", "def"), API_OK);
    assert_true(
        slice_eq(buf_slice(&told), SLICE("learn bob abc.8;learn bob abc.9;learn bob def.10;")));
    buf_deinit(&told);
}

/* Of a snapshot: what other threads see changes as a whole. */
static void test_machine_auth_reloads(void **state)
{
    struct harness *h = *state;
    enable(h);
    assert_int_equal(store_note(h->store, BUCKET_AUTH, SLICE("authEnabled"), SLICE("\0")), ST_OK);
    assert_int_equal(store_delete(h->store, BUCKET_AUTH_USERS, SLICE("bob")), ST_OK);
    assert_int_equal(
        store_note(h->store, BUCKET_AUTH, SLICE("authRevision"), SLICE("\0\0\0\0\0\0\0\x09")),
        ST_OK);
    assert_int_equal(machine_reload(h->machine, (struct raft_log_id){.index = h->index, .term = 2}),
                     ST_OK);
    assert_false(machine_auth_enabled(h->machine));
    assert_int_equal(machine_auth_revision(h->machine), 9);
    struct auth_view *view = machine_auth(h->machine);
    assert_false(auth_is_enabled(view));
    assert_null(auth_find_user(view, SLICE("bob")));
    assert_non_null(auth_find_user(view, SLICE("root")));
    auth_view_unref(view);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_machine_auth_does_what_etcd_did),
        TEST(test_machine_auth_sorts_permissions_as_etcd_did),
        TEST(test_machine_auth_permits_the_ranges_that_etcd_did),
        TEST(test_machine_auth_shows_each_change_as_a_view_of_its_own),
        TEST(test_machine_auth_asks_at_apply),
        TEST(test_machine_auth_holds_while_an_alarm_is_active),
        TEST(test_machine_auth_is_there_after_a_restart),
        TEST(test_machine_auth_hashes_a_plain_password),
        TEST(test_machine_auth_notes_the_first_revision),
        TEST(test_machine_auth_refuses_a_damaged_record),
        TEST(test_machine_auth_stops_at_a_name_that_is_too_long),
        TEST(test_machine_auth_tells_of_tokens),
        TEST(test_machine_auth_knows_tokens_of_an_old_cluster),
        TEST(test_machine_auth_reloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
