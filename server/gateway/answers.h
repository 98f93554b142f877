/* server/gateway/answers.h - what the gateway says when a call fails. */
#ifndef SERVER_GATEWAY_ANSWERS_H
#define SERVER_GATEWAY_ANSWERS_H
#include "base/buf.h"
#include "server/rpc/rpc.h"

/* HTTP's status for a code, and its name. */
uint32_t gateway_http_status(enum rpc_code code, const char **name_out);
/* The body of a failed call. Errors: buf_append()'s. */
CHECKED enum status gateway_put_error(enum rpc_code code, const char *text, struct buf *out);
/* The last object of a failed stream. Errors: buf_append()'s. */
CHECKED enum status gateway_put_stream_error(enum rpc_code code, const char *text, struct buf *out);
#endif
