#include "tests/client/echo_server.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdbool.h>

struct echo_server {
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    char endpoint[32];
    int port;
};

enum step { STEP_REQUEST, STEP_MESSAGE, STEP_ANSWER };

struct exchange {
    enum step step;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *body;
    int cancelled;
};

static void post(struct echo_server *server)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    grpc_call_details_init(&exchange->details);
    grpc_metadata_array_init(&exchange->metadata);
    grpc_server_request_call(server->server, &exchange->call, &exchange->details,
                             &exchange->metadata, server->queue, server->queue, exchange);
}

static void read_body(struct exchange *exchange)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &exchange->body};
    exchange->step = STEP_MESSAGE;
    grpc_call_start_batch(exchange->call, &op, 1, exchange, NULL);
}

static void answer(struct exchange *exchange)
{
    bool fails = grpc_slice_str_cmp(exchange->details.method, "/fail") == 0;
    bool hangs = grpc_slice_str_cmp(exchange->details.method, "/hang") == 0;
    grpc_byte_buffer_reader reader;
    grpc_slice text = grpc_empty_slice();
    if (fails && grpc_byte_buffer_reader_init(&reader, exchange->body)) {
        text = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_op ops[4] = {
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &exchange->cancelled},
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server = {.status =
                                              fails ? GRPC_STATUS_INVALID_ARGUMENT : GRPC_STATUS_OK,
                                          .status_details = &text}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = exchange->body},
    };
    exchange->step = STEP_ANSWER;
    grpc_call_start_batch(exchange->call, ops, hangs ? 1 : fails ? 3 : 4, exchange, NULL);
    grpc_slice_unref(text);
}

static void exchange_free(struct exchange *exchange)
{
    if (exchange->call != NULL)
        grpc_call_unref(exchange->call);
    grpc_call_details_destroy(&exchange->details);
    grpc_metadata_array_destroy(&exchange->metadata);
    if (exchange->body != NULL)
        grpc_byte_buffer_destroy(exchange->body);
    free(exchange);
}

static void *serve(void *context)
{
    struct echo_server *server = context;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        struct exchange *exchange = event.tag;
        if (exchange == NULL) { /* grpc_server_shutdown_and_notify */
            grpc_completion_queue_shutdown(server->queue);
        } else if (exchange->step == STEP_REQUEST && event.success) {
            post(server);
            read_body(exchange);
        } else if (exchange->step == STEP_MESSAGE && exchange->body != NULL) {
            answer(exchange);
        } else {
            exchange_free(exchange);
        }
    }
}

struct echo_server *echo_server_start(void)
{
    struct echo_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return NULL;
    grpc_init();
    static char receive[] = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
    grpc_arg unlimited = {.type = GRPC_ARG_INTEGER, .key = receive, .value.integer = -1};
    grpc_channel_args args = {.num_args = 1, .args = &unlimited};
    server->server = grpc_server_create(&args, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    server->port = grpc_server_add_http2_port(server->server, "127.0.0.1:0", credentials);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server->server);
    post(server);
    snprintf(server->endpoint, sizeof(server->endpoint), "http://127.0.0.1:%d", server->port);
    if (pthread_create(&server->thread, NULL, serve, server) != 0)
        abort();
    return server;
}

const char *echo_server_endpoint(const struct echo_server *server)
{
    return server->endpoint;
}

void echo_server_stop(struct echo_server *server)
{
    grpc_server_shutdown_and_notify(server->server, server->queue, NULL);
    grpc_server_cancel_all_calls(server->server);
    pthread_join(server->thread, NULL);
    grpc_server_destroy(server->server);
    grpc_completion_queue_destroy(server->queue);
    free(server);
    grpc_shutdown_blocking();
}
