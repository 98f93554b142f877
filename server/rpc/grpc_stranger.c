#include "server/rpc/grpc_private.h"

#include "base/assert.h"
#include "base/list.h"

#include <grpc/slice.h>
#include <grpc/support/alloc.h>

static void stranger_arrived(struct tag *tag, bool ok);
static void stranger_finished(struct tag *tag, bool ok);

static void stranger_free(struct grpc_stranger *stranger)
{
    grpc_call_details_destroy(&stranger->details);
    grpc_metadata_array_destroy(&stranger->metadata);
    gpr_free(stranger);
}

/* One is posted at all times: a call that nothing waits for would hang until its deadline. */
void grpc_stranger_post(struct poller *poller)
{
    struct grpc_stranger *stranger = gpr_zalloc(sizeof(*stranger));
    stranger->poller = poller;
    stranger->arrived.fire = stranger_arrived;
    stranger->finished.fire = stranger_finished;
    grpc_call_details_init(&stranger->details);
    grpc_metadata_array_init(&stranger->metadata);
    grpc_call_error error = grpc_server_request_call(
        poller->server->handle, &stranger->handle, &stranger->details, &stranger->metadata,
        poller->queue, poller->queue, &stranger->arrived);
    if (error != GRPC_CALL_OK) /* the queue is shut down */
        stranger_free(stranger);
}

static bool is_service_known(const struct rpc_server *server, struct slice service)
{
    for (uint32_t i = 0; i < server->methods_count; i++) {
        const char *path = server->methods[i].method->path;
        if (strncmp(path + 1, (const char *)service.data, service.len) == 0 &&
            path[1 + service.len] == '/')
            return true;
    }
    return false;
}

/* grpc-go's words for "/service/method". */
static void describe(const struct rpc_server *server, struct slice path, char *text, size_t size)
{
    const char *name = (const char *)path.data;
    const uint8_t *slash = path.len > 1 ? memrchr(path.data + 1, '/', path.len - 1) : NULL;
    if (slash == NULL || name[0] != '/') {
        snprintf(text, size, "malformed method name: \"%.*s\"", (int)path.len, name);
        return;
    }
    struct slice service = slice_make(path.data + 1, (size_t)(slash - path.data) - 1);
    int method_len = (int)(path.len - service.len) - 2;
    if (is_service_known(server, service))
        snprintf(text, size, "unknown method %.*s for service %.*s", method_len, slash + 1,
                 (int)service.len, name + 1);
    else
        snprintf(text, size, "unknown service %.*s", (int)service.len, name + 1);
}

static void stranger_arrived(struct tag *tag, bool ok)
{
    struct grpc_stranger *stranger = CONTAINER_OF(tag, struct grpc_stranger, arrived);
    if (!ok) { /* the server stops */
        stranger_free(stranger);
        return;
    }
    grpc_stranger_post(stranger->poller);
    char text[RPC_TEXT_BYTES_MAX];
    struct slice path = slice_make(GRPC_SLICE_START_PTR(stranger->details.method),
                                   GRPC_SLICE_LENGTH(stranger->details.method));
    describe(stranger->poller->server, path, text, sizeof(text));
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op ops[3] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server = {.status = GRPC_STATUS_UNIMPLEMENTED,
                                          .status_details = &details}},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &stranger->cancelled},
    };
    grpc_call_error error =
        grpc_call_start_batch(stranger->handle, ops, 3, &stranger->finished, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_slice_unref(details);
}

static void stranger_finished(struct tag *tag, bool ok)
{
    (void)ok;
    struct grpc_stranger *stranger = CONTAINER_OF(tag, struct grpc_stranger, finished);
    grpc_call_unref(stranger->handle);
    stranger_free(stranger);
}
