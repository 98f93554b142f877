/* tests/watch/world.h - the hub over a key space, with clients that take their time, beside a naive
 * model: a list of all changes, and for each watcher how far in it it has come. What happens is
 * drawn from a run of bytes, so a seed and a fuzzer drive the same thing. Whatever contradicts the
 * model ends the process with a line. */
#ifndef TESTS_WATCH_WORLD_H
#define TESTS_WATCH_WORLD_H
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct world_figures {
    uint64_t changes, creates, events, merged, fragments, compacted, adopted, progress, reads,
        values;
};

/* Plays all of script, then lets everybody catch up. name is printed when something is wrong;
 * figures may be NULL. */
void world_run(struct slice script, const char *name, struct world_figures *figures);
#endif
