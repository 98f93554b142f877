/* tools/client/client.h - calls an etcd-compatible endpoint over gRPC: what the tools, the benches
 * and the tests share. Messages are bytes here; who calls encodes and decodes them.
 * caller.h above it knows etcd's ways: several endpoints, retries, users.
 *
 * Threads: a client belongs to one thread, which drives it by client_poll(). Several clients may
 * live in one process, each in its thread. */
#ifndef TOOLS_CLIENT_CLIENT_H
#define TOOLS_CLIENT_CLIENT_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_CONNECTIONS_MAX 1024U /* of one client, all endpoints together */

#define CLIENT_METADATA_MAX 4U /* pairs of one call */

struct client;

/* How to speak TLS. All texts are borrowed for the call; NULL: none. */
struct client_tls {
    const char *ca_pem;             /* who may sign the server's certificate; NULL: the system's */
    const char *cert_pem, *key_pem; /* both or neither: our own certificate */
    bool skip_verify;               /* any certificate will do, for any name */
    const char *server_name; /* whom the server's certificate has to name; NULL: the endpoint */
};

struct client_options {
    /* Borrowed for the call, by commas: "host:port", "http://host:port", "https://host:port",
     * "unix:path", "unixs:path" or with "//" before the path. */
    const char *endpoints;
    /* For endpoints of https and unixs (NULL: the system's roots) and for those that name no
     * scheme (NULL: plain); http stays plain. */
    const struct client_tls *tls;
    uint32_t connections_per_endpoint; /* 0: one */
    bool wait_for_ready; /* a call waits for a connection until its deadline; else it fails with
                            CLIENT_UNAVAILABLE at the first refused one */
    /* After how long without a word from the server it is asked for one, and how long it may take
     * to answer; only while calls are open. 0: never. Under 10 s is raised to that, as servers
     * close connections that ask more often. */
    uint32_t keepalive_time_ms, keepalive_timeout_ms;
};

/* Connects when first called, not here. Errors: ST_INVALID (no endpoint, one that cannot be read,
 * or TLS material that is none), ST_TOO_BIG (too many connections), ST_NO_MEMORY. */
CHECKED enum status client_open(const struct client_options *options, struct client **out);
/* Cancels what is in flight, and calls its `done` or `ended` with CLIENT_CANCELED. NULL is fine. */
void client_close(struct client *client);
/* Endpoints times connections_per_endpoint; connection i goes to endpoint i % endpoints. */
uint32_t client_connections_count(const struct client *client);
/* Whether a call on this connection would leave now; if not, begins to connect. */
bool client_is_connected(struct client *client, uint32_t connection);

/* gRPC's status codes, as far as callers name them. */
enum client_code {
    CLIENT_OK = 0,
    CLIENT_CANCELED = 1,
    CLIENT_UNKNOWN = 2,
    CLIENT_INVALID_ARGUMENT = 3,
    CLIENT_DEADLINE_EXCEEDED = 4,
    CLIENT_NOT_FOUND = 5,
    CLIENT_PERMISSION_DENIED = 7,
    CLIENT_RESOURCE_EXHAUSTED = 8,
    CLIENT_FAILED_PRECONDITION = 9,
    CLIENT_OUT_OF_RANGE = 11,
    CLIENT_UNIMPLEMENTED = 12,
    CLIENT_INTERNAL = 13,
    CLIENT_UNAVAILABLE = 14,
    CLIENT_UNAUTHENTICATED = 16,
};
const char *client_code_name(uint32_t code); /* "InvalidArgument"; static string */

struct client_reply {
    uint32_t code;     /* enum client_code, or another of gRPC's */
    struct slice text; /* grpc-message; empty on success */
    struct slice body; /* the encoded response; empty unless code is CLIENT_OK */
};

struct client_metadata {
    struct slice key, value; /* keys in lower case */
};

struct client_request {
    const char *method;                     /* "/etcdserverpb.KV/Put" */
    struct slice body;                      /* borrowed for the call; copied */
    uint64_t timeout_ms;                    /* 0: none */
    uint32_t connection;                    /* taken modulo client_connections_count() */
    uint32_t metadata_count;                /* at most CLIENT_METADATA_MAX */
    const struct client_metadata *metadata; /* borrowed for the call; copied */
};

/* One call, waited for. The reply's slices are in arena. Whatever the server or the network answer
 * is in the reply; errors are our own: ST_TOO_BIG (the arena's cap), ST_NO_MEMORY. Calls started
 * before may complete meanwhile. */
CHECKED enum status client_call(struct client *client, const struct client_request *request,
                                struct arena *arena, struct client_reply *out);

/* The reply of a started call; its slices are borrowed for the call. May start further calls, must
 * not poll or close. */
typedef void (*client_done_fn)(void *context, const struct client_reply *reply);

/* Starts a call; done is called exactly once, from client_poll(), client_call() or client_close().
 * Errors, done is then not called: ST_CANCELED (the client is closing), ST_NO_MEMORY. */
CHECKED enum status client_start(struct client *client, const struct client_request *request,
                                 client_done_fn done, void *context);
/* Waits until something completes, at most timeout_ms, and calls `done`, `message` and `ended` for
 * all that has. Returns the number of completions; 0 at once when nothing is in flight. */
uint32_t client_poll(struct client *client, uint64_t timeout_ms);
/* The same, but waits although nothing is in flight: connections come up meanwhile. */
uint32_t client_wait(struct client *client, uint64_t timeout_ms);
/* Ends all calls in flight, not streams, as canceled; `done` comes with the next poll. */
void client_cancel_calls(struct client *client);
uint32_t client_in_flight(const struct client *client); /* calls, without streams */

/* ---- streams ---- */

#define CLIENT_STREAM_UNSENT_MAX (64U << 20) /* bytes waiting to be sent on one stream */

struct client_stream;

/* Called from whatever polls; neither may poll or close the client. */
struct client_stream_events {
    /* One message; its bytes are borrowed for the call. The next is asked for after it returns. */
    void (*message)(void *context, struct slice body);
    /* The last event, exactly once: the server's status, body empty. The stream is gone when it
     * returns. */
    void (*ended)(void *context, const struct client_reply *reply);
    void *context;
};

/* Opens a call of many messages, either way. request->body is not used: client_stream_send() sends.
 * The stream is the client's; `ended` takes it. Errors, no event follows: ST_CANCELED (the client
 * is closing), ST_NO_MEMORY. */
CHECKED enum status client_stream_open(struct client *client, const struct client_request *request,
                                       const struct client_stream_events *events,
                                       struct client_stream **out);
/* Sends one message, after those before it; body is copied. What is sent to an ended call is lost.
 * Errors: ST_TOO_BIG (CLIENT_STREAM_UNSENT_MAX), ST_INVALID (after client_stream_finish()),
 * ST_NO_MEMORY. */
CHECKED enum status client_stream_send(struct client_stream *stream, struct slice body);
/* Nothing more will be sent. */
void client_stream_finish(struct client_stream *stream);
/* Ends the call from here; `ended` comes with the next poll. */
void client_stream_cancel(struct client_stream *stream);
#endif
