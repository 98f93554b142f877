#include "tests/server_state/harness.h"

#include "base/assert.h"
#include "base/lock.h"
#include "server/state/range.h"
#include "server/state/txn.h"
#include "tests/fakes/backend_mem.h"
#include "tests/server_state/messages.h"

#define PATH "harness.mem"
#define ARENA_BYTES (256U << 20)

static uint64_t harness_now(void *context)
{
    (void)context;
    return 1000 * NS_PER_S;
}

static void open_all(struct harness *harness)
{
    const struct store_options store_options = {
        .backend = backend_mem(),
        .backend_options = {.path = PATH, .life_id = 1, .map_bytes_max = 1 << 30, .create = true},
        .lock = harness->lock,
        .clock = &harness->clock,
        .readers_count = HARNESS_READERS,
    };
    enum status st = store_open(&store_options, &harness->store);
    ASSERT(st == ST_OK);
    const struct mvcc_options mvcc_options = {.store = harness->store,
                                              .lock = harness->lock,
                                              .life_id = 1,
                                              .readers_count = HARNESS_READERS};
    st = mvcc_open(&mvcc_options, &harness->mvcc);
    ASSERT(st == ST_OK);
    const struct machine_options machine_options = {.store = harness->store,
                                                    .mvcc = harness->mvcc,
                                                    .cluster_id = HARNESS_CLUSTER_ID,
                                                    .member_id = HARNESS_MEMBER_ID};
    st = machine_open(&machine_options, &harness->machine);
    ASSERT(st == ST_OK);
    harness->index = machine_applied(harness->machine).index;
}

static void close_all(struct harness *harness)
{
    machine_close(harness->machine);
    mvcc_close(harness->mvcc);
    store_close(harness->store);
}

void harness_init(struct harness *harness)
{
    *harness = (struct harness){.term = 2, .next_id = 1};
    harness->clock = (struct clock){.monotonic_ns = harness_now, .wall_ns = harness_now};
    arena_init(&harness->arena, ARENA_BYTES);
    enum status st = lock_new(/* threaded= */ false, &harness->lock);
    ASSERT(st == ST_OK);
    backend_mem_clear();
    open_all(harness);
}

void harness_reopen(struct harness *harness)
{
    store_set_durable(harness->store, harness->index, machine_applied(harness->machine).term);
    enum status st = store_seal(harness->store, /* force= */ true);
    bool worked = true;
    while (st == ST_OK && worked)
        st = store_writer_step(harness->store, &worked);
    ASSERT(st == ST_OK);
    uint64_t index = harness->index;
    close_all(harness);
    open_all(harness);
    ASSERT(harness->index == index);
}

void harness_deinit(struct harness *harness)
{
    close_all(harness);
    lock_free(harness->lock);
    arena_deinit(&harness->arena);
    backend_mem_clear();
}

/* ---- entries ---- */

struct machine_result harness_apply_data(struct harness *harness, struct slice data,
                                         struct arena *arena)
{
    struct raft_payload *payload = data.len == 0 ? NULL : raft_payload_copy(data);
    const struct raft_entry entry = {.term = harness->term,
                                     .index = ++harness->index,
                                     .type = RAFT_ENTRY_NORMAL,
                                     .payload = payload};
    struct machine_result result;
    enum status st = machine_apply(harness->machine, &entry, arena, &result);
    raft_payload_unref(payload);
    ASSERT(st == ST_OK);
    ASSERT(machine_applied(harness->machine).index == harness->index);
    return result;
}

struct machine_result harness_apply(struct harness *harness, enum internal_field field,
                                    struct slice body)
{
    return harness_apply_as(harness, field, body, NULL);
}

struct machine_result harness_apply_as(struct harness *harness, enum internal_field field,
                                       struct slice body, const struct auth_caller *caller)
{
    uint64_t id = harness->next_id++;
    struct raft_payload *payload = internal_request_payload_as(field, body, id, caller);
    ASSERT(payload != NULL);
    struct machine_result result =
        harness_apply_data(harness, raft_payload_slice(payload), &harness->arena);
    raft_payload_unref(payload);
    ASSERT(result.request_id == id);
    return result;
}

/* ---- decoded responses ---- */

static void *allocate(void *context, size_t size)
{
    return arena_alloc(context, size);
}

static void keep(void *context, void *pointer)
{
    (void)context;
    (void)pointer;
}

ProtobufCAllocator harness_allocator(struct arena *arena)
{
    return (ProtobufCAllocator){.alloc = allocate, .free = keep, .allocator_data = arena};
}

static const void *decode(struct harness *harness, const ProtobufCMessageDescriptor *descriptor,
                          enum api_error error, struct slice response, enum api_error *error_out)
{
    ASSERT(error_out != NULL || error == API_OK);
    if (error_out != NULL)
        *error_out = error;
    if (error != API_OK)
        return NULL;
    ProtobufCAllocator allocator = harness_allocator(&harness->arena);
    const void *message =
        protobuf_c_message_unpack(descriptor, &allocator, response.len, response.data);
    ASSERT(message != NULL);
    /* What is sent is canonical: written again, it is the same bytes. */
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *again = arena_alloc(&harness->arena, size);
    protobuf_c_message_pack(message, again);
    ASSERT(slice_eq(slice_make(again, size), response));
    return message;
}

const Etcdserverpb__PutResponse *harness_put(struct harness *harness, const struct kv_put *put,
                                             enum api_error *error_out)
{
    struct machine_result result =
        harness_apply(harness, INTERNAL_PUT, encode_put(&harness->arena, put));
    return decode(harness, &etcdserverpb__put_response__descriptor, result.error, result.response,
                  error_out);
}

const Etcdserverpb__DeleteRangeResponse *
harness_delete(struct harness *harness, const struct kv_delete *del, enum api_error *error_out)
{
    struct machine_result result =
        harness_apply(harness, INTERNAL_DELETE_RANGE, encode_delete(&harness->arena, del));
    return decode(harness, &etcdserverpb__delete_range_response__descriptor, result.error,
                  result.response, error_out);
}

const Etcdserverpb__TxnResponse *harness_txn(struct harness *harness, const struct kv_txn *txn,
                                             enum api_error *error_out)
{
    struct machine_result result =
        harness_apply(harness, INTERNAL_TXN, encode_txn(&harness->arena, txn));
    return decode(harness, &etcdserverpb__txn_response__descriptor, result.error, result.response,
                  error_out);
}

const Etcdserverpb__CompactionResponse *harness_compact(struct harness *harness, int64_t revision,
                                                        enum api_error *error_out)
{
    const struct kv_compact compact = {.revision = revision};
    struct machine_result result =
        harness_apply(harness, INTERNAL_COMPACTION, encode_compact(&harness->arena, &compact));
    return decode(harness, &etcdserverpb__compaction_response__descriptor, result.error,
                  result.response, error_out);
}

static struct response_header reader_header(const struct harness *harness)
{
    return (struct response_header){.cluster_id = HARNESS_CLUSTER_ID,
                                    .member_id = HARNESS_MEMBER_ID,
                                    .raft_term = harness->term};
}

const Etcdserverpb__RangeResponse *
harness_range(struct harness *harness, const struct kv_range *range, enum api_error *error_out)
{
    struct response_header header = reader_header(harness);
    struct slice response = SLICE_EMPTY;
    enum status st = range_answer(harness->mvcc, 0, range, /* bytes_max= */ 0, &header,
                                  &harness->arena, &response);
    return decode(harness, &etcdserverpb__range_response__descriptor, api_error_of(st), response,
                  error_out);
}

const Etcdserverpb__TxnResponse *harness_read_txn(struct harness *harness, struct kv_txn *txn,
                                                  enum api_error *error_out)
{
    struct response_header header = reader_header(harness);
    struct slice response = SLICE_EMPTY;
    enum api_error error;
    enum status st = txn_answer(harness->mvcc, 0, txn, /* bytes_max= */ 0, &header, &harness->arena,
                                &response, &error);
    ASSERT(st == ST_OK);
    return decode(harness, &etcdserverpb__txn_response__descriptor, error, response, error_out);
}

int64_t harness_set(struct harness *harness, const char *key, const char *value)
{
    const struct kv_put put = {.key = slice_from_str(key), .value = slice_from_str(value)};
    return harness_put(harness, &put, NULL)->header->revision;
}

int64_t harness_revision(struct harness *harness)
{
    int64_t current, compacted;
    mvcc_revisions(harness->mvcc, &current, &compacted);
    return current;
}

const char *harness_get(struct harness *harness, const char *key)
{
    const struct kv_range range = {.key = slice_from_str(key)};
    const Etcdserverpb__RangeResponse *response = harness_range(harness, &range, NULL);
    if (response->n_kvs == 0)
        return NULL;
    char *text = arena_alloc(&harness->arena, response->kvs[0]->value.len + 1);
    if (response->kvs[0]->value.len > 0)
        memcpy(text, response->kvs[0]->value.data, response->kvs[0]->value.len);
    return text;
}
