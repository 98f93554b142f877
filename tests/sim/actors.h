/* tests/sim/actors.h - clients whose every operation is written down and judged: puts, deletes,
 * guarded transactions over several keys, linearizable reads and reads of one member's state, one
 * operation of a client at a time, through any member. */
#ifndef TESTS_SIM_ACTORS_H
#define TESTS_SIM_ACTORS_H
#include "tests/sim/cluster.h"

#include <stdbool.h>
#include <stdint.h>

#define ACTORS_CLIENTS_MAX 8U

struct actors_options {
    uint32_t clients_count, keys_count;
    uint64_t think_ns_max;    /* between two operations of a client */
    uint32_t value_bytes_max; /* values are padded at random up to this */
    bool compacts;            /* now and then one compacts what is old */
};

struct actors_stat {
    uint64_t writes_count, reads_count, local_reads_count; /* answered */
    uint64_t refused_count; /* that surely did not happen, by their error */
    uint64_t open_count;    /* nobody can tell */
};

/* The cluster is borrowed, and freed before the actors: its members answer what they hold. */
struct actors *actors_new(struct cluster *cluster, const struct actors_options *options);
void actors_free(struct actors *actors);
/* Those whose pause is over begin something. */
void actors_step(struct actors *actors);
/* When the next one begins; UINT64_MAX: all wait for answers. */
uint64_t actors_next_ns(const struct actors *actors);
/* Nothing new begins; runs the cluster until all are answered. */
void actors_finish(struct actors *actors);
/* What was acknowledged is there, what was refused is not, and one store could have answered so. */
void actors_judge(struct actors *actors);
void actors_get_stat(const struct actors *actors, struct actors_stat *out);
#endif
