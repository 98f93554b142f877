#include "tools/utl/progress.h"

#include "tools/print/text.h"

#include <stdio.h>
#include <unistd.h>

#define SHOW_PERIOD_NS (200 * NS_PER_MS)
#define LINE_BYTES 160

void progress_begin(struct progress *progress, const struct clock *clock, const char *what,
                    uint64_t total_bytes)
{
    *progress = (struct progress){.clock = clock,
                                  .what = what,
                                  .total_bytes = total_bytes,
                                  .begin_ns = clock_monotonic_ns(clock),
                                  .visible = isatty(STDERR_FILENO) == 1};
    progress->shown_ns = progress->begin_ns;
}

void progress_line(const struct progress *progress, uint64_t done_bytes, uint64_t now_ns, char *out,
                   size_t out_bytes)
{
    char done[PRINT_SIZE_TEXT_MAX], total[PRINT_SIZE_TEXT_MAX], rate[PRINT_SIZE_TEXT_MAX];
    double seconds = (double)(now_ns - progress->begin_ns) / (double)NS_PER_S;
    double per_second = seconds > 0 ? (double)done_bytes / seconds : 0;
    print_size(done_bytes, done);
    print_size((uint64_t)per_second, rate);
    if (progress->total_bytes == 0 || done_bytes > progress->total_bytes || per_second < 1) {
        snprintf(out, out_bytes, "%s: %s, %s/s", progress->what, done, rate);
        return;
    }
    print_size(progress->total_bytes, total);
    snprintf(out, out_bytes, "%s: %s of %s, %s/s, %.0f s left", progress->what, done, total, rate,
             (double)(progress->total_bytes - done_bytes) / per_second);
}

void progress_at(struct progress *progress, uint64_t done_bytes)
{
    if (progress == NULL || !progress->visible)
        return;
    uint64_t now_ns = clock_monotonic_ns(progress->clock);
    if (now_ns - progress->shown_ns < SHOW_PERIOD_NS)
        return;
    char line[LINE_BYTES];
    progress_line(progress, done_bytes, now_ns, line, sizeof(line));
    fprintf(stderr, "\r\033[K%s", line);
    progress->shown_ns = now_ns;
    progress->shown = true;
}

void progress_end(struct progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r\033[K");
    progress->shown = false;
}
