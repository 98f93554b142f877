/* The members of an etcd's directory: where its snapshot of the v2 store and its log leave no gap,
 * theirs; else the db's, with what is known beside. */
#include "base/bytes.h"
#include "server/state/conf_state.h"
#include "server/state/machine.h"
#include "tests/dbfile/db_fixture.h"
#include "tests/utl/etcd_log.h"
#include "tools/utl/source.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MARK 105U
#define FIRST 101U /* of the log's entries */

/* The v2 store: a (voter), b (learner), and e, who was removed. */
static const char v2_store[] =
    "{\"Root\":{\"Children\":{\"0\":{\"Children\":{\"members\":{\"Children\":{"
    "\"a\":{\"Children\":{\"attributes\":{\"Value\":\"{\\\"name\\\":\\\"anna\\\","
    "\\\"clientURLs\\\":[\\\"http://a:2\\\"]}\",\"Children\":null},"
    "\"raftAttributes\":{\"Value\":\"{\\\"peerURLs\\\":[\\\"http://a:1\\\"]}\"}}},"
    "\"b\":{\"Children\":{\"raftAttributes\":{\"Value\":\"{\\\"peerURLs\\\":[\\\"http://b:1\\\"],"
    "\\\"isLearner\\\":true}\"}}}}},\"removed_members\":{\"Children\":{\"e\":{\"Value\":\"\"}}}}}}}"
    "}";

static char top[] = "/tmp/cleat-members-XXXXXX";

struct fixture {
    struct etcd_log log;
    struct utl_source *source;
    struct buf why;
};

static void put_file(const char *name, struct slice bytes)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/member/%s", top, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.data, bytes.len), (ssize_t)bytes.len);
    close(fd);
}

/* etcd's v2 Request {Method = 2, Path = 3, Val = 4}. */
static void put_publish(struct etcd_log *log, uint64_t index, const char *path, const char *value)
{
    struct buf bytes;
    buf_init(&bytes, 4096);
    assert_int_equal(buf_printf(&bytes, "\x12\x03PUT\x1a%c%s\x22%c%s", (int)strlen(path), path,
                                (int)strlen(value), value),
                     ST_OK);
    etcd_log_entry(log, 2, index, buf_slice(&bytes));
    buf_deinit(&bytes);
}

static void put_change(struct etcd_log *log, uint64_t index, uint64_t type, raft_id id,
                       const char *context)
{
    const struct member_change change = {
        .type = type, .node_id = id, .context = slice_from_str(context)};
    struct raft_payload *payload = member_change_payload(&change);
    assert_non_null(payload);
    etcd_log_change(log, 2, index, raft_payload_slice(payload));
    raft_payload_unref(payload);
}

/* b is promoted, publishes itself and changes its URL; f is added and removed again. */
static void put_log(struct etcd_log *log)
{
    etcd_log_begin(log);
    etcd_log_metadata(log, 0xa, 9);
    etcd_log_snapshot(log, 100, 2);
    put_publish(log, 101, "/0/members/b/attributes",
                "{\"name\":\"bert\",\"clientURLs\":[\"http://b:2\"]}");
    put_change(log, 102, MEMBER_CHANGE_ADD_NODE, 0xb, "{\"id\":11,\"isPromote\":true}");
    put_change(log, 103, MEMBER_CHANGE_UPDATE_NODE, 0xb,
               "{\"id\":11,\"peerURLs\":[\"http://b:3\"]}");
    put_change(log, 104, MEMBER_CHANGE_ADD_NODE, 0xf, "{\"id\":15,\"peerURLs\":[\"http://f:1\"]}");
    put_change(log, 105, MEMBER_CHANGE_REMOVE_NODE, 0xf, "");
    etcd_log_state(log, 2, 0xa, MARK);
}

/* Its bucket of members lacks names and URLs, and has kept d, who belongs to it no more. */
static void put_db(void)
{
    struct db_model model = {0};
    struct buf file;
    uint8_t index[8];
    put_be64(index, MARK);
    buf_init(&file, 1 << 20);
    db_model_add(&model, BUCKET_META, SLICE("consistent_index"), slice_make(index, sizeof(index)));
    db_model_add(&model, BUCKET_MEMBERS, SLICE("a"),
                 SLICE("{\"id\":10,\"peerURLs\":[\"http://a:1\"]}"));
    db_model_add(&model, BUCKET_MEMBERS, SLICE("b"),
                 SLICE("{\"id\":11,\"peerURLs\":[\"http://b:1\"],\"isLearner\":true}"));
    db_model_add(&model, BUCKET_MEMBERS, SLICE("d"),
                 SLICE("{\"id\":13,\"peerURLs\":[\"http://d:1\"],\"name\":\"dora\"}"));
    struct dbfile_source source = db_model_source(&model);
    db_write(&source, 4096, &file);
    put_file("snap/db", buf_slice(&file));
    buf_deinit(&file);
    db_model_deinit(&model);
}

/* snap_index 0: there is no .snap. */
static void setup(struct fixture *f, raft_index snap_index)
{
    char path[256];
    static const char *const folders[] = {"", "/member", "/member/wal", "/member/snap"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s%s", top, folders[i]);
        mkdir(path, 0700);
    }
    etcd_log_init(&f->log);
    buf_init(&f->why, 4096);
    put_db();
    put_log(&f->log);
    put_file("wal/0000000000000000-0000000000000065.wal", buf_slice(&f->log.file));
    if (snap_index > 0) {
        struct buf file;
        buf_init(&file, 1 << 20);
        etcd_snap_file(slice_from_str(v2_store), snap_index, 2, &file);
        snprintf(path, sizeof(path), "snap/0000000000000002-%016x.snap", (unsigned)snap_index);
        put_file(path, buf_slice(&file));
        buf_deinit(&file);
    }
    const struct utl_source_options options = {.path = top};
    if (utl_source_open(&options, &f->why, &f->source) != ST_OK)
        fail_msg("%.*s", (int)f->why.len, (const char *)f->why.data);
    if (snap_index > 0) {
        snprintf(path, sizeof(path), "%s/member/snap/0000000000000002-%016x.snap", top,
                 (unsigned)snap_index);
        assert_int_equal(unlink(path), 0);
    }
}

static void teardown(struct fixture *f)
{
    utl_source_close(f->source);
    etcd_log_deinit(&f->log);
    buf_deinit(&f->why);
}

static void expect_member(const struct members *members, raft_id id, const char *name,
                          const char *peer_url, const char *client_url, bool is_learner)
{
    const struct member_row *row = members_find(members, id);
    assert_non_null(row);
    assert_true(slice_eq(row->name, slice_from_str(name)));
    assert_true(slice_eq(row->peer_urls[0], slice_from_str(peer_url)));
    assert_int_equal(row->client_urls_count, client_url != NULL);
    if (client_url != NULL)
        assert_true(slice_eq(row->client_urls[0], slice_from_str(client_url)));
    assert_int_equal(row->is_learner, is_learner);
}

static void test_source_members_are_those_of_the_v2_store(void **state)
{
    (void)state;
    struct fixture f;
    struct raft_conf_state conf;
    setup(&f, FIRST - 1);
    struct members *members = machine_members(f.source->machine);
    assert_int_equal(members_count(members), 2);
    expect_member(members, 0xa, "anna", "http://a:1", "http://a:2", false);
    expect_member(members, 0xb, "bert", "http://b:3", "http://b:2", false);
    assert_true(machine_is_removed(f.source->machine, 0xe));
    assert_true(machine_is_removed(f.source->machine, 0xf));
    assert_false(machine_is_removed(f.source->machine, 0xd));
    assert_int_equal(conf_state_decode(f.source->mark.conf_state, &conf), ST_OK);
    assert_int_equal(conf.voters_count, 2);
    assert_int_equal(f.source->applied, MARK);
    members_unref(members);
    teardown(&f);
}

static void test_source_members_are_the_dbs_when_there_is_a_gap(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, FIRST - 11);
    struct members *members = machine_members(f.source->machine);
    assert_int_equal(members_count(members), 3);
    expect_member(members, 0xa, "anna", "http://a:1", "http://a:2", false);
    expect_member(members, 0xb, "bert", "http://b:1", "http://b:2", true);
    expect_member(members, 0xd, "dora", "http://d:1", NULL, false);
    assert_true(machine_is_removed(f.source->machine, 0xe));
    members_unref(members);
    teardown(&f);
    setup(&f, 0);
    members = machine_members(f.source->machine);
    assert_int_equal(members_count(members), 3);
    expect_member(members, 0xa, "", "http://a:1", NULL, false);
    expect_member(members, 0xb, "bert", "http://b:1", "http://b:2", true);
    members_unref(members);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_members_are_those_of_the_v2_store),
        cmocka_unit_test(test_source_members_are_the_dbs_when_there_is_a_gap),
    };
    if (mkdtemp(top) == NULL)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {
        "/member/snap/db", "/member/wal/0000000000000000-0000000000000065.wal",
        "/member/snap",    "/member/wal",
        "/member",         ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s%s", top, names[i]);
        remove(path);
    }
    return failed;
}
