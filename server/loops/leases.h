/* server/loops/leases.h - the time of leases: while this member leads, an actor counts it down and
 * proposes the revocation of those whose time is over. Renewals and questions come from any thread
 * and are answered from memory, by the leader alone. */
#ifndef SERVER_LOOPS_LEASES_H
#define SERVER_LOOPS_LEASES_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/state/lessor.h"

#include <stdbool.h>
#include <stdint.h>

struct loops;

/* True: it is ended, and done is not called. False: done is or will be called, once. Only after a
 * linearizable read has been confirmed (loops_read()): what leads is not what leadership says it
 * does. Any thread. */
bool loops_renew_lease(struct loops *loops, struct lease_renewal *renewal);
/* Gives up a renewal that waits for a revocation: true when its done will not be called. */
bool loops_forget_renewal(struct loops *loops, struct lease_renewal *renewal);

/* One lease at a moment. */
struct lease_view {
    int64_t ttl_s;       /* as it was granted */
    int64_t remaining_s; /* whole seconds */
    struct slice *keys;  /* attached ones, in no order, in the arena; NULL: not asked for */
    uint64_t keys_count;
};
/* After a confirmed read, as loops_renew_lease(). Errors: API_LEASE_NOT_FOUND,
 * API_NOT_PRIMARY_LESSOR, API_RESPONSE_TOO_LARGE (the arena's cap). Any thread. */
enum api_error loops_look_at_lease(struct loops *loops, lease_id id, bool with_keys,
                                   struct arena *arena, struct lease_view *out);
/* The ids of all leases as this member knows them, those that end first in front (on a leader), in
 * memory of the caller: free(). Any thread. Errors: ST_NO_MEMORY. */
CHECKED enum status loops_list_leases(struct loops *loops, lease_id **out, uint64_t *count_out);
#endif
