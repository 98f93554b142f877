/* tools/utl/candidates.h - what is left of a cluster: several sources side by side, which of them
 * knows the most, and what is not in it. */
#ifndef TOOLS_UTL_CANDIDATES_H
#define TOOLS_UTL_CANDIDATES_H
#include "tools/utl/held.h"

#include <stdio.h>

#define CANDIDATES_MAX 64U

struct candidate {
    const char *path; /* as given; borrowed */
    enum status st;   /* ST_OK: it could be opened */
    struct buf why;   /* else the reason */
    struct held held;
    struct raft_log_id last; /* of all that it holds */
    int64_t revision, compact_revision;
    uint64_t keys_count;
    uint32_t hash; /* HashKV at its revision */
    char *copy;    /* of path, where that also names a log; owned */
};

struct candidates {
    struct candidate all[CANDIDATES_MAX];
    uint32_t count;
    const char *from; /* the path that was chosen; "": none */
};

/* Opens every path; one that cannot be is told by candidates_print(). Errors, with a sentence in
 * why: ST_BUSY (one is in use), ST_TOO_BIG, ST_INVALID (from is none of them). candidates_close()
 * in every case. */
CHECKED enum status candidates_open(struct candidates *candidates, char *const *paths,
                                    uint32_t count, const char *from, struct buf *why);
void candidates_close(struct candidates *candidates);

uint64_t candidate_cluster_id(const struct candidate *candidate); /* 0: not known */

/* A line each. */
void candidates_print(const struct candidates *candidates, FILE *out);
/* The one that knows the most. Errors, with the reason in why: ST_NOT_FOUND (none can be read),
 * ST_INVALID (it cannot be decided). */
CHECKED enum status candidates_choose(struct candidates *candidates, struct candidate **out,
                                      struct buf *why);
/* What each holds that best lacks, and the other way round; what may be lost. */
void candidates_compare(const struct candidates *candidates, const struct candidate *best,
                        FILE *out);
#endif
