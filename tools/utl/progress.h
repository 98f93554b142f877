/* tools/utl/progress.h - how far long work has come: "copying: 412 MB of 1.1 GB, 310 MB/s, 2 s
 * left" on one line of a terminal, rewritten in place; nothing where stderr is a pipe or a file.
 * One thread. */
#ifndef TOOLS_UTL_PROGRESS_H
#define TOOLS_UTL_PROGRESS_H
#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    const struct clock *clock; /* borrowed */
    const char *what;          /* constant */
    uint64_t total_bytes;      /* 0: not known */
    uint64_t begin_ns, shown_ns;
    bool visible; /* stderr is a terminal */
    bool shown;   /* a line stands there */
};

void progress_begin(struct progress *progress, const struct clock *clock, const char *what,
                    uint64_t total_bytes);
/* progress may be NULL: then nothing is shown. */
void progress_at(struct progress *progress, uint64_t done_bytes);
/* Takes the line away, so that other lines may follow. */
void progress_end(struct progress *progress);

/* The line itself, without the terminal's part of it; for the two above and for tests. */
void progress_line(const struct progress *progress, uint64_t done_bytes, uint64_t now_ns, char *out,
                   size_t out_bytes);
#endif
