/* tests/sim/cluster_private.h - what the files of the cluster share. */
#ifndef TESTS_SIM_CLUSTER_PRIVATE_H
#define TESTS_SIM_CLUSTER_PRIVATE_H
#include "tests/sim/cluster.h"

/* ---- checks.c ---- */
/* What must hold after a step of a member: its core's own invariants, one leader a term, and that
 * what it applied is what all others apply at that index. */
void cluster_check_step(struct cluster_member *member);

/* ---- clients.c ---- */
void cluster_free_operations(struct cluster *cluster);
/* Every put acknowledged until then is in the member's store, once. */
void cluster_check_puts(struct cluster_member *member, uint64_t until_ns);
#endif
