/* server/services/observe.c - Election.Observe: the leader of an election, then every value it
 * proclaims, then the next leader. One step at a time: look for the oldest key; where there is none
 * wait for the first to be put; follow that key until it is deleted; look again. */
#include "base/list.h"
#include "server/services/election_private.h"
#include "server/services/outbox.h"

#define STEP_BYTES_MAX (64U << 20) /* of one look */

enum { WATCH_NONE, WATCH_STARTING, WATCH_RUNNING, WATCH_STOPPING, WATCH_PHASES };

struct observer {
    struct rpc_call *call;
    struct outbox outbox;
    struct inner_call inner;
    struct arena step; /* what the current step needs */
    struct slice prefix;
    bool is_following; /* one key; else all of them are waited for */
    bool is_over;      /* the hub's thread: the step has what it waited for */
    struct slice key;  /* that is followed */
    int64_t from_revision;
    struct watch_local watch;
    atomic_bool canceled, stop_wanted;
    atomic_uint watch_state; /* as a contender's */
    enum api_error error;    /* why it ends */
};

static void look(struct observer *observer);

static void end(struct observer *observer, enum rpc_code code, const char *text)
{
    arena_deinit(&observer->step);
    outbox_end(&observer->outbox, code, text);
}

static void end_for(struct observer *observer, enum api_error error)
{
    end(observer, (enum rpc_code)api_error_code(error), api_error_text(error));
}

static enum status tell(struct observer *observer, struct slice header, const struct mvcc_kv *kv)
{
    struct arena arena;
    struct wire_out out;
    struct slice message;
    arena_init(&arena, SIZE_MAX / 2);
    wire_out_init(&out, &arena, /* gap= */ 0);
    election_answer_leader(&out, header, kv);
    enum status st = wire_out_finish(&out, &message);
    if (st == ST_OK)
        st = outbox_send(&observer->outbox, message);
    arena_deinit(&arena);
    return st;
}

/* ---- the watch of a step ---- */

static void stop_watch(struct observer *observer)
{
    atomic_store(&observer->stop_wanted, true); /* before the look: or nobody would see it */
    unsigned state = atomic_load(&observer->watch_state);
    if (state % WATCH_PHASES == WATCH_RUNNING &&
        atomic_compare_exchange_strong(&observer->watch_state, &state,
                                       state - WATCH_RUNNING + WATCH_STOPPING))
        watch_local_stop(&observer->watch);
}

static enum status tell_event(struct observer *observer, const struct watch_event *event,
                              int64_t revision)
{
    uint8_t bytes[RESPONSE_HEADER_BYTES_MAX];
    const struct response_header header = header_now(observer->call->service, revision);
    size_t size = response_header_encode(&header, bytes);
    struct slice field = slice_make(bytes, size);
    struct wire_field inner;
    if (wire_next(&field, &inner) != ST_OK)
        return ST_INVALID;
    const struct mvcc_kv kv = {.key = event->key,
                               .value = event->value,
                               .create_revision = event->create_revision,
                               .mod_revision = event->mod_revision,
                               .version = event->version,
                               .lease = event->lease};
    return tell(observer, inner.bytes, &kv);
}

/* The first key that is put is the leader's. */
static enum status take_first(struct observer *observer, const struct watch_event *event)
{
    enum status st = arena_copy(&observer->step, event->key, &observer->key);
    observer->from_revision = event->mod_revision + 1;
    observer->is_over = true;
    return st == ST_OK ? tell_event(observer, event, event->mod_revision) : st;
}

static void on_event(struct watch_local *watch, const struct watch_event *event)
{
    struct observer *observer = CONTAINER_OF(watch, struct observer, watch);
    enum status st = ST_OK;
    if (observer->is_over || (event->is_delete && !observer->is_following))
        return;
    if (event->is_delete)
        observer->is_over = true;
    else if (observer->is_following)
        st = tell_event(observer, event, event->header_revision);
    else
        st = take_first(observer, event);
    if (st != ST_OK) {
        observer->is_over = true;
        observer->error = api_error_of(st);
    }
    if (observer->is_over)
        stop_watch(observer);
}

static void follow(struct observer *observer);

static enum api_error error_of(enum status why)
{
    switch (why) {
    case ST_CANCELED:
    case ST_COMPACTED:
        return API_OK; /* the next look tells more */
    case ST_BUSY:
        return API_NO_LEADER;
    case ST_DROPPED:
        return API_STOPPED;
    default:
        return api_error_of(why);
    }
}

static void on_end(struct watch_local *watch, enum status why)
{
    struct observer *observer = CONTAINER_OF(watch, struct observer, watch);
    unsigned state = atomic_load(&observer->watch_state);
    atomic_store(&observer->watch_state, state - state % WATCH_PHASES + WATCH_PHASES);
    if (observer->error == API_OK)
        observer->error = error_of(why);
    if (atomic_load(&observer->canceled))
        end_for(observer, API_CANCELED);
    else if (observer->error != API_OK)
        end_for(observer, observer->error);
    else if (observer->is_over && !observer->is_following)
        follow(observer);
    else
        look(observer);
}

static void start_watch(struct observer *observer, struct slice key, struct slice end_key)
{
    const struct services *services = observer->call->service;
    struct rpc_call *call = observer->call;
    observer->is_over = false;
    observer->watch = (struct watch_local){.key = key,
                                           .range_end = end_key,
                                           .start_revision = observer->from_revision,
                                           .wants_leader = wants_leader(call),
                                           .on_event = on_event,
                                           .on_end = on_end};
    rpc_ref(call); /* it may be over before this returns */
    atomic_store(&observer->stop_wanted, false);
    unsigned starting = atomic_fetch_add(&observer->watch_state, WATCH_STARTING) + WATCH_STARTING;
    watch_local_start(services->options.watch, &observer->watch);
    if (atomic_compare_exchange_strong(&observer->watch_state, &starting,
                                       starting - WATCH_STARTING + WATCH_RUNNING) &&
        (atomic_load(&observer->canceled) || atomic_load(&observer->stop_wanted)))
        stop_watch(observer); /* who wanted it could not stop it yet */
    rpc_unref(call);
}

static void follow(struct observer *observer)
{
    observer->is_following = true;
    start_watch(observer, observer->key, SLICE_EMPTY);
}

static void await_first(struct observer *observer)
{
    struct slice end_key;
    observer->is_following = false;
    if (arena_copy(&observer->step, observer->prefix, &end_key) != ST_OK) {
        end_for(observer, API_NO_MEMORY);
        return;
    }
    ((uint8_t *)(uintptr_t)end_key.data)[end_key.len - 1]++; /* '/' */
    start_watch(observer, observer->prefix, end_key);
}

/* ---- steps ---- */

static void looked(struct inner_call *inner, enum rpc_code code, const char *text,
                   struct slice message)
{
    struct observer *observer = CONTAINER_OF(inner, struct observer, inner);
    struct inner_answer read;
    if (atomic_load(&observer->canceled)) {
        end_for(observer, API_CANCELED);
        return;
    }
    if (code != RPC_OK) {
        end(observer, code == RPC_DEADLINE_EXCEEDED ? code : RPC_UNKNOWN, text);
        return;
    }
    enum status st = inner_read(message, /* is_txn= */ false, &read);
    if (st == ST_OK && read.found)
        st = tell(observer, read.header, &read.kv);
    if (st != ST_OK) {
        end_for(observer, api_error_of(st));
        return;
    }
    if (!read.found) {
        observer->from_revision = read.revision;
        await_first(observer);
        return;
    }
    observer->key = read.kv.key;
    observer->from_revision = read.revision + 1;
    follow(observer);
}

static void look(struct observer *observer)
{
    arena_reset(&observer->step);
    observer->inner.done = looked;
    observer->inner.arena = &observer->step;
    inner_start(&observer->inner, observer->call, "/etcdserverpb.KV/Range",
                inner_range_first(&observer->step, observer->prefix, INNER_OLDEST,
                                  /* max_create= */ 0));
}

void on_observe(struct rpc_call *call)
{
    struct observer *observer = ARENA_NEW(call->arena, struct observer);
    enum status st = observer == NULL ? ST_NO_MEMORY : election_prefix(call, &observer->prefix);
    if (st != ST_OK) {
        finish_error(call, st == ST_INVALID ? API_UNDECODABLE : API_NO_MEMORY);
        return;
    }
    observer->call = call;
    arena_init(&observer->step, STEP_BYTES_MAX);
    outbox_init(&observer->outbox, call);
    call->state = observer;
    look(observer);
}

void on_observe_sent(struct rpc_call *call)
{
    outbox_sent(&((struct observer *)call->state)->outbox);
}

void on_observe_cancel(struct rpc_call *call)
{
    struct observer *observer = call->state;
    if (observer == NULL)
        return;
    atomic_store(&observer->canceled, true);
    stop_watch(observer);
    outbox_cancel(&observer->outbox);
}
