/* tools/client/client_private.h - what the files of the transport share. */
#ifndef TOOLS_CLIENT_CLIENT_PRIVATE_H
#define TOOLS_CLIENT_CLIENT_PRIVATE_H
#include "tools/client/client.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

/* What a completion queue's tag points at: who started an operation is told of its end. */
struct completion {
    void (*run)(struct completion *completion, bool ok);
};

struct client {
    grpc_channel **channels;
    uint32_t channels_count;
    uint32_t in_flight; /* unary calls */
    uint32_t pending;   /* operations whose completion is to come, those of streams too */
    bool wait_for_ready, closing;
    grpc_completion_queue *queue;
    struct call *calls; /* all in flight, for client_close() */
    struct call *free;  /* kept for the next start */
    struct client_stream *streams;
};

/* One endpoint of the list, as gRPC wants it. */
struct client_endpoint {
    char target[300];
    enum endpoint_security { ENDPOINT_PLAIN, ENDPOINT_TLS, ENDPOINT_EITHER } security;
};

/* Takes the next endpoint off the front of *list. Errors: ST_INVALID. */
CHECKED enum status client_next_endpoint(const char **list, struct client_endpoint *out);

/* A channel to endpoint; owned. NULL when the TLS material is none. */
grpc_channel *client_channel_new(const struct client_options *options,
                                 const struct client_endpoint *endpoint);

/* A call on request's connection. Owned: grpc_call_unref(). */
grpc_call *client_call_create(struct client *client, const struct client_request *request);

/* The operation that begins a call. metadata is the caller's and has to live until the batch has
 * been started; client_metadata_unref() after it. */
grpc_op client_begin_op(const struct client *client, const struct client_request *request,
                        grpc_metadata metadata[static CLIENT_METADATA_MAX]);
void client_metadata_unref(const struct client_request *request, grpc_metadata *metadata);

void client_start_ops(struct client *client, grpc_call *call, const grpc_op *ops, size_t count,
                      struct completion *completion);

/* The message's bytes in one slice; owned. */
grpc_slice client_message_bytes(grpc_byte_buffer *message);
grpc_byte_buffer *client_message_new(struct slice body); /* owned; a copy */

/* For client_start(): keeps the reply. */
struct client_waiter {
    struct arena *arena;
    struct client_reply *out; /* its slices in arena */
    enum status status;
    bool done;
};
void client_take_reply(void *context, const struct client_reply *reply);

/* Cancels every stream; client_close() waits for their ends. */
void client_streams_cancel(struct client *client);
#endif
