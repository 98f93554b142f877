/* server/services/services.h - the RPC methods: decode, validate, hand on, encode. A handler runs
 * on a poller and never blocks; a write goes to the consensus actor, a linearizable read waits for
 * its round, a small serializable read is answered on the spot. */
#ifndef SERVER_SERVICES_SERVICES_H
#define SERVER_SERVICES_SERVICES_H
#include "base/clock.h"
#include "base/status.h"
#include "server/rpc/rpc.h"

#include <stdint.h>

struct loops;
struct machine;
struct mvcc;
struct store;
struct services;

struct services_options {
    struct loops *loops; /* everything here is borrowed and outlives the services */
    struct machine *machine;
    struct mvcc *mvcc;
    struct store *store;
    const struct clock *clock;
    const char *api_version;     /* told to clients: "3.5.15" */
    uint64_t request_timeout_ns; /* 5 s + 2 election timeouts */
    uint64_t request_bytes_max;  /* --max-request-bytes, of an encoded entry */
    uint32_t txn_ops_max;        /* --max-txn-ops */
    uint64_t quota_bytes;        /* --quota-backend-bytes; 0: QUOTA_BYTES_DEFAULT */
    /* Of this machine; while the store outgrows half of it, no read runs on a poller. 0: not known.
     */
    uint64_t memory_bytes;
    /* Whether this member's disks take writes: ST_OK, ST_NO_SPACE, or a fatal status. Any thread,
     * never blocks. NULL: the store's health alone. */
    enum status (*health)(void *context);
    void *health_context;
};

/* Errors: ST_NO_MEMORY. */
CHECKED enum status services_new(const struct services_options *options, struct services **out);
void services_free(struct services *services); /* no call may be open; NULL is fine */

/* What is to be registered with a transport: every method of etcd 3.5, those not served yet too
 * (they say so). Borrowed from services. */
const struct rpc_service *services_table(const struct services *services, uint32_t *count_out);
#endif
