/* tests/e2e/cluster_watch.h - the watchers and the leases of cluster_load: what they are shown
 * while somebody breaks things, judged by tests/history/history_watch.h.
 *
 * Watchers share a few streams, spread over the endpoints; a stream that breaks resumes elsewhere.
 * Each lease has keys of its own and is renewed for a while, over one endpoint after another; then
 * it is revoked or left to its end, which a watcher sees.
 *
 * Threads: the load's one. */
#ifndef TESTS_E2E_CLUSTER_WATCH_H
#define TESTS_E2E_CLUSTER_WATCH_H
#include "tests/history/history_watch.h"

struct cluster_watch;

struct cluster_watch_options {
    const char *endpoints;         /* borrowed until the end */
    const struct history *history; /* the same; whose keys are hist/<seed>/<number> */
    uint64_t seed;
    uint32_t keys_count, watchers_count, leases_count;
};

/* Opens, and waits until every watcher is confirmed. Errors: ST_TOO_BIG (too many of either),
 * ST_BUSY (no endpoint answers), ST_NO_MEMORY. */
CHECKED enum status cluster_watch_new(const struct cluster_watch_options *options,
                                      struct cluster_watch **out);
void cluster_watch_free(struct cluster_watch *watch); /* NULL is fine */

/* One turn, at least every 10 ms or so. Errors: ST_NO_MEMORY. */
CHECKED enum status cluster_watch_step(struct cluster_watch *watch);

/* Waits until every watcher is at `revision` and every lease has ended, and judges. `why` is empty
 * when good. Errors: ST_NO_MEMORY. */
CHECKED enum status cluster_watch_judge(struct cluster_watch *watch, int64_t revision,
                                        enum verdict *out, char *why, size_t why_bytes);
/* What there was to judge. */
uint64_t cluster_watch_events(const struct cluster_watch *watch);
uint64_t cluster_watch_leases(const struct cluster_watch *watch);
uint64_t cluster_watch_renewals(const struct cluster_watch *watch);
#endif
