/* server/run/stores.h - which file is the store: a received snapshot becomes another one beside it,
 * store/<index in hex>.<backend>, and takes its place. */
#ifndef SERVER_RUN_STORES_H
#define SERVER_RUN_STORES_H
#include "base/status.h"
#include "raft/types.h"
#include "server/loops/loops.h"

#include <stddef.h>

struct member;

/* Everything that the loops need to receive snapshots; borrowed from the member. */
struct snapshot_options stores_snapshot_options(struct member *member);
/* At start: the store of this snapshot is the one from now on; it is not open. */
CHECKED enum status stores_choose(struct member *member, raft_index index, char *why,
                                  size_t why_bytes);
/* At start, when the store is open: removes what others left behind. */
void stores_clean(struct member *member);
#endif
