#include "base/list.h"
#include "server/services/contend.h"

enum { RANGE_KEY = 1, RANGE_END, RANGE_LIMIT, RANGE_SORT_ORDER = 5, RANGE_SORT_TARGET };
enum { RANGE_MAX_CREATE = 13, ASCENDING = 1, DESCENDING = 2, BY_CREATE = 2 };
enum { COMPARE_WHAT = 2, COMPARE_OF, COMPARE_REVISION = 5, WHAT_CREATE = 1 };
enum { TXN_COMPARE = 1, TXN_SUCCESS, TXN_FAILURE };
enum { OP_RANGE = 1, OP_PUT, OP_DELETE };
enum { PUT_KEY = 1, PUT_VALUE, PUT_LEASE };
enum { ANSWER_HEADER = 1, ANSWER_KVS, ANSWER_SUCCEEDED = 2, ANSWER_RESPONSES };
enum { HEADER_REVISION = 3 };

/* ---- the call ---- */

static void inner_finish(struct rpc_call *call, enum rpc_code code, const char *text,
                         struct slice message)
{
    struct inner_call *inner = CONTAINER_OF(call, struct inner_call, call);
    inner->done(inner, code, text, message);
}

static const char *inner_peer(struct rpc_call *call)
{
    return rpc_peer(CONTAINER_OF(call, struct inner_call, call)->outer);
}

static void inner_hold(struct rpc_call *call)
{
    (void)call;
}

static void inner_again(struct rpc_call *call)
{
    call->repeated = true;
    call->method->on_call(call);
}

static void inner_ref(struct rpc_call *call)
{
    rpc_ref(CONTAINER_OF(call, struct inner_call, call)->outer);
}

static void inner_unref(struct rpc_call *call)
{
    rpc_unref(CONTAINER_OF(call, struct inner_call, call)->outer);
}

static const struct rpc_transport transport = {.finish = inner_finish,
                                               .finish_later = inner_finish,
                                               .peer = inner_peer,
                                               .hold = inner_hold,
                                               .again = inner_again,
                                               .ref = inner_ref,
                                               .unref = inner_unref};

static const struct rpc_method *find(const struct rpc_service *service, const char *path)
{
    for (uint32_t i = 0; i < service->methods_count; i++) {
        if (strcmp(service->methods[i].path, path) == 0)
            return &service->methods[i];
    }
    return NULL;
}

void inner_start(struct inner_call *inner, struct rpc_call *outer, const char *path,
                 struct slice message)
{
    const struct rpc_method *method = find(&kv_service, path);
    if (method == NULL)
        method = find(&lease_service, path);
    inner->outer = outer;
    inner->call = (struct rpc_call){.transport = &transport,
                                    .method = method,
                                    .service = outer->service,
                                    .arena = inner->arena != NULL ? inner->arena : outer->arena,
                                    .message = message,
                                    .metadata = outer->metadata,
                                    .metadata_count = outer->metadata_count,
                                    .poller = outer->poller,
                                    .deadline_ns = outer->deadline_ns,
                                    .started_ns = outer->started_ns};
    method->on_call(&inner->call);
}

void finish_inner_error(struct rpc_call *outer, enum rpc_code code, const char *text)
{
    bool is_own = code == RPC_CANCELLED || code == RPC_DEADLINE_EXCEEDED;
    rpc_finish(outer, is_own ? code : RPC_UNKNOWN, text, SLICE_EMPTY);
}

/* ---- requests ---- */

static struct slice finished(const struct wire_out *out)
{
    struct slice message;
    return wire_out_finish(out, &message) == ST_OK ? message : SLICE_EMPTY;
}

/* The first key that does not begin with prefix, which ends in '/'. */
static void put_prefix(struct wire_out *out, struct slice prefix)
{
    wire_put_bytes(out, RANGE_KEY, prefix);
    struct slice end;
    if (arena_copy(out->arena, prefix, &end) != ST_OK) {
        out->failed = true;
        return;
    }
    ((uint8_t *)(uintptr_t)end.data)[end.len - 1]++;
    wire_put_bytes(out, RANGE_END, end);
}

static void put_first(struct wire_out *out, struct slice prefix, enum inner_sort sort,
                      int64_t max_create)
{
    put_prefix(out, prefix);
    wire_put_varint(out, RANGE_LIMIT, 1);
    wire_put_varint(out, RANGE_SORT_ORDER, sort == INNER_OLDEST ? ASCENDING : DESCENDING);
    wire_put_varint(out, RANGE_SORT_TARGET, BY_CREATE);
    wire_put_varint(out, RANGE_MAX_CREATE, (uint64_t)max_create);
}

struct slice inner_range_key(struct arena *arena, struct slice key)
{
    struct wire_out out;
    wire_out_init(&out, arena, /* gap= */ 0);
    wire_put_bytes(&out, RANGE_KEY, key);
    return finished(&out);
}

struct slice inner_range_first(struct arena *arena, struct slice prefix, enum inner_sort sort,
                               int64_t max_create)
{
    struct wire_out out;
    wire_out_init(&out, arena, /* gap= */ 0);
    put_first(&out, prefix, sort, max_create);
    return finished(&out);
}

struct slice inner_delete(struct arena *arena, struct slice key)
{
    return inner_range_key(arena, key); /* the same field */
}

static void put_then(struct wire_out *out, struct slice key, const struct slice *value,
                     lease_id lease)
{
    size_t op = wire_open(out, TXN_SUCCESS);
    size_t body = wire_open(out, value != NULL ? OP_PUT : OP_DELETE);
    wire_put_bytes(out, PUT_KEY, key);
    if (value != NULL) {
        wire_put_bytes(out, PUT_VALUE, *value);
        wire_put_varint(out, PUT_LEASE, (uint64_t)lease);
    }
    wire_close(out, body);
    wire_close(out, op);
}

static void put_else(struct wire_out *out, struct slice key)
{
    size_t op = wire_open(out, TXN_FAILURE);
    size_t body = wire_open(out, OP_RANGE);
    wire_put_bytes(out, RANGE_KEY, key);
    wire_close(out, body);
    wire_close(out, op);
}

static void put_oldest(struct wire_out *out, uint32_t branch, struct slice prefix)
{
    size_t op = wire_open(out, branch);
    size_t body = wire_open(out, OP_RANGE);
    put_first(out, prefix, INNER_OLDEST, 0);
    wire_close(out, body);
    wire_close(out, op);
}

struct slice inner_txn(struct arena *arena, struct slice key, int64_t create_revision,
                       const struct slice *value, lease_id lease, const struct slice *prefix)
{
    struct wire_out out;
    wire_out_init(&out, arena, /* gap= */ 0);
    size_t compare = wire_open(&out, TXN_COMPARE);
    wire_put_varint(&out, COMPARE_WHAT, WHAT_CREATE);
    wire_put_bytes(&out, COMPARE_OF, key);
    wire_put_varint(&out, COMPARE_REVISION, (uint64_t)create_revision);
    wire_close(&out, compare);
    put_then(&out, key, value, lease);
    if (prefix != NULL)
        put_oldest(&out, TXN_SUCCESS, *prefix);
    if (create_revision == 0) {
        put_else(&out, key);
        if (prefix != NULL)
            put_oldest(&out, TXN_FAILURE, *prefix);
    }
    return finished(&out);
}

/* ---- answers ---- */

static enum status read_header(struct slice bytes, struct inner_answer *out)
{
    out->header = bytes;
    while (bytes.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&bytes, &field);
        if (st != ST_OK)
            return st;
        if (field.number == HEADER_REVISION)
            out->revision = (int64_t)field.value;
    }
    return ST_OK;
}

/* The first kv of a RangeResponse. */
static enum status read_kv(struct slice bytes, struct mvcc_kv *out, bool *found_out)
{
    *found_out = false;
    while (bytes.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&bytes, &field);
        if (st != ST_OK)
            return st;
        if (field.number == ANSWER_KVS && field.type == WIRE_BYTES) {
            *found_out = true;
            return mvcc_kv_decode(field.bytes, out);
        }
    }
    return ST_OK;
}

/* A ResponseOp; only what a range gives is looked at. */
static enum status read_response(struct slice bytes, struct mvcc_kv *out, bool *found_out)
{
    struct wire_field field;
    *found_out = false;
    if (bytes.len == 0)
        return ST_INVALID;
    enum status st = wire_next(&bytes, &field);
    if (st != ST_OK || field.number != OP_RANGE)
        return st;
    return read_kv(field.bytes, out, found_out);
}

static enum status read_txn_field(const struct wire_field *field, uint32_t *responses,
                                  struct inner_answer *out)
{
    bool has_owner;
    if (field->number == ANSWER_HEADER)
        return read_header(field->bytes, out);
    if (field->number == ANSWER_SUCCEEDED)
        out->succeeded = field->value != 0;
    if (field->number != ANSWER_RESPONSES)
        return ST_OK;
    if ((*responses)++ == 0)
        return read_response(field->bytes, &out->kv, &out->found);
    return read_response(field->bytes, &out->owner, &has_owner);
}

enum status inner_read(struct slice message, bool is_txn, struct inner_answer *out)
{
    *out = (struct inner_answer){0};
    uint32_t responses = 0;
    struct slice rest = message;
    while (rest.len > 0) {
        struct wire_field field;
        enum status st = wire_next(&rest, &field);
        if (st == ST_OK && is_txn)
            st = read_txn_field(&field, &responses, out);
        else if (st == ST_OK && field.number == ANSWER_HEADER)
            st = read_header(field.bytes, out);
        if (st != ST_OK)
            return st;
    }
    return is_txn ? ST_OK : read_kv(message, &out->kv, &out->found);
}
