/* server/state/v2_store.h - etcd's v2 store with what 3.5 keeps in it: the members. An etcd that
 * takes a snapshot takes its member list from this, which comes beside the db file, and panics
 * without it; members of our kind do not look at it. */
#ifndef SERVER_STATE_V2_STORE_H
#define SERVER_STATE_V2_STORE_H
#include "base/status.h"

#include <stdint.h>

struct buf;
struct machine;

/* Appends it as JSON, as of now: members, removed ids, cluster version. index becomes its current
 * index. Apply's, between two entries. Errors: ST_TOO_BIG, ST_NO_MEMORY. */
CHECKED enum status v2_store_encode(struct machine *machine, uint64_t index, struct buf *out);
#endif
