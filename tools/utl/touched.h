/* tools/utl/touched.h - which keys a tail of the log can read or change: an index of these alone is
 * enough to apply it, so that the memory for it goes with the tail and not with the store. One
 * thread. */
#ifndef TOOLS_UTL_TOUCHED_H
#define TOOLS_UTL_TOUCHED_H
#include "raft/types.h"
#include "storage/mvcc.h"

struct utl_touched;

CHECKED enum status utl_touched_new(struct utl_touched **out); /* ST_NO_MEMORY */
void utl_touched_free(struct utl_touched *touched);            /* NULL is fine */

/* Adds what an entry touches; one that does not decode touches nothing, for it is not applied.
 * Errors: ST_NO_MEMORY, ST_TOO_BIG (over 4 GiB of keys). */
CHECKED enum status utl_touched_add(struct utl_touched *touched, const struct raft_entry *entry);
/* Whether a lease is revoked: then every record of the store must be shown to
 * utl_touched_add_record(), for its key may belong to that lease. */
bool utl_touched_revokes(const struct utl_touched *touched);
CHECKED enum status utl_touched_add_record(struct utl_touched *touched, const struct mvcc_kv *kv);
/* After the last of them. */
void utl_touched_seal(struct utl_touched *touched);

/* As mvcc_options.wants: context is a sealed one. */
bool utl_touched_has(void *context, struct slice key);
#endif
