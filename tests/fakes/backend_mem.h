/* tests/fakes/backend_mem.h - a backend in memory: the model of what a backend promises, with
 * faults on demand. Its "files" live in a table by path until removed, so that closing (or dropping
 * the power) and opening again is possible inside one test. Like LMDB here, a commit that is not
 * full may be lost with the power, but only the newest.
 *
 * Threads: as storage/backend.h; the functions below from any thread. */
#ifndef TESTS_FAKES_BACKEND_MEM_H
#define TESTS_FAKES_BACKEND_MEM_H
#include "storage/backend.h"

const struct backend_ops *backend_mem(void);

/* The nth call from now (1 = the next) to apply, commit, snapshot_open, get, cursor_open,
 * cursor_seek, cursor_next, cursor_last or open of the store at path fails with st; 0: none does.
 * The store need not exist yet. lands: a commit that fails has happened on the disk all the same,
 * as a failed fsync may leave it. */
void backend_mem_fail_at(const char *path, uint64_t nth, enum status st, bool lands);
bool backend_mem_fault_fired(const char *path);
/* While set, apply and commit give ST_NO_SPACE. */
void backend_mem_set_full(const char *path, bool full);
/* What its figures say of free pages: what a compact copy would be made for. */
void backend_mem_set_free(const char *path, uint64_t bytes);
/* The store must be closed (or abandoned: a process that died). By seed, keeps the newest commit or
 * falls back to the newest one known to be durable. */
void backend_mem_power_cut(const char *path, uint64_t seed);
/* Snapshots open now, of the store at path. */
uint64_t backend_mem_snapshots_count(const char *path);
/* Removes every file; all must be closed. */
void backend_mem_clear(void);
#endif
