/* bench/disk_loop.h - durable writes to a file one after another, in the ways a log might make
 * them. */
#ifndef BENCH_DISK_LOOP_H
#define BENCH_DISK_LOOP_H
#include "base/status.h"
#include "bench/hist.h"
#include "bench/meter.h"
#include "bench/report.h"

#include <stdbool.h>
#include <stdint.h>

enum disk_loop_file {
    FILE_WRITTEN,   /* its blocks were written and synced before */
    FILE_ALLOCATED, /* its blocks were allocated by fallocate(2), never written */
};

enum disk_loop_sync {
    SYNC_PWRITEV2,  /* pwritev2(RWF_DSYNC), with O_DIRECT where the file system can */
    SYNC_FDATASYNC, /* pwrite and fdatasync through the page cache */
};

struct disk_loop {
    /* Set by the caller. */
    const char *dir; /* borrowed */
    enum disk_loop_file file;
    enum disk_loop_sync sync;
    uint64_t write_bytes; /* a multiple of 4096 */
    /* Results, of all runs together. */
    bool direct; /* O_DIRECT was possible */
    struct hist hist;
    uint64_t elapsed_ns;
    struct meter spent; /* CPU of this process, and the device and journal below dir */
    /* Between open and close. */
    int fd;
    void *block;
    uint64_t at;
};

/* Makes the scratch file in dir, which has no name afterwards. Errors, told on stderr: ST_INVALID
 * (dir cannot be written), ST_UNSUPPORTED, ST_NO_SPACE, ST_IO, ST_NO_MEMORY. */
CHECKED enum status disk_loop_open(struct disk_loop *loop);
/* Writes for duration_ns. Errors as above. */
CHECKED enum status disk_loop_run(struct disk_loop *loop, uint64_t duration_ns);
void disk_loop_close(struct disk_loop *loop); /* after a failed open as well */
/* The results as a row. */
struct row *disk_loop_row(struct report *report, const char *name, const struct disk_loop *loop);
/* The device and the journal below dir. The texts are static until the next call.
 */
struct meter_source disk_loop_meter(const char *dir);
#endif
