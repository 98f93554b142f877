/* server/gateway/gateway_transport.c - the services' side of a call. */
#include "server/gateway/gateway_private.h"

#include "base/assert.h"
#include "server/gateway/encode.h"

#include <stdlib.h>

#define LARGE_ANSWER_BYTES (64U << 10)

static struct gateway_call *holder_of(struct rpc_call *call)
{
    _Static_assert(offsetof(struct gateway_call, call) == 0, "the call is cast to its holder");
    return (struct gateway_call *)call;
}

void gateway_call_unref(struct gateway_call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) != 1)
        return;
    struct gateway_events events = call->events;
    struct gateway *gateway = call->gateway;
    atomic_fetch_sub(&gateway->bodies_bytes, call->body_bytes);
    atomic_fetch_sub(&gateway->calls, 1);
    buf_deinit(&call->body);
    buf_deinit(&call->wire);
    buf_deinit(&call->message_out);
    buf_deinit(&call->json);
    buf_deinit(&call->error_json);
    free(call->text);
    arena_deinit(&call->arena);
    free(call);
    events.released(events.context);
}

static void set_text(struct gateway_call *call, const char *text)
{
    free(call->text);
    call->text = text == NULL ? NULL : strdup(text); /* without memory it is empty */
}

void gateway_encode_answer(struct gateway_call *call)
{
    call->is_encoded = true;
    if (call->code != RPC_OK)
        return;
    rpc_stats_sent(&call->route->stats, call->answer.len);
    /* Most of a large answer is base64: room for it at once, if there is memory. */
    uint8_t *room;
    if (call->answer.len >= LARGE_ANSWER_BYTES)
        (void)!buf_extend(&call->json, call->answer.len / 3 * 4, &room);
    buf_reset(&call->json);
    enum status st = gateway_encode(call->answer, call->route->route.messages->output, &call->json);
    if (st == ST_OK)
        return;
    call->code = st == ST_INVALID ? RPC_INTERNAL : RPC_RESOURCE_EXHAUSTED;
    set_text(call, st == ST_INVALID ? "the answer is no valid message" : status_str(st));
}

static void finish(struct gateway_call *call, enum rpc_code code, const char *text,
                   struct slice message, bool encode)
{
    ASSERT(code < RPC_CODES_COUNT);
    call->code = code;
    set_text(call, text);
    call->answer = message;
    if (encode && !is_stream(call) && !atomic_load(&call->call.canceled))
        gateway_encode_answer(call);
    rpc_stats_handled(&call->route->stats, code, call->gateway->options.clock, call->began_ns);
    unsigned before = atomic_fetch_or(&call->flags, CALL_FINISHING);
    ASSERT((before & CALL_FINISHING) == 0);
    call->events.wake(call->events.context);
    gateway_call_unref(call);
}

/* A large answer is turned into JSON by the reader that made it, not by the HTTP thread. */
static void transport_finish(struct rpc_call *call, enum rpc_code code, const char *text,
                             struct slice message)
{
    finish(holder_of(call), code, text, message, /* encode= */ true);
}

static void transport_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                                   struct slice message)
{
    finish(holder_of(call), code, text, message, /* encode= */ false);
}

static enum status transport_send(struct rpc_call *call, struct slice message)
{
    struct gateway_call *holder = holder_of(call);
    ASSERT(call->method->server_streams);
    if (atomic_load(&call->canceled))
        return ST_CANCELED;
    unsigned before = atomic_fetch_or(&holder->flags, CALL_SENDING);
    ASSERT((before & CALL_FINISHING) == 0);
    if ((before & CALL_SENDING) != 0)
        return ST_BUSY;
    buf_reset(&holder->message_out);
    enum status st = buf_append(&holder->message_out, message);
    if (st != ST_OK) {
        atomic_fetch_and(&holder->flags, ~(unsigned)CALL_SENDING);
        return ST_NO_MEMORY;
    }
    rpc_stats_sent(&holder->route->stats, message.len);
    atomic_fetch_or(&holder->flags, CALL_READY);
    holder->events.wake(holder->events.context);
    return ST_OK;
}

static const char *transport_peer(struct rpc_call *call)
{
    return holder_of(call)->peer;
}

static void transport_hold(struct rpc_call *call)
{
    ASSERT(!call->held);
    call->held = true;
    atomic_fetch_add(&holder_of(call)->refs, 1);
}

/* Given back by gateway.c, which gives the call to its method again. */
static void transport_again(struct rpc_call *call)
{
    struct gateway_call *holder = holder_of(call);
    const struct gateway_events *events = &holder->events;
    atomic_fetch_add(&holder->refs, 1); /* the HTTP thread may see it at once, and end the call */
    unsigned before = atomic_fetch_or(&holder->flags, CALL_AGAIN);
    if ((before & CALL_CLOSED) != 0)
        events->orphan(events->context);
    else
        events->wake(events->context);
    gateway_call_unref(holder);
}

static void transport_ref(struct rpc_call *call)
{
    atomic_fetch_add(&holder_of(call)->refs, 1);
}

static void transport_unref(struct rpc_call *call)
{
    gateway_call_unref(holder_of(call));
}

const struct rpc_transport gateway_transport = {
    .finish = transport_finish,
    .finish_later = transport_finish_later,
    .send = transport_send,
    .peer = transport_peer,
    .hold = transport_hold,
    .again = transport_again,
    .ref = transport_ref,
    .unref = transport_unref,
};
