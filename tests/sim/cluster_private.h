/* tests/sim/cluster_private.h - what the files of the cluster share. */
#ifndef TESTS_SIM_CLUSTER_PRIVATE_H
#define TESTS_SIM_CLUSTER_PRIVATE_H
#include "tests/sim/cluster.h"

/* ---- checks.c ---- */
/* What must hold after a step of a member: its core's own invariants, one leader a term, and that
 * what it applied is what all others apply at that index. */
void cluster_check_step(struct cluster_member *member);

/* What it leads before a step, for the check of what it commits in it. */
void cluster_note_lead(struct cluster_member *member);

/* The store rule: what the store committed, the log on disk contains. After each of its steps. */
void cluster_check_store(struct cluster_member *member);
/* A member starts from what its disks hold: its promises are kept. */
void cluster_check_recovered(struct cluster_member *member, const struct wal_recovered *recovered,
                             const struct raft_entry *entries, uint32_t count);
/* A message leaves: entries are the same everywhere, and promises are noted. */
void cluster_check_message(struct cluster_member *member, const struct raft_message *message);
/* A record as a member applies it: the same everywhere. */
void cluster_check_event(void *context, struct revision revision, bool tombstone,
                         struct slice record);
void cluster_free_history(struct cluster_history *history);
/* Grows a table of 64-bit facts so that index is in it; new ones are 0: not known. */
void cluster_reserve_facts(uint64_t **table, uint64_t *count, uint64_t index);
/* ConfChange{AddNode} of this member, as founding members have it in their logs. Owned. */
struct raft_payload *cluster_founding_change(const struct cluster_member *member, uint64_t id);

/* ---- auth.c ---- */
/* What a member holds of users and roles, after a step: the same as others at its index. */
void cluster_check_auth(struct cluster_member *member);
void cluster_forget_auth(struct cluster_member *member); /* its store is closed */

/* ---- clients.c ---- */
void cluster_free_operations(struct cluster *cluster);
/* Every put acknowledged until then is in the member's store, once. */
void cluster_check_puts(struct cluster_member *member, uint64_t until_ns);
#endif
