/* server/state/lessor.h - the leases as every member holds them: what was granted, and which keys
 * are attached to which. Time is not in here: only a leader counts down. One thread at a time. */
#ifndef SERVER_STATE_LESSOR_H
#define SERVER_STATE_LESSOR_H
#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef int64_t lease_id; /* 0: none; negative ones are legal */

struct lease {
    lease_id id;
    int64_t ttl_s;
    int64_t remaining_s; /* of the last checkpoint; 0: none, the whole TTL counts */
    uint64_t keys_count; /* attached */
};

struct lessor;

CHECKED enum status lessor_new(struct lessor **out); /* ST_NO_MEMORY */
void lessor_free(struct lessor *lessor);             /* NULL is fine */

uint64_t lessor_leases_count(const struct lessor *lessor);
/* Borrowed until the next change; NULL: there is no such lease. */
const struct lease *lessor_find(const struct lessor *lessor, lease_id id);
/* ST_EXISTS, ST_NO_MEMORY. */
CHECKED enum status lessor_grant(struct lessor *lessor, const struct lease *lease);
/* False: there is no such lease. */
bool lessor_checkpoint(struct lessor *lessor, lease_id id, int64_t remaining_s);
/* With all its attachments; an unknown one is fine. */
void lessor_drop(struct lessor *lessor, lease_id id);
/* The key belongs to this lease from now on, and to no other; to none when id is 0 or unknown. The
 * key is copied. Errors: ST_NO_MEMORY. */
CHECKED enum status lessor_attach(struct lessor *lessor, lease_id id, struct slice key);
/* The keys of a lease in order, in arena, copies. Errors: ST_TOO_BIG (the arena's cap),
 * ST_NOT_FOUND, ST_NO_MEMORY. */
CHECKED enum status lessor_keys(const struct lessor *lessor, lease_id id, struct arena *arena,
                                const struct slice **keys_out, uint64_t *count_out);
/* Calls fn for each key of a lease, in no order, until it gives something else than ST_OK, and
 * gives that; none where there is no such lease. Borrowed for the call, which changes nothing. */
CHECKED enum status lessor_each_key(const struct lessor *lessor, lease_id id,
                                    enum status (*fn)(void *context, struct slice key),
                                    void *context);
/* Every lease, in no order; borrowed for the call, which changes nothing. */
void lessor_each(const struct lessor *lessor, void (*fn)(void *context, const struct lease *lease),
                 void *context);
#endif
