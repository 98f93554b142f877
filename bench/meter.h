/* bench/meter.h - what an operation costs beside time: CPU and bytes of a process, writes and
 * flushes of a block device, syncs of a slow test disk, commits of the file system's journal. */
#ifndef BENCH_METER_H
#define BENCH_METER_H
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Where to look; a field left empty is not measured. */
struct meter_source {
    uint64_t pid;           /* the process under test; 0: none */
    const char *device;     /* "/sys/block/vda", or its name alone, or NULL */
    const char *syncs_file; /* a file with a line "syncs N" (slowfs' control file), or NULL */
    const char *journal;    /* "/proc/fs/jbd2/loop0-8/info", or NULL */
};

/* A figure that could not be had is METER_NONE. */
#define METER_NONE UINT64_MAX

struct meter {
    uint64_t cpu_ns;                        /* user and system time of the process */
    uint64_t write_bytes;                   /* the process gave to storage (/proc/PID/io) */
    uint64_t rss_anon_bytes, rss_bytes;     /* as they are, no difference is taken */
    uint64_t device_writes, device_flushes; /* requests completed */
    uint64_t device_write_bytes;
    uint64_t syncs, sync_disk_bytes; /* of syncs_file: "syncs N", "write_bytes N" */
    uint64_t journal_commits;
};

/* Errors: ST_NOT_FOUND with a line on stderr when a named source cannot be read. */
CHECKED enum status meter_read(const struct meter_source *source, struct meter *out);
/* after - before; the resident sizes are those of after. */
struct meter meter_since(const struct meter *before, const struct meter *after);
/* Adds a further stretch to a sum; a figure missing in either is missing in the sum. */
void meter_add(struct meter *sum, const struct meter *stretch);

uint64_t bench_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t bench_cpu_ns(void); /* of this process */

/* The device that holds dir, as "/sys/block/NAME", and the journal's info file when there is one:
 * empty texts when they are not known (an overlay, tmpfs, FUSE). */
void meter_find_device(const char *dir, char device[static 128], char journal[static 128]);
#endif
