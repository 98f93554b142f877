/* tools/client/client.h - calls an etcd-compatible endpoint over gRPC: what the tools, the benches
 * and the tests share. Messages are bytes here; who calls encodes and decodes them.
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

struct client;

struct client_options {
    const char *endpoints; /* borrowed for the call: "host:port" or "http://host:port", by commas */
    uint32_t connections_per_endpoint; /* 0: one */
    bool wait_for_ready; /* a call waits for a connection until its deadline; else it fails with
                            CLIENT_UNAVAILABLE at the first refused one */
};

/* Connects when first called, not here. Errors: ST_INVALID (no endpoint, or one that cannot be
 * read), ST_UNSUPPORTED (https), ST_TOO_BIG (too many connections), ST_NO_MEMORY. */
CHECKED enum status client_open(const struct client_options *options, struct client **out);
/* Cancels what is in flight, and calls its `done` with CLIENT_CANCELED. NULL is fine. */
void client_close(struct client *client);
/* Endpoints times connections_per_endpoint; connection i goes to endpoint i % endpoints. */
uint32_t client_connections_count(const struct client *client);

/* gRPC's status codes, as far as callers name them. */
enum client_code {
    CLIENT_OK = 0,
    CLIENT_CANCELED = 1,
    CLIENT_UNKNOWN = 2,
    CLIENT_INVALID_ARGUMENT = 3,
    CLIENT_DEADLINE_EXCEEDED = 4,
    CLIENT_NOT_FOUND = 5,
    CLIENT_FAILED_PRECONDITION = 9,
    CLIENT_OUT_OF_RANGE = 11,
    CLIENT_UNIMPLEMENTED = 12,
    CLIENT_INTERNAL = 13,
    CLIENT_UNAVAILABLE = 14,
};
const char *client_code_name(uint32_t code); /* "InvalidArgument"; static string */

struct client_reply {
    uint32_t code;     /* enum client_code, or another of gRPC's */
    struct slice text; /* grpc-message; empty on success */
    struct slice body; /* the encoded response; empty unless code is CLIENT_OK */
};

struct client_request {
    const char *method;  /* "/etcdserverpb.KV/Put" */
    struct slice body;   /* borrowed for the call; copied */
    uint64_t timeout_ms; /* 0: none */
    uint32_t connection; /* taken modulo client_connections_count() */
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
/* Waits until something completes, at most timeout_ms, and calls `done` for all that has. Returns
 * the number of completions; 0 at once when nothing is in flight. */
uint32_t client_poll(struct client *client, uint64_t timeout_ms);
uint32_t client_in_flight(const struct client *client);
#endif
