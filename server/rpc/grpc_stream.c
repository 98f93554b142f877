#include "server/rpc/grpc_private.h"

#include "base/assert.h"
#include "base/list.h"

#include <grpc/byte_buffer.h>

static void message_received(struct tag *tag, bool ok);
static void message_sent(struct tag *tag, bool ok);

static void receive(struct grpc_rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &rpc->received};
    grpc_rpc_ref(rpc);
    grpc_call_error error =
        grpc_call_start_batch(rpc->handle, &op, 1, &rpc->message_received, NULL);
    ASSERT(error == GRPC_CALL_OK);
}

void grpc_stream_init(struct grpc_rpc *rpc)
{
    rpc->message_received.fire = message_received;
    rpc->message_sent.fire = message_sent;
}

static bool is_finishing(const struct grpc_rpc *rpc)
{
    return (atomic_load(&rpc->flags) & CALL_FINISHING) != 0;
}

void grpc_stream_begin(struct grpc_rpc *rpc)
{
    if (rpc->call.method->on_open != NULL)
        rpc->call.method->on_open(&rpc->call);
    if (!is_finishing(rpc))
        receive(rpc);
}

/* Hands over one message; the bytes live in gRPC's buffer, which ends with the callback. */
static void deliver(struct grpc_rpc *rpc)
{
    struct slice message;
    const char *text = NULL;
    enum rpc_code code = grpc_message_read(rpc, rpc->received, &message, &text);
    if (code == RPC_OK) {
        rpc->call.method->on_message(&rpc->call, message);
        return;
    }
    /* The service learns of it as of any other cancellation, and finishes. */
    grpc_call_cancel_with_status(rpc->handle, (grpc_status_code)code, text, NULL);
}

static void take(struct grpc_rpc *rpc, bool ok)
{
    bool arrived = ok && rpc->received != NULL;
    if (arrived && !is_finishing(rpc))
        deliver(rpc);
    /* Nothing came: the client closed its side, or the call broke and on_cancel tells. */
    else if (!arrived && !is_finishing(rpc) && !grpc_call_failed_before_recv_message(rpc->handle))
        rpc->call.method->on_message(&rpc->call, SLICE_EMPTY);
    if (rpc->call.held)
        return;
    if (rpc->received != NULL)
        grpc_byte_buffer_destroy(rpc->received);
    rpc->received = NULL;
    if (arrived && !is_finishing(rpc))
        receive(rpc);
}

static void message_received(struct tag *tag, bool ok)
{
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, message_received);
    take(rpc, ok);
    grpc_rpc_unref(rpc);
}

void grpc_stream_again(struct grpc_rpc *rpc)
{
    take(rpc, /* ok= */ true);
}

enum status grpc_stream_send(struct rpc_call *call, struct slice message)
{
    const struct rpc_piece piece = {.bytes = message};
    return grpc_stream_send_pieces(call, &piece, 1, NULL);
}

void grpc_stream_start_send(struct grpc_rpc *rpc)
{
    grpc_op ops[2] = {0};
    size_t ops_count = 0;
    if (!rpc->headers_sent)
        ops[ops_count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    rpc->headers_sent = true;
    grpc_byte_buffer *buffer = rpc->outgoing;
    grpc_call *handle = rpc->handle; /* rpc may have ended once the batch is started */
    ops[ops_count].op = GRPC_OP_SEND_MESSAGE;
    ops[ops_count++].data.send_message.send_message = buffer;
    grpc_call_error error = grpc_call_start_batch(handle, ops, ops_count, &rpc->message_sent, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(buffer);
}

enum status grpc_stream_send_pieces(struct rpc_call *call, const struct rpc_piece *pieces,
                                    uint32_t count, struct rpc_burst *burst)
{
    struct grpc_rpc *rpc = CONTAINER_OF(call, struct grpc_rpc, call);
    ASSERT(call->method->server_streams);
    if (atomic_load(&call->canceled))
        return ST_CANCELED;
    unsigned before = atomic_fetch_or(&rpc->flags, CALL_SENDING);
    ASSERT((before & CALL_FINISHING) == 0);
    if ((before & CALL_SENDING) != 0)
        return ST_BUSY;
    rpc->outgoing = grpc_message_from_pieces(pieces, count);
    rpc_stats_sent(&rpc->method->stats, grpc_byte_buffer_length(rpc->outgoing));
    grpc_rpc_ref(rpc);
    if (burst != NULL)
        grpc_burst_hold(burst, rpc);
    else
        grpc_stream_start_send(rpc);
    return ST_OK;
}

static void message_sent(struct tag *tag, bool ok)
{
    struct grpc_rpc *rpc = CONTAINER_OF(tag, struct grpc_rpc, message_sent);
    grpc_rpc_after_batch(rpc);
    unsigned before = atomic_fetch_and(&rpc->flags, ~(unsigned)CALL_SENDING);
    if ((before & CALL_FINISHING) != 0)
        grpc_rpc_finish_now(rpc); /* it waited for this message */
    else if (ok && rpc->call.method->on_sent != NULL)
        rpc->call.method->on_sent(&rpc->call);
    grpc_rpc_unref(rpc);
}
