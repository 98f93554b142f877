#include "base/assert.h"
#include "base/list.h"
#include "base/minmax.h"
#include "server/state/conf_state.h"
#include "server/state/kv_request.h"
#include "storage/mvcc.h"
#include "tests/sim/cluster_private.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two above */
#include <cmocka.h>

#define DEADLINE_NS (7 * NS_PER_S)

static struct operation *operation_new(struct cluster *cluster, uint32_t member)
{
    struct operation *operation = calloc(1, sizeof(*operation));
    assert_non_null(operation);
    assert_true(cluster->members[member].running);
    operation->cluster = cluster;
    operation->member = member;
    operation->life = cluster->members[member].lives_count;
    operation->began_ns = cluster->now_ns;
    operation->deadline_ns = cluster_local_ns(&cluster->members[member]) + DEADLINE_NS;
    operation->next = cluster->operations;
    cluster->operations = operation;
    return operation;
}

void cluster_free_operations(struct cluster *cluster)
{
    for (struct operation *o = cluster->operations, *next; o != NULL; o = next) {
        next = o->next;
        assert_int_not_equal(o->state, OPERATION_OPEN); /* everyone was answered */
        free(o);
    }
}

static void end_operation(struct operation *operation, enum api_error error)
{
    assert_int_equal(operation->state, OPERATION_OPEN);
    operation->state = error == API_OK ? OPERATION_DONE : OPERATION_FAILED;
    operation->error = error;
    operation->ended_ns = operation->cluster->now_ns;
    const struct cluster_member *m = &operation->cluster->members[operation->member];
    assert_true(cluster_local_ns(m) <= operation->deadline_ns + NS_PER_S ||
                m->lives_count > operation->life || m->last_paused_ns > operation->began_ns);
    operation->cluster->failed += error != API_OK;
}

static void put_done(struct proposal *proposal, enum api_error error, struct slice response)
{
    (void)response;
    struct operation *operation = CONTAINER_OF(proposal, struct operation, put);
    end_operation(operation, error);
    operation->cluster->acknowledged += error == API_OK; /* else its fate is open */
}

#define KEY_BYTES 7U

static void write_key(uint8_t *out, uint64_t number)
{
    char text[16];
    snprintf(text, sizeof(text), "%07llu", (unsigned long long)number);
    memcpy(out, text, KEY_BYTES);
}

struct operation *cluster_put(struct cluster *cluster, uint32_t member)
{
    struct operation *operation = operation_new(cluster, member);
    operation->number = ++cluster->sent;
    uint8_t body[2 * (KEY_BYTES + 2)] = {0x0a, KEY_BYTES}; /* PutRequest: key, then value */
    write_key(body + 2, operation->number);
    body[KEY_BYTES + 2] = 0x12;
    body[KEY_BYTES + 3] = KEY_BYTES;
    write_key(body + KEY_BYTES + 4, operation->number);
    struct loops *loops = cluster->members[member].loops;
    uint64_t id = loops_next_id(loops);
    const struct auth_caller root = cluster_root(&cluster->members[member]);
    struct slice put = slice_make(body, sizeof(body));
    operation->put =
        (struct proposal){.request.deadline_ns = operation->deadline_ns,
                          .id = id,
                          .payload = internal_request_payload_as(INTERNAL_PUT, put, id, &root),
                          .done = put_done};
    assert_non_null(operation->put.payload);
    loops_propose(loops, &operation->put);
    return operation;
}

static void read_ready(struct read_request *read, enum api_error error, uint32_t reader)
{
    (void)reader;
    struct operation *operation = CONTAINER_OF(read, struct operation, read);
    struct cluster *cluster = operation->cluster;
    end_operation(operation, error);
    if (error != API_OK)
        return;
    cluster->reads_done++;
    cluster_check_puts(&cluster->members[operation->member], operation->began_ns);
}

struct operation *cluster_read(struct cluster *cluster, uint32_t member)
{
    struct operation *operation = operation_new(cluster, member);
    operation->read =
        (struct read_request){.request.deadline_ns = operation->deadline_ns, .ready = read_ready};
    loops_read(cluster->members[member].loops, &operation->read);
    return operation;
}

static void change_done(struct conf_proposal *proposal, enum api_error error)
{
    end_operation(CONTAINER_OF(proposal, struct operation, change), error);
}

static struct operation *change(struct cluster *cluster, uint32_t through, uint64_t id,
                                struct raft_payload *payload)
{
    struct operation *operation = operation_new(cluster, through);
    assert_non_null(payload);
    operation->change = (struct conf_proposal){.request.deadline_ns = operation->deadline_ns,
                                               .id = id,
                                               .payload = payload,
                                               .done = change_done};
    loops_propose_conf_change(cluster->members[through].loops, &operation->change);
    return operation;
}

struct operation *cluster_add(struct cluster *cluster, uint32_t through, uint32_t member)
{
    uint64_t id = loops_next_id(cluster->members[through].loops);
    return change(cluster, through, id, cluster_founding_change(&cluster->members[member], id));
}

static struct raft_payload *learner_change(const struct cluster_member *m, uint64_t id,
                                           enum member_change_type type, const char *mark)
{
    char json[192];
    int len =
        snprintf(json, sizeof(json),
                 "{\"id\":%llu,\"peerURLs\":[\"http://m%u:2380\"],\"name\":\"m%u\",\"%s\":true}",
                 (unsigned long long)m->id, m->number, m->number, mark);
    const struct member_change change = {
        .id = id, .type = type, .node_id = m->id, .context = slice_make(json, (size_t)len)};
    return member_change_payload(&change);
}

struct operation *cluster_add_learner(struct cluster *cluster, uint32_t through, uint32_t member)
{
    uint64_t id = loops_next_id(cluster->members[through].loops);
    return change(
        cluster, through, id,
        learner_change(&cluster->members[member], id, MEMBER_CHANGE_ADD_LEARNER, "isLearner"));
}

struct operation *cluster_promote(struct cluster *cluster, uint32_t through, uint32_t member)
{
    uint64_t id = loops_next_id(cluster->members[through].loops);
    return change(
        cluster, through, id,
        learner_change(&cluster->members[member], id, MEMBER_CHANGE_ADD_NODE, "isPromote"));
}

struct operation *cluster_remove(struct cluster *cluster, uint32_t through, uint32_t member)
{
    uint64_t id = loops_next_id(cluster->members[through].loops);
    const struct member_change removal = {
        .id = id, .type = MEMBER_CHANGE_REMOVE_NODE, .node_id = cluster->members[member].id};
    return change(cluster, through, id, member_change_payload(&removal));
}

static void transfer_done(struct transfer_request *transfer, enum api_error error)
{
    end_operation(CONTAINER_OF(transfer, struct operation, transfer), error);
}

struct operation *cluster_hand_over(struct cluster *cluster, uint32_t from, uint32_t to)
{
    struct operation *operation = operation_new(cluster, from);
    operation->transfer = (struct transfer_request){.request.deadline_ns = operation->deadline_ns,
                                                    .target = cluster->members[to].id,
                                                    .done = transfer_done};
    loops_transfer_leadership(cluster->members[from].loops, &operation->transfer);
    return operation;
}

bool cluster_is_done(struct cluster *cluster, void *context)
{
    (void)cluster;
    const struct operation *operation = context;
    if (operation->state == OPERATION_FAILED)
        cluster_fail(cluster, "an operation through member %u failed: %s", operation->member,
                     api_error_text(operation->error));
    return operation->state == OPERATION_DONE;
}

/* ---- what is there ---- */

struct found {
    bool *present;
    uint64_t sent;
};

static enum status note_key(void *context, struct slice record)
{
    struct found *found = context;
    struct mvcc_kv kv;
    char text[KEY_BYTES + 1] = {0};
    assert_int_equal(mvcc_kv_decode(record, &kv), ST_OK);
    assert_int_equal(kv.key.len, KEY_BYTES);
    assert_true(slice_eq(kv.key, kv.value));
    assert_int_equal(kv.version, 1); /* applied once */
    memcpy(text, kv.key.data, KEY_BYTES);
    uint64_t number = strtoull(text, NULL, 10);
    assert_in_range(number, 1, found->sent);
    found->present[number] = true;
    return ST_OK;
}

void cluster_check_puts(struct cluster_member *m, uint64_t until_ns)
{
    struct cluster *cluster = m->cluster;
    struct found found = {.present = calloc(cluster->sent + 1, sizeof(bool)),
                          .sent = cluster->sent};
    assert_non_null(found.present);
    struct mvcc_query query = {.range = {.key = SLICE("0"), .end = SLICE(":")}};
    struct mvcc_result result;
    assert_int_equal(mvcc_read(m->mvcc, 0, &query, note_key, &found, &result), ST_OK);
    for (const struct operation *o = cluster->operations; o != NULL; o = o->next) {
        if (o->number != 0 && o->state == OPERATION_DONE && o->ended_ns < until_ns &&
            !found.present[o->number])
            cluster_fail(cluster, "put %u through member %u was acknowledged, member %u has it not",
                         (unsigned)o->number, o->member, m->number);
    }
    free(found.present);
}
