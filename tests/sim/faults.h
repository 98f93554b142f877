/* tests/sim/faults.h - what goes wrong in a simulated cluster, by its seed: each seed draws which
 * kinds of faults it has, how often they come and how long they last. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H
#include "tests/sim/cluster.h"

#include <stdint.h>

enum fault {
    FAULT_CRASH,     /* power: what was not synced is lost or torn */
    FAULT_KILL,      /* the process */
    FAULT_STOP,      /* in order */
    FAULT_ISOLATE,   /* one member from all others */
    FAULT_PARTITION, /* two sides */
    FAULT_ONE_WAY,   /* one direction of a link */
    FAULT_LOSS,      /* and duplicates */
    FAULT_DELAY,     /* and what overtakes */
    FAULT_RESET,     /* a connection breaks */
    FAULT_DISK_HANGS,
    FAULT_DISK_SLOW,
    FAULT_DISK_ERROR, /* any call: a write is torn, a failed sync loses what it should have kept */
    FAULT_DISK_FULL,
    FAULT_STORE_ERROR, /* of the backend, below the store */
    FAULT_STORE_FULL,
    FAULT_COPY,  /* a compact one takes the place of a store */
    FAULT_PAUSE, /* of a process */
    FAULT_CLOCK_RATE,
    FAULT_WALL_JUMP,
    FAULT_MEMBERS,   /* one is added, promoted or removed */
    FAULT_HAND_OVER, /* of leadership */
    FAULTS_COUNT
};

/* Draws what this seed has. */
struct faults *faults_new(struct cluster *cluster);
void faults_free(struct faults *faults); /* before the cluster */
/* Does what is due: begins a fault, ends others, starts who is down. */
void faults_step(struct faults *faults);
uint64_t faults_next_ns(const struct faults *faults);
/* Everything ends; the members that were being added are there. Then cluster_settle() may follow.
 */
void faults_finish(struct faults *faults);
/* How often each came. Borrowed. */
const uint64_t *faults_counts(const struct faults *faults);
const char *fault_name(enum fault fault);
#endif
