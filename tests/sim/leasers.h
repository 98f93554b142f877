/* tests/sim/leasers.h - clients that hold leases: they grant them, attach keys, renew them through
 * any member and let them go. Whatever fails meanwhile, a lease ends no earlier than its TTL after
 * the last renewal that was acknowledged began, and all its keys go in one revision; and when all
 * is well again every lease ends that nobody renews. */
#ifndef TESTS_SIM_LEASERS_H
#define TESTS_SIM_LEASERS_H
#include "tests/sim/cluster.h"

#include <stdint.h>

struct leasers;

struct leasers_stat {
    uint64_t grants_count, renewals_count, ended_count; /* acknowledged; whose keys went */
};

/* The cluster is borrowed, and freed before the leasers. */
struct leasers *leasers_new(struct cluster *cluster, uint32_t count);
void leasers_free(struct leasers *leasers);
void leasers_step(struct leasers *leasers);
uint64_t leasers_next_ns(const struct leasers *leasers); /* when the next one begins something */
/* Nothing new begins; runs the cluster until all are answered. */
void leasers_finish(struct leasers *leasers);
/* The cluster is well: runs it until all leases have ended everywhere. */
void leasers_judge(struct leasers *leasers);
void leasers_get_stat(const struct leasers *leasers, struct leasers_stat *out);
#endif
