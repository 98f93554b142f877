/* tests/fakes/fake_disk.h - a disk in memory that does what real ones do at their worst. Everything
 * follows from the seed. What was not synced is kept, lost or torn (at 512 bytes) by a power cut;
 * names in directories that were not synced are lost from some point on; a failed sync loses what
 * it should have synced although reads still show it; any call can be made to fail.
 * Single-threaded. */
#ifndef TESTS_FAKES_FAKE_DISK_H
#define TESTS_FAKES_FAKE_DISK_H
#include "base/disk.h"

struct fake_disk;

struct fake_disk_stat {
    uint64_t durable_writes_count; /* submitted and completed: one device write and one flush */
    uint64_t writes_count, syncs_count, dir_syncs_count;
    uint64_t calls_count; /* everything that can fail */
};

struct fake_disk *
fake_disk_new(uint64_t seed); /* the directory "/" is there; aborts without memory */
/* A copy of what a restart would find (everything synced is assumed), with its own seed. */
struct fake_disk *fake_disk_clone(const struct fake_disk *disk, uint64_t seed);
void fake_disk_free(struct fake_disk *disk);         /* NULL is fine */
struct disk *fake_disk_base(struct fake_disk *disk); /* borrowed; disk_free() on it does nothing */

/* False: a submitted write completes only by fake_disk_complete() (or disk_wait(), which completes
 * the oldest). True, the default: disk_poll() gives it. */
void fake_disk_set_auto(struct fake_disk *disk, bool automatic);
/* Completes the oldest submitted write; false when there is none. */
bool fake_disk_complete(struct fake_disk *disk);
/* A submitted write waits to be completed. */
bool fake_disk_is_writing(const struct fake_disk *disk);

/* The call_at-th fallible call from now (0: the next) fails with status; a write is then torn. */
void fake_disk_fail_at(struct fake_disk *disk, uint64_t call_at, enum status status);
bool fake_disk_fault_fired(const struct fake_disk *disk);

/* Writes that make files longer than this together give ST_NO_SPACE. UINT64_MAX: no limit. */
void fake_disk_set_capacity(struct fake_disk *disk, uint64_t bytes);

/* The power fails: open files answer ST_IO from now on, submitted writes come back with ST_IO, and
 * the disk holds what a restart finds. */
void fake_disk_power_cut(struct fake_disk *disk);

void fake_disk_get_stat(const struct fake_disk *disk, struct fake_disk_stat *out);
/* A file's bytes, synced, as reads and clones see them; a test may change them in place (a power
 * cut undoes that). NULL when there is none. Borrowed until the next call. */
uint8_t *fake_disk_bytes(struct fake_disk *disk, const char *path, size_t *len_out);
/* Makes path a durable file of exactly these bytes. */
void fake_disk_put(struct fake_disk *disk, const char *path, struct slice bytes);
#endif
