/* server/peers/resolver.h - looks host names up on a thread of its own, since the system's way of
 * doing so waits. */
#ifndef SERVER_PEERS_RESOLVER_H
#define SERVER_PEERS_RESOLVER_H
#include "base/inbox.h"
#include "base/list.h"
#include "base/status.h"
#include "server/peers/dial.h"

#include <pthread.h>

/* The asker's memory; the resolver's between ask and done. */
struct resolving {
    struct list_node link;
    struct peer_url url;
    struct peer_addresses addresses;
    enum status status;
    void (*done)(struct resolving *resolving); /* on the resolver's thread */
};

struct resolver {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list_node queue; /* under lock, and so is the rest */
    bool is_running, is_stopping;
};

void resolver_init(struct resolver *resolver);
/* The thread begins with the first question: few clusters have names. Errors: ST_NO_MEMORY (no
 * thread), then done is not called. */
CHECKED enum status resolver_ask(struct resolver *resolver, struct resolving *resolving);
/* Answers what waits with ST_CANCELED and ends the thread, after the lookup it is at. */
void resolver_deinit(struct resolver *resolver);
#endif
