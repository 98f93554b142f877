/* server/run/publish.h - what a member says of itself once the cluster has a leader: its name and
 * client URLs. A member is ready when that entry is applied. */
#ifndef SERVER_RUN_PUBLISH_H
#define SERVER_RUN_PUBLISH_H
#include "server/loops/request.h"

#include <stdatomic.h>
#include <stdint.h>

struct machine;

struct publisher {
    struct proposal proposal; /* the one under way */
    struct loops *loops;
    struct machine *machine;
    const char *name;
    const char *const *client_urls;
    uint32_t client_urls_count;
    uint64_t timeout_ns;
    int event_fd;      /* readable when the state has changed */
    _Atomic int state; /* enum publisher_state */
};

enum publisher_state {
    PUBLISHER_IDLE,     /* nothing under way */
    PUBLISHER_PROPOSED, /* the member's attributes are */
    PUBLISHER_DONE,     /* they are applied */
};

/* Proposes what is due, unless it is under way. The caller calls it again when event_fd is
 * readable, after a pause. Everything is borrowed and stays until the loops are freed. */
void publisher_step(struct publisher *publisher);
#endif
