#include "tools/utl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SHOW_PERIOD_NS (200 * NS_PER_MS)
#define LINE_BYTES 160

void human_size(uint64_t bytes, char out[HUMAN_BYTES])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (bytes < 10) {
        snprintf(out, HUMAN_BYTES, "%" PRIu64 " B", bytes);
        return;
    }
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
        value /= 1000;
    value = (double)(uint64_t)(value * 10 + 0.5) / 10;
    snprintf(out, HUMAN_BYTES, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

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
    char done[HUMAN_BYTES], total[HUMAN_BYTES], rate[HUMAN_BYTES];
    double seconds = (double)(now_ns - progress->begin_ns) / (double)NS_PER_S;
    double per_second = seconds > 0 ? (double)done_bytes / seconds : 0;
    human_size(done_bytes, done);
    human_size((uint64_t)per_second, rate);
    if (progress->total_bytes == 0 || done_bytes > progress->total_bytes || per_second < 1) {
        snprintf(out, out_bytes, "%s: %s, %s/s", progress->what, done, rate);
        return;
    }
    human_size(progress->total_bytes, total);
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
