/* tests/server_rpc/fixture.h - a server on a free port with a service for tests. */
#ifndef TESTS_SERVER_RPC_FIXTURE_H
#define TESTS_SERVER_RPC_FIXTURE_H
#include "server/rpc/grpc_server.h"

#include <stdatomic.h>

/* The thread sanitizer takes milliseconds over each suppressed report on gRPC's own copies. */
#ifdef __SANITIZE_THREAD__
#define REQUEST_BYTES_MAX (32U << 10)
#else
#define REQUEST_BYTES_MAX (2U << 20)
#endif

/* test.Echo: Call answers on the poller, Later on an actor, Size with as many bytes as the request
 * says, Fail with its first byte as code and the rest as text, Wait when fixture.release is set or
 * it is canceled, Stream sends every message back and ends after the half-close, Feed sends ten
 * messages, Hold takes messages and ends when it is canceled. Later and Stream hold a call whose
 * message is "hold", once. etcdserverpb.KV: Range and Put answer
 * with an empty message. */
struct fixture {
    struct rpc_server *server;
    struct acceptor *acceptor;
    uint16_t port;
    atomic_uint cancels, half_closes, holding, http1_connections;
    atomic_bool refuses; /* a Stream that opens */
    struct inbox held;   /* calls of Wait, and of Hold once a message */
    struct inbox_node *held_taken;
};
extern struct fixture fixture;

/* What the last Call saw. */
struct fixture_seen {
    char peer[64], api_version[16];
    uint64_t time_left_ns;
};
struct fixture_seen fixture_seen(void);

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* The next held call, by one thread at a time; NULL: none so far. */
struct rpc_call *fixture_take_held(void);
struct rpc_call *fixture_wait_held(void);
void fixture_wait_cancels(unsigned count);
unsigned fixture_count_files(void);
uint64_t fixture_now_ns(void);
int fixture_dial(void); /* a raw connection */
#endif
