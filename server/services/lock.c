/* server/services/lock.c - v3lockpb.Lock. */
#include "base/list.h"
#include "server/services/contend.h"

enum { FIELD_HEADER = 1, FIELD_KEY };
enum { FIELD_NAME = 1, FIELD_LEASE };

static void answer(struct rpc_call *call, struct slice header, struct slice key)
{
    struct wire_out out;
    wire_out_init(&out, call->arena, /* gap= */ 0);
    wire_put_bytes(&out, FIELD_HEADER, header);
    if (key.len > 0)
        wire_put_bytes(&out, FIELD_KEY, key);
    finish_message(call, &out);
}

/* ---- Lock ---- */

/* The key may have gone with its lease while it waited. */
static void seen_again(struct inner_call *inner, enum rpc_code code, const char *text,
                       struct slice message)
{
    struct contender *contender = CONTAINER_OF(inner, struct contender, inner);
    struct inner_answer read;
    if (contender_gives_up(contender, code, text))
        return;
    if (inner_read(message, /* is_txn= */ false, &read) != ST_OK)
        finish_error(contender->call, API_STORE_CORRUPT);
    else if (!read.found)
        finish_error(contender->call, API_SESSION_EXPIRED);
    else
        answer(contender->call, read.header, contender->key);
}

static void won(struct contender *contender)
{
    contender->inner.done = seen_again;
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/Range",
                inner_range_key(contender->call->arena, contender->key));
}

static void entered(struct inner_call *inner, enum rpc_code code, const char *text,
                    struct slice message)
{
    struct contender *contender = CONTAINER_OF(inner, struct contender, inner);
    struct inner_answer read;
    if (code != RPC_OK) {
        finish_inner_error(contender->call, code, text);
        return;
    }
    if (inner_read(message, /* is_txn= */ true, &read) != ST_OK) {
        finish_error(contender->call, API_STORE_CORRUPT);
        return;
    }
    contender->revision = read.succeeded ? read.revision : read.kv.create_revision;
    if (read.owner.key.len == 0 || read.owner.create_revision == contender->revision)
        answer(contender->call, read.header, contender->key);
    else
        contender_wait(contender);
}

static void enter(struct contender *contender)
{
    const struct slice value = SLICE_EMPTY;
    contender->inner.done = entered;
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/Txn",
                inner_txn(contender->call->arena, contender->key, /* create_revision= */ 0, &value,
                          contender->lease, &contender->prefix));
}

struct lock_request {
    struct slice name;
    lease_id lease;
};

static void on_lock(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {
        {WIRE_SLOT_BYTES, offsetof(struct lock_request, name)},
        {WIRE_SLOT_INT64, offsetof(struct lock_request, lease)}};
    struct lock_request request = {0};
    struct contender *contender = ARENA_NEW(call->arena, struct contender);
    enum api_error error = contender == NULL ? API_NO_MEMORY : API_OK;
    if (error == API_OK && wire_decode(call->message, slots, METHODS_OF(slots), &request) != ST_OK)
        error = API_UNDECODABLE;
    if (error != API_OK) {
        finish_error(call, error);
        return;
    }
    contender->won = won;
    call->state = contender;
    contender_begin(contender, call, request.name, request.lease, enter);
}

static void on_cancel(struct rpc_call *call)
{
    if (call->state != NULL)
        contender_cancel(call->state);
}

/* ---- Unlock ---- */

static void unlocked(struct inner_call *inner, enum rpc_code code, const char *text,
                     struct slice message)
{
    struct inner_answer read;
    if (code != RPC_OK)
        finish_inner_error(inner->outer, code, text);
    else if (inner_read(message, /* is_txn= */ false, &read) != ST_OK)
        finish_error(inner->outer, API_STORE_CORRUPT);
    else
        answer(inner->outer, read.header, SLICE_EMPTY);
}

static void on_unlock(struct rpc_call *call)
{
    static const struct wire_slot slots[] = {{WIRE_SLOT_BYTES, 0}};
    struct slice key = SLICE_EMPTY;
    struct inner_call *inner = ARENA_NEW(call->arena, struct inner_call);
    if (inner == NULL || wire_decode(call->message, slots, METHODS_OF(slots), &key) != ST_OK) {
        finish_error(call, inner == NULL ? API_NO_MEMORY : API_UNDECODABLE);
        return;
    }
    inner->done = unlocked;
    inner_start(inner, call, "/etcdserverpb.KV/DeleteRange", inner_delete(call->arena, key));
}

static const struct rpc_method methods[] = {
    {.path = "/v3lockpb.Lock/Lock", .on_call = on_lock, .on_cancel = on_cancel},
    {.path = "/v3lockpb.Lock/Unlock", .on_call = on_unlock},
};
const struct rpc_service lock_service = {.methods = methods, .methods_count = METHODS_OF(methods)};
