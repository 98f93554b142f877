/* What does not make sense in a state is found, by the check that it belongs to. */
#include "tools/utl/soundness.h"

#include "base/bytes.h"
#include "storage/mvcc.h"
#include "storage/revision.h"
#include "tests/dbfile/db_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/cleat-soundness-XXXXXX";

struct put {
    const char *key;
    int64_t main, sub, create, version, lease; /* version 0: a deletion */
};

static void add_put(struct db_model *model, const struct put *put)
{
    uint8_t key[TOMBSTONE_KEY_BYTES], record[256];
    struct mvcc_kv kv = {.key = slice_from_str(put->key)};
    if (put->version > 0)
        kv = (struct mvcc_kv){.key = slice_from_str(put->key),
                              .value = SLICE("value"),
                              .create_revision = put->create,
                              .mod_revision = put->main,
                              .version = put->version,
                              .lease = put->lease};
    size_t key_bytes =
        revision_key_encode((struct revision){put->main, put->sub}, put->version == 0, key);
    mvcc_kv_encode(&kv, record);
    db_model_add(model, BUCKET_KEY, slice_make(key, key_bytes),
                 slice_make(record, mvcc_kv_encoded_size(&kv)));
}

static void add_small(struct db_model *model)
{
    static const uint8_t id[8] = {0, 0, 0, 0, 0, 0, 0, 5}, one = 1;
    db_model_add(model, BUCKET_AUTH, SLICE("authEnabled"), slice_make(&one, 1));
    db_model_add(model, BUCKET_AUTH_ROLES, SLICE("root"), SLICE("\x0a\x04root"));
    db_model_add(model, BUCKET_AUTH_USERS, SLICE("root"), SLICE("\x0a\x04root\x1a\x04root"));
    db_model_add(model, BUCKET_LEASE, slice_make(id, 8), SLICE("\x08\x05\x10\x64"));
    db_model_add(model, BUCKET_MEMBERS, SLICE("7"),
                 SLICE("{\"id\":7,\"peerURLs\":[\"http://a:1\"]}"));
}

/* Writes the model, looks at it, and gives the name of the first check with faults; NULL: none. */
static const char *look(struct db_model *model, uint64_t *faults_out)
{
    static struct utl_report report;
    struct utl_source *source;
    struct buf file, why;
    buf_init(&file, 1 << 20);
    buf_init(&why, 4096);
    struct dbfile_source writer = db_model_source(model);
    db_write(&writer, 4096, &file);
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, file.data, file.len), (ssize_t)file.len);
    close(fd);
    const struct utl_source_options options = {.path = path, .without_index = true};
    if (utl_source_open(&options, &why, &source) != ST_OK)
        fail_msg("%.*s", (int)why.len, (const char *)why.data);
    memset(&report, 0, sizeof(report));
    assert_int_equal(utl_check_state(source, &report), ST_OK);
    utl_source_close(source);
    buf_deinit(&file);
    buf_deinit(&why);
    db_model_deinit(model);
    *faults_out = utl_report_faults(&report);
    const char *found = NULL;
    for (uint32_t i = 0; i < report.count; i++) {
        if (report.checks[i].faults == 0)
            continue;
        assert_true(strlen(report.checks[i].first) > 10);
        found = found == NULL ? report.checks[i].name : found;
    }
    return found;
}

static void expect(const struct put *puts, size_t count, int64_t compacted, const char *check)
{
    struct db_model model = {0};
    uint64_t faults;
    uint8_t revision[TOMBSTONE_KEY_BYTES];
    for (size_t i = 0; i < count; i++)
        add_put(&model, &puts[i]);
    add_small(&model);
    if (compacted > 0) {
        size_t len = revision_key_encode((struct revision){compacted, 0}, false, revision);
        db_model_add(&model, BUCKET_META, SLICE("finishedCompactRev"), slice_make(revision, len));
    }
    const char *found = look(&model, &faults);
    if (check == NULL)
        assert_int_equal(faults, 0);
    else
        assert_string_equal(found == NULL ? "nothing" : found, check);
}

#define EXPECT(check, compacted, ...)                                   \
    do {                                                                \
        const struct put puts[] = {__VA_ARGS__};                        \
        expect(puts, sizeof(puts) / sizeof(puts[0]), compacted, check); \
    } while (0)

static void test_soundness_finds_nothing_in_what_is_sound(void **state)
{
    (void)state;
    EXPECT(NULL, 0, {"a", 2, 0, 2, 1, 0}, {"a", 3, 0, 2, 2, 5}, {"b", 3, 1, 3, 1, 0},
           {"a", 4, 0, 0, 0, 0}, {"a", 5, 0, 5, 1, 5});
    /* Compacted: what is left of a begins anywhere, a deletion at the revision itself may stay. */
    EXPECT(NULL, 9, {"a", 7, 0, 3, 4, 0}, {"b", 9, 0, 0, 0, 0}, {"a", 10, 0, 3, 5, 0});
    EXPECT(NULL, 9, {"a", 10, 0, 3, 5, 0}, {"c", 11, 0, 11, 1, 0});
}

static void test_soundness_finds_what_is_missing_in_a_history(void **state)
{
    (void)state;
    EXPECT("records", 0, {"a", 2, 0, 2, 1, 0}, {"b", 4, 0, 4, 1, 0});
    EXPECT("records", 0, {"a", 2, 0, 2, 1, 0}, {"b", 3, 1, 3, 1, 0});
    EXPECT("histories of keys", 0, {"a", 2, 0, 2, 1, 0}, {"a", 3, 0, 2, 3, 0});
    EXPECT("histories of keys", 0, {"a", 2, 0, 2, 1, 0}, {"a", 3, 0, 3, 1, 0});
    EXPECT("histories of keys", 0, {"a", 2, 0, 2, 1, 0}, {"b", 3, 0, 0, 0, 0});
    EXPECT("histories of keys", 0, {"a", 2, 0, 2, 1, 0}, {"b", 3, 0, 2, 2, 0});
    EXPECT("histories of keys", 9, {"a", 10, 0, 3, 5, 0}, {"a", 11, 0, 3, 5, 0});
    EXPECT("leases", 0, {"a", 2, 0, 2, 1, 6});
}

static void test_soundness_finds_what_refers_to_nothing(void **state)
{
    (void)state;
    static const struct {
        enum bucket bucket;
        struct slice key, value;
        const char *check;
    } faults[] = {
        {BUCKET_AUTH_USERS,
         {(const uint8_t *)"u", 1},
         {(const uint8_t *)"\x0a\x01u\x1a\x01r", 6},
         "auth"},
        {BUCKET_AUTH_USERS, {(const uint8_t *)"u", 1}, {(const uint8_t *)"\x0a\x01v", 3}, "auth"},
        {BUCKET_AUTH_USERS, {(const uint8_t *)"u", 1}, {(const uint8_t *)"\x0a\x09v", 3}, "auth"},
        {BUCKET_AUTH_ROLES,
         {(const uint8_t *)"z", 1},
         {(const uint8_t *)"\x0a\x01z\x12\x03\x0f\x0f\x0f", 8},
         "auth"},
        {BUCKET_LEASE,
         {(const uint8_t *)"\1\1\1\1\1\1\1\1", 8},
         {(const uint8_t *)"\x08\x05", 2},
         "leases"},
        {BUCKET_MEMBERS, {(const uint8_t *)"8", 1}, {(const uint8_t *)"{\"id\":9}", 8}, "members"},
        {BUCKET_MEMBERS, {(const uint8_t *)"8", 1}, {(const uint8_t *)"{\"id\"", 5}, "members"},
        {BUCKET_META,
         {(const uint8_t *)"scheduledCompactRev", 19},
         {(const uint8_t *)"x", 1},
         "meta"},
    };
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct db_model model = {0};
        uint64_t count;
        add_put(&model, &(struct put){"a", 2, 0, 2, 1, 0});
        add_small(&model);
        db_model_add(&model, faults[i].bucket, faults[i].key, faults[i].value);
        const char *found = look(&model, &count);
        assert_string_equal(found == NULL ? "nothing" : found, faults[i].check);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soundness_finds_nothing_in_what_is_sound),
        cmocka_unit_test(test_soundness_finds_what_is_missing_in_a_history),
        cmocka_unit_test(test_soundness_finds_what_refers_to_nothing),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
