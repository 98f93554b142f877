/* server/state/lessor.h - the leases as every member holds them: what was granted, and which keys
 * are attached to which. Time runs for them on the leader alone (countdown.c): while it is the
 * primary each lease has a moment at which it ends, on all other members it lasts for ever. Times
 * are monotonic and handed in; they are not replicated, and nothing that an entry changes depends
 * on them.
 *
 * One thread changes what entries change; who else looks at it or counts holds the lock that
 * machine_leases.c keeps around it. */
#ifndef SERVER_STATE_LESSOR_H
#define SERVER_STATE_LESSOR_H
#include "base/arena.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/status.h"
#include "server/state/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef int64_t lease_id; /* 0: none; negative ones are legal */

#define LEASE_TTL_S_MAX 9000000000 /* etcd's */

struct lease {
    lease_id id;
    int64_t ttl_s;
    int64_t remaining_s; /* of the last checkpoint; 0: none, the whole TTL counts */
    uint64_t keys_count; /* attached */
};

struct lessor;

CHECKED enum status lessor_new(struct lessor **out); /* ST_NO_MEMORY */
void lessor_free(struct lessor *lessor);             /* NULL is fine; no renewal may wait */

uint64_t lessor_leases_count(const struct lessor *lessor);
/* Borrowed until the next change; NULL: there is no such lease. */
const struct lease *lessor_find(const struct lessor *lessor, lease_id id);
/* ST_EXISTS, ST_NO_MEMORY. */
CHECKED enum status lessor_grant(struct lessor *lessor, const struct lease *lease);
/* False: there is no such lease. */
bool lessor_checkpoint(struct lessor *lessor, lease_id id, int64_t remaining_s);
/* With all its attachments; an unknown one is fine. Renewals that waited for it are put into
 * ended, with their error. */
void lessor_drop(struct lessor *lessor, lease_id id, struct list_node *ended);
/* The key belongs to this lease from now on, and to no other; to none when id is 0 or unknown. The
 * key is copied. Errors: ST_NO_MEMORY. */
CHECKED enum status lessor_attach(struct lessor *lessor, lease_id id, struct slice key);
/* Whether the key belongs to a lease. */
bool lessor_is_attached(const struct lessor *lessor, struct slice key);
/* The keys of a lease, in no order, in arena, copies. Errors: ST_TOO_BIG (the arena's cap),
 * ST_NOT_FOUND, ST_NO_MEMORY. */
CHECKED enum status lessor_keys(const struct lessor *lessor, lease_id id, struct arena *arena,
                                struct slice **keys_out, uint64_t *count_out);
/* Calls fn for each key of a lease, in no order, until it gives something else than ST_OK, and
 * gives that; none where there is no such lease. Borrowed for the call, which changes nothing. */
CHECKED enum status lessor_each_key(const struct lessor *lessor, lease_id id,
                                    enum status (*fn)(void *context, struct slice key),
                                    void *context);
/* Every lease, in no order; borrowed for the call, which changes nothing. */
void lessor_each(const struct lessor *lessor, void (*fn)(void *context, const struct lease *lease),
                 void *context);

/* ---- countdown.c: time, on the leader ---- */

#define LEASES_SPREAD_MIN 1000U   /* from so many on, their ends are kept apart after a change of */
#define LEASE_ENDS_PER_S_MAX 750U /* leaders: so many a second */

/* A lease is to begin anew. Owned by the caller until it is ended. */
struct lease_renewal {
    lease_id id;
    /* Set at the end. API_OK: ttl_s is what it has again. API_LEASE_NOT_FOUND; or
     * API_NOT_PRIMARY_LESSOR: this member does not count. */
    enum api_error error;
    int64_t ttl_s;
    bool outdates_checkpoint; /* others were told that it has less, or will be: they must be told
                                 now, after that */
    /* Of one that had to wait; any thread, must not block. */
    void (*done)(struct lease_renewal *renewal);
    /* The lessor's. */
    bool waits;
    struct list_node waiting;
};
/* Calls done of each in the list; not while the lock is held. */
void lease_renewals_end(struct list_node *ended);

/* Time begins to run: each lease ends extend_ns later than what it has left, by its last checkpoint
 * or else its TTL. Errors: ST_NO_MEMORY, nothing runs then. */
CHECKED enum status lessor_promote(struct lessor *lessor, uint64_t now_ns, uint64_t extend_ns);
/* Time stops; renewals that waited are put into ended. */
void lessor_demote(struct lessor *lessor, struct list_node *ended);
bool lessor_is_primary(const struct lessor *lessor);
/* Time begins for a lease that was granted just now; elsewhere than on the primary nothing happens.
 * Errors: ST_NO_MEMORY. */
CHECKED enum status lessor_start(struct lessor *lessor, lease_id id, uint64_t now_ns);
/* True: it is ended. False: the lease's time is over and it is about to be revoked; the renewal
 * waits until it is, or until time stops. */
bool lessor_renew(struct lessor *lessor, struct lease_renewal *renewal, uint64_t now_ns);
/* Gives up a renewal if it waits; false: it does not, or no longer. */
bool lessor_forget(struct lessor *lessor, struct lease_renewal *renewal);
/* Whole seconds that a lease has left, 0 if its time is over; INT64_MAX: for ever. -1: there is no
 * such lease. */
int64_t lessor_remaining_s(const struct lessor *lessor, lease_id id, uint64_t now_ns);
/* When it ends (UINT64_MAX: for ever). */
uint64_t lessor_end_ns(const struct lessor *lessor, lease_id id);
/* When the next lease ends; UINT64_MAX: none does. */
uint64_t lessor_next_end_ns(const struct lessor *lessor);
/* The leases whose time is over, oldest first, at most max; after the first no more than keys_max
 * keys are attached to them. One that is still there at again_ns is told of again. */
uint32_t lessor_take_ended(struct lessor *lessor, uint64_t now_ns, uint64_t again_ns, lease_id *ids,
                           uint32_t max, uint64_t keys_max);

/* From now on leases that have more than interval_ns left are due for a checkpoint after each such
 * interval; 0: never. Before lessor_promote(). */
void lessor_set_checkpoints(struct lessor *lessor, uint64_t interval_ns);
/* The next leases that are due, with remaining_s as it is to be told; at most max. It is to be
 * proposed before the lock is given up, so that what a renewal proposes then comes after it. */
uint32_t lessor_take_checkpoints(struct lessor *lessor, uint64_t now_ns, struct lease *out,
                                 uint32_t max);
#endif
