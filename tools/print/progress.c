#include "tools/print/progress.h"

#include "base/clock.h"
#include "base/duration.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REFRESH_NS (200 * NS_PER_MS)
#define WIDTH_MAX 1000U

/* The terminal's, wherever the output goes. */
static uint32_t terminal_width(void)
{
    int terminal = open("/dev/tty", O_RDONLY | O_CLOEXEC);
    if (terminal < 0)
        return 0;
    struct winsize size;
    uint32_t width = ioctl(terminal, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
    close(terminal);
    return width < WIDTH_MAX ? width : WIDTH_MAX;
}

/* How long it took, or how long it will at this pace; "" when there is nothing to say. */
static void time_text(const struct print_progress *progress, uint64_t now_ns, char *out,
                      size_t size)
{
    char text[DURATION_TEXT_MAX];
    out[0] = '\0';
    if (progress->is_finished) {
        uint64_t whole_ns = (now_ns - progress->began_ns) / NS_PER_S * NS_PER_S;
        snprintf(out, size, " %s", duration_format((int64_t)whole_ns, text));
        return;
    }
    if (progress->current <= 0)
        return;
    int64_t each_ns = (int64_t)(progress->changed_ns - progress->began_ns) / progress->current;
    int64_t left_ns =
        (progress->total - progress->current) * each_ns - (int64_t)(now_ns - progress->changed_ns);
    int64_t left_s = left_ns / (int64_t)NS_PER_S;
    if (left_s <= 0)
        return;
    int64_t days = left_s > 86400 ? left_s / 86400 : 0;
    left_s -= days * 86400;
    int64_t hours = left_s > 3600 ? left_s / 3600 : 0;
    left_s -= hours * 3600;
    int len = snprintf(out, size, " ");
    if (days > 0)
        len += snprintf(out + len, size - (size_t)len, "%" PRId64 "d", days);
    if (hours > 0)
        len += snprintf(out + len, size - (size_t)len, "%" PRId64 "h", hours);
    snprintf(out + len, size - (size_t)len, "%02" PRId64 "m%02" PRId64 "s", left_s / 60,
             left_s % 60);
}

static void repeat(FILE *out, char c, int64_t times)
{
    for (; times > 0; times--)
        fputc(c, out);
}

/* "B", done, the head, what is to do, "!": two cells of the width are the ends. */
static void draw_bar(const struct print_progress *progress, int64_t cells)
{
    double share = (double)progress->current / (double)progress->total;
    double exact = share * (double)cells;
    int64_t done = (int64_t)exact;
    done += (double)done < exact;
    if (done > cells)
        done = cells;
    fputc('B', progress->out);
    if (done == cells) {
        repeat(progress->out, 'o', done);
    } else if (done > 0) {
        repeat(progress->out, 'o', done - 1);
        fputc('m', progress->out);
    }
    repeat(progress->out, ' ', cells - done);
    fputc('!', progress->out);
}

static void draw(struct print_progress *progress, uint64_t now_ns)
{
    char counters[64], percent[32], time[64];
    if (progress->current != progress->shown) {
        progress->shown = progress->current;
        progress->changed_ns = now_ns;
    }
    snprintf(counters, sizeof(counters), " %" PRId64 " / %" PRId64 " ", progress->current,
             progress->total);
    snprintf(percent, sizeof(percent), " %6.2f%%",
             (double)progress->current / ((double)progress->total / 100));
    time_text(progress, now_ns, time, sizeof(time));
    int64_t cells =
        (int64_t)progress->width - (int64_t)(strlen(counters) + strlen(percent) + strlen(time) + 2);
    fprintf(progress->out, "\r%s", counters);
    if (cells > 0)
        draw_bar(progress, cells);
    fprintf(progress->out, "%s%s", percent, time);
    repeat(progress->out, ' ', cells <= 0 ? cells + 2 : 0);
    fflush(progress->out);
    progress->next_ns = now_ns + REFRESH_NS;
}

void print_progress_begin(struct print_progress *progress, FILE *out, int64_t total,
                          uint64_t now_ns)
{
    *progress = (struct print_progress){.out = out,
                                        .total = total,
                                        .width = terminal_width(),
                                        .began_ns = now_ns,
                                        .changed_ns = now_ns};
    draw(progress, now_ns);
}

void print_progress_turn(struct print_progress *progress, int64_t current, uint64_t now_ns)
{
    progress->current = current;
    if (now_ns >= progress->next_ns)
        draw(progress, now_ns);
}

void print_progress_end(struct print_progress *progress, int64_t current, uint64_t now_ns)
{
    progress->current = current;
    progress->is_finished = true;
    draw(progress, now_ns);
    fputc('\n', progress->out);
    fflush(progress->out);
}
