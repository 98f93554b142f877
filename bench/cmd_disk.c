/* cleat-bench disk: what a disk does with small durable writes, and what that is enough for. */
#include "base/clock.h"
#include "bench/commands.h"
#include "bench/disk_loop.h"
#include "bench/flags.h"
#include "bench/report.h"

#include <linux/magic.h>
#include <sys/vfs.h>

static const char help_text[] =
    "usage: cleat-bench disk --dir DIR [OPTIONS]\n\n"
    "Makes 4 KiB writes durable one after another in DIR, in three ways, and says in words what\n"
    "the disk is good for. Run it where the log will lie, on an idle machine, for a minute if\n"
    "the disk is a cloud volume: those are fast for as long as their credit lasts.\n";
static const char figures_text[] =
    "\nWhat the rows mean\n"
    "  written file, pwritev2   what cleat does: direct durable writes into blocks written\n"
    "                           before; one device write and one flush each\n"
    "  allocated file, pwritev2 the same into blocks that are only reserved: the file system\n"
    "                           must note each first use in its journal\n"
    "  written file, fdatasync  write through the page cache, then fdatasync\n"
    "What the figures mean\n"
    "  per_second               durable writes a second, one at a time: no member can accept\n"
    "                           more batches than that, though a batch holds many calls\n"
    "  p50_us, p99_us, p999_us, max_us, mean_us\n"
    "                           time of one durable write in microseconds; the slow ones (p99)\n"
    "                           are what clients notice\n"
    "  device_writes, _flushes, _bytes_per_op, journal_commits_per_op\n"
    "                           what the block device and the file system's journal did, by\n"
    "                           everybody on it; missing where the kernel does not tell\n";

static const char *enough_for(double per_second, double p99_ms)
{
    if (p99_ms <= 10 && per_second >= 500)
        return "enough for any cluster: etcd's own advice (99 % of syncs within 10 ms) is met.";
    if (p99_ms <= 25)
        return "enough for a busy Kubernetes control plane: many clients share each durable "
               "write.";
    if (p99_ms <= 100)
        return "enough for a control plane of tens of nodes; a lone writer notices the disk, "
               "many at once do not.";
    if (p99_ms <= 500)
        return "enough for a small, quiet control plane: every change waits noticeably for the "
               "disk.";
    return "not enough: changes wait for most of a second, and clients that renew leases will "
           "time out.";
}

static void print_verdict(const char *dir, const struct report *report)
{
    double per_second = row_get(&report->rows[0], "per_second");
    double p50_ms = row_get(&report->rows[0], "p50_us") / 1e3;
    double p99_ms = row_get(&report->rows[0], "p99_us") / 1e3;
    double allocated = row_get(&report->rows[1], "per_second");
    struct statfs fs;
    if (statfs(dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC) {
        printf("\n%s lies in memory: nothing there survives a power cut.\n", dir);
        return;
    }
    printf("\nThis disk makes %.0f writes a second durable, one at a time: half within %.2f ms, "
           "99 %% within %.2f ms.\n",
           per_second, p50_ms, p99_ms);
    printf("That is %s\n", enough_for(per_second, p99_ms));
    printf("One client alone gets at most %.0f changes a second; many at once share each durable "
           "write.\n",
           per_second);
    if (allocated > 0 && per_second > 1.3 * allocated)
        printf("A log that does not write its files ahead (etcd's) gets %.1f times fewer: %.0f a "
               "second.\n",
               per_second / allocated, allocated);
}

static int measure(const char *dir, uint64_t seconds, uint64_t bytes, const char *json)
{
    static const struct {
        const char *name;
        enum disk_loop_file file;
        enum disk_loop_sync sync;
    } ways[] = {
        {"written file, pwritev2", FILE_WRITTEN, SYNC_PWRITEV2},
        {"allocated file, pwritev2", FILE_ALLOCATED, SYNC_PWRITEV2},
        {"written file, fdatasync", FILE_WRITTEN, SYNC_FDATASYNC},
    };
    static struct report report;
    snprintf(report.command, sizeof(report.command), "disk");
    snprintf(report.note, sizeof(report.note), "%s, %llu B", dir, (unsigned long long)bytes);
    bool buffered = false;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        static struct disk_loop loop;
        loop = (struct disk_loop){
            .dir = dir, .file = ways[i].file, .sync = ways[i].sync, .write_bytes = bytes};
        enum status st = disk_loop_open(&loop);
        if (st == ST_OK)
            st = disk_loop_run(&loop, seconds * NS_PER_S);
        disk_loop_close(&loop);
        if (st == ST_UNSUPPORTED && i > 0)
            continue; /* told; the first row is the one that counts */
        if (st != ST_OK)
            return 1;
        disk_loop_row(&report, ways[i].name, &loop);
        buffered = buffered || (ways[i].sync == SYNC_PWRITEV2 && !loop.direct);
    }
    report_print(&report);
    if (buffered)
        printf("This file system has no direct i/o: the page cache was in between.\n");
    if (report.rows_count == 3)
        print_verdict(dir, &report);
    return json != NULL && report_write_json(&report, json) != ST_OK;
}

int command_disk(int argc, char **argv)
{
    const char *dir = NULL, *json = NULL;
    uint64_t seconds = 3, bytes = 4096;
    const struct flag flags[] = {
        {"dir", FLAG_TEXT, &dir, "DIR", "a directory on the disk; 64 MiB must be free"},
        {"seconds", FLAG_NUMBER, &seconds, "N", "for each of the three ways"},
        {"bytes", FLAG_NUMBER, &bytes, "N", "of one write, a multiple of 4096"},
        {"json", FLAG_TEXT, &json, "FILE", "the figures, one JSON object a line"},
    };
    const struct flags_command command = {help_text, figures_text, flags,
                                          sizeof(flags) / sizeof(flags[0])};
    int ended;
    if (!flags_begin(&command, argc, argv, &ended))
        return ended;
    if (dir == NULL || seconds == 0 || bytes == 0 || bytes % 4096 != 0 || bytes > 16U << 20)
        return flags_refuse(&command);
    return measure(dir, seconds, bytes, json);
}
