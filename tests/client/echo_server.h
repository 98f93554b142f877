/* tests/client/echo_server.h - a gRPC server in a thread of the test, on a free loopback port.
 * "/echo" answers with the request's body, "/fail" with InvalidArgument and the body as text,
 * "/hang" never. */
#ifndef TESTS_CLIENT_ECHO_SERVER_H
#define TESTS_CLIENT_ECHO_SERVER_H

struct echo_server;

struct echo_server *echo_server_start(void); /* NULL when it cannot */
const char *echo_server_endpoint(const struct echo_server *server);
void echo_server_stop(struct echo_server *server);
#endif
