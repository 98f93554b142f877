/* server/run/force_new.h - --force-new-cluster: this member becomes the only one, with all that its
 * log holds. For when the others are lost for good. */
#ifndef SERVER_RUN_FORCE_NEW_H
#define SERVER_RUN_FORCE_NEW_H
#include "base/status.h"
#include "storage/backend.h"
#include "wal/wal.h"

#include <stddef.h>

struct member;

/* Appends to the log what makes this member the only voter, after everything that is there, and
 * commits it; recovered then says so. Unlike etcd it cuts nothing: what lies above the commit hint
 * may have been acknowledged. Errors: ST_INVALID (this member was removed), ST_UNSUPPORTED, and
 * those of the log; why says more. */
CHECKED enum status force_new_cluster(struct member *member, struct wal_recovered *recovered,
                                      const struct store_mark *mark, char *why, size_t why_bytes);
#endif
