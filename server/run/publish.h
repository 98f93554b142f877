/* server/run/publish.h - what a member says of itself once the cluster has a leader: its name and
 * client URLs, and, from the leader, the cluster's version. A member is ready when its own publish
 * entry is applied. */
#ifndef SERVER_RUN_PUBLISH_H
#define SERVER_RUN_PUBLISH_H
#include "server/loops/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

struct publisher {
    struct proposal publish, version;
    struct loops *loops;
    struct machine *machine;
    const char *name;
    const char *const *client_urls;
    uint32_t client_urls_count;
    uint64_t timeout_ns;
    int done_fd; /* eventfd, readable once published */
    atomic_bool published;
};

/* Proposes; tries again after each time-out until it is applied. The publisher's memory and all it
 * borrows stay until the loops are freed. Without memory for the proposal the member simply never
 * gets ready. */
void publisher_start(struct publisher *publisher);
#endif
