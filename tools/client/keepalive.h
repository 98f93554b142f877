/* tools/client/keepalive.h - keeps a lease alive: renews it after each third of its time, on
 * another stream when one breaks, until the server no longer knows it or its time has passed
 * unrenewed.
 *
 * Threads: as client.h. The owner polls, and calls keepalive_step() after each poll, at least every
 * KEEPALIVE_STEP_MS; it may wait that long for a connection. */
#ifndef TOOLS_CLIENT_KEEPALIVE_H
#define TOOLS_CLIENT_KEEPALIVE_H
#include "proto/rpc.pb-c.h"
#include "tools/client/caller.h"

#define KEEPALIVE_STEP_MS 100U

struct keepalive;

/* Each renewal; called from polls, must not poll or step. Borrowed for the call. */
typedef void (*keepalive_renewed_fn)(void *context,
                                     const Etcdserverpb__LeaseKeepAliveResponse *response);

/* first_timeout_ms: how long the lease is held to live before the first renewal tells. renewed may
 * be NULL. The caller is borrowed and outlives it. NULL: no memory. */
struct keepalive *keepalive_new(struct caller *caller, int64_t lease, uint64_t first_timeout_ms,
                                keepalive_renewed_fn renewed, void *context);
void keepalive_free(struct keepalive *keepalive); /* does not revoke; NULL is fine */

/* Errors: ST_NO_MEMORY, ST_TOO_BIG. */
CHECKED enum status keepalive_step(struct keepalive *keepalive);
/* Why the last stream was refused, in etcdctl's words, when asking again is of no use; NULL: it was
 * not. The keepalive asks again all the same. Borrowed until the next step. */
const char *keepalive_refusal(const struct keepalive *keepalive);
/* The lease is gone: revoked, expired, or not renewed in time. */
bool keepalive_is_over(const struct keepalive *keepalive);
#endif
