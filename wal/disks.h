/* wal/disks.h - the real disks behind base/disk.h, and the probe that chooses one. */
#ifndef WAL_DISKS_H
#define WAL_DISKS_H
#include "base/disk.h"
#include "base/status.h"

enum disk_kind {
    DISK_KIND_AUTO,      /* the best that a real write in the directory proves to work */
    DISK_KIND_URING,     /* io_uring, O_DIRECT and RWF_DSYNC */
    DISK_KIND_PWRITEV2,  /* a thread with pwritev2(RWF_DSYNC), O_DIRECT where it works */
    DISK_KIND_FDATASYNC, /* a thread with pwrite and fdatasync */
};

/* AUTO takes io_uring only where one device command makes a write durable (forced unit access or no
 * volatile cache; docs/architecture.md, "which disk"). Probes kind (or each in turn) by a real 4
 * KiB durable write to a scratch file in dir. why (at least 256 bytes) says what was chosen and why
 * the better ones were not: "io_uring refused (EPERM), using pwritev2 with O_DIRECT". Errors:
 * ST_UNSUPPORTED (a forced kind does not work here), ST_NO_SPACE, ST_IO. */
CHECKED enum status disk_open_real(enum disk_kind kind, const char *dir, struct disk **out,
                                   char *why, size_t why_bytes);

/* A disk that only reads: for tools. Whatever would change something gives ST_UNSUPPORTED. Errors:
 * ST_NO_MEMORY. */
CHECKED enum status disk_open_reading(struct disk **out);

/* Asks a copy-on-write file system (btrfs, zfs, bcachefs) to overwrite files made in dir in place.
 * True and a sentence in why when it does not: appends into written blocks can then run out of
 * space. Call it before the log is made. */
bool disk_is_copy_on_write(const char *dir, char *why, size_t why_bytes);
#endif
