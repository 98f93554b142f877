/* tools/print/progress.h - the progress bar of etcdctl's checks:
 *    4308 / 10000 BoooooooooooooooooooooooooooooooomooooooooooooX        !  43.08% 00m02s
 * as wide as the terminal that the program was started from, without the bar where there is none.
 */
#ifndef TOOLS_PRINT_PROGRESS_H
#define TOOLS_PRINT_PROGRESS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct print_progress {
    FILE *out; /* borrowed */
    int64_t total, current, shown;
    uint32_t width;                         /* columns; 0: no terminal */
    uint64_t began_ns, changed_ns, next_ns; /* monotonic; when it began, moved, is to be drawn */
    bool is_finished;
};

/* Begins at 0 and draws. */
void print_progress_begin(struct print_progress *progress, FILE *out, int64_t total,
                          uint64_t now_ns);
/* Draws again when it is time: five times a second. To be called often. */
void print_progress_turn(struct print_progress *progress, int64_t current, uint64_t now_ns);
/* Draws a last time and ends the line. */
void print_progress_end(struct print_progress *progress, int64_t current, uint64_t now_ns);
#endif
