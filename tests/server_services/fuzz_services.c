/* Calls of any unary method, one after another on one member, built field by field from the input.
 * Every call must be answered once, by an error of the table or by a message of its kind; what KV
 * and Lease answer must be what the naive evaluator (tests/server_state/kv_model.h) says, and
 * nothing else may change the key space. */
#include "base/assert.h"
#include "base/buf.h"
#include "server/run/log.h"
#include "server/state/check.h"
#include "tests/server_services/fixture.h"
#include "tests/server_state/kv_model.h"
#include "tests/server_state/kv_random.h"
#include "tests/server_state/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define CALLS_MAX 64U
#define REVISIONS_MAX (CALLS_MAX + 2)
#define LEASES 4
#define DEPTH_MAX 3U
#define REPEATED_MAX 2U

struct fuzz {
    struct fixture fixture;
    struct kv_model model;
    struct buf answer;
    const uint8_t *data; /* what is left of the input */
    size_t size;
    uint64_t leases[CALLS_MAX + 1];
    uint32_t leases_count;
};

/* ---- choices ---- */

static uint64_t below(void *context, uint64_t limit)
{
    struct fuzz *fuzz = context;
    if (fuzz->size == 0)
        return 0;
    fuzz->size--;
    return *fuzz->data++ % limit;
}

static struct kv_chooser chooser_of(struct fuzz *fuzz)
{
    return (struct kv_chooser){
        .below = below, .context = fuzz, .revision = fuzz->model.revision, .leases = LEASES};
}

/* ---- any message, from its descriptor ---- */

static struct slice random_text(struct fuzz *fuzz)
{
    static const char *const texts[] = {"",    "a",  "b",  "c",        "root",
                                        "one", "de", "\1", "http://a", "http://127.0.0.1:2380"};
    uint64_t which = below(fuzz, COUNT_OF(texts) + 1);
    return which == COUNT_OF(texts) ? SLICE("\0") : slice_from_str(texts[which]);
}

static uint64_t random_number(struct fuzz *fuzz)
{
    static const uint64_t large[] = {HARNESS_MEMBER_ID, UINT64_MAX, INT64_MAX, 1ULL << 63,
                                     9000000001};
    uint64_t which = below(fuzz, 16);
    return which < COUNT_OF(large) ? large[which] : which - COUNT_OF(large);
}

static ProtobufCMessage *random_message(struct fuzz *fuzz, const ProtobufCMessageDescriptor *of,
                                        uint32_t depth);

static void fill_one(struct fuzz *fuzz, const ProtobufCFieldDescriptor *field, void *at,
                     uint32_t depth)
{
    struct slice text;
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)at = below(fuzz, 2) == 1;
        break;
    case PROTOBUF_C_TYPE_ENUM:
        *(int32_t *)at = (int32_t)below(fuzz, 6);
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
        *(uint32_t *)at = (uint32_t)random_number(fuzz);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)at = random_number(fuzz);
        break;
    case PROTOBUF_C_TYPE_STRING:
        text = random_text(fuzz);
        *(char **)at = (char *)(uintptr_t)text.data; /* a literal, only read */
        break;
    case PROTOBUF_C_TYPE_BYTES:
        text = random_text(fuzz);
        *(ProtobufCBinaryData *)at =
            (ProtobufCBinaryData){.len = text.len, .data = (uint8_t *)(uintptr_t)text.data};
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)at = random_message(fuzz, field->descriptor, depth + 1);
        break;
    default:
        ASSERT(false); /* no field of the API has another type */
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return sizeof(uint64_t);
    default:
        return sizeof(uint32_t);
    }
}

static void fill(struct fuzz *fuzz, ProtobufCMessage *message,
                 const ProtobufCFieldDescriptor *field, uint32_t depth)
{
    uint8_t *base = (uint8_t *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = below(fuzz, REPEATED_MAX + 1), size = size_of(field);
        uint8_t *items = arena_alloc(&fuzz->fixture.harness.arena, REPEATED_MAX * size);
        ASSERT(items != NULL);
        for (size_t i = 0; i < count; i++)
            fill_one(fuzz, field, items + i * size, depth);
        *(size_t *)(base + field->quantifier_offset) = count;
        *(void **)(base + field->offset) = items;
        return;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        *(uint32_t *)(base + field->quantifier_offset) = field->id;
    fill_one(fuzz, field, base + field->offset, depth);
}

static ProtobufCMessage *random_message(struct fuzz *fuzz, const ProtobufCMessageDescriptor *of,
                                        uint32_t depth)
{
    ProtobufCMessage *message = arena_alloc(&fuzz->fixture.harness.arena, of->sizeof_message);
    ASSERT(message != NULL);
    protobuf_c_message_init(of, message);
    for (unsigned i = 0; i < of->n_fields && depth < DEPTH_MAX; i++) {
        if (below(fuzz, 4) != 0)
            fill(fuzz, message, &of->fields[i], depth);
    }
    return message;
}

static struct slice encode(struct fuzz *fuzz, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(&fuzz->fixture.harness.arena, size + 1);
    ASSERT(bytes != NULL);
    return slice_make(bytes, protobuf_c_message_pack(message, bytes));
}

/* ---- one call ---- */

static void assert_known_error(const struct fake_call *got)
{
    for (uint32_t error = 0; error < API_ERRORS_COUNT; error++) {
        if (strcmp(got->text, api_error_text((enum api_error)error)) == 0 &&
            (uint32_t)got->code == api_error_code((enum api_error)error))
            return;
    }
    ASSERT(false);
}

static const void *call_as(struct fuzz *fuzz, const char *path, struct slice message,
                           const ProtobufCMessageDescriptor *response)
{
    const struct fake_call *got = call(&fuzz->fixture, path, message);
    if (got->code != RPC_OK) {
        assert_known_error(got);
        return NULL;
    }
    return decode(&fuzz->fixture, response);
}

static bool was(const struct fuzz *fuzz, enum api_error error)
{
    return strcmp(fuzz->fixture.call.text, api_error_text(error)) == 0;
}

/* ---- KV and Lease, beside the model ---- */

static bool has_lease(void *context, int64_t lease)
{
    const struct fuzz *fuzz = context;
    for (uint32_t i = 0; i < fuzz->leases_count; i++) {
        if (fuzz->leases[i] == (uint64_t)lease)
            return true;
    }
    return false;
}

/* Whether an alarm or missing users may be what the call was refused for. */
static bool was_refused_whatever_it_says(struct fuzz *fuzz, bool adds)
{
    struct machine *machine = fuzz->fixture.harness.machine;
    if (was(fuzz, API_CORRUPT_CLUSTER))
        return machine_has_alarm(machine, ALARM_CORRUPT);
    if (was(fuzz, API_NO_SPACE))
        return adds && machine_has_alarm(machine, ALARM_NOSPACE);
    return machine_auth_enabled(machine) && was(fuzz, API_USER_EMPTY);
}

static void assert_answer(struct fuzz *fuzz, enum api_error wanted)
{
    if (wanted != API_OK)
        ASSERT(was(fuzz, wanted));
    else
        ASSERT(slice_eq(buf_slice(&fuzz->answer), buf_slice(&fuzz->model.text)));
}

static void try_range(struct fuzz *fuzz)
{
    struct kv_chooser chooser = chooser_of(fuzz);
    struct kv_range range = kv_random_range(&chooser);
    range.serializable = below(fuzz, 2) == 1;
    const Etcdserverpb__RangeResponse *response =
        call_as(fuzz, "/etcdserverpb.KV/Range", encode_range(&fuzz->fixture.harness.arena, &range),
                &etcdserverpb__range_response__descriptor);
    if (response == NULL && was_refused_whatever_it_says(fuzz, false))
        return;
    const struct kv_op op = {.kind = KV_OP_RANGE, .range = &range};
    enum api_error wanted = kv_model_op(&fuzz->model, &op);
    if (response != NULL)
        kv_model_tell_range(&fuzz->answer, response);
    assert_answer(fuzz, wanted);
}

static void try_put(struct fuzz *fuzz)
{
    struct kv_chooser chooser = chooser_of(fuzz);
    struct kv_put put = kv_random_put(&chooser);
    const Etcdserverpb__PutResponse *response =
        call_as(fuzz, "/etcdserverpb.KV/Put", encode_put(&fuzz->fixture.harness.arena, &put),
                &etcdserverpb__put_response__descriptor);
    if (response == NULL && was_refused_whatever_it_says(fuzz, true))
        return;
    const struct kv_op op = {.kind = KV_OP_PUT, .put = &put};
    enum api_error wanted = kv_model_op(&fuzz->model, &op);
    if (response != NULL)
        kv_model_tell_put(&fuzz->answer, response);
    assert_answer(fuzz, wanted);
}

static void try_delete(struct fuzz *fuzz)
{
    struct kv_chooser chooser = chooser_of(fuzz);
    struct kv_delete del = kv_random_delete(&chooser);
    const Etcdserverpb__DeleteRangeResponse *response = call_as(
        fuzz, "/etcdserverpb.KV/DeleteRange", encode_delete(&fuzz->fixture.harness.arena, &del),
        &etcdserverpb__delete_range_response__descriptor);
    if (response == NULL && was_refused_whatever_it_says(fuzz, false))
        return;
    const struct kv_op op = {.kind = KV_OP_DELETE, .del = &del};
    enum api_error wanted = kv_model_op(&fuzz->model, &op);
    if (response != NULL)
        kv_model_tell_delete(&fuzz->answer, response);
    assert_answer(fuzz, wanted);
}

static void try_txn(struct fuzz *fuzz)
{
    struct kv_chooser chooser = chooser_of(fuzz);
    struct arena *arena = &fuzz->fixture.harness.arena;
    struct kv_txn txn = kv_random_txn(&chooser, arena);
    const Etcdserverpb__TxnResponse *response =
        call_as(fuzz, "/etcdserverpb.KV/Txn", encode_txn(arena, &txn),
                &etcdserverpb__txn_response__descriptor);
    enum api_error wanted = check_txn(&txn, arena);
    if (response == NULL && wanted == API_OK && was_refused_whatever_it_says(fuzz, true))
        return;
    if (wanted == API_OK)
        wanted = kv_model_txn(&fuzz->model, &txn);
    if (response != NULL)
        kv_model_tell(&fuzz->answer, response);
    assert_answer(fuzz, wanted);
}

static void try_compact(struct fuzz *fuzz)
{
    struct kv_compact compact = {.revision = fuzz->model.revision + 1 - (int64_t)below(fuzz, 8),
                                 .physical = below(fuzz, 2) == 1};
    const void *response = call_as(fuzz, "/etcdserverpb.KV/Compact",
                                   encode_compact(&fuzz->fixture.harness.arena, &compact),
                                   &etcdserverpb__compaction_response__descriptor);
    if (response == NULL && was_refused_whatever_it_says(fuzz, false))
        return;
    enum api_error wanted = compact.revision <= fuzz->model.compacted ? API_COMPACTED
                            : compact.revision > fuzz->model.revision ? API_FUTURE_REVISION
                                                                      : API_OK;
    ASSERT((response != NULL) == (wanted == API_OK) && (response != NULL || was(fuzz, wanted)));
    if (response != NULL)
        fuzz->model.compacted = compact.revision;
}

static void try_grant(struct fuzz *fuzz)
{
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.id = (int64_t)below(fuzz, LEASES + 1);
    request.ttl = (int64_t)random_number(fuzz);
    bool was_there = has_lease(fuzz, request.id);
    const Etcdserverpb__LeaseGrantResponse *response =
        call_as(fuzz, "/etcdserverpb.Lease/LeaseGrant", encode(fuzz, &request.base),
                &etcdserverpb__lease_grant_response__descriptor);
    if (response == NULL)
        return;
    ASSERT(!was_there && response->ttl >= 2 && response->id != 0);
    ASSERT(request.id == 0 || response->id == request.id);
    fuzz->leases[fuzz->leases_count++] = (uint64_t)response->id;
}

static void try_revoke(struct fuzz *fuzz)
{
    Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    request.id = (int64_t)below(fuzz, LEASES + 1);
    const void *response =
        call_as(fuzz, "/etcdserverpb.Lease/LeaseRevoke", encode(fuzz, &request.base),
                &etcdserverpb__lease_revoke_response__descriptor);
    if (response == NULL)
        return;
    ASSERT(has_lease(fuzz, request.id));
    kv_model_revoke(&fuzz->model, request.id);
    for (uint32_t i = 0; i < fuzz->leases_count; i++) {
        if (fuzz->leases[i] == (uint64_t)request.id)
            fuzz->leases[i] = fuzz->leases[--fuzz->leases_count];
    }
}

/* ---- all others: none of them changes the key space ---- */

#define ETCD(service, method, name)                                                       \
    {                                                                                     \
        "/etcdserverpb." service "/" method, &etcdserverpb__##name##_request__descriptor, \
            &etcdserverpb__##name##_response__descriptor                                  \
    }

static const struct {
    const char *path;
    const ProtobufCMessageDescriptor *request, *response;
} others[] = {
    ETCD("Lease", "LeaseTimeToLive", lease_time_to_live),
    ETCD("Lease", "LeaseLeases", lease_leases),
    ETCD("Cluster", "MemberAdd", member_add),
    ETCD("Cluster", "MemberRemove", member_remove),
    ETCD("Cluster", "MemberUpdate", member_update),
    ETCD("Cluster", "MemberPromote", member_promote),
    ETCD("Cluster", "MemberList", member_list),
    ETCD("Maintenance", "Alarm", alarm),
    ETCD("Maintenance", "Status", status),
    ETCD("Maintenance", "Defragment", defragment),
    ETCD("Maintenance", "Hash", hash),
    {"/etcdserverpb.Maintenance/HashKV", &etcdserverpb__hash_kvrequest__descriptor,
     &etcdserverpb__hash_kvresponse__descriptor},
    ETCD("Maintenance", "MoveLeader", move_leader),
    ETCD("Maintenance", "Downgrade", downgrade),
    ETCD("Auth", "AuthEnable", auth_enable),
    ETCD("Auth", "AuthDisable", auth_disable),
    ETCD("Auth", "AuthStatus", auth_status),
    ETCD("Auth", "Authenticate", authenticate),
    ETCD("Auth", "UserAdd", auth_user_add),
    ETCD("Auth", "UserGet", auth_user_get),
    ETCD("Auth", "UserList", auth_user_list),
    ETCD("Auth", "UserDelete", auth_user_delete),
    ETCD("Auth", "UserChangePassword", auth_user_change_password),
    ETCD("Auth", "UserGrantRole", auth_user_grant_role),
    ETCD("Auth", "UserRevokeRole", auth_user_revoke_role),
    ETCD("Auth", "RoleAdd", auth_role_add),
    ETCD("Auth", "RoleGet", auth_role_get),
    ETCD("Auth", "RoleList", auth_role_list),
    ETCD("Auth", "RoleDelete", auth_role_delete),
    ETCD("Auth", "RoleGrantPermission", auth_role_grant_permission),
    ETCD("Auth", "RoleRevokePermission", auth_role_revoke_permission),
};

static void try_other(struct fuzz *fuzz)
{
    uint64_t which = below(fuzz, COUNT_OF(others));
    struct slice message = encode(fuzz, random_message(fuzz, others[which].request, 0));
    if (below(fuzz, 8) == 0) /* cut off, and perhaps no message any more */
        message.len = message.len * below(fuzz, 8) / 8;
    (void)call_as(fuzz, others[which].path, message, others[which].response);
}

static void step(struct fuzz *fuzz)
{
    static void (*const tries[])(struct fuzz *) = {try_range,   try_put,   try_delete, try_txn,
                                                   try_compact, try_grant, try_revoke, try_other,
                                                   try_other,   try_put,   try_txn,    try_other};
    buf_reset(&fuzz->answer);
    tries[below(fuzz, COUNT_OF(tries))](fuzz);
    ASSERT(harness_revision(&fuzz->fixture.harness) == fuzz->model.revision);
    arena_reset(&fuzz->fixture.harness.arena);
}

/* What is logged of each call would be most of the time spent. */
static void keep_quiet(void)
{
    static const char *const outputs[] = {"stderr"};
    static bool is_quiet;
    if (!is_quiet)
        ASSERT(log_open(LOG_LEVEL_FATAL, outputs, 1, NULL) == ST_OK);
    is_quiet = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz fuzz;
    fuzz = (struct fuzz){.data = data, .size = size};
    keep_quiet();
    fixture_init(&fuzz.fixture);
    kv_model_init(&fuzz.model, REVISIONS_MAX);
    fuzz.model.has_lease = has_lease;
    fuzz.model.context = &fuzz;
    buf_init(&fuzz.answer, 1 << 20);
    for (uint32_t i = 0; i < CALLS_MAX && fuzz.size > 0; i++)
        step(&fuzz);
    buf_deinit(&fuzz.answer);
    kv_model_deinit(&fuzz.model);
    fixture_deinit(&fuzz.fixture);
    return 0;
}
