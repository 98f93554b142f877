/* Users and roles as entries change them, and who may what when an entry is applied. The first test
 * replays what a real etcd had in its log and compares every answer and, byte for byte, what is
 * stored in the end; the others pin the rules one by one. */
#include "base/base64.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "server/state/auth.h"
#include "server/state/wire.h"
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

static void test_machine_auth_does_what_etcd_did(void **state)
{
    struct harness *h = *state;
    FILE *file = fopen(GOLDEN_FILE, "r");
    assert_non_null(file);
    char line[1024];
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
    assert_true(entries > 300);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_machine_auth_does_what_etcd_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
