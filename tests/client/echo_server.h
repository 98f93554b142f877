/* tests/client/echo_server.h - a gRPC server in a thread of the test, on a free loopback port.
 *
 * Of one message each way: "/echo" answers with the request's body, "/fail" with InvalidArgument
 * and the body as text, "/hang" never, "/metadata" with what the call brought of the keys token and
 * hasleader. "/etcdserverpb.Auth/Authenticate" gives "t1", "t2" and so on, for any password but
 * "wrong", and for "strange" a token that cannot be sent; "/etcdserverpb.KV/Range" and ".../Put"
 * are "/metadata". Of many: "/stream" sends each message back until the client has finished;
 * "/many" takes the text "COUNT BYTES" and sends so many messages, each of BYTES times the byte of
 * its number; the streams of etcd's watch and lease services follow a script. */
#ifndef TESTS_CLIENT_ECHO_SERVER_H
#define TESTS_CLIENT_ECHO_SERVER_H
#include "base/slice.h"

#include <stdint.h>

struct echo_server;

/* What such a stream does next, once it has its first request. */
struct echo_step {
    enum { ECHO_SEND, ECHO_AWAIT /* the next request */, ECHO_END } what;
    struct slice message; /* to send */
    uint32_t code;        /* to end with */
    const char *text;
};

struct echo_server *echo_server_start(void); /* NULL when it cannot */
/* The same over TLS. client_ca_pem: NULL, or who has to have signed a client's certificate. */
struct echo_server *echo_server_start_tls(const char *cert_pem, const char *key_pem,
                                          const char *client_ca_pem);
const char *echo_server_endpoint(const struct echo_server *server); /* with http or https */
const char *echo_server_address(const struct echo_server *server);  /* without */
/* The next count calls fail so, all but Authenticate. text is borrowed for good. */
void echo_server_fail_next(struct echo_server *server, uint32_t count, uint32_t code,
                           const char *text);
/* One script for all streams: each goes on where the one before stopped, and after its end does
 * nothing. Borrowed for good. */
void echo_server_script(struct echo_server *server, const struct echo_step *steps, uint32_t count);
/* Copies the nth request of a scripted stream, counted over all of them. Returns its size, 0 when
 * there was none. */
size_t echo_server_request(struct echo_server *server, uint32_t number, uint8_t out[128]);
uint32_t echo_server_calls_count(struct echo_server *server); /* that have come, failed ones too */
void echo_server_stop(struct echo_server *server);
#endif
