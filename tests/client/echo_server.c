#include "tests/client/echo_server.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdbool.h>

#define REQUESTS_MAX 16U

struct echo_server {
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    char endpoint[40];
    int port;
    pthread_mutex_t lock; /* of what follows */
    uint32_t calls_count, fail_count, fail_code, tokens_count;
    const char *fail_text;
    const struct echo_step *steps;
    uint32_t steps_count, requests_count;
    struct {
        uint8_t bytes[128];
        size_t len;
    } requests[REQUESTS_MAX];
};

enum step { STEP_REQUEST, STEP_MESSAGE, STEP_SENT, STEP_ANSWER };

struct exchange {
    struct echo_server *server;
    enum step step;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *body;
    bool has_begun;
    unsigned left, bytes, number; /* of "/many" */
    int cancelled;
};

static void post(struct echo_server *server)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    exchange->server = server;
    grpc_call_details_init(&exchange->details);
    grpc_metadata_array_init(&exchange->metadata);
    grpc_server_request_call(server->server, &exchange->call, &exchange->details,
                             &exchange->metadata, server->queue, server->queue, exchange);
}

static bool is_method(const struct exchange *exchange, const char *method)
{
    return grpc_slice_str_cmp(exchange->details.method, method) == 0;
}

static void read_body(struct exchange *exchange)
{
    if (exchange->body != NULL)
        grpc_byte_buffer_destroy(exchange->body);
    exchange->body = NULL;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &exchange->body};
    exchange->step = STEP_MESSAGE;
    grpc_call_start_batch(exchange->call, &op, 1, exchange, NULL);
}

static grpc_slice body_bytes(struct exchange *exchange)
{
    grpc_byte_buffer_reader reader;
    if (exchange->body == NULL || !grpc_byte_buffer_reader_init(&reader, exchange->body))
        return grpc_empty_slice();
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    return bytes;
}

static void set_body(struct exchange *exchange, const char *text, size_t len)
{
    if (exchange->body != NULL)
        grpc_byte_buffer_destroy(exchange->body);
    grpc_slice bytes = grpc_slice_from_copied_buffer(text, len);
    exchange->body = grpc_raw_byte_buffer_create(&bytes, 1);
    grpc_slice_unref(bytes);
}

/* Sends the body, if there is one, and the status. */
static void answer(struct exchange *exchange, uint32_t code, const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op ops[4] = {
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &exchange->cancelled},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server = {.status = (grpc_status_code)code,
                                          .status_details = &details}},
    };
    size_t count = 2;
    if (!exchange->has_begun)
        ops[count++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    if (code == 0 && exchange->body != NULL)
        ops[count++] =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = exchange->body};
    exchange->step = STEP_ANSWER;
    grpc_call_start_batch(exchange->call, ops, count, exchange, NULL);
    grpc_slice_unref(details);
}

static void hang(struct exchange *exchange)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &exchange->cancelled};
    exchange->step = STEP_ANSWER;
    grpc_call_start_batch(exchange->call, &op, 1, exchange, NULL);
}

/* Sends the body as one message of a stream. */
static void send_body(struct exchange *exchange)
{
    grpc_op ops[2] = {
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = exchange->body},
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
    };
    exchange->step = STEP_SENT;
    grpc_call_start_batch(exchange->call, ops, exchange->has_begun ? 1 : 2, exchange, NULL);
    exchange->has_begun = true;
}

static void send_next_of_many(struct exchange *exchange)
{
    if (exchange->left == 0) {
        grpc_byte_buffer_destroy(exchange->body);
        exchange->body = NULL;
        answer(exchange, 0, "");
        return;
    }
    exchange->left--;
    char *bytes = malloc(exchange->bytes);
    memset(bytes, (int)(exchange->number++ & 0xff), exchange->bytes);
    set_body(exchange, bytes, exchange->bytes);
    free(bytes);
    send_body(exchange);
}

static bool is_scripted(const struct exchange *exchange)
{
    return is_method(exchange, "/etcdserverpb.Watch/Watch") ||
           is_method(exchange, "/etcdserverpb.Lease/LeaseKeepAlive");
}

static void keep_request(struct exchange *exchange)
{
    struct echo_server *server = exchange->server;
    grpc_slice bytes = body_bytes(exchange);
    pthread_mutex_lock(&server->lock);
    if (server->requests_count < REQUESTS_MAX && GRPC_SLICE_LENGTH(bytes) <= 128) {
        server->requests[server->requests_count].len = GRPC_SLICE_LENGTH(bytes);
        memcpy(server->requests[server->requests_count++].bytes, GRPC_SLICE_START_PTR(bytes),
               GRPC_SLICE_LENGTH(bytes));
    }
    pthread_mutex_unlock(&server->lock);
    grpc_slice_unref(bytes);
}

static void follow_script(struct exchange *exchange)
{
    struct echo_server *server = exchange->server;
    struct echo_step step = {.what = ECHO_AWAIT};
    pthread_mutex_lock(&server->lock);
    if (server->steps_count > 0) {
        step = *server->steps++;
        server->steps_count--;
    }
    pthread_mutex_unlock(&server->lock);
    if (step.what == ECHO_SEND) {
        set_body(exchange, (const char *)step.message.data, step.message.len);
        send_body(exchange);
    } else if (step.what == ECHO_AWAIT) {
        read_body(exchange);
    } else {
        grpc_byte_buffer_destroy(exchange->body);
        exchange->body = NULL;
        answer(exchange, step.code, step.text);
    }
}

static void answer_fail(struct exchange *exchange)
{
    grpc_slice text = body_bytes(exchange);
    char details[256];
    snprintf(details, sizeof(details), "%.*s", (int)GRPC_SLICE_LENGTH(text),
             (const char *)GRPC_SLICE_START_PTR(text));
    grpc_slice_unref(text);
    answer(exchange, GRPC_STATUS_INVALID_ARGUMENT, details);
}

static void answer_metadata(struct exchange *exchange)
{
    char text[512];
    size_t len = 0;
    for (size_t i = 0; i < exchange->metadata.count; i++) {
        const grpc_metadata *pair = &exchange->metadata.metadata[i];
        if (grpc_slice_str_cmp(pair->key, "token") != 0 &&
            grpc_slice_str_cmp(pair->key, "hasleader") != 0)
            continue;
        len += (size_t)snprintf(
            text + len, sizeof(text) - len, "%.*s=%.*s\n", (int)GRPC_SLICE_LENGTH(pair->key),
            (const char *)GRPC_SLICE_START_PTR(pair->key), (int)GRPC_SLICE_LENGTH(pair->value),
            (const char *)GRPC_SLICE_START_PTR(pair->value));
    }
    set_body(exchange, text, len);
    answer(exchange, 0, "");
}

/* The password is the message's last bytes; an answer is {2: "tN"}. */
static void answer_authenticate(struct exchange *exchange)
{
    grpc_slice request = body_bytes(exchange);
    size_t len = GRPC_SLICE_LENGTH(request);
    const uint8_t *end = GRPC_SLICE_START_PTR(request) + len;
    bool wrong = len >= 5 && memcmp(end - 5, "wrong", 5) == 0;
    bool strange = len >= 7 && memcmp(end - 7, "strange", 7) == 0;
    grpc_slice_unref(request);
    if (wrong) {
        answer(exchange, GRPC_STATUS_INVALID_ARGUMENT,
               "etcdserver: authentication failed, invalid user ID or password");
        return;
    }
    if (strange) {
        set_body(exchange, "\x12\x03t\n1", 5);
        answer(exchange, 0, "");
        return;
    }
    char message[16], token[8];
    pthread_mutex_lock(&exchange->server->lock);
    int token_len = snprintf(token, sizeof(token), "t%u", ++exchange->server->tokens_count % 1000);
    pthread_mutex_unlock(&exchange->server->lock);
    int message_len = snprintf(message, sizeof(message), "\x12%c%s", token_len, token);
    set_body(exchange, message, (size_t)message_len);
    answer(exchange, 0, "");
}

/* Takes one of the failures that the test has ordered. */
static bool take_failure(struct exchange *exchange, uint32_t *code_out, const char **text_out)
{
    struct echo_server *server = exchange->server;
    pthread_mutex_lock(&server->lock);
    server->calls_count++;
    bool fails = server->fail_count > 0 && !is_method(exchange, "/etcdserverpb.Auth/Authenticate");
    if (fails) {
        server->fail_count--;
        *code_out = server->fail_code;
        *text_out = server->fail_text;
    }
    pthread_mutex_unlock(&server->lock);
    return fails;
}

static void on_first_message(struct exchange *exchange)
{
    uint32_t code;
    const char *text;
    if (take_failure(exchange, &code, &text)) {
        answer(exchange, code, text);
    } else if (is_method(exchange, "/fail")) {
        answer_fail(exchange);
    } else if (is_method(exchange, "/hang")) {
        hang(exchange);
    } else if (is_method(exchange, "/metadata") || is_method(exchange, "/etcdserverpb.KV/Range") ||
               is_method(exchange, "/etcdserverpb.KV/Put")) {
        answer_metadata(exchange);
    } else if (is_method(exchange, "/etcdserverpb.Auth/Authenticate")) {
        answer_authenticate(exchange);
    } else if (is_method(exchange, "/many")) {
        grpc_slice request = body_bytes(exchange);
        char numbers[64];
        snprintf(numbers, sizeof(numbers), "%.*s", (int)GRPC_SLICE_LENGTH(request),
                 (const char *)GRPC_SLICE_START_PTR(request));
        grpc_slice_unref(request);
        sscanf(numbers, "%u %u", &exchange->left, &exchange->bytes);
        send_next_of_many(exchange);
    } else {
        answer(exchange, 0, "");
    }
}

static void on_message(struct exchange *exchange)
{
    if (is_scripted(exchange) && exchange->body != NULL) {
        keep_request(exchange);
        follow_script(exchange);
    } else if (!is_method(exchange, "/stream"))
        on_first_message(exchange);
    else if (exchange->body != NULL)
        send_body(exchange);
    else
        answer(exchange, 0, "");
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
    bool stops = false;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        struct exchange *exchange = event.tag;
        if (exchange == NULL) { /* grpc_server_shutdown_and_notify */
            stops = true;       /* what is under way still ends, but starts nothing new */
            grpc_completion_queue_shutdown(server->queue);
        } else if (stops || !event.success || exchange->step == STEP_ANSWER) {
            exchange_free(exchange);
        } else if (exchange->step == STEP_REQUEST) {
            post(server);
            read_body(exchange);
        } else if (exchange->step == STEP_MESSAGE) {
            on_message(exchange);
        } else if (is_scripted(exchange)) {
            follow_script(exchange);
        } else if (is_method(exchange, "/many")) {
            send_next_of_many(exchange);
        } else {
            read_body(exchange);
        }
    }
}

static struct echo_server *start(grpc_server_credentials *credentials, const char *scheme)
{
    struct echo_server *server = calloc(1, sizeof(*server));
    pthread_mutex_init(&server->lock, NULL);
    static char receive[] = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH;
    grpc_arg unlimited = {.type = GRPC_ARG_INTEGER, .key = receive, .value.integer = -1};
    grpc_channel_args args = {.num_args = 1, .args = &unlimited};
    server->server = grpc_server_create(&args, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
    server->port = grpc_server_add_http2_port(server->server, "127.0.0.1:0", credentials);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server->server);
    post(server);
    snprintf(server->endpoint, sizeof(server->endpoint), "%s://127.0.0.1:%d", scheme, server->port);
    if (pthread_create(&server->thread, NULL, serve, server) != 0)
        abort();
    return server;
}

struct echo_server *echo_server_start(void)
{
    grpc_init();
    return start(grpc_insecure_server_credentials_create(), "http");
}

struct echo_server *echo_server_start_tls(const char *cert_pem, const char *key_pem,
                                          const char *client_ca_pem)
{
    grpc_init();
    grpc_ssl_pem_key_cert_pair pair = {.private_key = key_pem, .cert_chain = cert_pem};
    return start(grpc_ssl_server_credentials_create_ex(
                     client_ca_pem, &pair, 1,
                     client_ca_pem != NULL
                         ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                         : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                     NULL),
                 "https");
}

const char *echo_server_endpoint(const struct echo_server *server)
{
    return server->endpoint;
}

const char *echo_server_address(const struct echo_server *server)
{
    return strstr(server->endpoint, "://") + 3;
}

void echo_server_fail_next(struct echo_server *server, uint32_t count, uint32_t code,
                           const char *text)
{
    pthread_mutex_lock(&server->lock);
    server->fail_count = count;
    server->fail_code = code;
    server->fail_text = text;
    pthread_mutex_unlock(&server->lock);
}

void echo_server_script(struct echo_server *server, const struct echo_step *steps, uint32_t count)
{
    pthread_mutex_lock(&server->lock);
    server->steps = steps;
    server->steps_count = count;
    pthread_mutex_unlock(&server->lock);
}

size_t echo_server_request(struct echo_server *server, uint32_t number, uint8_t out[128])
{
    pthread_mutex_lock(&server->lock);
    size_t len = number < server->requests_count ? server->requests[number].len : 0;
    memcpy(out, server->requests[number % REQUESTS_MAX].bytes, len);
    pthread_mutex_unlock(&server->lock);
    return len;
}

uint32_t echo_server_calls_count(struct echo_server *server)
{
    pthread_mutex_lock(&server->lock);
    uint32_t count = server->calls_count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

void echo_server_stop(struct echo_server *server)
{
    grpc_server_shutdown_and_notify(server->server, server->queue, NULL);
    grpc_server_cancel_all_calls(server->server);
    pthread_join(server->thread, NULL);
    grpc_server_destroy(server->server);
    grpc_completion_queue_destroy(server->queue);
    pthread_mutex_destroy(&server->lock);
    free(server);
    grpc_shutdown_blocking();
}
