#include "server/rpc/grpc_private.h"

#include "base/assert.h"
#include "base/clock_real.h"
#include "base/list.h"

#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

static void call_arrived(struct tag *tag, bool ok);
static void call_closed(struct tag *tag, bool ok);
static void call_again(struct tag *tag, bool ok);
static void call_finished(struct tag *tag, bool ok);

static struct grpc_rpc *rpc_of(struct rpc_call *call)
{
    _Static_assert(offsetof(struct grpc_rpc, call) == 0, "the call is cast to its holder");
    return (struct grpc_rpc *)call;
}

static bool is_unary(const struct rpc_method *method)
{
    return !method->client_streams && !method->server_streams;
}

/* Without memory gRPC core aborts the process, and so do its allocator's other users. */
static struct grpc_rpc *rpc_new(struct poller *poller)
{
    struct grpc_rpc *rpc = poller->pool;
    if (rpc != NULL) {
        poller->pool = rpc->next_free;
        poller->pool_count--;
        return rpc;
    }
    rpc = gpr_zalloc(sizeof(*rpc));
    grpc_metadata_array_init(&rpc->metadata);
    arena_init(&rpc->arena, poller->server->options.arena_bytes_max);
    return rpc;
}

void grpc_rpc_free(struct grpc_rpc *rpc)
{
    grpc_metadata_array_destroy(&rpc->metadata);
    arena_deinit(&rpc->arena);
    gpr_free(rpc);
}

void grpc_rpc_post(struct poller *poller, struct grpc_method *method)
{
    struct grpc_rpc *rpc = rpc_new(poller);
    rpc->server = poller->server;
    rpc->poller = poller;
    rpc->method = method;
    rpc->arrived.fire = call_arrived;
    grpc_byte_buffer **payload = method->method->client_streams ? NULL : &rpc->payload;
    grpc_call_error error = grpc_server_request_registered_call(
        poller->server->handle, method->registration, &rpc->handle, &rpc->deadline, &rpc->metadata,
        payload, poller->queue, poller->queue, &rpc->arrived);
    if (error != GRPC_CALL_OK) /* the queue is shut down */
        grpc_rpc_free(rpc);
}

/* gRPC's monotonic clock is ours; a far deadline is none. */
static uint64_t deadline_ns(gpr_timespec deadline)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return UINT64_MAX;
    deadline = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);
    if (deadline.tv_sec < 0)
        return 0;
    return (uint64_t)deadline.tv_sec * NS_PER_S + (uint32_t)deadline.tv_nsec;
}

static struct slice slice_of(const grpc_slice *slice)
{
    return slice_make(GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
}

static void fill_metadata(struct grpc_rpc *rpc)
{
    size_t count = rpc->metadata.count;
    struct rpc_metadata *list = ARENA_ARRAY(&rpc->arena, struct rpc_metadata, count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        list[i].key = slice_of(&rpc->metadata.metadata[i].key);
        list[i].value = slice_of(&rpc->metadata.metadata[i].value);
    }
    rpc->call.metadata = list;
    rpc->call.metadata_count = list == NULL ? 0 : (uint32_t)count;
}

static void fill_call(struct grpc_rpc *rpc)
{
    rpc->call = (struct rpc_call){
        .transport = &grpc_transport,
        .method = rpc->method->method,
        .service = rpc->method->service,
        .arena = &rpc->arena,
        .deadline_ns = deadline_ns(rpc->deadline),
        .started_ns = clock_monotonic_ns(clock_real()),
        .poller = rpc->poller->number,
    };
    fill_metadata(rpc);
    rpc->closed.fire = call_closed;
    rpc->finished.fire = call_finished;
    rpc->again.fire = call_again;
    grpc_stream_init(rpc);
    atomic_store_explicit(&rpc->refs, 1, memory_order_relaxed);
    atomic_store_explicit(&rpc->flags, 0, memory_order_relaxed);
    rpc->headers_sent = false;
    rpc->connection = UINT32_MAX;
    rpc->close_posted = false;
    rpc->cancelled = 0;
    rpc->peer[0] = '\0';
}

static void watch_close(struct grpc_rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &rpc->cancelled};
    rpc->close_posted = true;
    grpc_rpc_ref(rpc);
    grpc_call_error error = grpc_call_start_batch(rpc->handle, &op, 1, &rpc->closed, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

static enum rpc_code read_request(struct grpc_rpc *rpc, const char **text_out)
{
    if (rpc->method->method->client_streams)
        return RPC_OK;
    if (rpc->payload == NULL) {
        *text_out = "grpc: the call has no request message";
        return RPC_INTERNAL;
    }
    return grpc_message_read(rpc, rpc->payload, &rpc->call.message, text_out);
}

static void call_arrived(struct tag *tag, bool ok)
{
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, arrived);
    if (!ok) { /* the server stops */
        grpc_rpc_free(rpc);
        return;
    }
    /* Again at once: while none is posted, calls queue inside gRPC without a bound. */
    grpc_rpc_post(rpc->poller, rpc->method);
    atomic_fetch_add(&rpc->poller->live, 1);
    fill_call(rpc);
    metrics_child_add(rpc->method->stats.started, 1);
    rpc_versions_count(&rpc->server->versions, &rpc->call);
    const char *text = NULL;
    enum rpc_code code = read_request(rpc, &text);
    if (code != RPC_OK) {
        rpc_finish(&rpc->call, code, text, SLICE_EMPTY);
        return;
    }
    if (rpc->method->watches_close)
        watch_close(rpc);
    if (rpc->method->method->client_streams)
        grpc_stream_begin(rpc);
    else
        rpc->method->method->on_call(&rpc->call);
}

static void call_closed(struct tag *tag, bool ok)
{
    (void)ok;
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, closed);
    bool finishing = (atomic_load(&rpc->flags) & CALL_FINISHING) != 0;
    if (rpc->cancelled != 0) {
        atomic_store(&rpc->call.canceled, true);
        if (!finishing && rpc->call.method->on_cancel != NULL)
            rpc->call.method->on_cancel(&rpc->call);
    }
    grpc_rpc_unref(rpc);
}

void grpc_rpc_ref(struct grpc_rpc *rpc)
{
    atomic_fetch_add_explicit(&rpc->refs, 1, memory_order_release); /* see grpc_rpc_after_batch() */
}

void grpc_rpc_after_batch(const struct grpc_rpc *rpc)
{
    (void)atomic_load_explicit(&rpc->refs, memory_order_acquire);
}

/* Into the pool of the poller, whose thread this is. */
static void recycle(struct grpc_rpc *rpc)
{
    struct poller *poller = rpc->poller;
    if (poller->pool_count >= RPC_POOL_CALLS_MAX) {
        grpc_rpc_free(rpc);
        return;
    }
    if (rpc->arena.total_bytes > RPC_FREE_BYTES_MAX && poller->server->reaper.running) {
        inbox_push(&poller->server->reaper.inbox, &rpc->call.node);
        return;
    }
    if (rpc->arena.total_bytes > RPC_POOL_ARENA_BYTES_MAX)
        arena_deinit(&rpc->arena);
    else
        arena_reset(&rpc->arena);
    rpc->next_free = poller->pool;
    poller->pool = rpc;
    poller->pool_count++;
}

void grpc_rpc_unref(struct grpc_rpc *rpc)
{
    if (atomic_fetch_sub_explicit(&rpc->refs, 1, memory_order_acq_rel) != 1)
        return;
    grpc_call_unref(rpc->handle);
    if (rpc->payload != NULL)
        grpc_byte_buffer_destroy(rpc->payload);
    rpc->payload = NULL;
    rpc->metadata.count = 0;
    struct poller *poller = rpc->poller;
    if (!poller_is_current(poller)) {
        grpc_rpc_free(rpc);
        /* Under the lock, for the server may be freed as soon as the last call has ended. */
        pthread_mutex_lock(&poller->server->mutex);
        atomic_fetch_sub(&poller->live, 1);
        pthread_cond_broadcast(&poller->server->changed);
        pthread_mutex_unlock(&poller->server->mutex);
        return;
    }
    recycle(rpc);
    if (atomic_fetch_sub(&poller->live, 1) == 1 && atomic_load(&poller->server->shutting)) {
        pthread_mutex_lock(&poller->server->mutex);
        pthread_cond_broadcast(&poller->server->changed);
        pthread_mutex_unlock(&poller->server->mutex);
    }
}

static void call_finished(struct tag *tag, bool ok)
{
    (void)ok; /* the client may have gone meanwhile: nothing is left to do about it */
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, finished);
    grpc_rpc_after_batch(rpc);
    const struct rpc_server_options *options = &rpc->server->options;
    if (options->ended != NULL && is_unary(rpc->call.method))
        options->ended(options->ended_context, &rpc->call, rpc->code, rpc->answer.len);
    grpc_rpc_unref(rpc);
}

/* One batch, so that headers, answer and status leave in one write. A status without headers before
 * it or beside it would never complete. */
void grpc_rpc_finish_now(struct grpc_rpc *rpc)
{
    grpc_op ops[4] = {0};
    size_t count = 0;
    grpc_byte_buffer *message = NULL;
    if (!rpc->headers_sent)
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (rpc->code == RPC_OK && is_unary(rpc->call.method)) {
        message = grpc_message_from_answer(rpc, rpc->answer);
        rpc_stats_sent(&rpc->method->stats, rpc->answer.len);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = message;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = (grpc_status_code)rpc->code;
    ops[count++].data.send_status_from_server.status_details = &rpc->text;
    if (!rpc->close_posted) {
        ops[count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[count++].data.recv_close_on_server.cancelled = &rpc->cancelled;
    }
    rpc_stats_handled(&rpc->method->stats, rpc->code, clock_real(), rpc->call.started_ns);
    /* Once the batch is started, another thread may end and reuse rpc. */
    grpc_slice text = rpc->text;
    grpc_call *handle = rpc->handle;
    atomic_fetch_add_explicit(&rpc->refs, 0, memory_order_release); /* see grpc_rpc_after_batch() */
    grpc_call_error error = grpc_call_start_batch(handle, ops, count, &rpc->finished, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_slice_unref(text);
    if (message != NULL)
        grpc_byte_buffer_destroy(message);
}

static void keep_finish(struct grpc_rpc *rpc, enum rpc_code code, const char *text,
                        struct slice answer)
{
    ASSERT(code < RPC_CODES_COUNT);
    rpc->code = code;
    rpc->text = text == NULL ? grpc_empty_slice() : grpc_slice_from_copied_string(text);
    rpc->answer = answer;
}

static void transport_finish(struct rpc_call *call, enum rpc_code code, const char *text,
                             struct slice message)
{
    struct grpc_rpc *rpc = rpc_of(call);
    keep_finish(rpc, code, text, message);
    unsigned before = atomic_fetch_or(&rpc->flags, CALL_FINISHING);
    ASSERT((before & CALL_FINISHING) == 0);
    if ((before & CALL_SENDING) == 0)
        grpc_rpc_finish_now(rpc);
}

static void transport_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                                   struct slice message)
{
    struct grpc_rpc *rpc = rpc_of(call);
    uint32_t responders = rpc->server->options.responders_count;
    if (responders == 0) {
        transport_finish(call, code, text, message);
        return;
    }
    keep_finish(rpc, code, text, message);
    unsigned before = atomic_fetch_or(&rpc->flags, CALL_FINISHING);
    ASSERT((before & CALL_FINISHING) == 0);
    if ((before & CALL_SENDING) == 0)
        inbox_push(&rpc->server->responders[call->poller % responders].inbox, &call->node);
}

/* gRPC knows a connection handed over to it only as "fd:N". */
static const char *transport_peer(struct rpc_call *call)
{
    struct grpc_rpc *rpc = rpc_of(call);
    if (rpc->peer[0] != '\0')
        return rpc->peer;
    char *name = grpc_call_get_peer(rpc->handle);
    struct rpc_server *server = rpc->server;
    pthread_mutex_lock(&server->mutex);
    size_t fd = SIZE_MAX;
    if (strncmp(name, "fd:", 3) == 0)
        fd = strtoul(name + 3, NULL, 10);
    snprintf(rpc->peer, sizeof(rpc->peer), "%s",
             fd < server->peers_count ? server->peers[fd] : name);
    pthread_mutex_unlock(&server->mutex);
    gpr_free(name);
    return rpc->peer;
}

static void transport_hold(struct rpc_call *call)
{
    struct grpc_rpc *rpc = rpc_of(call);
    ASSERT(!call->held);
    call->held = true;
    grpc_rpc_ref(rpc);
}

static void call_again(struct tag *tag, bool ok)
{
    (void)ok;
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, again);
    grpc_rpc_after_batch(rpc);
    rpc->call.held = false;
    rpc->call.repeated = true;
    if (rpc->call.method->client_streams)
        grpc_stream_again(rpc);
    else
        rpc->call.method->on_call(&rpc->call);
    grpc_rpc_unref(rpc);
}

/* A batch of nothing is done at once: its completion comes to the poller. */
static void transport_again(struct rpc_call *call)
{
    struct grpc_rpc *rpc = rpc_of(call);
    grpc_call *handle = rpc->handle;
    atomic_fetch_add_explicit(&rpc->refs, 0, memory_order_release); /* see grpc_rpc_after_batch() */
    grpc_call_error error = grpc_call_start_batch(handle, NULL, 0, &rpc->again, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

static void transport_ref(struct rpc_call *call)
{
    grpc_rpc_ref(rpc_of(call));
}

static void transport_unref(struct rpc_call *call)
{
    grpc_rpc_unref(rpc_of(call));
}

const struct rpc_transport grpc_transport = {
    .finish = transport_finish,
    .finish_later = transport_finish_later,
    .send = grpc_stream_send,
    .send_pieces = grpc_stream_send_pieces,
    .end_burst = grpc_burst_end,
    .peer = transport_peer,
    .hold = transport_hold,
    .again = transport_again,
    .ref = transport_ref,
    .unref = transport_unref,
};
