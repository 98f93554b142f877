#include "server/rpc/rpc.h"

#include "base/buf.h"

void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *text, struct slice message)
{
    call->transport->finish(call, code, text, message);
}

void rpc_finish_later(struct rpc_call *call, enum rpc_code code, const char *text,
                      struct slice message)
{
    call->transport->finish_later(call, code, text, message);
}

enum status rpc_send(struct rpc_call *call, struct slice message)
{
    return call->transport->send(call, message);
}

static enum status join_and_send(struct rpc_call *call, const struct rpc_piece *pieces,
                                 uint32_t count)
{
    struct buf joined;
    enum status st = ST_OK;
    buf_init(&joined, SIZE_MAX);
    for (uint32_t i = 0; i < count && st == ST_OK; i++)
        st = buf_append(&joined, pieces[i].bytes);
    if (st == ST_OK)
        st = call->transport->send(call, buf_slice(&joined));
    buf_deinit(&joined);
    return st;
}

enum status rpc_send_pieces(struct rpc_call *call, const struct rpc_piece *pieces, uint32_t count,
                            struct rpc_burst *burst)
{
    return call->transport->send_pieces == NULL
               ? join_and_send(call, pieces, count)
               : call->transport->send_pieces(call, pieces, count, burst);
}

void rpc_burst_end(struct rpc_burst *burst)
{
    if (burst->transport != NULL)
        burst->transport->end_burst(burst);
    burst->transport = NULL;
    burst->count = 0;
}

void rpc_hold(struct rpc_call *call)
{
    call->transport->hold(call);
}

void rpc_again(struct rpc_call *call)
{
    call->transport->again(call);
}

const char *rpc_peer(struct rpc_call *call)
{
    return call->transport->peer(call);
}

void rpc_ref(struct rpc_call *call)
{
    call->transport->ref(call);
}

void rpc_unref(struct rpc_call *call)
{
    call->transport->unref(call);
}

enum status rpc_metadata_get(const struct rpc_call *call, const char *key, struct slice *value_out)
{
    struct slice wanted = slice_from_str(key);
    for (uint32_t i = 0; i < call->metadata_count; i++) {
        if (slice_eq(call->metadata[i].key, wanted)) {
            *value_out = call->metadata[i].value;
            return ST_OK;
        }
    }
    return ST_NOT_FOUND;
}
