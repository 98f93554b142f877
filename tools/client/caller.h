/* tools/client/caller.h - calls an etcd cluster the way etcdctl does, above client.h: a call goes
 * to whichever endpoint can be reached and waits for one until its deadline; what may be repeated
 * is, on the next endpoint; a user is authenticated first and its token sent with every call, and a
 * new one fetched when the server no longer knows it.
 *
 * What a server answers, or that none did, is in the reply, in gRPC's words; caller_error_text()
 * says it in etcdctl's. Errors are our own: ST_TOO_BIG (the arena's cap), ST_NO_MEMORY.
 *
 * Threads: as client.h. */
#ifndef TOOLS_CLIENT_CALLER_H
#define TOOLS_CLIENT_CALLER_H
#include "tools/client/client.h"

#include <signal.h>

#define CALLER_ATTEMPTS_MAX 100U            /* of one call; etcd's client has the same */
#define CALLER_SEND_BYTES_MAX (2U << 20)    /* of one request; etcd's client has the same */
#define CALLER_ARENA_BYTES_MAX (512U << 20) /* for who has no bound of his own on a reply */

struct caller;

/* One attempt that failed, for who logs it. */
struct caller_failure {
    bool token;         /* it was the fetching of a new token; else the call itself */
    uint32_t attempt;   /* from 0 */
    const char *target; /* the first endpoint without its scheme */
    struct slice error; /* "rpc error: code = Unavailable desc = ..." */
};

struct caller_options {
    struct client_options client; /* wait_for_ready is not used; connections beyond the first of an
                                     endpoint are caller_start()'s */
    const char *user, *password;  /* copied; NULL or "": nobody */
    uint64_t dial_timeout_ms;     /* how long caller_open() may take to authenticate; 0: for ever */
    /* Told of every attempt that failed; may be NULL. */
    void (*failed)(void *context, const struct caller_failure *failure);
    void *context;
    /* What waits ends as canceled soon after this is set, by a signal handler say; may be NULL. */
    const volatile sig_atomic_t *stop;
};

/* Opens, and authenticates the user if there is one. *reply_out says how that went: *out is NULL
 * when its code is not CLIENT_OK. The reply's slices are in arena.
 * Errors: client_open()'s, and the above. */
CHECKED enum status caller_open(const struct caller_options *options, struct arena *arena,
                                struct client_reply *reply_out, struct caller **out);
void caller_close(struct caller *caller); /* NULL is fine */

/* One call, waited for. request->connection and metadata of the key "token" are not used. */
CHECKED enum status caller_call(struct caller *caller, const struct client_request *request,
                                struct arena *arena, struct client_reply *out);

/* Starts a call, as client_start(), with the user's token, and repeats nothing. request->connection
 * picks one of client_connections_count(); where that one's endpoint cannot be reached, another. */
CHECKED enum status caller_start(struct caller *caller, const struct client_request *request,
                                 client_done_fn done, void *context);

/* Opens a stream on an endpoint that can be reached, waiting for one at most connect_timeout_ms (0:
 * as long as request->timeout_ms says, which bounds the stream, waiting included), and then for a
 * token at most dial_timeout_ms. *reply_out says how that went: *out is NULL when its code is not
 * CLIENT_OK. */
CHECKED enum status caller_stream(struct caller *caller, const struct client_request *request,
                                  uint64_t connect_timeout_ms,
                                  const struct client_stream_events *events, struct arena *arena,
                                  struct client_reply *reply_out, struct client_stream **out);
/* The next call or stream prefers another endpoint. */
void caller_next_endpoint(struct caller *caller);

/* For polling: client_poll(), client_wait(). */
struct client *caller_client(struct caller *caller);
/* True once, after options->stop was set. */
bool caller_is_stopped(const struct caller *caller);

/* An endpoint without its scheme, as log lines name it; borrowed from endpoint. */
const char *caller_target(const char *endpoint);

/* etcdctl's words for a reply that is not OK, in arena, NUL-terminated: the bare text of an error
 * of etcd's, "context deadline exceeded", or "rpc error: code = ... desc = ...". */
const char *caller_error_text(const struct client_reply *reply, struct arena *arena);
/* Always the last of these. */
const char *caller_rpc_error_text(const struct client_reply *reply, struct arena *arena);
#endif
