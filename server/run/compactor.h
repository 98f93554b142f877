/* server/run/compactor.h - when a member compacts by itself, and at which revision: etcd's rules of
 * --auto-compaction-mode and --auto-compaction-retention. Pure: time and revisions are handed in.
 *
 * By age ("periodic"): a revision is noted every tenth of the retention (of an hour at most). Once
 * the retention has passed for the first time, and then every retention (every hour at most), the
 * oldest of the notes is compacted: what was the newest revision a retention ago, or a tenth more.
 * What fails is tried again at the next note.
 *
 * By number ("revision"): every five minutes all but the newest so many revisions go.
 *
 * Every member keeps the notes; only the leader compacts. */
#ifndef SERVER_RUN_COMPACTOR_H
#define SERVER_RUN_COMPACTOR_H
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define COMPACTOR_HOUR_NS (3600ULL * 1000000000ULL)
#define COMPACTOR_REVISION_INTERVAL_NS (300ULL * 1000000000ULL)

struct compactor {
    bool by_revision;
    uint64_t retention; /* revisions, or nanoseconds */
    uint64_t interval_ns;
    int64_t *revisions; /* the notes, a ring; oldest at first */
    uint32_t revisions_max, first, count;
    uint64_t base_ns; /* between compactions; before the first one: until it */
    uint64_t done_ns; /* the last one that succeeded; before it: the start */
    int64_t compacted;
    bool begun;
};

/* retention is not 0. Errors: ST_NO_MEMORY, ST_TOO_BIG (more notes than anybody needs). */
CHECKED enum status compactor_init(struct compactor *compactor, bool by_revision,
                                   uint64_t retention);
void compactor_deinit(struct compactor *compactor); /* zeroed is fine */

/* To be called every interval_ns, the first time at the start. The revision to be compacted now; 0:
 * none. After one compactor_done() says how it went. */
int64_t compactor_step(struct compactor *compactor, uint64_t now_ns, int64_t revision,
                       bool is_leader);
/* ok: it is compacted, by us or before. revision: the newest one by now. */
void compactor_done(struct compactor *compactor, uint64_t now_ns, int64_t revision, bool ok);
#endif
