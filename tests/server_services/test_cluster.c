/* The methods that change and look after a cluster. */
#include "base/buf.h"
#include "server/metrics/metrics.h"
#include "server/state/conf_state.h"
#include "tests/server_services/fixture.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ADD "/etcdserverpb.Cluster/MemberAdd"
#define REMOVE "/etcdserverpb.Cluster/MemberRemove"
#define UPDATE "/etcdserverpb.Cluster/MemberUpdate"
#define PROMOTE "/etcdserverpb.Cluster/MemberPromote"
#define LIST "/etcdserverpb.Cluster/MemberList"
#define ALARM "/etcdserverpb.Maintenance/Alarm"
#define STATUS "/etcdserverpb.Maintenance/Status"
#define HASHKV "/etcdserverpb.Maintenance/HashKV"
#define MOVE "/etcdserverpb.Maintenance/MoveLeader"
#define DOWNGRADE "/etcdserverpb.Maintenance/Downgrade"
#define RANGE "/etcdserverpb.KV/Range"

static struct slice pack(struct fixture *f, const ProtobufCMessage *message)
{
    uint8_t *bytes = arena_alloc(&f->harness.arena, protobuf_c_message_get_packed_size(message));
    return slice_make(bytes, protobuf_c_message_pack(message, bytes));
}

/* Puts a member into the table: started when it has a name. */
static void have_member(struct fixture *f, raft_id id, const char *name, bool learner)
{
    char json[256];
    snprintf(json, sizeof(json),
             "{\"id\":%" PRIu64 ",\"peerURLs\":[\"http://h%" PRIu64 ":1\"]%s,\"name\":\"%s\"}", id,
             id, learner ? ",\"isLearner\":true" : "", name);
    const struct member_change change = {.type = learner ? MEMBER_CHANGE_ADD_LEARNER
                                                         : MEMBER_CHANGE_ADD_NODE,
                                         .node_id = id,
                                         .context = slice_from_str(json)};
    struct conf_proposal proposal = {.payload = member_change_payload(&change)};
    struct raft_entry entry = {.term = f->harness.term,
                               .index = ++f->harness.index,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .payload = proposal.payload};
    const struct raft_conf_state conf_state = {.voters = {id}, .voters_count = 1};
    assert_int_equal(machine_end_conf_change(f->harness.machine, &entry, &conf_state), ST_OK);
    raft_payload_unref(entry.payload);
}

static struct fake_call *add(struct fixture *f, const char *url, bool learner)
{
    Etcdserverpb__MemberAddRequest request = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    char *urls[] = {(char *)(uintptr_t)url};
    request.peerurls = urls;
    request.n_peerurls = url == NULL ? 0 : 1;
    request.islearner = learner;
    return call(f, ADD, pack(f, &request.base));
}

static struct fake_call *update(struct fixture *f, raft_id id, const char *url)
{
    Etcdserverpb__MemberUpdateRequest request = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    char *urls[] = {(char *)(uintptr_t)url};
    request.id = id;
    request.peerurls = urls;
    request.n_peerurls = 1;
    return call(f, UPDATE, pack(f, &request.base));
}

static struct fake_call *by_id(struct fixture *f, const char *path, raft_id id)
{
    Etcdserverpb__MemberRemoveRequest request = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    request.id = id;
    return call(f, path, pack(f, &request.base));
}

static struct member_row row_of(struct fixture *f, raft_id id, bool *found_out)
{
    struct members *members = machine_members(f->harness.machine);
    const struct member_row *row = members_find(members, id);
    struct member_row copy = row == NULL ? (struct member_row){0} : *row;
    *found_out = row != NULL;
    members_unref(members);
    return copy;
}

/* ---- members ---- */

static void test_member_add_answers_with_member_and_members(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    assert_true(add(f, " HTTP://10.0.0.8:2379", false)->later);
    const Etcdserverpb__MemberAddResponse *response =
        decode(f, &etcdserverpb__member_add_response__descriptor);
    assert_int_equal(response->header->revision, 0);
    assert_int_equal(response->header->cluster_id, HARNESS_CLUSTER_ID);
    assert_int_equal(response->n_members, 2);
    assert_string_equal(response->member->peerurls[0], "http://10.0.0.8:2379");
    assert_string_equal(response->member->name, "");
    struct slice url = SLICE("http://10.0.0.8:2379");
    raft_id wanted; /* the clock of this test says 1000 s */
    assert_int_equal(member_id_compute(&url, 1, SLICE("1000"), &wanted), ST_OK);
    assert_int_equal(response->member->id, wanted);
    assert_int_equal(f->loops.changes, 1);
    assert_error(add(f, "http://10.0.0.8:2379", false), API_MEMBER_EXISTS); /* the same second */
    add(f, "http://l:1", true);
    response = decode(f, &etcdserverpb__member_add_response__descriptor);
    assert_true(response->member->islearner);
    assert_error(add(f, "http://m:1", true), API_TOO_MANY_LEARNERS);
}

static void test_member_urls_are_checked_before_they_are_proposed(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    assert_error(add(f, NULL, false), API_BAD_MEMBER_URLS);
    assert_error(add(f, "garbage", false), API_BAD_MEMBER_URLS);
    assert_error(add(f, "http://a:1/", true), API_BAD_MEMBER_URLS);
    assert_error(update(f, 1, "garbage"), API_BAD_MEMBER_URLS);
    assert_error(call(f, UPDATE, SLICE("\x08\x01")), API_BAD_MEMBER_URLS);
    assert_error(call(f, ADD, SLICE("\x0a")), API_UNDECODABLE);
    assert_error(call(f, REMOVE, SLICE("\x0a\x01x")), API_UNDECODABLE);
    char many[(MEMBER_URLS_MAX + 1) * 12 + 1];
    size_t len = 0;
    for (uint32_t i = 0; i <= MEMBER_URLS_MAX; i++)
        len += (size_t)snprintf(many + len, sizeof(many) - len, "\x0a\x0ahttp://a:1");
    assert_error(call(f, ADD, slice_make(many, len)), API_BAD_MEMBER_URLS);
    assert_int_equal(f->loops.changes, 0);
}

static void test_member_remove_and_update(void **state)
{
    struct fixture *f = *state;
    bool found;
    have_member(f, 1, "a", false);
    have_member(f, 2, "b", false);
    have_member(f, 3, "c", true);
    update(f, 3, "http://x:1");
    const Etcdserverpb__MemberUpdateResponse *updated =
        decode(f, &etcdserverpb__member_update_response__descriptor);
    assert_int_equal(updated->n_members, 3);
    assert_string_equal(updated->members[2]->peerurls[0], "http://x:1");
    assert_true(updated->members[2]->islearner); /* an update takes nothing away */
    assert_string_equal(updated->members[2]->name, "c");
    assert_error(update(f, 2, "http://h1:1"), API_PEER_URL_EXISTS);
    assert_error(update(f, 9, "http://y:1"), API_MEMBER_NOT_FOUND);
    by_id(f, REMOVE, 2);
    const Etcdserverpb__MemberRemoveResponse *removed =
        decode(f, &etcdserverpb__member_remove_response__descriptor);
    assert_int_equal(removed->n_members, 2);
    assert_int_equal(removed->header->revision, 0);
    (void)row_of(f, 2, &found);
    assert_false(found);
    assert_error(by_id(f, REMOVE, 2), API_MEMBER_NOT_FOUND);
}

static void test_strict_check_guards_the_quorum(void **state)
{
    struct fixture *f = *state;
    f->strict_reconfig = true;
    open_services(f, 0, 0);
    have_member(f, HARNESS_MEMBER_ID, "self", false);
    have_member(f, 1, "a", false);
    have_member(f, 2, "b", false);
    f->connections = "+-";
    assert_error(add(f, "http://n:1", false), API_UNHEALTHY);
    assert_error(add(f, "http://n:1", true), API_UNHEALTHY);
    assert_error(by_id(f, REMOVE, 1), API_UNHEALTHY);
    assert_int_equal(f->loops.changes, 0);
    assert_int_equal(by_id(f, REMOVE, 2)->code, RPC_OK); /* the one that is down */
    assert_int_equal(add(f, "http://n:1", false)->code, RPC_OK);
    f->connections = "++";
    assert_error(add(f, "http://o:1", false), API_NOT_ENOUGH_STARTED);
    assert_error(by_id(f, REMOVE, HARNESS_MEMBER_ID), API_NOT_ENOUGH_STARTED);
}

static void test_change_stops_with_the_member(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    f->health = ST_IO;
    assert_error(add(f, "http://n:1", false), API_STOPPED);
    assert_error(by_id(f, PROMOTE, 1), API_STOPPED);
    f->health = ST_NO_SPACE; /* a member may be replaced */
    assert_int_equal(add(f, "http://n:1", false)->code, RPC_OK);
}

/* ---- promotion ---- */

static void test_promote_waits_until_the_learner_follows(void **state)
{
    struct fixture *f = *state;
    bool found;
    f->strict_reconfig = true;
    open_services(f, 0, 0);
    have_member(f, 1, "a", false);
    have_member(f, 2, "b", true);
    f->loops.leader_match = 100;
    f->loops.match = 89;
    assert_error(by_id(f, PROMOTE, 2), API_LEARNER_NOT_READY);
    f->loops.match = 90;
    assert_error(by_id(f, PROMOTE, 9), API_MEMBER_NOT_FOUND);
    assert_int_equal(f->loops.changes, 0);
    assert_error(by_id(f, PROMOTE, 1), API_MEMBER_NOT_LEARNER); /* apply says so */
    by_id(f, PROMOTE, 2);
    const Etcdserverpb__MemberPromoteResponse *response =
        decode(f, &etcdserverpb__member_promote_response__descriptor);
    assert_int_equal(response->n_members, 2);
    assert_false(response->members[1]->islearner);
    assert_false(row_of(f, 2, &found).is_learner);
    have_member(f, 3, "", false);
    have_member(f, 4, "", false);
    have_member(f, 5, "", false);
    have_member(f, 6, "d", true);
    assert_error(by_id(f, PROMOTE, 6), API_NOT_ENOUGH_STARTED);
}

static void assert_metric(const char *line)
{
    struct buf text;
    buf_init(&text, UINT32_MAX);
    assert_int_equal(metrics_render(&text), ST_OK);
    assert_int_equal(buf_append(&text, slice_make("", 1)), ST_OK);
    if (strstr((const char *)buf_slice(&text).data, line) == NULL)
        fail_msg("no line '%s'", line);
    buf_deinit(&text);
}

static void test_promote_is_counted_by_the_leader(void **state)
{
    struct fixture *f = *state;
    metrics_reset();
    have_member(f, 1, "a", false);
    have_member(f, 2, "b", true);
    f->loops.is_follower = true;
    f->forward_error = API_LEARNER_NOT_READY;
    by_id(f, PROMOTE, 2); /* the leader's to count */
    f->loops.is_follower = false;
    f->loops.leader_match = 100;
    by_id(f, PROMOTE, 2);
    f->loops.match = 100;
    by_id(f, PROMOTE, 9);
    by_id(f, PROMOTE, 1);
    by_id(f, PROMOTE, 1);
    assert_metric("\netcd_server_learner_promote_successes 0\n");
    by_id(f, PROMOTE, 2);
    assert_metric("\netcd_server_learner_promote_successes 1\n");
#define FAILED "\netcd_server_learner_promote_failures{Reason="
    assert_metric(FAILED "\"etcdserver: can only promote a learner member which is in sync with "
                         "leader\"} 1\n");
    assert_metric(FAILED "\"membership: ID not found\"} 1\n");
    assert_metric(FAILED "\"membership: can only promote a learner member\"} 2\n");
    metrics_reset();
}

static void test_promote_goes_to_the_leader(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    f->loops.is_follower = true;
    f->forward_members = "[{\"id\":7,\"peerURLs\":[\"http://p:1\"],\"name\":\"n\"}]\n";
    by_id(f, PROMOTE, 7);
    const Etcdserverpb__MemberPromoteResponse *response =
        decode(f, &etcdserverpb__member_promote_response__descriptor);
    assert_int_equal(f->forwards, 1);
    assert_int_equal(response->n_members, 1); /* as the leader lists them */
    assert_int_equal(response->members[0]->id, 7);
    assert_int_equal(response->header->member_id, HARNESS_MEMBER_ID);
    f->forward_error = API_LEARNER_NOT_READY;
    assert_error(by_id(f, PROMOTE, 7), API_LEARNER_NOT_READY);
    f->forward_error = API_OK;
    f->forward_members = "no list";
    assert_error(by_id(f, PROMOTE, 7), API_LEADER_CHANGED);
    assert_int_equal(f->loops.changes, 0);
}

static void test_promotion_is_told_over_http_and_read_again(void **state)
{
    (void)state;
    static const struct {
        enum api_error error, read;
        uint32_t status;
    } cases[] = {{API_OK, API_OK, 200},
                 {API_MEMBER_NOT_FOUND, API_MEMBER_NOT_FOUND, 404},
                 {API_MEMBER_NOT_LEARNER, API_MEMBER_NOT_LEARNER, 412},
                 {API_LEARNER_NOT_READY, API_LEARNER_NOT_READY, 412},
                 {API_NOT_LEADER, API_LEADER_CHANGED, 500},
                 {API_TIMEOUT, API_LEADER_CHANGED, 500}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *text;
        assert_int_equal(promotion_http_status(cases[i].error, &text), cases[i].status);
        char body[256];
        snprintf(body, sizeof(body), "%s\n", text);
        assert_int_equal(promotion_error_of(cases[i].status, slice_from_str(body)), cases[i].read);
    }
    assert_int_equal(promotion_error_of(412, SLICE("cluster ID mismatch\n")), API_LEADER_CHANGED);
}

/* ---- what a learner and a client without a leader are told ---- */

static void test_learner_serves_little(void **state)
{
    struct fixture *f = *state;
    f->loops.is_learner = true;
    static const char *const refused[] = {ADD,
                                          LIST,
                                          ALARM,
                                          HASHKV,
                                          MOVE,
                                          "/etcdserverpb.KV/Put",
                                          PROMOTE,
                                          "/grpc.health.v1.Health/Check",
                                          "/etcdserverpb.Watch/Watch",
                                          RANGE};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_error(call(f, refused[i], SLICE("\x0a\x01k")), API_LEARNER_NOT_SUPPORTED);
    assert_int_equal(call(f, RANGE, SLICE("\x0a\x01k\x38\x01"))->code, RPC_OK);
    call(f, STATUS, SLICE_EMPTY);
    const Etcdserverpb__StatusResponse *status =
        decode(f, &etcdserverpb__status_response__descriptor);
    assert_true(status->islearner);
}

static void test_client_may_insist_on_a_leader(void **state)
{
    struct fixture *f = *state;
    f->loops.refuse = API_NO_LEADER; /* the fake has none then */
    assert_int_equal(call(f, LIST, SLICE_EMPTY)->code, RPC_OK);
    f->metadata = (struct rpc_metadata){SLICE("hasleader"), SLICE("true")};
    assert_error(call(f, LIST, SLICE_EMPTY), API_NO_LEADER);
    f->metadata.value = SLICE("false");
    assert_int_equal(call(f, LIST, SLICE_EMPTY)->code, RPC_OK);
    f->metadata.value = SLICE("true");
    f->loops.refuse = API_OK;
    assert_int_equal(call(f, LIST, SLICE_EMPTY)->code, RPC_OK);
}

/* ---- maintenance ---- */

static struct fake_call *alarm(struct fixture *f, int action, uint64_t member, int type)
{
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    request.action = (Etcdserverpb__AlarmRequest__AlarmAction)action;
    request.memberid = member;
    request.alarm = (Etcdserverpb__AlarmType)type;
    return call(f, ALARM, pack(f, &request.base));
}

static void test_alarm_is_proposed_and_shown(void **state)
{
    struct fixture *f = *state;
    alarm(f, 1, 10501334649042878790U, ALARM_NOSPACE);
    const Etcdserverpb__AlarmResponse *response =
        decode(f, &etcdserverpb__alarm_response__descriptor);
    assert_int_equal(response->n_alarms, 1);
    assert_int_equal(response->header->revision, 1);
    alarm(f, 1, 0, ALARM_CORRUPT);
    call(f, STATUS, SLICE_EMPTY);
    const Etcdserverpb__StatusResponse *status =
        decode(f, &etcdserverpb__status_response__descriptor);
    assert_int_equal(status->n_errors, 2);
    assert_string_equal(status->errors[0], "memberID:10501334649042878790 alarm:NOSPACE ");
    assert_string_equal(status->errors[1], "alarm:CORRUPT ");
    assert_error(call(f, "/etcdserverpb.KV/Put", SLICE("\x0a\x01k")), API_CORRUPT_CLUSTER);
    uint32_t before = f->loops.proposals;
    assert_error(alarm(f, 3, 1, ALARM_NOSPACE), API_UNDECODABLE);
    assert_error(alarm(f, 1, 1, 3), API_UNDECODABLE);
    assert_error(alarm(f, 1, 1, -1), API_UNDECODABLE);
    assert_int_equal(f->loops.proposals, before);
}

static void test_status_says_that_the_member_is_quarantined(void **state)
{
    struct fixture *f = *state;
    f->loops.is_quarantined = true;
    call(f, STATUS, SLICE_EMPTY);
    const Etcdserverpb__StatusResponse *status =
        decode(f, &etcdserverpb__status_response__descriptor);
    assert_int_equal(status->n_errors, 1);
    assert_non_null(strstr(status->errors[0], "this member is quarantined"));
}

static void test_alarms_are_limited(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < ALARMS_MAX; i++)
        assert_int_equal(alarm(f, 1, i, ALARM_NOSPACE)->code, RPC_OK);
    assert_error(alarm(f, 1, ALARMS_MAX, ALARM_NOSPACE), API_TOO_MANY_REQUESTS);
    assert_int_equal(alarm(f, 2, 5, ALARM_NOSPACE)->code, RPC_OK);
    assert_int_equal(alarm(f, 1, ALARMS_MAX, ALARM_NOSPACE)->code, RPC_OK);
}

static struct fake_call *hash_kv(struct fixture *f, int64_t revision)
{
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    request.revision = revision;
    return call(f, HASHKV, pack(f, &request.base));
}

static void test_hash_kv_is_of_a_revision(void **state)
{
    struct fixture *f = *state;
    harness_set(&f->harness, "k", "v");
    hash_kv(f, 0);
    const Etcdserverpb__HashKVResponse *now = decode(f, &etcdserverpb__hash_kvresponse__descriptor);
    assert_int_equal(now->header->revision, 2);
    assert_int_equal(now->compact_revision, -1);
    assert_int_equal(f->loops.whole_reads, 1);
    uint32_t hash = now->hash;
    harness_set(&f->harness, "k", "w");
    hash_kv(f, 2);
    now = decode(f, &etcdserverpb__hash_kvresponse__descriptor);
    assert_int_equal(now->hash, hash);
    assert_int_equal(now->header->revision, 3);
    assert_error(hash_kv(f, 4), API_FUTURE_REVISION);
    harness_compact(&f->harness, 3, NULL);
    assert_error(hash_kv(f, 2), API_COMPACTED);
    assert_error(call(f, HASHKV, SLICE("\x0a\x01x")), API_UNDECODABLE);
}

static struct fake_call *move_leader(struct fixture *f, raft_id id)
{
    Etcdserverpb__MoveLeaderRequest request = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    request.targetid = id;
    return call(f, MOVE, pack(f, &request.base));
}

static void test_move_leader_goes_to_voters_only(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    have_member(f, 2, "b", true);
    assert_error(move_leader(f, 9), API_BAD_LEADER_TRANSFEREE);
    assert_error(move_leader(f, 2), API_BAD_LEADER_TRANSFEREE);
    f->loops.is_follower = true;
    assert_error(move_leader(f, 9), API_NOT_LEADER); /* before the target is looked at */
    f->loops.is_follower = false;
    assert_int_equal(f->loops.transfers, 0);
    assert_int_equal(move_leader(f, 1)->code, RPC_OK);
    assert_int_equal(f->call.message.len, 0);
    assert_int_equal(f->loops.transferee, 1);
    assert_int_equal(f->loops.deadline_ns, 1007 * NS_PER_S);
    f->loops.refuse = API_TIMEOUT_LEADER_TRANSFER;
    assert_error(move_leader(f, 1), API_TIMEOUT_LEADER_TRANSFER);
}

static struct fake_call *downgrade(struct fixture *f, int action, const char *version)
{
    Etcdserverpb__DowngradeRequest request = ETCDSERVERPB__DOWNGRADE_REQUEST__INIT;
    request.action = (Etcdserverpb__DowngradeRequest__DowngradeAction)action;
    request.version = (char *)(uintptr_t)version;
    return call(f, DOWNGRADE, pack(f, &request.base));
}

static void test_downgrade_has_no_target(void **state)
{
    struct fixture *f = *state;
    assert_error(downgrade(f, 0, "x"), API_BAD_DOWNGRADE_FORMAT);
    assert_error(downgrade(f, 0, "3.4"), API_CLUSTER_VERSION_NOT_FOUND);
    struct raft_payload *payload = machine_version_payload(1, "3.5.0");
    harness_apply_data(&f->harness, raft_payload_slice(payload), NULL);
    raft_payload_unref(payload);
    assert_error(downgrade(f, 0, "3.4.0"), API_BAD_DOWNGRADE_TARGET);
    assert_error(downgrade(f, 1, "3.3"), API_BAD_DOWNGRADE_TARGET);
    assert_error(downgrade(f, 2, ""), API_NO_DOWNGRADE);
    assert_error(downgrade(f, 9, ""), API_UNKNOWN_METHOD);
    harness_apply_data(&f->harness,
                       SLICE("\xb2\x51\x09\x08\x01\x12\x05"
                             "3.4.0"),
                       NULL);
    assert_error(downgrade(f, 1, "3.4"), API_DOWNGRADE_IN_PROGRESS);
    assert_error(downgrade(f, 2, ""), API_NOT_CAPABLE);
}

/* ---- memory ---- */

/* Whatever a call may take, it is answered once; a change that is applied though its answer finds
 * no room is applied all the same. */
static void test_every_call_is_answered_in_any_arena(void **state)
{
    struct fixture *f = *state;
    have_member(f, 1, "a", false);
    f->loops.match = f->loops.leader_match = 1;
    for (size_t bytes = 1; bytes < 20000; bytes += 333) {
        f->arena_bytes = bytes;
        char url[64];
        snprintf(url, sizeof(url), "http://h%zu:1", bytes);
        add(f, url, false);
        update(f, 1, url);
        by_id(f, REMOVE, 77);
        by_id(f, PROMOTE, 1);
        alarm(f, 1, bytes, ALARM_NOSPACE);
        alarm(f, 0, 0, ALARM_NONE);
        hash_kv(f, 0);
        move_leader(f, 1);
        call(f, LIST, SLICE("\x08\x01"));
        call(f, STATUS, SLICE_EMPTY);
        struct members *members = machine_members(f->harness.machine);
        for (uint32_t i = members_count(members); i-- > 0;) {
            if (members_at(members, i)->id != 1 && members_count(members) > 20)
                by_id(f, REMOVE, members_at(members, i)->id);
        }
        members_unref(members);
    }
    f->arena_bytes = 0;
    assert_int_equal(call(f, LIST, SLICE_EMPTY)->code, RPC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_member_add_answers_with_member_and_members),
        FIXTURE_TEST(test_member_urls_are_checked_before_they_are_proposed),
        FIXTURE_TEST(test_member_remove_and_update),
        FIXTURE_TEST(test_strict_check_guards_the_quorum),
        FIXTURE_TEST(test_change_stops_with_the_member),
        FIXTURE_TEST(test_promote_waits_until_the_learner_follows),
        FIXTURE_TEST(test_promote_is_counted_by_the_leader),
        FIXTURE_TEST(test_promote_goes_to_the_leader),
        FIXTURE_TEST(test_promotion_is_told_over_http_and_read_again),
        FIXTURE_TEST(test_learner_serves_little),
        FIXTURE_TEST(test_client_may_insist_on_a_leader),
        FIXTURE_TEST(test_alarm_is_proposed_and_shown),
        FIXTURE_TEST(test_status_says_that_the_member_is_quarantined),
        FIXTURE_TEST(test_alarms_are_limited),
        FIXTURE_TEST(test_hash_kv_is_of_a_revision),
        FIXTURE_TEST(test_move_leader_goes_to_voters_only),
        FIXTURE_TEST(test_downgrade_has_no_target),
        FIXTURE_TEST(test_every_call_is_answered_in_any_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
