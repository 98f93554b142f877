#include "server/gateway/answers.h"

#include "base/assert.h"
#include "server/gateway/json_text.h"

static const struct {
    uint32_t status;
    const char *name;
} http_of[RPC_CODES_COUNT] = {
    [RPC_OK] = {200, "OK"},
    [RPC_CANCELLED] = {408, "Request Timeout"},
    [RPC_UNKNOWN] = {500, "Internal Server Error"},
    [RPC_INVALID_ARGUMENT] = {400, "Bad Request"},
    [RPC_DEADLINE_EXCEEDED] = {504, "Gateway Timeout"},
    [RPC_NOT_FOUND] = {404, "Not Found"},
    [RPC_ALREADY_EXISTS] = {409, "Conflict"},
    [RPC_PERMISSION_DENIED] = {403, "Forbidden"},
    [RPC_RESOURCE_EXHAUSTED] = {429, "Too Many Requests"},
    [RPC_FAILED_PRECONDITION] = {400, "Bad Request"},
    [RPC_ABORTED] = {409, "Conflict"},
    [RPC_OUT_OF_RANGE] = {400, "Bad Request"},
    [RPC_UNIMPLEMENTED] = {501, "Not Implemented"},
    [RPC_INTERNAL] = {500, "Internal Server Error"},
    [RPC_UNAVAILABLE] = {503, "Service Unavailable"},
    [RPC_DATA_LOSS] = {500, "Internal Server Error"},
    [RPC_UNAUTHENTICATED] = {401, "Unauthorized"},
};

uint32_t gateway_http_status(enum rpc_code code, const char **name_out)
{
    ASSERT(code < RPC_CODES_COUNT);
    *name_out = http_of[code].name;
    return http_of[code].status;
}

static enum status put_text(const char *key, const char *text, struct buf *out)
{
    enum status st = buf_printf(out, "\"%s\":", key);
    return st == ST_OK ? json_quote(slice_from_str(text), out) : st;
}

/* A member with its default value is left out, as everywhere. */
enum status gateway_put_error(enum rpc_code code, const char *text, struct buf *out)
{
    if (text == NULL || text[0] == '\0')
        return buf_printf(out, "{\"code\":%d}", (int)code);
    enum status st = buf_append(out, SLICE("{"));
    if (st == ST_OK)
        st = put_text("error", text, out);
    if (st == ST_OK)
        st = buf_printf(out, ",\"code\":%d,", (int)code);
    if (st == ST_OK)
        st = put_text("message", text, out);
    return st == ST_OK ? buf_append(out, SLICE("}")) : st;
}

enum status gateway_put_stream_error(enum rpc_code code, const char *text, struct buf *out)
{
    const char *name;
    uint32_t http_status = gateway_http_status(code, &name);
    enum status st =
        buf_printf(out, "{\"error\":{\"grpc_code\":%d,\"http_code\":%u,", (int)code, http_status);
    if (st == ST_OK && text != NULL && text[0] != '\0') {
        st = put_text("message", text, out);
        if (st == ST_OK)
            st = buf_append(out, SLICE(","));
    }
    return st == ST_OK ? buf_printf(out, "\"http_status\":\"%s\"}}", name) : st;
}
