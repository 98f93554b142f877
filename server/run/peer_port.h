/* server/run/peer_port.h - the peer port of a member: consensus' way to the others, and the answers
 * to what they ask. */
#ifndef SERVER_RUN_PEER_PORT_H
#define SERVER_RUN_PEER_PORT_H
#include "base/status.h"
#include "raft/types.h"

#include <stdint.h>

struct member;
struct members;
struct peer_port;
struct transport;

/* Before the member's loops are: they need the transport. The listening sockets are taken,
 * whatever happens. Errors: ST_NO_MEMORY, ST_IO. */
CHECKED enum status peer_port_new(struct member *member, struct peer_port **out);
struct transport *peer_port_transport(struct peer_port *port);
/* Tells where they are reached who are not in this member's own table yet. */
void peer_port_add(struct peer_port *port, const struct members *members);
/* When loops, machine and services are there: begins to listen, dial and answer. */
CHECKED enum status peer_port_start(struct peer_port *port);
/* After it nothing comes in and nothing leaves. The actors must have ended. NULL is fine. */
void peer_port_stop(struct peer_port *port);
/* When the loops are freed, which hold messages and questions. NULL is fine. */
void peer_port_free(struct peer_port *port);

/* Since when (monotonic) messages flow to and from a member; 0: they do not. Any thread. */
uint64_t peer_port_active_since_ns(const struct peer_port *port, raft_id id);
#endif
