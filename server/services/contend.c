#include "server/services/contend.h"

#include "base/list.h"

#include <inttypes.h>
#include <stdio.h>

enum { GRANT_TTL = 1, GRANT_ID = 2 };
#define SESSION_TTL_S 60U /* of a lease that the caller does not give; nobody keeps it alive */

/* The lowest bits of watch_state; above them a count, so that who started one watch does not take
 * the next one for it. */
enum { WATCH_NONE, WATCH_STARTING, WATCH_RUNNING, WATCH_STOPPING, WATCH_PHASES };

static struct contender *contender_of(struct inner_call *inner)
{
    return CONTAINER_OF(inner, struct contender, inner);
}

/* ---- the end of one that did not win ---- */

static void left(struct inner_call *inner, enum rpc_code code, const char *text,
                 struct slice message)
{
    (void)code;
    (void)text;
    (void)message;
    struct contender *contender = contender_of(inner);
    finish_inner_error(contender->call, contender->end_code, contender->end_text);
}

/* It must not stand in the way of those behind it. */
static void leave(struct contender *contender, enum rpc_code code, const char *text)
{
    contender->end_code = code;
    contender->end_text = text;
    if (contender->revision == 0) {
        finish_inner_error(contender->call, code, text);
        return;
    }
    contender->inner.done = left;
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/DeleteRange",
                inner_delete(contender->call->arena, contender->key));
}

bool contender_gives_up(struct contender *contender, enum rpc_code code, const char *text)
{
    if (atomic_load(&contender->canceled))
        leave(contender, RPC_CANCELLED, api_error_text(API_CANCELED));
    else if (code != RPC_OK)
        leave(contender, code, text);
    else
        return false;
    return true;
}

static void leave_for(struct contender *contender, enum api_error error)
{
    (void)contender_gives_up(contender, (enum rpc_code)api_error_code(error),
                             api_error_text(error));
}

/* ---- the one before ---- */

static void stop_watch(struct contender *contender)
{
    unsigned state = atomic_load(&contender->watch_state);
    if (state % WATCH_PHASES == WATCH_RUNNING &&
        atomic_compare_exchange_strong(&contender->watch_state, &state,
                                       state - WATCH_RUNNING + WATCH_STOPPING))
        watch_local_stop(&contender->watch);
}

static void on_event(struct watch_local *watch, const struct watch_event *event)
{
    struct contender *contender = CONTAINER_OF(watch, struct contender, watch);
    if (!event->is_delete)
        return;
    atomic_store(&contender->is_awaited_gone, true);
    stop_watch(contender);
}

/* Whatever ended it, the keys say what is next. */
static void on_end(struct watch_local *watch, enum status why)
{
    struct contender *contender = CONTAINER_OF(watch, struct contender, watch);
    unsigned state = atomic_load(&contender->watch_state);
    atomic_store(&contender->watch_state, state - state % WATCH_PHASES + WATCH_PHASES);
    if (why == ST_CANCELED || why == ST_COMPACTED)
        contender_wait(contender);
    else
        leave_for(contender, why == ST_DROPPED ? API_STOPPED : api_error_of(why));
}

static void watch_one_before(struct contender *contender, const struct inner_answer *answer)
{
    const struct services *services = contender->call->service;
    contender->awaited = answer->kv.key;
    atomic_store(&contender->is_awaited_gone, false);
    contender->watch = (struct watch_local){.key = contender->awaited,
                                            .start_revision = answer->revision,
                                            .kinds = WATCH_NO_PUT,
                                            .on_event = on_event,
                                            .on_end = on_end};
    struct rpc_call *call = contender->call;
    rpc_ref(call); /* it may be over before this returns */
    unsigned starting = atomic_fetch_add(&contender->watch_state, WATCH_STARTING) + WATCH_STARTING;
    watch_local_start(services->options.watch, &contender->watch);
    if (atomic_compare_exchange_strong(&contender->watch_state, &starting,
                                       starting - WATCH_STARTING + WATCH_RUNNING) &&
        (atomic_load(&contender->canceled) || atomic_load(&contender->is_awaited_gone)))
        stop_watch(contender); /* who said so could not stop it yet */
    rpc_unref(call);
}

static void looked(struct inner_call *inner, enum rpc_code code, const char *text,
                   struct slice message)
{
    struct contender *contender = contender_of(inner);
    struct inner_answer answer;
    if (contender_gives_up(contender, code, text))
        return;
    enum status st = inner_read(message, /* is_txn= */ false, &answer);
    if (st != ST_OK)
        leave_for(contender, api_error_of(st));
    else if (!answer.found)
        contender->won(contender);
    else
        watch_one_before(contender, &answer);
}

void contender_wait(struct contender *contender)
{
    if (contender_gives_up(contender, RPC_OK, NULL))
        return;
    contender->inner.done = looked;
    if (contender->revision <= 1) { /* nothing can be older, and 0 would be no limit */
        contender->won(contender);
        return;
    }
    inner_start(&contender->inner, contender->call, "/etcdserverpb.KV/Range",
                inner_range_first(contender->call->arena, contender->prefix, INNER_NEWEST,
                                  contender->revision - 1));
}

void contender_cancel(struct contender *contender)
{
    atomic_store(&contender->canceled, true);
    stop_watch(contender);
}

/* ---- its beginning ---- */

static enum status name_keys(struct contender *contender)
{
    struct arena *arena = contender->call->arena;
    char suffix[24];
    uint64_t id = (uint64_t)contender->lease;
    int len = contender->lease < 0 ? snprintf(suffix, sizeof(suffix), "/-%" PRIx64, -id)
                                   : snprintf(suffix, sizeof(suffix), "/%" PRIx64, id);
    struct slice name = contender->name;
    void *room;
    enum status st = arena_take(arena, name.len + (size_t)len, &room);
    if (st != ST_OK)
        return st;
    uint8_t *key = room;
    if (name.len > 0)
        memcpy(key, name.data, name.len);
    memcpy(key + name.len, suffix, (size_t)len);
    contender->key = slice_make(key, name.len + (size_t)len);
    contender->prefix = slice_make(key, name.len + 1);
    return ST_OK;
}

struct beginning {
    struct contender *contender;
    struct inner_call inner;
    void (*ready)(struct contender *contender);
};

static void begin(struct contender *contender, void (*ready)(struct contender *contender))
{
    if (name_keys(contender) != ST_OK)
        leave_for(contender, API_NO_MEMORY);
    else
        ready(contender);
}

static void granted(struct inner_call *inner, enum rpc_code code, const char *text,
                    struct slice message)
{
    struct beginning *beginning = CONTAINER_OF(inner, struct beginning, inner);
    struct contender *contender = beginning->contender;
    if (contender_gives_up(contender, code, text))
        return;
    while (message.len > 0) {
        struct wire_field field;
        if (wire_next(&message, &field) != ST_OK)
            break;
        if (field.number == GRANT_ID && field.type == WIRE_VARINT)
            contender->lease = (lease_id)field.value;
    }
    begin(contender, beginning->ready);
}

void contender_begin(struct contender *contender, struct rpc_call *call, struct slice name,
                     lease_id lease, void (*ready)(struct contender *contender))
{
    contender->call = call;
    contender->name = name;
    contender->lease = lease;
    if (lease != 0) {
        begin(contender, ready);
        return;
    }
    struct beginning *beginning = ARENA_NEW(call->arena, struct beginning);
    struct wire_out request;
    struct slice message = SLICE_EMPTY;
    wire_out_init(&request, call->arena, /* gap= */ 0);
    wire_put_varint(&request, GRANT_TTL, SESSION_TTL_S);
    if (beginning == NULL || wire_out_finish(&request, &message) != ST_OK) {
        leave_for(contender, API_NO_MEMORY);
        return;
    }
    beginning->contender = contender;
    beginning->ready = ready;
    beginning->inner.done = granted;
    inner_start(&beginning->inner, call, "/etcdserverpb.Lease/LeaseGrant", message);
}
