/* tests/server_rpc/grpc_client.h - a blocking gRPC client, for tests alone. */
#ifndef TESTS_SERVER_RPC_GRPC_CLIENT_H
#define TESTS_SERVER_RPC_GRPC_CLIENT_H
#include "base/slice.h"
#include "server/rpc/rpc.h"

struct grpc_client; /* opaque, owned by whoever made it */
struct grpc_stream;

/* What a call ended with, zeroed at first; data is owned by whoever holds the reply, and freed when
 * the reply is used again. */
struct grpc_reply {
    enum rpc_code code;
    char text[256];
    uint8_t *data; /* NULL: no message came */
    size_t len;
};

struct grpc_client *grpc_client_new(uint16_t port, bool compress);
void grpc_client_free(struct grpc_client *client);

/* timeout_ms 0: none. metadata: one pair, or NULL. */
void grpc_client_call(struct grpc_client *client, const char *path, struct slice message,
                      uint32_t timeout_ms, const char *const metadata[2], struct grpc_reply *out);
void grpc_reply_free(struct grpc_reply *reply);

/* A stream in either direction; each step blocks until it is done. */
struct grpc_stream *grpc_stream_open(struct grpc_client *client, const char *path);
bool grpc_stream_write(struct grpc_stream *stream, struct slice message);
void grpc_stream_half_close(struct grpc_stream *stream);
/* False: no more messages; out->code and out->text are set by grpc_stream_end. */
bool grpc_stream_read(struct grpc_stream *stream, struct grpc_reply *out);
void grpc_stream_cancel(struct grpc_stream *stream);
/* Waits for the status and frees the stream. */
void grpc_stream_end(struct grpc_stream *stream, struct grpc_reply *out);
#endif
