/* tests/storage/store_fixture.h - a store under test with a clock that stands still until moved. */
#ifndef TESTS_STORAGE_STORE_FIXTURE_H
#define TESTS_STORAGE_STORE_FIXTURE_H
#include "storage/store.h"

#include <stdatomic.h>

struct fixture {
    const struct backend_ops *ops;
    char path[300];
    uint32_t readers_count;
    struct lock *lock;
    struct clock clock;
    _Atomic uint64_t now_ns;
    atomic_uint writer_wakes, apply_wakes;
    struct store *store;
    uint64_t index; /* last entry ended */
    int64_t main;   /* last revision appended */
};

void fixture_init(struct fixture *fixture, const struct backend_ops *ops, const char *path);
CHECKED enum status fixture_open(struct fixture *fixture, uint64_t map_bytes_max);
void fixture_close(struct fixture *fixture);  /* the store; the file stays */
void fixture_deinit(struct fixture *fixture); /* and removes the file */

/* One entry that puts count records "v<main>" at the next revisions; the log has it durably. */
void fixture_entry(struct fixture *fixture, size_t count);
/* Seals by force and steps the writer until it has nothing to do; gives its last status. */
enum status fixture_commit(struct fixture *fixture);
/* A compact copy to path and the switch to it, with the writer's other steps between. */
enum status fixture_defragment(struct fixture *fixture, const char *path);
/* Reads a revision through a view of slot 0: ST_OK when it holds what fixture_entry() put. */
enum status fixture_read(struct fixture *fixture, int64_t main);
#endif
