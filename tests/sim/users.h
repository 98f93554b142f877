/* tests/sim/users.h - clients that change users and roles, each its own ones, and one that makes
 * root and turns auth on and off. Whatever fails meanwhile, every change is answered as what its
 * client did before says, one that was acknowledged is there on every member, and while auth is on
 * for certain nobody changes anything who may not. */
#ifndef TESTS_SIM_USERS_H
#define TESTS_SIM_USERS_H
#include "tests/sim/cluster.h"

#include <stdint.h>

struct users;

struct users_stat {
    uint64_t changes_count, refused_count, looks_count; /* answered */
    uint64_t switches_count;                            /* of auth, on and off */
};

/* The cluster is borrowed, and freed before the users. count: of those who change their own. */
struct users *users_new(struct cluster *cluster, uint32_t count);
void users_free(struct users *users);
void users_step(struct users *users);
uint64_t users_next_ns(const struct users *users); /* when the next one begins something */
/* Nothing new begins; runs the cluster until all are answered. */
void users_finish(struct users *users);
/* All members have applied the same: what was acknowledged is there. */
void users_judge(struct users *users);
void users_get_stat(const struct users *users, struct users_stat *out);
#endif
