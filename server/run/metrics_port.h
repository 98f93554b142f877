/* server/run/metrics_port.h - --listen-metrics-urls: /metrics and the health checks on ports of
 * their own. They answer as soon as the member is open, long before it may serve clients: whoever
 * watches a member that waits for the others must not take it for dead. */
#ifndef SERVER_RUN_METRICS_PORT_H
#define SERVER_RUN_METRICS_PORT_H
#include "base/status.h"
#include "server/run/member.h"

#include <stdint.h>

struct metrics_port; /* opaque, owned by whoever opened it */

/* Takes the listening sockets, also when it fails; member is borrowed. Errors: ST_NO_MEMORY, ST_IO,
 * ST_TOO_BIG (RPC_LISTENERS_MAX). */
CHECKED enum status metrics_port_open(struct member *member, const int *sockets, uint32_t count,
                                      uint64_t request_timeout_ns, struct metrics_port **out);
void metrics_port_close(struct metrics_port *port); /* NULL is fine */
#endif
